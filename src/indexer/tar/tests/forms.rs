//! Paths, types and the end of archives.

use crate::tar::entry::EntryKind;
use crate::tar::error::{TarError, Warning};
use crate::tar::fixture::{end, gnu, pax, read, refusal, try_read, ustar};

#[test]
fn empty_archives() {
    assert!(read(&[]).entries.is_empty());
    assert!(read(&[&end()]).entries.is_empty());
    assert!(read(&[&[0; 10_240]]).entries.is_empty());
}

#[test]
fn absolute_path_is_taken_from_the_root() {
    let seen = read(&[
        &ustar(b"/etc/passwd", b'0').done(),
        &ustar(b"./bin//sh", b'1').link(b"/usr/./bin/dash/").done(),
    ]);
    assert_eq!(seen.paths(), [&b"etc/passwd"[..], b"bin/sh"]);
    assert_eq!(
        seen.entries[1].0.kind,
        EntryKind::Hardlink(b"usr/bin/dash".to_vec())
    );
}

#[test]
fn root_entry_has_the_empty_path() {
    for name in [&b"./"[..], b".", b"/"] {
        let seen = read(&[&ustar(name, b'5').put(100, b"0000700\0").done()]);
        assert_eq!(
            (&seen.one().path[..], seen.one().permissions),
            (&b""[..], 0o700)
        );
    }
}

#[test]
fn dotdot_is_refused_in_paths_and_hardlink_targets() {
    let error = refusal(&[&ustar(b"a/../../etc/passwd", b'0').done()]);
    assert_eq!(
        error,
        TarError::PathEscapes {
            path: b"a/../../etc/passwd".to_vec()
        }
    );
    assert!(error.to_string().contains("a/../../etc/passwd"));
    assert!(error.to_string().contains("layer is refused"));
    let error = refusal(&[&ustar(b"a", b'1').link(b"../x").done()]);
    assert_eq!(
        error,
        TarError::PathEscapes {
            path: b"../x".to_vec()
        }
    );
    let error = refusal(&[&pax(b'x', &[("path", b"..")]), &ustar(b"a", b'0').done()]);
    assert_eq!(
        error,
        TarError::PathEscapes {
            path: b"..".to_vec()
        }
    );
}

#[test]
fn symlink_targets_are_verbatim() {
    for target in [&b"../../.."[..], b"/a//b/", b"self", b"\xff"] {
        let seen = read(&[&ustar(b"self", b'2').link(target).done()]);
        assert_eq!(seen.one().kind, EntryKind::Symlink(target.to_vec()));
    }
    let error = refusal(&[&ustar(b"a", b'2').done()]);
    assert_eq!(
        error,
        TarError::SymlinkTarget {
            path: b"a".to_vec(),
            length: 0
        }
    );
}

#[test]
fn sizes_of_types_without_data_are_ignored() {
    let sized = |flag| ustar(b"a", flag).link(b"b").size(1000).done();
    for flag in *b"123456" {
        let seen = read(&[&sized(flag), &ustar(b"next", b'0').with(b"x"), &end()]);
        assert_eq!(
            seen.paths(),
            [&b"a"[..], b"next"],
            "type {}",
            char::from(flag)
        );
    }
}

#[test]
fn bad_sizes_of_types_without_data_are_ignored() {
    let seen = read(&[&ustar(b"a", b'5').put(124, b"whatever").done()]);
    assert_eq!(seen.one().kind, EntryKind::Directory);
}

#[test]
fn unknown_types_are_skipped_with_their_data() {
    for flag in *b"AMNVXZ8" {
        let seen = read(&[
            &ustar(b"../odd", flag).with(&[1; 700]),
            &ustar(b"next", b'0').with(b"x"),
            &end(),
        ]);
        assert_eq!(seen.paths(), [b"next"]);
        let (path, type_flag) = (b"../odd".to_vec(), flag);
        assert_eq!(seen.warnings, [Warning::UnknownType { path, type_flag }]);
    }
}

#[test]
fn gnu_dump_directory_is_a_directory() {
    let seen = read(&[
        &gnu(b"dir/", b'D').with(b"Yfile\0\0"),
        &gnu(b"dir/file", b'0').done(),
    ]);
    assert_eq!(seen.paths(), [&b"dir"[..], b"dir/file"]);
    assert_eq!(seen.entries[0].0.kind, EntryKind::Directory);
}

#[test]
fn bytes_behind_the_end_mark_are_framing() {
    let junk = ustar(b"not read", b'0').with(b"x");
    let seen = read(&[&ustar(b"a", b'0').done(), &end(), &junk, b"odd"]);
    assert_eq!(seen.paths(), [b"a"]);
}

#[test]
fn missing_end_mark_is_accepted() {
    let file = ustar(b"a", b'0').with(b"abc");
    for parts in [
        &[&file[..]][..],
        &[&file, &[0; 512]],
        &[&file[..515]],
        &[&file[..600]],
    ] {
        assert_eq!(read(parts).content(b"a"), b"abc");
    }
}

#[test]
fn lone_zero_block_is_refused() {
    let file = ustar(b"a", b'0').done();
    assert_eq!(
        refusal(&[&[0; 512], &file]),
        TarError::LoneZeroBlock { offset: 512 }
    );
}

#[test]
fn truncation_is_told_from_the_end() {
    let archive = [
        pax(
            b'x',
            &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")],
        ),
        ustar(b"a", b'0').with(&[&b"1\n0\n5\n"[..], &[0; 506], b"hello"].concat()),
        gnu(b"b", b'S')
            .put(386, b"00000000000\x0000000000000\0")
            .put(482, b"\x01")
            .done(),
        vec![0; 512],
        ustar(b"c", b'V').with(b"skipped"),
    ]
    .concat();
    let complete = |length: usize| match length {
        // The end of an entry, or of an extended header, with padding or without.
        0 | 556..=1024 | 2053..=2560 | 3584 => true,
        4103.. => true,
        _ => false,
    };
    for length in 0..=archive.len() {
        match try_read_whole(&archive[..length]) {
            Ok(()) => assert!(complete(length), "{length} of {} accepted", archive.len()),
            Err(TarError::Truncated { offset, .. }) => {
                assert!(!complete(length), "{length} of {} refused", archive.len());
                assert_eq!(offset, length as u64);
            }
            Err(other) => panic!("{length}: {other}"),
        }
    }
    let short = ustar(b"a", b'0').size(10).done();
    assert!(matches!(
        try_read(&[&short[..], b"12345"].concat()),
        Err(TarError::Truncated {
            inside: "the data of an entry",
            offset: 517
        })
    ));
}

fn try_read_whole(archive: &[u8]) -> Result<(), TarError> {
    use crate::tar::fixture::read_pieces;
    use crate::tar::limit::TarLimits;
    read_pieces([archive], TarLimits::default()).map(|_| ())
}

#[test]
fn extended_headers_before_the_end_are_odd() {
    let seen = read(&[
        &ustar(b"a", b'0').done(),
        &pax(b'x', &[("path", b"b")]),
        &end(),
    ]);
    assert_eq!(seen.paths(), [b"a"]);
    assert_eq!(seen.warnings, [Warning::DanglingHeader]);
}
