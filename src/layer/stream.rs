//! Reading a layer from its start, or from its nearest free chunk, where chunks cannot be asked
//! for one by one: the layer is stream-only, or its checkpoints are damaged or gone.
//!
//! Everything that passes is verified and kept where the budget has room, so that nobody needs
//! to come this way twice. Where a passage has stopped it waits: a sequential reader goes on
//! from there instead of from the start.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use index_format::LEAF_SIZE;

use brisk_blob::BlobError;
use brisk_codec::{CodecError, Scanner};

use super::answer::Answer;
use super::{Account, Cause, Layer, Purpose, ReadError, decode, plan};

/// Requests of one passage on their way or waiting to be decoded; one when the errand is short.
const REQUESTS_AHEAD: usize = 2;

/// A shorter errand probably needs one request, in bytes of the stream.
const SHORT_ERRAND: u64 = 4 << 20;

/// Compressed bytes decoded at a time: a passage does not go much further than it has to, so
/// that the next reader finds it in front of what it wants.
const DECODING_STEP: usize = 32 << 10;

/// Bytes of the stream that background brings before a reader may have its turn.
const BACKGROUND_STEP: u64 = 16 << 20;

/// Bytes asked for at a time, at least: a passage goes through all of them anyway.
const MIN_REQUEST: u64 = 1 << 20;

/// Leaves before the first wanted one that are kept in memory where the disk has no room: the
/// kernel has several requests of one reader under way, and they do not arrive in order. 1 MiB.
const LEAVES_BEHIND: u64 = 16;

/// A decoder on its way through the layer.
struct Passage {
    scanner: Box<dyn Scanner>,
    /// The next byte of the blob to be asked for.
    compressed: u64,
    /// What has arrived and is not decoded yet.
    arrived: Bytes,
    /// Bytes of the stream before the next one that it yields.
    stream: u64,
    /// The bytes of the current leaf, when its first ones were seen.
    leaf: Vec<u8>,
}

/// Where passages of a layer have stopped: a reader's and background's, so that neither sends
/// the other back to the start.
#[derive(Default)]
pub(super) struct Passages {
    demand: Option<Passage>,
    background: Option<Passage>,
}

impl std::fmt::Debug for Passages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passages").finish_non_exhaustive()
    }
}

/// What a passage is to bring.
#[derive(Clone)]
struct Errand {
    purpose: Purpose,
    /// Leaves that somebody waits for, ascending.
    wanted: Arc<[u64]>,
    /// It begins at or before this leaf ...
    first: u64,
    /// ... and ends behind this byte of the stream.
    until: u64,
}

/// What a passage has seen.
#[derive(Default)]
pub(super) struct Seen {
    /// The wanted leaves, verified.
    leaves: HashMap<u64, Vec<u8>>,
    /// Leaves that do not match their digests.
    pub(super) wrong: Vec<u64>,
    /// A leaf found no room in the cache.
    pub(super) no_room: bool,
    /// The first leaf that was not reached.
    pub(super) next: u64,
}

/// Why a passage ended early.
enum Stopped {
    Blob(BlobError),
    /// What arrived is not what the index describes.
    Codec(CodecError),
    /// The service is stopping.
    Runtime,
}

impl Passage {
    /// A passage from the nearest place that needs no history, at or before a leaf.
    fn start(layer: &Layer, leaf: u64) -> Result<Passage, ReadError> {
        let position = leaf * LEAF_SIZE;
        let numbers = plan::chunks_of(layer.index(), &(position..position + 1));
        let mut number = numbers.map_err(|source| layer.damaged(source))?.start;
        let compression = layer.index().compression();
        let mut chunk = layer.chunk(number)?;
        while number > 0 && !decode::is_free(compression, &chunk) {
            number -= 1;
            chunk = layer.chunk(number)?;
        }
        let left = layer
            .index()
            .stream_size()
            .saturating_sub(chunk.stream.start);
        Ok(Passage {
            scanner: brisk_codec::streamer(compression, left),
            compressed: chunk.compressed.start,
            arrived: Bytes::new(),
            stream: chunk.stream.start,
            leaf: Vec::new(),
        })
    }

    /// Whether it has decoded the whole blob.
    fn is_spent(&self, layer: &Layer) -> bool {
        self.arrived.is_empty() && self.compressed >= layer.index().compressed_size()
    }

    /// The first leaf that it can still bring whole.
    fn first_leaf(&self) -> u64 {
        let start = self.stream - self.leaf.len() as u64;
        start.div_ceil(LEAF_SIZE)
    }

    /// Takes the next bytes of the blob.
    fn take(&mut self, piece: Bytes) {
        self.compressed += piece.len() as u64;
        self.arrived = piece;
    }

    /// Decodes what has arrived, as far as the errand goes.
    fn advance(
        &mut self,
        layer: &Layer,
        errand: &Errand,
        seen: &mut Seen,
    ) -> Result<(), CodecError> {
        while self.stream < errand.until && !self.arrived.is_empty() {
            let step = self.arrived.split_to(DECODING_STEP.min(self.arrived.len()));
            self.decode(layer, &step, errand, seen)?;
        }
        Ok(())
    }

