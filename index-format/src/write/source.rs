//! What a layout is made of.

use crate::draft::{Draft, DraftContent, DraftEntry, DraftId, DraftNode};
use crate::inode::FileKind;
use std::borrow::Cow;

/// A tree that can be laid out. Node 0 is its root; nodes that no directory reaches are left out.
pub(crate) trait Source {
    /// Nodes, those that are not reached included.
    fn node_count(&self) -> usize;

    /// The kind of a node.
    fn kind(&self, node: DraftId) -> FileKind;

    /// The entries of a directory, sorted by name; nothing for other nodes.
    fn entries(&self, directory: DraftId) -> Cow<'_, [DraftEntry<'_>]>;

    /// No entries will be asked for again.
    fn forget_entries(&mut self);

    /// A node. What it says of a directory's entries is not looked at.
    fn node(&self, node: DraftId) -> Cow<'_, DraftNode<'_>>;
}

impl Source for &Draft<'_> {
    fn node_count(&self) -> usize {
        self.nodes.len()
    }

    fn kind(&self, node: DraftId) -> FileKind {
        self.nodes[node as usize].content.kind()
    }

    fn entries(&self, directory: DraftId) -> Cow<'_, [DraftEntry<'_>]> {
        match &self.nodes[directory as usize].content {
            DraftContent::Directory(entries) => Cow::Borrowed(entries),
            _ => Cow::Borrowed(&[]),
        }
    }

    fn forget_entries(&mut self) {}

    fn node(&self, node: DraftId) -> Cow<'_, DraftNode<'_>> {
        Cow::Borrowed(&self.nodes[node as usize])
    }
}
