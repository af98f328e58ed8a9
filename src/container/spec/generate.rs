//! The whole spec, from its parts.

use super::users::{self, ResolvedUser};
use super::{capabilities, devices, entrypoint, environment, identity, mounts, resources, seccomp};
use crate::error::ContainerError;
use crate::id::ContainerId;
use crate::options::{Network, RunOptions, WindowSize};
use crate::rootfs::{Rootfs, normalise};
use crate::signal::parse_signal;
use oci_spec::image::{Config, ImageConfiguration};
use oci_spec::runtime::{
    BoxBuilder, Linux, LinuxBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType,
    Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder, User, UserBuilder,
};
use std::path::{Path, PathBuf};

/// Version of the runtime spec the generated file follows; runc 1.1 knows it too.
const SPEC_VERSION: &str = "1.0.2";
/// SIGTERM, where the image names no stop signal.
const DEFAULT_STOP_SIGNAL: i32 = 15;
/// Longest host name the kernel takes (uname(2)).
const MAX_HOSTNAME: usize = 64;

/// What a spec is made from.
#[derive(Clone, Copy, Debug)]
pub struct SpecInput<'a> {
    /// What the user asked for.
    pub options: &'a RunOptions,
    /// The image's configuration.
    pub image: &'a ImageConfiguration,
    /// The container's id.
    pub id: &'a ContainerId,
    /// The container's directory, where its own files go.
    pub directory: &'a Path,
    /// The mounted, writable root.
    pub rootfs: &'a Path,
}

/// A spec and what else follows from the same input.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The content of the bundle's config.json.
    pub spec: Spec,
    /// What `brisk stop` sends first.
    pub stop_signal: i32,
    /// What runs, for people to read.
    pub command: Vec<String>,
}

/// Makes the spec, and in the root what it presupposes: working directory, volumes, the
/// host directories of `-v`.
pub fn generate(input: &SpecInput<'_>) -> Result<Generated, ContainerError> {
    let options = input.options;
    let image = input.image.config().clone().unwrap_or_default();
    let rootfs = Rootfs::open(input.rootfs)?;
    let arguments = entrypoint::combine(
        image.entrypoint().as_deref().unwrap_or_default(),
        image.cmd().as_deref().unwrap_or_default(),
        options.entrypoint.as_deref(),
        &options.command,
    )
    .ok_or_else(|| ContainerError::NoCommand(options.image.clone()))?;
    let stop_signal = stop_signal(options, &image)?;
    let hostname = hostname(options, input.id)?;
    let identity = identity::write(input.directory, options.network, &hostname)?;
    mounts::create_sources(options)?;
    let volumes: Vec<PathBuf> = image
        .volumes()
        .iter()
        .flatten()
        .map(PathBuf::from)
        .collect();
    let mounts = mounts::mounts(options, &volumes, &identity, &rootfs)?;
    let process = process(options, &image, &rootfs, &hostname, &arguments)?;
    let root = RootBuilder::default()
        .path(input.rootfs)
        .readonly(options.read_only)
        .build()
        .expect("every field has a default");
    let spec = SpecBuilder::default()
        .version(SPEC_VERSION)
        .root(root)
        .hostname(hostname)
        .process(process)
        .mounts(mounts)
        .linux(linux(options, input.id)?)
        .build()
        .expect("every field has a default");
    Ok(Generated {
        spec,
        stop_signal,
        command: arguments,
    })
}

fn stop_signal(options: &RunOptions, image: &Config) -> Result<i32, ContainerError> {
    match (options.stop_signal, image.stop_signal()) {
        (Some(signal), _) => Ok(signal),
        (None, Some(text)) if !text.is_empty() => parse_signal(text)
            .map_err(|reason| ContainerError::ImageConfig(format!("StopSignal: {reason}"))),
        _ => Ok(DEFAULT_STOP_SIGNAL),
    }
}

