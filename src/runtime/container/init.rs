//! The container's first process, from the fork to its program.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::process::DumpableBehavior;
use sys::clone::flags;

use crate::cgroup::Entrance;
use crate::container::channel::{Channel, Message};
use crate::container::hooks;
use crate::container::steps::Steps;
use crate::container::{id_maps, namespaces};
use crate::defence::Defence;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::log;
use crate::process::{
    Agent, Console, Filter, Labels, Program, Sets, attach_terminal, become_user, change_directory,
    look_up, open_terminal, set_io_priority, set_limits, set_memory_policy, set_personality,
    set_scheduler,
};
use crate::procfs::Procfs;
use crate::rootfs;
use crate::spec::{Linux, NamespaceKind, Process, Spec};
use crate::state::{State, Status};

/// What the program runs as, gathered before the fork.
pub struct Identity<'a> {
    pub process: &'a Process,
    pub linux: &'a Linux,
    pub sets: Sets,
    pub filter: Option<Filter>,
    /// Who answers the filter's notifications.
    pub agent: Option<Agent>,
    /// Descriptors after the standard streams that the program keeps.
    pub kept_descriptors: u32,
    /// How many of them are socket activation's.
    pub listen_descriptors: u32,
}

/// What is opened of the host's tree for use when that is gone.
#[derive(Debug, Default)]
pub struct Opened {
    labels: Labels,
    /// What the agent of seccomp notifications is told.
    message: Vec<u8>,
}

impl Identity<'_> {
    /// Opens what [`Identity::assume`] needs of the host.
    ///
    /// # Errors
    /// [`Error`] naming the property.
    pub fn open(&self, state: &State, status: Status) -> Result<Opened> {
        let agent = self.agent.as_ref();
        let message = agent.map(|agent| agent.describe(state, status));
        Ok(Opened {
            labels: Labels::open(self.process)?,
            message: message.transpose()?.unwrap_or_default(),
        })
    }

    /// Takes on everything except a filter that `no_new_privs` lets come last.
    ///
    /// # Errors
    /// [`Error`] of the step that failed.
    pub fn assume(&self, opened: &Opened) -> Result<Program> {
        let process = self.process;
        set_limits(&process.rlimits)?;
        if let Some(priority) = &process.io_priority {
            set_io_priority(priority)?;
        }
        if let Some(scheduler) = &process.scheduler {
            set_scheduler(scheduler)?;
        }
        if let Some(policy) = &self.linux.memory_policy {
            set_memory_policy(policy)?;
        }
        if let Some(personality) = &self.linux.personality {
            set_personality(personality)?;
        }
        // Before the capabilities go and while it may still be allowed: it counts from the exec.
        opened.labels.set(process)?;
        if !process.no_new_privileges {
            // Loading needs CAP_SYS_ADMIN, which is about to go.
            self.install_filter(opened)?;
        }
        // Those of the user namespace, where there is one: nothing else is given.
        let sets = self.sets.possible()?;
        sets.cut_bounding()?;
        // Either the one who makes the container or its user may be who can enter it.
        let early = change_directory(&process.cwd);
        become_user(&process.user)?;
        sets.apply()?;
        if early.is_err() {
            change_directory(&process.cwd)?;
        }
        if process.no_new_privileges {
            rustix::thread::set_no_new_privs(true).doing(|| "set no_new_privs")?;
        }
        let mut program = Program::new(&look_up(process)?, process)?;
        if self.listen_descriptors > 0 {
            program.set("LISTEN_FDS", &self.listen_descriptors.to_string())?;
            program.set("LISTEN_PID", "1")?;
        }
        if Defence::CloseDescriptors.is_on() {
            sys::close_range::close_on_exec_from(3 + self.kept_descriptors)
                .doing(|| "mark descriptors close-on-exec")?;
        }
        Ok(program)
    }

    /// Loads the filter that `no_new_privs` let come last.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn install_late_filter(&self, opened: &Opened) -> Result<()> {
        if self.process.no_new_privileges {
            self.install_filter(opened)
        } else {
            Ok(())
        }
    }

    /// Becomes the program.
    ///
    /// # Errors
    /// Only returns with one.
    pub fn execute(&self, program: &Program) -> Error {
        sys::signal::restore_broken_pipe();
        program.execute()
    }

    fn install_filter(&self, opened: &Opened) -> Result<()> {
        let Some(filter) = &self.filter else {
            return Ok(());
        };
        filter.install(self.agent.as_ref(), &opened.message)
    }
}

