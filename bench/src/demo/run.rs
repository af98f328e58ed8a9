//! The demo's steps.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bench::link::{Link, Shape};
use bench::node::Node;
use bench::registry::Registry;

use crate::image::{COMPRESSED_GOAL, Image, Making};
use crate::show::{Progress, Row, table};

/// Round trip time of the link in milliseconds.
const ROUND_TRIP_MS: u64 = 30;
/// Its bandwidth in megabits a second.
const MEGABITS: u64 = 100;

/// The demo: its directory, and the nodes in it.
pub struct Demo {
    directory: PathBuf,
    publisher: Node,
    full: Node,
    lazy: Node,
    making: Arc<Making>,
}

/// One start of the program.
struct Start {
    first: Duration,
    fetched: u64,
    output: Vec<u8>,
}

impl Demo {
    /// A demo that keeps everything below `directory`.
    pub fn new(brisk: &Path, directory: &Path) -> Self {
        let node = |name: &str| Node::new(brisk, directory.join(name));
        Demo {
            directory: directory.to_owned(),
            publisher: node("publisher"),
            full: node("full"),
            lazy: node("lazy"),
            making: Arc::default(),
        }
    }

    /// Carries it out.
    ///
    /// # Errors
    /// Where a step fails, the two outputs differ, or the lazy start was not the faster one.
    pub async fn run(&self) -> Result<()> {
        let image = self.make_image().await?;
        let registry = Registry::start(&self.directory.join("registry"), true).await?;
        image.publish(&registry, "demo", "latest")?;
        self.push_index(&registry).await?;
        let shape = Shape::new(ROUND_TRIP_MS, MEGABITS);
        let link = Link::start(registry.address(), shape).await?;
        let reference = format!("{}/demo:latest", link.address());
        let full = self.start_full(&link, &reference, &image).await?;
        self.full.close().await?;
        let lazy = self.start_lazy(&link, &reference).await?;

        let first_line = lazy
            .output
            .split(|b| *b == b'\n')
            .next()
            .unwrap_or_default();
        println!(
            "image: {} layers of this machine's /usr, {:.1} MB compressed, {:.1} MB of tar; \
             link: {ROUND_TRIP_MS} ms, {MEGABITS} Mbit/s",
            image.layers.len(),
            megabytes(image.compressed_size()),
            megabytes(image.stream_size()),
        );
        println!("output: {}", String::from_utf8_lossy(first_line));
        let row = |name, start: &Start| Row {
            name,
            first: start.first,
            fetched: start.fetched,
            size: image.compressed_size(),
        };
        print!("{}", table(&[row("full pull", &full), row("lazy", &lazy)]));
        if full.output != lazy.output {
            bail!("the two outputs differ");
        }
        if lazy.first >= full.first {
            bail!("the lazy start was not faster");
        }
        Ok(())
    }

    async fn make_image(&self) -> Result<Image> {
        let making = self.making.clone();
        let counted = making.compressed.clone();
        let progress = Progress::bytes("making an image of /usr", COMPRESSED_GOAL, move || {
            counted.load(Ordering::Relaxed)
        });
        let directory = self.directory.clone();
        let made = tokio::task::spawn_blocking(move || Image::make(&directory, &making)).await?;
        progress.finish();
        made
    }

    /// Attaches the index past the link: whoever builds an image is near its registry.
    async fn push_index(&self, registry: &Registry) -> Result<()> {
        let progress = Progress::steps("indexing and pushing the index");
        let reference = format!("{}/demo:latest", registry.address());
        self.publisher.run(&["index", "push", &reference]).await?;
        self.publisher.close().await?;
        progress.finish();
        Ok(())
    }

    async fn start_full(&self, link: &Link, reference: &str, image: &Image) -> Result<Start> {
        let progress = fetching("full pull, then run", link, image.compressed_size());
        let before = link.traffic().down.load(Ordering::Relaxed);
        let started = Instant::now();
        self.full.run(&["pull", reference]).await?;
        let (mut first, mut fetched) = (Duration::ZERO, 0);
        let ran = self
            .full
            .first_output(&["run", "--rm", reference], || {
                first = started.elapsed();
                fetched = link.traffic().down.load(Ordering::Relaxed) - before;
            })
            .await?;
        progress.finish();
        Ok(Start {
            first,
            fetched,
            output: ran.output,
        })
    }

    async fn start_lazy(&self, link: &Link, reference: &str) -> Result<Start> {
        let progress = Progress::steps("lazy run");
        let before = link.traffic().down.load(Ordering::Relaxed);
        let mut fetched = 0;
        let ran = self
            .lazy
            .first_output(&["run", "--rm", reference], || {
                fetched = link.traffic().down.load(Ordering::Relaxed) - before;
            })
            .await?;
        progress.finish();
        Ok(Start {
            first: ran.first,
            fetched,
            output: ran.output,
        })
    }

    /// Takes down what is still there, however far the demo came.
    pub async fn close(&self) {
        self.making.cancelled.store(true, Ordering::Relaxed);
        for node in [&self.publisher, &self.full, &self.lazy] {
            if let Err(error) = node.close().await {
                eprintln!("brisk-demo: {error:#}");
            }
        }
    }
}

fn fetching(what: &'static str, link: &Link, total: u64) -> Progress {
    let traffic = link.traffic().clone();
    let before = traffic.down.load(Ordering::Relaxed);
    Progress::bytes(what, total, move || {
        traffic.down.load(Ordering::Relaxed) - before
    })
}

/// Megabytes of 10^6 bytes.
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
