//! Makes the demo's image from this machine's /usr.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use bench::registry::Registry;
use serde_json::json;

use crate::layer::{Layer, LayerWriter};
use crate::program;

/// Compressed bytes at which the layers stop taking more of /usr: a full pull over 100 Mbit/s
/// then takes some 13 seconds.
pub const COMPRESSED_GOAL: u64 = 160 << 20;
/// Least bytes of tar; below it the comparison says little.
const STREAM_LEAST: u64 = 150_000_000;
/// Larger files are left out: one of them would be a layer of its own.
const FILE_LIMIT: u64 = 48 << 20;
/// Larger files are not read by the program.
const SAMPLE_LIMIT: u64 = 1 << 20;
/// Files of each layer that the program reads.
const SAMPLES: usize = 6;
/// Parts of /usr, a layer each; what is in none of them goes to the last.
const PARTS: [&[&str]; 3] = [&["bin", "sbin", "libexec"], &["lib", "lib64"], &[]];

/// A made image.
#[derive(Debug)]
pub struct Image {
    /// The layers from the bottom up.
    pub layers: Vec<Layer>,
}

/// What is being made: how far it is, and whether to give up.
#[derive(Debug, Default)]
pub struct Making {
    /// Compressed bytes so far.
    pub compressed: Arc<AtomicU64>,
    /// Give up.
    pub cancelled: AtomicBool,
}

impl Image {
    /// Makes the layers as files in `directory`, three of them in parallel and a small last one.
    ///
    /// # Errors
    /// Where this machine's /usr cannot be read or is too small.
    pub fn make(directory: &Path, making: &Making) -> Result<Image> {
        let needs = program::needs()?.paths;
        let mut layers = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..PARTS.len())
                .map(|part| {
                    let needs = &needs;
                    scope.spawn(move || make_part(directory, part, needs, making))
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| match thread.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
                .collect::<Result<Vec<_>>>()
        })?;
        layers.push(make_last(directory, &layers, making)?);
        let image = Image { layers };
        if image.stream_size() < STREAM_LEAST {
            bail!(
                "/usr of this machine gives an image of {} bytes, and the demo needs {STREAM_LEAST}",
                image.stream_size()
            );
        }
        Ok(image)
    }

    /// Bytes of all layers, compressed.
    pub fn compressed_size(&self) -> u64 {
        self.layers.iter().map(|l| l.compressed_size).sum()
    }

    /// Bytes of all layers' tars.
    pub fn stream_size(&self) -> u64 {
        self.layers.iter().map(|l| l.stream_size).sum()
    }

    /// Puts the image into a registry as `name:tag`.
    ///
    /// # Errors
    /// Where the registry's directory cannot be written.
    pub fn publish(&self, registry: &Registry, name: &str, tag: &str) -> Result<()> {
        for layer in &self.layers {
            registry.adopt_blob(&layer.file, &layer.digest)?;
        }
        let diff_ids: Vec<_> = self.layers.iter().map(|l| &l.diff_id).collect();
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Cmd": ["/usr/bin/perl", format!("/{}", program::PATH)],
                "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"],
            },
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string();
        let config_digest = registry.put_blob(config.as_bytes())?;
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|layer| {
                json!({
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    "digest": layer.digest,
                    "size": layer.compressed_size,
                })
            })
            .collect();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config_digest,
                "size": config.len(),
            },
            "layers": layers,
        });
        registry.put_manifest(name, tag, media_type, manifest.to_string().into_bytes());
        Ok(())
    }
}

/// One part of /usr as a layer; the first also holds what the program needs.
fn make_part(
    directory: &Path,
    part: usize,
    needs: &BTreeSet<PathBuf>,
    making: &Making,
) -> Result<Layer> {
    let file = directory.join(format!("layer-{part}.tar.gz"));
    let mut layer = LayerWriter::create(&file, making.compressed.clone())?;
    if part == 0 {
        for path in needs {
            layer.add(path)?;
        }
    }
    let mut waiting = tops(part)?;
    while let Some(path) = waiting.pop() {
        if making.cancelled.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        if making.compressed.load(Ordering::Relaxed) >= COMPRESSED_GOAL {
            break;
        }
        let Ok(metadata) = path.symlink_metadata() else {
            continue;
        };
        if metadata.is_dir() {
            waiting.extend(children(&path)?.into_iter().rev());
        } else if !needs.contains(&path) && metadata.len() <= FILE_LIMIT {
            layer.add(&path)?;
        }
    }
    layer.finish()
}

/// The directories of /usr that belong to a part.
fn tops(part: usize) -> Result<Vec<PathBuf>> {
    let named: Vec<&str> = PARTS.concat();
    let tops = children(Path::new("/usr"))?.into_iter().filter(|path| {
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        match PARTS[part] {
            // What was installed by hand may be anything.
            [] => !named.contains(&name) && name != "local",
            names => names.contains(&name),
        }
    });
    Ok(tops.collect::<Vec<_>>().into_iter().rev().collect())
}

fn children(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut children = std::fs::read_dir(directory)
        .with_context(|| directory.display().to_string())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    children.sort();
    Ok(children)
}

/// The last layer: the program, links to it, and a file of a lower layer removed.
fn make_last(directory: &Path, lower: &[Layer], making: &Making) -> Result<Layer> {
    let samples: Vec<PathBuf> = lower.iter().flat_map(samples).collect();
    let removed = lower
        .iter()
        .rev()
        .flat_map(|layer| &layer.files)
        .map(|(path, _)| path)
        .find(|path| !samples.contains(path) && path.to_str().is_some())
        .context("/usr has no files")?;
    let mut layer = LayerWriter::create(
        &directory.join("layer-last.tar.gz"),
        making.compressed.clone(),
    )?;
    layer.add_directory("demo/")?;
    let program = Path::new(program::PATH);
    layer.add_content(program, program::text(&samples, removed)?.as_bytes())?;
    let [hard, soft] = program::LINKS.map(Path::new);
    layer.add_hard_link(hard, program)?;
    layer.add_symlink(soft, Path::new(program.file_name().context("a directory")?))?;
    let name = removed.file_name().context("a file has a name")?;
    let mut whiteout = std::ffi::OsString::from(".wh.");
    whiteout.push(name);
    layer.add_content(&removed.with_file_name(whiteout), b"")?;
    layer.finish()
}

/// Some files of a layer, spread evenly over it.
fn samples(layer: &Layer) -> Vec<PathBuf> {
    let fit: Vec<&PathBuf> = layer
        .files
        .iter()
        .filter(|(path, size)| *size > 0 && *size <= SAMPLE_LIMIT && path.to_str().is_some())
        .map(|(path, _)| path)
        .collect();
    let step = (fit.len() / SAMPLES).max(1);
    fit.into_iter()
        .step_by(step)
        .take(SAMPLES)
        .cloned()
        .collect()
}

/// This machine's architecture in the words of image configs.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}
