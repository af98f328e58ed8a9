//! A range of a stream that cannot be evicted while it is read.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::LayerFile;

/// Verified bytes on disk. They stay there until this is dropped; without it a leaf punched
/// between the look at the bitmap and the read would be served as zeros.
#[derive(Debug)]
pub struct Pinned {
    /// Keeps the layer in use: the pins live in its memory.
    file: Arc<LayerFile>,
    leaves: Range<u64>,
    range: Range<u64>,
}

impl Pinned {
    /// The leaves are pinned already; this takes the pin over.
    pub(super) fn new(file: Arc<LayerFile>, leaves: Range<u64>, range: Range<u64>) -> Pinned {
        Pinned {
            file,
            leaves,
            range,
        }
    }

    /// The range of the stream that may be read.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Fills `buffer` with the stream's bytes from `offset` on.
    ///
    /// # Errors
    /// The disk's. Bytes outside the pinned range are refused as invalid input.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if offset < self.range.start || end.is_none_or(|end| end > self.range.end) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "read outside the pin",
            ));
        }
        self.file.stream().read_at(buffer, offset)
    }

    /// Lets the kernel forget the pages of the range: the reader keeps its own copy of what
    /// was just answered.
    pub fn drop_pages(&self) {
        self.file.stream().drop_pages(self.range());
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.file.stream().table().unpin(&self.leaves);
    }
}
