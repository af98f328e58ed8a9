//! Fetching what nobody waits for yet, in a given order.

use std::ops::Range;
use std::sync::Arc;

use super::fetch::Start;
use super::plan::Run;
use super::{Layer, Purpose, plan};

impl Layer {
    /// Fetches what is missing of ranges of the stream, in their order; neighbours share
    /// requests. Ends when the last of them has been sent. Whoever reads meanwhile joins what is
    /// on its way.
    pub async fn prefetch(
        self: &Arc<Self>,
        purpose: &Purpose,
        ranges: impl IntoIterator<Item = Range<u64>>,
    ) {
        let mut run: Option<Run> = None;
        for range in ranges {
            let range = range.start..range.end.min(self.index().stream_size());
            if range.is_empty() {
                continue;
            }
            let Ok(numbers) = plan::chunks_of(self.index(), &range) else {
                return;
            };
            for number in numbers {
                let Ok(chunk) = self.chunk(number) else {
                    return;
                };
                // What an unclean stop has left is verified rather than fetched again.
                self.confirm_off_the_reactor(chunk.stream.clone()).await;
                let is_wanted = self.is_fetchable(&chunk)
                    && !self.flights().contains(number)
                    && self.lacks(&chunk);
                if !is_wanted {
                    continue;
                }
                let limit = self.gate().request_bytes();
                let left = match &mut run {
                    None => Some(chunk),
                    Some(run) => run.extend(chunk, limit),
                };
                if let Some(chunk) = left {
                    self.prefetch_run(purpose, run.take()).await;
                    run = Some(Run {
                        chunks: vec![chunk],
                    });
                }
            }
        }
        self.prefetch_run(purpose, run).await;
    }

    async fn prefetch_run(self: &Arc<Self>, purpose: &Purpose, run: Option<Run>) {
        let Some(run) = run else { return };
        let bytes = self.first_piece_bytes(purpose.cause, &run.compressed());
        let permit = self.gate().enter(purpose, bytes).await;
        // Only now, so that no reader waits for something that waits for readers.
        if let Some(flight) = self.flights().claim(run) {
            let start = Some(Start {
                permit,
                place: None,
            });
            let fly = self.clone().fly(flight, purpose.clone(), start);
            self.resources().runtime.spawn(fly);
        }
    }
}
