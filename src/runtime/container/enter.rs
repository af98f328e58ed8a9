//! A further process in a container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::process::DumpableBehavior;
use sys::clone::{Child, Forked};

use crate::container::channel::{Channel, Message};
use crate::container::create::{agent, filter, write_pid_file};
use crate::container::id_maps::become_root;
use crate::container::init::{Identity, Opened, join_keyring};
use crate::container::namespaces::{self, Born};
use crate::container::signal::handle;
use crate::error::{Context, Error, Result};
use crate::log;
use crate::process::{
    Console, Program, Sets, attach_terminal, check_labels, open_terminal, set_affinity,
};
use crate::rootfs::{self, Root};
use crate::spec::{CpuAffinity, NamespaceKind, Process};
use crate::state::{Directory, State, Status};

/// What `exec` is asked for.
#[derive(Debug)]
pub struct Enter {
    /// The program and what it runs as.
    pub process: Process,
    /// Where the terminal goes.
    pub console: Option<Console>,
    /// Where the process's number is written.
    pub pid_file: Option<PathBuf>,
    /// Further descriptors that the program keeps.
    pub preserve_fds: u32,
    /// Cgroups below the container's own to be in, as `--cgroup` names them.
    pub cgroups: Vec<String>,
    /// Whether a paused container will do: the process freezes with it.
    pub ignore_paused: bool,
}

/// Where a process enters.
struct Target {
    /// The container's first process.
    handle: OwnedFd,
    /// Namespaces of it that are not this process's own.
    foreign: u64,
    /// Its root, where that is no mount.
    root: Option<Root>,
}

fn root_of(pid: i32) -> Result<Root> {
    let path = format!("/proc/{pid}/root");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&path, flags, Mode::empty()).doing(|| format!("open {path}"))?;
    Ok(Root::new(root))
}

const KINDS: [NamespaceKind; 8] = [
    NamespaceKind::User,
    NamespaceKind::Mount,
    NamespaceKind::Network,
    NamespaceKind::Ipc,
    NamespaceKind::Uts,
    NamespaceKind::Cgroup,
    NamespaceKind::Pid,
    NamespaceKind::Time,
];

/// Runs a process in the container and returns once its program has begun.
///
/// # Errors
/// [`Error::WrongState`], [`Error::Init`] with why the program could not be executed.
pub fn enter(directory: &Directory, arguments: &Enter) -> Result<Child> {
    let state = directory.state()?;
    let status = directory.status(&state);
    let paused = status == Status::Paused && arguments.ignore_paused;
    if !status.can_exec() && !paused {
        return Err(Error::WrongState {
            verb: "exec in",
            status: status.as_str(),
        });
    }
    if paused {
        // The process goes on only once somebody resumes the container, who needs the lock.
        directory.leave_lock();
    }
    let spec = directory.spec()?;
    let linux = spec.linux.unwrap_or_default();
    let process = &arguments.process;
    check_labels(process, "")?;
    let identity = Identity {
        process,
        linux: &linux,
        sets: process
            .capabilities
            .as_ref()
            .map_or(Ok(Sets::default()), Sets::of)?,
        filter: filter(&linux, directory.root())?,
        agent: agent(&linux)?,
        kept_descriptors: arguments.preserve_fds,
        listen_descriptors: 0,
    };
    let target = handle(&state)?;
    // Without mounts of its own its root is but a directory, which has to be entered as such.
    let root = if linux.makes(NamespaceKind::Mount) {
        None
    } else {
        Some(root_of(state.pid)?)
    };
    let foreign = foreign_namespaces(&state)?;
    log::debug("nsexec container setup: joining the namespaces");
    let (ours, theirs) = Channel::pair()?;
    let child = match fork(&state, &target, foreign)? {
        Born::Parent(child) => child,
        Born::Child(_) => {
            drop(ours);
            directory.leave_lock();
            let target = Target {
                handle: target,
                foreign,
                root,
            };
            run(arguments, &identity, &state, &target, &theirs)
        }
    };
    drop(theirs);
    let inherited = spec.process.and_then(|process| process.exec_cpu_affinity);
    let affinity = process.exec_cpu_affinity.clone().or(inherited);
    let affinity = affinity.unwrap_or_default();
    if let Err(error) = accompany(&child, arguments, &state, &ours, &affinity) {
        let _ = sys::signal::send(child.pidfd.as_fd(), nix::libc::SIGKILL);
        let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child.pid), None);
        return Err(error);
    }
    Ok(child)
}

