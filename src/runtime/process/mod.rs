//! What the container's program runs as, applied to the process that becomes it.

mod capabilities;
mod environment;
mod filter;
pub mod filter_names;
mod identity;
mod kept_filters;
mod label;
mod limits;
mod notify;
mod scheduling;
mod terminal;
mod unknown_calls;

pub use capabilities::{Sets, bit as capability_bit, names as capability_names};
pub use environment::{Program, look_up};
pub use filter::Filter;
pub use identity::{become_user, change_directory};
pub use label::{Labels, check as check_labels};
pub use limits::{set as set_limits, set_io_priority};
pub use notify::Agent;
pub use scheduling::{set_affinity, set_memory_policy, set_personality, set_scheduler};
pub use terminal::{Console, attach as attach_terminal, open as open_terminal};
