//! The control socket: accepts, parses, dispatches, answers; a client that goes away takes its
//! request along.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use crate::daemon::control::{Answer, Failure, LINE_LIMIT, Progress, Request, SOCKET};
use crate::daemon::service::Service;
use brisk_image::Observer;
use brisk_mount::socket::SocketDirectory;

/// Lines of progress that wait for a slow client; more are dropped, never waited for.
const EVENT_QUEUE: usize = 64;
/// Shortest time between two lines of progress.
const PROGRESS_INTERVAL_MS: u128 = 50;

/// Binds the control socket below `run`, replacing what a dead service left. The caller holds
/// the root's lock.
///
/// # Errors
/// What bind(2) answers.
pub fn bind(run: &Path) -> io::Result<UnixListener> {
    let directory = SocketDirectory::open(run)?;
    let path = directory.path(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The directory is root's alone (0700), and so is the socket in it.
    UnixListener::bind(path)
}

/// Serves clients until the service stops.
pub async fn serve(listener: UnixListener, service: Arc<Service>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = service.stopped() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let service = service.clone();
                tokio::spawn(async move {
                    let _busy = service.busy();
                    if let Err(error) = converse(stream, &service).await {
                        tracing::debug!(%error, "a client went away");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a client");
                // Out of descriptors: others must close first.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, service: &Arc<Service>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut reader = BufReader::new(read);
    let mut line = String::new();
    (&mut reader).take(LINE_LIMIT).read_line(&mut line).await?;
    if line.is_empty() {
        return Ok(());
    }
    let request: Request = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => {
            let message = format!("the request cannot be understood: {error}");
            let hint = Some("client and service are of different versions".to_owned());
            return send(&mut write, &Answer::Failed(Failure { message, hint })).await;
        }
    };
    let (events, mut waiting) = mpsc::channel(EVENT_QUEUE);
    let observer: Arc<dyn Observer> = Arc::new(Teller::new(events));
    let carried_out = service.carry_out(request.clone(), observer);
    tokio::pin!(carried_out);
    let mut rest = [0; 1];
    let result = loop {
        tokio::select! {
            biased;
            Some(event) = waiting.recv() => send(&mut write, &event).await?,
            result = &mut carried_out => break result,
            // A client says nothing after its request: this is its end.
            _ = reader.read(&mut rest) => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    };
    while let Ok(event) = waiting.try_recv() {
        send(&mut write, &event).await?;
    }
    let answer = match result {
        Ok(outcome) => Answer::Done(Box::new(outcome)),
        Err(failure) => Answer::Failed(failure),
    };
    let told = send(&mut write, &answer).await;
    if told.is_err() {
        service.undo(&request).await;
    }
    told
}

async fn send(write: &mut OwnedWriteHalf, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer).map_err(io::Error::other)?;
    line.push(b'\n');
    write.write_all(&line).await
}

/// Tells a client of warnings and progress.
struct Teller {
    events: mpsc::Sender<Answer>,
    progress: std::sync::Mutex<(u64, u64, Option<Instant>)>,
}

impl Teller {
    fn new(events: mpsc::Sender<Answer>) -> Self {
        Teller {
            events,
            progress: std::sync::Mutex::new((0, 0, None)),
        }
    }

    fn add(&self, bytes: u64, total: u64) {
        let mut progress = self.progress.lock().expect("no holder of this lock panics");
        progress.0 += bytes;
        progress.1 += total;
        let (bytes, total, told) = *progress;
        let is_early = told.is_some_and(|t| t.elapsed().as_millis() < PROGRESS_INTERVAL_MS);
        if is_early && bytes < total {
            return;
        }
        progress.2 = Some(Instant::now());
        let stage = "pulling".to_owned();
        let _ = self.events.try_send(Answer::Progress(Progress {
            stage,
            bytes,
            total,
        }));
    }
}

impl Observer for Teller {
    fn warn(&self, message: String) {
        tracing::warn!("{message}");
        let _ = self.events.try_send(Answer::Warning { message });
    }

    fn pulling(&self, bytes: u64) {
        self.add(0, bytes);
    }

    fn pulled(&self, bytes: u64) {
        self.add(bytes, 0);
    }
}
