//! Defences against a hostile image, by name. In what is shipped each is always on: the answer is
//! a constant. A build for tests alone (`weakened/`) lets an environment variable switch one off,
//! which shows that the test of it can fail.

/// One defence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(not(feature = "weaken"), allow(dead_code, reason = "only names"))]
pub enum Defence {
    /// The runtime inside a container is a sealed copy (CVE-2019-5736).
    SealedExecutable,
    /// procfs and sysfs go onto an ordinary directory (CVE-2019-19921).
    OrdinaryDirectory,
    /// Paths are resolved inside the root (CVE-2021-30465).
    ResolveInside,
    /// What is missing is made through descriptors inside the root (CVE-2024-45310).
    MakeInside,
    /// The working directory is proved to be inside the root (CVE-2024-21626).
    WorkInside,
    /// Descriptors of the caller are closed (CVE-2024-21626).
    CloseDescriptors,
    /// Masks are the host's null device (CVE-2025-31133).
    HostNull,
    /// The terminal is known by its master, not by a path (CVE-2025-52565).
    TerminalPeer,
    /// Settings are written into a procfs of its own (CVE-2025-52881).
    OwnProcfs,
}

impl Defence {
    /// Whether it is in force.
    #[cfg(not(feature = "weaken"))]
    #[must_use]
    pub const fn is_on(self) -> bool {
        true
    }

    /// Whether it is in force: unless `BRISK_WEAKEN` names it.
    #[cfg(feature = "weaken")]
    #[must_use]
    pub fn is_on(self) -> bool {
        std::env::var("BRISK_WEAKEN").ok() != Some(format!("{self:?}"))
    }
}
