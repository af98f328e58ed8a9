//! Unpacking's semantics: replacing, linking, removing.

use index_format::FileKind;

use crate::Warning;
use crate::tar::fixture::{end, gnu, pax, ustar};
use crate::tests::{absent, at, content, indexed, kind};

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    ustar(name.as_bytes(), b'0').with(content)
}

fn directory(name: &str) -> Vec<u8> {
    ustar(name.as_bytes(), b'5').put(100, b"0000750\0").done()
}

fn link(name: &str, target: &str) -> Vec<u8> {
    ustar(name.as_bytes(), b'1').link(target.as_bytes()).done()
}

fn symlink(name: &str, target: &str) -> Vec<u8> {
    ustar(name.as_bytes(), b'2').link(target.as_bytes()).done()
}

#[test]
fn root_entry_sets_the_roots_attributes() {
    let root = pax(
        b'x',
        &[
            ("uid", b"7"),
            ("mtime", b"1.5"),
            ("SCHILY.xattr.user.a", b"b"),
        ],
    );
    let (index, _) = indexed(&[&root, &directory("./"), &file("a", b"")]);
    let inode = index.inode(at(&index, "")).unwrap();
    assert_eq!(
        (inode.permissions, inode.uid, inode.implicit),
        (0o750, 7, false)
    );
    assert_eq!(inode.mtime.nanoseconds, 500_000_000);
    assert!(inode.has_xattrs);
}

#[test]
fn a_root_that_is_no_directory_is_skipped() {
    let (index, built) = indexed(&[&file(".", b"content"), &file("a", b"x")]);
    assert_eq!(index.inode_count(), 2);
    assert_eq!(built.warnings.first, [Warning::RootNotDirectory]);
}

#[test]
fn missing_parents_are_implicit() {
    let (index, _) = indexed(&[&file("/a/b/c", b"x"), &directory("a/")]);
    let attributes = |path| {
        let inode = index.inode(at(&index, path)).unwrap();
        (inode.implicit, inode.permissions)
    };
    assert_eq!(attributes("a"), (false, 0o750));
    assert_eq!(attributes("a/b"), (true, 0o755));
}

#[test]
fn later_entries_replace_earlier_ones() {
    let parts = [
        file("a", b"old"),
        file("a", b"newer"),
        file("d/x", b"gone"),
        file("d", b"now a file"),
    ];
    let stream = parts.concat();
    let (index, _) = indexed(&[&stream]);
    assert_eq!(content(&index, at(&index, "a"), &stream), b"newer");
    assert_eq!(content(&index, at(&index, "d"), &stream), b"now a file");
    assert!(absent(&index, "d/x"));
    assert_eq!(index.inode_count(), 3);
}

#[test]
fn a_directory_over_a_directory_keeps_its_children() {
    let (index, _) = indexed(&[&directory("d/"), &file("d/x", b""), &directory("d/")]);
    assert_eq!(kind(&index, "d/x"), FileKind::Regular);
    assert!(!index.inode(at(&index, "d")).unwrap().opaque);
}

#[test]
fn a_directory_over_a_file_hides_the_layers_below() {
    let (index, _) = indexed(&[&file("d", b""), &directory("d/")]);
    assert!(index.inode(at(&index, "d")).unwrap().opaque);
}

#[test]
fn hard_links_share_an_inode() {
    let stream = [
        file("a", b"content"),
        link("b", "./a"),
        link("sub/c", "/b"),
        file("a", b"new"),
    ]
    .concat();
    let (index, _) = indexed(&[&stream]);
    assert_eq!(at(&index, "b"), at(&index, "sub/c"));
    assert_ne!(at(&index, "a"), at(&index, "b"));
    assert_eq!(index.inode(at(&index, "b")).unwrap().nlink, 2);
    assert_eq!(content(&index, at(&index, "b"), &stream), b"content");
    assert_eq!(content(&index, at(&index, "a"), &stream), b"new");
}

#[test]
fn hard_links_to_missing_and_later_paths_are_foreign() {
    let (index, _) = indexed(&[
        &link("b", "below/file"),
        &link("c", "later"),
        &file("later", b""),
    ]);
    for (path, target) in [("b", &b"below/file"[..]), ("c", b"later")] {
        assert_eq!(kind(&index, path), FileKind::ForeignLink);
        assert_eq!(index.symlink_target(at(&index, path)).unwrap(), target);
    }
}

#[test]
fn hard_links_to_symlinks_and_fifos() {
    let fifo = ustar(b"fifo", b'6').put(329, b"                ").done();
    let (index, _) = indexed(&[
        &symlink("s", "x"),
        &link("t", "s"),
        &fifo,
        &link("fifo2", "fifo"),
    ]);
    assert_eq!(at(&index, "s"), at(&index, "t"));
    assert_eq!(at(&index, "fifo"), at(&index, "fifo2"));
    assert_eq!(kind(&index, "fifo"), FileKind::Fifo);
}

#[test]
fn a_hard_link_to_itself_is_skipped() {
    let stream = [file("a", b"x"), link("a", "./a"), link("b", "b")].concat();
    let (index, built) = indexed(&[&stream]);
    assert_eq!(content(&index, at(&index, "a"), &stream), b"x");
    assert!(absent(&index, "b"));
    let skipped = |path: &[u8]| Warning::SelfLink {
        path: path.to_vec(),
    };
    assert_eq!(built.warnings.first, [skipped(b"a"), skipped(b"b")]);
}

