//! Scheduler, processors, memory policy and execution domain of the process.

use rustix::process::Pid;
use rustix::thread::CpuSet;

use crate::error::{Context, Error, Result};
use crate::spec::{MemoryPolicy, Personality, Scheduler};

/// `SCHED_*`, `<linux/sched.h>`.
const POLICIES: &[(&str, u32)] = &[
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

const FLAGS: &[(&str, u64)] = &[
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// `MPOL_*`, `<linux/mempolicy.h>`.
const MODES: &[(&str, i32)] = &[
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

const MODE_FLAGS: &[(&str, i32)] = &[
    ("MPOL_F_STATIC_NODES", 1 << 15),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
];

/// Highest processor or node number that a list may name.
const NUMBER_LIMIT: usize = 8191;

fn named<T: Copy>(table: &[(&str, T)], field: &str, name: &str) -> Result<T> {
    let found = table.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, value)| *value)
        .ok_or_else(|| Error::invalid(field, format!("unknown {name:?}")))
}

/// Sets policy, priority and deadlines of this process.
///
/// # Errors
/// [`Error::Invalid`] for an unknown name, [`Error::Os`] naming the property.
pub fn set_scheduler(wanted: &Scheduler) -> Result<()> {
    sys::scheduling::set(attributes(wanted)?)
        .doing(|| format!("set process.scheduler to {}", wanted.policy))
}

fn attributes(wanted: &Scheduler) -> Result<sys::scheduling::Attributes> {
    let policy = named(POLICIES, "process.scheduler.policy", &wanted.policy)?;
    let flags = wanted.flags.iter().try_fold(0, |flags, name| {
        Ok::<u64, Error>(flags | named(FLAGS, "process.scheduler.flags", name)?)
    })?;
    let is_deadline = wanted.policy == "SCHED_DEADLINE";
    if !is_deadline && (wanted.runtime, wanted.deadline, wanted.period) != (0, 0, 0) {
        return Err(Error::invalid(
            "process.scheduler",
            "runtime, deadline and period belong to SCHED_DEADLINE",
        ));
    }
    if !matches!(wanted.policy.as_str(), "SCHED_FIFO" | "SCHED_RR") && wanted.priority != 0 {
        return Err(Error::invalid(
            "process.scheduler.priority",
            "belongs to SCHED_FIFO and SCHED_RR",
        ));
    }
    if !(-20..=19).contains(&wanted.nice) {
        return Err(Error::invalid("process.scheduler.nice", "not in -20..19"));
    }
    let priority = u32::try_from(wanted.priority)
        .map_err(|_| Error::invalid("process.scheduler.priority", "below zero"))?;
    Ok(sys::scheduling::Attributes {
        policy,
        flags,
        nice: wanted.nice,
        priority,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
        size: 0,
    })
}

/// Numbers of a list such as "0-3,7", in order.
fn numbers(field: &str, list: &str) -> Result<Vec<usize>> {
    let wrong = || Error::invalid(field, format!("{list:?} is no list of numbers"));
    let mut found = Vec::new();
    for part in list
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong());
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last || last > NUMBER_LIMIT {
            return Err(wrong());
        }
        found.extend(first..=last);
    }
    Ok(found)
}

/// Confines process `pid` to the processors of `list`; an empty list changes nothing.
///
/// # Errors
/// [`Error::Invalid`] for what is no list, [`Error::Os`].
pub fn set_affinity(pid: i32, field: &str, list: &str) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for number in numbers(field, list)? {
        if number >= CpuSet::MAX_CPU {
            return Err(Error::invalid(field, format!("no processor {number}")));
        }
        set.set(number);
    }
    rustix::thread::sched_setaffinity(Pid::from_raw(pid), &set)
        .doing(|| format!("set {field} to {list:?}"))
}

/// Sets where this process's memory comes from.
///
/// # Errors
/// [`Error::Invalid`] for an unknown name, [`Error::Os`] naming the property.
pub fn set_memory_policy(wanted: &MemoryPolicy) -> Result<()> {
    let mut mode = named(MODES, "linux.memoryPolicy.mode", &wanted.mode)?;
    for flag in &wanted.flags {
        mode |= named(MODE_FLAGS, "linux.memoryPolicy.flags", flag)?;
    }
    let numbers = numbers("linux.memoryPolicy.nodes", &wanted.nodes)?;
    let mut nodes = vec![0; numbers.iter().max().map_or(0, |last| last / 64 + 1)];
    for number in numbers {
        nodes[number / 64] |= 1 << (number % 64);
    }
    sys::scheduling::set_memory_policy(mode, &nodes).doing(|| {
        format!(
            "set linux.memoryPolicy to {} of nodes {:?}",
            wanted.mode, wanted.nodes
        )
    })
}

/// Sets the execution domain.
///
/// # Errors
/// [`Error::Invalid`] for an unknown domain or any flag (the specification has none),
/// [`Error::Os`].
pub fn set_personality(wanted: &Personality) -> Result<()> {
    if let Some(flag) = wanted.flags.first() {
        return Err(Error::invalid("linux.personality.flags", flag.as_str()));
    }
    let domain = match wanted.domain.as_str() {
        "LINUX" => 0,
        "LINUX32" => 8,
        other => return Err(Error::invalid("linux.personality.domain", other)),
    };
    sys::tuning::set_personality(domain)
        .doing(|| format!("set linux.personality to {}", wanted.domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers() {
        let read = |list| numbers("field", list).unwrap();
        assert_eq!(read("0-3,7"), [0, 1, 2, 3, 7]);
        assert_eq!(read(""), [0; 0]);
        for list in ["a", "3-1", "1-", "99999999"] {
            assert!(numbers("field", list).is_err(), "{list}");
        }
    }

    #[test]
    fn properties_of_other_policies_are_named() {
        let of = |policy: &str| Scheduler {
            policy: policy.to_owned(),
            ..Scheduler::default()
        };
        let deadline = Scheduler {
            runtime: 1_000_000,
            deadline: 2_000_000,
            period: 3_000_000,
            flags: vec!["SCHED_FLAG_RECLAIM".to_owned()],
            ..of("SCHED_DEADLINE")
        };
        let made = attributes(&deadline).unwrap();
        assert_eq!((made.policy, made.flags, made.period), (6, 2, 3_000_000));
        for wrong in [
            of("SCHED_NONE"),
            Scheduler {
                runtime: 1,
                ..of("SCHED_OTHER")
            },
            Scheduler {
                priority: 1,
                ..of("SCHED_BATCH")
            },
            Scheduler {
                nice: 20,
                ..of("SCHED_OTHER")
            },
            Scheduler {
                flags: vec!["SCHED_FLAG_NONE".to_owned()],
                ..of("SCHED_OTHER")
            },
        ] {
            let words = attributes(&wrong).unwrap_err().to_string();
            assert!(words.contains("process.scheduler"), "{words}");
        }
    }

    #[test]
    fn unknown_domains_and_flags_are_named() {
        let unknown = Personality {
            domain: "OTHER".to_owned(),
            ..Personality::default()
        };
        let words = set_personality(&unknown).unwrap_err().to_string();
        assert!(words.contains("linux.personality.domain"), "{words}");
        let unknown = MemoryPolicy {
            mode: "MPOL_NONE".to_owned(),
            ..MemoryPolicy::default()
        };
        let words = set_memory_policy(&unknown).unwrap_err().to_string();
        assert!(words.contains("linux.memoryPolicy.mode"), "{words}");
    }
}
