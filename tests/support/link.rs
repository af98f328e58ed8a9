//! A shaped link before a server, on a runtime of its own.

use std::net::SocketAddr;

use bench::link::{Link, Shape};

/// A running link; dropping it closes its connections.
pub struct ShapedLink {
    link: Option<Link>,
    runtime: tokio::runtime::Runtime,
}

impl ShapedLink {
    /// Starts a link of that many milliseconds round trip and megabits a second.
    pub fn start(server: SocketAddr, round_trip_ms: u64, megabits: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let shape = Shape::new(round_trip_ms, megabits);
        let link = runtime.block_on(Link::start(server, shape)).unwrap();
        ShapedLink {
            link: Some(link),
            runtime,
        }
    }

    /// `host:port` of its near end.
    pub fn host(&self) -> String {
        self.link.as_ref().unwrap().address().to_string()
    }

    /// Bytes that have come through it towards its clients.
    pub fn fetched(&self) -> u64 {
        let traffic = self.link.as_ref().unwrap().traffic();
        traffic.down.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Drop for ShapedLink {
    fn drop(&mut self) {
        let _inside = self.runtime.enter();
        self.link.take();
    }
}
