//! Where a file's bytes are in its layer's stream.

use crate::error::FormatError;
use crate::index::{Index, range};
use crate::inode::{FileKind, InodeNumber};
use crate::offset::{FileOffset, StreamOffset};
use crate::record::{ExtentRecord, FLAG_SPARSE, InodeRecord, range_of};
use crate::section::SectionId;

/// A run of a file's bytes that lies in one piece in the stream. What no extent of a file
/// covers is zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Where the run starts in the file.
    pub file_offset: FileOffset,
    /// Where it starts in the layer's stream.
    pub stream_offset: StreamOffset,
    /// Bytes, at least one.
    pub length: u64,
}

impl Index {
    /// Where a regular file's bytes are in its layer's stream, in the file's order. What no
    /// extent covers is zeros. An empty file has none, an ordinary one has one.
    ///
    /// # Errors
    /// An inode that is no regular file, or a damaged record.
    pub fn extents(&self, inode: InodeNumber) -> Result<Vec<Extent>, FormatError> {
        let record = self.inode_record(inode)?;
        if record.kind != FileKind::Regular.number() {
            return Err(FormatError::NotRegular(inode.0));
        }
        if record.flags & FLAG_SPARSE == 0 {
            let whole = Extent {
                file_offset: FileOffset(0),
                stream_offset: StreamOffset(record.place.get()),
                length: record.size.get(),
            };
            return Ok(if whole.length == 0 {
                Vec::new()
            } else {
                vec![whole]
            });
        }
        let records = self.extent_records(record)?;
        Ok(records
            .iter()
            .map(|record| Extent {
                file_offset: FileOffset(record.file_offset.get()),
                stream_offset: StreamOffset(record.stream_offset.get()),
                length: record.length.get(),
            })
            .collect())
    }

    /// The extent records of a sparse file.
    pub(crate) fn extent_records(
        &self,
        record: &InodeRecord,
    ) -> Result<&[ExtentRecord], FormatError> {
        let (first, count) = range_of(record.place);
        range(self.records(SectionId::Extents)?, first, count, "extent")
    }
}
