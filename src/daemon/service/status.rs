//! What a service tells of itself.

use std::sync::Arc;

use crate::daemon::control::{Counters, NotLazy, Status};
use crate::daemon::metrics::{CallStatistics, Gathered, HUNG_AFTER, fuse_requests};
use crate::daemon::service::Service;
use brisk_image::RefusalKind;
use brisk_layer::Cause;

impl Service {
    /// Mounts, counters, budget.
    pub fn status(&self) -> Status {
        let usage = self.cache.usage();
        Status {
            pid: std::process::id(),
            counters: self.counters(),
            not_lazy: self.not_lazy(),
            mounts: self.mounts.status(),
            cache_bytes: usage.used_bytes,
            cache_budget: usage.limit_bytes,
            orphan_timeout: self.config.service.orphan_timeout.to_string(),
        }
    }

    /// The same numbers and more, for monitoring.
    pub fn gather(&self) -> Gathered {
        let usage = self.cache.usage();
        Gathered {
            counters: self.counters(),
            not_lazy: self.not_lazy(),
            cache_bytes: usage.used_bytes,
            cache_budget: usage.limit_bytes,
            mounts: self.mounts.count() as u64,
            fuse: fuse_requests(self.mounts.requests()),
            calls: self.calls.methods(),
        }
    }

    /// What keeps the service from working, in words; none where it works.
    pub fn ailment(&self) -> Option<&'static str> {
        (!self.mounts.has_keeper()).then_some("the keeper has died; another one is being started")
    }

    /// Where the calls of containerd are counted.
    pub fn calls(&self) -> Arc<CallStatistics> {
        self.calls.clone()
    }

    fn counters(&self) -> Counters {
        let counters = self.resources.counters();
        let (metadata_bytes, requests) = self.queries.trips();
        let fetched = Cause::ALL.map(|cause| counters.fetched_bytes(cause));
        let [
            demand_bytes,
            start_up_bytes,
            speculation_bytes,
            background_bytes,
        ] = fetched;
        Counters {
            waiting_reads: counters.demand_reads_waiting(),
            hung_reads: self.mounts.waiting_reads_for(HUNG_AFTER),
            cache_hits: counters.local_reads(),
            cache_misses: counters.missing_reads(),
            failed_reads: counters.failed_reads(),
            demand_bytes,
            start_up_bytes,
            speculation_bytes,
            background_bytes,
            // The clients count every byte that arrived, layers' bytes included.
            metadata_bytes: metadata_bytes.saturating_sub(fetched.iter().sum()),
            requests,
            verification_failures: counters.verification_failures(),
        }
    }

    fn not_lazy(&self) -> Vec<NotLazy> {
        let of = |kind: RefusalKind| NotLazy {
            reason: kind.name().to_owned(),
            layers: self.resolver.refusals.of(kind),
        };
        RefusalKind::ALL.into_iter().map(of).collect()
    }
}
