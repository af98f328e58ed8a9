//! Damage of every kind: found by its digest, or, where the digests were forged along, found by
//! the rules or harmless; never a panic.

use crate::fixture::{layer_bytes, tree};
use index_format::header::{SECTION_ROW_SIZE, SECTION_TABLE_OFFSET};
use index_format::{
    Digest, FormatError, Index, InodeNumber, Limits, SectionId, StreamOffset, merge,
};

const PATTERNS: [u8; 3] = [0x01, 0x80, 0xff];

fn merged_bytes() -> Vec<u8> {
    let layer = Index::open(layer_bytes(&tree())).unwrap();
    merge(&[layer], &Limits::default()).unwrap().bytes
}

/// Asks every question about every record; the first error.
fn ask_everything(index: &Index) -> Result<(), FormatError> {
    let mut first = Ok(());
    let mut note = |result: Result<(), FormatError>| {
        if first.is_ok() {
            first = result;
        }
    };
    note(index.layers().map(|_| ()));
    for number in (1..=index.inode_count()).map(InodeNumber) {
        match index.inode(number) {
            Ok(inode) if inode.kind == index_format::FileKind::Directory => {
                match index.entries(number) {
                    Ok(entries) => {
                        for entry in entries {
                            note(
                                entry
                                    .and_then(|entry| index.lookup(number, entry.name).map(|_| ())),
                            );
                        }
                    }
                    Err(error) => note(Err(error)),
                }
            }
            Ok(inode) if inode.kind == index_format::FileKind::Regular => {
                note(index.extents(number).map(|_| ()));
            }
            Ok(inode) if inode.kind.has_target() => {
                note(index.symlink_target(number).map(|_| ()));
            }
            other => note(other.map(|_| ())),
        }
        match index.xattrs(number) {
            Ok(pairs) => pairs.for_each(|pair| note(pair.map(|_| ()))),
            Err(error) => note(Err(error)),
        }
        index.content_digest(number);
    }
    for number in 0..index.chunk_count() {
        note(index.chunk(number).and_then(|chunk| {
            index.checkpoint(&chunk)?;
            index
                .chunk_containing(StreamOffset(chunk.stream.start))
                .map(|_| ())
        }));
    }
    for leaf in 0..index
        .stream_size()
        .div_ceil(index_format::LEAF_SIZE)
        .min(100)
    {
        note(index.leaf_digest(leaf).map(|_| ()));
    }
    first
}

#[test]
fn every_changed_byte_is_found_or_changes_the_identity() {
    for bytes in [layer_bytes(&tree()), merged_bytes()] {
        let good = Index::open(bytes.clone()).unwrap();
        ask_everything(&good).unwrap();
        for position in 0..bytes.len() {
            for pattern in PATTERNS {
                let mut damaged = bytes.clone();
                damaged[position] ^= pattern;
                let Ok(index) = Index::open(damaged) else {
                    continue;
                };
                let _ = ask_everything(&index);
                if index.validate().is_ok() {
                    assert_ne!(
                        index.digest(),
                        good.digest(),
                        "byte {position} ^ {pattern:#x}"
                    );
                    assert!((position as u64) < good.header().length);
                }
            }
        }
    }
}

/// Replaces a section's bytes and, as a forger would, its digest.
fn forge(bytes: &mut [u8], section: SectionId, change: impl FnOnce(&mut [u8])) {
    let index = Index::open(bytes.to_vec()).unwrap();
    let row = *index.header().section(section);
    let range = row.offset as usize..(row.offset + row.length) as usize;
    change(&mut bytes[range.clone()]);
    let slot = SectionId::ALL.iter().position(|id| *id == section).unwrap();
    // A row is number, reserved, offset, length, digest.
    let digest = SECTION_TABLE_OFFSET + slot * SECTION_ROW_SIZE + 4 + 4 + 8 + 8;
    let fresh = Digest::of(&bytes[range]);
    bytes[digest..digest + 32].copy_from_slice(fresh.as_bytes());
}

