//! Rules of single inodes and of the tables that they refer to.

use crate::error::FormatError;
use crate::header::IndexKind;
use crate::index::Index;
use crate::inode::{FileKind, InodeNumber};
use crate::limit::{
    MAX_FILE_SIZE, MAX_STREAM_SIZE, MAX_TARGET_LENGTH, MAX_XATTR_LIST_LENGTH,
    MAX_XATTR_NAME_LENGTH, MAX_XATTR_VALUE_LENGTH,
};
use crate::record::{
    ExtentRecord, FLAG_IMPLICIT, FLAG_OPAQUE, FLAG_SPARSE, InodeRecord, KNOWN_FLAGS, LayerRecord,
    XattrRecord, XattrSetRecord, range_of,
};
use crate::section::SectionId;
use crate::xattr::is_overlay_private;

impl Index {
    /// The layers of a merged index.
    pub(crate) fn check_layers(&self) -> Result<(), FormatError> {
        let layers = self.layers()?;
        let records = self.records::<LayerRecord>(SectionId::Layers)?;
        for ((layer, record), number) in layers.iter().zip(records).zip(0..) {
            let wrong = |problem| {
                Err(FormatError::Record {
                    section: SectionId::Layers,
                    record: number,
                    problem,
                })
            };
            if layer.stream_size > MAX_STREAM_SIZE {
                return wrong("its stream is larger than the limit");
            }
            if record.reserved != [0; 7] {
                return wrong("reserved bytes are set");
            }
        }
        Ok(())
    }

    /// The xattr sets: one after the other, names sorted, sizes as the kernel has them.
    pub(crate) fn check_xattrs(&self) -> Result<(), FormatError> {
        let mut next = 0;
        for (set, number) in self
            .records::<XattrSetRecord>(SectionId::XattrSets)?
            .iter()
            .zip(0u32..)
        {
            let wrong = |problem| FormatError::Record {
                section: SectionId::XattrSets,
                record: number.into(),
                problem,
            };
            if set.first.get() != next || set.count.get() == 0 {
                return Err(wrong(
                    "does not start where the set before it ends, or is empty",
                ));
            }
            let records = self.xattr_set(number)?;
            next = next.saturating_add(set.count.get());
            self.check_xattr_set(records).map_err(|error| match error {
                SetError::Format(error) => error,
                SetError::Rule(problem) => wrong(problem),
            })?;
        }
        let total = self.records::<XattrRecord>(SectionId::Xattrs)?.len();
        if next as usize != total {
            let section = SectionId::Xattrs.number();
            return Err(FormatError::Section {
                section,
                problem: "has records of no set",
            });
        }
        Ok(())
    }

    fn check_xattr_set(&self, records: &[XattrRecord]) -> Result<(), SetError> {
        let mut previous: &[u8] = b"";
        let mut list_length = 0;
        for record in records {
            let name = self.pool_bytes(record.name_offset.get(), record.name_length.get())?;
            let value = self.pool_bytes(record.value_offset.get(), record.value_length.get())?;
            if name <= previous {
                return Err(SetError::Rule("names are not in ascending order"));
            }
            if name.len() > MAX_XATTR_NAME_LENGTH || name.contains(&0) {
                return Err(SetError::Rule("a name is too long or contains NUL"));
            }
            if value.len() > MAX_XATTR_VALUE_LENGTH {
                return Err(SetError::Rule("a value is too long"));
            }
            if is_overlay_private(name) {
                return Err(SetError::Rule("an xattr of overlayfs itself"));
            }
            list_length += name.len() + 1;
            if list_length > MAX_XATTR_LIST_LENGTH {
                return Err(SetError::Rule("the names are too long together"));
            }
            previous = name;
        }
        Ok(())
    }

    /// Every inode by itself.
    pub(crate) fn check_inodes(&self) -> Result<(), FormatError> {
        let records = self.records::<InodeRecord>(SectionId::Inodes)?;
        let streams = self.stream_sizes()?;
        let set_count = self.records::<XattrSetRecord>(SectionId::XattrSets)?.len();
        let mut next_extent = 0;
        for (record, number) in records.iter().zip(1u32..) {
            let wrong = |problem| FormatError::Inode {
                inode: number,
                problem,
            };
            let kind = FileKind::from_number(record.kind).ok_or_else(|| wrong("unknown kind"))?;
            self.check_attributes(record, kind).map_err(wrong)?;
            if record.xattr_set.get() as usize > set_count {
                return Err(wrong("its xattr set does not exist"));
            }
            let stream_size = *streams
                .get(record.layer.get() as usize)
                .ok_or_else(|| wrong("its layer does not exist"))?;
            if record.flags & FLAG_SPARSE != 0 {
                let (first, count) = range_of(record.place);
                if first != next_extent {
                    return Err(wrong(
                        "its extents do not follow those of the file before it",
                    ));
                }
                next_extent = next_extent.saturating_add(count);
                check_extents(record, self.extent_records(record)?, stream_size).map_err(wrong)?;
            } else {
                self.check_place(record, kind, number, stream_size)?;
            }
        }
        if next_extent as usize != self.records::<ExtentRecord>(SectionId::Extents)?.len() {
            let section = SectionId::Extents.number();
            return Err(FormatError::Section {
                section,
                problem: "has records of no file",
            });
        }
        Ok(())
    }

