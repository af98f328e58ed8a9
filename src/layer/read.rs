//! Reading what may have to be fetched.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use index_format::Chunk;

use super::answer::Answer;
use super::decoded::{Decoded, Verdict};
use super::flight::{Flight, Landing, Outcome};
use super::missing::inside;
use super::plan::{self, MAX_DEMAND_REQUEST, Run};
use super::scratch::{self, Part};
use super::{Account, Cause, Layer, Purpose, ReadError, decode};

/// Rounds in which a read relies on what others fetch, too. One is the rule; another follows
/// when a fetch that nobody waited for failed, or when leaves were evicted at once.
const SHARED_ROUNDS: u32 = 3;

/// What a read has to work with in one round.
#[derive(Default)]
struct Round {
    chunks: BTreeSet<u32>,
    /// Unverified parts of the missing leaves, as they were when the chunks were chosen.
    held: HashMap<u64, Vec<Part>>,
}

impl Layer {
    /// Reads, for an image, `length` bytes of the stream from `offset`, fetching what is not in the cache.
    /// Dropping the future gives up; others that wait for the same chunks do not notice.
    ///
    /// # Errors
    /// See [`ReadError`]: never fewer bytes, never unverified ones.
    pub async fn read_for(
        &self,
        account: &Arc<Account>,
        offset: u64,
        length: u64,
    ) -> Result<Vec<u8>, ReadError> {
        let range = self.checked(offset, length)?;
        let result = self.read_range(account, range.clone()).await;
        match &result {
            Ok(_) => {
                self.mark_read(&range);
                self.read_ahead(account, &range);
            }
            Err(error) => {
                self.counters().count_failed_read();
                account.counters().count_failed_read();
                tracing::warn!(%error, ?range, "a read failed");
            }
        }
        result
    }

    async fn read_range(
        &self,
        account: &Arc<Account>,
        range: Range<u64>,
    ) -> Result<Vec<u8>, ReadError> {
        self.check_state()?;
        let mut answer = Answer::new(range);
        self.fill_local(&mut answer);
        answer = match answer.complete() {
            Ok(bytes) => return Ok(bytes),
            Err(answer) => answer,
        };
        let _waiting = (self.counters().wait(), account.counters().wait());
        self.wait_for_pack(answer.missing()).await;
        self.check_state()?;
        self.fill_local(&mut answer);
        answer = match answer.complete() {
            Ok(bytes) => return Ok(bytes),
            Err(answer) => answer,
        };
        for round in 0..=SHARED_ROUNDS {
            let alone = round == SHARED_ROUNDS;
            self.fetch_round(account, &mut answer, alone).await?;
            self.check_state()?;
            self.fill_local(&mut answer);
            answer = match answer.complete() {
                Ok(bytes) => return Ok(bytes),
                Err(answer) => answer,
            };
        }
        // A round of one's own fills or condemns every leaf, so something does not hold still.
        let leaf = answer.missing().first().copied().unwrap_or_default();
        Err(ReadError::Corrupt {
            layer: self.digest(),
            leaf,
        })
    }

    /// Fetches the chunks of what is missing, together with whoever fetches them already or,
    /// `alone`, anew, and fills in what they yield.
    async fn fetch_round(
        &self,
        account: &Arc<Account>,
        answer: &mut Answer,
        alone: bool,
    ) -> Result<(), ReadError> {
        let round = self.plan_round(answer.missing(), alone)?;
        if let Some(last) = round.chunks.last() {
            self.warmth().note(self.resources().next_number(), *last);
        }
        let landings = match self.launch(account, &round.chunks, alone) {
            Err(error) if error.asks_for_streaming() => {
                return self.fill_streamed(account, answer).await;
            }
            landings => landings?,
        };
        let landings = landings.into_iter().map(Landing::outcome);
        let mut landings: FuturesUnordered<_> = landings.collect();
        let mut decoded = Vec::with_capacity(landings.len());
        while let Some(outcome) = landings.next().await {
            match outcome {
                Outcome::Decoded(run) => {
                    decoded.push(run.excerpt(answer.missing(), self.index().stream_size()));
                }
                Outcome::Failed(_, error) if error.asks_for_streaming() => {
                    return self.fill_streamed(account, answer).await;
                }
                Outcome::Failed(Cause::Demand, error) => return Err(error),
                // It was tried once, for nobody; this read tries as long as it may.
                Outcome::Failed(_, _) | Outcome::GivenUp => {}
            }
        }
        self.fill_decoded(answer, &round.held, &decoded)
    }

    fn plan_round(&self, missing: &[u64], alone: bool) -> Result<Round, ReadError> {
        let mut round = Round::default();
        for leaf in missing {
            let range = plan::leaf_range(*leaf, self.index().stream_size());
            let parts = match alone {
                true => Vec::new(),
                false => self.scratch().parts((self.id(), *leaf)),
            };
            let numbers = plan::chunks_of(self.index(), &range);
            for number in numbers.map_err(|source| self.damaged(source))? {
                let part = inside(&self.chunk(number)?, &range);
                if scratch::join(&parts, &part).is_none() {
                    round.chunks.insert(number);
                }
            }
            round.held.insert(*leaf, parts);
        }
        Ok(round)
    }

