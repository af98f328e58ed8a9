//! A tree as the writer wants it.

use crate::draft::{DraftContent, DraftEntry, DraftId, DraftNode};
use crate::inode::FileKind;
use crate::tree::Tree;
use crate::tree::names::Names;
use crate::tree::node::{TreeContent, TreeNode};
use crate::write::Source;
use std::borrow::Cow;

impl Source for Tree {
    fn node_count(&self) -> usize {
        self.nodes.len()
    }

    fn kind(&self, node: DraftId) -> FileKind {
        self.nodes[node as usize].content.kind()
    }

    fn entries(&self, directory: DraftId) -> Cow<'_, [DraftEntry<'_>]> {
        let TreeContent::Directory(first) = self.nodes[directory as usize].content else {
            return Cow::Borrowed(&[]);
        };
        let entries = self.names.of(first).map(|(name, child)| (name, child.0));
        let mut entries: Vec<DraftEntry<'_>> = entries.collect();
        entries.sort_unstable_by_key(|(name, _)| *name);
        Cow::Owned(entries)
    }

    fn forget_entries(&mut self) {
        self.names = Names::default();
    }

    fn node(&self, node: DraftId) -> Cow<'_, DraftNode<'_>> {
        let node = &self.nodes[node as usize];
        let digest = (node.digest as usize).checked_sub(1);
        let xattrs = node.xattrs.iter().flat_map(|xattrs| xattrs.iter());
        Cow::Owned(DraftNode {
            attributes: node.attributes,
            layer: 0,
            opaque: node.opaque,
            implicit: node.implicit,
            digest: digest.map(|digest| &self.digests[digest]),
            xattrs: xattrs.map(|(name, value)| (&**name, &**value)).collect(),
            content: content(node),
        })
    }
}

fn content(node: &TreeNode) -> DraftContent<'_> {
    match &node.content {
        TreeContent::Directory(_) => DraftContent::Directory(Vec::new()),
        TreeContent::Whole { size, offset } => DraftContent::Whole {
            size: *size,
            stream_offset: offset.0,
        },
        TreeContent::Sparse(sparse) => DraftContent::Sparse {
            size: sparse.0,
            extents: Cow::Borrowed(&sparse.1),
        },
        TreeContent::Link { kind, target } => DraftContent::Link {
            kind: *kind,
            target,
        },
        TreeContent::Device { kind, device } => DraftContent::Device {
            kind: *kind,
            major: device.major,
            minor: device.minor,
        },
        TreeContent::Plain(kind) => DraftContent::Plain(*kind),
    }
}
