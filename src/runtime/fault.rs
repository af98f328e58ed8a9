//! Where a crash of the runtime would come at a bad moment. In what is shipped these points are
//! nothing. A build for tests alone (`weakened/`) lets environment variables have the process
//! killed at one: `BRISK_FAULT` the runtime's own, `BRISK_FAULT_INIT` the container's first
//! process before its program, each by the number of points passed until then.

/// A point between two steps.
#[cfg(not(feature = "weaken"))]
pub const fn point() {}

/// From here on this is the container's first process.
#[cfg(not(feature = "weaken"))]
pub const fn enter_init() {}

#[cfg(feature = "weaken")]
pub use armed::{enter_init, point};

#[cfg(feature = "weaken")]
mod armed {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    static PASSED: AtomicU32 = AtomicU32::new(0);
    static IN_INIT: AtomicBool = AtomicBool::new(false);

    /// A point between two steps: the end of this process where it is the one asked for.
    pub fn point() {
        let name = if IN_INIT.load(Ordering::Relaxed) {
            "BRISK_FAULT_INIT"
        } else {
            "BRISK_FAULT"
        };
        let passed = PASSED.fetch_add(1, Ordering::Relaxed) + 1;
        let wanted = std::env::var(name).ok();
        if wanted.and_then(|text| text.parse().ok()) == Some(passed) {
            // As it is killed for want of memory: nothing is taken back.
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
            // The first process of a namespace cannot kill itself.
            sys::clone::exit_now(137);
        }
    }

    /// From here on this is the container's first process, which counts anew.
    pub fn enter_init() {
        PASSED.store(0, Ordering::Relaxed);
        IN_INIT.store(true, Ordering::Relaxed);
    }
}
