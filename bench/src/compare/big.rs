//! The memory that indexing a large layer takes.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use nix::sys::resource::{UsageWho, getrusage};
use tar::{Builder, EntryType, Header};

/// Bytes of different content that files are cut from.
const SOURCE: usize = 8 << 20;
/// Files of one directory.
const FILES: u64 = 200;

/// Indexes a gzip layer that is made while it is read, and prints the most memory that the
/// process had resident.
pub fn measure(directory: &Path, brisk: &Path, size: u64, files: u64) -> Result<()> {
    let output = directory.join("index");
    let started = Instant::now();
    let mut child = Command::new(brisk)
        .args(["index", "build", "-o"])
        .arg(&output)
        .arg("/dev/stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("starting brisk")?;
    let input = child.stdin.take().context("no pipe to brisk")?;
    let compressed = write_layer(input, size, files).context("writing the layer")?;
    let status = child.wait().context("waiting for brisk")?;
    ensure!(status.success(), "brisk index build: {status}");
    let seconds = started.elapsed().as_secs_f64();
    // brisk is the only child, so the largest child is brisk. In KiB on Linux.
    let resident = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss() as u64 * 1024;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "a layer of {:.0} MB, {:.0} MB of tar, {files} files:\n\
         index of {:.1} MB in {seconds:.0} s, at most {:.1} MB resident",
        mb(compressed),
        mb(size),
        mb(output.metadata()?.len()),
        mb(resident)
    );
    Ok(())
}

/// Writes a tar of about `size` bytes in gzip; gives the compressed bytes.
fn write_layer(output: impl Write, size: u64, files: u64) -> io::Result<u64> {
    let counted = Counted {
        output: BufWriter::with_capacity(1 << 20, output),
        bytes: 0,
    };
    // The fastest level ends no block before the layer ends: no place to start, no checkpoints.
    let mut tar = Builder::new(GzEncoder::new(counted, Compression::new(2)));
    let source = source();
    let longest = (2 * size / files.max(1)).clamp(2, SOURCE as u64 / 2);
    let mut random = 1_u64;
    for number in 0..files {
        random = next(random);
        let length = (random >> 20) % longest;
        random = next(random);
        let start = (random >> 20) as usize % (SOURCE / 2);
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_mtime(number);
        header.set_size(length);
        let path = format!("usr/lib/package-{}/module-{number}.py", number / FILES);
        tar.append_data(&mut header, path, &source[start..start + length as usize])?;
    }
    let mut counted = tar.into_inner()?.finish()?;
    counted.flush()?;
    Ok(counted.bytes)
}

/// Half words, half noise: about what programs and libraries compress to.
fn source() -> Vec<u8> {
    let mut random = 7_u64;
    let mut bytes = Vec::with_capacity(SOURCE + 64);
    while bytes.len() < SOURCE {
        random = next(random);
        match random >> 62 {
            0 => bytes.extend_from_slice(&random.to_le_bytes()),
            _ => write_word(&mut bytes, (random >> 33) % 5000),
        }
    }
    bytes.truncate(SOURCE);
    bytes
}

fn write_word(bytes: &mut Vec<u8>, word: u64) {
    bytes.extend_from_slice(b"name_");
    bytes.extend(word.to_string().bytes());
    bytes.push(b' ');
}

fn next(state: u64) -> u64 {
    state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407)
}

/// Counts what passes.
struct Counted<W> {
    output: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
