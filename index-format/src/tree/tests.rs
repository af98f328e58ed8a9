use crate::directory::is_legal_name;
use crate::inode::{FileKind, Timestamp};
use crate::limit::{MAX_DEPTH, MAX_SYMLINK_HOPS};
use crate::offset::StreamOffset;
use crate::tree::{FileData, Linked, Node, NodeContent, Tree, TreeError};

fn node(content: NodeContent) -> Node {
    Node {
        permissions: 0o755,
        uid: 0,
        gid: 0,
        mtime: Timestamp::default(),
        xattrs: vec![],
        content,
    }
}

fn file() -> Node {
    node(NodeContent::Regular {
        size: 1,
        data: FileData::Whole(StreamOffset(0)),
    })
}

fn directory() -> Node {
    node(NodeContent::Directory)
}

fn symlink(target: &[u8]) -> Node {
    node(NodeContent::Symlink {
        target: target.to_vec(),
    })
}

#[test]
fn names_are_those_of_the_kernel() {
    assert!(is_legal_name(b"a") && is_legal_name(&[0xff; 255]) && is_legal_name(b"..."));
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'a'; 256]] {
        assert!(!is_legal_name(name), "{name:?}");
        let refused = Tree::new().whiteout(b"", name);
        assert!(
            matches!(refused, Err(TreeError::IllegalPath { .. })),
            "{name:?}"
        );
    }
}

#[test]
fn unclean_paths_are_refused() {
    for path in [&b"/a"[..], b"a/", b"a//b", b"./a", b"a/../b", b".."] {
        let mut tree = Tree::new();
        let illegal = |result| matches!(result, Err(TreeError::IllegalPath { .. }));
        assert!(illegal(tree.insert(path, file()).map(|_| ())), "{path:?}");
        assert!(illegal(tree.hardlink(path, b"x").map(|_| ())), "{path:?}");
        assert!(illegal(tree.hardlink(b"x", path).map(|_| ())), "{path:?}");
        assert!(illegal(tree.opaque(path)), "{path:?}");
        assert_eq!(tree.node_count(), 1, "{path:?}");
    }
}

#[test]
fn a_whiteout_gives_way_to_an_entry_of_its_name_in_any_order() {
    for entry_first in [true, false] {
        let mut tree = Tree::new();
        if entry_first {
            tree.insert(b"file", file()).unwrap();
            tree.insert(b"directory/x", file()).unwrap();
        }
        tree.whiteout(b"", b"file").unwrap();
        tree.whiteout(b"", b"directory").unwrap();
        if !entry_first {
            tree.insert(b"file", file()).unwrap();
            tree.insert(b"directory/x", file()).unwrap();
        }
        assert_eq!(tree.kind_at(b"file").unwrap(), Some(FileKind::Regular));
        assert_eq!(
            tree.kind_at(b"directory/x").unwrap(),
            Some(FileKind::Regular)
        );
        let directory = tree.find(b"directory").unwrap().unwrap();
        assert!(tree.node(directory).opaque);
        // Before the whiteout, the directory below was only passed through.
        assert_eq!(tree.node(directory).implicit, entry_first);
    }
}

#[test]
fn a_directory_over_a_file_hides_the_lower_directory() {
    let mut tree = Tree::new();
    tree.insert(b"path", file()).unwrap();
    let path = tree.insert(b"path", directory()).unwrap();
    assert!(tree.node(path).opaque);
}

#[test]
fn hardlinks_share_inodes_or_wait_for_the_merge() {
    let mut tree = Tree::new();
    let target = tree.insert(b"target", file()).unwrap();
    tree.insert(b"directory", directory()).unwrap();
    assert_eq!(
        tree.hardlink(b"deep/link", b"target").unwrap(),
        Linked::Local(target)
    );
    let Linked::Foreign(foreign) = tree.hardlink(b"foreign", b"lower").unwrap() else {
        panic!("the layer has no such path")
    };
    assert_eq!(
        tree.hardlink(b"again", b"foreign").unwrap(),
        Linked::Foreign(foreign)
    );
    let refused = tree.hardlink(b"link", b"directory");
    assert!(
        matches!(refused, Err(TreeError::LinkToDirectory { .. })),
        "{refused:?}"
    );
}

#[test]
fn the_root_stays_a_directory() {
    let mut tree = Tree::new();
    assert_eq!(tree.insert(b"", file()), Err(TreeError::RootNotDirectory));
    assert_eq!(tree.hardlink(b"", b"x"), Err(TreeError::RootNotDirectory));
    tree.insert(b"", directory()).unwrap();
}

#[test]
fn values_that_no_file_can_have_are_refused() {
    let device = |major, minor| NodeContent::CharDevice(crate::Device { major, minor });
    let mut nanoseconds = file();
    nanoseconds.mtime.nanoseconds = 1_000_000_000;
    let mut permissions = file();
    permissions.permissions = 0o10000;
    let with_xattr = |name: &[u8], length| {
        let mut node = file();
        node.xattrs = vec![(name.to_vec(), vec![0; length])];
        node
    };
    for node in [
        nanoseconds,
        permissions,
        symlink(b""),
        symlink(b"a\0b"),
        symlink(&[b'a'; 4096]),
        node(device(0, 0)),
        with_xattr(b"", 0),
        with_xattr(&[b'a'; 256], 0),
        with_xattr(b"user.large", 65537),
        with_xattr(b"trusted.overlay.opaque", 1),
        with_xattr(b"user.overlay.redirect", 1),
    ] {
        let refused = Tree::new().insert(b"path", node.clone());
        assert!(
            matches!(refused, Err(TreeError::IllegalNode { .. })),
            "{node:?}"
        );
    }
    let mut tree = Tree::new();
    tree.insert(b"null", node(device(1, 3))).unwrap();
    tree.insert(b"large", with_xattr(b"user.large", 65536))
        .unwrap();
}

#[test]
fn symlink_loops_and_depth_have_limits() {
    let mut tree = Tree::new();
    tree.insert(b"loop", symlink(b"loop")).unwrap();
    let looped = tree.insert(b"loop/file", file());
    assert!(
        matches!(looped, Err(TreeError::SymlinkLoop { .. })),
        "{looped:?}"
    );
    // Every hop is allowed that the kernel allows, and no more.
    for hop in 0..=MAX_SYMLINK_HOPS {
        let target = if hop == 0 {
            "end".to_owned()
        } else {
            format!("hop{}", hop - 1)
        };
        tree.insert(format!("hop{hop}").as_bytes(), symlink(target.as_bytes()))
            .unwrap();
    }
    let last = MAX_SYMLINK_HOPS - 1;
    tree.insert(format!("hop{last}/file").as_bytes(), file())
        .unwrap();
    assert_eq!(tree.kind_at(b"end/file").unwrap(), Some(FileKind::Regular));
    assert!(
        tree.insert(format!("hop{}/file", last + 1).as_bytes(), file())
            .is_err()
    );

    let deep = vec!["d"; MAX_DEPTH as usize].join("/");
    tree.insert(deep.as_bytes(), directory()).unwrap();
    let deeper = tree.insert(format!("{deep}/d").as_bytes(), directory());
    assert!(
        matches!(deeper, Err(TreeError::TooDeep { .. })),
        "{deeper:?}"
    );
}