#[test]
fn with_forged_digests_what_validates_answers_every_question() {
    let mut refused = 0;
    for bytes in [layer_bytes(&tree()), merged_bytes()] {
        let good = Index::open(bytes.clone()).unwrap();
        for section in SectionId::ALL {
            for position in 0..good.section_length(section) as usize {
                for pattern in PATTERNS {
                    let mut forged = bytes.clone();
                    forge(&mut forged, section, |bytes| bytes[position] ^= pattern);
                    let index = Index::open(forged).unwrap();
                    let asked = ask_everything(&index);
                    let _ = merge(std::slice::from_ref(&index), &Limits::default());
                    match index.validate() {
                        Ok(()) => assert_eq!(asked, Ok(()), "{section} byte {position}"),
                        Err(_) => refused += 1,
                    }
                }
            }
        }
    }
    assert!(refused > 1000, "only {refused}");
}

#[test]
fn a_file_cut_anywhere_but_behind_its_hot_part_is_refused() {
    let bytes = layer_bytes(&tree());
    let hot = Index::open(bytes.clone()).unwrap().header().hot_size as usize;
    for length in 0..bytes.len() {
        let opened = Index::open(bytes[..length].to_vec());
        assert_eq!(opened.is_ok(), length == hot, "{length}");
    }
    let longer = [&bytes[..], b"12345678"].concat();
    assert!(Index::open(longer).is_err());
}

#[test]
fn other_versions_and_features_are_refused_in_clear_words() {
    use index_format::header::{MAJOR_OFFSET, OPTIONAL_FEATURES_OFFSET, REQUIRED_FEATURES_OFFSET};
    let bytes = layer_bytes(&tree());
    let with = |position: usize, value: u8| {
        let mut changed = bytes.clone();
        changed[position] = value;
        Index::open(changed)
    };
    let error = with(MAJOR_OFFSET, 2).unwrap_err();
    assert_eq!(
        error,
        FormatError::UnsupportedVersion {
            found: 2,
            supported: 1
        }
    );
    assert!(error.is_unsupported());
    assert!(error.to_string().contains("format version 2"), "{error}");
    let error = with(REQUIRED_FEATURES_OFFSET + 1, 1).unwrap_err();
    assert_eq!(error, FormatError::UnsupportedFeatures { bits: 0x100 });
    assert!(error.is_unsupported());
    with(OPTIONAL_FEATURES_OFFSET, 1)
        .unwrap()
        .validate()
        .unwrap();
    assert!(
        with(REQUIRED_FEATURES_OFFSET, 1)
            .unwrap()
            .features()
            .is_toc_layout()
    );
    let error = with(0, b'X').unwrap_err();
    assert!(error == FormatError::BadMagic && !error.is_unsupported());
}

/// A section, what to do to it, and a word of the error.
type Case<'a> = (SectionId, &'a dyn Fn(&mut [u8]), &'a str);

/// Particular rules, each broken on its own with everything else consistent.
#[test]
fn broken_rules_are_named() {
    let bytes = layer_bytes(&tree());
    let good = Index::open(bytes.clone()).unwrap();
    let problem = |section, change: &dyn Fn(&mut [u8])| {
        let mut forged = bytes.clone();
        forge(&mut forged, section, change);
        Index::open(forged)
            .unwrap()
            .validate()
            .unwrap_err()
            .to_string()
    };
    let inode = |path: &[u8]| (good.resolve(path).unwrap().unwrap().0 as usize - 1) * 56;
    let hosts = inode(b"etc/hosts");
    let cases: [Case<'_>; 7] = [
        (
            SectionId::Inodes,
            &|bytes| bytes[hosts + 36] = 1,
            "link count",
        ),
        (
            SectionId::Inodes,
            &|bytes| bytes[hosts + 53] = 0x1f,
            "permissions",
        ),
        (
            SectionId::Inodes,
            &|bytes| bytes[hosts + 27] = 0xff,
            "nanoseconds",
        ),
        (
            SectionId::Inodes,
            &|bytes| bytes[hosts + 5] = 1,
            "past the stream",
        ),
        (SectionId::Entries, &|bytes| bytes[8] = 0, "illegal name"),
        (SectionId::Entries, &|bytes| bytes[4] = 1, "kind"),
        (SectionId::Chunks, &|bytes| bytes[36] = 9, "eight bits"),
    ];
    for (section, change, expected) in cases {
        let found = problem(section, change);
        assert!(found.contains(expected), "{found}, not {expected}");
    }
}
