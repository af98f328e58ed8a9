//! The first start of an image on an empty node.

use std::time::Instant;

use anyhow::{Result, ensure};
use bench::samples::Samples;

use crate::Bench;
use crate::containerd::Containerd;

/// Prints time to first output and bytes fetched until then: lazily, after a full pull by
/// brisk, and by containerd where it is installed.
pub async fn compare(bench: &Bench, rounds: usize) -> Result<()> {
    bench.publish_indexed("image", "1MiB").await?;
    let reference = bench.reference("image");
    let mut times = Samples::new("s");
    let mut bytes = Samples::new("MB");
    for round in 0..rounds {
        for background in ["full", "off"] {
            let node = bench.node("lazy");
            let (before, mut fetched) = (bench.fetched(), 0);
            let arguments = ["run", "--rm", "--background", background, &reference];
            let ran = node
                .first_output(&arguments, || fetched = bench.fetched() - before)
                .await?;
            node.close().await?;
            ensure!(!ran.output.is_empty(), "the image's program says nothing");
            let name = format!("brisk run, background {background}");
            times.add(&name, ran.first.as_secs_f64());
            bytes.add(&name, fetched as f64 / 1e6);
        }
        let node = bench.node("full");
        let (before, mut fetched) = (bench.fetched(), 0);
        let started = Instant::now();
        node.run(&["pull", &reference]).await?;
        let mut first = 0.0;
        node.first_output(&["run", "--rm", &reference], || {
            first = started.elapsed().as_secs_f64();
            fetched = bench.fetched() - before;
        })
        .await?;
        node.close().await?;
        times.add("brisk pull, brisk run", first);
        bytes.add("brisk pull, brisk run", fetched as f64 / 1e6);
        let directory = bench.directory.join(format!("containerd-{round}"));
        if let Some(containerd) = Containerd::start(&directory).await? {
            let before = bench.fetched();
            let first = containerd.pull_and_run(&reference).await;
            containerd.close().await?;
            times.add("ctr pull, ctr run (overlayfs)", first?);
            bytes.add(
                "ctr pull, ctr run (overlayfs)",
                (bench.fetched() - before) as f64 / 1e6,
            );
        }
    }
    println!(
        "image: {:.1} MB compressed",
        bench.layout.size() as f64 / 1e6
    );
    println!("{}", times.table("time to first output"));
    println!("{}", bytes.table("fetched until first output"));
    Ok(())
}
