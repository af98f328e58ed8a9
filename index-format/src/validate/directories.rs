//! Rules of the tree. Inodes are numbered breadth first in the order of their first names; one
//! pass over the entries therefore shows that every inode is reached, that every directory
//! has one name, and that there is no cycle.

use crate::directory::is_legal_name;
use crate::error::FormatError;
use crate::index::Index;
use crate::inode::{FileKind, InodeNumber};
use crate::limit::MAX_DEPTH;
use crate::record::{EntryRecord, InodeRecord, range_of};
use crate::section::SectionId;

/// What the pass has counted for one inode.
#[derive(Clone, Copy, Default)]
struct Count {
    nlink: u32,
    /// Directories above it.
    depth: u32,
}

/// The pass in progress.
struct Pass<'a> {
    inodes: &'a [InodeRecord],
    entries: &'a [EntryRecord],
    counts: Vec<Count>,
    /// The number that the next new inode must have.
    next_inode: u32,
    /// The entry that the next directory must start with.
    next_entry: u32,
}

impl Index {
    /// Names, numbering, kinds, parents, link counts, depth.
    pub(crate) fn check_directories(&self) -> Result<(), FormatError> {
        let inodes = self.records::<InodeRecord>(SectionId::Inodes)?;
        let entries = self.records::<EntryRecord>(SectionId::Entries)?;
        let root = inodes.first().ok_or(FormatError::NoSuchInode(1))?;
        if root.kind != FileKind::Directory.number() || root.parent.get() != 1 {
            let problem = "the root must be a directory and its own parent";
            return Err(FormatError::Inode { inode: 1, problem });
        }
        let mut counts = vec![Count::default(); inodes.len()];
        counts[0].nlink = 2;
        let mut pass = Pass {
            inodes,
            entries,
            counts,
            next_inode: 2,
            next_entry: 0,
        };
        for (record, number) in inodes.iter().zip(1..) {
            if record.kind == FileKind::Directory.number() {
                pass.directory(self, number, record)?;
            }
        }
        if pass.next_entry as usize != entries.len() {
            let section = SectionId::Entries.number();
            return Err(FormatError::Section {
                section,
                problem: "has entries of no directory",
            });
        }
        pass.check_counts()
    }
}

impl Pass<'_> {
    fn directory(
        &mut self,
        index: &Index,
        number: u32,
        record: &InodeRecord,
    ) -> Result<(), FormatError> {
        let wrong = |problem| {
            Err(FormatError::Inode {
                inode: number,
                problem,
            })
        };
        if number >= self.next_inode {
            return wrong("has no name in a directory before it");
        }
        let (first, count) = range_of(record.place);
        if first != self.next_entry {
            return wrong("its entries do not follow those of the directory before it");
        }
        let mut previous: &[u8] = b"";
        for entry in index.entries(InodeNumber(number))? {
            let name = entry?.name;
            let position = self.next_entry;
            let wrong = |problem| {
                Err(FormatError::Entry {
                    entry: position,
                    problem,
                })
            };
            if !is_legal_name(name) {
                return wrong("illegal name");
            }
            if name <= previous {
                return wrong("names are not in ascending order");
            }
            previous = name;
            self.entry(number, position)?;
            self.next_entry += 1;
        }
        debug_assert_eq!(self.next_entry - first, count);
        Ok(())
    }

    /// One entry of directory `parent`: a new inode, or another name of a file.
    fn entry(&mut self, parent: u32, position: u32) -> Result<(), FormatError> {
        let wrong = |problem| FormatError::Entry {
            entry: position,
            problem,
        };
        let entry = &self.entries[position as usize];
        let number = entry.inode.get();
        let record = number
            .checked_sub(1)
            .and_then(|slot| self.inodes.get(slot as usize))
            .ok_or(FormatError::NoSuchInode(number))?;
        let kind = FileKind::from_number(record.kind).ok_or_else(|| wrong("unknown kind"))?;
        if entry.kind != record.kind || entry.reserved != [0; 2] {
            return Err(wrong(
                "is not of its inode's kind, or reserved bytes are set",
            ));
        }
        let slot = number as usize - 1;
        if number == self.next_inode {
            self.next_inode += 1;
            if record.parent.get() != parent {
                return Err(wrong("its inode names another parent"));
            }
            self.counts[slot].depth = self.counts[parent as usize - 1].depth + 1;
        } else if number > self.next_inode {
            return Err(wrong("its inode is numbered out of order"));
        } else if matches!(kind, FileKind::Directory | FileKind::Whiteout) {
            return Err(wrong("a second name of a directory or whiteout"));
        }
        if kind == FileKind::Directory {
            if self.counts[slot].depth > MAX_DEPTH {
                return Err(wrong("is deeper than the limit"));
            }
            self.counts[slot].nlink = 2;
            self.counts[parent as usize - 1].nlink += 1;
        } else {
            self.counts[slot].nlink += 1;
        }
        Ok(())
    }

    fn check_counts(&self) -> Result<(), FormatError> {
        for ((record, count), inode) in self.inodes.iter().zip(&self.counts).zip(1..) {
            if record.nlink.get() != count.nlink || count.nlink == 0 {
                let problem = "its link count is not the number of its names";
                return Err(FormatError::Inode { inode, problem });
            }
        }
        Ok(())
    }
}
