//! Header fields, PAX records and GNU extensions.

use crate::tar::entry::{EntryKind, EntryTime};
use crate::tar::error::{TarError, Warning};
use crate::tar::fixture::{end, gnu, pax, read, refusal, ustar, v7};

#[test]
fn ustar_prefix_and_numbers() {
    let header = ustar(b"name", b'0')
        .put(345, b"long/dir")
        .put(100, b"0104755\0")
        .put(108, b"0001750\0")
        .put(116, b"0000144\0")
        .put(136, b"14371573301\0");
    let seen = read(&[&header.with(b"hello"), &end()]);
    let entry = seen.one();
    assert_eq!(entry.path, b"long/dir/name");
    assert_eq!(entry.permissions, 0o4755);
    assert_eq!((entry.uid, entry.gid), (1000, 100));
    assert_eq!(
        entry.mtime,
        EntryTime {
            seconds: 0o14371573301,
            nanoseconds: 0
        }
    );
    assert_eq!(seen.content(b"long/dir/name"), b"hello");
    assert!(seen.warnings.is_empty());
}

#[test]
fn v7_has_no_prefix_and_directories_by_slash() {
    let seen = read(&[
        &v7(b"dir/", 0).put(345, b"no prefix").done(),
        &v7(b"file", 0).with(b"x"),
        &v7(b"hard", b'1').link(b"file").size(77).done(),
        &end(),
    ]);
    assert_eq!(seen.paths(), [&b"dir"[..], b"file", b"hard"]);
    assert_eq!(seen.entries[0].0.kind, EntryKind::Directory);
    assert_eq!(seen.content(b"file"), b"x");
    assert_eq!(
        seen.entries[2].0.kind,
        EntryKind::Hardlink(b"file".to_vec())
    );
}

#[test]
fn old_regular_type_in_ustar() {
    let seen = read(&[
        &ustar(b"a", 0).with(b"abc"),
        &ustar(b"d/", 0).size(5).done(),
    ]);
    assert_eq!(seen.content(b"a"), b"abc");
    assert_eq!(seen.entries[1].0.kind, EntryKind::Directory);
}

#[test]
fn contiguous_file_is_regular() {
    assert_eq!(
        read(&[&ustar(b"a", b'7').with(b"abc")]).content(b"a"),
        b"abc"
    );
}

#[test]
fn star_has_a_shorter_prefix_and_times_behind_it() {
    let header = ustar(b"name", b'0')
        .put(345, &[b'p'; 131])
        .put(476, b"00000000001 00000000002 ")
        .put(508, b"tar\0");
    let seen = read(&[&header.done()]);
    assert_eq!(seen.one().path, [&[b'p'; 131][..], b"/name"].concat());
}

#[test]
fn gnu_times_are_no_prefix() {
    let header = gnu(b"name", b'0').put(345, b"14371573301\x0014371573301\0");
    assert_eq!(read(&[&header.done()]).one().path, b"name");
}

#[test]
fn prefix_in_a_gnu_header_of_old_go() {
    let header = gnu(b"name", b'0').put(345, b"some/prefix/dir");
    assert_eq!(read(&[&header.done()]).one().path, b"some/prefix/dir/name");
}

#[test]
fn signed_and_unsigned_checksums() {
    let header = ustar(b"caf\xe9\xff\xfe", b'0');
    assert_ne!(header.clone().done(), header.clone().done_signed());
    assert_eq!(read(&[&header.clone().done()]), {
        let mut seen = read(&[&header.clone().done_signed()]);
        seen.framing = header.clone().done();
        seen
    });
    let wrong = header.put(148, b"0000001\0");
    let mut block = wrong.clone().done();
    block[0] ^= 1;
    assert_eq!(refusal(&[&block]), TarError::Checksum { offset: 0 });
}

#[test]
fn fifo_with_blank_device_numbers() {
    let blank = ustar(b"spaces", b'6').put(329, b"                ");
    let nul = ustar(b"nul", b'6').put(329, &[0; 16]);
    let seen = read(&[&blank.done(), &nul.done()]);
    assert_eq!(seen.entries[0].0.kind, EntryKind::Fifo);
    assert_eq!(seen.entries[1].0.kind, EntryKind::Fifo);
}

