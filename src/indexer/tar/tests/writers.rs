//! Archives of other writers: the `tar` crate and GNU tar.

use std::collections::BTreeMap;
use std::process::Command;

use proptest::prelude::*;

use crate::tar::entry::{EntryKind, EntryTime};
use crate::tar::fixture::read;

/// An entry as a test wants it written.
#[derive(Debug, Clone)]
struct Wanted {
    components: Vec<Vec<u8>>,
    kind: WantedKind,
    mode: u32,
    uid: u64,
    gid: u64,
    mtime: u64,
    xattrs: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Clone)]
enum WantedKind {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Hardlink(Vec<u8>),
    Device(u32, u32),
    Fifo,
}

impl Wanted {
    fn path(&self) -> Vec<u8> {
        self.components.join(&b'/')
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![3 => b'a'..=b'e', 1 => 1_u8..=255];
    let short = prop::collection::vec(byte.clone(), 1..4);
    let long = prop::collection::vec(byte, 80..200);
    let usable = |name: &Vec<u8>| !name.contains(&b'/') && name != b"." && name != b"..";
    prop_oneof![5 => short, 1 => long].prop_filter("a usable name", usable)
}

/// The `tar` crate cuts a long path where it stops being UTF-8 and takes no empty rest, so each
/// begins with a plain name.
fn path() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let names = prop::collection::vec(name(), 0..5);
    names.prop_map(|names| [vec![b"top".to_vec()], names].concat())
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let joined = || path().prop_map(|components| components.join(&b'/'));
    let kind = prop_oneof![
        Just(WantedKind::Directory),
        prop::collection::vec(any::<u8>(), 0..1500).prop_map(WantedKind::File),
        joined().prop_map(WantedKind::Symlink),
        joined().prop_map(WantedKind::Hardlink),
        (0_u32..4096, 0_u32..1_000_000).prop_map(|(major, minor)| WantedKind::Device(major, minor)),
        Just(WantedKind::Fifo),
    ];
    let id = prop_oneof![0_u64..3000, 0_u64..u64::from(u32::MAX)];
    let value = prop::collection::vec(any::<u8>(), 1..40);
    let xattrs = prop::collection::btree_map("user\\.[a-c=]{1,3}", value, 0..2);
    let usable = |key: &BTreeMap<String, Vec<u8>>| !key.keys().any(|key| key.contains('='));
    let xattrs = xattrs.prop_filter("PAX keys have no =", usable);
    (
        path(),
        kind,
        0_u32..0o10000,
        id.clone(),
        id,
        0_u64..1 << 40,
        xattrs,
    )
        .prop_map(|(components, kind, mode, uid, gid, mtime, xattrs)| Wanted {
            components,
            kind,
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        })
}

