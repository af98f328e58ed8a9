//! Counters of version 2, in the units of version 1.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cgroup::statistics::{
    BlockIo, BlockIoEntry, Cpu, CpuUsage, Cpuset, Hugepages, Memory, MemoryEntry, Pids, Pressure,
    PressureLine, Statistics, Throttling, number, page_sizes, ranges, table, text,
};

/// Reads what the enabled controllers count.
pub fn read(path: &Path) -> Statistics {
    let limit = number(path, "pids.max");
    Statistics {
        cpu: cpu(path),
        cpuset: Cpuset {
            cpus: ranges(&text(path, "cpuset.cpus.effective")),
            mems: ranges(&text(path, "cpuset.mems.effective")),
            ..Cpuset::default()
        },
        memory: memory(path),
        pids: Pids {
            current: number(path, "pids.current"),
            limit: if limit == u64::MAX { 0 } else { limit },
        },
        blkio: block_io(path),
        hugetlb: hugepages(path),
        ..Statistics::default()
    }
}

/// Huge pages by their size.
pub fn hugepages(path: &Path) -> BTreeMap<String, Hugepages> {
    let read = |size: String| {
        let events = table(path, &format!("hugetlb.{size}.events"));
        let entry = Hugepages {
            usage: number(path, &format!("hugetlb.{size}.current")),
            max: 0,
            failcnt: events.get("max").copied().unwrap_or(0),
        };
        (size, entry)
    };
    page_sizes(path, ".current").into_iter().map(read).collect()
}

fn cpu(path: &Path) -> Cpu {
    let counters = table(path, "cpu.stat");
    let counter = |key| counters.get(key).copied().unwrap_or(0);
    Cpu {
        usage: CpuUsage {
            total: counter("usage_usec") * 1000,
            user: counter("user_usec") * 1000,
            kernel: counter("system_usec") * 1000,
            ..CpuUsage::default()
        },
        throttling: Throttling {
            periods: counter("nr_periods"),
            throttled_periods: counter("nr_throttled"),
            throttled_time: counter("throttled_usec") * 1000,
        },
        psi: pressure(path, "cpu.pressure"),
    }
}

fn memory(path: &Path) -> Memory {
    let raw = table(path, "memory.stat");
    let events = table(path, "memory.events");
    let usage = MemoryEntry {
        limit: number(path, "memory.max"),
        usage: number(path, "memory.current"),
        max: number(path, "memory.peak"),
        failcnt: events.get("max").copied().unwrap_or(0),
    };
    let swap = MemoryEntry {
        limit: number(path, "memory.swap.max").saturating_add(usage.limit),
        usage: number(path, "memory.swap.current").saturating_add(usage.usage),
        ..MemoryEntry::default()
    };
    Memory {
        cache: raw.get("file").copied().unwrap_or(0),
        usage,
        swap,
        raw,
        psi: pressure(path, "memory.pressure"),
        event_count: events,
        ..Memory::default()
    }
}

fn block_io(path: &Path) -> BlockIo {
    let mut block_io = BlockIo {
        psi: pressure(path, "io.pressure"),
        ..BlockIo::default()
    };
    for line in text(path, "io.stat").lines() {
        let mut words = line.split(' ');
        let device = words.next().and_then(|word| word.split_once(':'));
        let Some((Ok(major), Ok(minor))) = device.map(|(a, b)| (a.parse(), b.parse())) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let bytes = key.ends_with("bytes");
            let op = match key {
                "rbytes" | "rios" => "Read",
                "wbytes" | "wios" => "Write",
                "dbytes" | "dios" => "Discard",
                _ => continue,
            };
            let entry = BlockIoEntry {
                major,
                minor,
                op: op.to_owned(),
                value: value.parse().unwrap_or(0),
            };
            if bytes {
                block_io.io_service_bytes_recursive.push(entry);
            } else {
                block_io.io_serviced_recursive.push(entry);
            }
        }
    }
    block_io
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same of `full`.
fn pressure(path: &Path, name: &str) -> Option<Pressure> {
    let text = std::fs::read_to_string(path.join(name)).ok()?;
    let line = |which: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(which))?;
        let value = |key: &str| {
            let mut words = line.split(' ');
            words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        };
        let average = |key| value(key).and_then(|value| value.parse().ok());
        Some(PressureLine {
            avg10: average("avg10")?,
            avg60: average("avg60")?,
            avg300: average("avg300")?,
            total: value("total")?.parse().ok()?,
        })
    };
    Some(Pressure {
        some: line("some"),
        full: line("full"),
    })
}

#[cfg(test)]
mod tests {
    use crate::cgroup::fake::Tree;

    #[test]
    fn counters_come_from_their_files() {
        let tree = Tree::v2();
        let pressure = "some avg10=1.50 avg60=0.00 avg300=0.25 total=12\n\
                        full avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
        for (name, text) in [
            (
                "cpu.stat",
                "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_throttled 7\n",
            ),
            ("cpu.pressure", pressure),
            ("cpuset.cpus.effective", "0-1\n"),
            ("memory.stat", "anon 1\nfile 77\n"),
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.swap.current", "10\n"),
            ("memory.swap.max", "max\n"),
            ("memory.events", "low 0\nmax 4\noom 1\noom_kill 2\n"),
            ("pids.current", "4\n"),
            ("pids.max", "12\n"),
            (
                "io.stat",
                "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n",
            ),
            ("hugetlb.2MB.current", "2097152\n"),
            ("hugetlb.2MB.events", "max 3\n"),
            ("hugetlb.2MB.rsvd.current", "1\n"),
        ] {
            tree.put("unified", name, text);
        }
        let read = crate::cgroup::statistics::read(&tree.cgroup);
        assert_eq!((read.cpu.usage.total, read.cpu.usage.user), (5000, 3000));
        assert_eq!(read.cpu.throttling.throttled_periods, 7);
        let pressure = read.cpu.psi.unwrap();
        assert_eq!(pressure.some.unwrap().total, 12);
        assert_eq!(pressure.full.unwrap().total, 3);
        assert!(read.memory.psi.is_none());
        assert_eq!(read.cpuset.cpus, [0, 1]);
        assert_eq!(read.memory.cache, 77);
        assert_eq!(read.memory.usage.limit, u64::MAX);
        assert_eq!(read.memory.swap.usage, 4106);
        assert_eq!(read.memory.swap.limit, u64::MAX);
        assert_eq!(read.memory.event_count["oom_kill"], 2);
        assert_eq!((read.pids.current, read.pids.limit), (4, 12));
        let bytes: Vec<_> = read
            .blkio
            .io_service_bytes_recursive
            .iter()
            .map(|e| (&*e.op, e.value))
            .collect();
        assert_eq!(bytes, [("Read", 1), ("Write", 2), ("Discard", 5)]);
        assert_eq!(read.blkio.io_serviced_recursive[1].value, 4);
        assert_eq!(
            (read.hugetlb["2MB"].usage, read.hugetlb["2MB"].failcnt),
            (2_097_152, 3)
        );
        assert_eq!(read.hugetlb.len(), 1);
    }
}
