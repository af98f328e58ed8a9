//! Counters of version 1.

use std::path::Path;

use crate::cgroup::Cgroup;
use crate::cgroup::statistics::{
    BlockIo, BlockIoEntry, Cpu, CpuUsage, Cpuset, Hugepages, Memory, MemoryEntry, Pids, Statistics,
    Throttling, number, page_sizes, ranges, table, text,
};

/// Nanoseconds of a clock tick of `cpuacct.stat`: USER_HZ is 100 on every architecture here.
const TICK: u64 = 10_000_000;

/// Reads what the mounted controllers count.
pub fn read(cgroup: &Cgroup) -> Statistics {
    let mut statistics = Statistics {
        cpu: cpu(cgroup),
        ..Statistics::default()
    };
    if let Some(path) = cgroup.hierarchy("cpuset") {
        statistics.cpuset = cpuset(path);
    }
    if let Some(path) = cgroup.hierarchy("memory") {
        statistics.memory = memory(path);
    }
    if let Some(path) = cgroup.hierarchy("pids") {
        let limit = number(path, "pids.max");
        statistics.pids = Pids {
            current: number(path, "pids.current"),
            limit: if limit == u64::MAX { 0 } else { limit },
        };
    }
    if let Some(path) = cgroup.hierarchy("blkio") {
        statistics.blkio = block_io(path);
    }
    if let Some(path) = cgroup.hierarchy("hugetlb") {
        let sizes = page_sizes(path, ".usage_in_bytes").into_iter();
        let read = |size: String| {
            let file = |name: &str| number(path, &format!("hugetlb.{size}.{name}"));
            let entry = Hugepages {
                usage: file("usage_in_bytes"),
                max: file("max_usage_in_bytes"),
                failcnt: file("failcnt"),
            };
            (size, entry)
        };
        statistics.hugetlb = sizes.map(read).collect();
    }
    statistics
}

fn cpu(cgroup: &Cgroup) -> Cpu {
    let mut cpu = Cpu::default();
    if let Some(path) = cgroup.hierarchy("cpu") {
        let counters = table(path, "cpu.stat");
        let counter = |key| counters.get(key).copied().unwrap_or(0);
        cpu.throttling = Throttling {
            periods: counter("nr_periods"),
            throttled_periods: counter("nr_throttled"),
            throttled_time: counter("throttled_time"),
        };
    }
    if let Some(path) = cgroup.hierarchy("cpuacct") {
        let ticks = table(path, "cpuacct.stat");
        let tick = |key| ticks.get(key).copied().unwrap_or(0) * TICK;
        let column = |index: usize| {
            let text = text(path, "cpuacct.usage_all");
            let value = |line: &str| line.split(' ').nth(index)?.parse().ok();
            text.lines().skip(1).filter_map(value).collect()
        };
        let each = text(path, "cpuacct.usage_percpu");
        cpu.usage = CpuUsage {
            total: number(path, "cpuacct.usage"),
            percpu: each
                .split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect(),
            percpu_user: column(1),
            percpu_kernel: column(2),
            user: tick("user"),
            kernel: tick("system"),
        };
    }
    cpu
}

fn cpuset(path: &Path) -> Cpuset {
    let file = |name: &str| number(path, &format!("cpuset.{name}"));
    Cpuset {
        cpus: ranges(&text(path, "cpuset.cpus")),
        mems: ranges(&text(path, "cpuset.mems")),
        cpu_exclusive: file("cpu_exclusive"),
        mem_hardwall: file("mem_hardwall"),
        mem_exclusive: file("mem_exclusive"),
        memory_migrate: file("memory_migrate"),
        memory_spread_page: file("memory_spread_page"),
        memory_spread_slab: file("memory_spread_slab"),
        memory_pressure: file("memory_pressure"),
        sched_load_balance: file("sched_load_balance"),
        sched_relax_domain_level: text(path, "cpuset.sched_relax_domain_level")
            .trim()
            .parse()
            .unwrap_or(0),
    }
}

fn memory(path: &Path) -> Memory {
    let entry = |kind: &str| {
        let file = |name: &str| number(path, &format!("memory.{kind}{name}"));
        MemoryEntry {
            limit: file("limit_in_bytes"),
            usage: file("usage_in_bytes"),
            max: file("max_usage_in_bytes"),
            failcnt: file("failcnt"),
        }
    };
    let raw = table(path, "memory.stat");
    Memory {
        cache: raw.get("cache").copied().unwrap_or(0),
        usage: entry(""),
        swap: entry("memsw."),
        kernel: entry("kmem."),
        kernel_tcp: entry("kmem.tcp."),
        raw,
        ..Memory::default()
    }
}

