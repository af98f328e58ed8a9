//! The fork of the first process into its namespaces. As a rule one clone3(2) makes all of them.
//! Where the others must belong to a user namespace that is joined, or clocks are set without the
//! right to do so outside, a process in between enters that one first.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use sys::clone::{Child, Forked};

use crate::container::channel::{Channel, Message};
use crate::container::id_maps;
use crate::error::{Context, Error, Result};
use crate::spec::{Linux, Namespace, NamespaceKind};

type Joined = Vec<(NamespaceKind, OwnedFd)>;

/// What is joined and what is made.
struct Plan<'a> {
    linux: &'a Linux,
    /// `CLONE_NEW*` bits of what is made, without the cgroup namespace, which comes later.
    new: u64,
    joined: Joined,
    user: Option<OwnedFd>,
}

/// What the child still joins by itself, or what the parent knows.
pub enum Born {
    /// In the parent: the child.
    Parent(Child),
    /// In the child: namespaces to join.
    Child(Joined),
}

/// Forks the first process.
///
/// # Errors
/// [`Error::Os`] naming the namespace, [`Error::Init`] of the process in between.
pub fn fork(linux: &Linux, birthplace: Option<BorrowedFd<'_>>) -> Result<Born> {
    let plan = Plan::of(linux)?;
    let clocks = !linux.time_offsets.is_empty();
    let makes_user = linux.makes(NamespaceKind::User);
    if plan.user.is_some() || (makes_user && clocks && !rustix::process::geteuid().is_root()) {
        let maps = makes_user.then_some(linux);
        return through_another(maps, birthplace, || plan.enter_user_namespace());
    }
    let mut outside = Outside::default();
    let mut later = Joined::new();
    for (kind, file) in plan.joined {
        // Those of processes and time count for children only; a new user namespace has no
        // right to join what belongs to the host, nor to look for its files elsewhere.
        let early = matches!(kind, NamespaceKind::Pid | NamespaceKind::Time);
        if early || (makes_user && kind != NamespaceKind::Mount) {
            outside.remember(kind)?;
            join(&file, kind)?;
        } else {
            later.push((kind, file));
        }
    }
    let mut new = plan.new;
    if clocks {
        outside.remember(NamespaceKind::Time)?;
        offset_clocks(linux)?;
        new &= !NamespaceKind::Time.flag();
    }
    let forked =
        sys::clone::fork(new, birthplace).doing(|| "make the container's first process")?;
    match forked {
        Forked::Child => {
            std::mem::forget(outside);
            Ok(Born::Child(later))
        }
        Forked::Parent(child) => {
            outside.restore()?;
            Ok(Born::Parent(child))
        }
    }
}

fn join(file: &OwnedFd, kind: NamespaceKind) -> Result<()> {
    sys::namespace::join(file.as_fd(), kind.flag())
        .doing(|| format!("join the {} namespace of linux.namespaces", kind.file()))
}

/// Joins what [`fork`] left to the child.
///
/// # Errors
/// [`Error::Os`] naming the namespace.
pub fn join_all(joined: &[(NamespaceKind, OwnedFd)]) -> Result<()> {
    // The files of the others are no longer to be found once the mount namespace is another.
    joined.iter().try_for_each(|(kind, file)| join(file, *kind))
}

/// Namespaces that this process goes back to.
#[derive(Default)]
struct Outside {
    files: Joined,
}

impl Outside {
    fn remember(&mut self, kind: NamespaceKind) -> Result<()> {
        let path = format!("/proc/self/ns/{}", kind.file());
        let file = File::open(&path).doing(|| format!("open {path}"))?;
        self.files.push((kind, file.into()));
        Ok(())
    }

    fn restore(self) -> Result<()> {
        self.files.iter().try_for_each(|(kind, file)| {
            sys::namespace::join(file.as_fd(), kind.flag())
                .doing(|| format!("go back to the own {} namespace", kind.file()))
        })
    }
}

impl<'a> Plan<'a> {
    fn of(linux: &'a Linux) -> Result<Self> {
        let mut plan = Self {
            linux,
            new: 0,
            joined: Joined::new(),
            user: None,
        };
        for Namespace { kind, path } in &linux.namespaces {
            if path.is_empty() {
                if *kind != NamespaceKind::Cgroup {
                    plan.new |= kind.flag();
                }
                continue;
            }
            let action = || format!("open the {} namespace {path}", kind.file());
            let file = OwnedFd::from(File::open(path).doing(action)?);
            if *kind == NamespaceKind::User {
                plan.user = Some(file);
            } else {
                plan.joined.push((*kind, file));
            }
        }
        Ok(plan)
    }

