//! Reading what is in the cache.

use std::ops::Range;
use std::sync::Arc;

use super::answer::Answer;
use super::{Account, Layer, ReadError, plan, scratch};

impl Layer {
    /// Reads, for an image, `buffer.len()` bytes of the stream from `offset` if they are all in the cache;
    /// false, with the buffer's content undefined, if not. Does not wait for the network, and
    /// not for the disk longer than a page cache miss takes.
    ///
    /// # Errors
    /// A range outside the stream, and a poisoned layer.
    pub fn try_read_for(
        &self,
        account: &Arc<Account>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<bool, ReadError> {
        let range = self.checked(offset, buffer.len() as u64)?;
        self.check_state()?;
        if !self.read_local(range.clone(), buffer) {
            return Ok(false);
        }
        self.counters().count_local_read();
        account.counters().count_local_read();
        self.mark_read(&range);
        self.read_ahead(account, &range);
        Ok(true)
    }

    /// Whether `try_read_for` would probably succeed.
    pub fn is_local(&self, offset: u64, length: u64) -> bool {
        self.checked(offset, length)
            .is_ok_and(|range| self.file().has(range))
    }

    pub(super) fn checked(&self, offset: u64, length: u64) -> Result<Range<u64>, ReadError> {
        let size = self.index().stream_size();
        let range = offset..offset.saturating_add(length);
        if range.end > size {
            return Err(ReadError::OutOfRange {
                layer: self.digest(),
                range,
                size,
            });
        }
        Ok(range)
    }

    pub(super) fn read_local(&self, range: Range<u64>, buffer: &mut [u8]) -> bool {
        let mut pinned = self.file().pin(range.clone());
        if pinned.is_none() && self.confirm_suspects(range.clone()) {
            pinned = self.file().pin(range.clone());
        }
        let Some(pinned) = pinned else { return false };
        let Err(error) = pinned.read_at(range.start, buffer) else {
            return true;
        };
        drop(pinned);
        tracing::warn!(layer = %self.digest(), ?range, %error, "the cache cannot be read");
        for leaf in plan::leaves_of(&range) {
            self.file().forget(leaf);
        }
        false
    }

    /// Verifies leaves that an unclean stop made doubtful; true when there were any.
    pub(super) fn confirm_suspects(&self, range: Range<u64>) -> bool {
        let suspects = self.file().suspects(range);
        for leaf in &suspects {
            if !self
                .file()
                .confirm(*leaf, |bytes| self.matches(*leaf, bytes))
            {
                tracing::info!(layer = %self.digest(), leaf, "lost in an unclean stop");
            }
        }
        !suspects.is_empty()
    }

    /// As [`Layer::confirm_suspects`], away from the reactor.
    pub(super) async fn confirm_off_the_reactor(self: &Arc<Self>, range: Range<u64>) {
        if self.file().suspects(range.clone()).is_empty() {
            return;
        }
        let layer = self.clone();
        let confirm = tokio::task::spawn_blocking(move || layer.confirm_suspects(range));
        // Failing means that the service is stopping.
        drop(confirm.await);
    }

    /// Fills in the leaves of an answer that are on disk or verified in memory.
    pub(super) fn fill_local(&self, answer: &mut Answer) {
        answer.fill(|leaf, part, place| {
            if self.read_local(part.clone(), place) {
                return true;
            }
            let Some(bytes) = self.scratch().kept((self.id(), leaf)) else {
                return false;
            };
            let start = plan::leaf_range(leaf, self.index().stream_size()).start;
            let slice = (part.start - start) as usize..(part.end - start) as usize;
            place.copy_from_slice(&bytes[slice]);
            true
        });
    }

    /// Bytes of the stream for a decoder's window: from the cache, or decoded and not verified
    /// yet. What they yield is verified, so they need not be.
    pub(super) fn decoded_before(&self, range: Range<u64>) -> Option<Vec<u8>> {
        let mut answer = Answer::new(range);
        self.fill_local(&mut answer);
        answer.fill(|leaf, part, place| {
            let parts = self.scratch().parts((self.id(), leaf));
            let bytes = scratch::join(&parts, &part);
            bytes.is_some_and(|bytes| {
                place.copy_from_slice(&bytes);
                true
            })
        });
        answer.complete().ok()
    }
}
