//! The push parser: a state machine fed with slices of the stream, cut anywhere.

use crate::indexer::tar::compose::{Composed, Composer, Extension, FileDraft, SparseMap};
use crate::indexer::tar::entry::{DataExtent, Entry, EntryKind};
use crate::indexer::tar::error::{TarError, Warning};
use crate::indexer::tar::header::{BLOCK, Header};
use crate::indexer::tar::limit::{MAX_GLOBAL_RECORDS, TarLimits};
use crate::indexer::tar::number;
use crate::indexer::tar::pax::{Effective, Records};
use crate::indexer::tar::sparse::{self, MapText, SparseFields};

/// Takes what the reader finds, in the order of the stream. Framing and payload together are
/// exactly the bytes fed in.
pub trait Visitor {
    /// What the visitor fails with; the reader's own errors are among it.
    type Error: From<TarError>;

    /// Bytes that are no file's data: headers, maps, padding, skipped entries, the end.
    ///
    /// # Errors
    /// Ends the reading.
    fn framing(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// An entry. For a regular file with extents its payload follows.
    ///
    /// # Errors
    /// Ends the reading.
    fn entry(&mut self, entry: Entry) -> Result<(), Self::Error>;

    /// The next bytes of the last entry's extents, back to back.
    ///
    /// # Errors
    /// Ends the reading.
    fn payload(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Something odd.
    fn warning(&mut self, warning: Warning);
}

/// A header whose content describes other entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MetaKind {
    Local,
    Global,
    LongName,
    LongLink,
}

#[derive(Debug)]
enum State {
    /// Collecting a header block.
    Header,
    /// Collecting a block that continues an old GNU sparse map.
    Extension(Box<FileDraft>),
    /// Collecting the content of an extended header.
    Meta {
        kind: MetaKind,
        offset: u64,
        content: Vec<u8>,
        remaining: u64,
    },
    /// Reading the map in front of a PAX 1.0 sparse file's data.
    Map { draft: Box<FileDraft>, map: MapText },
    /// Passing over the rest of the map's last block.
    MapPadding {
        draft: Box<FileDraft>,
        remaining: u64,
    },
    /// In a file's data.
    Payload { remaining: u64, padding: u64 },
    /// In data that is no file's.
    Skipped { remaining: u64, padding: u64 },
    /// Between data and the next block.
    Padding { remaining: u64 },
    /// Behind the end mark.
    End,
    /// An error was returned.
    Failed,
}

/// Reads a tar stream that is pushed in. Nothing is buffered but the header being read.
#[derive(Debug)]
pub struct TarReader {
    limits: TarLimits,
    state: State,
    /// Bytes consumed so far.
    position: u64,
    block: Box<[u8; BLOCK]>,
    block_filled: usize,
    after_zero_block: bool,
    globals: Records,
    extension: Extension,
    headers: u64,
    sparse_extents: u64,
}

/// Bytes from `size` up to the next whole block.
fn padding_of(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// Splits off as much of `bytes` as `remaining` covers, and counts it down.
fn split_counted<'b>(bytes: &'b [u8], remaining: &mut u64) -> (&'b [u8], &'b [u8]) {
    let covered = usize::try_from(*remaining)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    *remaining -= covered as u64;
    bytes.split_at(covered)
}

impl TarReader {
    /// A reader at the start of a stream.
    pub fn new(limits: TarLimits) -> Self {
        Self {
            limits,
            state: State::Header,
            position: 0,
            block: Box::new([0; BLOCK]),
            block_filled: 0,
            after_zero_block: false,
            globals: Records::default(),
            extension: Extension::default(),
            headers: 0,
            sparse_extents: 0,
        }
    }

    /// Feeds the next bytes of the stream.
    ///
    /// # Errors
    /// A [`TarError`], or the visitor's own. The reader is of no use afterwards.
    pub fn push<V: Visitor>(&mut self, mut bytes: &[u8], visitor: &mut V) -> Result<(), V::Error> {
        while !bytes.is_empty() {
            let state = std::mem::replace(&mut self.state, State::Failed);
            let rest;
            (self.state, rest) = self.step(state, bytes, visitor)?;
            self.position += (bytes.len() - rest.len()) as u64;
            bytes = rest;
        }
        Ok(())
    }

