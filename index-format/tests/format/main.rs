//! The index format from outside: what is written is read back, layers merge as they unpack,
//! damage is found, old files stay readable.

mod fixture;
mod golden;
mod merge;
mod model;
mod read;
mod symlinks;
mod validate;
mod wire;
