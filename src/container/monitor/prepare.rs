//! From a request to a running program, or to nothing at all.

use super::open_store;
use super::stdio::{self, ClientPipes, ConsoleSocket, Outputs};
use crate::cleanup::{self, Release};
use crate::control::{Connection, Event, Request};
use crate::error::ContainerError;
use crate::id::ContainerId;
use crate::image::{AcquiredImage, ImageProvider, ImageRequest};
use crate::overlay::Overlay;
use crate::process::ProcessIdentity;
use crate::runtime::{ProcessStdio, Runtime};
use crate::spec::{Generated, SpecInput, check, generate};
use crate::store::replace;
use crate::store::{Container, MonitorLock, Phase, Record, State, Store, unix_ms};
use brisk_durable::Durability;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use std::fs::DirBuilder;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// SIGINT: what the client is taken to have meant where it only went away.
const GIVEN_UP: i32 = 2;

/// A running container.
#[derive(Debug)]
pub struct Prepared {
    /// All containers.
    pub store: Store,
    /// This one.
    pub container: Container,
    /// What it is.
    pub record: Record,
    /// Says that it is looked after.
    pub lock: MonitorLock,
    /// Its state as written last.
    pub state: State,
    /// Its first process.
    pub init: ProcessIdentity,
    /// What is to be copied.
    pub outputs: Outputs,
    /// What runs it.
    pub runtime: Runtime,
}

/// Prepares and starts the container. After an error nothing is left of it: no directory,
/// no mount, no cgroup, no process.
pub fn prepare(
    request: Request,
    descriptors: Vec<OwnedFd>,
    client: &mut Connection,
    provider: &dyn ImageProvider,
) -> Result<Prepared, ContainerError> {
    check(&request.options)?;
    // From here to the start of the program nobody reads what the client says: that it says
    // anything is enough. It may have come in together with the request.
    if client.has_unread() {
        return Err(ContainerError::Interrupted { signal: GIVEN_UP });
    }
    let store = open_store(&request)?;
    let id = ContainerId::random()?;
    let container = store.create(&id, request.options.name.as_deref())?;
    let runtime = cleanup::runtime_of(&store, &container, request.options.runtime.clone());
    let pipes = ClientPipes::new(&request.pipes, descriptors);
    let mut preparation = Preparation {
        container: &container,
        runtime: &runtime,
        release: Release::Once,
    };
    match preparation.run(request, pipes, client, provider) {
        Ok(running) => Ok(Prepared {
            record: running.record,
            lock: running.lock,
            state: running.state,
            init: running.init,
            outputs: running.outputs,
            store,
            container,
            runtime,
        }),
        Err(error) => {
            let insistence = preparation.release;
            for failure in cleanup::take_down(&container, &runtime, provider, insistence) {
                tracing::warn!(container = container.id.short(), "{failure}");
            }
            if let Err(failure) = store.remove(&container) {
                tracing::warn!(container = container.id.short(), "{failure}");
            }
            Err(error)
        }
    }
}

struct Running {
    record: Record,
    lock: MonitorLock,
    state: State,
    init: ProcessIdentity,
    outputs: Outputs,
}

struct Preparation<'a> {
    container: &'a Container,
    runtime: &'a Runtime,
    release: Release,
}

