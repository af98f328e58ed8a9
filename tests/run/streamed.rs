//! Layers that cannot be served by random access: named, left out of what is published, and
//! served all the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use index_format::Digest;
use serde_json::Value;

use crate::support::crafted::{GZIP, Layout, ZSTD, digest, gzip};
use crate::support::node::Node;
use crate::support::registry::DockerRegistry;
use crate::support::tree::{assert_equal, walk};
use crate::support::{done, images, run};

/// Less than either stream-only layer has, so that most of what is read of them passes by.
const SMALL_CACHE: &str = "[cache]\nbudget = \"8MiB\"";

/// An image of three layers: busybox, one by zstd with a window above the limit, and one by gzip
/// in a single block.
struct Image {
    directory: tempfile::TempDir,
    /// Digests of the layers from the bottom up.
    layers: [String; 3],
    /// The compressed layers' sizes.
    sizes: [usize; 3],
}

impl Image {
    fn new() -> Image {
        let (_, base) = images::layer_blobs("zoo").swap_remove(0);
        let base = std::fs::read(base).unwrap();
        let mut base_tar = Vec::new();
        let mut decoder = flate2::read::MultiGzDecoder::new(&base[..]);
        std::io::copy(&mut decoder, &mut base_tar).unwrap();
        let (window_tar, block_tar) = (window_tar(), block_tar());
        let window = by_program("zstd", &["-1", "--long=26", "-c"], &window_tar);
        let block = one_block(&block_tar);
        let directory = tempfile::tempdir().unwrap();
        let layers = [base, window, block];
        let tars = [base_tar, window_tar, block_tar];
        let image = Image {
            directory,
            layers: layers.each_ref().map(|layer| digest(layer)),
            sizes: layers.each_ref().map(Vec::len),
        };
        let diff_ids = tars.each_ref().map(|tar| digest(tar));
        let lay_out = |name: &str, layers: &[Vec<u8>], media_types: [&str; 3]| {
            let directory = image.layout(name);
            let parts: Vec<_> = (layers.iter().zip(media_types).zip(&diff_ids))
                .map(|((layer, media_type), diff_id)| (&layer[..], media_type, &diff_id[..]))
                .collect();
            Layout {
                directory: &directory,
            }
            .image_of(&parts);
        };
        lay_out("layout", &layers, [GZIP, ZSTD, GZIP]);
        lay_out("twin", &tars.map(|tar| gzip(&tar)), [GZIP; 3]);
        image
    }

    fn layout(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The same tars in usual gzip, as umoci unpacks them.
    fn unpacked(&self) -> PathBuf {
        let bundle = self.directory.path().join("bundle");
        let image = format!("{}:latest", self.layout("twin").display());
        run(Command::new("umoci")
            .args(["unpack", "--image", &image])
            .arg(&bundle));
        bundle.join("rootfs")
    }
}

fn by_program(program: &str, arguments: &[&str], content: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::Write::write_all(&mut input, content).unwrap());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{program}");
        output.stdout
    })
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o640);
    header.set_uid(5);
    header.set_gid(6);
    header.set_mtime(1_700_000_000);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content).unwrap();
}

/// Files of random letters, of which a compressor makes half; the last ones repeat the first
/// ones, which only a large window sees.
fn window_tar() -> Vec<u8> {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut letters = |length: usize| {
        let mut content = Vec::with_capacity(length);
        while content.len() < length {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let nibbles = (seed >> 32).to_le_bytes();
            content.extend(
                nibbles[..4]
                    .iter()
                    .flat_map(|byte| [b'a' + (byte & 15), b'A' + (byte >> 4)]),
            );
        }
        content
    };
    let mut tar = tar::Builder::new(Vec::new());
    let contents: Vec<Vec<u8>> = (0..9).map(|_| letters(5_000_003)).collect();
    for (number, content) in contents.iter().chain(&contents[..1]).enumerate() {
        append(&mut tar, &format!("window/{number}"), content);
    }
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Link);
    link.set_size(0);
    tar.append_link(&mut link, "window/first", "window/0")
        .unwrap();
    tar.into_inner().unwrap()
}

/// A file of 70 MB, nearly all zeros.
fn block_tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut content = vec![0; 70 << 20];
    for at in (0..content.len()).step_by(1 << 20) {
        content[at..at + 8].copy_from_slice(&(at as u64 + 1).to_be_bytes());
    }
    append(&mut tar, "block/zeros", &content);
    append(&mut tar, "block/last", b"behind it");
    tar.into_inner().unwrap()
}

