//! Tar entries become a tree, as containerd unpacks a layer: whiteouts are names, later entries
//! replace earlier ones.

use index_format::tree::FileData;
use index_format::xattr::is_overlay_private;
use index_format::{
    Device, Extent, FileOffset, Node, NodeContent, NodeId, StreamOffset, Timestamp, Tree,
};

use crate::error::IndexerError;
use crate::tar::{DataExtent, Entry, EntryKind, Warning};
use crate::warnings::Warnings;

/// A name that begins so removes the rest of it from the layers below (image specification,
/// "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// A name that begins so is aufs's own, and of no meaning to anybody else.
const AUFS: &[u8] = b".wh..wh.";
/// The one among them that the image specification took over: hide all of the directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a path's names say about the entry.
enum Meaning<'a> {
    Root,
    Ordinary,
    Whiteout { directory: &'a [u8], name: &'a [u8] },
    Opaque { directory: &'a [u8] },
    Aufs,
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

fn meaning(path: &[u8]) -> Result<Meaning<'_>, IndexerError> {
    let (directory, last) = split(path);
    if path.is_empty() {
        return Ok(Meaning::Root);
    }
    if last == OPAQUE {
        return Ok(Meaning::Opaque { directory });
    }
    if path
        .split(|byte| *byte == b'/')
        .any(|name| name.starts_with(AUFS))
    {
        return Ok(Meaning::Aufs);
    }
    match last.strip_prefix(WHITEOUT) {
        None => Ok(Meaning::Ordinary),
        Some(b"" | b"." | b"..") => Err(IndexerError::Whiteout {
            path: path.to_vec(),
        }),
        Some(name) => Ok(Meaning::Whiteout { directory, name }),
    }
}

/// Puts an entry into the tree. Returns the node of a regular file.
///
/// # Errors
/// A whiteout of nothing, and whatever the tree refuses.
pub fn apply(
    tree: &mut Tree,
    entry: Entry,
    warnings: &mut Warnings,
) -> Result<Option<NodeId>, IndexerError> {
    let directory = entry.kind == EntryKind::Directory;
    match meaning(&entry.path)? {
        Meaning::Root if !directory => warnings.push(Warning::RootNotDirectory),
        Meaning::Aufs => warnings.push(Warning::Aufs { path: entry.path }),
        Meaning::Opaque { directory } => tree.opaque(directory)?,
        Meaning::Whiteout { directory, name } => tree.whiteout(directory, name)?,
        Meaning::Root | Meaning::Ordinary => return insert(tree, entry, warnings),
    }
    Ok(None)
}

fn insert(
    tree: &mut Tree,
    entry: Entry,
    warnings: &mut Warnings,
) -> Result<Option<NodeId>, IndexerError> {
    let content = match entry.kind {
        EntryKind::Directory => NodeContent::Directory,
        EntryKind::Regular {
            size,
            extents,
            sparse,
        } => NodeContent::Regular {
            size,
            data: file_data(&extents, sparse),
        },
        EntryKind::Symlink(target) => NodeContent::Symlink { target },
        EntryKind::Hardlink(target) if target == entry.path => {
            warnings.push(Warning::SelfLink { path: entry.path });
            return Ok(None);
        }
        EntryKind::Hardlink(target) => {
            tree.hardlink(&entry.path, &target)?;
            return Ok(None);
        }
        EntryKind::CharDevice(0, 0) => {
            let (directory, name) = split(&entry.path);
            tree.whiteout(directory, name)?;
            warnings.push(Warning::DeviceWhiteout { path: entry.path });
            return Ok(None);
        }
        EntryKind::CharDevice(major, minor) => NodeContent::CharDevice(Device { major, minor }),
        EntryKind::BlockDevice(major, minor) => NodeContent::BlockDevice(Device { major, minor }),
        EntryKind::Fifo => NodeContent::Fifo,
    };
    let (private, xattrs) = entry
        .xattrs
        .into_iter()
        .partition::<Vec<_>, _>(|(name, _)| is_overlay_private(name));
    for (name, _) in private {
        warnings.push(Warning::OverlayXattr {
            path: entry.path.clone(),
            name,
        });
    }
    let is_file = matches!(content, NodeContent::Regular { .. });
    let node = Node {
        permissions: entry.permissions,
        uid: entry.uid,
        gid: entry.gid,
        mtime: Timestamp {
            seconds: entry.mtime.seconds,
            nanoseconds: entry.mtime.nanoseconds,
        },
        xattrs,
        content,
    };
    let node = tree.insert(&entry.path, node)?;
    Ok(is_file.then_some(node))
}

fn file_data(extents: &[DataExtent], sparse: bool) -> FileData {
    match extents {
        [] if !sparse => FileData::Whole(StreamOffset(0)),
        [whole] if !sparse => FileData::Whole(StreamOffset(whole.stream_offset)),
        extents => FileData::Sparse(extents.iter().map(extent).collect()),
    }
}

fn extent(extent: &DataExtent) -> Extent {
    Extent {
        file_offset: FileOffset(extent.file_offset),
        stream_offset: StreamOffset(extent.stream_offset),
        length: extent.length,
    }
}
