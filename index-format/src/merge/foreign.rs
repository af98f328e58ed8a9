//! Third step of a layer: its hardlinks to paths that it does not hold itself.
//!
//! When such a link was unpacked, its target was a path of the layers below, or one of this
//! layer by another route (through a symlink below). An index keeps no order of entries, but
//! the two differ only where the path leads to a file of this layer *now*: if the layer holds
//! the very path, that entry came after the link, and the link means the file below.

use crate::draft::DraftId;
use crate::inode::InodeNumber;
use crate::merge::apply::ForeignName;
use crate::merge::layer::Layer;
use crate::merge::{MergeWarning, Merger};
use std::collections::HashMap;

/// By inode: the path that a foreign link links to, and what it leads to before its layer is
/// put in place.
pub(crate) type ForeignLinks<'a> = HashMap<InodeNumber, (&'a [u8], Option<DraftId>)>;

impl<'a> Merger<'a> {
    /// What the layer's foreign links lead to before the layer is put in place.
    pub(crate) fn foreign_targets(&self, layer: &Layer<'a>) -> ForeignLinks<'a> {
        let links = layer.foreign_links();
        links
            .map(|(inode, target)| (inode, (target, self.find(target))))
            .collect()
    }

    /// Gives the layer's foreign links their inodes; those without one are dropped.
    pub(crate) fn link_foreign(
        &mut self,
        layer: &Layer<'a>,
        names: &[ForeignName<'a>],
        links: &ForeignLinks<'a>,
    ) {
        for foreign in names {
            let Some(&(target, below)) = links.get(&foreign.inode) else {
                continue;
            };
            let own = matches!(layer.index.resolve(target), Ok(Some(_)));
            let found = if own {
                below
            } else {
                self.find(target).or(below)
            };
            match found.filter(|node| !self.node(*node).content.is_directory()) {
                Some(node) => self.link(foreign.directory, foreign.name, node),
                None => {
                    let path = self.path_of(foreign.directory, foreign.name);
                    let (layer, target) = (layer.number, target.to_vec());
                    self.warnings.push(MergeWarning::UnresolvedLink {
                        layer,
                        path,
                        target,
                    });
                }
            }
        }
    }
}