    /// Says that the stream has ended. The end mark may be missing, and so may the last entry's
    /// padding: Go's reader accepts that, and archives without them exist.
    ///
    /// # Errors
    /// [`TarError::Truncated`] inside a header or its data.
    pub fn finish<V: Visitor>(self, visitor: &mut V) -> Result<(), V::Error> {
        let inside = match self.state {
            State::Header if self.block_filled > 0 => "a header block",
            State::Header | State::Padding { .. } | State::End => {
                if !self.extension.is_empty() {
                    visitor.warning(Warning::DanglingHeader);
                }
                return Ok(());
            }
            State::Extension(_) | State::Map { .. } | State::MapPadding { .. } => "a sparse map",
            State::Meta { .. } => "an extended header",
            State::Payload { .. } | State::Skipped { .. } => "the data of an entry",
            State::Failed => return Err(TarError::Failed.into()),
        };
        Err(TarError::Truncated {
            offset: self.position,
            inside,
        }
        .into())
    }

    /// Consumes at least one byte; returns the next state and what is left.
    fn step<'b, V: Visitor>(
        &mut self,
        state: State,
        bytes: &'b [u8],
        visitor: &mut V,
    ) -> Result<(State, &'b [u8]), V::Error> {
        match state {
            State::Header => {
                let (complete, rest) = self.collect(bytes, visitor)?;
                let next = if complete {
                    self.header(rest, bytes, visitor)?
                } else {
                    State::Header
                };
                Ok((next, rest))
            }
            State::Extension(draft) => {
                let (complete, rest) = self.collect(bytes, visitor)?;
                if !complete {
                    return Ok((State::Extension(draft), rest));
                }
                let data_start = self.position + (bytes.len() - rest.len()) as u64;
                Ok((self.continue_map(draft, data_start, visitor)?, rest))
            }
            State::Meta {
                kind,
                offset,
                mut content,
                mut remaining,
            } => {
                let (taken, rest) = split_counted(bytes, &mut remaining);
                visitor.framing(taken)?;
                content.extend_from_slice(taken);
                if remaining > 0 {
                    return Ok((
                        State::Meta {
                            kind,
                            offset,
                            content,
                            remaining,
                        },
                        rest,
                    ));
                }
                let padding = padding_of(content.len() as u64);
                self.extend(kind, offset, &content, visitor)?;
                Ok((pad(padding), rest))
            }
            State::Map { draft, map } => self.map_text(draft, map, bytes, visitor),
            State::MapPadding {
                draft,
                mut remaining,
            } => {
                let (taken, rest) = split_counted(bytes, &mut remaining);
                visitor.framing(taken)?;
                if remaining > 0 {
                    return Ok((State::MapPadding { draft, remaining }, rest));
                }
                let data_start = self.position + taken.len() as u64;
                Ok((self.file(*draft, data_start, visitor)?, rest))
            }
            State::Payload {
                mut remaining,
                padding,
            } => {
                let (taken, rest) = split_counted(bytes, &mut remaining);
                visitor.payload(taken)?;
                Ok((payload(remaining, padding), rest))
            }
            State::Skipped {
                mut remaining,
                padding,
            } => {
                let (taken, rest) = split_counted(bytes, &mut remaining);
                visitor.framing(taken)?;
                Ok((skip(remaining, padding), rest))
            }
            State::Padding { mut remaining } => {
                let (taken, rest) = split_counted(bytes, &mut remaining);
                visitor.framing(taken)?;
                Ok((pad(remaining), rest))
            }
            State::End => {
                visitor.framing(bytes)?;
                Ok((State::End, &[]))
            }
            State::Failed => Err(TarError::Failed.into()),
        }
    }

