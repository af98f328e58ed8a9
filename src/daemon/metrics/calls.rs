//! The calls on the snapshotter's socket, by method.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use brisk_snapshotter::calls::{CallObserver, Code};
use fuse::{LatencyHistogram, LatencySnapshot};

/// The methods of containerd's snapshots API; other calls are counted together.
const METHODS: [&str; 10] = [
    "Prepare", "View", "Mounts", "Commit", "Remove", "Stat", "Update", "List", "Usage", "Cleanup",
];
/// The name of all others.
const OTHER: &str = "other";
/// gRPC has the codes 0 to 16.
const CODES: usize = 17;

#[derive(Debug, Default)]
struct Method {
    begun: AtomicU64,
    times: LatencyHistogram,
    codes: [AtomicU64; CODES],
}

/// Counts and times of the calls since the service started.
#[derive(Debug, Default)]
pub struct CallStatistics([Method; METHODS.len() + 1]);

/// What became of the calls of one method.
#[derive(Clone, Debug)]
pub struct MethodStatistics {
    /// The method.
    pub name: &'static str,
    /// Calls that have begun.
    pub begun: u64,
    /// How long those took that have ended.
    pub times: LatencySnapshot,
    /// How many ended with each code, those that none ended with left out.
    pub codes: Vec<(Code, u64)>,
}

impl CallStatistics {
    fn method(&self, name: &str) -> Option<&Method> {
        let other = METHODS.len();
        let number = METHODS.iter().position(|known| *known == name);
        self.0.get(number.unwrap_or(other))
    }

    /// What has been counted, method by method.
    pub fn methods(&self) -> Vec<MethodStatistics> {
        let names = METHODS.iter().copied().chain([OTHER]);
        let of = |(name, method): (&'static str, &Method)| MethodStatistics {
            name,
            begun: method.begun.load(Ordering::Relaxed),
            times: method.times.snapshot(),
            codes: (0..)
                .zip(&method.codes)
                .map(|(code, count)| (Code::from_i32(code), count.load(Ordering::Relaxed)))
                .filter(|(_, count)| *count > 0)
                .collect(),
        };
        names.zip(&self.0).map(of).collect()
    }
}

impl CallObserver for CallStatistics {
    fn begun(&self, method: &str) {
        if let Some(method) = self.method(method) {
            method.begun.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn ended(&self, method: &str, took: Duration, code: Code) {
        let Some(method) = self.method(method) else {
            return;
        };
        method.times.add(took);
        if let Some(count) = method.codes.get(code as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_and_codes_are_counted_apart() {
        let calls = CallStatistics::default();
        for code in [Code::Ok, Code::AlreadyExists, Code::AlreadyExists] {
            calls.begun("Prepare");
            calls.ended("Prepare", Duration::from_millis(1), code);
        }
        calls.begun("Nonsense");
        let methods = calls.methods();
        assert_eq!(methods[0].name, "Prepare");
        assert_eq!(methods[0].times.count(), 3);
        assert_eq!(methods[0].codes, [(Code::Ok, 1), (Code::AlreadyExists, 2)]);
        let other = methods.last().unwrap();
        assert_eq!((other.name, other.begun), ("other", 1));
        assert_eq!(other.times.count(), 0);
    }
}
