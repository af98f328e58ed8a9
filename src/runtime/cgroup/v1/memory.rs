//! The memory controller.

use crate::cgroup::v1::{directory, write};
use crate::cgroup::{Cgroup, files};
use crate::error::{Error, Result};
use crate::spec::Memory;

const LIMIT: &str = "memory.limit_in_bytes";
const SWAP: &str = "memory.memsw.limit_in_bytes";

/// Writes the limits. `kernel` is passed over: the kernel has no such limit any more and the
/// specification lets a runtime ignore it.
pub fn limit(cgroup: &Cgroup, memory: &Memory) -> Result<()> {
    limit_both(cgroup, memory)?;
    let numbers = [
        (
            "reservation",
            "memory.soft_limit_in_bytes",
            memory.reservation.filter(|&value| value != 0),
        ),
        (
            "kernelTCP",
            "memory.kmem.tcp.limit_in_bytes",
            memory.kernel_tcp.filter(|&value| value != 0),
        ),
    ];
    for (field, name, value) in numbers {
        if let Some(value) = value {
            let field = format!("linux.resources.memory.{field}");
            write(cgroup, &field, "memory", name, &value.to_string())?;
        }
    }
    if let Some(swappiness) = memory.swappiness {
        let field = "linux.resources.memory.swappiness";
        if swappiness > 100 {
            let reason = format!("{swappiness} is not from 0 to 100");
            return Err(Error::invalid(field, reason));
        }
        let value = swappiness.to_string();
        write(cgroup, field, "memory", "memory.swappiness", &value)?;
    }
    if let Some(disable) = memory.disable_oom_killer {
        let field = "linux.resources.memory.disableOOMKiller";
        // On is where every cgroup begins.
        if disable || cgroup.hierarchy("memory").is_some() {
            let value = if disable { "1" } else { "0" };
            write(cgroup, field, "memory", "memory.oom_control", value)?;
        }
    }
    if let Some(hierarchy) = memory.use_hierarchy {
        use_hierarchy(cgroup, hierarchy)?;
    }
    Ok(())
}

/// The sum with swap may never be below the limit, so which of the two goes first depends on
/// those that are there now.
fn limit_both(cgroup: &Cgroup, memory: &Memory) -> Result<()> {
    let limit = memory.limit.filter(|&limit| limit != 0);
    let mut swap = memory.swap.filter(|&swap| swap != 0);
    let field = "linux.resources.memory.limit";
    if let Some(limit) = limit {
        let path = directory(cgroup, field, "memory")?;
        if limit == -1 && swap.is_none() && path.join(SWAP).exists() {
            // No limit of the memory means none of the sum either.
            swap = Some(-1);
        }
        if memory.check_before_update == Some(true) {
            let usage = files::read_number(path, "memory.usage_in_bytes")?;
            files::check_usage(field, limit, usage)?;
        }
        let first = files::write_raw(path, LIMIT, &limit.to_string());
        if first.is_err() {
            if let Some(swap) = swap {
                set_swap(cgroup, swap)?;
            }
            return files::write_limit(path, field, LIMIT, &limit.to_string());
        }
    }
    swap.map_or(Ok(()), |swap| set_swap(cgroup, swap))
}

fn set_swap(cgroup: &Cgroup, swap: i64) -> Result<()> {
    let field = "linux.resources.memory.swap";
    if swap == -1
        && let Some(path) = cgroup.hierarchy("memory")
        && !path.join(SWAP).exists()
    {
        // A kernel that does not count swap does not limit it either.
        return Ok(());
    }
    write(cgroup, field, "memory", SWAP, &swap.to_string())
}

fn use_hierarchy(cgroup: &Cgroup, wanted: bool) -> Result<()> {
    let (field, name) = (
        "linux.resources.memory.useHierarchy",
        "memory.use_hierarchy",
    );
    let path = directory(cgroup, field, "memory")?;
    let value = if wanted { "1" } else { "0" };
    // Kernels since 5.11 know no other way than 1.
    if files::read(path, name).is_ok_and(|now| now == value) {
        return Ok(());
    }
    files::write_limit(path, field, name, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::Tree;

    #[test]
    fn every_limit_goes_to_its_file() {
        let tree = Tree::v1(&["memory"]);
        let names = [
            LIMIT,
            SWAP,
            "memory.soft_limit_in_bytes",
            "memory.kmem.tcp.limit_in_bytes",
            "memory.swappiness",
            "memory.oom_control",
        ];
        tree.touch("memory", &names);
        tree.put("memory", "memory.use_hierarchy", "1\n");
        let memory = Memory {
            limit: Some(1000),
            swap: Some(2000),
            reservation: Some(500),
            kernel: Some(7),
            kernel_tcp: Some(100),
            swappiness: Some(0),
            disable_oom_killer: Some(true),
            use_hierarchy: Some(true),
            check_before_update: None,
        };
        limit(&tree.cgroup, &memory).unwrap();
        let values = names.map(|name| tree.get("memory", name));
        assert_eq!(values, ["1000", "2000", "500", "100", "0", "1"]);
    }

    #[test]
    fn no_limit_of_memory_is_none_of_swap_where_swap_is_counted() {
        let unlimited = Memory {
            limit: Some(-1),
            ..Memory::default()
        };
        let tree = Tree::v1(&["memory"]);
        tree.touch("memory", &[LIMIT]);
        limit(&tree.cgroup, &unlimited).unwrap();
        tree.touch("memory", &[LIMIT, SWAP]);
        limit(&tree.cgroup, &unlimited).unwrap();
        assert_eq!(tree.get("memory", SWAP), "-1");
    }

    #[test]
    fn a_limit_below_the_usage_is_refused_where_asked() {
        let tree = Tree::v1(&["memory"]);
        tree.touch("memory", &[LIMIT]);
        tree.put("memory", "memory.usage_in_bytes", "4096\n");
        let mut memory = Memory {
            limit: Some(1000),
            check_before_update: Some(true),
            ..Memory::default()
        };
        let words = limit(&tree.cgroup, &memory).unwrap_err().to_string();
        assert!(
            words.contains("memory.limit") && words.contains("4096"),
            "{words}"
        );
        assert_eq!(tree.get("memory", LIMIT), "");
        memory.check_before_update = Some(false);
        limit(&tree.cgroup, &memory).unwrap();
        assert_eq!(tree.get("memory", LIMIT), "1000");
    }
}
