//! From an image's configuration and the options of `run` to an OCI runtime spec.
//!
//! Defaults are Docker's: what runs under `docker run` runs here with the same
//! privileges, file systems and environment.

pub mod capabilities;
pub mod devices;
pub mod entrypoint;
pub mod environment;
pub mod identity;
pub mod mounts;
pub mod resources;
pub mod seccomp;
pub mod seccomp_table;
pub mod users;
pub mod volumes;

mod generate;

pub use generate::{ExecOptions, Generated, SpecInput, cgroup_path, check, exec_process, generate};
