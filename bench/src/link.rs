//! A link with a round trip time and a bandwidth, as a relay between loopback ports.
//!
//! Every connection through one [`Link`] shares the same bandwidth, each direction its own.
//! Every byte is delayed by half a round trip each way, and a new connection costs one whole
//! round trip before its first byte travels, as a TCP handshake would.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

/// How far a direction may lag behind its schedule and still catch up: timers here are
/// accurate to about a millisecond, and a late wake-up must not lower the bandwidth.
const CATCH_UP: Duration = Duration::from_millis(4);
/// Bytes that one connection puts on the wire at a time: the grain of fairness.
const GRAIN: usize = 16 * 1024;

/// Round trip time and bandwidth of a link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Round trip time.
    pub round_trip: Duration,
    /// Bits a second in each direction.
    pub bits_per_second: u64,
}

impl Shape {
    /// A link of that many milliseconds and megabits a second.
    pub fn new(round_trip_ms: u64, megabits: u64) -> Self {
        Shape {
            round_trip: Duration::from_millis(round_trip_ms),
            bits_per_second: megabits * 1_000_000,
        }
    }

    fn transmission(&self, bytes: usize) -> Duration {
        Duration::from_nanos(bytes as u64 * 8 * 1_000_000_000 / self.bits_per_second)
    }
}

/// What has travelled so far.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Bytes towards the server.
    pub up: AtomicU64,
    /// Bytes towards the client.
    pub down: AtomicU64,
}

/// One direction's transmitter, shared by all connections.
struct Wire {
    shape: Shape,
    free_at: Mutex<Instant>,
}

impl Wire {
    fn new(shape: Shape) -> Arc<Self> {
        Arc::new(Wire {
            shape,
            free_at: Mutex::new(Instant::now()),
        })
    }

    /// Reserves the time to transmit `bytes`; the moment at which the last bit has left.
    fn reserve(&self, bytes: usize) -> Instant {
        let now = Instant::now();
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        let mut free_at = self.free_at.lock().expect("no holder of this lock panics");
        *free_at = (*free_at).max(earliest) + self.shape.transmission(bytes);
        // Catching up is for the bandwidth alone: no bit leaves before it is there.
        (*free_at).max(now)
    }
}

/// A running relay; dropping it closes every connection.
pub struct Link {
    address: SocketAddr,
    traffic: Arc<Traffic>,
    task: JoinHandle<()>,
}

impl Link {
    /// Starts a relay to `server` on a free loopback port.
    ///
    /// # Errors
    /// What binding the port answers.
    pub async fn start(server: SocketAddr, shape: Shape) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let traffic = Arc::new(Traffic::default());
        let task = tokio::spawn(accept(listener, server, shape, traffic.clone()));
        Ok(Link {
            address,
            traffic,
            task,
        })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Counters of this link.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, shape: Shape, traffic: Arc<Traffic>) {
    let up = Wire::new(shape);
    let down = Wire::new(shape);
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        traffic.connections.fetch_add(1, Ordering::Relaxed);
        let (up, down, traffic) = (up.clone(), down.clone(), traffic.clone());
        connections.spawn(async move {
            sleep(shape.round_trip).await;
            let Ok(upstream) = TcpStream::connect(server).await else {
                return;
            };
            let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
            let (client_read, client_write) = client.into_split();
            let (server_read, server_write) = upstream.into_split();
            tokio::join!(
                carry(client_read, server_write, up, |n| {
                    traffic.up.fetch_add(n, Ordering::Relaxed);
                }),
                carry(server_read, client_write, down, |n| {
                    traffic.down.fetch_add(n, Ordering::Relaxed);
                }),
            );
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Carries one direction of one connection until either side closes.
async fn carry(mut from: OwnedReadHalf, to: OwnedWriteHalf, wire: Arc<Wire>, count: impl Fn(u64)) {
    // What is under way: a bandwidth-delay product, so that the wire is never starved.
    let in_flight = wire.shape.round_trip.as_nanos() as u64 * wire.shape.bits_per_second
        / 8
        / 1_000_000_000
        / GRAIN as u64
        + 8;
    let (queue, due) = mpsc::channel::<(Instant, Bytes)>(in_flight as usize);
    let deliver = tokio::spawn(deliver(due, to));
    let mut buffer = vec![0; GRAIN];
    loop {
        let length = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        count(length as u64);
        let sent = wire.reserve(length);
        let arrives = sent + wire.shape.round_trip / 2;
        if queue
            .send((arrives, Bytes::copy_from_slice(&buffer[..length])))
            .await
            .is_err()
        {
            break;
        }
        // Waiting for one's own bytes to leave is what makes the sharing fair.
        sleep_until(sent).await;
    }
    drop(queue);
    let _ = deliver.await;
}

async fn deliver(mut due: mpsc::Receiver<(Instant, Bytes)>, mut to: OwnedWriteHalf) {
    while let Some((arrives, bytes)) = due.recv().await {
        sleep_until(arrives).await;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers every connection with `length` bytes and closes.
    async fn source(length: usize) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut byte = [0];
                    let _ = stream.read_exact(&mut byte).await;
                    let _ = stream.write_all(&vec![7; length]).await;
                });
            }
        });
        address
    }

    async fn download(address: SocketAddr) -> usize {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"?").await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        bytes.len()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn parallel_downloads_together_do_not_exceed_the_rate() {
        const EACH: usize = 400_000;
        let shape = Shape::new(10, 40);
        let link = Link::start(source(EACH).await, shape).await.unwrap();
        let started = Instant::now();
        let downloads: Vec<_> = (0..8)
            .map(|_| tokio::spawn(download(link.address())))
            .collect();
        for download in downloads {
            assert_eq!(download.await.unwrap(), EACH);
        }
        // Slower is the machine's fault; faster would be the link's.
        let least = shape.transmission(8 * EACH);
        assert!(
            started.elapsed() + CATCH_UP >= least,
            "{:?} < {least:?}",
            started.elapsed()
        );
        assert_eq!(link.traffic().down.load(Ordering::Relaxed), 8 * EACH as u64);
        assert_eq!(link.traffic().connections.load(Ordering::Relaxed), 8);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_first_answer_takes_two_round_trips_and_later_ones_one() {
        let shape = Shape::new(40, 1000);
        let echo = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = echo.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = echo.accept().await.unwrap();
            let mut byte = [0];
            while stream.read_exact(&mut byte).await.is_ok() {
                stream.write_all(&byte).await.unwrap();
            }
        });
        let link = Link::start(address, shape).await.unwrap();
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        let mut byte = [1];
        let mut waits = Vec::new();
        let mut started = Instant::now();
        for _ in 0..3 {
            stream.write_all(&byte).await.unwrap();
            stream.read_exact(&mut byte).await.unwrap();
            waits.push(started.elapsed());
            started = Instant::now();
        }
        assert!(waits[0] >= Duration::from_millis(80), "{waits:?}");
        assert!(waits[1] >= Duration::from_millis(40), "{waits:?}");
    }
}
