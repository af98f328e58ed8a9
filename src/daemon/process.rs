//! The service as a process: the root's lock, signals, the control socket, the end.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::daemon::config::Config;
use crate::daemon::control::SOCKET;
use crate::daemon::metrics::{self, MetricsError};
use crate::daemon::notify::{self, State};
use crate::daemon::server;
use crate::daemon::service::{Service, StartError};
use crate::daemon::settings::Settings;
use crate::daemon::snapshots::{self, SnapshotsError};
use brisk_mount::Commands;
use brisk_mount::socket::SocketDirectory;

/// How often the service looks after the keeper and whether it is still needed.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long a service that finds its root locked waits for the other one: it may be ending.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// How a service runs.
pub struct Options {
    /// The root.
    pub root: PathBuf,
    /// The configuration.
    pub config: Config,
    /// What it was started with, for later commands to compare theirs with.
    pub settings: Settings,
    /// How keeper and service of this root are started.
    pub commands: Commands,
    /// End when nothing is mounted and nobody asks.
    pub end_when_idle: bool,
    /// The socket of the snapshots, where containerd is served.
    pub snapshotter: Option<PathBuf>,
    /// Take every mount down at the end.
    pub unmount_at_end: bool,
}

/// Why the service's process failed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// A file or directory of the root cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Another service has the root.
    #[error("another mount service has the root {}", root.display())]
    Locked {
        /// The root.
        root: PathBuf,
    },
    /// The service cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Snapshots cannot be served.
    #[error(transparent)]
    Snapshots(#[from] SnapshotsError),
    /// Metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The runtime or its signals cannot be had.
    #[error("starting: {0}")]
    Runtime(#[source] io::Error),
}

/// Runs the service of a root until it is stopped or idle.
///
/// # Errors
/// See [`ProcessError`].
pub fn run(options: Options) -> Result<(), ProcessError> {
    let run = options.root.join("run");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&run)
        .map_err(|source| ProcessError::File {
            path: run.clone(),
            source,
        })?;
    let Some(_lock) = lock(&options.root, &run)? else {
        // Another service got the root first and serves it: that is what was wanted.
        return if options.end_when_idle {
            Ok(())
        } else {
            Err(ProcessError::Locked { root: options.root })
        };
    };
    // Before anybody can connect.
    let written = options.settings.write(&run);
    written.map_err(|source| ProcessError::File {
        path: run.clone(),
        source,
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(ProcessError::Runtime)?;
    let result = runtime.block_on(serve(options, &run));
    // Blocking work that is still under way must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// Takes the root's lock; none where a living service answers on its socket.
fn lock(root: &Path, run: &Path) -> Result<Option<File>, ProcessError> {
    let path = run.join("service.lock");
    let on_file = |source| ProcessError::File {
        path: path.clone(),
        source,
    };
    let file = File::create(&path).map_err(on_file)?;
    let started = std::time::Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(source)) => return Err(on_file(source)),
            Err(TryLockError::WouldBlock) => {}
        }
        let answers = SocketDirectory::open(run)
            .and_then(|d| std::os::unix::net::UnixStream::connect(d.path(SOCKET)))
            .is_ok();
        if answers {
            return Ok(None);
        }
        if started.elapsed() >= LOCK_LIMIT {
            return Err(ProcessError::Locked {
                root: root.to_path_buf(),
            });
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "another process's lock has no event"
        )]
        std::thread::sleep(Duration::from_millis(5));
    }
}

async fn serve(options: Options, run: &Path) -> Result<(), ProcessError> {
    let metrics = options.config.metrics.address.clone();
    let service = Service::open(&options.root, options.config, options.commands)?;
    let on_socket = |source| ProcessError::File {
        path: run.join(SOCKET),
        source,
    };
    let listener = server::bind(run).map_err(on_socket)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(ProcessError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ProcessError::Runtime)?;
    let snapshots = match &options.snapshotter {
        Some(socket) => Some(snapshots::start(&options.root, socket, &service)?),
        None => None,
    };
    if let Some(address) = metrics {
        match metrics::serve(&address, &service).await {
            // Nobody runs a container for the sake of its metrics.
            Err(error) if options.end_when_idle => tracing::warn!("{error}"),
            served => served?,
        }
    }
    notify::tell(State::Ready);
    let watcher = tokio::spawn(watch(service.clone(), options.end_when_idle));
    tokio::select! {
        () = server::serve(listener, service.clone()) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    notify::tell(State::Stopping);
    if options.unmount_at_end {
        service.unmount_at_end();
    }
    service.request_stop();
    watcher.abort();
    // Removed before the work is ended: a client that comes now starts the next service, which
    // waits for the lock.
    let _ = fs::remove_file(run.join(SOCKET));
    let served = match snapshots {
        Some(task) => task.await.unwrap_or(Ok(())),
        None => Ok(()),
    };
    service.finish().await;
    Ok(served.map_err(SnapshotsError::from)?)
}

/// Looks after the service, and stops it when nothing needs it.
async fn watch(service: Arc<Service>, end_when_idle: bool) {
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    loop {
        interval.tick().await;
        let looked = service.clone();
        let is_idle = tokio::task::spawn_blocking(move || looked.look_after())
            .await
            .unwrap_or(false);
        if is_idle && end_when_idle {
            return service.request_stop();
        }
    }
}
