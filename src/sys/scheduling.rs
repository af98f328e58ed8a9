//! Scheduling policies, `sched_setattr(2)`, and memory policies, `set_mempolicy(2)`.

use std::io;

/// `struct sched_attr` of `<linux/sched/types.h>`, first version.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes {
    /// Bytes of the structure; [`set`] fills it in.
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value of the policies without real time.
    pub nice: i32,
    /// Priority of `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// Nanoseconds, of `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds, of `SCHED_DEADLINE`.
    pub deadline: u64,
    /// Nanoseconds, of `SCHED_DEADLINE`.
    pub period: u64,
}

/// Sets how this process is scheduled.
///
/// # Errors
/// What sched_setattr(2) reports.
pub fn set(attributes: Attributes) -> io::Result<()> {
    let attributes = Attributes {
        size: u32::try_from(size_of::<Attributes>()).map_err(io::Error::other)?,
        ..attributes
    };
    // SAFETY: the structure is the kernel's, says its own size, and outlives the call. rustix
    // and nix do not wrap it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_setattr,
            0,
            std::ptr::from_ref(&attributes),
            0,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sets where this process's memory comes from: `mode` is `MPOL_*` with its flags, `nodes` one
/// bit for each node.
///
/// # Errors
/// What set_mempolicy(2) reports.
pub fn set_memory_policy(mode: i32, nodes: &[u64]) -> io::Result<()> {
    let (pointer, bits) = match nodes {
        [] => (std::ptr::null(), 0),
        // The kernel takes one off the number of bits.
        _ => (nodes.as_ptr(), nodes.len() * 64 + 1),
    };
    // SAFETY: the kernel reads as many bits as are there (the count includes one that it takes
    // off), and the slice outlives the call. rustix and nix do not wrap it.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structure_has_the_size_of_the_first_version() {
        assert_eq!(size_of::<Attributes>(), 48);
    }

    #[test]
    fn an_unknown_policy_is_refused() {
        let unknown = Attributes {
            policy: 99,
            ..Attributes::default()
        };
        assert!(set(unknown).is_err());
        assert!(set_memory_policy(99, &[1]).is_err());
    }
}
