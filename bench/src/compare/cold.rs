//! The first start of an image on an empty node.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use bench::samples::Samples;

use crate::Bench;
use crate::containerd::Containerd;

/// Prints time to first output and bytes and requests until then: lazily, with the start recorded,
/// with its pack, after a full pull by brisk, and by containerd where it is installed.
pub async fn compare(bench: &Bench, rounds: usize) -> Result<()> {
    bench.publish_indexed("image", "1MiB").await?;
    let reference = bench.reference("image");
    let packed = bench.publish_packed("packed").await?;
    let recorded = bench.directory.join("startup");
    let mut times = Samples::new("s");
    let mut bytes = Samples::new("MB");
    let mut requests = Samples::new("requests");
    for round in 0..rounds {
        for background in ["full", "off"] {
            for (way, reference) in [
                ("brisk run", &reference),
                ("recorded", &reference),
                ("pack", &packed),
            ] {
                let node = bench.node("lazy");
                if way == "recorded" {
                    copy_directory(&recorded, &node.root().join("startup"))?;
                }
                let (before, mut fetched) = (bench.fetched(), 0);
                let asked = bench.registry.requests();
                let mut sent = 0;
                let arguments = ["run", "--rm", "--background", background, reference];
                let ran = node
                    .first_output(&arguments, || {
                        fetched = bench.fetched() - before;
                        sent = bench.registry.requests() - asked;
                    })
                    .await?;
                node.close().await?;
                ensure!(!ran.output.is_empty(), "the image's program says nothing");
                let name = format!("{way}, background {background}");
                times.add(&name, ran.first.as_secs_f64());
                bytes.add(&name, fetched as f64 / 1e6);
                requests.add(&name, sent as f64);
            }
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
    println!("{}", requests.table("requests until first output"));
    Ok(())
}

/// Copies the recorded starts of one root into another.
pub fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_directory(&entry.path(), &target)?,
            false => drop(fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}
