//! What programs see on a real mount. Needs root and /dev/fuse.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests wait for other processes and the kernel"
)]

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{
    FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink,
};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use fuse::MountOptions;
use fuse::requests::RequestKind;
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use rustix::fs::{XattrFlags, getxattr, lgetxattr, lgetxattr_query, listxattr, setxattr};

use crate::support::Served;
use crate::support::image::{Layer, Meta, pattern};

const BIG: usize = 3 << 20;

fn image() -> Vec<Layer> {
    let mut bottom = Layer::default();
    bottom
        .directory("", Meta::mode(0o755).mtime(1_500_000_000, 1))
        .directory("etc", Meta::mode(0o750).owner(7, 8).mtime(-2, 500_000_000))
        .file(
            "etc/passwd",
            Meta::mode(0o644).owner(1000, 100_000),
            b"root:x:0:0::/:/bin/sh\n",
        )
        .file("etc/gone", Meta::mode(0o644), b"removed above")
        .file("etc/replaced", Meta::mode(0o644), b"old")
        .file(
            "etc/empty",
            Meta::mode(0o600).mtime(-1_000_000_000, 999_999_999),
            b"",
        )
        .symlink("etc/link", "../etc/passwd")
        .file(
            "big",
            Meta::mode(0o444).mtime(4_000_000_000, 7),
            &pattern(1, BIG),
        )
        .hardlink("big-too", "big")
        .hardlink("etc/big-three", "big");
    bottom.directory("dev", Meta::mode(0o755));
    bottom.char_device("dev/null", Meta::mode(0o666), 1, 3);
    bottom.char_device("dev/odd", Meta::mode(0o600), 0xabc, 0x9_8765);
    bottom.insert(
        "dev/fifo",
        Meta::mode(0o622),
        index_format::NodeContent::Fifo,
    );
    bottom.insert(
        "dev/socket",
        Meta::mode(0o755),
        index_format::NodeContent::Socket,
    );
    bottom.insert(
        "dev/disk",
        Meta::mode(0o660).owner(0, 6),
        index_format::NodeContent::BlockDevice(index_format::Device {
            major: 8,
            minor: 300,
        }),
    );
    let mut top = Layer::default();
    top.directory("etc", Meta::mode(0o750).owner(7, 8).mtime(-2, 500_000_000))
        .file("etc/replaced", Meta::mode(0o600), b"new")
        .sparse(
            "sparse",
            Meta::mode(0o644),
            1 << 40,
            &[(4096, &pattern(2, 10_000)), ((1 << 40) - 5, b"tail!")],
        );
    top.tree.whiteout(b"etc", b"gone").unwrap();
    vec![bottom, top]
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn files_have_their_content_and_attributes() {
    let served = Served::new(image());
    let root = served.mount.path();
    assert_eq!(names(root), ["big", "big-too", "dev", "etc", "sparse"]);
    assert_eq!(
        names(&served.join("etc")),
        ["big-three", "empty", "link", "passwd", "replaced"],
        "no whiteout, and not what it removed"
    );
    assert_eq!(
        fs::read(served.join("etc/passwd")).unwrap(),
        b"root:x:0:0::/:/bin/sh\n"
    );
    assert_eq!(
        fs::read(served.join("etc/link")).unwrap(),
        b"root:x:0:0::/:/bin/sh\n"
    );
    assert_eq!(fs::read(served.join("etc/replaced")).unwrap(), b"new");
    assert_eq!(fs::read(served.join("etc/empty")).unwrap(), b"");
    assert_eq!(fs::read(served.join("big")).unwrap(), pattern(1, BIG));
    assert_eq!(
        fs::read_link(served.join("etc/link")).unwrap(),
        Path::new("../etc/passwd")
    );

    let stat = |path: &str| fs::symlink_metadata(served.join(path)).unwrap();
    let passwd = stat("etc/passwd");
    assert_eq!(passwd.mode(), 0o100_644);
    assert_eq!((passwd.uid(), passwd.gid()), (1000, 100_000));
    assert_eq!(
        (passwd.size(), passwd.blocks(), passwd.blksize()),
        (22, 8, 4096)
    );
    assert_eq!(passwd.nlink(), 1);
    for (seconds, nanoseconds) in [
        (passwd.mtime(), passwd.mtime_nsec()),
        (passwd.atime(), passwd.atime_nsec()),
        (passwd.ctime(), passwd.ctime_nsec()),
    ] {
        assert_eq!((seconds, nanoseconds), (1_600_000_000, 123_456_789));
    }
    let times = |path: &str| (stat(path).mtime(), stat(path).mtime_nsec());
    assert_eq!(times("etc"), (-2, 500_000_000));
    assert_eq!(times("etc/empty"), (-1_000_000_000, 999_999_999));
    assert_eq!(times("big"), (4_000_000_000, 7));

    let etc = stat("etc");
    assert_eq!((etc.mode(), etc.nlink()), (0o040_750, 2));
    assert_eq!(
        (stat("").mode(), stat("").nlink(), stat("").ino()),
        (0o040_755, 4, 1)
    );
    assert_eq!(
        (stat("etc/empty").size(), stat("etc/empty").blocks()),
        (0, 0)
    );
    let link = stat("etc/link");
    assert_eq!(
        (link.mode(), link.size(), link.blocks()),
        (0o120_777, 13, 0)
    );
    let big = stat("big");
    assert_eq!((big.size(), big.blocks()), (BIG as u64, BIG as u64 / 512));
    assert_eq!(big.nlink(), 3);
    assert_eq!(
        [stat("big-too").ino(), stat("etc/big-three").ino()],
        [big.ino(), big.ino()]
    );
}

#[test]
fn special_files_have_their_type_and_number() {
    let served = Served::new(image());
    let stat = |path: &str| fs::symlink_metadata(served.join(path)).unwrap();
    assert!(stat("dev/null").file_type().is_char_device());
    assert_eq!(stat("dev/null").rdev(), nix::sys::stat::makedev(1, 3));
    assert_eq!(
        stat("dev/odd").rdev(),
        nix::sys::stat::makedev(0xabc, 0x9_8765)
    );
    assert!(stat("dev/disk").file_type().is_block_device());
    assert_eq!(stat("dev/disk").rdev(), nix::sys::stat::makedev(8, 300));
    assert!(stat("dev/fifo").file_type().is_fifo());
    assert!(stat("dev/socket").file_type().is_socket());
    let open = |path: &str| File::open(served.join(path)).unwrap_err().kind();
    assert_eq!(
        open("dev/null"),
        ErrorKind::PermissionDenied,
        "the mount is nodev"
    );
    let options = MountOptions {
        nodev: false,
        ..MountOptions::default()
    };
    let served = Served::with(image(), 2, &options);
    assert_eq!(fs::read(served.join("dev/null")).unwrap(), b"");
}

#[test]
fn a_walk_sees_every_entry_once() {
    // More names than fit one answer, so that the stream goes on from positions.
    let mut layer = Layer::default();
    let mut expected = BTreeMap::new();
    for number in 0..5000 {
        let name = format!("file-{number}-{}", "x".repeat(number % 200));
        layer.file(&format!("many/{name}"), Meta::mode(0o644), name.as_bytes());
        expected.insert(name, ());
    }
    let served = Served::new(vec![layer]);
    for _ in 0..2 {
        let found = names(&served.join("many"));
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().eq(expected.keys()));
    }
    let last = expected.keys().next_back().unwrap();
    assert_eq!(
        fs::read(served.join("many").join(last)).unwrap(),
        last.as_bytes()
    );
}

