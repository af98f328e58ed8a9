//! First step of a layer: what its whiteouts and opaque directories hide goes. They mean the
//! layers below only, so this comes before any of the layer's own entries.

use crate::draft::{DraftContent, DraftId};
use crate::inode::{FileKind, InodeNumber};
use crate::merge::layer::Layer;
use crate::merge::resolve::Walk;
use crate::merge::{Merger, ROOT};

/// A directory of the layer, the directory of the union that it is about, and whether the layer
/// hides everything in that.
type Pending = (InodeNumber, DraftId, bool);

impl<'a> Merger<'a> {
    /// Removes from the union what `layer` hides.
    pub(crate) fn remove_hidden(&mut self, layer: &Layer<'a>) {
        let mut pending: Vec<Pending> = vec![(InodeNumber::ROOT, ROOT, false)];
        while let Some((inode, directory, hidden)) = pending.pop() {
            let hidden = hidden || layer.is_opaque(inode);
            if hidden {
                self.remove_all(layer, inode, directory);
            } else {
                self.remove_whiteouts(layer, inode, directory);
            }
            for entry in layer.entries(inode) {
                if entry.kind != FileKind::Directory {
                    continue;
                }
                let Some(below) = self.child(directory, entry.name) else {
                    continue;
                };
                if let Some(below) = self.directory_below(layer, entry.inode, directory, below) {
                    pending.push((entry.inode, below, hidden));
                }
            }
        }
    }

    /// Empties a directory that the layer hides, but for directories that the layer has, too:
    /// where it only passes through, they keep the attributes they have below. They are
    /// emptied in their turn.
    fn remove_all(&mut self, layer: &Layer<'a>, inode: InodeNumber, directory: DraftId) {
        let entries = layer.entries(inode);
        let old = self
            .children_mut(directory)
            .map(std::mem::take)
            .unwrap_or_default();
        let kept = old.into_iter().filter(|(name, child)| {
            let found = entries.binary_search_by(|entry| entry.name.cmp(name));
            found.is_ok_and(|position| {
                entries[position].kind == FileKind::Directory
                    && self.node(*child).content.is_directory()
                    && layer.has_content(entries[position].inode)
            })
        });
        let kept = kept.collect();
        if let Some(children) = self.children_mut(directory) {
            *children = kept;
        }
    }

    fn remove_whiteouts(&mut self, layer: &Layer<'a>, inode: InodeNumber, directory: DraftId) {
        let entries = layer.entries(inode);
        if !entries.iter().any(|entry| entry.kind == FileKind::Whiteout) {
            return;
        }
        if let Some(children) = self.children_mut(directory) {
            children.retain(|(name, _)| {
                let found = entries.binary_search_by(|entry| entry.name.cmp(name));
                !found.is_ok_and(|position| entries[position].kind == FileKind::Whiteout)
            });
        }
    }

    /// The directory of the union that the layer's directory `inode` is about, where `below`
    /// has its name: `below` itself, or what it links to when the layer only passes through.
    fn directory_below(
        &self,
        layer: &Layer<'a>,
        inode: InodeNumber,
        parent: DraftId,
        below: DraftId,
    ) -> Option<DraftId> {
        match &self.node(below).content {
            DraftContent::Directory(_) => Some(below),
            DraftContent::Link { target, .. } if layer.is_implicit(inode) => {
                match self.walk(parent, target) {
                    Walk::Found(directory) => Some(directory),
                    Walk::Missing(..) | Walk::Blocked => None,
                }
            }
            _ => None,
        }
    }
}