/// Writes with the `tar` crate, which uses GNU long names and base-256 numbers.
fn write(wanted: &[Wanted]) -> Vec<u8> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let mut builder = ::tar::Builder::new(Vec::new());
    for entry in wanted {
        let xattrs = entry
            .xattrs
            .iter()
            .map(|(name, value)| (format!("SCHILY.xattr.{name}"), value.clone()));
        let xattrs: Vec<_> = xattrs.collect();
        let xattrs = xattrs
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice()));
        builder.append_pax_extensions(xattrs).unwrap();
        let mut header = ::tar::Header::new_gnu();
        header.set_mode(entry.mode);
        header.set_uid(entry.uid);
        header.set_gid(entry.gid);
        header.set_mtime(entry.mtime);
        header.set_size(0);
        let path = entry.path();
        let path = OsStr::from_bytes(&path);
        match &entry.kind {
            WantedKind::Symlink(target) | WantedKind::Hardlink(target) => {
                let symlink = matches!(entry.kind, WantedKind::Symlink(_));
                header.set_entry_type(if symlink {
                    ::tar::EntryType::Symlink
                } else {
                    ::tar::EntryType::Link
                });
                builder
                    .append_link(&mut header, path, OsStr::from_bytes(target))
                    .unwrap();
                continue;
            }
            WantedKind::Directory => header.set_entry_type(::tar::EntryType::Directory),
            WantedKind::File(content) => header.set_size(content.len() as u64),
            WantedKind::Device(major, minor) => {
                header.set_entry_type(::tar::EntryType::Block);
                header.set_device_major(*major).unwrap();
                header.set_device_minor(*minor).unwrap();
            }
            WantedKind::Fifo => header.set_entry_type(::tar::EntryType::Fifo),
        }
        let content: &[u8] = match &entry.kind {
            WantedKind::File(content) => content,
            _ => &[],
        };
        builder.append_data(&mut header, path, content).unwrap();
    }
    builder.into_inner().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn reads_what_the_tar_crate_writes(wanted in prop::collection::vec(wanted(), 0..8)) {
        let seen = read(&[&write(&wanted)]);
        prop_assert_eq!(seen.entries.len(), wanted.len());
        for ((entry, data), wanted) in seen.entries.iter().zip(&wanted) {
            prop_assert_eq!(&entry.path, &wanted.path());
            prop_assert_eq!(u32::from(entry.permissions), wanted.mode);
            prop_assert_eq!((u64::from(entry.uid), u64::from(entry.gid)), (wanted.uid, wanted.gid));
            let seconds = i64::try_from(wanted.mtime).unwrap();
            prop_assert_eq!(entry.mtime, EntryTime { seconds, nanoseconds: 0 });
            let xattrs: Vec<_> = wanted
                .xattrs
                .iter()
                .map(|(name, value)| (name.as_bytes().to_vec(), value.clone()))
                .collect();
            prop_assert_eq!(&entry.xattrs, &xattrs);
            match (&entry.kind, &wanted.kind) {
                (EntryKind::Directory, WantedKind::Directory)
                | (EntryKind::Fifo, WantedKind::Fifo) => {}
                (EntryKind::Regular { size, .. }, WantedKind::File(content)) => {
                    prop_assert_eq!(*size, content.len() as u64);
                    prop_assert_eq!(data, content);
                }
                (EntryKind::Symlink(seen), WantedKind::Symlink(wanted))
                | (EntryKind::Hardlink(seen), WantedKind::Hardlink(wanted)) => {
                    prop_assert_eq!(seen, wanted);
                }
                (EntryKind::BlockDevice(major, minor), WantedKind::Device(a, b)) => {
                    prop_assert_eq!((major, minor), (a, b));
                }
                (seen, wanted) => prop_assert!(false, "{:?} instead of {:?}", seen, wanted),
            }
        }
    }
}

#[test]
fn reads_what_gnu_tar_writes_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let long = "long-".repeat(30);
    std::fs::create_dir(dir.path().join("dir")).unwrap();
    std::fs::write(dir.path().join("dir/file"), "content").unwrap();
    std::os::unix::fs::symlink("../nowhere", dir.path().join("dir/link")).unwrap();
    std::fs::hard_link(dir.path().join("dir/file"), dir.path().join("dir/other")).unwrap();
    for format in ["v7", "oldgnu", "gnu", "ustar", "posix"] {
        let long_path = dir.path().join("dir").join(&long);
        if matches!(format, "gnu" | "posix" | "oldgnu") {
            std::fs::write(&long_path, "long").unwrap();
        } else if long_path.exists() {
            std::fs::remove_file(&long_path).unwrap();
        }
        let output = Command::new("tar")
            .args([
                "--create",
                "--file=-",
                "--sort=name",
                "--mtime=@1234567890.5",
            ])
            .args([
                "--owner=:1000",
                "--group=:70000000",
                &format!("--format={format}"),
            ])
            .args([
                "--directory".as_ref(),
                dir.path().as_os_str(),
                "./".as_ref(),
            ])
            .output()
            .expect("GNU tar is needed for this test");
        if matches!(format, "v7" | "ustar") {
            // These have no room for such a group; tar says so and goes on.
            assert!(!output.status.success());
            continue;
        }
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let seen = read(&[&output.stdout]);
        let long_path = format!("dir/{long}");
        let paths = [
            &b""[..],
            b"dir",
            b"dir/file",
            b"dir/link",
            long_path.as_bytes(),
            b"dir/other",
        ];
        assert_eq!(seen.paths(), paths, "{format}");
        assert_eq!(seen.content(b"dir/file"), b"content");
        assert_eq!(seen.content(long_path.as_bytes()), b"long");
        assert_eq!(
            seen.entries[3].0.kind,
            EntryKind::Symlink(b"../nowhere".to_vec())
        );
        assert_eq!(
            seen.entries[5].0.kind,
            EntryKind::Hardlink(b"dir/file".to_vec())
        );
        let fraction = if format == "posix" { 500_000_000 } else { 0 };
        for (entry, _) in &seen.entries {
            assert_eq!((entry.uid, entry.gid), (1000, 70_000_000), "{format}");
            assert_eq!(
                entry.mtime,
                EntryTime {
                    seconds: 1_234_567_890,
                    nanoseconds: fraction
                }
            );
        }
    }
}