#[test]
fn dot_entries_lead_where_they_should() {
    let served = Served::new(image());
    let mut dir = nix::dir::Dir::open(
        &served.join("etc"),
        nix::fcntl::OFlag::O_RDONLY,
        nix::sys::stat::Mode::empty(),
    )
    .unwrap();
    let found: Vec<_> = dir
        .iter()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().to_str().unwrap().to_owned(), entry.ino())
        })
        .collect();
    let etc = fs::metadata(served.join("etc")).unwrap().ino();
    assert_eq!(found[0], (".".to_owned(), etc));
    assert_eq!(found[1], ("..".to_owned(), 1));
}

#[test]
fn holes_are_zeros_and_can_be_skipped() {
    let served = Served::new(image());
    let path = served.join("sparse");
    let mut file = File::open(&path).unwrap();
    let stat = file.metadata().unwrap();
    assert_eq!(stat.size(), 1 << 40);
    assert_eq!(stat.blocks(), 24, "10,005 bytes in blocks of 4096");
    let mut bytes = vec![1; 20_000];
    file.read_exact(&mut bytes).unwrap();
    let mut expected = vec![0; 20_000];
    expected[4096..14_096].copy_from_slice(&pattern(2, 10_000));
    assert_eq!(bytes, expected);
    file.seek(SeekFrom::End(-10)).unwrap();
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).unwrap();
    assert_eq!(tail, b"\0\0\0\0\0tail!");
    let mut middle = vec![1; 4096];
    file.read_exact_at(&mut middle, 1 << 39).unwrap();
    assert_eq!(middle, vec![0; 4096]);

    let seek = |offset, whence| lseek(&file, offset, whence);
    assert_eq!(seek(0, Whence::SeekData), Ok(4096));
    assert_eq!(seek(5000, Whence::SeekHole), Ok(14_096));
    assert_eq!(seek(14_096, Whence::SeekData), Ok((1 << 40) - 5));
    assert_eq!(seek((1 << 40) - 5, Whence::SeekHole), Ok(1 << 40));
    assert_eq!(seek(1 << 40, Whence::SeekData), Err(Errno::ENXIO));
    let big = File::open(served.join("big")).unwrap();
    assert_eq!(lseek(&big, 100, Whence::SeekHole), Ok(BIG as i64));
}

