//! Making a container, up to where its program waits.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags};
use sys::clone::Child;

use crate::cgroup::{Cgroup, Layout, RdtGroup};
use crate::container::channel::{Channel, Message};
use crate::container::hooks;
use crate::container::id_maps;
use crate::container::init::{Identity, Init};
use crate::container::namespaces::{self, Born};
use crate::container::steps::Steps;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::log;
use crate::network;
use crate::process::{Agent, Console, Filter, Sets, check_labels};
use crate::rootfs;
use crate::spec::{self, Linux, NamespaceKind, Process, Spec};
use crate::state::{Directory, State, Status, rfc3339, start_time};

/// What `create` is asked for.
#[derive(Debug)]
pub struct Create {
    /// Where states are kept.
    pub root: PathBuf,
    /// The container's name.
    pub id: String,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// Where the first process's number is written.
    pub pid_file: Option<PathBuf>,
    /// Where the terminal goes.
    pub console: Option<Console>,
    /// Whether systemd makes the cgroup.
    pub systemd: bool,
    /// Whether to change the root by pivot_root(2).
    pub pivot: bool,
    /// Whether to make a session keyring.
    pub new_keyring: bool,
    /// Further descriptors that the program keeps.
    pub preserve_fds: u32,
}

/// Makes the container. On failure nothing of it is left.
///
/// # Errors
/// [`Error`] of what failed, in this process or in the new one.
pub fn create(arguments: Create) -> Result<(State, Child)> {
    let bundle = std::fs::canonicalize(&arguments.bundle)
        .doing(|| format!("find the bundle {}", arguments.bundle.display()))?;
    let (config, spec) = spec::load(&bundle)?;
    spec::check(&spec)?;
    let default_linux = Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&default_linux);
    let process = spec
        .process
        .as_ref()
        .ok_or_else(|| Error::invalid("process", "missing"))?;
    check_console(process, arguments.console.is_some())?;
    let root_path = spec.root.as_ref().map_or("", |root| root.path.as_str());
    let rootfs = std::fs::canonicalize(bundle.join(root_path))
        .doing(|| format!("find the rootfs {root_path}"))?;
    let identity = identity(process, linux, &arguments.root, arguments.preserve_fds)?;

    let directory = Directory::create(&arguments.root, &arguments.id)?;
    let mut undo = Undo {
        directory: &directory,
        state: State::default(),
        child: None,
        kept: false,
    };
    undo.state = State {
        id: arguments.id.clone(),
        bundle,
        rootfs,
        created: rfc3339(SystemTime::now()),
        annotations: spec.annotations.clone(),
        ..State::default()
    };
    fault::point();
    directory.save_spec(&config)?;
    fault::point();
    confine(&directory, &mut undo.state, linux, arguments.systemd)?;
    fault::point();
    if let Some(wanted) = &linux.intel_rdt {
        undo.state.cgroup.rdt = Some(RdtGroup::prepare(&arguments.id, wanted)?);
    }
    directory.save(&undo.state)?;
    fault::point();

    let state = undo.state.clone();
    let steps = Steps::of(&spec, &state);
    let (child, channel) = fork(
        &arguments, &spec, linux, steps, identity, &directory, &state,
    )?;
    undo.state.pid = child.pid;
    undo.child = Some(child);
    fault::point();
    accompany(&mut undo, &spec, linux, process, steps, &channel)?;
    fault::point();
    if let Some(path) = &arguments.pid_file {
        write_pid_file(path, undo.state.pid)?;
    }
    fault::point();
    directory.save(&undo.state)?;
    fault::point();
    // Only now is the process on record: until it hears this it ends with this one.
    channel.send(&Message::Go)?;
    fault::point();
    undo.keep()
}

/// Makes the cgroup and writes its limits. An ordinary user without a cgroup of its own goes
/// without, unless there are limits; rules for devices it does not need, having no right to make
/// one. Before anything is made it is on record, for a `delete` after a crash.
fn confine(directory: &Directory, state: &mut State, linux: &Linux, systemd: bool) -> Result<()> {
    let layout = Layout::read()?;
    let mut cgroup = if systemd {
        layout.place_unit(&linux.cgroups_path, &state.id)?
    } else {
        layout.place(&linux.cgroups_path, &state.id)?
    };
    if cgroup.is_frozen() {
        let reason = "container's cgroup unexpectedly frozen: thaw it or choose another";
        return Err(Error::invalid("linux.cgroupsPath", reason));
    }
    if let Some(pid) = cgroup.processes()?.first() {
        log::warning(&format!(
            "container's cgroup is not empty: process {pid} among others stays when it is deleted"
        ));
        state.shares_cgroup = true;
    }
    if !systemd {
        cgroup.note_missing();
    }
    state.cgroup = cgroup.clone();
    directory.save(state)?;
    fault::point();
    match cgroup.prepare(&linux.resources) {
        Err(Error::Os { action, source })
            if !rustix::process::geteuid().is_root() && is_refusal(&source) =>
        {
            if linux.resources.has_limits() {
                let reason = format!("this user has no right to set limits ({action}: {source})");
                return Err(Error::unsupported("linux.resources", reason));
            }
            state.cgroup = Cgroup::default();
            return Ok(());
        }
        other => other?,
    }
    state.cgroup = cgroup;
    Ok(())
}

fn is_refusal(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
}

fn check_console(process: &Process, given: bool) -> Result<()> {
    match (process.terminal, given) {
        (true, false) => {
            let reason = "a terminal needs --console-socket";
            Err(Error::Usage(format!("process.terminal: {reason}")))
        }
        (false, true) => Err(Error::Usage(
            "--console-socket without process.terminal".to_owned(),
        )),
        _ => Ok(()),
    }
}

