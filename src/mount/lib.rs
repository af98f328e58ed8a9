//! FUSE sessions, the keeper that holds them, mount records, recovery.
//!
//! Two processes share the work. The *keeper* opens `/dev/fuse`, mounts, and holds the
//! device descriptors together with the kernel's first message; it reads no request. The
//! *service* asks it for the descriptors and serves them. When the service dies, the kernel
//! queues requests on the descriptors that the keeper still holds, the keeper starts the
//! service again, and the new one carries on where the old one was.

pub mod cgroup;
pub mod error;
pub mod held;
pub mod keeper;
pub mod message;
pub mod namespace;
pub mod record;
pub mod serving;
pub mod socket;

pub use error::MountError;
pub use held::{Commands, HeldMount, KeeperLink};
pub use record::{MountId, MountRecord};
pub use serving::Serving;
