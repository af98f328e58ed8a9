//! Taking a container apart: runtime, cgroups, overlay, image, and its directory.

use super::cgroup;
use super::error::ContainerError;
use super::image::ImageProvider;
use super::overlay;
use super::process::timespec;
use super::runtime::Runtime;
use super::store::{Container, Status, Store};
use std::time::Duration;

/// Times the release of the image is tried while the mount service is away.
const RELEASE_TRIES: u32 = 20;
/// Pause between two tries; with the number above ten seconds, twice what the keeper
/// takes to start a new service.
const RELEASE_PAUSE: Duration = Duration::from_millis(500);
/// Age below which a directory may be a container's whose monitor is just starting.
const SETTLING: Duration = Duration::from_secs(60);

/// How the image is given back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Release {
    /// The image is held: a mount service that is away is waited for.
    Insist,
    /// The image is probably not held: asked once.
    Once,
}

/// The runtime that made `container`.
pub fn runtime_of(store: &Store, container: &Container, program: std::path::PathBuf) -> Runtime {
    Runtime {
        program,
        root: store.runtime_root(),
        log: container.directory.join("runtime.log"),
    }
}

/// Ends whatever is left of the container's processes and takes its mounts down. Goes on
/// after a failure and tells all of them.
pub fn take_down(
    container: &Container,
    runtime: &Runtime,
    provider: &dyn ImageProvider,
    insistence: Release,
) -> Vec<String> {
    let mut failures = Vec::new();
    if let Err(error) = runtime.delete(&container.id) {
        failures.push(error.to_string());
    }
    for path in cgroup::sweep(&container.id) {
        failures.push(format!("cgroup {} cannot be removed", path.display()));
    }
    if let Err(error) = overlay::unmount(&container.rootfs()) {
        failures.push(error.to_string());
    }
    if let Err(error) = release(container, provider, insistence)
        && insistence == Release::Insist
    {
        failures.push(error.to_string());
    }
    failures
}

fn release(
    container: &Container,
    provider: &dyn ImageProvider,
    insistence: Release,
) -> Result<(), ContainerError> {
    let mut tries = if insistence == Release::Once {
        RELEASE_TRIES
    } else {
        1
    };
    loop {
        match provider.release(&container.id) {
            Err(error) if error.retryable && tries < RELEASE_TRIES => tries += 1,
            result => return result.map_err(ContainerError::from),
        }
        // The service comes back without telling us: asked again.
        let _ = rustix::event::poll(&mut [], Some(&timespec(RELEASE_PAUSE)));
    }
}

/// Removes a container that does not run and that no monitor looks after any more.
pub fn remove(
    store: &Store,
    container: &Container,
    provider: &dyn ImageProvider,
) -> Result<(), ContainerError> {
    // Held until the directory is gone: two removals at once do not meet.
    let _lock = container.lock()?;
    if let Ok(record) = container.record() {
        let runtime = runtime_of(store, container, record.options.runtime);
        // A monitor that ended well has done this; where the runtime itself has gone
        // meanwhile, what matters is that nothing is mounted below the directory.
        take_down(container, &runtime, provider, Release::Once);
    }
    overlay::unmount(&container.rootfs())?;
    store.remove(container)
}

/// Removes what crashes left: containers whose monitor died while they were being
/// prepared, or that were to be removed at their end. Returns their ids.
pub fn sweep(store: &Store, provider: &dyn ImageProvider) -> Result<Vec<String>, ContainerError> {
    let mut removed = Vec::new();
    for container in store.list()? {
        let abandoned = container.age() > SETTLING
            && !container.is_monitored()?
            && matches!(container.status(), Ok(Status::Exited { code: None }));
        let unwanted = container.record().map_or(true, |record| {
            record.options.remove || container.state().is_ok_and(|state| state.init.is_none())
        });
        if abandoned && unwanted {
            remove(store, &container, provider)?;
            removed.push(container.id.to_string());
        }
    }
    Ok(removed)
}