#[test]
fn xattrs_are_served() {
    let mut layer = Layer::default();
    // cap_net_raw=ep, as in `struct vfs_cap_data` of linux/capability.h; the kernel looks at it.
    let value = [0x0200_0001u32, 1 << 13, 0, 0, 0]
        .map(u32::to_le_bytes)
        .concat();
    let long = pattern(3, 3000);
    layer
        .file(
            "cap",
            Meta::mode(0o755).xattr("security.capability", &value),
            b"x",
        )
        .file(
            "two",
            Meta::mode(0o644).xattr("user.b", b"").xattr("user.a", b"1"),
            b"x",
        )
        .file("long", Meta::mode(0o644).xattr("user.long", &long), b"x")
        .file("none", Meta::mode(0o644), b"x");
    let served = Served::new(vec![layer]);
    let get = |path: &str, name: &str| {
        let mut buffer = vec![0; 100];
        getxattr(served.join(path), name, buffer.as_mut_slice()).map(|length| {
            buffer.truncate(length);
            buffer
        })
    };
    assert_eq!(get("cap", "security.capability"), Ok(value));
    assert_eq!(get("two", "user.a"), Ok(b"1".to_vec()));
    assert_eq!(get("two", "user.b"), Ok(Vec::new()));
    use rustix::io::Errno;
    assert_eq!(get("two", "user.c"), Err(Errno::NODATA));
    assert_eq!(get("none", "user.a"), Err(Errno::NODATA));
    assert_eq!(get("none", "trusted.overlay.opaque"), Err(Errno::NODATA));

    assert_eq!(lgetxattr_query(served.join("long"), "user.long"), Ok(3000));
    for (room, expected) in [
        (2999, Err(Errno::RANGE)),
        (3000, Ok(3000)),
        (4000, Ok(3000)),
    ] {
        let mut buffer = vec![0; room];
        let answer = lgetxattr(served.join("long"), "user.long", buffer.as_mut_slice());
        assert_eq!(answer, expected);
        assert!(answer.is_err() || buffer[..3000] == long);
    }
    let mut list = vec![0; 100];
    let length = listxattr(served.join("two"), list.as_mut_slice()).unwrap();
    assert_eq!(&list[..length], b"user.a\0user.b\0");
    assert_eq!(listxattr(served.join("none"), list.as_mut_slice()), Ok(0));
}

#[test]
fn a_tree_without_xattrs_is_asked_once() {
    let served = Served::new(image());
    let mut buffer = vec![0; 100];
    for path in ["big", "etc/passwd", "etc/empty"] {
        let answer = getxattr(served.join(path), "user.a", buffer.as_mut_slice());
        assert_eq!(answer, Err(rustix::io::Errno::OPNOTSUPP));
        let answer = listxattr(served.join(path), buffer.as_mut_slice());
        assert!(matches!(answer, Ok(0) | Err(rustix::io::Errno::OPNOTSUPP)));
    }
    assert_eq!(served.requests.of(RequestKind::Getxattr), 1);
    assert!(served.requests.of(RequestKind::Listxattr) <= 1);
}

