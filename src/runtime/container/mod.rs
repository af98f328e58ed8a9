//! What the verbs do: each file one turning point in a container's life.

mod channel;
mod create;
mod delete;
mod enter;
mod hooks;
mod id_maps;
mod init;
mod namespaces;
mod sealed;
mod signal;
mod start;
mod steps;
mod wait;

pub use create::{Create, create};
pub use delete::{delete, destroy};
pub use enter::{Enter, enter};
pub use sealed::seal;
pub use signal::{kill, parse_signal};
pub use start::start;
pub use wait::{relay, wait_for};