    /// Decodes a piece of the blob and judges every leaf that it completes.
    fn decode(
        &mut self,
        layer: &Layer,
        piece: &[u8],
        errand: &Errand,
        seen: &mut Seen,
    ) -> Result<(), CodecError> {
        let (stream, leaf) = (&mut self.stream, &mut self.leaf);
        self.scanner.push(piece, &mut |mut bytes| {
            while !bytes.is_empty() {
                let number = *stream / LEAF_SIZE;
                let range = plan::leaf_range(number, layer.index().stream_size());
                let taken = ((range.end - *stream) as usize).min(bytes.len());
                // Of a leaf that was entered half-way there is nothing to keep.
                if *stream - leaf.len() as u64 == range.start {
                    leaf.extend_from_slice(&bytes[..taken]);
                }
                *stream += taken as u64;
                bytes = &bytes[taken..];
                if *stream == range.end {
                    if leaf.len() as u64 == range.end - range.start {
                        judge(layer, number, leaf, errand, seen);
                    }
                    leaf.clear();
                }
            }
            Ok(())
        })
    }
}

/// Verifies a leaf that passes; keeps it where it is wanted or missing.
fn judge(layer: &Layer, leaf: u64, bytes: &[u8], errand: &Errand, seen: &mut Seen) {
    let wanted = errand.wanted.binary_search(&leaf).is_ok();
    let range = plan::leaf_range(leaf, layer.index().stream_size());
    let is_here = layer.file().has(range);
    if is_here && !wanted {
        return;
    }
    if !layer.matches(leaf, bytes) {
        // A reader does not care for what it passes.
        if wanted || errand.purpose.cause == Cause::Background {
            seen.wrong.push(leaf);
        }
        return;
    }
    layer.scratch().forget_parts((layer.id(), leaf));
    if wanted {
        seen.leaves.insert(leaf, bytes.to_vec());
    }
    if !is_here {
        let cause = match errand.purpose.cause {
            Cause::Demand if wanted => Cause::Demand,
            // The next that the reader will want, or the last that he wanted; it is not much.
            Cause::Demand if leaf + LEAVES_BEHIND >= errand.first => Cause::Speculation,
            _ => Cause::Background,
        };
        seen.no_room |= !decode::store(layer, leaf, bytes, cause);
    }
}

impl Passages {
    /// The passage that is nearest before a leaf, and whose it is, if it is nearer than `start`.
    fn take(&mut self, leaf: u64, start: &Passage) -> Option<(Passage, Cause)> {
        let reach = |passage: &Option<Passage>| {
            passage
                .as_ref()
                .filter(|passage| passage.first_leaf() <= leaf && passage.stream > start.stream)
                .map(|passage| passage.stream)
        };
        match (reach(&self.demand), reach(&self.background)) {
            (None, None) => None,
            (demand, background) if demand >= background => {
                self.demand.take().map(|passage| (passage, Cause::Demand))
            }
            _ => self
                .background
                .take()
                .map(|passage| (passage, Cause::Background)),
        }
    }

    fn put(&mut self, passage: Passage, whose: Cause) {
        match whose {
            Cause::Background => self.background = Some(passage),
            Cause::Demand | Cause::StartUp | Cause::Speculation => self.demand = Some(passage),
        }
    }
}

impl Layer {
    /// Fills in what an answer lacks by decoding the layer from its start, or from where an
    /// earlier reader has stopped.
    pub(super) async fn fill_streamed(
        &self,
        account: &Arc<Account>,
        answer: &mut Answer,
    ) -> Result<(), ReadError> {
        let layer = self.shared()?;
        let mut passages = self.passages().lock().await;
        // Whoever was here before may have brought it along.
        self.fill_local(answer);
        let wanted: Arc<[u64]> = answer.missing().into();
        let (Some(&first), Some(&last)) = (wanted.first(), wanted.last()) else {
            return Ok(());
        };
        let until = plan::leaf_range(last, self.index().stream_size()).end;
        let errand = Errand {
            purpose: Purpose::new(Cause::Demand, account),
            wanted,
            first,
            until,
        };
        let seen = layer.pass(&mut passages, errand).await?;
        answer.fill(|leaf, part, place| {
            let Some(bytes) = seen.leaves.get(&leaf) else {
                return false;
            };
            let slice = (part.start - leaf * LEAF_SIZE) as usize;
            place.copy_from_slice(&bytes[slice..slice + place.len()]);
            true
        });
        match answer.missing().first() {
            Some(leaf) => Err(self.corrupt(*leaf)),
            None => Ok(()),
        }
    }