#[test]
fn missing_names_are_missing() {
    let served = Served::new(image());
    let error = |path: &str| fs::metadata(served.join(path)).unwrap_err();
    assert_eq!(error("nothing").kind(), ErrorKind::NotFound);
    assert_eq!(error("etc/gone").kind(), ErrorKind::NotFound);
    assert_eq!(error("big/inside").kind(), ErrorKind::NotADirectory);
    assert_eq!(error(&"x".repeat(255)).kind(), ErrorKind::NotFound);
    assert_eq!(
        error(&"x".repeat(256)).raw_os_error(),
        Some(Errno::ENAMETOOLONG as i32)
    );
    let lookups = served.requests.of(RequestKind::Lookup);
    for _ in 0..10 {
        assert_eq!(error("nothing").kind(), ErrorKind::NotFound);
        assert_eq!(error("etc/gone").kind(), ErrorKind::NotFound);
    }
    assert_eq!(
        served.requests.of(RequestKind::Lookup),
        lookups,
        "absence is cached"
    );
}

#[test]
fn nothing_can_be_changed() {
    let served = Served::new(image());
    let path = |path: &str| served.join(path);
    let read_only = |result: io::Result<()>| {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    };
    read_only(fs::write(path("etc/passwd"), "x"));
    read_only(fs::write(path("new"), "x"));
    read_only(fs::create_dir(path("new")));
    read_only(fs::remove_file(path("big")));
    read_only(fs::remove_dir(path("dev")));
    read_only(fs::rename(path("big"), path("bigger")));
    read_only(fs::hard_link(path("big"), path("bigger")));
    read_only(symlink("x", path("new")));
    read_only(fs::set_permissions(
        path("big"),
        PermissionsExt::from_mode(0o000),
    ));
    read_only(File::options().append(true).open(path("big")).map(drop));
    let set = setxattr(path("big"), "user.a", b"1", XattrFlags::empty());
    assert_eq!(set, Err(rustix::io::Errno::ROFS));
}

/// Copies of /usr/bin/id, setuid root and plain.
fn id_image() -> Vec<Layer> {
    let id = fs::read("/usr/bin/id").unwrap();
    let mut layer = Layer::default();
    layer
        .directory("", Meta::mode(0o755))
        .file("setuid", Meta::mode(0o4755), &id)
        .file("secret", Meta::mode(0o600), b"secret")
        .file("public", Meta::mode(0o644), b"public");
    vec![layer]
}

fn effective_user(served: &Served) -> String {
    let output = Command::new(served.join("setuid"))
        .arg("-u")
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn setuid_counts_only_where_it_is_allowed() {
    let served = Served::new(id_image());
    assert_eq!(
        fs::metadata(served.join("setuid")).unwrap().mode(),
        0o104_755
    );
    assert_eq!(effective_user(&served), "65534");
    let options = MountOptions {
        nosuid: false,
        ..MountOptions::default()
    };
    assert_eq!(effective_user(&Served::with(id_image(), 1, &options)), "0");
}

#[test]
fn the_kernel_checks_permissions() {
    let served = Served::new(id_image());
    let read = |name: &str| {
        let output = Command::new("cat")
            .arg(served.join(name))
            .uid(65534)
            .gid(65534)
            .output();
        output.unwrap().stdout
    };
    assert_eq!(read("public"), b"public");
    assert_eq!(read("secret"), b"");
    assert_eq!(fs::read(served.join("secret")).unwrap(), b"secret");
}

fn walk(dir: &Path, found: &mut Vec<(Vec<u8>, u64, i64)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let stat = fs::symlink_metadata(&path).unwrap();
        found.push((
            path.as_os_str().as_bytes().to_vec(),
            stat.size(),
            stat.mtime_nsec(),
        ));
        if stat.is_dir() {
            walk(&path, found);
        } else if stat.is_symlink() {
            fs::read_link(&path).unwrap();
        } else if stat.is_file() && stat.size() < 1 << 30 {
            assert_eq!(fs::read(&path).unwrap().len() as u64, stat.size());
        }
    }
}

