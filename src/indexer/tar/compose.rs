//! One entry from its header block and everything that extends it.

use crate::tar::entry::{Entry, EntryKind, EntryTime};
use crate::tar::error::TarError;
use crate::tar::header::{Header, Layout};
use crate::tar::limit::TarLimits;
use crate::tar::number;
use crate::tar::path;
use crate::tar::pax::{Effective, Records};
use crate::tar::sparse::{self, Run};

/// What the headers before an entry's own say about it.
#[derive(Debug, Default)]
pub struct Extension {
    /// The last local PAX header; as in Go, an earlier one is forgotten.
    pub local: Option<Records>,
    /// GNU long name (`L`). It holds against PAX's path, as in Go.
    pub long_name: Option<Vec<u8>>,
    /// GNU long link target (`K`).
    pub long_link: Option<Vec<u8>>,
}

impl Extension {
    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.local.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

/// Where a regular file's sparse map is.
#[derive(Debug, PartialEq, Eq)]
pub enum SparseMap {
    /// The file is not sparse.
    None,
    /// Complete.
    Known(Vec<Run>),
    /// Begun in the header block, continued in the blocks that follow it.
    Continued(Vec<Run>),
    /// Text in front of the data (PAX 1.0).
    InPayload,
}

/// A regular file before its extents are known.
#[derive(Debug)]
pub struct FileDraft {
    /// The entry, without extents.
    pub entry: Entry,
    /// Start of its header in the stream.
    pub offset: u64,
    /// Size of the file as a reader sees it.
    pub logical: u64,
    /// Bytes in the archive, a map in front of the data included.
    pub physical: u64,
    /// Its sparse map.
    pub map: SparseMap,
}

/// What a header block turned out to be.
#[derive(Debug)]
pub enum Composed {
    /// An entry without payload. `skipped` bytes follow that are no file's.
    Bare { entry: Entry, skipped: u64 },
    /// A regular file.
    File(FileDraft),
    /// A type that is no file, with `physical` bytes that are passed over.
    Unknown {
        path: Vec<u8>,
        type_flag: u8,
        physical: u64,
    },
}

/// Puts an entry together.
pub struct Composer<'a> {
    /// Its own header block.
    pub header: Header<'a>,
    /// Start of the block in the stream.
    pub offset: u64,
    /// What came before it.
    pub extension: &'a Extension,
    /// PAX records, local and global.
    pub records: Effective<'a>,
    /// The reader's limits.
    pub limits: &'a TarLimits,
}

