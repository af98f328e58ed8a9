//! What an entry of a layer is, as a builder hands it over and as the tree keeps it.

use crate::draft::Attributes;
use crate::extent::Extent;
use crate::inode::{Device, FileKind, Timestamp};
use crate::limit::{
    MAX_FILE_SIZE, MAX_TARGET_LENGTH, MAX_XATTR_LIST_LENGTH, MAX_XATTR_NAME_LENGTH,
    MAX_XATTR_VALUE_LENGTH,
};
use crate::offset::StreamOffset;
use crate::tree::names::FirstLink;
use crate::xattr::is_overlay_private;
use std::collections::BTreeMap;

/// Names and values of xattrs.
pub type XattrPairs = Vec<(Vec<u8>, Vec<u8>)>;

/// An entry as it was read from a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The mode without the kind: at most 0o7777.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Names and values in any order; of two with the same name the later one counts.
    pub xattrs: XattrPairs,
    /// What it is.
    pub content: NodeContent,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeContent {
    /// A directory.
    Directory,
    /// A regular file.
    Regular {
        /// Bytes of the file, holes included.
        size: u64,
        /// Where they are.
        data: FileData,
    },
    /// A symlink.
    Symlink {
        /// 1 to 4095 bytes without NUL.
        target: Vec<u8>,
    },
    /// A character device. 0:0 is refused: it would be a whiteout to an overlayfs above.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// Where a regular file's bytes are in the layer's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileData {
    /// In one piece from here on.
    Whole(StreamOffset),
    /// In these runs, in the file's order; zeros between them.
    Sparse(Vec<Extent>),
}

/// A node of a tree under construction.
#[derive(Clone, Debug)]
pub(crate) struct TreeNode {
    pub(crate) attributes: Attributes,
    pub(crate) implicit: bool,
    pub(crate) opaque: bool,
    /// Of a directory: an entry of this layer is it or was put below it. A whiteout of its own
    /// name then keeps it.
    pub(crate) has_entries: bool,
    /// Few files have any: a pointer is smaller than a list.
    pub(crate) xattrs: Option<Box<XattrPairs>>,
    /// The number of its content's digest in the tree's list, counted from 1; 0: none.
    pub(crate) digest: u32,
    pub(crate) content: TreeContent,
}

/// What a node of a tree under construction is.
#[derive(Clone, Debug)]
pub(crate) enum TreeContent {
    Directory(FirstLink),
    Whole {
        size: u64,
        offset: StreamOffset,
    },
    /// Size and extents.
    Sparse(Box<(u64, Vec<Extent>)>),
    Link {
        kind: FileKind,
        target: Box<[u8]>,
    },
    Device {
        kind: FileKind,
        device: Device,
    },
    Plain(FileKind),
}

impl TreeContent {
    /// The kind of inode this becomes.
    pub(crate) fn kind(&self) -> FileKind {
        match self {
            TreeContent::Directory(_) => FileKind::Directory,
            TreeContent::Whole { .. } | TreeContent::Sparse(_) => FileKind::Regular,
            TreeContent::Link { kind, .. }
            | TreeContent::Device { kind, .. }
            | TreeContent::Plain(kind) => *kind,
        }
    }
}

impl Node {
    /// The node as the tree keeps it, once its values have been found possible; the error says
    /// which is not.
    pub(crate) fn checked(self) -> Result<TreeNode, &'static str> {
        if self.permissions > 0o7777 {
            return Err("permissions beyond 07777");
        }
        if self.mtime.nanoseconds >= 1_000_000_000 {
            return Err("a second has a thousand million nanoseconds");
        }
        let content = match self.content {
            NodeContent::Directory => TreeContent::Directory(FirstLink::default()),
            NodeContent::Regular { size, data } => regular(size, data)?,
            NodeContent::Symlink { target } => {
                check_target(&target)?;
                TreeContent::Link {
                    kind: FileKind::Symlink,
                    target: target.into(),
                }
            }
            NodeContent::CharDevice(Device { major: 0, minor: 0 }) => {
                return Err("character device 0:0 is a whiteout");
            }
            NodeContent::CharDevice(device) => TreeContent::Device {
                kind: FileKind::CharDevice,
                device,
            },
            NodeContent::BlockDevice(device) => TreeContent::Device {
                kind: FileKind::BlockDevice,
                device,
            },
            NodeContent::Fifo => TreeContent::Plain(FileKind::Fifo),
            NodeContent::Socket => TreeContent::Plain(FileKind::Socket),
        };
        Ok(TreeNode {
            attributes: Attributes {
                permissions: self.permissions,
                uid: self.uid,
                gid: self.gid,
                mtime: self.mtime,
            },
            implicit: false,
            opaque: false,
            has_entries: true,
            xattrs: match self.xattrs.is_empty() {
                true => None,
                false => Some(Box::new(sorted_xattrs(self.xattrs)?)),
            },
            digest: 0,
            content,
        })
    }
}

/// A link's target: what symlink(2) takes.
pub(crate) fn check_target(target: &[u8]) -> Result<(), &'static str> {
    if target.is_empty() || target.len() > MAX_TARGET_LENGTH {
        return Err("a link target has 1 to 4095 bytes");
    }
    if target.contains(&0) {
        return Err("a link target has no NUL");
    }
    Ok(())
}

fn regular(size: u64, data: FileData) -> Result<TreeContent, &'static str> {
    if size > MAX_FILE_SIZE {
        return Err("a file has at most 2^63-1 bytes");
    }
    let extents = match data {
        FileData::Whole(offset) => return Ok(TreeContent::Whole { size, offset }),
        FileData::Sparse(extents) => extents,
    };
    let mut end = 0;
    for extent in &extents {
        if extent.length == 0 || extent.file_offset.0 < end {
            return Err("extents of a sparse file are empty or out of order");
        }
        end = extent
            .file_offset
            .0
            .checked_add(extent.length)
            .filter(|end| *end <= size)
            .ok_or("an extent of a sparse file ends past the file")?;
    }
    Ok(TreeContent::Sparse(Box::new((size, extents))))
}

/// Sorts, keeps the last of every name, and applies the kernel's limits.
fn sorted_xattrs(xattrs: XattrPairs) -> Result<XattrPairs, &'static str> {
    let sorted: BTreeMap<Vec<u8>, Vec<u8>> = xattrs.into_iter().collect();
    let mut list_length = 0;
    for (name, value) in &sorted {
        if !(1..=MAX_XATTR_NAME_LENGTH).contains(&name.len()) || name.contains(&0) {
            return Err("an xattr name has 1 to 255 bytes and no NUL");
        }
        if value.len() > MAX_XATTR_VALUE_LENGTH {
            return Err("an xattr value has at most 65536 bytes");
        }
        if is_overlay_private(name) {
            return Err("an xattr of overlayfs itself cannot come from a layer");
        }
        list_length += name.len() + 1;
    }
    if list_length > MAX_XATTR_LIST_LENGTH {
        return Err("the names of an inode's xattrs have at most 65536 bytes together");
    }
    Ok(sorted.into_iter().collect())
}
