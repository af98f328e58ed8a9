//! Limits and damage.

use proptest::prelude::*;

use crate::tar::error::TarError;
use crate::tar::fixture::{end, gnu, pax, read, read_pieces, refusal, ustar};
use crate::tar::limit::{MAX_EXTENDED_HEADER, TarLimits};

#[test]
fn extended_headers_are_limited() {
    for flag in *b"xgLK" {
        let too_large = usize::try_from(MAX_EXTENDED_HEADER + 1).unwrap();
        let error = refusal(&[&ustar(b"h", flag).size(too_large).done()]);
        let (limit, of) = (MAX_EXTENDED_HEADER, "bytes in an extended header");
        assert_eq!(
            error,
            TarError::Limit {
                offset: 0,
                limit,
                of
            }
        );
    }
}

#[test]
fn headers_are_limited() {
    let limits = TarLimits {
        entries: 2,
        ..TarLimits::default()
    };
    let file = ustar(b"a", b'0').done();
    let archive = |count| file.repeat(count);
    assert!(read_pieces([&archive(2)[..]], limits).is_ok());
    let error = read_pieces([&archive(3)[..]], limits).unwrap_err();
    assert_eq!(
        error,
        TarError::Limit {
            offset: 1024,
            limit: 2,
            of: "headers in one layer"
        }
    );
}

#[test]
fn metadata_is_limited() {
    let xattrs = pax(b'x', &[("SCHILY.xattr.user.a", b"12345")]);
    let archive = [xattrs, ustar(b"dir/name", b'2').link(b"target").done()].concat();
    let read = |metadata| {
        let limits = TarLimits {
            metadata,
            ..TarLimits::default()
        };
        read_pieces([&archive[..]], limits)
    };
    let needed = "name".len() + "target".len() + "user.a12345".len();
    assert!(read(needed as u64).is_ok());
    assert!(matches!(
        read(needed as u64 - 1),
        Err(TarError::Limit { .. })
    ));
}

#[test]
fn global_records_are_limited() {
    let header = |key: &str| pax(b'g', &[(key, &[b'v'; 700_000])]);
    assert!(read(&[&header("a"), &header("a")]).entries.is_empty());
    let archive = [header("a"), header("b")].concat();
    let error = read_pieces([&archive[..]], TarLimits::default()).unwrap_err();
    assert!(matches!(
        error,
        TarError::Limit {
            of: "bytes of global PAX records",
            ..
        }
    ));
}

#[test]
fn sparse_extents_of_a_layer_are_limited() {
    let limits = TarLimits {
        sparse_extents_per_layer: 1,
        ..TarLimits::default()
    };
    let records: &[(&str, &[u8])] = &[
        ("GNU.sparse.map", b"0,1"),
        ("GNU.sparse.numblocks", b"1"),
        ("GNU.sparse.size", b"9"),
    ];
    let file = [pax(b'x', records), ustar(b"a", b'0').with(b"x")].concat();
    assert!(read_pieces([&file[..]], limits).is_ok());
    let error = read_pieces([&file[..], &file[..]], limits).unwrap_err();
    assert!(matches!(error, TarError::Limit { limit: 1, .. }), "{error}");
}

#[test]
fn a_failed_reader_stays_failed() {
    use crate::tar::fixture::Seen;
    use crate::tar::reader::TarReader;
    let (mut reader, mut seen) = (TarReader::new(TarLimits::default()), Seen::default());
    assert!(reader.push(&[1; 512], &mut seen).is_err());
    assert_eq!(reader.push(&[0; 512], &mut seen), Err(TarError::Failed));
    assert_eq!(reader.finish(&mut seen), Err(TarError::Failed));
}

/// An archive with something of everything.
fn rich() -> Vec<u8> {
    let sparse: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.realsize", b"8192"),
        ("SCHILY.xattr.user.a", b"b"),
    ];
    let old = gnu(b"old", b'S')
        .put(386, b"00000000000\x0000000000001\0")
        .put(482, b"\x01")
        .put(483, b"00000010000\0");
    let mut extension = [0; 512];
    extension[..24].copy_from_slice(b"00000000010\x0000000000001\0");
    [
        pax(b'g', &[("uid", b"7")]),
        pax(b'x', sparse),
        ustar(b"GNUSparseFile.0/sparse", b'0')
            .with(&[&b"1\n0\n5\n"[..], &[0; 506], b"hi"].concat()),
        old.size(2).done(),
        extension.to_vec(),
        [1; 512].to_vec(),
        gnu(b"././@LongLink", b'L').with(&[b'n'; 200]),
        gnu(b"n", b'0').with(b"content"),
        ustar(b"dev", b'3').done(),
        ustar(b"link", b'2').link(b"dev").done(),
        end(),
    ]
    .concat()
}

/// Sets the checksum of whatever looks like a header, so that damage reaches behind it.
fn with_checksums(mut archive: Vec<u8>) -> Vec<u8> {
    for block in archive.as_chunks_mut::<512>().0 {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    archive
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn damage_never_panics_and_splits_never_matter(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        repair in any::<bool>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        length in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut archive = rich();
        for (place, byte) in damage {
            let place = place.index(archive.len());
            archive[place] = byte;
        }
        if !whole {
            archive.truncate(length.index(archive.len()));
        }
        let archive = if repair { with_checksums(archive) } else { archive };
        let result = read_pieces([&archive[..]], TarLimits::default());
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(archive.len() + 1)).collect();
        cuts.extend([0, archive.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|pair| &archive[pair[0]..pair[1]]);
        prop_assert_eq!(&read_pieces(pieces, TarLimits::default()), &result);
        if let Ok(seen) = result {
            let payload: usize = seen.entries.iter().map(|(_, data)| data.len()).sum();
            prop_assert_eq!(seen.framing.len() + payload, archive.len());
        }
    }
}
