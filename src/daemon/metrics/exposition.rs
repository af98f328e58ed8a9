//! Writes gathered numbers in the OpenMetrics text format.

use std::fmt;

use fuse::LatencySnapshot;
use fuse::latency::BOUNDS_NS;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::daemon::metrics::Gathered;

/// Media type of what [`text`] gives.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The numbers as text.
///
/// # Errors
/// None in practice: a `String` takes everything.
pub fn text(gathered: Gathered) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("brisk");
    registry.register_collector(Box::new(gathered));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// One series of a family: its labels and value.
type Series<'a> = (Vec<(&'a str, &'a str)>, u64);

fn plain<'a>(value: u64) -> Vec<Series<'a>> {
    vec![(Vec::new(), value)]
}

impl Collector for Gathered {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        self.counters(&mut encoder)?;
        self.gauges(&mut encoder)?;
        self.calls(&mut encoder)?;
        let fuse = self.fuse.iter().map(|kind| (kind.name, &kind.times));
        let help = "Time from a FUSE request to its answer";
        histograms(&mut encoder, "fuse_request_duration", help, fuse)?;
        let calls = self.calls.iter().map(|method| (method.name, &method.times));
        let help = "Time of a call of containerd's snapshots API";
        histograms(&mut encoder, "snapshot_call_duration", help, calls)
    }
}

impl Gathered {
    fn counters(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let counters = &self.counters;
        let causes = [
            ("demand", counters.demand_bytes),
            ("start_up", counters.start_up_bytes),
            ("ahead", counters.speculation_bytes),
            ("background", counters.background_bytes),
            ("metadata", counters.metadata_bytes),
        ];
        let fetched = causes.map(|(cause, bytes)| (vec![("cause", cause)], bytes));
        let help = "Compressed bytes received, by what they were fetched for";
        counter(encoder, "fetched_bytes", help, fetched)?;
        let help = "HTTP requests sent to registries";
        counter(encoder, "registry_requests", help, plain(counters.requests))?;
        let reads = [
            (vec![("result", "hit")], counters.cache_hits),
            (vec![("result", "miss")], counters.cache_misses),
        ];
        let help = "Reads of layer content, by whether the cache had all of it";
        counter(encoder, "reads", help, reads)?;
        let help = "Reads answered with an error";
        counter(encoder, "failed_reads", help, plain(counters.failed_reads))?;
        let help = "Chunks or layers whose bytes did not match their digest";
        let failures = plain(counters.verification_failures);
        counter(encoder, "verification_failures", help, failures)?;
        let reasons = self
            .not_lazy
            .iter()
            .map(|why| (vec![("reason", why.reason.as_str())], why.layers));
        let help = "Layers that were pulled whole for want of a usable index, by reason";
        counter(encoder, "not_lazy", help, reasons)
    }

    fn gauges(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let in_flight = |begun: u64, times: &LatencySnapshot| begun.saturating_sub(times.count());
        let fuse = self.fuse.iter().map(|k| in_flight(k.begun, &k.times)).sum();
        let calls = self
            .calls
            .iter()
            .map(|m| in_flight(m.begun, &m.times))
            .sum();
        for (name, help, value) in [
            ("mounts", "Mounted images", self.mounts),
            (
                "cache_bytes",
                "Bytes of layer content on disk",
                self.cache_bytes,
            ),
            (
                "cache_budget_bytes",
                "Bytes of layer content that there may be on disk",
                self.cache_budget,
            ),
            (
                "waiting_reads",
                "Reads that wait for content now",
                self.counters.waiting_reads,
            ),
            (
                "hung_reads",
                "Reads that have been waiting for more than 30 seconds",
                self.counters.hung_reads,
            ),
            (
                "fuse_requests_in_flight",
                "FUSE requests that have no answer yet",
                fuse,
            ),
            (
                "snapshot_calls_in_flight",
                "Calls of containerd's snapshots API under way",
                calls,
            ),
        ] {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            metric.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn calls(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let codes: Vec<(&str, String, u64)> = self
            .calls
            .iter()
            .flat_map(|method| {
                let of = |(code, count): &(_, u64)| (method.name, format!("{code:?}"), *count);
                method.codes.iter().map(of)
            })
            .collect();
        let series = codes.iter().map(|(method, code, count)| {
            (
                vec![("operation", *method), ("code", code.as_str())],
                *count,
            )
        });
        let help = "Calls of containerd's snapshots API, by method and gRPC code";
        counter(encoder, "snapshot_calls", help, series)
    }
}

fn counter<'a>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = Series<'a>>,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in series {
        if labels.is_empty() {
            family.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        } else {
            let mut metric = family.encode_family(&labels)?;
            metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
    }
    Ok(())
}

/// One histogram for each operation that has occurred.
fn histograms<'a>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    operations: impl Iterator<Item = (&'a str, &'a LatencySnapshot)>,
) -> Result<(), fmt::Error> {
    let unit = Some(&Unit::Seconds);
    let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Histogram)?;
    for (operation, times) in operations.filter(|(_, times)| times.count() > 0) {
        let bounds = BOUNDS_NS.iter().map(|bound| *bound as f64 / 1e9);
        // The last bound stands for none.
        let bounds = bounds.chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(times.buckets).collect();
        let labels = [("operation", operation)];
        let (sum, count) = (times.sum.as_secs_f64(), times.count());
        encode_histogram(family.encode_family(&labels)?, sum, count, &buckets)?;
    }
    Ok(())
}

fn encode_histogram(
    mut metric: prometheus_client::encoding::MetricEncoder<'_>,
    sum: f64,
    count: u64,
    buckets: &[(f64, u64)],
) -> Result<(), fmt::Error> {
    metric.encode_histogram::<NoLabelSet>(sum, count, buckets, None)
}

#[cfg(test)]
mod tests;
