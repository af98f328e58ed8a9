//! What the mounted tree answers, apart from the protocol it is asked in.

use std::sync::Arc;

use index_format::limit::MAX_NAME_LENGTH;
use index_format::xattr::is_overlay_private;
use index_format::{FileKind, Index, IndexKind, Inode, InodeNumber, SectionId};

use crate::attributes::{Attributes, BLOCK_SIZE};
use crate::content::Content;
use crate::directory::Directory;
use crate::error::TreeError;
use crate::extents::{ReadPlan, next_data, next_hole, plan, stored};

/// `SEEK_DATA` of linux/fs.h, the whence of lseek(2).
pub const SEEK_DATA: i32 = 3;
/// `SEEK_HOLE` of linux/fs.h.
pub const SEEK_HOLE: i32 = 4;

/// An image's tree: a merged index and where its content comes from. It never changes.
pub struct MountedTree<C> {
    index: Index,
    content: Arc<C>,
    space: Space,
}

/// What statfs(2) shows: a full filesystem, as nothing can be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Blocks of [`BLOCK_SIZE`] bytes that the layers occupy uncompressed.
    pub blocks: u64,
    /// Inodes.
    pub files: u64,
    /// Longest possible name.
    pub name_length: u32,
}

/// The answer to a question about xattrs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XattrAnswer {
    /// How many bytes the answer has; asked for with a buffer of size 0.
    Size(u32),
    /// The answer.
    Bytes(Vec<u8>),
}

impl<C: Content> MountedTree<C> {
    /// The tree of `index`, a validated merged index.
    ///
    /// # Errors
    /// The index is a layer's, or its list of layers is damaged.
    pub fn new(index: Index, content: Arc<C>) -> Result<Self, TreeError> {
        if index.kind() != IndexKind::Merged {
            return Err(TreeError::NotMerged);
        }
        let bytes = index.layers()?.iter().fold(0u64, |sum, layer| {
            // Only shown to people: more than 16 EiB may show as 16 EiB.
            sum.saturating_add(layer.stream_size)
        });
        let space = Space {
            blocks: bytes.div_ceil(u64::from(BLOCK_SIZE)),
            files: index.inode_count().into(),
            name_length: MAX_NAME_LENGTH as u32,
        };
        Ok(Self {
            index,
            content,
            space,
        })
    }

    /// The index.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Where content comes from.
    pub(crate) fn content(&self) -> &C {
        &self.content
    }

    /// The inode that the mount shows under `number`: any but those that only layers have.
    fn inode(&self, number: InodeNumber) -> Result<Inode, TreeError> {
        let inode = self.index.inode(number)?;
        if inode.kind.is_marker() {
            return Err(TreeError::NoSuchNode(number.0.into()));
        }
        Ok(inode)
    }

    /// Attributes of the entry `name` of a directory; `None` where there is none.
    ///
    /// # Errors
    /// Not a directory, a name longer than any entry can have, or a damaged index.
    pub fn lookup(
        &self,
        directory: InodeNumber,
        name: &[u8],
    ) -> Result<Option<Attributes>, TreeError> {
        if name.len() > MAX_NAME_LENGTH {
            return Err(TreeError::NameTooLong(name.len()));
        }
        let Some(number) = self.index.lookup(directory, name)? else {
            return Ok(None);
        };
        let inode = self.index.inode(number)?;
        if inode.kind.is_marker() {
            return Ok(None);
        }
        self.attributes_of(&inode).map(Some)
    }

    /// Attributes of an inode.
    ///
    /// # Errors
    /// No such inode, or a damaged index.
    pub fn attributes(&self, number: InodeNumber) -> Result<Attributes, TreeError> {
        self.attributes_of(&self.inode(number)?)
    }

    pub(crate) fn attributes_of(&self, inode: &Inode) -> Result<Attributes, TreeError> {
        let stored = if inode.sparse {
            stored(&self.index.extents(inode.number)?, inode.size)
        } else {
            inode.size
        };
        Attributes::of(inode, stored)
    }

    /// Target of a symlink.
    ///
    /// # Errors
    /// Not a symlink, or a damaged index.
    pub fn readlink(&self, number: InodeNumber) -> Result<&[u8], TreeError> {
        self.inode(number)?;
        Ok(self.index.symlink_target(number)?)
    }

