//! Every form of sparse file, handmade and as GNU tar writes it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use crate::tar::entry::{DataExtent, EntryKind};
use crate::tar::error::TarError;
use crate::tar::fixture::{end, gnu, padded, pax, read, read_pieces, refusal, ustar};
use crate::tar::limit::TarLimits;

/// A file of 10 KiB with "hello" at 0 and "world" at 8192.
fn expected() -> Vec<u8> {
    let mut content = vec![0; 10_240];
    content[..5].copy_from_slice(b"hello");
    content[8192..8197].copy_from_slice(b"world");
    content
}

fn old_gnu_pairs(pairs: &[(u64, u64)]) -> Vec<u8> {
    let text = |(offset, length): &(u64, u64)| format!("{offset:011o}\0{length:011o}\0");
    pairs
        .iter()
        .flat_map(|pair| text(pair).into_bytes())
        .collect()
}

#[test]
fn old_gnu() {
    let header = gnu(b"s", b'S')
        .put(386, &old_gnu_pairs(&[(0, 5), (8192, 5), (10_240, 0)]))
        .put(483, format!("{:011o}\0", 10_240).as_bytes());
    let seen = read(&[
        &header.with(b"helloworld"),
        &gnu(b"next", b'0').done(),
        &end(),
    ]);
    assert_eq!(seen.content(b"s"), expected());
    assert_eq!(seen.paths(), [&b"s"[..], b"next"]);
    let extents = vec![
        DataExtent {
            file_offset: 0,
            stream_offset: 512,
            length: 5,
        },
        DataExtent {
            file_offset: 8192,
            stream_offset: 517,
            length: 5,
        },
    ];
    let kind = EntryKind::Regular {
        size: 10_240,
        extents,
        sparse: true,
    };
    assert_eq!(seen.entries[0].0.kind, kind);
}

#[test]
fn old_gnu_with_extended_headers() {
    let pairs: Vec<(u64, u64)> = (0..30).map(|i| (i * 100, 1)).collect();
    let header = gnu(b"s", b'S')
        .put(386, &old_gnu_pairs(&pairs[..4]))
        .put(482, b"\x01")
        .put(483, format!("{:011o}\0", 4000).as_bytes())
        .size(30)
        .done();
    let mut first = old_gnu_pairs(&pairs[4..25]);
    first.extend([1; 8]);
    let mut second = old_gnu_pairs(&pairs[25..]);
    second.resize(512, 0);
    let seen = read(&[&header, &first, &second, &padded(&[9; 30])]);
    let content = seen.content(b"s");
    assert_eq!(content.len(), 4000);
    for (position, byte) in content.iter().enumerate() {
        let data = position % 100 == 0 && position < 3000;
        assert_eq!(*byte, if data { 9 } else { 0 }, "at {position}");
    }
}

#[test]
fn pax_0_0() {
    let local = pax(
        b'x',
        &[
            ("GNU.sparse.size", b"10240"),
            ("GNU.sparse.numblocks", b"2"),
            ("GNU.sparse.offset", b"0"),
            ("GNU.sparse.numbytes", b"5"),
            ("GNU.sparse.offset", b"8192"),
            ("GNU.sparse.numbytes", b"5"),
        ],
    );
    assert_eq!(
        read(&[&local, &ustar(b"s", b'0').with(b"helloworld")]).content(b"s"),
        expected()
    );
}

#[test]
fn pax_0_1() {
    let local = pax(
        b'x',
        &[
            ("GNU.sparse.size", b"10240"),
            ("GNU.sparse.numblocks", b"2"),
            ("GNU.sparse.map", b"0,5,8192,5"),
            ("GNU.sparse.name", b"real/name"),
        ],
    );
    let seen = read(&[
        &local,
        &ustar(b"GNUSparseFile.1/name", b'0').with(b"helloworld"),
    ]);
    assert_eq!(seen.content(b"real/name"), expected());
}

fn pax_1_0(map: &[u8], data: &[u8]) -> Vec<u8> {
    let local = pax(
        b'x',
        &[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"real/name"),
            ("GNU.sparse.realsize", b"10240"),
        ],
    );
    [
        local,
        ustar(b"cut", b'0').with(&[&padded(map)[..], data].concat()),
    ]
    .concat()
}

#[test]
fn pax_1_0_map_in_front_of_the_data() {
    let seen = read(&[&pax_1_0(b"2\n0\n5\n8192\n5\n", b"helloworld"), &end()]);
    assert_eq!(seen.content(b"real/name"), expected());
    let EntryKind::Regular { extents, .. } = &seen.one().kind else {
        panic!()
    };
    assert_eq!(extents[0].stream_offset, 512 * 4);
}

