//! From a path to a node. Symlinks on the way are followed inside the tree, with the root as
//! the top, as unpackers do: an entry `lib/x` after a symlink `lib` to `usr/lib` lands in
//! `usr/lib`. The last component is never followed.

use crate::directory::is_legal_name;
use crate::inode::FileKind;
use crate::limit::{MAX_DEPTH, MAX_RESOLVE_STEPS, MAX_SYMLINK_HOPS};
use crate::tree::node::{TreeContent, TreeNode};
use crate::tree::{NodeId, Tree, TreeError};

/// A path's directory part and its last name.
type DirectoryAndName<'a> = (&'a [u8], &'a [u8]);

/// The path's directory part and last name, every name checked; `None` for the empty path,
/// the root.
pub(crate) fn split_last(path: &[u8]) -> Result<Option<DirectoryAndName<'_>>, TreeError> {
    if path.is_empty() {
        return Ok(None);
    }
    if !path.split(|&byte| byte == b'/').all(is_legal_name) {
        return Err(TreeError::IllegalPath {
            path: path.to_vec(),
        });
    }
    Ok(Some(match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }))
}

/// What a directory is made for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// An entry: the directories exist when the layer has been unpacked.
    Entry,
    /// A whiteout or opaque marker, which makes no directory.
    Marker,
}

impl Tree {
    pub(crate) fn is_directory(&self, node: NodeId) -> bool {
        matches!(self.node(node).content, TreeContent::Directory(_))
    }

    /// The directory at `directory`, made where it is missing, for an entry or a marker that goes
    /// there. `path` is for errors.
    pub(crate) fn make_directories(
        &mut self,
        path: &[u8],
        directory: &[u8],
        purpose: Purpose,
    ) -> Result<NodeId, TreeError> {
        let mut walk = self.walk(path, directory)?;
        for name in std::mem::take(&mut walk.missing) {
            let made = self.make_directory(walk.at(), &name, path)?;
            walk.enter(made)?;
        }
        if purpose == Purpose::Entry {
            for directory in &walk.trail {
                self.node_mut(*directory).has_entries = true;
            }
        }
        Ok(walk.at())
    }

    /// The node at `path`, if this layer has one.
    pub(crate) fn find(&self, path: &[u8]) -> Result<Option<NodeId>, TreeError> {
        let Some((directory, name)) = split_last(path)? else {
            return Ok(Some(NodeId::ROOT));
        };
        let walk = self.walk(path, directory)?;
        Ok(if walk.missing.is_empty() {
            self.child(walk.at(), name)
        } else {
            None
        })
    }

    /// Whether `path` leads to a file, a whiteout or an opaque directory of this layer: then
    /// nothing of the layers below is left there to hide.
    pub(crate) fn hides_all_below(&self, path: &[u8]) -> Result<bool, TreeError> {
        let walk = self.walk(path, path)?;
        // What is in an opaque directory is opaque itself.
        Ok(walk.is_blocked || self.node(walk.at()).opaque)
    }

    fn walk<'a>(&self, path: &'a [u8], directory: &[u8]) -> Result<Walk<'a>, TreeError> {
        split_last(directory).map_err(|_| TreeError::IllegalPath {
            path: path.to_vec(),
        })?;
        let mut walk = Walk {
            path,
            pending: Vec::new(),
            trail: vec![NodeId::ROOT],
            missing: Vec::new(),
            is_blocked: false,
            hops: 0,
        };
        walk.push(directory);
        let mut steps = 0;
        while let Some(name) = walk.pending.pop() {
            steps += 1;
            if steps > MAX_RESOLVE_STEPS {
                return Err(TreeError::SymlinkLoop {
                    path: path.to_vec(),
                });
            }
            walk.step(self, name)?;
        }
        Ok(walk)
    }

    /// Makes the directory `name` that no entry names. Where it takes the place of a file or
    /// whiteout of this layer, or is in an opaque directory, nothing of the layers below shows
    /// through.
    fn make_directory(
        &mut self,
        parent: NodeId,
        name: &[u8],
        path: &[u8],
    ) -> Result<NodeId, TreeError> {
        // Names that come from a symlink's target have not been checked yet.
        if !is_legal_name(name) {
            return Err(TreeError::IllegalPath {
                path: path.to_vec(),
            });
        }
        let replaces = self.child(parent, name).is_some() || self.node(parent).opaque;
        let mut directory = TreeNode::implicit_directory();
        directory.implicit = !replaces;
        directory.opaque = replaces;
        let directory = self.allocate(directory)?;
        self.link(parent, name, directory)?;
        Ok(directory)
    }
}

/// A walk along the directories of a path.
struct Walk<'a> {
    /// The whole path, for errors.
    path: &'a [u8],
    /// Components still to go, the next one last.
    pending: Vec<Vec<u8>>,
    /// Directories from the root to the last one that exists.
    trail: Vec<NodeId>,
    /// Names below that, none of which exists as a directory.
    missing: Vec<Vec<u8>>,
    /// Whether the first missing name is that of a file or whiteout.
    is_blocked: bool,
    hops: u32,
}

impl Walk<'_> {
    fn at(&self) -> NodeId {
        // The root is never popped.
        self.trail.last().copied().unwrap_or(NodeId::ROOT)
    }

    fn push(&mut self, path: &[u8]) {
        let names = path
            .split(|&byte| byte == b'/')
            .filter(|name| !matches!(*name, b"" | b"."));
        self.pending.extend(names.rev().map(<[u8]>::to_vec));
    }

    fn enter(&mut self, directory: NodeId) -> Result<(), TreeError> {
        if self.trail.len() >= MAX_DEPTH as usize {
            return Err(TreeError::TooDeep {
                path: self.path.to_vec(),
            });
        }
        self.trail.push(directory);
        Ok(())
    }

    /// One component. `..` takes a missing name back, as unpackers clean such a path before
    /// they make anything.
    fn step(&mut self, tree: &Tree, name: Vec<u8>) -> Result<(), TreeError> {
        if name == b".." {
            if self.missing.pop().is_none() && self.trail.len() > 1 {
                self.trail.pop();
            }
            self.is_blocked &= !self.missing.is_empty();
            return Ok(());
        }
        if !self.missing.is_empty() {
            self.missing.push(name);
            return Ok(());
        }
        let Some(child) = tree.child(self.at(), &name) else {
            self.missing.push(name);
            return Ok(());
        };
        match &tree.node(child).content {
            TreeContent::Directory(_) => self.enter(child)?,
            TreeContent::Link {
                kind: FileKind::Symlink,
                target,
            } => {
                self.hops += 1;
                if self.hops > MAX_SYMLINK_HOPS {
                    return Err(TreeError::SymlinkLoop {
                        path: self.path.to_vec(),
                    });
                }
                if target.first() == Some(&b'/') {
                    self.trail.truncate(1);
                }
                self.push(target);
            }
            _ => {
                self.is_blocked = true;
                self.missing.push(name);
            }
        }
        Ok(())
    }
}
