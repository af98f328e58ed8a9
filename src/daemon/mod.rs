//! The mount service: wiring, control socket, lifetime.