#[test]
fn pax_1_0_map_of_exactly_one_block_and_of_several() {
    // A map of 512 bytes leaves no padding behind itself.
    for pairs in [1_usize, 60, 100, 200] {
        let mut map = format!("{pairs}\n");
        for pair in 0..pairs {
            map += &format!("{:09}\n{}\n", pair * 51, 1);
        }
        if pairs == 1 {
            map = format!("{:0>507}\n0\n1\n", 1);
            assert_eq!(map.len(), 512);
        }
        let archive = pax_1_0(map.as_bytes(), &vec![9; pairs]);
        let content = read(&[&archive]).content(b"real/name");
        assert_eq!(content.iter().filter(|byte| **byte == 9).count(), pairs);
    }
}

#[test]
fn lying_maps_are_refused() {
    for (map, data) in [
        (&b"1\n0\n5\n"[..], &b"hell"[..]),
        (b"1\n0\n5\n", b"hello!"),
        (b"2\n0\n5\n3\n2\n", b"hellowo"),
        (b"1\n10239\n2\n", b"hi"),
        (b"1\n18446744073709551615\n1\n", b"x"),
        (b"999999999\n", b""),
        (b"x", b""),
    ] {
        let error = refusal(&[&pax_1_0(map, data)]);
        assert!(
            matches!(error, TarError::Sparse { .. }),
            "{}: {error}",
            map.escape_ascii()
        );
    }
    // The map does not end within the entry, with another entry behind it.
    let unfinished = pax_1_0(b"1\n0\n5", b"");
    assert!(matches!(
        refusal(&[&unfinished, &end()]),
        TarError::Sparse { .. }
    ));
    let star = ustar(b"s", b'S').done();
    assert!(matches!(refusal(&[&star]), TarError::Sparse { .. }));
}

#[test]
fn sparse_extents_of_a_file_are_limited() {
    let limits = TarLimits {
        sparse_extents: 2,
        ..TarLimits::default()
    };
    let within = pax_1_0(b"2\n0\n5\n8192\n5\n", b"helloworld");
    assert!(read_pieces([&within[..]], limits).is_ok());
    let beyond = pax_1_0(b"3\n0\n5\n8192\n5\n9000\n0\n", b"helloworld");
    assert!(matches!(
        read_pieces([&beyond[..]], limits),
        Err(TarError::Sparse { .. })
    ));
    let map: &[(&str, &[u8])] = &[
        ("GNU.sparse.map", b"0,1,5,1,9,1"),
        ("GNU.sparse.numblocks", b"3"),
    ];
    let beyond = [pax(b'x', map), ustar(b"s", b'0').with(b"abc")].concat();
    assert!(matches!(
        read_pieces([&beyond[..]], limits),
        Err(TarError::Sparse { .. })
    ));
}

#[test]
fn unknown_sparse_versions_are_plain_files() {
    let local = pax(
        b'x',
        &[("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"0")],
    );
    let seen = read(&[&local, &ustar(b"s", b'0').with(b"data")]);
    assert_eq!(seen.content(b"s"), b"data");
}

/// GNU tar finds holes by their zeros, so that the filesystem does not matter.
fn gnu_tar(form: &[&str], data: &[(u64, &[u8])], size: u64) -> (Vec<u8>, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let file = File::create(&path).unwrap();
    for (offset, bytes) in data {
        file.write_all_at(bytes, *offset).unwrap();
    }
    file.set_len(size).unwrap();
    let output = Command::new("tar")
        .args(["--create", "--file=-", "--sparse", "--hole-detection=raw"])
        .args(form)
        .arg("--directory")
        .arg(dir.path())
        .arg("file")
        .output()
        .expect("GNU tar is needed for this test");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    (output.stdout, std::fs::read(&path).unwrap())
}

const FORMS: [&[&str]; 4] = [
    &["--format=gnu"],
    &["--format=posix", "--sparse-version=0.0"],
    &["--format=posix", "--sparse-version=0.1"],
    &["--format=posix", "--sparse-version=1.0"],
];

fn check(data: &[(u64, &[u8])], size: u64) {
    for form in FORMS {
        let (archive, content) = gnu_tar(form, data, size);
        let seen = read(&[&archive]);
        assert!(
            seen.content(b"file") == content,
            "{form:?}: content differs"
        );
        let EntryKind::Regular {
            extents, sparse, ..
        } = &seen.one().kind
        else {
            panic!()
        };
        assert!(*sparse, "{form:?}: no sparse file was written");
        let stored: u64 = extents.iter().map(|extent| extent.length).sum();
        assert!(stored < size, "{form:?}");
    }
}

#[test]
fn gnu_tars_own_archives_with_few_extents() {
    check(
        &[(0, b"start"), (65_536, &[7; 5000]), (200_000, b"tail")],
        300_001,
    );
}

#[test]
fn gnu_tars_own_archives_with_many_extents() {
    let runs: Vec<(u64, &[u8])> = (0..60).map(|i| (i * 8192 + 4096, &b"data"[..])).collect();
    check(&runs, 60 * 8192);
}

#[test]
fn gnu_tars_own_archives_of_one_hole() {
    check(&[], 1_000_000);
}
