use std::time::Duration;

use brisk_snapshotter::calls::{CallObserver, Code};

use super::*;
use crate::daemon::control::{Counters, NotLazy};
use crate::daemon::metrics::CallStatistics;

#[test]
fn numbers_become_series_with_their_labels() {
    let calls = CallStatistics::default();
    calls.begun("Prepare");
    calls.begun("Prepare");
    calls.ended("Prepare", Duration::from_micros(3), Code::AlreadyExists);
    let text = text(Gathered {
        counters: Counters {
            demand_bytes: 7,
            hung_reads: 2,
            cache_hits: 5,
            ..Counters::default()
        },
        not_lazy: vec![NotLazy {
            reason: "no_index".to_owned(),
            layers: 4,
        }],
        calls: calls.methods(),
        ..Gathered::default()
    })
    .unwrap();
    for line in [
        "brisk_fetched_bytes_total{cause=\"demand\"} 7",
        "brisk_reads_total{result=\"hit\"} 5",
        "brisk_hung_reads 2",
        "brisk_not_lazy_total{reason=\"no_index\"} 4",
        "brisk_snapshot_calls_total{operation=\"Prepare\",code=\"AlreadyExists\"} 1",
        "brisk_snapshot_calls_in_flight 1",
        "brisk_snapshot_call_duration_seconds_count{operation=\"Prepare\"} 1",
        "brisk_snapshot_call_duration_seconds_bucket{le=\"0.000004096\",operation=\"Prepare\"} 1",
        "brisk_snapshot_call_duration_seconds_bucket{le=\"+Inf\",operation=\"Prepare\"} 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("operation=\"View\""), "{text}");
}
