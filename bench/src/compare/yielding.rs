//! Whether what is fetched in the background keeps readers waiting.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bench::link::{Link, Shape};

use crate::Bench;

/// The links: round trip in milliseconds, megabits a second.
const LINKS: [(u64, u64); 3] = [(30, 100), (5, 1000), (150, 20)];

/// Reads of one mount: fewer than it takes to bring the image to the end meanwhile.
const READS: usize = 40;

/// Bytes of one read.
const LENGTH: usize = 16 << 10;

/// Files below this size are left out: many of them share what is fetched at a time.
const LEAST_SIZE: u64 = 64 << 10;

/// What the program does between two reads.
const WORK: Duration = Duration::from_millis(20);

/// Times of the reads that waited for the link.
#[derive(Default)]
struct Waits(Vec<Duration>);

impl Waits {
    fn percentile(&mut self, part: usize) -> f64 {
        self.0.sort();
        let at = (self.0.len() * part / 100).min(self.0.len().saturating_sub(1));
        self.0.get(at).map_or(f64::NAN, Duration::as_secs_f64)
    }
}

/// Prints how long reads of missing content take with and without background fetching, through
/// links of three kinds, and the ratios.
pub async fn compare(bench: &Bench, rounds: usize) -> Result<()> {
    bench.publish_indexed("image", "1MiB").await?;
    for (trip, megabits) in LINKS {
        let shape = Shape::new(trip, megabits);
        let link = Link::start(bench.registry.address(), shape).await?;
        let reference = format!("{}/image:latest", link.address());
        let mut waits = [Waits::default(), Waits::default()];
        for round in 0..rounds {
            for (background, waits) in ["off", "full"].into_iter().zip(&mut waits) {
                let times = reads(bench, &reference, background, round).await?;
                // What was faster than half a round trip was there already.
                let waited = times.into_iter().filter(|t| *t * 2 > shape.round_trip);
                waits.0.extend(waited);
            }
        }
        ensure!(!waits[0].0.is_empty(), "no read had to wait");
        println!("\nlink of {trip} ms and {megabits} Mbit/s: reads that waited, ms");
        let [alone, _] = &mut waits;
        let base = (alone.percentile(50), alone.percentile(95));
        for (name, waits) in ["background off", "background full"].iter().zip(&mut waits) {
            let (p50, p95) = (waits.percentile(50), waits.percentile(95));
            println!(
                "{name:<16} p50 {:>7.1} ratio {:.2}   p95 {:>7.1} ratio {:.2}   n {}",
                p50 * 1e3,
                p50 / base.0,
                p95 * 1e3,
                p95 / base.1,
                waits.0.len()
            );
        }
    }
    Ok(())
}

/// Mounts the image on an empty node and reads some of its files; how long each read took.
async fn reads(
    bench: &Bench,
    reference: &str,
    background: &str,
    round: usize,
) -> Result<Vec<Duration>> {
    let node = bench.node("lazy");
    let directory = bench.directory.join("tree");
    tokio::fs::create_dir_all(&directory).await?;
    let at = directory.to_string_lossy().into_owned();
    let mount = ["mount", "--background", background, reference, &at];
    node.run(&mount).await?;
    let times = tokio::task::spawn_blocking(move || read_some(&directory, round)).await?;
    node.run(&["umount", &at]).await?;
    node.close().await?;
    times
}

fn read_some(directory: &Path, round: usize) -> Result<Vec<Duration>> {
    let mut files = Vec::new();
    list(directory, &mut files)?;
    files.sort();
    ensure!(
        files.len() >= READS,
        "the image has {} large files",
        files.len()
    );
    // The same order in every round, other files in each.
    let mut state = round as u64 * 2 + 1;
    let mut buffer = vec![0; LENGTH];
    let mut times = Vec::new();
    for _ in 0..READS {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (path, size) = files.swap_remove((state >> 33) as usize % files.len());
        let file = std::fs::File::open(&path).with_context(|| path.display().to_string())?;
        let started = Instant::now();
        file.read_exact_at(&mut buffer, size / 2)?;
        times.push(started.elapsed());
        #[expect(
            clippy::disallowed_methods,
            reason = "the program's work, on a thread of its own"
        )]
        std::thread::sleep(WORK);
    }
    Ok(times)
}

/// The regular files of some size below a directory.
fn list(directory: &Path, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            list(&entry.path(), files)?;
        } else if metadata.is_file() && metadata.len() >= LEAST_SIZE {
            files.push((entry.path(), metadata.len()));
        }
    }
    Ok(())
}