    /// Enters the user namespace, in the process in between; what is left to make.
    fn enter_user_namespace(self) -> Result<u64> {
        // What belongs to the host can be joined only before, what belongs to the user
        // namespace only after.
        let mut refused = Joined::new();
        for (kind, file) in self.joined {
            if join(&file, kind).is_err() {
                refused.push((kind, file));
            }
        }
        if let Some(user) = &self.user {
            join(user, NamespaceKind::User)?;
        }
        join_all(&refused)?;
        id_maps::become_root()?;
        let mut new = self.new & !NamespaceKind::User.flag();
        if !self.linux.time_offsets.is_empty() {
            offset_clocks(self.linux)?;
            new &= !NamespaceKind::Time.flag();
        }
        Ok(new)
    }
}

/// Forks into the namespaces `kinds` of the process `target`, those of users and of processes
/// among them: who has no rights outside gets them in the user namespace only.
///
/// # Errors
/// As [`fork`].
pub fn fork_beside(
    target: BorrowedFd<'_>,
    kinds: u64,
    birthplace: Option<BorrowedFd<'_>>,
) -> Result<Born> {
    through_another(None, birthplace, || {
        sys::namespace::join(target, kinds).doing(|| "join the container's user namespace")?;
        id_maps::become_root()?;
        Ok(0)
    })
}

/// Forks by a process in between, which does `enter` and makes what that returns for its child.
/// It is gone when this returns. With `maps` it has a new user namespace.
fn through_another(
    maps: Option<&Linux>,
    birthplace: Option<BorrowedFd<'_>>,
    enter: impl FnOnce() -> Result<u64>,
) -> Result<Born> {
    let (ours, theirs) = Channel::pair()?;
    let new = maps.map_or(0, |_| NamespaceKind::User.flag());
    match sys::clone::fork(new, birthplace).doing(|| "fork")? {
        Forked::Child => {
            drop(ours);
            if let Err(error) = between(&theirs, enter) {
                let _ = theirs.send(&Message::Failed(error.to_string()));
                sys::clone::exit_now(1);
            }
            Ok(Born::Child(Joined::new()))
        }
        Forked::Parent(other) => {
            drop(theirs);
            let born = receive_child(maps, &ours, other.pid);
            if born.is_err() {
                let _ = sys::signal::send(other.pidfd.as_fd(), nix::libc::SIGKILL);
            }
            let _ = waitpid(Pid::from_raw(other.pid), None);
            born.map(Born::Parent)
        }
    }
}

/// Runs in the process in between; returns in its child alone, which has the same parent.
fn between(channel: &Channel, enter: impl FnOnce() -> Result<u64>) -> Result<()> {
    channel.expect(&Message::Go)?;
    let new = enter()?;
    let forked = sys::clone::fork_sibling(new).doing(|| "fork in the user namespace")?;
    match forked {
        Forked::Child => Ok(()),
        Forked::Parent(child) => {
            channel.send(&Message::Born(child.pid))?;
            sys::clone::exit_now(0)
        }
    }
}

fn receive_child(maps: Option<&Linux>, channel: &Channel, between: i32) -> Result<Child> {
    if let Some(linux) = maps {
        id_maps::write(between, linux)?;
    }
    channel.send(&Message::Go)?;
    let pid = match channel.receive()? {
        Some(Message::Born(pid)) => pid,
        Some(Message::Failed(text)) => return Err(Error::Init(text)),
        _ => return Err(Error::Init("the process in between ended".to_owned())),
    };
    // A child of ours that nobody has waited for: its number cannot be another's.
    let raw = rustix::process::Pid::from_raw(pid)
        .ok_or_else(|| Error::Init("no process number".to_owned()))?;
    let pidfd = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty())
        .doing(|| "open the container's first process")?;
    Ok(Child { pid, pidfd })
}

/// Offsets can be set only while nobody is in the namespace yet.
fn offset_clocks(linux: &Linux) -> Result<()> {
    sys::namespace::unshare(NamespaceKind::Time.flag()).doing(|| "make a time namespace")?;
    let lines: String = linux
        .time_offsets
        .iter()
        .map(|(clock, offset)| format!("{clock} {} {}\n", offset.secs, offset.nanosecs))
        .collect();
    std::fs::write("/proc/self/timens_offsets", lines).doing(|| "set linux.timeOffsets")
}
