//! The memory controller.

use std::path::Path;

use crate::cgroup::files;
use crate::cgroup::v2::absent;
use crate::error::{Error, Result};
use crate::spec::Memory;

/// Writes the limits. `kernel` is passed over, as the specification lets a runtime.
pub fn limit(path: &Path, memory: &Memory) -> Result<()> {
    refuse(memory)?;
    let limit = memory.limit.filter(|&limit| limit != 0);
    let mut swap = memory.swap.filter(|&swap| swap != 0);
    if limit == Some(-1) && swap.is_none() && path.join("memory.swap.max").exists() {
        // No limit of the memory means none of the sum either.
        swap = Some(-1);
    }
    if let (Some(limit), Some(true)) = (limit, memory.check_before_update) {
        let usage = files::read_number(path, "memory.current")?;
        files::check_usage("linux.resources.memory.limit", limit, usage)?;
    }
    if let Some(swap) = swap {
        let field = "linux.resources.memory.swap";
        let alone = files::or_max(swap_alone(path, limit, swap)?);
        // A kernel that has no swap cannot exceed a limit of it.
        let needless = !path.join("memory.swap.max").exists() && matches!(&*alone, "max" | "0");
        if !needless {
            files::write_limit(path, field, "memory.swap.max", &alone)?;
        }
    }
    let limits = [
        ("limit", "memory.max", limit),
        (
            "reservation",
            "memory.low",
            memory.reservation.filter(|&value| value != 0),
        ),
    ];
    for (field, name, value) in limits {
        if let Some(value) = value {
            let field = format!("linux.resources.memory.{field}");
            files::write_limit(path, &field, name, &files::or_max(value))?;
        }
    }
    Ok(())
}

fn refuse(memory: &Memory) -> Result<()> {
    if memory.kernel_tcp.is_some_and(|value| value != 0) {
        return Err(absent("memory.kernelTCP"));
    }
    if memory.swappiness.is_some() {
        return Err(absent("memory.swappiness"));
    }
    if memory.disable_oom_killer == Some(true) {
        return Err(absent("memory.disableOOMKiller"));
    }
    if memory.use_hierarchy == Some(false) {
        let reason = "cgroup2 always counts what is below";
        return Err(Error::unsupported(
            "linux.resources.memory.useHierarchy",
            reason,
        ));
    }
    Ok(())
}

/// The specification counts memory and swap together, cgroup2 swap alone. Without a limit of the
/// memory beside it the one that is there counts.
fn swap_alone(path: &Path, limit: Option<i64>, both: i64) -> Result<i64> {
    if both < 0 {
        return Ok(-1);
    }
    let limit = match limit {
        Some(limit) => limit,
        None => i64::try_from(files::read_number(path, "memory.max")?).unwrap_or(-1),
    };
    if limit > 0 && both >= limit {
        return Ok(both - limit);
    }
    Err(Error::invalid(
        "linux.resources.memory.swap",
        format!("{both} is below the limit of the memory, or there is none"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::Tree;

    fn set(tree: &Tree, memory: Memory) -> Result<()> {
        limit(tree.cgroup.unified.as_deref().unwrap(), &memory)
    }

    #[test]
    fn every_limit_goes_to_its_file_with_swap_counted_alone() {
        let tree = Tree::v2();
        let names = ["memory.max", "memory.swap.max", "memory.low"];
        tree.touch("unified", &names);
        let memory = Memory {
            limit: Some(1000),
            swap: Some(1500),
            reservation: Some(400),
            use_hierarchy: Some(true),
            disable_oom_killer: Some(false),
            ..Memory::default()
        };
        set(&tree, memory).unwrap();
        let values = names.map(|name| tree.get("unified", name));
        assert_eq!(values, ["1000", "500", "400"]);
    }

    #[test]
    fn swap_is_measured_by_the_limit_that_is_there() {
        let tree = Tree::v2();
        tree.put("unified", "memory.max", "1000\n");
        tree.touch("unified", &["memory.swap.max"]);
        let swap = |swap| Memory {
            swap: Some(swap),
            ..Memory::default()
        };
        set(&tree, swap(1200)).unwrap();
        assert_eq!(tree.get("unified", "memory.swap.max"), "200");
        assert!(set(&tree, swap(500)).is_err());
        tree.put("unified", "memory.max", "max\n");
        assert!(set(&tree, swap(500)).is_err());
        tree.touch("unified", &["memory.swap.max"]);
        set(&tree, swap(-1)).unwrap();
        assert_eq!(tree.get("unified", "memory.swap.max"), "max");
    }

    #[test]
    fn a_limit_below_the_usage_is_refused_where_asked() {
        let tree = Tree::v2();
        tree.touch("unified", &["memory.max"]);
        tree.put("unified", "memory.current", "4096\n");
        let memory = Memory {
            limit: Some(1000),
            check_before_update: Some(true),
            ..Memory::default()
        };
        let words = set(&tree, memory).unwrap_err().to_string();
        assert!(words.contains("memory.limit"), "{words}");
    }
}