    /// Starts fetching the chunks that nobody fetches; where to wait for all of them.
    fn launch(
        &self,
        account: &Arc<Account>,
        chunks: &BTreeSet<u32>,
        alone: bool,
    ) -> Result<Vec<Landing>, ReadError> {
        let chunks = chunks.iter().copied();
        let (flights, mut landings) = if alone {
            // In one piece, so that no leaf is divided between requests.
            let runs = self.runs(chunks, u64::MAX)?;
            (runs.into_iter().map(Flight::alone).collect(), Vec::new())
        } else {
            self.flights()
                .join(chunks, |free| self.runs(free, MAX_DEMAND_REQUEST))?
        };
        for flight in flights {
            landings.push(flight.landing());
            let layer = self.shared()?;
            self.resources().runtime.spawn(layer.fly(
                flight,
                Purpose::new(Cause::Demand, account),
                None,
            ));
        }
        Ok(landings)
    }

    pub(super) fn runs(
        &self,
        chunks: impl IntoIterator<Item = u32>,
        limit: u64,
    ) -> Result<Vec<Run>, ReadError> {
        let fetchable = |number| {
            let chunk = self.chunk(number)?;
            match self.is_fetchable(&chunk) {
                true => Ok(chunk),
                false => Err(ReadError::ChunkTooLong {
                    layer: self.digest(),
                    chunk: number,
                }),
            }
        };
        let chunks: Result<Vec<Chunk>, ReadError> = chunks.into_iter().map(fetchable).collect();
        Ok(plan::runs(chunks?, limit))
    }

    /// Fills in leaves from decoded runs: those that a run has verified, and those that it and
    /// its neighbours hold parts of, verified here.
    fn fill_decoded(
        &self,
        answer: &mut Answer,
        held: &HashMap<u64, Vec<Part>>,
        decoded: &[Decoded],
    ) -> Result<(), ReadError> {
        let mut corrupt = None;
        answer.fill(|leaf, part, place| {
            let mut runs = decoded.iter();
            if runs
                .clone()
                .any(|run| run.verdict(leaf) == Some(Verdict::Wrong))
            {
                corrupt.get_or_insert(leaf);
                return false;
            }
            let verified = runs
                .find(|run| run.verdict(leaf) == Some(Verdict::Right))
                .and_then(|run| run.bytes(&part));
            if let Some(bytes) = verified {
                place.copy_from_slice(&bytes);
                return true;
            }
            self.fill_divided(leaf, &part, place, held.get(&leaf), decoded)
        });
        match corrupt {
            Some(leaf) => Err(ReadError::Corrupt {
                layer: self.digest(),
                leaf,
            }),
            None => Ok(()),
        }
    }

    /// Puts a leaf together that no single run has in full. One that does not match is left
    /// missing, and its parts forgotten: the next round fetches all of its chunks.
    fn fill_divided(
        &self,
        leaf: u64,
        part: &Range<u64>,
        place: &mut [u8],
        held: Option<&Vec<Part>>,
        decoded: &[Decoded],
    ) -> bool {
        let whole = plan::leaf_range(leaf, self.index().stream_size());
        let mut parts = held.cloned().unwrap_or_default();
        parts.extend(decoded.iter().flat_map(|run| run.parts_of(&whole)));
        parts.sort_by_key(|(range, _)| range.start);
        let Some(bytes) = scratch::join(&parts, &whole) else {
            return false;
        };
        if !self.matches(leaf, &bytes) {
            self.counters().count_verification_failures(1);
            self.scratch().forget_parts((self.id(), leaf));
            return false;
        }
        decode::store(self, leaf, &bytes, Cause::Demand);
        let slice = (part.start - whole.start) as usize..(part.end - whole.start) as usize;
        place.copy_from_slice(&bytes[slice]);
        true
    }

    /// Fetches what a sequential reader will want next, unless that is known better.
    pub(super) fn read_ahead(&self, account: &Arc<Account>, range: &Range<u64>) {
        if account.is_guided() {
            return;
        }
        let Some(ahead) = self.sequence().note(range, self.policy().read_ahead_bytes) else {
            return;
        };
        let ahead = ahead.start..ahead.end.min(self.index().stream_size());
        if ahead.is_empty() || self.file().has(ahead.clone()) {
            return;
        }
        if let Ok(layer) = self.shared() {
            let purpose = Purpose::new(Cause::Speculation, account);
            let ahead = async move { layer.prefetch(&purpose, [ahead]).await };
            self.resources().runtime.spawn(ahead);
        }
    }
}
