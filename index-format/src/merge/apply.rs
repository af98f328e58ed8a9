//! Second step of a layer: its entries are put in place.

use crate::draft::{Attributes, DraftContent, DraftEntry, DraftId, DraftNode};
use crate::error::FormatError;
use crate::inode::{FileKind, InodeNumber};
use crate::merge::layer::{Layer, LayerEntry};
use crate::merge::resolve::Walk;
use crate::merge::{MergeError, MergeWarning, Merger, ROOT};

/// A name of the layer that links to a path which the layer does not hold.
pub(crate) struct ForeignName<'a> {
    pub(crate) directory: DraftId,
    pub(crate) name: &'a [u8],
    pub(crate) inode: InodeNumber,
}

/// A directory that the layer only passes through, over a symlink of the union.
struct Passage<'a> {
    inode: InodeNumber,
    parent: DraftId,
    name: &'a [u8],
    target: &'a [u8],
}

/// Putting one layer in place.
struct Pass<'l, 'a> {
    layer: &'l Layer<'a>,
    /// By inode: the node of the union, once made. Keeps hardlinks together.
    nodes: Vec<Option<DraftId>>,
    /// Directories of the layer whose entries are still to come, and where they go.
    pending: Vec<(InodeNumber, DraftId)>,
    passages: Vec<Passage<'a>>,
    foreign: Vec<ForeignName<'a>>,
}

/// Says which layer an error is about.
fn damaged(layer: &Layer<'_>) -> impl Fn(FormatError) -> MergeError + use<> {
    let layer = layer.number;
    move |source| MergeError::Layer { layer, source }
}

