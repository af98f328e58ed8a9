//! The snapshots that a daemon serves to containerd.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::daemon::service::Service;
use brisk_snapshotter::socket::{Socket, SocketError};
use brisk_snapshotter::{SnapshotError, Snapshotter};

/// Why snapshots cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotsError {
    /// Their directory or records cannot be used.
    #[error(transparent)]
    Open(#[from] SnapshotError),
    /// Their socket cannot be made or served.
    #[error(transparent)]
    Socket(#[from] SocketError),
}

/// Where the snapshots of a root lie.
pub fn directory(root: &Path) -> PathBuf {
    root.join("snapshotter")
}

/// Serves the snapshots of a root until its service stops; where that fails, stops the service.
///
/// # Errors
/// See [`SnapshotsError`]; what comes later is the task's result.
pub fn start(
    root: &Path,
    socket: &Path,
    service: &Arc<Service>,
) -> Result<JoinHandle<Result<(), SocketError>>, SnapshotsError> {
    let snapshotter = Arc::new(Snapshotter::open(
        &directory(root),
        Some(service.remote_images()),
    )?);
    let socket = Socket::bind(socket)?.observed_by(service.calls());
    let (service, ending) = (service.clone(), service.clone());
    Ok(tokio::spawn(async move {
        let result = socket
            .serve(snapshotter, async move { ending.stopped().await })
            .await;
        service.request_stop();
        result
    }))
}