/// Refuses options that no image can make right: before an image is fetched for them.
pub fn check(options: &RunOptions) -> Result<(), ContainerError> {
    if let Some(name) = &options.hostname {
        check_hostname(name)?;
    }
    let available = capabilities::available()?;
    capabilities::choose(
        &options.capabilities_added,
        &options.capabilities_dropped,
        options.privileged,
        &available,
    )
    .map(drop)
}

fn check_hostname(name: &str) -> Result<(), ContainerError> {
    let usable = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
    if name.is_empty() || name.len() > MAX_HOSTNAME || !name.chars().all(usable) {
        let reason = format!("not 1 to {MAX_HOSTNAME} letters, digits, dots and dashes");
        return Err(ContainerError::option("hostname", name, reason));
    }
    Ok(())
}

/// The name given, else the host's where the network is the host's, else the short id.
fn hostname(options: &RunOptions, id: &ContainerId) -> Result<String, ContainerError> {
    if let Some(name) = &options.hostname {
        check_hostname(name)?;
        return Ok(name.clone());
    }
    Ok(match options.network {
        Network::Host => rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        Network::None => id.short().to_owned(),
    })
}

/// The container's first process.
fn process(
    options: &RunOptions,
    image: &Config,
    rootfs: &Rootfs,
    hostname: &str,
    arguments: &[String],
) -> Result<Process, ContainerError> {
    let user_text = options
        .user
        .as_deref()
        .or(image.user().as_deref())
        .unwrap_or_default();
    let user = users::resolve(rootfs, user_text)?;
    let surroundings = environment::Surroundings {
        hostname,
        home: &user.home,
        terminal: options.terminal,
    };
    let image_environment = image.env().as_deref().unwrap_or_default();
    let environment = environment::assemble(image_environment, &options.environment, &surroundings);
    let directory = working_directory(options, image)?;
    if !options
        .binds
        .iter()
        .any(|bind| directory.starts_with(&bind.destination))
    {
        rootfs.create_directories(&directory)?;
    }
    let chosen = chosen_capabilities(options)?;
    let mut builder = ProcessBuilder::default()
        .terminal(options.terminal)
        .user(spec_user(&user))
        .args(arguments)
        .env(environment)
        .cwd(directory)
        .capabilities(capabilities::sets(&chosen, user.uid))
        .no_new_privileges(false)
        .rlimits(Vec::new());
    if let (true, Some(window)) = (options.terminal, options.window) {
        builder = builder.console_size(console_size(window));
    }
    Ok(builder.build().expect("every field has a default"))
}

fn working_directory(options: &RunOptions, image: &Config) -> Result<PathBuf, ContainerError> {
    if let Some(text) = &options.working_directory {
        if !text.starts_with('/') {
            return Err(ContainerError::option(
                "workdir",
                text,
                "not an absolute path",
            ));
        }
        return Ok(normalise(Path::new(text)));
    }
    // A relative WorkingDir starts at the root, as in docker.
    Ok(normalise(Path::new(
        image.working_dir().as_deref().unwrap_or("/"),
    )))
}

fn chosen_capabilities(
    options: &RunOptions,
) -> Result<std::collections::HashSet<oci_spec::runtime::Capability>, ContainerError> {
    capabilities::choose(
        &options.capabilities_added,
        &options.capabilities_dropped,
        options.privileged,
        &capabilities::available()?,
    )
}

fn spec_user(user: &ResolvedUser) -> User {
    UserBuilder::default()
        .uid(user.uid)
        .gid(user.gid)
        .additional_gids(user.groups.clone())
        .build()
        .expect("every field has a default")
}

fn console_size(window: WindowSize) -> oci_spec::runtime::Box {
    BoxBuilder::default()
        .height(u64::from(window.rows))
        .width(u64::from(window.columns))
        .build()
        .expect("every field has a default")
}

