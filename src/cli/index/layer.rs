//! A layer file read by random access through its index.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use index_format::{Index, InodeNumber, LEAF_SIZE, StreamOffset};

use crate::cli::error::{CliError, because};
use brisk_codec::{self, ChunkSource, History};

/// A layer file and its index; decodes a chunk at a time and verifies its leaves.
pub struct IndexedFile {
    index: Index,
    layer: File,
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
        for extent in self.index.extents(inode).map_err(because)? {
            zeros(extent.file_offset.0 - position, &mut give)?;
            self.stream(extent.stream_offset.0, extent.length, &mut give)?;
            position = extent.file_offset.0 + extent.length;
        }
        zeros(size - position, &mut give)
    }

    /// Gives a range of the stream, one leaf after the other.
    fn stream(
        &self,
        start: u64,
        length: u64,
        give: &mut impl FnMut(&[u8]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let end = start + length;
        let mut decoded: Option<(std::ops::Range<u64>, Vec<u8>)> = None;
        let mut leaf = start / LEAF_SIZE;
        while leaf * LEAF_SIZE < end {
            let range = leaf * LEAF_SIZE..((leaf + 1) * LEAF_SIZE).min(self.index.stream_size());
            let bytes = self.leaf(leaf, range.clone(), &mut decoded)?;
            let from = start.saturating_sub(range.start) as usize;
            let to = (end.min(range.end) - range.start) as usize;
            give(&bytes[from..to])?;
            leaf += 1;
        }
        Ok(())
    }

    /// One verified leaf; `decoded` keeps the chunk that was decoded last.
    fn leaf(
        &self,
        leaf: u64,
        range: std::ops::Range<u64>,
        decoded: &mut Option<(std::ops::Range<u64>, Vec<u8>)>,
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
        let expected = self.index.leaf_digest(leaf).map_err(because)?;
        let found = index_format::Digest::of(&bytes);
        if found != expected {
            return Err(CliError::new(format!(
                "leaf {leaf} of layer {} has digest {found}, the index says {expected}",
                self.index.layer_digest()
            ))
            .hint("layer file or index is damaged; build the index again"));
        }
        Ok(bytes)
    }

    fn chunk(&self, position: u64) -> Result<(std::ops::Range<u64>, Vec<u8>), CliError> {
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