/// A gzip member whose content is one block with fixed codes (RFC 1951 section 3.2.6): literals,
/// and runs of a byte as matches of length 258 at distance 1.
fn one_block(content: &[u8]) -> Vec<u8> {
    let mut bits = Bits::default();
    // The last block; fixed codes.
    bits.push(0b011, 3);
    let mut at = 0;
    while at < content.len() {
        let byte = content[at];
        match u32::from(byte) {
            literal @ ..144 => bits.push_code(0x30 + literal, 8),
            literal => bits.push_code(0x190 + literal - 144, 9),
        }
        at += 1;
        while content.len() - at >= 258 && content[at..at + 258].iter().all(|b| *b == byte) {
            // Length 258 is symbol 285 and has no further bits; distance 1 is symbol 0.
            bits.push_code(0xc0 + 285 - 280, 8);
            bits.push_code(0, 5);
            at += 258;
        }
    }
    bits.push_code(0, 7);
    let mut member = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    member.extend(bits.finish());
    let mut crc = flate2::Crc::new();
    crc.update(content);
    member.extend(crc.sum().to_le_bytes());
    member.extend((content.len() as u32).to_le_bytes());
    member
}

/// Bits of a deflate stream, the lowest of each byte first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    open: u64,
    count: u32,
}

impl Bits {
    fn push(&mut self, bits: u32, count: u32) {
        self.open |= u64::from(bits) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(self.open as u8);
            self.open >>= 8;
            self.count -= 8;
        }
    }

    /// Codes come with their highest bit first.
    fn push_code(&mut self, code: u32, count: u32) {
        self.push(code.reverse_bits() >> (32 - count), count);
    }

    fn finish(mut self) -> Vec<u8> {
        self.push(0, 7);
        self.bytes
    }
}

/// Checks what is said of the layers; `pulled`: the stream-only ones were.
fn assert_said(inspected: &Value, image: &Image, pulled: bool) {
    let layers = inspected["layers"].as_array().unwrap();
    let digests: Vec<&str> = layers
        .iter()
        .map(|l| l["digest"].as_str().unwrap())
        .collect();
    assert_eq!(digests, image.layers);
    assert_eq!(layers[0]["lazy"], true, "{layers:#?}");
    assert_eq!(layers[0]["reason"], Value::Null, "{layers:#?}");
    assert_eq!(layers[0]["index"]["source"], "referrer", "{layers:#?}");
    let reasons = [
        (&layers[1], "window is too large for checkpoints"),
        (&layers[2], "no place to start for too long"),
    ];
    for (layer, words) in reasons {
        assert_eq!(layer["lazy"], false, "{layer:#}");
        let reason = layer["reason"].as_str().unwrap();
        assert!(reason.starts_with("stream-only: "), "{layer:#}");
        assert!(reason.contains(words), "{layer:#}");
        if pulled {
            assert_eq!(layer["index"]["source"], "built", "{layer:#}");
            assert_eq!(layer["index"]["trust"], "trusted", "{layer:#}");
        } else {
            assert_eq!(layer["index"], Value::Null, "{layer:#}");
        }
    }
}

/// Publishes by a node of its own; checks what it says.
fn publish(image: &Image, reference: &str) {
    let publisher = Node::new();
    let pushed = done(&publisher.command(["index", "push", reference]));
    assert_eq!(pushed.code, 0, "{pushed:?}");
    let [base, window, block] = &image.layers;
    for (layer, words) in [(window, "zstd window of "), (block, "a chunk of ")] {
        let said = pushed.err.lines().find(|line| line.contains(layer));
        let said = said.unwrap_or_else(|| panic!("{layer} is not named: {pushed:?}"));
        assert!(
            said.contains(words) && said.contains("not attached"),
            "{said}"
        );
    }
    assert!(!pushed.err.contains(base), "{pushed:?}");
    assert!(pushed.out.contains(": 1 layers, "), "{pushed:?}");
    assert!(pushed.out.contains("; 2 without an index"), "{pushed:?}");
    // A second time nothing is new, and the reasons are known without reading the layers again.
    let again = done(&publisher.command(["index", "push", reference]));
    assert!(again.out.starts_with("already attached "), "{again:?}");
    for layer in [window, block] {
        assert!(again.err.contains(layer), "{again:?}");
    }
}