#[test]
fn a_warm_tree_asks_nothing() {
    let served = Served::new(image());
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    walk(served.mount.path(), &mut cold);
    assert!(fs::metadata(served.join("nothing")).is_err());
    let requests = served.requests.answered();
    assert!(requests > 0);
    walk(served.mount.path(), &mut warm);
    assert!(fs::metadata(served.join("nothing")).is_err());
    assert_eq!(cold, warm);
    let kinds = [
        RequestKind::Lookup,
        RequestKind::Getattr,
        RequestKind::Read,
        RequestKind::Open,
    ];
    assert_eq!(
        served.requests.answered(),
        requests,
        "{:?}",
        kinds.map(|kind| (kind, served.requests.of(kind)))
    );
    assert_eq!(
        served.requests.of(RequestKind::Readdir),
        0,
        "always with attributes"
    );
    assert!(
        served.requests.of(RequestKind::Open) <= 2,
        "open and opendir are asked once each"
    );
    assert_eq!(
        served.requests.of(RequestKind::Lookup),
        1,
        "attributes came with the names"
    );
}

#[test]
fn direct_reads_have_the_right_bytes() {
    let served = Served::new(image());
    let file = File::options()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_DIRECT.bits())
        .open(served.join("big"))
        .unwrap();
    let expected = pattern(1, BIG);
    let mut bytes = vec![0; 300_000];
    for offset in [0, 1, 4096, BIG - 300_000, BIG - 10] {
        let length = file.read_at(&mut bytes, offset as u64).unwrap();
        assert_eq!(length, bytes.len().min(BIG - offset));
        assert!(bytes[..length] == expected[offset..offset + length]);
    }
    assert_eq!(file.read_at(&mut bytes, BIG as u64).unwrap(), 0);
}

#[test]
fn the_filesystem_is_full() {
    let served = Served::new(image());
    let stat = nix::sys::statvfs::statvfs(served.mount.path()).unwrap();
    assert_eq!(
        (
            stat.blocks_free(),
            stat.blocks_available(),
            stat.files_free()
        ),
        (0, 0, 0)
    );
    assert_eq!(stat.files(), served.index.inode_count().into());
    assert!(stat.blocks() * stat.fragment_size() >= BIG as u64);
    assert_eq!(stat.name_max(), 255);
}

#[test]
fn an_overlay_above_shows_the_tree_and_takes_changes() {
    let served = Served::new(image());
    let scratch = tempfile::tempdir().unwrap();
    for dir in ["upper", "work", "merged"] {
        fs::create_dir(scratch.path().join(dir)).unwrap();
    }
    let merged = scratch.path().join("merged");
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        served.mount.path().display(),
        scratch.path().join("upper").display(),
        scratch.path().join("work").display()
    );
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(
        Some("overlay"),
        &merged,
        Some("overlay"),
        flags,
        Some(options.as_str()),
    )
    .unwrap();
    let result = std::panic::catch_unwind(|| {
        assert_eq!(names(&merged.join("etc")).len(), 5);
        fs::write(merged.join("etc/passwd"), "changed").unwrap();
        assert_eq!(fs::read(merged.join("etc/passwd")).unwrap(), b"changed");
        fs::remove_file(merged.join("big")).unwrap();
        assert!(!merged.join("big").exists());
        // The overlay is not nodev, whatever the mount below is.
        assert_eq!(fs::read(merged.join("dev/null")).unwrap(), b"");
    });
    nix::mount::umount2(&merged, nix::mount::MntFlags::MNT_DETACH).unwrap();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
    assert_eq!(
        fs::read(served.join("etc/passwd")).unwrap(),
        b"root:x:0:0::/:/bin/sh\n"
    );
}

#[test]
fn reads_that_wait_cannot_congest_the_mount() {
    let served = Served::new(image());
    assert_eq!(
        names(&served.join("dev")).len(),
        5,
        "FUSE_INIT has been answered"
    );
    for limit in ["max_background", "congestion_threshold"] {
        assert_eq!(served.mount.control(limit), 65535, "{limit}");
    }
}

#[test]
fn a_settled_mount_closes_without_a_request() {
    let served = Served::new(image());
    fuse::settle(&served.index, served.mount.path()).unwrap();
    assert_eq!(served.requests.of(RequestKind::Other), 1, "the one flush");
    let requests = served.requests.of(RequestKind::Open);
    for path in ["big", "etc/passwd", "big"] {
        drop(File::open(served.join(path)).unwrap());
    }
    assert_eq!(served.requests.of(RequestKind::Other), 1);
    assert_eq!(served.requests.of(RequestKind::Open), requests);
}