    /// The stream sizes that inodes' layers refer to.
    fn stream_sizes(&self) -> Result<Vec<u64>, FormatError> {
        Ok(match self.kind() {
            IndexKind::Layer => vec![self.stream_size()],
            IndexKind::Merged => {
                let layers = self.layers()?;
                // The root of an image without layers is of a layer 0 that is not there.
                let sizes: Vec<u64> = layers.iter().map(|layer| layer.stream_size).collect();
                if sizes.is_empty() { vec![0] } else { sizes }
            }
        })
    }

    fn check_attributes(&self, record: &InodeRecord, kind: FileKind) -> Result<(), &'static str> {
        if record.permissions.get() > 0o7777 {
            return Err("permissions beyond 07777");
        }
        if record.mtime_nanoseconds.get() >= 1_000_000_000 {
            return Err("too many nanoseconds");
        }
        if record.flags & !KNOWN_FLAGS != 0 {
            return Err("unknown flags");
        }
        if record.flags & (FLAG_OPAQUE | FLAG_IMPLICIT) != 0 && kind != FileKind::Directory {
            return Err("a flag of directories on something else");
        }
        if record.flags & FLAG_SPARSE != 0 && kind != FileKind::Regular {
            return Err("only regular files are sparse");
        }
        if self.kind() == IndexKind::Merged && (kind.is_marker() || record.flags & FLAG_OPAQUE != 0)
        {
            return Err("a marker of layers in a merged index");
        }
        Ok(())
    }

    /// The place of anything but a sparse file, and the size that goes with it. Directories'
    /// ranges are checked with their entries.
    fn check_place(
        &self,
        record: &InodeRecord,
        kind: FileKind,
        number: u32,
        stream_size: u64,
    ) -> Result<(), FormatError> {
        let wrong = |problem| {
            Err(FormatError::Inode {
                inode: number,
                problem,
            })
        };
        let size = record.size.get();
        match kind {
            FileKind::Regular => {
                let end = record.place.get().checked_add(size);
                if end.is_none_or(|end| end > stream_size) {
                    return wrong("its data ends past the stream");
                }
                return Ok(());
            }
            FileKind::Symlink | FileKind::ForeignLink => {
                let target = self.symlink_target(InodeNumber(number))?;
                let legal = (1..=MAX_TARGET_LENGTH).contains(&target.len());
                if !legal || target.contains(&0) {
                    return wrong("its target is empty, too long or contains NUL");
                }
                if kind == FileKind::Symlink {
                    if size != target.len() as u64 {
                        return wrong("its size is not that of its target");
                    }
                    return Ok(());
                }
            }
            FileKind::CharDevice if record.place.get() == 0 => {
                return wrong("character device 0:0 is a whiteout");
            }
            FileKind::Fifo | FileKind::Socket | FileKind::Whiteout if record.place.get() != 0 => {
                return wrong("has a place though it needs none");
            }
            _ => {}
        }
        if size != 0 {
            return wrong("has a size though it has no content");
        }
        Ok(())
    }
}

/// A broken rule of an xattr set, or a reference out of range.
enum SetError {
    Format(FormatError),
    Rule(&'static str),
}

impl From<FormatError> for SetError {
    fn from(error: FormatError) -> SetError {
        SetError::Format(error)
    }
}

/// The extents of a sparse file: in order, apart, inside the file and the stream.
fn check_extents(
    inode: &InodeRecord,
    records: &[ExtentRecord],
    stream_size: u64,
) -> Result<(), &'static str> {
    let size = inode.size.get();
    if size > MAX_FILE_SIZE {
        return Err("is larger than a file can be");
    }
    let mut end = 0;
    for record in records {
        let length = record.length.get();
        if length == 0 || record.file_offset.get() < end {
            return Err("its extents are empty or out of order");
        }
        end = record
            .file_offset
            .get()
            .checked_add(length)
            .filter(|end| *end <= size)
            .ok_or("an extent ends past the file")?;
        let stream_end = record.stream_offset.get().checked_add(length);
        if stream_end.is_none_or(|end| end > stream_size) {
            return Err("an extent ends past the stream");
        }
    }
    Ok(())
}
