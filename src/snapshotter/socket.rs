//! Serves the API on a unix socket.

use std::fs::{self, DirBuilder, Permissions};
use std::future::Future;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tonic::transport::Server;

use crate::calls::{CallObserver, Observed};
use crate::service::SnapshotsService;
use crate::snapshotter::Snapshotter;
use crate::wire::services::snapshots::v1::snapshots_server::SnapshotsServer;

/// Largest message, as in containerd.
const MESSAGE_LIMIT: usize = 16 << 20;
/// How long calls under way may take when the service ends.
const END_LIMIT: Duration = Duration::from_secs(5);
/// Pause where no connection can be accepted: others must close first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// First pause before another look at what is still on its way out, for example a layer that is
/// being compared with its digest; doubles with every look in vain.
const CLEAN_PAUSE: Duration = Duration::from_millis(100);
/// Longest such pause: a program may have a mount open for as long as it likes.
const CLEAN_PAUSE_LIMIT: Duration = Duration::from_secs(10);

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The socket cannot be made.
    #[error("snapshotter socket {}: {source} (hint: --snapshotter-socket names another place)", path.display())]
    Bind {
        /// Where.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The connections cannot be served any more.
    #[error("serving the snapshotter: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// A socket that answers nobody yet. It is taken away when it is dropped.
pub struct Socket {
    listener: Option<UnixListener>,
    path: PathBuf,
    observer: Option<Arc<dyn CallObserver>>,
}

impl Socket {
    /// Makes a socket for root alone, in the place of one that a dead process left; missing
    /// directories above it are made.
    ///
    /// # Errors
    /// [`SocketError::Bind`], also where another process serves there.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        bind(path)
            .map(|listener| Socket {
                listener: Some(listener),
                path: path.to_path_buf(),
                observer: None,
            })
            .map_err(|source| SocketError::Bind {
                path: path.to_path_buf(),
                source,
            })
    }

    /// Tells that observer of every call.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn CallObserver>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Serves until `stop`, then lets the calls under way come to their end.
    ///
    /// # Errors
    /// [`SocketError::Serve`].
    pub async fn serve(
        mut self,
        snapshotter: Arc<Snapshotter>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), SocketError> {
        let Some(listener) = self.listener.take() else {
            return Ok(());
        };
        let removed = Arc::new(Notify::new());
        let cleaner = tokio::spawn(clean(snapshotter.clone(), removed.clone()));
        let service = SnapshotsServer::new(SnapshotsService::new(snapshotter, removed))
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT);
        let stopped = Arc::new(Notify::new());
        let told = stopped.clone();
        let serving = Server::builder()
            .layer(Observed(self.observer.clone()))
            .add_service(service)
            .serve_with_incoming_shutdown(stream::unfold(listener, accept), async move {
                told.notified().await
            });
        tokio::pin!(serving);
        let result = tokio::select! {
            result = &mut serving => result,
            () = stop => {
                stopped.notify_one();
                // A client may keep its connection open for ever.
                tokio::time::timeout(END_LIMIT, serving).await.unwrap_or(Ok(()))
            }
        };
        cleaner.abort();
        Ok(result?)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // It may be gone already; nobody needs it any more.
        let _ = fs::remove_file(&self.path);
    }
}

/// A listening socket for root alone, in the place of one that a dead process left; missing
/// directories above it are made.
///
/// # Errors
/// Where another process serves there (`AddrInUse`), or the kernel refuses.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process serves there",
        ));
    }
    // It appears under its name when it is root's alone and accepts.
    let mut early = path.as_os_str().to_owned();
    early.push(".new");
    let early = PathBuf::from(early);
    match fs::remove_file(&early) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&early)?;
    fs::set_permissions(&early, Permissions::from_mode(0o600))?;
    fs::rename(&early, path)?;
    Ok(listener)
}

async fn accept(
    listener: UnixListener,
) -> Option<(io::Result<tokio::net::UnixStream>, UnixListener)> {
    loop {
        match listener.accept().await {
            Ok((connection, _)) => return Some((Ok(connection), listener)),
            Err(error) => {
                tracing::warn!(%error, "accepting a snapshotter's client");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Frees what removed snapshots leave: those of the last run first.
async fn clean(snapshotter: Arc<Snapshotter>, removed: Arc<Notify>) {
    let mut pause = CLEAN_PAUSE;
    loop {
        let cleaned = snapshotter.clone();
        let is_done = match tokio::task::spawn_blocking(move || cleaned.cleanup()).await {
            Ok(Ok(is_done)) => is_done,
            Ok(Err(error)) => {
                tracing::warn!(%error, "freeing a removed snapshot");
                true
            }
            Err(_) => return,
        };
        if is_done {
            pause = CLEAN_PAUSE;
            removed.notified().await;
            continue;
        }
        tokio::select! {
            () = removed.notified() => pause = CLEAN_PAUSE,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(CLEAN_PAUSE_LIMIT),
        }
    }
}