/// Everything that the first process needs.
pub struct Init<'a> {
    pub spec: &'a Spec,
    pub linux: &'a Linux,
    pub steps: Steps,
    pub identity: Identity<'a>,
    pub state: &'a State,
    pub channel: Channel,
    pub entrance: Entrance,
    pub fifo: OwnedFd,
    pub failure: File,
    pub console: Option<Console>,
    pub sources: rootfs::Sources,
    pub namespaces: Vec<(NamespaceKind, OwnedFd)>,
    pub pivot: bool,
    pub new_keyring: bool,
}

impl Init<'_> {
    /// Runs in the child; ends in the program or in the end of the process.
    pub fn run(mut self) -> ! {
        match self.prepare() {
            Ok((program, opened)) => {
                let error = self.wait_and_execute(&program, &opened);
                let _ = self.failure.write_all(error.to_string().as_bytes());
            }
            Err(error) => {
                let _ = self.channel.send(&Message::Failed(error.to_string()));
            }
        }
        sys::clone::exit_now(1)
    }

    fn prepare(&mut self) -> Result<(Program, Opened)> {
        fault::point();
        std::mem::take(&mut self.entrance).enter()?;
        fault::point();
        if self.steps.help {
            self.channel.expect(&Message::Go)?;
            fault::point();
        }
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .doing(|| "become undumpable")?;
        rustix::process::setsid().doing(|| "start a session")?;
        log::debug("child process in init(): preparing");
        let state = self.state;
        let opened = self.identity.open(state, Status::Creating)?;
        self.enter_namespaces()?;
        fault::point();
        self.set_names()?;
        set_sysctls(self.linux)?;
        let own_mounts = self.linux.makes(NamespaceKind::Mount);
        let root = if own_mounts {
            let sources = std::mem::take(&mut self.sources);
            let (bundle, rootfs) = (&state.bundle, &state.rootfs);
            rootfs::prepare(self.spec, bundle, rootfs, &state.cgroup, sources)?
        } else {
            rootfs::prepare_without_mounts(self.spec, &state.rootfs)?
        };
        let terminal = match &self.console {
            Some(console) => {
                let size = self.identity.process.console_size;
                Some(open_terminal(&root, console, size, own_mounts)?)
            }
            None => None,
        };
        fault::point();
        if self.steps.hooks {
            self.channel.send(&Message::Mounted)?;
            fault::point();
            self.channel.expect(&Message::Go)?;
        }
        hooks::run_in(
            Some(&state.rootfs),
            &self.spec.hooks.create_container,
            state,
            Status::Created,
        )?;
        fault::point();
        self.enter_root(&root)?;
        fault::point();
        if let Some(terminal) = terminal {
            attach_terminal(&terminal, self.identity.process.user.uid)?;
        }
        if self.new_keyring {
            join_keyring(&state.id)?;
        }
        let program = self.identity.assume(&opened)?;
        log::debug("init: closing the pipe to signal completion");
        fault::point();
        self.channel.send(&Message::Ready)?;
        fault::point();
        // The filter may be in force, which allows what waiting for `start` needs as well.
        self.channel.hear()?;
        fault::point();
        Ok((program, opened))
    }

    fn enter_root(&self, root: &rootfs::Root) -> Result<()> {
        if !self.linux.makes(NamespaceKind::Mount) {
            return rootfs::enter_without_mounts(root);
        }
        rootfs::protect(root, self.spec)?;
        rootfs::enter(root, self.pivot)?;
        rootfs::set_propagation(&self.linux.rootfs_propagation)?;
        if self.spec.root.as_ref().is_some_and(|root| root.readonly) {
            rootfs::make_read_only()?;
        }
        Ok(())
    }

    fn enter_namespaces(&self) -> Result<()> {
        namespaces::join_all(&self.namespaces)?;
        if self.linux.namespace(NamespaceKind::User).is_some() {
            id_maps::become_root()?;
        }
        if self.linux.makes(NamespaceKind::Cgroup) {
            // Only now, in the container's own cgroup, which becomes the namespace's root.
            sys::namespace::unshare(flags::NEWCGROUP).doing(|| "make a cgroup namespace")?;
        }
        if self.linux.makes(NamespaceKind::Network) {
            sys::loopback::bring_up().doing(|| "bring up lo")?;
        }
        Ok(())
    }

    fn set_names(&self) -> Result<()> {
        if !self.spec.hostname.is_empty() {
            nix::unistd::sethostname(&self.spec.hostname).doing(|| "set the host name")?;
        }
        if !self.spec.domainname.is_empty() {
            sys::namespace::set_domain_name(self.spec.domainname.as_bytes())
                .doing(|| "set the domain name")?;
        }
        Ok(())
    }

    /// Waits for `start`, which writes a byte; the descriptor closes as the program begins,
    /// which is how `start` learns of it.
    fn wait_and_execute(&self, program: &Program, opened: &Opened) -> Error {
        let wait = || -> std::result::Result<(), rustix::io::Errno> {
            loop {
                match poll(&mut [PollFd::new(&self.fifo, PollFlags::IN)], None) {
                    Err(rustix::io::Errno::INTR) => continue,
                    other => other?,
                };
                // Nothing to read yet: a writer came and went.
                if rustix::io::read(&self.fifo, &mut [0; 1][..])? == 1 {
                    return Ok(());
                }
            }
        };
        if let Err(error) = wait().doing(|| "wait for start") {
            return error;
        }
        // The container's own hooks are under its filter too.
        if let Err(error) = self.identity.install_late_filter(opened) {
            return error;
        }
        let hooks = &self.spec.hooks.start_container;
        if let Err(error) = hooks::run(hooks, self.state, Status::Created) {
            return error;
        }
        self.identity.execute(program)
    }
}