    /// The entries of a directory from the stream position `offset` on: 0, or the `next` of an
    /// entry read before.
    ///
    /// # Errors
    /// Not a directory, or a damaged index.
    pub fn directory(&self, number: InodeNumber, offset: u64) -> Result<Directory<'_>, TreeError> {
        Directory::new(&self.index, self.inode(number)?, offset)
    }

    /// Where the bytes of a read are: `size` bytes from `offset`, less at the end of the file.
    ///
    /// # Errors
    /// Not a regular file, or a damaged index.
    pub fn read(&self, number: InodeNumber, offset: u64, size: u32) -> Result<ReadPlan, TreeError> {
        let inode = self.inode(number)?;
        if inode.kind == FileKind::Directory {
            return Err(TreeError::IsDirectory(number));
        }
        plan(&inode, &self.index.extents(number)?, offset, size)
    }

    /// The next data ([`SEEK_DATA`]) or hole ([`SEEK_HOLE`]) from `offset` on, as lseek(2).
    ///
    /// # Errors
    /// [`TreeError::NoHoles`] in a tree without sparse files; nothing from the offset on; another
    /// `whence`; not a regular file; a damaged index.
    pub fn seek(&self, number: InodeNumber, offset: i64, whence: i32) -> Result<i64, TreeError> {
        if self.index.section_length(SectionId::Extents) == 0 {
            return Err(TreeError::NoHoles);
        }
        let inode = self.inode(number)?;
        let extents = self.index.extents(number)?;
        let nothing = TreeError::NothingThere {
            inode: number,
            offset,
        };
        let start = match u64::try_from(offset) {
            Ok(start) if start < inode.size => start,
            _ => return Err(nothing),
        };
        let found = match whence {
            SEEK_DATA => next_data(&extents, start, inode.size),
            SEEK_HOLE => Some(next_hole(&extents, start, inode.size)),
            _ => return Err(TreeError::SeekMode(whence)),
        };
        found
            .and_then(|found| i64::try_from(found).ok())
            .ok_or(nothing)
    }

    /// Value of an xattr for a caller with room for `size` bytes; 0 asks for the size.
    ///
    /// # Errors
    /// [`TreeError::NoXattrs`] where no inode of the tree has any, no such xattr, a value that
    /// does not fit, or a damaged index.
    pub fn xattr(
        &self,
        number: InodeNumber,
        name: &[u8],
        size: u32,
    ) -> Result<XattrAnswer, TreeError> {
        self.expect_xattrs()?;
        if !is_overlay_private(name) {
            for xattr in self.index.xattrs(number)? {
                let (candidate, value) = xattr?;
                if candidate == name {
                    return fit(value.to_vec(), size);
                }
            }
        }
        Err(TreeError::NoSuchXattr(number))
    }

    /// Names of the xattrs of an inode, each with a NUL behind it, for a caller with room for
    /// `size` bytes; 0 asks for the size.
    ///
    /// # Errors
    /// As [`Self::xattr`].
    pub fn xattr_names(&self, number: InodeNumber, size: u32) -> Result<XattrAnswer, TreeError> {
        self.expect_xattrs()?;
        let mut names = Vec::new();
        for xattr in self.index.xattrs(number)? {
            let (name, _) = xattr?;
            if !is_overlay_private(name) {
                names.extend_from_slice(name);
                names.push(0);
            }
        }
        fit(names, size)
    }

    fn expect_xattrs(&self) -> Result<(), TreeError> {
        if self.index.has_xattrs() {
            Ok(())
        } else {
            Err(TreeError::NoXattrs)
        }
    }

    /// Size of the tree, for statfs(2).
    pub fn space(&self) -> Space {
        self.space
    }
}

/// `bytes` for a caller with room for `size`, or their number when it asks for that.
fn fit(bytes: Vec<u8>, size: u32) -> Result<XattrAnswer, TreeError> {
    let needed = bytes.len();
    if size == 0 {
        let needed = u32::try_from(needed).map_err(|_| TreeError::BufferTooSmall {
            needed,
            available: u32::MAX as usize,
        })?;
        return Ok(XattrAnswer::Size(needed));
    }
    if needed > size as usize {
        return Err(TreeError::BufferTooSmall {
            needed,
            available: size as usize,
        });
    }
    Ok(XattrAnswer::Bytes(bytes))
}

#[cfg(test)]
mod tests;
