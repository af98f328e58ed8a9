//! What a service tells of itself.

use crate::daemon::control::{Counters, Status};
use crate::daemon::service::Service;
use brisk_layer::Cause;

impl Service {
    /// Mounts, counters, budget.
    pub fn status(&self) -> Status {
        let counters = self.resources.counters();
        let usage = self.cache.usage();
        let (metadata_bytes, requests) = self.queries.trips();
        let fetched = Cause::ALL.map(|cause| counters.fetched_bytes(cause));
        let [
            demand_bytes,
            start_up_bytes,
            speculation_bytes,
            background_bytes,
        ] = fetched;
        let mounts = self.mounts.status();
        Status {
            pid: std::process::id(),
            counters: Counters {
                waiting_reads: counters.demand_reads_waiting(),
                demand_bytes,
                start_up_bytes,
                speculation_bytes,
                background_bytes,
                // The clients count every byte that arrived, layers' bytes included.
                metadata_bytes: metadata_bytes.saturating_sub(fetched.iter().sum()),
                requests,
                verification_failures: counters.verification_failures(),
            },
            mounts,
            cache_bytes: usage.used_bytes,
            cache_budget: usage.limit_bytes,
            orphan_timeout: self.config.service.orphan_timeout.to_string(),
        }
    }
}