impl<'a> Merger<'a> {
    /// Puts the entries of `layer` in place; returns those that link into lower layers.
    pub(crate) fn apply(&mut self, layer: &Layer<'a>) -> Result<Vec<ForeignName<'a>>, MergeError> {
        let mut pass = Pass {
            layer,
            nodes: vec![None; layer.index.inode_count() as usize + 1],
            pending: vec![(InodeNumber::ROOT, ROOT)],
            passages: Vec::new(),
            foreign: Vec::new(),
        };
        self.take_attributes(layer, InodeNumber::ROOT, ROOT)?;
        loop {
            if let Some((inode, directory)) = pass.pending.pop() {
                self.apply_directory(&mut pass, inode, directory)?;
            } else if let Some(passage) = pass.passages.pop() {
                // Only now: following the symlink may change any directory.
                let directory = self.pass_through(layer, &passage)?;
                pass.pending.push((passage.inode, directory));
            } else {
                return Ok(pass.foreign);
            }
        }
    }

    /// Merges the sorted entries of the layer's directory into the sorted children of the
    /// union's.
    fn apply_directory(
        &mut self,
        pass: &mut Pass<'_, 'a>,
        inode: InodeNumber,
        directory: DraftId,
    ) -> Result<(), MergeError> {
        let old = self
            .children_mut(directory)
            .map(std::mem::take)
            .unwrap_or_default();
        let entries = pass.layer.entries(inode);
        let mut new = Vec::with_capacity(old.len() + entries.len());
        let mut old = old.into_iter().peekable();
        for entry in entries {
            while let Some(kept) = old.next_if(|(name, _)| *name < entry.name) {
                new.push(kept);
            }
            let below = old
                .next_if(|(name, _)| *name == entry.name)
                .map(|(_, child)| child);
            if let Some(child) = self.apply_entry(pass, entry, directory, below)? {
                new.push((entry.name, child));
            }
        }
        new.extend(old);
        if let Some(children) = self.children_mut(directory) {
            *children = new;
        }
        Ok(())
    }

    /// What `entry`'s name stands for from now on; `below` is what it stood for.
    fn apply_entry(
        &mut self,
        pass: &mut Pass<'_, 'a>,
        entry: &LayerEntry<'a>,
        directory: DraftId,
        below: Option<DraftId>,
    ) -> Result<Option<DraftId>, MergeError> {
        match entry.kind {
            FileKind::Whiteout => Ok(below),
            FileKind::ForeignLink => {
                let (name, inode) = (entry.name, entry.inode);
                pass.foreign.push(ForeignName {
                    directory,
                    name,
                    inode,
                });
                Ok(None)
            }
            FileKind::Directory => self.apply_subdirectory(pass, entry, directory, below),
            _ => {
                if let Some(node) = pass.nodes[entry.inode.0 as usize] {
                    return Ok(Some(node));
                }
                let node = self.allocate(
                    pass.layer.node(entry.inode).map_err(damaged(pass.layer))?,
                    directory,
                )?;
                pass.nodes[entry.inode.0 as usize] = Some(node);
                Ok(Some(node))
            }
        }
    }

    fn apply_subdirectory(
        &mut self,
        pass: &mut Pass<'_, 'a>,
        entry: &LayerEntry<'a>,
        directory: DraftId,
        below: Option<DraftId>,
    ) -> Result<Option<DraftId>, MergeError> {
        let layer = pass.layer;
        if let Some(below) = below {
            if self.node(below).content.is_directory() {
                self.take_attributes(layer, entry.inode, below)?;
                pass.pending.push((entry.inode, below));
                return Ok(Some(below));
            }
            if layer.is_implicit(entry.inode) {
                if !layer.has_content(entry.inode) {
                    return Ok(Some(below));
                }
                if let DraftContent::Link { target, .. } = self.node(below).content {
                    let (inode, name) = (entry.inode, entry.name);
                    pass.passages.push(Passage {
                        inode,
                        parent: directory,
                        name,
                        target,
                    });
                    return Ok(Some(below));
                }
                self.warn_replaced(layer, directory, entry.name);
            }
        } else if !layer.has_content(entry.inode) {
            return Ok(None);
        }
        let node = layer.node(entry.inode).map_err(damaged(layer))?;
        let child = self.allocate(node, directory)?;
        pass.pending.push((entry.inode, child));
        Ok(Some(child))
    }

    /// A directory of the layer over one of the union: an entry's attributes replace those
    /// below, a directory without an entry leaves them alone.
    fn take_attributes(
        &mut self,
        layer: &Layer<'a>,
        inode: InodeNumber,
        directory: DraftId,
    ) -> Result<(), MergeError> {
        if layer.is_implicit(inode) {
            return Ok(());
        }
        let source = layer.node(inode).map_err(damaged(layer))?;
        let node = &mut self.draft.nodes[directory as usize];
        node.attributes = source.attributes;
        node.xattrs = source.xattrs;
        node.layer = source.layer;
        node.implicit = false;
        Ok(())
    }

    /// The directory that a passage leads to: what the symlink leads to, missing directories
    /// made; where it leads nowhere, a directory in its place.
    fn pass_through(
        &mut self,
        layer: &Layer<'a>,
        passage: &Passage<'a>,
    ) -> Result<DraftId, MergeError> {
        match self.walk(passage.parent, passage.target) {
            Walk::Found(directory) => Ok(directory),
            Walk::Missing(mut at, names) => {
                for name in names {
                    at = self.make_directory(layer, at, name)?;
                }
                Ok(at)
            }
            Walk::Blocked => {
                self.warn_replaced(layer, passage.parent, passage.name);
                self.make_directory(layer, passage.parent, passage.name)
            }
        }
    }

    fn make_directory(
        &mut self,
        layer: &Layer<'a>,
        parent: DraftId,
        name: &'a [u8],
    ) -> Result<DraftId, MergeError> {
        let node = DraftNode {
            attributes: Attributes::IMPLICIT_DIRECTORY,
            layer: layer.number,
            opaque: false,
            implicit: true,
            xattrs: Vec::new(),
            digest: None,
            content: DraftContent::Directory(Vec::<DraftEntry<'a>>::new()),
        };
        let directory = self.allocate(node, parent)?;
        self.link(parent, name, directory);
        Ok(directory)
    }

    fn warn_replaced(&mut self, layer: &Layer<'a>, directory: DraftId, name: &[u8]) {
        let path = self.path_of(directory, name);
        self.warnings.push(MergeWarning::ReplacedByDirectory {
            layer: layer.number,
            path,
        });
    }
}