    /// Fills the block buffer. Returns whether it is complete.
    fn collect<'b, V: Visitor>(
        &mut self,
        bytes: &'b [u8],
        visitor: &mut V,
    ) -> Result<(bool, &'b [u8]), V::Error> {
        let wanted = (BLOCK - self.block_filled).min(bytes.len());
        let (taken, rest) = bytes.split_at(wanted);
        visitor.framing(taken)?;
        self.block[self.block_filled..self.block_filled + wanted].copy_from_slice(taken);
        self.block_filled = (self.block_filled + wanted) % BLOCK;
        Ok((self.block_filled == 0, rest))
    }

    /// Acts on a complete header block.
    fn header<V: Visitor>(
        &mut self,
        rest: &[u8],
        bytes: &[u8],
        visitor: &mut V,
    ) -> Result<State, V::Error> {
        let data_start = self.position + (bytes.len() - rest.len()) as u64;
        let offset = data_start - BLOCK as u64;
        let block = self.block.clone();
        let header = Header(&block);
        if header.is_zero() {
            let ended = std::mem::replace(&mut self.after_zero_block, true);
            return Ok(if ended { State::End } else { State::Header });
        }
        if self.after_zero_block {
            return Err(TarError::LoneZeroBlock { offset }.into());
        }
        if !header.checksum_holds() {
            return Err(TarError::Checksum { offset }.into());
        }
        self.headers += 1;
        if self.headers > self.limits.entries {
            let (limit, of) = (self.limits.entries, "headers in one layer");
            return Err(TarError::Limit { offset, limit, of }.into());
        }
        let meta = match header.type_flag() {
            b'x' => MetaKind::Local,
            b'g' => MetaKind::Global,
            b'L' => MetaKind::LongName,
            b'K' => MetaKind::LongLink,
            _ => return self.entry(header, offset, data_start, visitor),
        };
        self.meta(meta, header, offset, visitor)
    }

    fn meta<V: Visitor>(
        &mut self,
        kind: MetaKind,
        header: Header<'_>,
        offset: u64,
        visitor: &mut V,
    ) -> Result<State, V::Error> {
        let size = header.size().and_then(|size| u64::try_from(size).ok());
        let remaining = size.ok_or(TarError::Field {
            offset,
            field: "size",
        })?;
        let limit = self.limits.extended_header;
        if remaining > limit {
            let of = "bytes in an extended header";
            return Err(TarError::Limit { offset, limit, of }.into());
        }
        if remaining == 0 {
            self.extend(kind, offset, &[], visitor)?;
            return Ok(State::Header);
        }
        Ok(State::Meta {
            kind,
            offset,
            content: Vec::new(),
            remaining,
        })
    }

    /// Keeps the content of an extended header for the entries that follow.
    fn extend<V: Visitor>(
        &mut self,
        kind: MetaKind,
        offset: u64,
        content: &[u8],
        visitor: &mut V,
    ) -> Result<(), V::Error> {
        let name = || Some(number::until_nul(content).to_vec()).filter(|name| !name.is_empty());
        match kind {
            MetaKind::Local => self.extension.local = Some(Records::parse(content, offset)?),
            MetaKind::LongName => self.extension.long_name = name(),
            MetaKind::LongLink => self.extension.long_link = name(),
            MetaKind::Global => {
                let records = Records::parse(content, offset)?;
                for key in records.meaningful_keys() {
                    visitor.warning(Warning::GlobalRecord { key: key.to_vec() });
                }
                self.globals.apply_global(records);
                if self.globals.byte_count() > MAX_GLOBAL_RECORDS {
                    let (limit, of) = (MAX_GLOBAL_RECORDS as u64, "bytes of global PAX records");
                    return Err(TarError::Limit { offset, limit, of }.into());
                }
            }
        }
        Ok(())
    }

    /// Acts on the header block of an entry.
    fn entry<V: Visitor>(
        &mut self,
        header: Header<'_>,
        offset: u64,
        data_start: u64,
        visitor: &mut V,
    ) -> Result<State, V::Error> {
        let extension = std::mem::take(&mut self.extension);
        let none = Records::default();
        let local = extension.local.as_ref().unwrap_or(&none);
        let records = Effective {
            local,
            global: &self.globals,
        };
        let limits = &self.limits;
        let composer = Composer {
            header,
            offset,
            extension: &extension,
            records,
            limits,
        };
        match composer.compose()? {
            Composed::Bare { entry, skipped } => {
                visitor.entry(entry)?;
                Ok(skip(skipped, padding_of(skipped)))
            }
            Composed::Unknown {
                path,
                type_flag,
                physical,
            } => {
                visitor.warning(Warning::UnknownType { path, type_flag });
                Ok(skip(physical, padding_of(physical)))
            }
            Composed::File(draft) => match draft.map {
                SparseMap::Continued(_) => Ok(State::Extension(Box::new(draft))),
                SparseMap::InPayload => Ok(State::Map {
                    draft: Box::new(draft),
                    map: MapText::default(),
                }),
                SparseMap::None | SparseMap::Known(_) => self.file(draft, data_start, visitor),
            },
        }
    }

    /// Takes a complete block that continues an old GNU sparse map.
    fn continue_map<V: Visitor>(
        &mut self,
        mut draft: Box<FileDraft>,
        data_start: u64,
        visitor: &mut V,
    ) -> Result<State, V::Error> {
        let offset = draft.offset;
        let fields = SparseFields::extension(&self.block);
        let is_extended = fields.is_extended;
        let SparseMap::Continued(runs) = &mut draft.map else {
            unreachable!("only continued maps come here");
        };
        let bad = |what| TarError::Sparse { offset, what };
        fields.append_to(runs).ok_or(bad("it holds no number"))?;
        if runs.len() > self.limits.sparse_extents {
            return Err(bad("it has too many extents").into());
        }
        if is_extended {
            return Ok(State::Extension(draft));
        }
        draft.map = SparseMap::Known(std::mem::take(runs));
        self.file(*draft, data_start, visitor)
    }

    /// Reads map text in front of a file's data, up to the end of `bytes` or of the map.
    fn map_text<'b, V: Visitor>(
        &mut self,
        mut draft: Box<FileDraft>,
        mut map: MapText,
        bytes: &'b [u8],
        visitor: &mut V,
    ) -> Result<(State, &'b [u8]), V::Error> {
        let bad = |what| TarError::Sparse {
            offset: draft.offset,
            what,
        };
        for (position, byte) in bytes.iter().enumerate() {
            let left = draft.physical.checked_sub(1);
            draft.physical = left.ok_or(bad("it is longer than the entry"))?;
            let complete = map.push(*byte, self.limits.sparse_extents).map_err(bad)?;
            if !complete {
                continue;
            }
            let (taken, rest) = bytes.split_at(position + 1);
            visitor.framing(taken)?;
            draft.map = SparseMap::Known(map.into_runs());
            // Headers and maps begin at whole blocks, so this is where the map's last one ends.
            let map_end = self.position + taken.len() as u64;
            let remaining = padding_of(map_end);
            let left = draft.physical.checked_sub(remaining);
            draft.physical = left.ok_or(bad("it is longer than the entry"))?;
            if remaining == 0 {
                return Ok((self.file(*draft, map_end, visitor)?, rest));
            }
            return Ok((State::MapPadding { draft, remaining }, rest));
        }
        visitor.framing(bytes)?;
        Ok((State::Map { draft, map }, &[]))
    }

    /// Hands out a regular file whose data begins at `data_start`.
    fn file<V: Visitor>(
        &mut self,
        draft: FileDraft,
        data_start: u64,
        visitor: &mut V,
    ) -> Result<State, V::Error> {
        let FileDraft {
            mut entry,
            offset,
            logical,
            physical,
            map,
        } = draft;
        let EntryKind::Regular { extents, .. } = &mut entry.kind else {
            unreachable!("drafts are regular files");
        };
        if let SparseMap::Known(runs) = map {
            let placed = sparse::place(&runs, logical, data_start, physical);
            *extents = placed.map_err(|what| TarError::Sparse { offset, what })?;
            self.sparse_extents += extents.len() as u64;
            let limit = self.limits.sparse_extents_per_layer;
            if self.sparse_extents > limit {
                let of = "extents of sparse files in one layer";
                return Err(TarError::Limit { offset, limit, of }.into());
            }
        } else if physical > 0 {
            let (file_offset, stream_offset) = (0, data_start);
            extents.push(DataExtent {
                file_offset,
                stream_offset,
                length: physical,
            });
        }
        visitor.entry(entry)?;
        Ok(payload(physical, padding_of(physical)))
    }
}

// The states after `remaining` bytes of some kind, when there may be none.

fn payload(remaining: u64, padding: u64) -> State {
    if remaining > 0 {
        State::Payload { remaining, padding }
    } else {
        pad(padding)
    }
}

fn skip(remaining: u64, padding: u64) -> State {
    if remaining > 0 {
        State::Skipped { remaining, padding }
    } else {
        pad(padding)
    }
}

fn pad(remaining: u64) -> State {
    if remaining > 0 {
        State::Padding { remaining }
    } else {
        State::Header
    }
}