    /// Brings the next part of the layer that is missing from a leaf on, for nobody. `None` when
    /// nothing is.
    pub(super) async fn stream_on(
        self: &Arc<Self>,
        account: &Arc<Account>,
        mut leaf: u64,
    ) -> Result<Option<Seen>, ReadError> {
        let size = self.index().stream_size();
        let missing = |leaf| !self.file().has(plan::leaf_range(leaf, size));
        let count = size.div_ceil(LEAF_SIZE);
        while leaf < count && !missing(leaf) {
            leaf += 1;
        }
        if leaf >= count {
            return Ok(None);
        }
        let until = (leaf * LEAF_SIZE).saturating_add(BACKGROUND_STEP).min(size);
        // What an unclean stop has left is verified rather than fetched again.
        self.confirm_off_the_reactor(leaf * LEAF_SIZE..until).await;
        let errand = Errand {
            purpose: Purpose::new(Cause::Background, account),
            wanted: Arc::default(),
            first: leaf,
            until,
        };
        let mut passages = self.passages().lock().await;
        self.pass(&mut passages, errand).await.map(Some)
    }

    /// Runs an errand, and once more from the start, past whatever may keep copies, when what
    /// arrived was wrong.
    async fn pass(
        self: &Arc<Self>,
        passages: &mut Passages,
        errand: Errand,
    ) -> Result<Seen, ReadError> {
        let start = Passage::start(self, errand.first)?;
        let (passage, whose) = passages
            .take(errand.first, &start)
            .unwrap_or((start, errand.purpose.cause));
        let mut attempt = self.run(passage, &errand, false).await;
        let wrong = match &attempt {
            Ok((_, seen)) => seen.wrong.len(),
            Err(Stopped::Codec(_)) => 1,
            Err(_) => 0,
        };
        if wrong > 0 {
            self.counters().count_verification_failures(wrong as u64);
            let layer = self.digest();
            tracing::warn!(%layer, "what arrives is not what the index describes; fetching anew");
            let start = Passage::start(self, errand.first)?;
            attempt = self.run(start, &errand, true).await;
        }
        match attempt {
            Ok((passage, seen)) => {
                if !passage.is_spent(self) && seen.wrong.is_empty() {
                    passages.put(passage, whose);
                }
                Ok(seen)
            }
            Err(Stopped::Blob(error)) => Err(ReadError::Unavailable {
                layer: self.digest(),
                source: Arc::new(error),
            }),
            Err(Stopped::Codec(error)) => {
                tracing::error!(layer = %self.digest(), %error, "the layer cannot be decoded");
                Err(self.corrupt(errand.first))
            }
            Err(Stopped::Runtime) => Err(ReadError::Stopping {
                layer: self.digest(),
            }),
        }
    }

    async fn run(
        self: &Arc<Self>,
        mut passage: Passage,
        errand: &Errand,
        again: bool,
    ) -> Result<(Passage, Seen), Stopped> {
        let (cause, until) = (errand.purpose.cause, errand.until);
        let ahead = match until.saturating_sub(passage.stream) {
            ..SHORT_ERRAND => 1,
            _ => REQUESTS_AHEAD,
        };
        let requests = self.requests_from(passage.compressed).map(|range| {
            let (layer, purpose) = (self.clone(), errand.purpose.clone());
            async move { layer.fetch_range(range, &purpose, again).await }
        });
        let mut arriving = stream::iter(requests).buffered(ahead);
        let mut seen = Seen::default();
        while passage.stream < until {
            if passage.arrived.is_empty() {
                let Some(piece) = arriving.next().await else {
                    break;
                };
                passage.take(piece.map_err(Stopped::Blob)?);
            }
            let idle = match cause {
                Cause::Demand => None,
                Cause::StartUp | Cause::Speculation | Cause::Background => {
                    Some(self.resources().idle_decoders.acquire().await)
                }
            };
            let (layer, errand) = (self.clone(), errand.clone());
            let advance = self.resources().runtime.spawn_blocking(move || {
                let advanced = passage.advance(&layer, &errand, &mut seen);
                advanced.map(|()| (passage, seen))
            });
            let advanced = advance.await.map_err(|_| Stopped::Runtime)?;
            drop(idle);
            (passage, seen) = advanced.map_err(Stopped::Codec)?;
            if seen.no_room && cause == Cause::Background {
                break;
            }
        }
        seen.next = passage.stream / LEAF_SIZE;
        if passage.is_spent(self) && passage.stream < until {
            // The blob has ended, and its stream is shorter than the index says.
            seen.wrong.push(seen.next);
        }
        Ok((passage, seen))
    }

    /// The blob from a byte on, in requests of about the size that the link likes.
    pub(super) fn requests_from(
        &self,
        start: u64,
    ) -> impl Iterator<Item = Range<u64>> + Send + use<> {
        let end = self.index().compressed_size();
        let size = self.gate().request_bytes().max(MIN_REQUEST);
        (0..end.saturating_sub(start).div_ceil(size)).map(move |number| {
            let from = start + number * size;
            from..(from + size).min(end)
        })
    }

    fn corrupt(&self, leaf: u64) -> ReadError {
        ReadError::Corrupt {
            layer: self.digest(),
            leaf,
        }
    }
}
