//! A layer file read by random access through its index.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use index_format::{Index, InodeNumber, LEAF_SIZE, StreamOffset};

use crate::cli::error::{CliError, because};
use crate::cli::index::passage::Passage;
use brisk_codec::{self, ChunkSource, History, MAX_CHUNK_LENGTH};

/// Compressed bytes of the longest chunk that is decoded on its own, had it been stored
/// uncompressed, with room for the headers of its blocks.
const MAX_COMPRESSED_CHUNK: u64 = MAX_CHUNK_LENGTH + (1 << 20);

/// A layer file and its index; decodes a chunk at a time and verifies its leaves.
pub struct IndexedFile {
    index: Index,
    layer: File,
    path: PathBuf,
}

/// Where the reading of one file has come to.
#[derive(Default)]
struct Place {
    /// The chunk decoded last.
    chunk: Option<(Range<u64>, Vec<u8>)>,
    /// The way through chunks that cannot be decoded on their own.
    passage: Option<Passage>,
    /// The leaf given last.
    leaf: Option<(u64, Vec<u8>)>,
}

impl IndexedFile {
    /// Opens both files; the index is validated.
    pub fn open(index: &Path, layer: &Path) -> Result<Self, CliError> {
        let layer_error = |e: std::io::Error| CliError::new(format!("{}: {e}", layer.display()));
        let index = open_index(index)?;
        let layer_file = File::open(layer).map_err(layer_error)?;
        let size = layer_file.metadata().map_err(layer_error)?.len();
        if size != index.compressed_size() {
            return Err(CliError::new(format!(
                "{} has {size} bytes, the index is of a layer with {}",
                layer.display(),
                index.compressed_size()
            )));
        }
        Ok(IndexedFile {
            index,
            layer: layer_file,
            path: layer.to_path_buf(),
        })
    }