/// Where the scheduler BFQ is at work it counts; else only the throttle does.
fn block_io(path: &Path) -> BlockIo {
    let count = |name: &str| {
        let entries = |prefix: &str| entries(&text(path, &format!("blkio.{prefix}.{name}")));
        let of_bfq = entries("bfq");
        if of_bfq.is_empty() {
            entries("throttle")
        } else {
            of_bfq
        }
    };
    BlockIo {
        io_service_bytes_recursive: count("io_service_bytes_recursive"),
        io_serviced_recursive: count("io_serviced_recursive"),
        psi: None,
    }
}

/// Lines `MAJOR:MINOR OP NUMBER`; the last one is a sum of no device.
fn entries(text: &str) -> Vec<BlockIoEntry> {
    let entry = |line: &str| {
        let mut words = line.split(' ');
        let (major, minor) = words.next()?.split_once(':')?;
        Some(BlockIoEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: words.next()?.to_owned(),
            value: words.next()?.parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::Tree;

    #[test]
    fn counters_come_from_their_files() {
        let tree = Tree::v1(&[
            "cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "hugetlb",
        ]);
        let stat = "nr_periods 5\nnr_throttled 2\nthrottled_time 99\n";
        for (controller, name, text) in [
            ("cpu", "cpu.stat", stat),
            ("cpuacct", "cpuacct.usage", "1000\n"),
            ("cpuacct", "cpuacct.usage_percpu", "600 400 \n"),
            (
                "cpuacct",
                "cpuacct.usage_all",
                "cpu user system\n0 500 100\n1 390 10\n",
            ),
            ("cpuacct", "cpuacct.stat", "user 3\nsystem 1\n"),
            ("cpuset", "cpuset.cpus", "0-1\n"),
            ("cpuset", "cpuset.sched_relax_domain_level", "-1\n"),
            ("memory", "memory.stat", "cache 77\nrss 12\n"),
            ("memory", "memory.usage_in_bytes", "4096\n"),
            ("memory", "memory.limit_in_bytes", "8192\n"),
            ("memory", "memory.memsw.usage_in_bytes", "5000\n"),
            ("pids", "pids.current", "4\n"),
            ("pids", "pids.max", "max\n"),
            ("blkio", "blkio.bfq.io_serviced_recursive", "Total 0\n"),
            (
                "blkio",
                "blkio.throttle.io_serviced_recursive",
                "8:0 Read 6\n8:0 Total 6\nTotal 6\n",
            ),
            ("hugetlb", "hugetlb.2MB.usage_in_bytes", "2097152\n"),
            ("hugetlb", "hugetlb.2MB.rsvd.usage_in_bytes", "9\n"),
            ("hugetlb", "hugetlb.2MB.failcnt", "1\n"),
        ] {
            tree.put(controller, name, text);
        }
        let read = read(&tree.cgroup);
        assert_eq!(read.cpu.throttling.throttled_time, 99);
        assert_eq!(read.cpu.usage.percpu, [600, 400]);
        assert_eq!(read.cpu.usage.percpu_user, [500, 390]);
        assert_eq!(
            (read.cpu.usage.user, read.cpu.usage.kernel),
            (3 * TICK, TICK)
        );
        assert_eq!(read.cpuset.cpus, [0, 1]);
        assert_eq!(read.cpuset.sched_relax_domain_level, -1);
        assert_eq!((read.memory.cache, read.memory.raw["rss"]), (77, 12));
        assert_eq!(
            (read.memory.usage.usage, read.memory.usage.limit),
            (4096, 8192)
        );
        assert_eq!(read.memory.swap.usage, 5000);
        assert_eq!((read.pids.current, read.pids.limit), (4, 0));
        assert_eq!(read.blkio.io_serviced_recursive.len(), 2);
        assert_eq!(read.blkio.io_serviced_recursive[0].op, "Read");
        assert_eq!(read.hugetlb.len(), 1);
        assert_eq!(read.hugetlb["2MB"].failcnt, 1);
    }
}