#[test]
fn stream_only_layers_are_named_left_out_of_the_artifact_and_served() {
    let image = Image::new();
    assert!(
        image.sizes.iter().sum::<usize>() < 60_000_000,
        "{:?}",
        image.sizes
    );
    let registry = DockerRegistry::start();
    let reference = registry.push_layout(&image.layout("layout"), "stream/only", &[]);
    publish(&image, &reference);

    let node = Node::with_config(SMALL_CACHE);
    assert_said(&node.inspect(&reference), &image, false);
    let flags = ["--suid", "--dev", "--background", "off", &reference];
    let mounted = node.mount(&flags, "mounted");
    assert_said(&node.inspect(&reference), &image, true);
    let before = node.status()["counters"]["demand_bytes"].as_u64().unwrap();
    let named = BTreeSet::new();
    let expected = walk(&image.unpacked(), &named);
    assert!(expected.contains_key(Path::new("window/9")));
    assert_equal(&expected, &walk(&mounted, &named));
    // The cache had no room for them: they came from the registry once more.
    let counters = &node.status()["counters"];
    let fetched = counters["demand_bytes"].as_u64().unwrap() - before;
    let total = image.sizes.iter().sum::<usize>() as u64;
    assert!(
        (10_000_000..3 * total).contains(&fetched),
        "{fetched} of {total}: {counters}"
    );
    assert_eq!(counters["verification_failures"], 0, "{counters}");

    let words = [
        "run",
        "--rm",
        &reference,
        "sha256sum",
        "/window/8",
        "/block/zeros",
        "/block/last",
    ];
    let summed = done(&node.command(words));
    assert_eq!(summed.code, 0, "{summed:?}");
    for (line, name) in summed
        .out
        .lines()
        .zip(["window/8", "block/zeros", "block/last"])
    {
        let content = std::fs::read(image.directory.path().join("bundle/rootfs").join(name));
        let expected = Digest::of(&content.unwrap()).hex();
        assert!(line.starts_with(&expected), "{name}: {summed:?}");
    }
    node.brisk(&["umount", mounted.to_str().unwrap()]);
}

#[test]
fn an_image_of_stream_only_layers_alone_says_so() {
    let tar = block_tar();
    let layer = one_block(&tar);
    let directory = tempfile::tempdir().unwrap();
    Layout {
        directory: directory.path(),
    }
    .image(&layer, GZIP, &digest(&tar));
    let registry = DockerRegistry::start();
    let reference = registry.push_layout(directory.path(), "stream/alone", &[]);
    let pushed = Node::new().brisk(&["index", "push", &reference]);
    let said = crate::support::text(&pushed.stdout);
    assert!(said.contains(": 0 layers, "), "{said}");
    let inspected = Node::new().inspect(&reference);
    let reason = inspected["layers"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("stream-only: "), "{inspected:#}");
}

#[test]
fn files_of_a_long_chunk_are_printed_in_bounded_memory() {
    let node = Node::new();
    let tar = block_tar();
    let layer = node.path("layer");
    std::fs::write(&layer, one_block(&tar)).unwrap();
    let layer = layer.to_str().unwrap();
    node.brisk(&["index", "build", layer]);
    let index = format!("{layer}.index");
    let print = |path: &str| {
        let cat = node.command(["index", "cat", &index, layer, path]);
        let mut limited = Command::new("prlimit");
        // Half of the chunk.
        limited.arg("--data=33554432").arg(cat.get_program());
        run(limited.args(cat.get_args())).stdout
    };
    assert!(print("/block/last") == b"behind it");
    let zeros = print("/block/zeros");
    let mut archive = tar::Archive::new(&tar[..]);
    let mut expected = Vec::new();
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    std::io::copy(&mut entry, &mut expected).unwrap();
    assert!(zeros == expected, "{} bytes", zeros.len());

    // Damage behind the first leaves: they are right, and the rest is an error.
    let mut bytes = std::fs::read(layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(layer, bytes).unwrap();
    let cat = done(&node.command(["index", "cat", &index, layer, "/block/last"]));
    assert_eq!((cat.code, cat.out.as_str()), (1, ""), "{cat:?}");
    assert!(cat.err.contains("brisk: "), "{cat:?}");
}
