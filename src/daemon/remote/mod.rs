//! Images of containerd's that are served before they have arrived.

pub mod documents;
pub mod flights;
pub mod images;
