//! A blob that misbehaves on command, for tests.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt};
use futures_util::{TryFutureExt, TryStreamExt};
use tokio::sync::watch;

use crate::{Blob, BlobError, check_range};

/// What goes wrong with one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails with an error that may pass.
    Error,
    /// It fails for good.
    Permanent,
    /// The answer lacks its last byte.
    Short,
    /// It takes this long.
    Delay(Duration),
    /// One bit of the byte at this part (of 256) of the range is wrong.
    Flip(u8),
    /// It does not end before the fault is lifted.
    Hang,
}

/// A blob in memory with faults. The faults in the queue hit one read each; the standing fault
/// hits every read that no queued one hits.
#[derive(Debug)]
pub struct FaultyBlob {
    content: Bytes,
    queue: Mutex<VecDeque<Fault>>,
    standing: watch::Sender<Option<Fault>>,
    reads: Mutex<Vec<Range<u64>>>,
}

impl FaultyBlob {
    /// A blob of these bytes, without faults yet.
    pub fn new(content: impl Into<Bytes>) -> FaultyBlob {
        FaultyBlob {
            content: content.into(),
            queue: Mutex::default(),
            standing: watch::Sender::new(None),
            reads: Mutex::default(),
        }
    }

    /// The next reads fail like this, one each.
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(faults);
    }

    /// From now on every read fails like this; `None` lifts it and wakes hanging reads.
    pub fn stand(&self, fault: Option<Fault>) {
        self.standing.send_replace(fault);
    }

    /// Ranges read so far, failed reads included.
    pub fn reads(&self) -> Vec<Range<u64>> {
        self.reads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes, BlobError> {
        check_range("faulty", &range, self.size())?;
        self.reads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(range.clone());
        let queued = self
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front();
        let fault = queued.or(*self.standing.borrow());
        let mut bytes = self
            .content
            .slice(range.start as usize..range.end as usize)
            .to_vec();
        match fault {
            None => {}
            Some(Fault::Error) => return Err(timed_out(range)),
            Some(Fault::Permanent) => {
                return Err(BlobError::File {
                    path: "faulty".into(),
                    range,
                    source: std::io::Error::other("injected"),
                });
            }
            Some(Fault::Short) => drop(bytes.pop()),
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(Fault::Flip(part)) => {
                let at = bytes.len() * usize::from(part) / 256;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 0x10;
                }
            }
            Some(Fault::Hang) => {
                let mut standing = self.standing.subscribe();
                while *standing.borrow_and_update() == Some(Fault::Hang) {
                    let _ = standing.changed().await;
                }
            }
        }
        Ok(bytes.into())
    }
}

fn timed_out(range: Range<u64>) -> BlobError {
    BlobError::TimedOut {
        blob: "faulty".into(),
        range,
        after: Duration::ZERO,
    }
}

impl Blob for FaultyBlob {
    fn name(&self) -> String {
        "faulty".into()
    }

    fn size(&self) -> u64 {
        self.content.len() as u64
    }

    fn read_at(&self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, BlobError>> {
        Box::pin(self.read(range))
    }

    /// In pieces of some thousand bytes; one read, one fault.
    fn stream(&self, range: Range<u64>) -> BoxStream<'_, Result<Bytes, BlobError>> {
        let pieces = |bytes: Bytes| {
            let pieces: Vec<_> = bytes.chunks(5000).map(Bytes::copy_from_slice).collect();
            futures_util::stream::iter(pieces.into_iter().map(Ok))
        };
        let read = self.read(range).map_ok(pieces);
        futures_util::stream::once(read).try_flatten().boxed()
    }
}