#[test]
fn blank_numeric_fields_are_zero() {
    let header = ustar(b"a", b'0')
        .put(100, b"        ")
        .put(108, &[0; 8])
        .put(116, b"       \0")
        .put(124, b"            ")
        .put(136, &[0; 12]);
    let seen = read(&[&header.done()]);
    let entry = seen.one();
    assert_eq!((entry.permissions, entry.uid, entry.gid), (0, 0, 0));
    assert_eq!(entry.mtime, EntryTime::default());
    assert_eq!(
        entry.kind,
        EntryKind::Regular {
            size: 0,
            extents: vec![],
            sparse: false
        }
    );
}

#[test]
fn devices() {
    let char_device = ustar(b"null", b'3').put(329, b"0000001\x000000003\0");
    let block_device = ustar(b"loop", b'4').put(329, b"0000007\x000000011\0");
    let wide = pax(
        b'x',
        &[
            ("SCHILY.devmajor", b"4095"),
            ("SCHILY.devminor", b"1048575"),
        ],
    );
    let seen = read(&[
        &char_device.done(),
        &block_device.done(),
        &wide,
        &ustar(b"wide", b'3').put(329, b"7777777777777777").done(),
    ]);
    assert_eq!(seen.entries[0].0.kind, EntryKind::CharDevice(1, 3));
    assert_eq!(seen.entries[1].0.kind, EntryKind::BlockDevice(7, 9));
    assert_eq!(
        seen.entries[2].0.kind,
        EntryKind::CharDevice(4095, 1_048_575)
    );
}

#[test]
fn base256_numbers_and_negative_times() {
    let mut large = [0; 12];
    large[0] = 0x80;
    large[10] = 2;
    let negative = [0xff; 12];
    let header = gnu(b"a", b'0')
        .put(108, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe])
        .put(116, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe])
        .put(136, &negative)
        .put(124, &large);
    let seen = read(&[&header.done(), &[7; 512]]);
    let entry = seen.one();
    assert_eq!((entry.uid, entry.gid), (u32::MAX - 1, u32::MAX - 1));
    assert_eq!(
        entry.mtime,
        EntryTime {
            seconds: -1,
            nanoseconds: 0
        }
    );
    assert_eq!(seen.content(b"a"), [7; 512]);
}

#[test]
fn ids_that_chown_would_ignore_or_cut() {
    let ignored = pax(b'x', &[("uid", b"4294967295"), ("gid", b"-1")]);
    let seen = read(&[&ignored, &ustar(b"a", b'0').done()]);
    assert_eq!((seen.one().uid, seen.one().gid), (0, 0));
    let cut = pax(b'x', &[("uid", b"4294967296")]);
    let error = refusal(&[&cut, &ustar(b"a", b'0').done()]);
    assert_eq!(
        error,
        TarError::Field {
            offset: 1024,
            field: "owner"
        }
    );
}

#[test]
fn pax_replaces_what_the_header_says() {
    let long_path = b"dir/".repeat(100);
    let local = pax(
        b'x',
        &[
            ("path", &long_path),
            ("size", b"3"),
            ("uid", b"70000"),
            ("gid", b"2097152"),
            ("mtime", b"-1.25"),
            ("comment", b"nothing"),
            (
                "SCHILY.xattr.security.capability",
                b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0=\n\0",
            ),
            ("SCHILY.xattr.user.a", b"b"),
        ],
    );
    let seen = read(&[
        &local,
        &ustar(b"short", b'0').size(9).done(),
        &[b'x'; 3],
        &[0; 509],
    ]);
    let entry = seen.one();
    assert_eq!(entry.path, &long_path[..399]);
    assert_eq!((entry.uid, entry.gid), (70_000, 2_097_152));
    assert_eq!(
        entry.mtime,
        EntryTime {
            seconds: -2,
            nanoseconds: 750_000_000
        }
    );
    assert_eq!(entry.xattrs[0].0, b"security.capability");
    assert_eq!(
        entry.xattrs[0].1,
        b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0=\n\0"
    );
    assert_eq!(entry.xattrs[1], (b"user.a".to_vec(), b"b".to_vec()));
    assert_eq!(seen.content(&long_path[..399]), b"xxx");
}

