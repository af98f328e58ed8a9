//! Directory streams with positions that stay good for the life of the mount.

use index_format::{Entries, Index, Inode};

use crate::error::TreeError;

/// Stream position of `.`, with which every directory begins.
const DOT: u64 = 0;
/// Stream position of `..`.
const DOT_DOT: u64 = 1;
/// Stream position of the index's first entry.
const FIRST: u64 = 2;

/// An entry of a directory stream.
#[derive(Clone, Debug)]
pub struct DirectoryEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// What it names.
    pub inode: Inode,
    /// Position from which the stream goes on behind this entry.
    pub next: u64,
}

/// Entries of a directory: `.`, `..`, then those of the index in their order. The position of an
/// entry is its position in the index plus two, so any server of the tree can go on anywhere.
pub struct Directory<'a> {
    index: &'a Index,
    inode: Inode,
    entries: Entries<'a>,
    at: u64,
}

impl<'a> Directory<'a> {
    pub(crate) fn new(index: &'a Index, inode: Inode, offset: u64) -> Result<Self, TreeError> {
        let entries = index.entries(inode.number)?;
        Ok(Self {
            index,
            inode,
            entries,
            at: offset,
        })
    }

    /// The entry at the current position, `None` behind the last.
    fn entry(&self) -> Result<Option<(&'a [u8], Inode)>, TreeError> {
        match self.at {
            DOT => Ok(Some((b".", self.inode))),
            DOT_DOT => Ok(Some((b"..", self.index.inode(self.inode.parent)?))),
            at => {
                let Ok(position) = u32::try_from(at - FIRST) else {
                    return Ok(None);
                };
                let Some(entry) = self.entries.get(position)? else {
                    return Ok(None);
                };
                Ok(Some((entry.name, self.index.inode(entry.inode)?)))
            }
        }
    }
}

impl<'a> Iterator for Directory<'a> {
    type Item = Result<DirectoryEntry<'a>, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let found = self.entry();
            // Behind u32::MAX there is no entry, so the position never gets near its end.
            self.at = self.at.saturating_add(1);
            match found {
                Ok(Some((_, inode))) if inode.kind.is_marker() => {}
                Ok(Some((name, inode))) => {
                    return Some(Ok(DirectoryEntry {
                        name,
                        inode,
                        next: self.at,
                    }));
                }
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
