//! The comparisons: each prints a table of ratios from one run in which the contenders take
//! turns.

mod big;
mod chunks;
mod cold;
mod containerd;
mod index;
mod runtime;
mod warm;
mod yielding;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bench::layout::Layout;
use bench::link::{Link, Shape};
use bench::node::{Node, brisk_beside};
use bench::registry::Registry;
use clap::{Parser, Subcommand};

/// Comparisons of brisk with what else does its work
#[derive(Parser)]
struct CommandLine {
    /// Rounds; the contenders take turns in each
    #[arg(long, global = true, default_value_t = 5)]
    rounds: usize,
    #[command(subcommand)]
    comparison: Comparison,
}

#[derive(Subcommand)]
enum Comparison {
    /// Index build against plain decompression; opening an index and looking names up
    Index {
        /// A gzip layer, or the OCI layout of an image: its largest layer
        layer: PathBuf,
    },
    /// The memory that indexing a large layer takes; the layer is made while it is read
    Big {
        /// Bytes of the layer's tar
        #[arg(long, default_value_t = 8 << 30)]
        size: u64,
        /// Files in it
        #[arg(long, default_value_t = 200_000)]
        files: u64,
    },
    /// What a lazy start fetches at several chunk sizes
    Chunks {
        /// OCI layout of the image
        layout: PathBuf,
    },
    /// Lazy start against full pull, through a link of 30 ms and 100 Mbit/s
    Cold {
        /// OCI layout of the image
        layout: PathBuf,
    },
    /// Reads of missing content with and without background fetching, through three links
    Yield {
        /// OCI layout of the image
        layout: PathBuf,
    },
    /// Overlay on the brisk mount against overlay on the local file system, all content local
    Warm {
        /// OCI layout of the image
        layout: PathBuf,
    },
    /// brisk-runtime against crun and runc: create, start, end, delete
    Runtime,
}

/// The nodes that comparisons make, each taken down at the end whatever came of it.
const NODES: [&str; 5] = ["publisher", "lazy", "full", "node", "root"];

fn main() -> Result<()> {
    let line = CommandLine::parse();
    let directory = tempfile::Builder::new()
        .prefix("brisk-compare-")
        .tempdir_in("/var/tmp")
        .context("making a directory in /var/tmp")?;
    if matches!(line.comparison, Comparison::Runtime) {
        runtime::compare(line.rounds, directory.path())?;
        return directory.close().context("removing the directory");
    }
    let brisk = brisk_beside()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(async {
        let result = tokio::select! {
            result = compare(line, directory.path(), &brisk) => result,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        };
        for name in NODES {
            Node::new(&brisk, directory.path().join(name))
                .close()
                .await?;
        }
        result
    });
    drop(runtime);
    result.and(directory.close().context("removing the directory"))
}

async fn compare(line: CommandLine, directory: &Path, brisk: &Path) -> Result<()> {
    let rounds = line.rounds;
    let bench = |layout| Bench::new(directory, brisk, layout);
    match line.comparison {
        Comparison::Index { layer } => index::compare(directory, brisk, &layer, rounds).await,
        Comparison::Big { size, files } => big::measure(directory, brisk, size, files),
        Comparison::Chunks { layout } => chunks::compare(&bench(layout).await?, rounds).await,
        Comparison::Cold { layout } => cold::compare(&bench(layout).await?, rounds).await,
        Comparison::Warm { layout } => warm::compare(&bench(layout).await?, rounds).await,
        Comparison::Yield { layout } => yielding::compare(&bench(layout).await?, rounds).await,
        Comparison::Runtime => runtime::compare(rounds, directory),
    }
}

/// An image, a registry, and the link to it.
struct Bench {
    brisk: PathBuf,
    layout: Layout,
    layout_directory: PathBuf,
    registry: Registry,
    link: Link,
    directory: PathBuf,
}

impl Bench {
    async fn new(directory: &Path, brisk: &Path, layout: PathBuf) -> Result<Self> {
        let registry = Registry::start(&directory.join("registry"), true).await?;
        let link = Link::start(registry.address(), Shape::new(30, 100)).await?;
        Ok(Bench {
            brisk: brisk.to_owned(),
            layout: Layout::open(&layout)?,
            layout_directory: std::path::absolute(&layout)?,
            registry,
            link,
            directory: directory.to_owned(),
        })
    }

    /// A node with an empty root.
    fn node(&self, name: &str) -> Node {
        Node::new(&self.brisk, self.directory.join(name))
    }

    /// Publishes the image under a name, with an index made past the link; the index's bytes.
    async fn publish_indexed(&self, name: &str, chunk_size: &str) -> Result<u64> {
        self.layout.publish(&self.registry, name)?;
        let reference = format!("{}/{name}:latest", self.registry.address());
        let node = self.node("publisher");
        let pushed = node
            .run(&["index", "push", "--chunk-size", chunk_size, &reference])
            .await?;
        node.close().await?;
        let words = String::from_utf8_lossy(&pushed).into_owned();
        words
            .trim()
            .strip_suffix(" bytes")
            .and_then(|rest| rest.rsplit(' ').next()?.parse().ok())
            .with_context(|| format!("no size in: {words}"))
    }

    /// Publishes the image under a name with its indexes and the pack of its start, made past
    /// the link; its reference through the link. What was recorded is left in `startup`.
    async fn publish_packed(&self, name: &str) -> Result<String> {
        self.publish_indexed(name, "1MiB").await?;
        let reference = format!("{}/{name}:latest", self.registry.address());
        let node = self.node("publisher");
        node.run(&["record", "--background", "off", &reference])
            .await?;
        let pushed = node.run(&["pack", "push", &reference]).await?;
        print!("{}", String::from_utf8_lossy(&pushed));
        cold::copy_directory(
            &node.root().join("startup"),
            &self.directory.join("startup"),
        )?;
        node.close().await?;
        Ok(self.reference(name))
    }

    /// The reference of a published image through the link.
    fn reference(&self, name: &str) -> String {
        format!("{}/{name}:latest", self.link.address())
    }

    /// Bytes that have come through the link.
    fn fetched(&self) -> u64 {
        self.link
            .traffic()
            .down
            .load(std::sync::atomic::Ordering::Relaxed)
    }
}
