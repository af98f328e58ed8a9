use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use super::{FetchGate, Permit, STARVATION_LIMIT};
use crate::Cause;
use crate::pace::Arrival;

const SIZE: u64 = 256 << 10;

/// Admitted at once, or not.
fn try_enter(gate: &Arc<FetchGate>, cause: Cause, bytes: u64) -> Option<Permit> {
    gate.enter(cause, bytes).now_or_never()
}

#[tokio::test]
async fn nothing_idle_starts_while_a_reader_waits() {
    let gate = FetchGate::new();
    let demand = gate.enter(Cause::Demand, SIZE).await;
    assert!(try_enter(&gate, Cause::Background, SIZE).is_none());
    assert!(try_enter(&gate, Cause::ReadAhead, SIZE).is_none());
    assert!(try_enter(&gate, Cause::Demand, SIZE).is_some());
    drop(demand);
    assert!(try_enter(&gate, Cause::Background, SIZE).is_some());
    let hold = gate.hold();
    assert!(try_enter(&gate, Cause::Background, SIZE).is_none());
    drop(hold);
    assert!(try_enter(&gate, Cause::Background, SIZE).is_some());
}

#[tokio::test]
async fn starvation_has_an_end() {
    let gate = FetchGate::new();
    let _demand = gate.enter(Cause::Demand, SIZE).await;
    let start = Instant::now();
    let one = gate.enter(Cause::Background, SIZE).await;
    assert!(start.elapsed() >= STARVATION_LIMIT);
    let second = gate.enter(Cause::Background, SIZE);
    assert!(
        tokio::time::timeout(STARVATION_LIMIT * 2, second)
            .await
            .is_err()
    );
    drop(one);
    assert!(try_enter(&gate, Cause::Background, SIZE).is_some());
}

#[tokio::test]
async fn read_ahead_goes_before_background() {
    let gate = FetchGate::new();
    let demand = gate.enter(Cause::Demand, SIZE).await;
    let mut ahead = std::pin::pin!(gate.enter(Cause::ReadAhead, SIZE));
    assert!(ahead.as_mut().now_or_never().is_none());
    drop(demand);
    assert!(try_enter(&gate, Cause::Background, SIZE).is_none());
    let _ahead = ahead.await;
    assert!(try_enter(&gate, Cause::Background, SIZE).is_some());
}

#[tokio::test]
async fn idle_bytes_on_their_way_are_bounded_and_one_request_always_goes() {
    let gate = FetchGate::new();
    let huge = gate.enter(Cause::Background, 64 << 20).await;
    assert!(try_enter(&gate, Cause::Background, SIZE).is_none());
    drop(huge);
    let permits: Vec<Permit> = std::iter::from_fn(|| try_enter(&gate, Cause::Background, SIZE))
        .take(100)
        .collect();
    assert_eq!(permits.len() as u64 * SIZE, gate.lock().pace.window_bytes());
    assert!(permits.len() < 100);
}

/// A gate that knows its link: 1 MB per second, 200 ms.
async fn known_link() -> Arc<FetchGate> {
    let gate = FetchGate::new();
    let permit = gate.enter(Cause::Demand, SIZE).await;
    let (ended, trip) = (Instant::now(), Duration::from_millis(200));
    let started = ended - trip - Duration::from_secs(1);
    permit.arrived(Arrival {
        started,
        ended,
        first_byte: Some(trip),
        bytes: 1_000_000,
    });
    gate
}

#[tokio::test]
async fn idle_requests_follow_right_behind_the_readers() {
    let gate = known_link().await;
    let start = Instant::now();
    // It will take 200 ms to arrive and 300 ms to transfer.
    let demand = gate.enter(Cause::Demand, 300_000).await;
    let behind = gate.enter(Cause::Background, 1000).await;
    let waited = start.elapsed();
    assert!((280..450).contains(&waited.as_millis()), "{waited:?}");
    // What is overdue meets trouble.
    tokio::time::sleep(Duration::from_millis(750).saturating_sub(start.elapsed())).await;
    assert!(try_enter(&gate, Cause::Background, 1000).is_none());
    drop((demand, behind));
    assert!(try_enter(&gate, Cause::Background, 1000).is_some());
}

#[tokio::test]
async fn giving_up_a_place_lets_the_others_go_on() {
    let gate = FetchGate::new();
    let big = gate.enter(Cause::Demand, 128 << 20).await;
    let mut waiting = Box::pin(gate.enter(Cause::Demand, SIZE));
    assert!(waiting.as_mut().now_or_never().is_none());
    drop(waiting);
    drop(big);
    assert!(try_enter(&gate, Cause::Background, SIZE).is_some());
    assert_eq!(gate.lock().demand, 0);
    assert_eq!(gate.lock().in_flight, 0);
}
