use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::runtime::Handle;

use super::schedule::STARVATION_LIMIT;
use super::{FetchGate, FetchLimits, Permit};
use crate::pace::Arrival;
use crate::{Account, Cause, Purpose, Resources};

const SIZE: u64 = 256 << 10;

struct World {
    gate: Arc<FetchGate>,
    account: Arc<Account>,
}

impl World {
    fn new(limits: FetchLimits) -> World {
        World {
            gate: FetchGate::new(limits),
            account: Account::new(&Resources::new(Handle::current())),
        }
    }

    async fn enter(&self, cause: Cause, bytes: u64) -> Permit {
        let purpose = Purpose::new(cause, &self.account);
        self.gate.enter(&purpose, bytes).await
    }

    /// Admitted at once, or not.
    fn try_enter(&self, cause: Cause, bytes: u64) -> Option<Permit> {
        self.enter(cause, bytes).now_or_never()
    }
}

fn world() -> World {
    World::new(FetchLimits::default())
}

#[tokio::test]
async fn nothing_idle_starts_while_a_reader_waits() {
    let world = world();
    let demand = world.enter(Cause::Demand, SIZE).await;
    for cause in [Cause::StartUp, Cause::Speculation, Cause::Background] {
        assert!(world.try_enter(cause, SIZE).is_none());
    }
    assert!(world.try_enter(Cause::Demand, SIZE).is_some());
    drop(demand);
    let idle = world.try_enter(Cause::Background, SIZE).unwrap();
    // A reader joins it.
    idle.promote();
    assert!(world.try_enter(Cause::Background, 1).is_none());
    drop(idle);
    assert!(world.try_enter(Cause::Background, 1).is_some());
    assert!(world.gate.lock().is_idle());
}

#[tokio::test]
async fn starvation_has_an_end() {
    let world = world();
    let _demand = world.enter(Cause::Demand, SIZE).await;
    let start = Instant::now();
    let one = world.enter(Cause::Background, SIZE).await;
    assert!(start.elapsed() >= STARVATION_LIMIT);
    let second = world.enter(Cause::Background, SIZE);
    assert!(
        tokio::time::timeout(STARVATION_LIMIT * 2, second)
            .await
            .is_err()
    );
    drop(one);
    assert!(world.try_enter(Cause::Background, SIZE).is_some());
}

#[tokio::test]
async fn more_urgent_classes_go_first() {
    let world = world();
    let demand = world.enter(Cause::Demand, SIZE).await;
    let mut background = std::pin::pin!(world.enter(Cause::Background, SIZE / 2));
    assert!(background.as_mut().now_or_never().is_none());
    let mut start_up = std::pin::pin!(world.enter(Cause::StartUp, SIZE));
    assert!(start_up.as_mut().now_or_never().is_none());
    drop(demand);
    let start_up = start_up.await;
    assert!(background.as_mut().now_or_never().is_none());
    drop(start_up);
    assert!(background.now_or_never().is_some());
}

#[tokio::test]
async fn idle_bytes_on_their_way_are_bounded_and_one_request_always_goes() {
    let world = world();
    let huge = world.enter(Cause::Background, 64 << 20).await;
    assert!(world.try_enter(Cause::Background, SIZE).is_none());
    drop(huge);
    let size = 32 << 10;
    let permits: Vec<Permit> =
        std::iter::from_fn(|| world.try_enter(Cause::Background, size)).collect();
    let window = world.gate.lock().window_bytes(Instant::now());
    assert_eq!(permits.len() as u64, window / size);
}

#[tokio::test]
async fn connections_and_bytes_are_bounded_for_readers_too() {
    let world = World::new(FetchLimits {
        connections: 4,
        in_flight_bytes: 10 * SIZE,
    });
    let idle: Vec<Permit> = std::iter::from_fn(|| world.try_enter(Cause::Background, 1)).collect();
    assert_eq!(idle.len(), 2, "two connections are the readers'");
    let readers: Vec<Permit> = std::iter::from_fn(|| world.try_enter(Cause::Demand, 1)).collect();
    assert_eq!(readers.len(), 2);
    drop((idle, readers));
    let readers: Vec<Permit> =
        std::iter::from_fn(|| world.try_enter(Cause::Demand, 4 * SIZE)).collect();
    assert_eq!(readers.len(), 2);
}

#[tokio::test]
async fn idle_requests_follow_right_behind_the_readers() {
    let world = world();
    // A link of 1 MB per second, 200 ms.
    let permit = world.enter(Cause::Demand, SIZE).await;
    let (ended, trip) = (Instant::now(), Duration::from_millis(200));
    let started = ended - trip - Duration::from_secs(1);
    permit.arrived(Arrival {
        started,
        ended,
        first_byte: Some(trip),
        bytes: 1_000_000,
    });
    drop(permit);
    let start = Instant::now();
    // It will take 200 ms to arrive and 300 ms to transfer.
    let demand = world.enter(Cause::Demand, 300_000).await;
    let behind = world.enter(Cause::Background, 1000).await;
    let waited = start.elapsed();
    assert!((280..450).contains(&waited.as_millis()), "{waited:?}");
    // What is overdue meets trouble.
    tokio::time::sleep(Duration::from_millis(750).saturating_sub(start.elapsed())).await;
    assert!(world.try_enter(Cause::Background, 1000).is_none());
    drop((demand, behind));
    assert!(world.try_enter(Cause::Background, 1000).is_some());
}

#[tokio::test]
async fn giving_up_a_place_lets_the_others_go_on() {
    let world = world();
    let big = world.enter(Cause::Demand, 128 << 20).await;
    let mut waiting = Box::pin(world.enter(Cause::Demand, SIZE));
    assert!(waiting.as_mut().now_or_never().is_none());
    drop(waiting);
    drop(big);
    assert!(world.try_enter(Cause::Background, SIZE).is_some());
    assert!(world.gate.lock().is_idle());
}
