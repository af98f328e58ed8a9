//! A tree under construction, with the semantics of unpacking a tar: entries arrive in the
//! archive's order, later ones replace earlier ones, whiteouts stay as markers.

mod insert;
mod names;
mod node;
mod resolve;
mod source;

pub use crate::tree::node::{FileData, Node, NodeContent, XattrPairs};

use crate::digest::Digest;
use crate::draft::Attributes;
use crate::inode::FileKind;
use crate::limit::{MAX_ENTRIES, MAX_INODES};
use crate::tree::names::{FirstLink, Names};
use crate::tree::node::{TreeContent, TreeNode};

/// A node of one [`Tree`]. Meaningless in any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(u32);

impl NodeId {
    const ROOT: NodeId = NodeId(0);
}

/// What became of a hardlink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linked {
    /// It shares the inode of an earlier path of this layer.
    Local(NodeId),
    /// The layer does not hold the target: kept with its target path until layers are merged.
    Foreign(NodeId),
}

/// An entry that a tree cannot take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A name that is empty, `.`, `..`, too long, or contains `/` or NUL.
    #[error(
        "{:?}: a path must consist of names of 1 to 255 bytes, not . or ..",
        String::from_utf8_lossy(path)
    )]
    IllegalPath {
        /// The whole path.
        path: Vec<u8>,
    },
    /// The root can only be a directory.
    #[error("the root of a layer can only be a directory")]
    RootNotDirectory,
    /// More directories between the root and the path than the limit.
    #[error(
        "{:?}: deeper than {} directories",
        String::from_utf8_lossy(path),
        crate::limit::MAX_DEPTH
    )]
    TooDeep {
        /// The whole path.
        path: Vec<u8>,
    },
    /// The directories of the path lead through too many symlinks of this layer.
    #[error("{:?}: too many symlinks on the way", String::from_utf8_lossy(path))]
    SymlinkLoop {
        /// The whole path.
        path: Vec<u8>,
    },
    /// More inodes than the limit, those counted that were replaced later.
    #[error("the layer has more than {MAX_INODES} entries")]
    TooManyInodes,
    /// More names than the limit, those counted that were removed later.
    #[error("the layer has more than {MAX_ENTRIES} names, or 4 GiB of them")]
    TooManyNames,
    /// Directories have one name only.
    #[error(
        "{:?}: a hardlink to the directory {:?}",
        String::from_utf8_lossy(path),
        String::from_utf8_lossy(target)
    )]
    LinkToDirectory {
        /// The path of the link.
        path: Vec<u8>,
        /// The directory.
        target: Vec<u8>,
    },
    /// A value of the entry that no file can have.
    #[error("{:?}: {problem}", String::from_utf8_lossy(path))]
    IllegalNode {
        /// The path of the entry.
        path: Vec<u8>,
        /// What is wrong.
        problem: &'static str,
    },
}

/// The files of one layer, under construction.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Every node ever made; replaced ones stay behind, unreachable.
    nodes: Vec<TreeNode>,
    names: Names,
    /// Digests of contents, in the order in which they became known.
    digests: Vec<Digest>,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

impl Tree {
    /// A tree with nothing but an implicit root.
    pub fn new() -> Tree {
        Tree {
            nodes: vec![TreeNode::implicit_directory()],
            names: Names::default(),
            digests: Vec::new(),
        }
    }

    /// Records the digest of a regular file's content, once it is known. Of no effect where the
    /// node has been replaced meanwhile.
    pub fn set_content_digest(&mut self, node: NodeId, digest: Digest) {
        if let Some(node) = self.nodes.get_mut(node.0 as usize) {
            self.digests.push(digest);
            // There are fewer than 2^32: nodes are, and each has one.
            node.digest = self.digests.len() as u32;
        }
    }

    /// How many nodes were ever made: an upper bound of the inodes that are written.
    pub fn node_count(&self) -> u32 {
        // allocate() stops at MAX_INODES.
        self.nodes.len() as u32
    }

    /// The kind of the node at `path` (no symlink of the last component is followed); `None`
    /// where this layer has nothing there.
    ///
    /// # Errors
    /// An illegal path.
    pub fn kind_at(&self, path: &[u8]) -> Result<Option<FileKind>, TreeError> {
        Ok(self.find(path)?.map(|node| self.node(node).content.kind()))
    }

    fn node(&self, id: NodeId) -> &TreeNode {
        &self.nodes[id.0 as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut TreeNode {
        &mut self.nodes[id.0 as usize]
    }

    fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        self.names.get(directory, name)
    }

    fn allocate(&mut self, node: TreeNode) -> Result<NodeId, TreeError> {
        let id = u32::try_from(self.nodes.len())
            .ok()
            .filter(|id| *id < MAX_INODES);
        let id = id.ok_or(TreeError::TooManyInodes)?;
        self.nodes.push(node);
        Ok(NodeId(id))
    }

    /// Gives `directory`'s `name` to `child`, whatever had it before.
    fn link(&mut self, directory: NodeId, name: &[u8], child: NodeId) -> Result<(), TreeError> {
        if let TreeContent::Directory(first) = &mut self.nodes[directory.0 as usize].content {
            *first = self.names.put(directory, name, child, *first)?;
        }
        Ok(())
    }
}

impl TreeNode {
    fn implicit_directory() -> TreeNode {
        TreeNode {
            attributes: Attributes::IMPLICIT_DIRECTORY,
            implicit: true,
            opaque: false,
            has_entries: false,
            xattrs: None,
            digest: 0,
            content: TreeContent::Directory(FirstLink::default()),
        }
    }

    /// A marker or link without attributes of its own.
    fn bare(content: TreeContent) -> TreeNode {
        TreeNode {
            attributes: Attributes {
                permissions: 0,
                ..Attributes::IMPLICIT_DIRECTORY
            },
            implicit: false,
            opaque: false,
            has_entries: true,
            xattrs: None,
            digest: 0,
            content,
        }
    }
}

#[cfg(test)]
mod tests;
