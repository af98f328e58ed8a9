//! The mount service: wiring, control socket, lifetime.

pub mod auto_publish;
pub mod catalog;
pub mod client;
pub mod config;
pub mod control;
pub mod early;
pub mod holders;
pub mod layers;
pub mod metrics;
pub mod mounted;
pub mod mounts;
pub mod notify;
pub mod process;
pub mod promotion;
pub mod query;
pub mod remote;
pub mod server;
pub mod service;
pub mod settings;
pub mod snapshots;
pub mod startups;
pub mod timeline;
