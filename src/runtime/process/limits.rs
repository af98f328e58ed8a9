//! Resource limits and I/O priority.

use rustix::process::{Resource, Rlimit as Limit};

use crate::error::{Context, Error, Result};
use crate::spec::{IoPriority, Rlimit};

fn resource(name: &str) -> Option<Resource> {
    Some(match name.strip_prefix("RLIMIT_")? {
        "CPU" => Resource::Cpu,
        "FSIZE" => Resource::Fsize,
        "DATA" => Resource::Data,
        "STACK" => Resource::Stack,
        "CORE" => Resource::Core,
        "RSS" => Resource::Rss,
        "NPROC" => Resource::Nproc,
        "NOFILE" => Resource::Nofile,
        "MEMLOCK" => Resource::Memlock,
        "AS" => Resource::As,
        "LOCKS" => Resource::Locks,
        "SIGPENDING" => Resource::Sigpending,
        "MSGQUEUE" => Resource::Msgqueue,
        "NICE" => Resource::Nice,
        "RTPRIO" => Resource::Rtprio,
        "RTTIME" => Resource::Rttime,
        _ => return None,
    })
}

/// Sets the limits of this process.
///
/// # Errors
/// [`Error::Invalid`] for an unknown name, [`Error::Os`] naming the limit.
pub fn set(limits: &[Rlimit]) -> Result<()> {
    for Rlimit { kind, hard, soft } in limits {
        let resource =
            resource(kind).ok_or_else(|| Error::invalid("process.rlimits.type", kind.as_str()))?;
        // RLIM_INFINITY is the largest number.
        let value = |number: u64| (number != u64::MAX).then_some(number);
        let limit = Limit {
            current: value(*soft),
            maximum: value(*hard),
        };
        if soft > hard {
            return Err(Error::invalid(
                format!("process.rlimits {kind}"),
                format!("the soft limit {soft} is above the hard limit {hard}"),
            ));
        }
        match rustix::process::setrlimit(resource, limit) {
            Err(rustix::io::Errno::PERM) => return Err(beyond(kind, resource, *hard)),
            other => other.doing(|| format!("set process.rlimits {kind}"))?,
        }
    }
    Ok(())
}

/// Only a privileged process raises a hard limit.
fn beyond(kind: &str, resource: Resource, hard: u64) -> Error {
    let own = rustix::process::getrlimit(resource).maximum;
    let own = own.map_or_else(|| "unlimited".to_owned(), |own| own.to_string());
    let reason = format!(
        "the hard limit {hard} is above this process's own {own}, and raising it needs \
         CAP_SYS_RESOURCE"
    );
    Error::invalid(format!("process.rlimits {kind}"), reason)
}

/// Sets the I/O priority of this process.
///
/// # Errors
/// [`Error::Invalid`] for an unknown class, [`Error::Os`].
pub fn set_io_priority(wanted: &IoPriority) -> Result<()> {
    let class = match wanted.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return Err(Error::invalid("process.ioPriority.class", other)),
    };
    if wanted.priority > 7 {
        return Err(Error::invalid("process.ioPriority.priority", "above 7"));
    }
    sys::tuning::set_io_priority(class, wanted.priority).doing(|| "set process.ioPriority")
}