/// Forks into those namespaces that count for children only. An ordinary user has a right to
/// them in the container's user namespace alone.
fn fork(state: &State, target: &OwnedFd, foreign: u64) -> Result<Born> {
    let birthplace = state.cgroup.birthplace()?;
    let birthplace = birthplace.as_ref().map(AsFd::as_fd);
    let for_children = foreign & (NamespaceKind::Pid.flag() | NamespaceKind::Time.flag());
    let user = foreign & NamespaceKind::User.flag();
    if user != 0 && !rustix::process::geteuid().is_root() {
        return namespaces::fork_beside(target.as_fd(), user | for_children, birthplace);
    }
    if for_children != 0 {
        sys::namespace::join(target.as_fd(), for_children)
            .doing(|| "join the container's namespaces of processes and time")?;
    }
    match sys::clone::fork(0, birthplace).doing(|| "fork")? {
        Forked::Parent(child) => Ok(Born::Parent(child)),
        Forked::Child => Ok(Born::Child(Vec::new())),
    }
}

/// The kinds in which the container's first process is elsewhere than this one.
fn foreign_namespaces(state: &State) -> Result<u64> {
    let mut foreign = 0;
    for kind in KINDS {
        let own = format!("/proc/self/ns/{}", kind.file());
        let theirs = format!("/proc/{}/ns/{}", state.pid, kind.file());
        // A kernel without the kind has neither.
        let Ok(own) = std::fs::read_link(&own) else {
            continue;
        };
        let theirs = std::fs::read_link(&theirs).doing(|| format!("read {theirs}"))?;
        if own != theirs {
            foreign |= kind.flag();
        }
    }
    Ok(foreign)
}

fn accompany(
    child: &Child,
    arguments: &Enter,
    state: &State,
    channel: &Channel,
    affinity: &CpuAffinity,
) -> Result<()> {
    let field = "process.execCPUAffinity";
    set_affinity(child.pid, &format!("{field}.initial"), &affinity.initial)?;
    state.cgroup.attach_below(child.pid, &arguments.cgroups)?;
    set_affinity(child.pid, &format!("{field}.final"), &affinity.last)?;
    if let Some(score) = arguments.process.oom_score_adj {
        std::fs::write(
            format!("/proc/{}/oom_score_adj", child.pid),
            score.to_string(),
        )
        .doing(|| "set process.oomScoreAdj")?;
    }
    channel.send(&Message::Go)?;
    channel.expect(&Message::Ready)?;
    if let Some(path) = &arguments.pid_file {
        write_pid_file(path, child.pid)?;
    }
    channel.send(&Message::Go)?;
    // The program's beginning closes the other end.
    match channel.receive()? {
        None => Ok(()),
        Some(Message::Failed(text)) => Err(Error::Init(text)),
        Some(_) => Err(Error::Init("message out of turn".to_owned())),
    }
}

fn run(
    arguments: &Enter,
    identity: &Identity<'_>,
    state: &State,
    target: &Target,
    channel: &Channel,
) -> ! {
    let error = match prepare(arguments, identity, state, target, channel) {
        Ok((program, opened)) => match identity.install_late_filter(&opened) {
            Ok(()) => identity.execute(&program),
            Err(error) => error,
        },
        Err(error) => error,
    };
    let _ = channel.send(&Message::Failed(error.to_string()));
    sys::clone::exit_now(255)
}

fn is_in_user_namespace(state: &State) -> Result<bool> {
    let action = || "compare user namespaces";
    let own = std::fs::read_link("/proc/self/ns/user").doing(action)?;
    let theirs = std::fs::read_link(format!("/proc/{}/ns/user", state.pid)).doing(action)?;
    Ok(own == theirs)
}

fn prepare(
    arguments: &Enter,
    identity: &Identity<'_>,
    state: &State,
    target: &Target,
    channel: &Channel,
) -> Result<(Program, Opened)> {
    channel.expect(&Message::Go)?;
    log::debug("child process in init(): preparing");
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .doing(|| "become undumpable")?;
    rustix::process::setsid().doing(|| "start a session")?;
    let opened = identity.open(state, Status::Running)?;
    let mut own = target.foreign & !(NamespaceKind::Pid.flag() | NamespaceKind::Time.flag());
    let user = target.foreign & NamespaceKind::User.flag();
    if user != 0 && is_in_user_namespace(state)? {
        // The process in between has entered it.
        own &= !user;
    }
    if own != 0 {
        sys::namespace::join(target.handle.as_fd(), own)
            .doing(|| "join the container's namespaces")?;
    }
    if let Some(root) = &target.root {
        rootfs::enter_without_mounts(root)?;
    }
    if user != 0 {
        become_root()?;
    }
    join_keyring(&state.id)?;
    if let Some(console) = &arguments.console {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open("/", flags, Mode::empty()).doing(|| "open /")?;
        let size = arguments.process.console_size;
        let terminal = open_terminal(&Root::new(root), console, size, false)?;
        attach_terminal(&terminal, arguments.process.user.uid)?;
    }
    let program = identity.assume(&opened)?;
    log::debug("setns_init: about to exec");
    channel.send(&Message::Ready)?;
    channel.expect(&Message::Go)?;
    Ok((program, opened))
}