#[test]
fn looping_and_dangling_symlinks_are_fine() {
    let (index, _) = indexed(&[
        &symlink("a", "b"),
        &symlink("b", "a"),
        &symlink("self", "self"),
        &symlink("up", "../../../../etc"),
        &symlink("abs", "/no//where/."),
    ]);
    for (path, target) in [
        ("a", "b"),
        ("self", "self"),
        ("up", "../../../../etc"),
        ("abs", "/no//where/."),
    ] {
        assert_eq!(
            index.symlink_target(at(&index, path)).unwrap(),
            target.as_bytes()
        );
    }
}

#[test]
fn parents_that_are_symlinks_are_followed_within_the_root() {
    let (index, _) = indexed(&[
        &directory("usr/lib/"),
        &symlink("lib", "usr/lib"),
        &file("lib/a", b""),
        &symlink("usr/up", "../../../../usr"),
        &file("usr/up/b", b""),
    ]);
    assert_eq!(kind(&index, "usr/lib/a"), FileKind::Regular);
    assert_eq!(kind(&index, "usr/b"), FileKind::Regular);
    assert_eq!(kind(&index, "lib"), FileKind::Symlink);
}

#[test]
fn whiteouts_stay_as_markers() {
    let (index, _) = indexed(&[
        &file("d/.wh.gone", b""),
        &file(".wh.top", b"content is ignored"),
    ]);
    assert_eq!(kind(&index, "d/gone"), FileKind::Whiteout);
    assert_eq!(kind(&index, "top"), FileKind::Whiteout);
    assert!(absent(&index, ".wh.top"));
}

#[test]
fn a_whiteout_spares_the_same_layer() {
    for parts in [
        [
            file(".wh.a", b""),
            file("a", b"x"),
            file(".wh.d", b""),
            file("d/x", b""),
        ],
        [
            file("a", b"x"),
            file(".wh.a", b""),
            file("d/x", b""),
            file(".wh.d", b""),
        ],
    ] {
        let (index, _) = indexed(&[&parts.concat()]);
        assert_eq!(kind(&index, "a"), FileKind::Regular);
        assert!(index.inode(at(&index, "d")).unwrap().opaque);
    }
}

#[test]
fn opaque_directories() {
    let (index, _) = indexed(&[&file("d/.wh..wh..opq", b""), &file("d/x", b"")]);
    assert!(index.inode(at(&index, "d")).unwrap().opaque);
    assert_eq!(kind(&index, "d/x"), FileKind::Regular);
    let (index, _) = indexed(&[&file(".wh..wh..opq", b"")]);
    assert!(index.inode(at(&index, "")).unwrap().opaque);
}

#[test]
fn aufs_metadata_is_skipped() {
    let (index, built) = indexed(&[
        &directory(".wh..wh.plnk/"),
        &file(".wh..wh.plnk/12.34", b"content"),
        &file(".wh..wh.aufs", b""),
        &file("a", b""),
    ]);
    assert_eq!(index.inode_count(), 2);
    assert_eq!(built.warnings.first.len(), 3);
}

#[test]
fn character_device_0_0_is_a_whiteout() {
    let device = ustar(b"dir/null", b'3')
        .put(329, b"0000000\x000000000\0")
        .done();
    let (index, built) = indexed(&[&device]);
    assert_eq!(kind(&index, "dir/null"), FileKind::Whiteout);
    assert_eq!(
        built.warnings.first,
        [Warning::DeviceWhiteout {
            path: b"dir/null".to_vec()
        }]
    );
}

#[test]
fn devices_keep_their_numbers() {
    let device = ustar(b"null", b'3')
        .put(329, b"0000001\x000000003\0")
        .done();
    let (index, _) = indexed(&[&device]);
    let inode = index.inode(at(&index, "null")).unwrap();
    assert_eq!((inode.device.major, inode.device.minor), (1, 3));
    assert_eq!(inode.kind, FileKind::CharDevice);
}

#[test]
fn overlays_attributes_are_dropped() {
    let records: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.user.overlayed", b"kept"),
        ("SCHILY.xattr.security.capability", b"\x01\0\0\x02"),
    ];
    let (index, built) = indexed(&[&pax(b'x', records), &directory("d/")]);
    let names: Vec<Vec<u8>> = index
        .xattrs(at(&index, "d"))
        .unwrap()
        .map(|pair| pair.unwrap().0.to_vec())
        .collect();
    assert_eq!(names, [&b"security.capability"[..], b"user.overlayed"]);
    assert_eq!(built.warnings.first.len(), 2);
    assert!(!index.inode(at(&index, "d")).unwrap().opaque);
}

#[test]
fn sparse_files_have_extents_and_no_digest() {
    let map = b"00000000000\x0000000000005\x0000000020000\x0000000000005\0";
    let sparse = gnu(b"s", b'S')
        .put(386, map)
        .put(483, b"00000030000\0")
        .with(b"helloworld");
    let stream = [sparse, end()].concat();
    let (index, _) = indexed(&[&stream]);
    let inode = index.inode(at(&index, "s")).unwrap();
    assert_eq!((inode.size, inode.sparse), (0o30000, true));
    let content = content(&index, inode.number, &stream);
    assert_eq!(&content[..5], b"hello");
    assert_eq!(&content[8192..8197], b"world");
    assert!(content[5..8192].iter().all(|byte| *byte == 0));
}
