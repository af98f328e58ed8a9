//! The small registry, the shaped link, and the comparisons made through them.

pub mod layout;
pub mod link;
pub mod node;
pub mod registry;
pub mod samples;