fn identity<'a>(
    process: &'a Process,
    linux: &'a Linux,
    root: &Path,
    preserved: u32,
) -> Result<Identity<'a>> {
    let listen = std::env::var("LISTEN_FDS")
        .ok()
        .and_then(|number| number.parse::<u32>().ok());
    let listen_descriptors = listen.unwrap_or(0);
    check_labels(process, &linux.mount_label)?;
    network::check(linux)?;
    Ok(Identity {
        process,
        linux,
        sets: process
            .capabilities
            .as_ref()
            .map_or(Ok(Sets::default()), Sets::of)?,
        filter: filter(linux, root)?,
        agent: agent(linux)?,
        kept_descriptors: preserved.saturating_add(listen_descriptors),
        listen_descriptors,
    })
}

/// The filter of the container, where it has one; `root` is where states are kept.
///
/// # Errors
/// As [`Filter::of`].
pub fn filter(linux: &Linux, root: &Path) -> Result<Option<Filter>> {
    let profile = linux.seccomp.as_ref();
    profile.map(|profile| Filter::of(profile, root)).transpose()
}

/// Connects to the agent of seccomp notifications, where there is one.
///
/// # Errors
/// [`Error::Os`] naming its path.
pub fn agent(linux: &Linux) -> Result<Option<Agent>> {
    let profile = linux.seccomp.as_ref();
    Ok(profile.map(Agent::connect).transpose()?.flatten())
}

fn fork(
    arguments: &Create,
    spec: &Spec,
    linux: &Linux,
    steps: Steps,
    identity: Identity<'_>,
    directory: &Directory,
    state: &State,
) -> Result<(Child, Channel)> {
    let fifo = make_fifo(&directory.fifo())?;
    let failure = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(directory.failure())
        .doing(|| "make the file for a failed exec")?;
    log::debug("nsexec container setup: making the namespaces");
    let (ours, theirs) = Channel::pair()?;
    let sources = rootfs::prepare_sources(&spec.mounts, linux, &state.bundle)?;
    let entrance = state.cgroup.entrance()?;
    let birthplace = state.cgroup.birthplace()?;
    match namespaces::fork(linux, birthplace.as_ref().map(AsFd::as_fd))? {
        Born::Parent(child) => Ok((child, ours)),
        Born::Child(joined) => {
            fault::enter_init();
            drop(ours);
            directory.leave_lock();
            let console = arguments
                .console
                .as_ref()
                .map(Console::try_clone)
                .transpose();
            let console = match console {
                Ok(console) => console,
                Err(error) => {
                    let _ = theirs.send(&Message::Failed(error.to_string()));
                    sys::clone::exit_now(1)
                }
            };
            let init = Init {
                spec,
                linux,
                steps,
                identity,
                state,
                channel: theirs,
                entrance,
                fifo,
                failure,
                console,
                sources,
                namespaces: joined,
                pivot: arguments.pivot,
                new_keyring: arguments.new_keyring,
            };
            init.run()
        }
    }
}

/// The reading end is the first process's alone once this one ends; `start` tells by that
/// whether anybody still waits.
fn make_fifo(path: &Path) -> Result<OwnedFd> {
    let action = || format!("make {}", path.display());
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o622)).doing(action)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).doing(action)
}

/// The parent's part while the child prepares itself.
fn accompany(
    undo: &mut Undo<'_>,
    spec: &Spec,
    linux: &Linux,
    process: &Process,
    steps: Steps,
    channel: &Channel,
) -> Result<()> {
    let pid = undo.state.pid;
    undo.state.start_time =
        start_time(pid).ok_or_else(|| Error::Init("the process ended at once".to_owned()))?;
    let annotations = &spec.annotations;
    undo.state
        .cgroup
        .admit(pid, &linux.resources, annotations)?;
    fault::point();
    // A process in between has its maps already, which its child shares.
    if linux.makes(NamespaceKind::User) && !has_maps(pid) {
        id_maps::write(pid, linux)?;
    }
    if let Some(score) = process.oom_score_adj {
        std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string())
            .doing(|| "set process.oomScoreAdj")?;
    }
    network::move_devices(linux, pid)?;
    fault::point();
    if steps.help {
        channel.send(&Message::Go)?;
        fault::point();
    }
    if steps.hooks {
        channel.expect(&Message::Mounted)?;
        fault::point();
        hooks::run(&spec.hooks.prestart, &undo.state, Status::Creating)?;
        hooks::run(&spec.hooks.create_runtime, &undo.state, Status::Creating)?;
        fault::point();
        channel.send(&Message::Go)?;
        fault::point();
    }
    channel.expect(&Message::Ready)
}

fn has_maps(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/uid_map")).is_ok_and(|map| !map.is_empty())
}

/// Writes a process number: whole or not at all, for those who watch the file.
///
/// # Errors
/// [`Error::Os`].
pub fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let temporary = path.with_file_name(format!(".{name}"));
    std::fs::write(&temporary, pid.to_string())
        .and_then(|()| std::fs::rename(&temporary, path))
        .doing(|| format!("write the pid file {}", path.display()))
}

/// Takes back what was made, unless kept.
struct Undo<'a> {
    directory: &'a Directory,
    state: State,
    child: Option<Child>,
    kept: bool,
}

impl Undo<'_> {
    fn keep(mut self) -> Result<(State, Child)> {
        let child = self
            .child
            .take()
            .ok_or_else(|| Error::Init("was never made".to_owned()))?;
        self.kept = true;
        Ok((std::mem::take(&mut self.state), child))
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Some(child) = self.child.take() {
            let _ = sys::signal::send(child.pidfd.as_fd(), nix::libc::SIGKILL);
            let _ = self.state.cgroup.thaw();
            let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child.pid), None);
        }
        self.state.cgroup.remove();
        let _ = self.directory.remove();
    }
}
