//! What is worth another attempt, and when.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder, Retryable};

use crate::error::RegistryError;
use crate::limits::MAX_RETRY_AFTER;
use crate::trips::Trips;

/// How often and how fast failed requests are repeated. Waits double from `first_delay` to
/// `max_delay`, each with up to as much again at random, so that clients do not return
/// together; a server's Retry-After is waited for in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts after the first.
    pub retries: usize,
    /// The first wait.
    pub first_delay: Duration,
    /// The longest wait of our own choice.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    /// Five repetitions over 3 to 6 s: enough for a registry's rolling restart and a lost
    /// packet, short enough for the caller's own outage policy to take over.
    fn default() -> Self {
        Self {
            retries: 5,
            first_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(5),
        }
    }
}

impl RetryPolicy {
    fn builder(&self) -> ExponentialBuilder {
        ExponentialBuilder::new()
            .with_min_delay(self.first_delay)
            .with_max_delay(self.max_delay)
            .with_max_times(self.retries)
            .with_jitter()
    }

    /// The waits, one for each repetition.
    pub(super) fn delays(&self) -> ExponentialBackoff {
        self.builder().build()
    }

    /// Runs `attempt` until it succeeds, fails for good, or the attempts are used up.
    pub(super) async fn run<T, F>(
        &self,
        trips: &Trips,
        attempt: impl FnMut() -> F,
    ) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, RegistryError>>,
    {
        attempt
            .retry(self.builder())
            .when(RegistryError::is_retryable)
            .adjust(delay_for)
            .notify(|error, delay| {
                trips.retry();
                tracing::debug!(%error, ?delay, "registry request failed, repeating it");
            })
            .await
    }
}

/// The wait before the next attempt: what the server asked for, if longer than ours; none,
/// and so no further attempt, where that is above the limit.
pub(super) fn delay_for(error: &RegistryError, own: Option<Duration>) -> Option<Duration> {
    let own = own?;
    match error.retry_after() {
        Some(asked) if asked > MAX_RETRY_AFTER => None,
        Some(asked) => Some(own.max(asked)),
        None => Some(own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, retry_after: Option<Duration>) -> RegistryError {
        RegistryError::Status {
            at: "https://registry.example/v2/".to_owned(),
            status,
            detail: String::new(),
            retry_after,
        }
    }

    #[test]
    fn the_longer_of_both_waits_is_taken_up_to_the_limit() {
        let own = Some(Duration::from_secs(2));
        let wait = |asked| delay_for(&status(429, asked), own);
        assert_eq!(wait(None), own);
        assert_eq!(wait(Some(Duration::ZERO)), own);
        assert_eq!(
            wait(Some(Duration::from_secs(7))),
            Some(Duration::from_secs(7))
        );
        assert_eq!(wait(Some(MAX_RETRY_AFTER + Duration::from_secs(1))), None);
        assert_eq!(delay_for(&status(429, Some(Duration::ZERO)), None), None);
    }

    #[tokio::test]
    async fn only_passing_failures_are_repeated() {
        let policy = RetryPolicy {
            retries: 3,
            first_delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(2),
        };
        for (code, attempts) in [(503, 4), (429, 4), (404, 1), (401, 1), (501, 1)] {
            let trips = Trips::default();
            let mut count = 0;
            let result: Result<(), _> = policy
                .run(&trips, || {
                    count += 1;
                    async move { Err(status(code, None)) }
                })
                .await;
            assert_eq!(result.unwrap_err().status(), Some(code));
            assert_eq!(count, attempts, "{code}");
            assert_eq!(trips.counts().retries, attempts - 1);
        }
    }
}