impl Composer<'_> {
    /// Reads the entry.
    ///
    /// # Errors
    /// Any [`TarError`] about fields, paths, attributes and maps.
    pub fn compose(&self) -> Result<Composed, TarError> {
        let (raw_path, flag) = (self.raw_path(), self.header.type_flag());
        let kind = match flag {
            b'0' | b'7' | b'S' => None,
            // Before ustar there was no type for directories.
            0 if raw_path.ends_with(b"/") => Some(EntryKind::Directory),
            0 => None,
            b'1' => Some(EntryKind::Hardlink(path::clean(
                self.raw_link(),
                self.limits.depth,
            )?)),
            b'2' => {
                let target = path::symlink_target(&raw_path, self.raw_link())?;
                Some(EntryKind::Symlink(target))
            }
            b'3' => Some(EntryKind::CharDevice(
                self.device_major()?,
                self.device_minor()?,
            )),
            b'4' => Some(EntryKind::BlockDevice(
                self.device_major()?,
                self.device_minor()?,
            )),
            b'5' | b'D' => Some(EntryKind::Directory),
            b'6' => Some(EntryKind::Fifo),
            type_flag => {
                let physical = self.physical()?;
                return Ok(Composed::Unknown {
                    path: raw_path,
                    type_flag,
                    physical,
                });
            }
        };
        match kind {
            // GNU's dump directory lists its names as payload.
            Some(kind) if flag == b'D' => {
                let skipped = self.physical()?;
                Ok(Composed::Bare {
                    entry: self.entry(&raw_path, kind)?,
                    skipped,
                })
            }
            // The other types have no payload, whatever their size says: so Go reads them.
            Some(kind) => Ok(Composed::Bare {
                entry: self.entry(&raw_path, kind)?,
                skipped: 0,
            }),
            None => self.file(raw_path).map(Composed::File),
        }
    }

    fn raw_path(&self) -> Vec<u8> {
        if let Some(name) = &self.extension.long_name {
            return name.clone();
        }
        self.records
            .get(b"path")
            .map_or_else(|| self.header.name(), <[u8]>::to_vec)
    }

    fn raw_link(&self) -> &[u8] {
        let pax = self.records.get(b"linkpath");
        let long = self.extension.long_link.as_deref();
        long.or(pax).unwrap_or_else(|| self.header.link_name())
    }

    fn entry(&self, raw_path: &[u8], kind: EntryKind) -> Result<Entry, TarError> {
        let mode = self.header.mode().ok_or_else(|| self.bad("mode"))?;
        let path = path::clean(raw_path, self.limits.depth)?;
        let xattrs = self.records.xattrs(&path, self.offset)?;
        Ok(Entry {
            path,
            kind,
            permissions: u16::try_from(mode & 0o7777).expect("12 bits fit 16"),
            uid: self.id(b"uid", self.header.uid(), "owner")?,
            gid: self.id(b"gid", self.header.gid(), "group")?,
            mtime: self.mtime()?,
            xattrs,
        })
    }

    fn bad(&self, field: &'static str) -> TarError {
        TarError::Field {
            offset: self.offset,
            field,
        }
    }

    /// The PAX record `key` or else the header's `field`.
    fn number(&self, key: &[u8], field: Option<i64>, what: &'static str) -> Result<i64, TarError> {
        let pax = self.records.get(key).map(number::decimal);
        pax.unwrap_or(field).ok_or_else(|| self.bad(what))
    }

    /// Owner or group. Old writers store -2 (nobody) as a negative number, which chown takes as
    /// 2^32 - 2. It takes -1 for "leave it", and then the file stays root's.
    fn id(&self, key: &[u8], field: Option<i64>, what: &'static str) -> Result<u32, TarError> {
        let id = self.number(key, field, what)?;
        let unsigned = u32::try_from(id).ok();
        let id = unsigned.or_else(|| i32::try_from(id).ok().map(i32::cast_unsigned));
        let id = id.ok_or_else(|| self.bad(what))?;
        Ok(if id == u32::MAX { 0 } else { id })
    }

    fn mtime(&self) -> Result<EntryTime, TarError> {
        let time = match self.records.get(b"mtime") {
            Some(text) => number::time(text),
            None => self.header.mtime().map(|seconds| (seconds, 0)),
        };
        let (seconds, nanoseconds) = time.ok_or_else(|| self.bad("modification time"))?;
        Ok(EntryTime {
            seconds,
            nanoseconds,
        })
    }

    fn device_major(&self) -> Result<u32, TarError> {
        self.device_number(b"SCHILY.devmajor", self.header.device_major())
    }

    fn device_minor(&self) -> Result<u32, TarError> {
        self.device_number(b"SCHILY.devminor", self.header.device_minor())
    }

    fn device_number(&self, key: &[u8], field: Option<i64>) -> Result<u32, TarError> {
        let number = self.number(key, field, "device number")?;
        u32::try_from(number).map_err(|_| self.bad("device number"))
    }

    /// Bytes that follow the header.
    fn physical(&self) -> Result<u64, TarError> {
        let size = self.number(b"size", self.header.size(), "size")?;
        u64::try_from(size).map_err(|_| self.bad("size"))
    }

    fn file(&self, mut raw_path: Vec<u8>) -> Result<FileDraft, TarError> {
        let physical = self.physical()?;
        let (logical, map) = if self.header.type_flag() == b'S' {
            self.old_gnu_map()?
        } else {
            let sparse = self.pax_map()?;
            if let (Some(_), Some(name)) = (&sparse, self.records.get(b"GNU.sparse.name")) {
                raw_path = name.to_vec();
            }
            sparse.unwrap_or((physical, SparseMap::None))
        };
        let kind = EntryKind::Regular {
            size: logical,
            extents: Vec::new(),
            sparse: map != SparseMap::None,
        };
        let entry = self.entry(&raw_path, kind)?;
        Ok(FileDraft {
            entry,
            offset: self.offset,
            logical,
            physical,
            map,
        })
    }

    fn bad_map(&self, what: &'static str) -> TarError {
        TarError::Sparse {
            offset: self.offset,
            what,
        }
    }

    fn old_gnu_map(&self) -> Result<(u64, SparseMap), TarError> {
        // star's sparse files have the same type and another layout.
        if self.header.layout() != Layout::Gnu {
            return Err(self.bad_map("its layout is not GNU's"));
        }
        let size = self
            .header
            .gnu_real_size()
            .and_then(|size| u64::try_from(size).ok());
        let logical = size.ok_or_else(|| self.bad("real size"))?;
        let fields = self.header.gnu_sparse();
        let mut runs = Vec::new();
        fields
            .append_to(&mut runs)
            .ok_or_else(|| self.bad_map("it holds no number"))?;
        let map = if fields.is_extended {
            SparseMap::Continued(runs)
        } else {
            SparseMap::Known(runs)
        };
        Ok((logical, map))
    }

    /// The map that PAX records give or announce, and the logical size. `None` for a file that
    /// is not sparse, or in a version of the form that does not exist: Go reads that as plain.
    fn pax_map(&self) -> Result<Option<(u64, SparseMap)>, TarError> {
        let records = self.records;
        let map = match (
            records.get(b"GNU.sparse.major"),
            records.get(b"GNU.sparse.minor"),
        ) {
            (Some(b"1"), Some(b"0")) => SparseMap::InPayload,
            (Some(b"0"), Some(b"0" | b"1")) | (None, None) => {
                let numbers = records.sparse_numbers(self.limits.sparse_extents);
                match numbers.map_err(|what| self.bad_map(what))? {
                    None => return Ok(None),
                    Some(numbers) => SparseMap::Known(
                        sparse::runs_from_numbers(&numbers).ok_or_else(|| self.bad_map("odd"))?,
                    ),
                }
            }
            _ => return Ok(None),
        };
        let size = records
            .get(b"GNU.sparse.size")
            .or(records.get(b"GNU.sparse.realsize"));
        let logical = match size {
            None => self.physical()?,
            Some(size) => number::unsigned(size).ok_or_else(|| self.bad("real size"))?,
        };
        Ok(Some((logical, map)))
    }
}