    /// The index.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Gives the content of a regular file, piece by piece, verified.
    pub fn read(
        &self,
        inode: InodeNumber,
        mut give: impl FnMut(&[u8]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let size = self.index.inode(inode).map_err(because)?.size;
        let mut position = 0;
        let mut place = Place::default();
        for extent in self.index.extents(inode).map_err(because)? {
            zeros(extent.file_offset.0 - position, &mut give)?;
            let start = extent.stream_offset.0;
            self.stream(start, extent.length, &mut place, &mut give)?;
            position = extent.file_offset.0 + extent.length;
        }
        zeros(size - position, &mut give)
    }

    /// Gives a range of the stream, one leaf after the other.
    fn stream(
        &self,
        start: u64,
        length: u64,
        place: &mut Place,
        give: &mut impl FnMut(&[u8]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let end = start + length;
        let mut leaf = start / LEAF_SIZE;
        while leaf * LEAF_SIZE < end {
            let range = leaf * LEAF_SIZE..((leaf + 1) * LEAF_SIZE).min(self.index.stream_size());
            let bytes = self.leaf(leaf, range.clone(), place)?;
            let from = start.saturating_sub(range.start) as usize;
            let to = (end.min(range.end) - range.start) as usize;
            give(&bytes[from..to])?;
            leaf += 1;
        }
        Ok(())
    }

    /// One verified leaf.
    fn leaf(&self, leaf: u64, range: Range<u64>, place: &mut Place) -> Result<Vec<u8>, CliError> {
        // Two extents of a file can share a leaf.
        if let Some((last, bytes)) = &place.leaf
            && *last == leaf
        {
            return Ok(bytes.clone());
        }
        let bytes = match self.is_divisible(&range)? {
            true => self.decoded_leaf(range, &mut place.chunk)?,
            false => self.streamed_leaf(leaf, &mut place.passage)?,
        };
        let expected = self.index.leaf_digest(leaf).map_err(because)?;
        let found = index_format::Digest::of(&bytes);
        if found != expected {
            return Err(CliError::new(format!(
                "leaf {leaf} of layer {} has digest {found}, the index says {expected}",
                self.index.layer_digest()
            ))
            .hint("layer file or index is damaged; build the index again"));
        }
        place.leaf = Some((leaf, bytes.clone()));
        Ok(bytes)
    }

    /// Whether the chunks that yield a range can be decoded on their own.
    fn is_divisible(&self, range: &Range<u64>) -> Result<bool, CliError> {
        let mut position = range.start;
        while position < range.end {
            let at = StreamOffset(position);
            let number = self.index.chunk_containing(at).map_err(because)?;
            let chunk = self.index.chunk(number).map_err(because)?;
            let compressed = chunk.compressed.end.saturating_sub(chunk.compressed.start);
            if chunk.stream.end - chunk.stream.start > MAX_CHUNK_LENGTH
                || compressed > MAX_COMPRESSED_CHUNK
            {
                return Ok(false);
            }
            position = chunk.stream.end;
        }
        Ok(true)
    }

    fn streamed_leaf(&self, leaf: u64, passage: &mut Option<Passage>) -> Result<Vec<u8>, CliError> {
        let mut ahead = match passage.take().filter(|passage| passage.reaches(leaf)) {
            Some(passage) => passage,
            None => Passage::start(&self.index, &self.layer, self.path.clone(), leaf)?,
        };
        let bytes = ahead.leaf(leaf)?;
        *passage = Some(ahead);
        Ok(bytes)
    }

    /// The bytes of a range, decoded chunk by chunk; `decoded` keeps the last one.
    fn decoded_leaf(
        &self,
        range: Range<u64>,
        decoded: &mut Option<(Range<u64>, Vec<u8>)>,
    ) -> Result<Vec<u8>, CliError> {
        let mut bytes = Vec::with_capacity(LEAF_SIZE as usize);
        let mut position = range.start;
        while position < range.end {
            if decoded
                .as_ref()
                .is_none_or(|(have, _)| !have.contains(&position))
            {
                *decoded = Some(self.chunk(position)?);
            }
            let Some((have, chunk)) = decoded.as_ref() else {
                continue;
            };
            let from = (position - have.start) as usize;
            let to = (range.end.min(have.end) - have.start) as usize;
            bytes.extend_from_slice(&chunk[from..to]);
            position = range.end.min(have.end);
        }
        Ok(bytes)
    }

    fn chunk(&self, position: u64) -> Result<(Range<u64>, Vec<u8>), CliError> {
        let number = self
            .index
            .chunk_containing(StreamOffset(position))
            .map_err(because)?;
        let chunk = self.index.chunk(number).map_err(because)?;
        let mut compressed = vec![0; (chunk.compressed.end - chunk.compressed.start) as usize];
        self.layer
            .read_exact_at(&mut compressed, chunk.compressed.start)
            .map_err(because)?;
        let checkpoint = self.index.checkpoint(&chunk).map_err(because)?;
        let history = if checkpoint.is_empty() {
            History::Free
        } else {
            History::Checkpoint(checkpoint)
        };
        let source = ChunkSource {
            compressed: &compressed,
            bit: chunk.bit,
            stream_length: chunk.stream.end - chunk.stream.start,
        };
        let bytes = brisk_codec::decode_chunk(self.index.compression(), &source, history)
            .map_err(because)?;
        Ok((chunk.stream, bytes))
    }
}

fn zeros(
    mut length: u64,
    give: &mut impl FnMut(&[u8]) -> Result<(), CliError>,
) -> Result<(), CliError> {
    static ZEROS: [u8; 65536] = [0; 65536];
    while length > 0 {
        let step = length.min(ZEROS.len() as u64);
        give(&ZEROS[..step as usize])?;
        length -= step;
    }
    Ok(())
}

/// Opens and validates an index file.
pub fn open_index(path: &Path) -> Result<Index, CliError> {
    let bytes = std::fs::read(path)
        .map_err(|error| CliError::new(format!("{}: {error}", path.display())))?;
    let on_format = |error: index_format::FormatError| {
        CliError::new(format!("{}: {}", path.display(), because(error)))
            .hint("it is no index that this version reads; build it again with `brisk index build`")
    };
    let index = Index::open(bytes).map_err(on_format)?;
    index.validate().map_err(on_format)?;
    Ok(index)
}
