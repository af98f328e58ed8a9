//! One served mount: the thread that answers the kernel, and how it ends.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fuse::{
    Content, MountedTree, RequestCounts, Session, SessionError, SessionOptions, WaitingReads,
};
use nix::mount::{MntFlags, umount2};

use crate::error::{MountError, describe};
use crate::held::HeldMount;
use crate::record::MountRecord;
use crate::socket;

/// Reader threads of one mount: a second one answers metadata while the first copies data.
const THREADS: usize = 2;

/// A mount that this process serves.
pub struct Serving {
    held: HeldMount,
    waiting: Arc<WaitingReads>,
    thread: JoinHandle<()>,
}

impl Serving {
    /// Takes over a held mount and serves `tree` on it; `resuming` where another process has
    /// served it before, which asks the kernel for the requests that died with that process.
    ///
    /// `requests` counts what the kernel asks. `on_end` is called when the mount is no more, on the serving thread.
    ///
    /// # Errors
    /// Where the session cannot be set up; the mount then waits for another server.
    pub fn start<C: Content>(
        held: HeldMount,
        tree: MountedTree<C>,
        resuming: bool,
        requests: Arc<RequestCounts>,
        on_end: impl FnOnce() + Send + 'static,
    ) -> Result<Self, MountError> {
        let failed = |message: String| MountError::Session {
            directory: held.record.directory.clone(),
            message,
        };
        let waiting = Arc::new(WaitingReads::default());
        let options = SessionOptions {
            threads: THREADS,
            resuming,
            waiting: waiting.clone(),
            requests,
            replace_descriptor: sys::descriptor::replace,
        };
        let device = socket::duplicate(&held.device).map_err(|e| failed(e.to_string()))?;
        let session = Session::adopt(device, &held.init, tree, options)
            .map_err(|error: SessionError| failed(describe(&error)))?;
        let directory = held.record.directory.clone();
        let thread = thread::Builder::new()
            .name("fuse".to_owned())
            .spawn(move || {
                if let Err(error) = session.run() {
                    let error = describe(&error);
                    tracing::error!(directory = %directory.display(), error, "FUSE session ended");
                }
                on_end();
            })
            .map_err(|e| failed(e.to_string()))?;
        Ok(Serving {
            held,
            waiting,
            thread,
        })
    }

    /// What is mounted.
    pub fn record(&self) -> &MountRecord {
        &self.held.record
    }

    /// The mount as a new keeper needs it.
    pub fn held(&self) -> &HeldMount {
        &self.held
    }

    /// Reads that wait for content.
    pub fn waiting_reads(&self) -> u64 {
        self.waiting.waiting() as u64
    }

    /// Reads that have been waiting for at least `limit`.
    pub fn waiting_reads_for(&self, limit: Duration) -> u64 {
        self.waiting.waiting_for(limit) as u64
    }

    /// From now on, reads without an answer are left to the next service.
    pub fn leave_to_successor(&self) {
        self.waiting.leave_to_successor();
    }

    /// Unmounts. What still has the tree open goes on being served until it lets go.
    ///
    /// # Errors
    /// What umount2(2) answers; a directory where nothing is mounted any more is no error.
    pub fn unmount(&self) -> Result<(), MountError> {
        match umount2(&self.held.record.directory, MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => Ok(()),
            Err(errno) => Err(MountError::Path {
                action: "unmounting",
                path: self.held.record.directory.clone(),
                source: errno.into(),
            }),
        }
    }

    /// True when the serving thread has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}
