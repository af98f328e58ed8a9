//! Layers whose bytes in the registry are not those that their digest names.

use std::fs;

use crate::support::lab::Lab;
use crate::traces::{fails, fails_everywhere, has_trusted_index, is_clean};

/// Digest and file of the image's largest layer.
fn largest_layer(lab: &Lab) -> (String, std::path::PathBuf) {
    let inspected = lab.node.inspect(&lab.image);
    let layers = inspected["layers"].as_array().unwrap();
    let largest = layers
        .iter()
        .max_by_key(|layer| layer["size"].as_u64())
        .unwrap();
    let digest = largest["digest"].as_str().unwrap().to_owned();
    let file = lab.registry.blob_file(&digest);
    (digest, file)
}

#[test]
fn a_flipped_bit() {
    let lab = Lab::unindexed("zoo");
    let (digest, file) = largest_layer(&lab);
    let whole = fs::read(&file).unwrap();
    // Where the gzip header is, in the middle, and in the checksum at the end.
    for place in [0, whole.len() / 2, whole.len() - 5] {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        fs::write(&file, bytes).unwrap();
        fails_everywhere(&lab.node, &lab.image, &[&digest, "hint:"]);
        assert!(!has_trusted_index(&lab.node, &digest));
    }
    fs::write(&file, whole).unwrap();
    let done = lab.run(&[], &[]);
    assert_eq!(
        (done.code, done.out.as_str()),
        (0, "READY zoo\n"),
        "{done:?}"
    );
}

#[test]
fn a_truncated_blob() {
    let lab = Lab::unindexed("zoo");
    let (digest, file) = largest_layer(&lab);
    let whole = fs::read(&file).unwrap();
    for length in [0, 10, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        fails_everywhere(&lab.node, &lab.image, &[&digest]);
        assert!(!has_trusted_index(&lab.node, &digest));
    }
}

#[test]
fn a_missing_blob() {
    let lab = Lab::unindexed("zoo");
    let (digest, file) = largest_layer(&lab);
    fs::remove_file(file).unwrap();
    fails_everywhere(&lab.node, &lab.image, &[&digest]);
}

#[test]
fn a_lazy_reader_sees_an_error_and_never_wrong_bytes() {
    let lab = Lab::new("zoo");
    let (digest, file) = largest_layer(&lab);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4]
        .iter_mut()
        .for_each(|byte| *byte ^= 0xff);
    fs::write(&file, bytes).unwrap();
    let script = "cat /zoo/random /zoo/large >/dev/null && echo read";
    let done = lab.run(&["--background", "off"], &["sh", "-c", script]);
    assert!(done.code != 0 && done.out.is_empty(), "{done:?}");
    assert!(done.err.contains("Input/output error"), "{done:?}");
    let failures = lab.node.status()["counters"]["verification_failures"]
        .as_u64()
        .unwrap();
    assert!(failures > 0, "{digest}");
    is_clean(&lab.node);
    // The whole image cannot be had either.
    let pull = fails(&lab.node, &["pull", &lab.image], 1);
    for word in [digest.as_str(), "tests/image", "hint:"] {
        assert!(pull.err.contains(word), "{word}: {pull:?}");
    }
}
