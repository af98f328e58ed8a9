//! The bytes of a pack, asked for as early as possible and kept until somebody takes them.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use brisk_blob::{Blob, BlobError};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::expected::Progress;

/// Bytes that may wait for the layers to be opened, and for the decoder later: a quarter of a
/// second of a gigabit link.
const BUFFER: usize = 32 << 20;

/// Nothing has come for so long: the connection is given up. As the layers' own limit.
const SILENCE_LIMIT: Duration = Duration::from_secs(90);

type Piece = (Result<Bytes, BlobError>, Option<OwnedSemaphorePermit>);

/// A pack being read from its first byte on.
#[derive(Debug)]
pub struct PackDownload {
    blob: Arc<dyn Blob>,
    runtime: Handle,
    stream: Option<Stream>,
    /// What has arrived and was not taken yet; `position` is where it begins.
    waiting: VecDeque<Bytes>,
    position: u64,
    progress: Arc<Progress>,
}

/// One request's answer, read by a task.
#[derive(Debug)]
struct Stream {
    pieces: mpsc::UnboundedReceiver<Piece>,
    /// Where it ends.
    end: u64,
    task: JoinHandle<()>,
}

impl Stream {
    fn start(
        runtime: &Handle,
        blob: &Arc<dyn Blob>,
        range: Range<u64>,
        progress: &Arc<Progress>,
    ) -> Stream {
        let (send, pieces) = mpsc::unbounded_channel();
        let (blob, progress, end) = (blob.clone(), progress.clone(), range.end);
        progress.request();
        let task = runtime.spawn(async move {
            let buffer = Arc::new(Semaphore::new(BUFFER));
            let mut stream = blob.stream(range.clone());
            let mut at = range.start;
            loop {
                let next = tokio::time::timeout(SILENCE_LIMIT, stream.next()).await;
                let piece = match next {
                    Ok(Some(Ok(piece))) => piece,
                    Ok(None) => return,
                    Ok(Some(Err(error))) => return drop(send.send((Err(error), None))),
                    Err(_) => {
                        let error = BlobError::TimedOut {
                            blob: blob.name(),
                            range,
                            after: SILENCE_LIMIT,
                        };
                        return drop(send.send((Err(error), None)));
                    }
                };
                at += piece.len() as u64;
                progress.receive(piece.len() as u64, at);
                let places = piece.len().clamp(1, BUFFER) as u32;
                // Never closed.
                let place = buffer.clone().acquire_many_owned(places).await.ok();
                if send.send((Ok(piece), place)).is_err() {
                    return;
                }
            }
        });
        Stream { pieces, end, task }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl PackDownload {
    /// Asks for all of a pack at once: for a start of which nothing is here.
    pub fn start(runtime: &Handle, blob: Arc<dyn Blob>) -> PackDownload {
        let size = blob.size();
        PackDownload::lazily(runtime, blob, size)
    }

    /// Asks for the first bytes of a pack, which are its table: what else is asked for depends
    /// on it.
    pub fn lazily(runtime: &Handle, blob: Arc<dyn Blob>, table: u64) -> PackDownload {
        let range = 0..table.min(blob.size());
        let mut download = PackDownload {
            blob,
            runtime: runtime.clone(),
            stream: None,
            waiting: VecDeque::new(),
            position: 0,
            progress: Arc::default(),
        };
        download.open(range);
        download
    }

    fn open(&mut self, range: Range<u64>) {
        // The one before gives its connection up first.
        self.stream = None;
        self.stream = Some(Stream::start(
            &self.runtime,
            &self.blob,
            range,
            &self.progress,
        ));
    }

    /// Bytes of the blob.
    pub fn size(&self) -> u64 {
        self.blob.size()
    }

    /// How far it is, for those who wait.
    pub(super) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Bytes received, those of no use included.
    pub(super) fn received(&self) -> u64 {
        self.progress.received()
    }

    /// Requests sent.
    pub(super) fn requests(&self) -> u64 {
        self.progress.requests()
    }

    /// The bytes from the position on, that many, which stay.
    pub(super) async fn peek(&mut self, length: u64) -> Result<Bytes, BlobError> {
        let mut found = BytesMut::new();
        let mut taken = Vec::new();
        while (found.len() as u64) < length {
            let piece = self.next(length - found.len() as u64).await?;
            found.extend_from_slice(&piece);
            taken.push(piece);
        }
        self.position -= found.len() as u64;
        taken
            .into_iter()
            .rev()
            .for_each(|piece| self.waiting.push_front(piece));
        Ok(found.freeze())
    }

    /// The next bytes, at most that many, at least one.
    pub(super) async fn next(&mut self, most: u64) -> Result<Bytes, BlobError> {
        while self.waiting.is_empty() {
            let at = self.position;
            if self.stream.as_ref().is_none_or(|stream| stream.end <= at) {
                let end = at.saturating_add(most).min(self.size());
                if end == at {
                    return Err(self.cut());
                }
                self.open(at..end);
            }
            self.receive().await?;
        }
        let Some(mut first) = self.waiting.pop_front() else {
            return Err(self.cut());
        };
        let taken = first.split_to((first.len() as u64).min(most) as usize);
        if !first.is_empty() {
            self.waiting.push_front(first);
        }
        self.position += taken.len() as u64;
        Ok(taken)
    }

    async fn receive(&mut self) -> Result<(), BlobError> {
        let received = match &mut self.stream {
            Some(stream) => stream.pieces.recv().await,
            None => None,
        };
        match received {
            Some((piece, _place)) => self.waiting.push_back(piece?),
            None => return Err(self.cut()),
        }
        Ok(())
    }

    /// Goes on to a later place. A gap of at most `gap` bytes passes by; for a longer one, or
    /// where the request under way ends sooner, the bytes up to `until` are asked for anew.
    pub(super) async fn seek(&mut self, to: u64, until: u64, gap: u64) -> Result<(), BlobError> {
        let here: u64 = self.waiting.iter().map(|piece| piece.len() as u64).sum();
        let arrived = (self.position + here).max(self.progress.position());
        let beyond = to.saturating_sub(arrived) > gap;
        let ends = self.stream.as_ref().is_none_or(|stream| stream.end < until);
        if beyond || (ends && arrived < until) {
            self.waiting.clear();
            self.position = to;
            self.open(to..until);
            return Ok(());
        }
        while self.position < to {
            self.next(to - self.position).await?;
        }
        Ok(())
    }

    fn cut(&self) -> BlobError {
        BlobError::Length {
            blob: self.blob.name(),
            range: 0..self.size(),
            got: self.position,
        }
    }
}
