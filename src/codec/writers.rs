//! The compressors that layers come from, for the tests of this floor and of those above.
//!
//! Runs the programs that it names.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use flate2::write::{DeflateEncoder, GzEncoder};

/// xorshift64*: the same numbers on every machine.
pub struct Random(u64);

impl Random {
    /// Numbers from a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends, so it is no iterator"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below a limit.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit
    }
}

/// Runs a program over `content`, stdin to stdout.
pub fn run(program: &str, arguments: &[&str], content: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("these tests need the program {program}: {error}"));
    let mut input = child.stdin.take().unwrap();
    let mut output = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(content).unwrap());
        child
            .stdout
            .take()
            .unwrap()
            .read_to_end(&mut output)
            .unwrap();
    });
    assert!(child.wait().unwrap().success(), "{program} {arguments:?}");
    output
}

/// One gzip member by flate2.
pub fn flate2(content: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// One member of many small blocks, flushed after every few hundred to few thousand bytes
/// and at other levels in between (stored, fixed and dynamic blocks mixed).
pub fn small_blocks(content: &[u8], seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut member = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut rest = content;
    while !rest.is_empty() {
        // Each encoder starts with an empty window, so what it writes can follow anything.
        let level = [0, 1, 6, 9][random.below(4)];
        let mut encoder = DeflateEncoder::new(Vec::new(), flate2::Compression::new(level));
        for _ in 0..1 + random.below(12) {
            let (piece, after) = rest.split_at((1 + random.below(6000)).min(rest.len()));
            rest = after;
            encoder.write_all(piece).unwrap();
            encoder.flush().unwrap();
        }
        member.extend_from_slice(encoder.get_ref());
    }
    // An empty final fixed block, then the trailer.
    member.extend_from_slice(&[3, 0]);
    let mut crc = flate2::Crc::new();
    crc.update(content);
    member.extend_from_slice(&crc.sum().to_le_bytes());
    member.extend_from_slice(&(content.len() as u32).to_le_bytes());
    member
}

/// Members one after another, some empty, each of up to `longest` bytes.
pub fn members(content: &[u8], longest: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut layer = flate2(&[], 6);
    let mut rest = content;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((1 + random.below(longest)).min(rest.len()));
        rest = after;
        let level = random.below(10) as u32;
        layer.extend(flate2(piece, level));
        if random.below(4) == 0 {
            layer.extend(flate2(&[], level));
        }
    }
    layer
}

/// One zstd frame by libzstd at this level, with or without a checksum and content size.
pub fn zstd(content: &[u8], level: i32, checksum: bool, size: bool) -> Vec<u8> {
    let mut encoder = zstd_safe::CCtx::create();
    let parameters = [
        zstd_safe::CParameter::CompressionLevel(level),
        zstd_safe::CParameter::ChecksumFlag(checksum),
        zstd_safe::CParameter::ContentSizeFlag(size),
    ];
    for parameter in parameters {
        encoder.set_parameter(parameter).unwrap();
    }
    let mut frame = Vec::with_capacity(zstd_safe::compress_bound(content.len()));
    encoder.compress2(&mut frame, content).unwrap();
    frame
}

/// One zstd frame flushed after every few bytes, so that it has many small blocks; with a
/// window of 2^`window_log` bytes and changing content that brings in every table mode.
pub fn zstd_small_blocks(
    content: &[u8],
    level: i32,
    window_log: u32,
    longest: usize,
    seed: u64,
) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut encoder = ::zstd::Encoder::new(Vec::new(), level).unwrap();
    encoder.window_log(window_log).unwrap();
    encoder.include_checksum(random.below(2) == 0).unwrap();
    let mut rest = content;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((1 + random.below(longest)).min(rest.len()));
        rest = after;
        encoder.write_all(piece).unwrap();
        encoder.flush().unwrap();
    }
    encoder.finish().unwrap()
}

/// Frames of up to `longest` bytes, some empty, with skippable frames between.
pub fn zstd_frames(content: &[u8], longest: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut layer = Vec::new();
    let mut rest = content;
    loop {
        for _ in 0..random.below(3) {
            layer.extend([0x50 + random.below(16) as u8, 0x2a, 0x4d, 0x18]);
            let length = random.below(40);
            layer.extend((length as u32).to_le_bytes());
            layer.extend((0..length).map(|_| random.next() as u8));
        }
        let (piece, after) = rest.split_at((random.below(longest + 1)).min(rest.len()));
        rest = after;
        let level = 1 + random.below(6) as i32;
        layer.extend(zstd(
            piece,
            level,
            random.below(2) == 0,
            random.below(2) == 0,
        ));
        if rest.is_empty() {
            return layer;
        }
    }
}

/// One frame by the zstd encoder in Go that builders of images use, by way of skopeo.
pub fn zstd_by_go(content: &[u8]) -> Vec<u8> {
    by_go("zstd", &[0x28, 0xb5, 0x2f, 0xfd], content)
}

/// What the gzip encoder in Go writes that builders of images use, by way of skopeo.
pub fn gzip_by_go(content: &[u8]) -> Vec<u8> {
    by_go("gzip", &[0x1f, 0x8b, 8], content)
}

/// The layer, known by its first bytes, of an image that skopeo has compressed in that format.
fn by_go(format: &str, magic: &[u8], content: &[u8]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("layout");
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let blob = |bytes: &[u8]| {
        let digest = index_format::Digest::of(bytes).to_string();
        let name = digest.strip_prefix("sha256:").unwrap();
        std::fs::write(blobs.join(name), bytes).unwrap();
        format!(r#""digest":"{digest}","size":{}"#, bytes.len())
    };
    let layer = blob(content);
    let diff_id = index_format::Digest::of(content);
    let config = blob(
        format!(
            r#"{{"os":"linux","architecture":"amd64","config":{{}},
            "rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
        )
        .as_bytes(),
    );
    let oci = "application/vnd.oci.image";
    let manifest = blob(
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{oci}.manifest.v1+json",
            "config":{{"mediaType":"{oci}.config.v1+json",{config}}},
            "layers":[{{"mediaType":"{oci}.layer.v1.tar",{layer}}}]}}"#
        )
        .as_bytes(),
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{oci}.manifest.v1+json",{manifest},
        "annotations":{{"org.opencontainers.image.ref.name":"one"}}}}]}}"#
    );
    std::fs::write(layout.join("index.json"), index).unwrap();
    let version = r#"{"imageLayoutVersion":"1.0.0"}"#;
    std::fs::write(layout.join("oci-layout"), version).unwrap();
    let output = directory.path().join("output");
    let status = Command::new("skopeo")
        .args([
            "--insecure-policy",
            "copy",
            "-q",
            "--dest-compress",
            "--dest-compress-format",
            format,
        ])
        .arg(format!("oci:{}:one", layout.display()))
        .arg(format!("oci:{}:one", output.display()))
        .status()
        .unwrap_or_else(|error| panic!("these tests need the program skopeo: {error}"));
    assert!(status.success(), "skopeo");
    let layers = std::fs::read_dir(output.join("blobs/sha256")).unwrap();
    layers
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .find(|bytes| bytes.starts_with(magic))
        .unwrap()
}