#[test]
fn pax_header_holds_for_one_entry() {
    let local = pax(b'x', &[("path", b"long"), ("uid", b"5")]);
    let seen = read(&[&local, &ustar(b"a", b'0').done(), &ustar(b"b", b'0').done()]);
    assert_eq!(seen.paths(), [&b"long"[..], b"b"]);
    assert_eq!((seen.entries[0].0.uid, seen.entries[1].0.uid), (5, 0));
}

#[test]
fn pax_link_target() {
    let local = pax(b'x', &[("linkpath", &[b'/'; 300])]);
    let seen = read(&[&local, &ustar(b"a", b'2').link(b"short").done()]);
    assert_eq!(seen.one().kind, EntryKind::Symlink(vec![b'/'; 300]));
}

#[test]
fn pax_global_holds_until_it_is_deleted() {
    let seen = read(&[
        &pax(
            b'g',
            &[
                ("uid", b"7"),
                ("mtime", b"1.5"),
                ("SCHILY.xattr.user.g", b"v"),
            ],
        ),
        &ustar(b"a", b'0').done(),
        &pax(b'x', &[("uid", b"8")]),
        &ustar(b"b", b'0').done(),
        &pax(b'x', &[("uid", b"")]),
        &ustar(b"c", b'0').done(),
        &pax(b'g', &[("uid", b""), ("gid", b"9")]),
        &ustar(b"d", b'0').done(),
    ]);
    let ids: Vec<_> = seen
        .entries
        .iter()
        .map(|(entry, _)| (entry.uid, entry.gid))
        .collect();
    assert_eq!(ids, [(7, 0), (8, 0), (0, 0), (0, 9)]);
    for (entry, _) in &seen.entries {
        assert_eq!(
            entry.mtime,
            EntryTime {
                seconds: 1,
                nanoseconds: 500_000_000
            }
        );
        assert_eq!(entry.xattrs, [(b"user.g".to_vec(), b"v".to_vec())]);
    }
    assert!(seen.warnings.contains(&Warning::GlobalRecord {
        key: b"uid".to_vec()
    }));
}

#[test]
fn git_archives_global_comment_is_no_warning() {
    let seen = read(&[
        &pax(b'g', &[("comment", b"0123abc")]),
        &ustar(b"a", b'0').done(),
        &end(),
    ]);
    assert!(seen.warnings.is_empty(), "{:?}", seen.warnings);
}

#[test]
fn gnu_long_name_and_link() {
    let name = b"n/".repeat(200);
    let target = b"t/".repeat(200);
    let seen = read(&[
        &gnu(b"././@LongLink", b'L').with(&[&name[..], b"\0"].concat()),
        &gnu(b"././@LongLink", b'K').with(&[&target[..], b"\0"].concat()),
        &gnu(b"cut", b'2').link(b"cut").done(),
        &gnu(b"next", b'0').done(),
    ]);
    assert_eq!(seen.paths(), [&name[..399], b"next"]);
    assert_eq!(seen.entries[0].0.kind, EntryKind::Symlink(target));
}

#[test]
fn names_that_are_not_utf8() {
    let seen = read(&[
        &pax(b'x', &[("path", b"\xff\x80")]),
        &ustar(b"caf\xe9", b'5').done(),
    ]);
    assert_eq!(seen.one().path, b"\xff\x80");
    assert_eq!(
        read(&[&ustar(b"caf\xe9", b'5').done()]).one().path,
        b"caf\xe9"
    );
}

#[test]
fn libarchive_attributes() {
    let local = pax(b'x', &[("LIBARCHIVE.xattr.user.%3D", b"AAE=")]);
    let seen = read(&[&local, &ustar(b"a", b'0').done()]);
    assert_eq!(seen.one().xattrs, [(b"user.=".to_vec(), vec![0, 1])]);
}

#[test]
fn bad_numbers_name_their_field() {
    let cases: [(usize, &[u8], u8, &str); 6] = [
        (100, b"rwxr-xr-", b'0', "mode"),
        (108, b"root", b'0', "owner"),
        (116, b"0000009\0", b'0', "group"),
        (124, &[0xff; 12], b'0', "size"),
        (136, b"yesterday", b'0', "modification time"),
        (329, &[0xff; 8], b'3', "device number"),
    ];
    for (at, bytes, flag, field) in cases {
        let error = refusal(&[&ustar(b"a", flag).put(at, bytes).done()]);
        assert_eq!(error, TarError::Field { offset: 0, field });
    }
}