impl Preparation<'_> {
    fn run(
        &mut self,
        request: Request,
        pipes: ClientPipes,
        client: &mut Connection,
        provider: &dyn ImageProvider,
    ) -> Result<Running, ContainerError> {
        let lock = self.container.lock()?;
        let mut record = first_record(self.container, &request);
        self.container.write_record(&record)?;
        let mut state = first_state();
        self.container.write_state(&state, Durability::Process)?;
        announce(client, &record)?;
        let image = acquire(self.container, &request, client, provider)?;
        self.release = Release::Insist;
        still_wanted(client)?;
        Overlay::in_directory(&self.container.directory, &image.rootfs).mount()?;
        let generated = self.write_bundle(&request, &image)?;
        record.image.clone_from(&image.reference);
        record.manifest_digest = Some(image.manifest_digest.clone());
        record.command.clone_from(&generated.command);
        record.stop_signal = generated.stop_signal;
        self.container.write_record(&record)?;
        still_wanted(client)?;
        let outputs = self.create(&request, pipes, client)?;
        let init = self.init()?;
        state.before_program = init.open().and_then(|process| process.executable());
        state.init = Some(init.clone());
        self.container.write_state(&state, Durability::Process)?;
        self.runtime
            .start(&self.container.id, Some(client.as_fd()))?;
        state.phase = Phase::Running;
        state.started_unix_ms = Some(unix_ms());
        self.container.write_state(&state, Durability::Process)?;
        Ok(Running {
            record,
            lock,
            state,
            init,
            outputs,
        })
    }

    fn write_bundle(
        &self,
        request: &Request,
        image: &AcquiredImage,
    ) -> Result<Generated, ContainerError> {
        let bundle = self.container.bundle();
        let made = DirBuilder::new().mode(0o700).create(&bundle);
        made.map_err(ContainerError::file("create", &bundle))?;
        let rootfs = self.container.rootfs();
        let generated = generate(&SpecInput {
            options: &request.options,
            image: &image.config,
            id: &self.container.id,
            directory: &self.container.directory,
            rootfs: &rootfs,
        })?;
        let path = bundle.join("config.json");
        let content = serde_json::to_vec(&generated.spec)
            .map_err(|error| ContainerError::file("encode", &path)(error.into()))?;
        replace(&path, &content, Durability::Process)?;
        Ok(generated)
    }

    fn create(
        &self,
        request: &Request,
        pipes: ClientPipes,
        client: &Connection,
    ) -> Result<Outputs, ContainerError> {
        let options = &request.options;
        let create = |console: Option<&Path>, stdio: ProcessStdio| {
            let pid_file = self.container.directory.join("init.pid");
            let (id, bundle) = (&self.container.id, self.container.bundle());
            self.runtime
                .create(id, &bundle, &pid_file, console, stdio, Some(client.as_fd()))
        };
        if options.terminal {
            let console = ConsoleSocket::listen(&self.container.directory)?;
            create(Some(&console.path()), ProcessStdio::null())?;
            let master = console.receive()?;
            stdio::with_terminal(self.container, options, pipes, master)
        } else {
            let (stdio, outputs) = stdio::with_pipes(self.container, options, pipes)?;
            create(None, stdio)?;
            Ok(outputs)
        }
    }

    /// The first process, as the runtime named it.
    fn init(&self) -> Result<ProcessIdentity, ContainerError> {
        let path = self.container.directory.join("init.pid");
        let text = std::fs::read_to_string(&path).map_err(ContainerError::file("read", &path))?;
        text.trim()
            .parse()
            .ok()
            .and_then(ProcessIdentity::of)
            .ok_or_else(|| ContainerError::Damaged {
                path,
                reason: format!("{text:?} is no living process"),
            })
    }
}

fn first_record(container: &Container, request: &Request) -> Record {
    let options = request.options.clone();
    Record {
        id: container.id.clone(),
        name: options
            .name
            .clone()
            .unwrap_or_else(|| container.id.short().to_owned()),
        created_unix_ms: unix_ms(),
        image: options.image.clone(),
        manifest_digest: None,
        command: options.command.clone(),
        stop_signal: options.stop_signal.unwrap_or_default(),
        options,
    }
}

fn first_state() -> State {
    State {
        phase: Phase::Creating,
        monitor: ProcessIdentity::own(),
        init: None,
        before_program: None,
        started_unix_ms: None,
        finished_unix_ms: None,
        exit_code: None,
        error: None,
    }
}

/// Tells the client the name; a client that cannot be told has gone.
fn announce(client: &mut Connection, record: &Record) -> Result<(), ContainerError> {
    let event = Event::Created {
        id: record.id.to_string(),
        name: record.name.clone(),
    };
    client
        .send(&event)
        .map_err(|_| ContainerError::Interrupted { signal: GIVEN_UP })
}

fn acquire(
    container: &Container,
    request: &Request,
    client: &Connection,
    provider: &dyn ImageProvider,
) -> Result<AcquiredImage, ContainerError> {
    let acquired = provider.acquire(&ImageRequest {
        reference: request.options.image.clone(),
        platform: request.options.platform.clone(),
        entrypoint: request.options.entrypoint.clone(),
        command: request.options.command.clone(),
        told_when_ready: request.options.ready_after_ms.is_some(),
        container: container.id.clone(),
        cancel: Some(client.as_fd()),
    });
    match acquired {
        Err(error) if error.cancelled => Err(ContainerError::Interrupted { signal: GIVEN_UP }),
        Err(error) => Err(error.into()),
        Ok(image) => Ok(image),
    }
}

/// Fails where the client has said something, or gone.
fn still_wanted(client: &Connection) -> Result<(), ContainerError> {
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match poll(&mut [PollFd::new(client, PollFlags::IN)], Some(&at_once)) {
        Ok(0) => Ok(()),
        _ => Err(ContainerError::Interrupted { signal: GIVEN_UP }),
    }
}
