//! The small registry, the shaped link, and the comparisons made through them.

pub mod link;
pub mod registry;
