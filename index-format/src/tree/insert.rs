//! The operations that a tar's entries become.

use crate::directory::is_legal_name;
use crate::inode::FileKind;
use crate::tree::node::{Node, TreeContent, TreeNode, check_target};
use crate::tree::resolve::{Purpose, split_last};
use crate::tree::{Linked, NodeId, Tree, TreeError};

impl Tree {
    /// Puts an entry at `path`, which is relative and clean; the empty path is the root.
    ///
    /// Directories on the way that are missing are made, symlinks of this layer on the way are
    /// followed within the tree, as unpackers do. A directory over a directory replaces its
    /// attributes and keeps its children; anything else replaces what was there.
    ///
    /// # Errors
    /// An illegal path or node, or a limit; the tree is unchanged but for directories made on
    /// the way.
    pub fn insert(&mut self, path: &[u8], node: Node) -> Result<NodeId, TreeError> {
        let mut new = node.checked().map_err(|problem| TreeError::IllegalNode {
            path: path.to_vec(),
            problem,
        })?;
        let is_directory = matches!(new.content, TreeContent::Directory(_));
        let Some((directory, name)) = split_last(path)? else {
            if !is_directory {
                return Err(TreeError::RootNotDirectory);
            }
            self.replace_attributes(NodeId::ROOT, new);
            return Ok(NodeId::ROOT);
        };
        let directory = self.make_directories(path, directory, Purpose::Entry)?;
        let old = self.child(directory, name);
        // In an opaque directory nothing of the layers below is left.
        new.opaque = is_directory && self.node(directory).opaque;
        if is_directory && let Some(old) = old {
            if self.is_directory(old) {
                self.replace_attributes(old, new);
                return Ok(old);
            }
            // Whatever stood here took the lower directory away when it was unpacked.
            new.opaque = true;
        }
        let new = self.allocate(new)?;
        self.link(directory, name, new)?;
        Ok(new)
    }

    /// Gives the inode of the earlier path `target` another name. Where this layer has no such
    /// path, the link is kept as a [`FileKind::ForeignLink`] for the merge to resolve.
    ///
    /// # Errors
    /// An illegal path, a target that is a directory, or a limit.
    pub fn hardlink(&mut self, path: &[u8], target: &[u8]) -> Result<Linked, TreeError> {
        let (directory, name) = split_last(path)?.ok_or(TreeError::RootNotDirectory)?;
        // Markers are not there for an unpacker, nor are directories that only hold markers.
        let found = self.find(target)?.filter(|node| {
            let node = self.node(*node);
            node.has_entries && node.content.kind() != FileKind::Whiteout
        });
        if let Some(found) = found {
            if self.is_directory(found) {
                let (path, target) = (path.to_vec(), target.to_vec());
                return Err(TreeError::LinkToDirectory { path, target });
            }
            let directory = self.make_directories(path, directory, Purpose::Entry)?;
            self.link(directory, name, found)?;
            return Ok(match self.node(found).content.kind() {
                FileKind::ForeignLink => Linked::Foreign(found),
                _ => Linked::Local(found),
            });
        }
        check_target(target).map_err(|problem| TreeError::IllegalNode {
            path: path.to_vec(),
            problem,
        })?;
        let directory = self.make_directories(path, directory, Purpose::Entry)?;
        let link = TreeContent::Link {
            kind: FileKind::ForeignLink,
            target: target.into(),
        };
        let link = self.allocate(TreeNode::bare(link))?;
        self.link(directory, name, link)?;
        Ok(Linked::Foreign(link))
    }

    /// Removes `name` of `directory` from the layers below. An entry of that name in this
    /// layer, earlier or later, stays and hides the lower one completely.
    ///
    /// # Errors
    /// An illegal path or name, or a limit.
    pub fn whiteout(&mut self, directory: &[u8], name: &[u8]) -> Result<(), TreeError> {
        if !is_legal_name(name) {
            return Err(TreeError::IllegalPath {
                path: [directory, b"/", name].concat(),
            });
        }
        let Some(directory) = self.marker_directory(directory)? else {
            return Ok(());
        };
        match self.child(directory, name) {
            // A file replaces the lower one anyway.
            Some(old) if !self.is_directory(old) => {}
            Some(old) if self.node(old).has_entries => self.hide_below(old),
            // Nothing, or a directory with nothing but markers.
            Some(_) | None => {
                let marker = TreeNode::bare(TreeContent::Plain(FileKind::Whiteout));
                let marker = self.allocate(marker)?;
                self.link(directory, name, marker)?;
            }
        }
        Ok(())
    }

    /// Hides what the layers below have in `directory`; entries of this layer stay, earlier or
    /// later.
    ///
    /// # Errors
    /// An illegal path, or a limit.
    pub fn opaque(&mut self, directory: &[u8]) -> Result<(), TreeError> {
        if let Some(directory) = self.marker_directory(directory)? {
            self.hide_below(directory);
        }
        Ok(())
    }

    /// Makes a directory opaque, and with it every directory in it that has entries. Markers in
    /// it have nothing left to hide and go.
    fn hide_below(&mut self, directory: NodeId) {
        let mut pending = vec![directory];
        while let Some(directory) = pending.pop() {
            // What was put into an opaque directory later is opaque already.
            if std::mem::replace(&mut self.node_mut(directory).opaque, true) {
                continue;
            }
            let TreeContent::Directory(first) = self.node(directory).content else {
                continue;
            };
            let nodes = &self.nodes;
            let first = self.names.retain(first, |child| {
                let child = &nodes[child.0 as usize];
                match child.content {
                    TreeContent::Directory(_) => child.has_entries,
                    TreeContent::Plain(kind) => kind != FileKind::Whiteout,
                    _ => true,
                }
            });
            let below = self.names.of(first).map(|(_, child)| child);
            pending.extend(below.filter(|child| self.is_directory(*child)));
            self.node_mut(directory).content = TreeContent::Directory(first);
        }
    }

    /// The directory that a marker belongs in; `None` where this layer has hidden all that the
    /// layers below have there.
    fn marker_directory(&mut self, path: &[u8]) -> Result<Option<NodeId>, TreeError> {
        if self.hides_all_below(path)? {
            return Ok(None);
        }
        self.make_directories(path, path, Purpose::Marker).map(Some)
    }

    /// Takes the attributes of `new`; children and opaqueness stay.
    fn replace_attributes(&mut self, directory: NodeId, new: TreeNode) {
        let old = self.node_mut(directory);
        old.attributes = new.attributes;
        old.xattrs = new.xattrs;
        old.implicit = false;
        old.has_entries = true;
    }
}
