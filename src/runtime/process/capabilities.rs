//! Capability sets, capabilities(7).

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::error::{Context, Error, Result};
use crate::spec::Capabilities;

/// Names in the order of their numbers, `<linux/capability.h>`.
const NAMES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The bit of a capability's name, with or without `CAP_`, in any case.
///
/// # Errors
/// [`Error::Invalid`] for a name that is not known.
pub fn bit(name: &str) -> Result<u64> {
    let upper = name.to_ascii_uppercase();
    let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let position = NAMES.iter().position(|known| *known == plain);
    match position {
        Some(position) => Ok(1 << position),
        None => Err(Error::invalid(
            "process.capabilities",
            format!("unknown {name:?}"),
        )),
    }
}

/// Every name, with `CAP_`.
pub fn names() -> impl Iterator<Item = String> {
    NAMES.iter().map(|name| format!("CAP_{name}"))
}

/// The five sets as bits. The default is none at all.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "the names are capabilities(7)'s")]
pub struct Sets {
    pub bounding: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub permitted: u64,
    pub ambient: u64,
}

impl Sets {
    /// Translates names.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is not known.
    pub fn of(wanted: &Capabilities) -> Result<Self> {
        let bits = |names: &[String]| -> Result<u64> {
            names.iter().try_fold(0, |bits, name| Ok(bits | bit(name)?))
        };
        Ok(Self {
            bounding: bits(&wanted.bounding)?,
            effective: bits(&wanted.effective)?,
            inheritable: bits(&wanted.inheritable)?,
            permitted: bits(&wanted.permitted)?,
            ambient: bits(&wanted.ambient)?,
        })
    }

    /// Without what this process cannot give, because it has not got it itself.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn possible(&self) -> Result<Self> {
        let own = rustix::thread::capabilities(None).doing(|| "read own capabilities")?;
        let own = own.permitted.bits();
        Ok(Self {
            bounding: self.bounding & own,
            effective: self.effective & own,
            inheritable: self.inheritable & own,
            permitted: self.permitted & own,
            ambient: self.ambient & own,
        })
    }

    /// Cuts the bounding set. Needs `CAP_SETPCAP`, so before [`Sets::apply`].
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn cut_bounding(&self) -> Result<()> {
        for number in 0..64 {
            let one = CapabilitySet::from_bits_retain(1 << number);
            // The first number that the kernel does not know ends the list.
            let Ok(present) = rustix::thread::capability_is_in_bounding_set(one) else {
                break;
            };
            if present && self.bounding & (1 << number) == 0 {
                rustix::thread::remove_capability_from_bounding_set(one)
                    .doing(|| "cut the bounding set")?;
            }
        }
        Ok(())
    }

    /// Sets the other four.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn apply(&self) -> Result<()> {
        let sets = CapabilitySets {
            effective: CapabilitySet::from_bits_retain(self.effective),
            permitted: CapabilitySet::from_bits_retain(self.permitted),
            inheritable: CapabilitySet::from_bits_retain(self.inheritable),
        };
        rustix::thread::set_capabilities(None, sets).doing(|| "set capabilities")?;
        rustix::thread::clear_ambient_capability_set().doing(|| "clear ambient capabilities")?;
        // Only what is permitted and inheritable can be ambient.
        let possible = self.ambient & self.permitted & self.inheritable;
        for number in (0..64).filter(|number| possible & (1 << number) != 0) {
            let one = CapabilitySet::from_bits_retain(1 << number);
            rustix::thread::configure_capability_in_ambient_set(one, true)
                .doing(|| "raise an ambient capability")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(bit("CAP_CHOWN").unwrap(), 1);
        assert_eq!(bit("sys_admin").unwrap(), 1 << 21);
        assert_eq!(bit("CAP_CHECKPOINT_RESTORE").unwrap(), 1 << 40);
        assert!(bit("CAP_FLY").is_err());
    }
}