/// Namespaces, cgroup, devices, seccomp and the paths to hide.
fn linux(options: &RunOptions, id: &ContainerId) -> Result<Linux, ContainerError> {
    let mut builder = LinuxBuilder::default()
        .namespaces(namespaces(options.network))
        .cgroups_path(cgroup_path(id))
        .resources(resources::resources(&options.limits, options.privileged));
    if options.privileged {
        builder = builder
            .devices(devices::of_host()?)
            .masked_paths(Vec::new())
            .readonly_paths(Vec::new());
    } else {
        let strings = |paths: &[&str]| -> Vec<String> {
            paths.iter().map(|path| (*path).to_owned()).collect()
        };
        builder = builder
            .masked_paths(strings(&mounts::MASKED_PATHS))
            .readonly_paths(strings(&mounts::READONLY_PATHS))
            .seccomp(seccomp::profile(&chosen_capabilities(options)?));
    }
    Ok(builder.build().expect("every field has a default"))
}

/// The container's cgroup, below the root of every hierarchy and with no parent of
/// brisk's own, so that nothing is left when it goes.
pub fn cgroup_path(id: &ContainerId) -> PathBuf {
    PathBuf::from(format!("/brisk-{id}"))
}

fn namespaces(network: Network) -> Vec<LinuxNamespace> {
    let mut kinds = vec![
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
    ];
    if Path::new("/proc/self/ns/cgroup").exists() {
        kinds.push(LinuxNamespaceType::Cgroup);
    }
    if network == Network::None {
        kinds.push(LinuxNamespaceType::Network);
    }
    let built = |kind| {
        LinuxNamespaceBuilder::default()
            .typ(kind)
            .build()
            .expect("every field has a default")
    };
    kinds.into_iter().map(built).collect()
}

/// What `brisk exec` asks for.
#[derive(Clone, Debug, Default)]
pub struct ExecOptions {
    /// Program and arguments.
    pub command: Vec<String>,
    /// `KEY=VALUE`, added to the container's.
    pub environment: Vec<String>,
    /// Replaces the container's user.
    pub user: Option<String>,
    /// Replaces the container's working directory.
    pub working_directory: Option<String>,
    /// Give the process a terminal.
    pub terminal: bool,
    /// Window size of the terminal at the start.
    pub window: Option<WindowSize>,
    /// Give the process all capabilities.
    pub privileged: bool,
}

/// A further process of the container whose spec is `container`.
pub fn exec_process(
    container: &Spec,
    rootfs: &Path,
    options: &ExecOptions,
) -> Result<Process, ContainerError> {
    let mut process = container.process().clone().unwrap_or_default();
    let mut environment = process.env().clone().unwrap_or_default();
    if options.terminal && !environment.iter().any(|text| text.starts_with("TERM=")) {
        environment::set(&mut environment, "TERM=xterm");
    }
    let bounding = process
        .capabilities()
        .as_ref()
        .and_then(|sets| sets.bounding().clone());
    let mut held = bounding.unwrap_or_default();
    if options.privileged {
        held = capabilities::available()?;
    }
    let mut uid = process.user().uid();
    if let Some(text) = &options.user {
        let user = users::resolve(&Rootfs::open(rootfs)?, text)?;
        uid = user.uid;
        environment::set(&mut environment, &format!("HOME={}", user.home));
        process.set_user(spec_user(&user));
    }
    process.set_capabilities(Some(capabilities::sets(&held, uid)));
    for variable in &options.environment {
        environment::set(&mut environment, variable);
    }
    if let Some(text) = &options.working_directory {
        if !text.starts_with('/') {
            return Err(ContainerError::option(
                "workdir",
                text,
                "not an absolute path",
            ));
        }
        process.set_cwd(normalise(Path::new(text)));
    }
    process.set_env(Some(environment));
    process.set_args(Some(options.command.clone()));
    process.set_terminal(Some(options.terminal));
    process.set_console_size(
        options
            .window
            .filter(|_| options.terminal)
            .map(console_size),
    );
    Ok(process)
}

#[cfg(test)]
#[path = "generate_tests.rs"]
mod tests;
