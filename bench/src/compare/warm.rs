//! Overlay on the brisk mount against overlay on the unpacked image, everything local.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bench::samples::Samples;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::Bench;

/// A file of at most this many bytes is small.
const SMALL: u64 = 16 * 1024;
/// Content read in one round: beyond it only time grows.
const READ_LIMIT: u64 = 400 << 20;

/// Prints metadata walk, reads of large and small files, and restart of the image's program.
pub async fn compare(bench: &Bench, rounds: usize) -> Result<()> {
    bench.publish_indexed("image", "1MiB").await?;
    // Nothing of this is about the link.
    let reference = format!("{}/image:latest", bench.registry.address());
    let at = |name: &str| bench.directory.join(name);
    unpack(&bench.layout_directory, &at("bundle"))?;
    let node = bench.node("node");
    let mounted = at("node/mounted");
    node.run(&["pull", &reference]).await?;
    std::fs::create_dir_all(&mounted)?;
    let directory = mounted.display().to_string();
    node.run(&["mount", "--background", "off", &reference, &directory])
        .await?;
    let result = tokio::task::block_in_place(|| {
        let local = Overlay::mount(&at("bundle/rootfs"), at("node/overlay-local"))?;
        let lazy = Overlay::mount(&mounted, at("node/overlay-lazy"))?;
        measure(&local.merged, &lazy.merged, &bench.layout.command, rounds)
    });
    node.close().await?;
    result
}

fn unpack(layout: &Path, bundle: &Path) -> Result<()> {
    let image = format!("{}:latest", layout.display());
    let output = Command::new("umoci")
        .args(["unpack", "--image", &image])
        .arg(bundle)
        .output()
        .context("running umoci")?;
    if !output.status.success() {
        bail!("umoci: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// An overlay with a writable upper; unmounted when dropped.
struct Overlay {
    merged: PathBuf,
}

impl Overlay {
    fn mount(lower: &Path, directory: PathBuf) -> Result<Self> {
        let at = |name: &str| directory.join(name);
        for name in ["upper", "work", "merged"] {
            std::fs::create_dir_all(at(name))?;
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            at("upper").display(),
            at("work").display()
        );
        let merged = at("merged");
        let (kind, options) = (Some("overlay"), Some(options.as_str()));
        mount(kind, &merged, kind, MsFlags::empty(), options)?;
        Ok(Overlay { merged })
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = umount2(&self.merged, MntFlags::MNT_DETACH);
    }
}

fn measure(local: &Path, lazy: &Path, command: &[String], rounds: usize) -> Result<()> {
    let sides = [
        ("overlay on the local directory", local),
        ("overlay on the brisk mount", lazy),
    ];
    let mut walk = Samples::new("s");
    let mut large = Samples::new("s");
    let mut small = Samples::new("s");
    let mut restart = Samples::new("s");
    // The first round warms both sides and does not count.
    for round in 0..=rounds {
        for (name, root) in sides {
            let add = |samples: &mut Samples, started: Instant| {
                if round > 0 {
                    samples.add(name, started.elapsed().as_secs_f64());
                }
            };
            let started = Instant::now();
            let files = files(root)?;
            add(&mut walk, started);
            let started = Instant::now();
            read(files.iter().filter(|(_, size)| *size > SMALL))?;
            add(&mut large, started);
            let started = Instant::now();
            read(files.iter().filter(|(_, size)| *size <= SMALL))?;
            add(&mut small, started);
            let started = Instant::now();
            let ran = Command::new("chroot").arg(root).args(command).output()?;
            if !ran.status.success() {
                bail!("the program: {}", String::from_utf8_lossy(&ran.stderr));
            }
            add(&mut restart, started);
        }
    }
    println!("{}", walk.table("metadata walk"));
    println!("{}", large.table("reads"));
    println!("{}", small.table("small files"));
    println!("{}", restart.table("restart of the program"));
    Ok(())
}

/// Regular files below a directory with their sizes; every entry is looked at.
fn files(root: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let path = entry?.path();
            let metadata = path.symlink_metadata()?;
            if metadata.is_dir() {
                waiting.push(path);
            } else if metadata.is_file() {
                found.push((path, metadata.len()));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn read<'a>(files: impl Iterator<Item = &'a (PathBuf, u64)>) -> Result<()> {
    let mut buffer = vec![0; 128 * 1024];
    let mut total = 0;
    for (path, size) in files {
        total += size;
        if total > READ_LIMIT {
            break;
        }
        let mut file = File::open(path).with_context(|| path.display().to_string())?;
        while file.read(&mut buffer)? > 0 {}
    }
    Ok(())
}