/// A kernel without keyrings has none to share.
pub fn join_keyring(id: &str) -> Result<()> {
    let name = std::ffi::CString::new(format!("_ses.{id}"))
        .map_err(|_| Error::invalid("id", "contains a NUL byte"))?;
    match sys::keyring::join_session(&name) {
        Err(error) if error.raw_os_error() == Some(nix::libc::ENOSYS) => Ok(()),
        other => other.doing(|| "join a session keyring"),
    }
}

/// Through a procfs that nobody has prepared, which shows each process the settings of its own
/// namespaces.
fn set_sysctls(linux: &Linux) -> Result<()> {
    if linux.sysctl.is_empty() {
        return Ok(());
    }
    let procfs = Procfs::of_host()?;
    for (key, value) in &linux.sysctl {
        let path = sysctl_path(key)?;
        let action = || format!("set linux.sysctl {key}");
        let file = procfs.open(&path, OFlags::WRONLY).doing(action)?;
        File::from(file).write_all(value.as_bytes()).doing(action)?;
    }
    Ok(())
}

/// Dots separate names, unless a slash comes first: then slashes do, as sysctl(8) has it.
fn sysctl_path(key: &str) -> Result<PathBuf> {
    let dots = key
        .find(['.', '/'])
        .is_none_or(|at| key.as_bytes()[at] == b'.');
    let swapped: String = key
        .chars()
        .map(|letter| match letter {
            '.' if dots => '/',
            '/' if dots => '.',
            other => other,
        })
        .collect();
    if swapped
        .split('/')
        .any(|part| part.is_empty() || part == "..")
    {
        return Err(Error::invalid("linux.sysctl", key));
    }
    Ok(Path::new("sys").join(swapped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_settings_become_paths() {
        let path = |key| sysctl_path(key).unwrap();
        assert_eq!(
            path("net.ipv4.ip_forward"),
            Path::new("sys/net/ipv4/ip_forward")
        );
        assert_eq!(
            path("net/ipv4/conf/eth0.1/x"),
            Path::new("sys/net/ipv4/conf/eth0.1/x")
        );
        assert_eq!(
            path("net.ipv4.conf.eth0/1.x"),
            Path::new("sys/net/ipv4/conf/eth0.1/x")
        );
        assert!(sysctl_path("net/../../etc").is_err());
    }
}
