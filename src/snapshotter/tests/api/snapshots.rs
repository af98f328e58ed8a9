//! What the calls give.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use brisk_snapshotter::Snapshotter;
use brisk_snapshotter::socket::Socket;
use brisk_snapshotter::wire::services::snapshots::v1 as api;
use brisk_snapshotter::wire::types::Mount;

use crate::harness::{code, names, server};

fn option(mount: &Mount, name: &str) -> PathBuf {
    let prefix = format!("{name}=");
    mount
        .options
        .iter()
        .find_map(|o| o.strip_prefix(&prefix))
        .unwrap_or_else(|| panic!("no {name} in {mount:?}"))
        .into()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn mounts_are_those_of_an_overlay() {
    let mut s = server().await;
    let c = &mut s.client;
    let first = c.prepare("a", "").await.unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].r#type, "bind");
    assert_eq!(first[0].options, ["rw", "rbind"]);
    assert_eq!(mode(Path::new(&first[0].source)), 0o755);
    assert_eq!(mode(&s.root), 0o700);
    chown(&first[0].source, Some(12), Some(34)).unwrap();
    c.commit("A", "a").await.unwrap();

    let view = c.view("v", "A").await.unwrap();
    assert_eq!(view[0].source, first[0].source);
    assert_eq!(view[0].options, ["ro", "rbind"]);

    let second = c.prepare("b", "A").await.unwrap();
    assert_eq!(second[0].r#type, "overlay");
    let upper = option(&second[0], "upperdir");
    assert_eq!(mode(&upper), 0o755);
    let owner = fs::metadata(&upper).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (12, 34));
    assert_eq!(option(&second[0], "lowerdir"), Path::new(&first[0].source));
    assert!(option(&second[0], "workdir").is_dir());
    assert_eq!(c.mounts("b").await.unwrap(), second);
    c.commit("B", "b").await.unwrap();

    let both = c.view("w", "B").await.unwrap();
    let lowers = format!("{}:{}", upper.display(), first[0].source);
    assert_eq!(option(&both[0], "lowerdir"), Path::new(&lowers));
    assert!(both[0].options.iter().all(|o| !o.starts_with("upperdir")));
    let empty = c.view("x", "").await.unwrap();
    assert_eq!(empty[0].options, ["ro", "rbind"]);
}

#[tokio::test]
async fn labels_and_times_follow_containerd() {
    let mut s = server().await;
    let c = &mut s.client;
    c.prepare_labelled("k", "", &[("gone", "1"), ("empty", "")])
        .await
        .unwrap();
    let active = c.stat("k").await.unwrap();
    assert_eq!(active.kind(), api::Kind::Active);
    assert_eq!(active.labels.len(), 1, "an empty label is none");
    assert_eq!(active.created_at, active.updated_at);
    c.commit_with("n", "k", "", &[("a", "1"), ("b", "2")])
        .await
        .unwrap();
    let committed = c.stat("n").await.unwrap();
    assert_eq!(committed.kind(), api::Kind::Committed);
    assert!(!committed.labels.contains_key("gone"));

    // One label of two in the mask; one that is not given goes.
    let updated = c
        .update(
            "n",
            &[("a", "9"), ("c", "not asked for")],
            Some(&["labels.a", "labels.b"]),
        )
        .await
        .unwrap();
    assert_eq!(updated.labels, crate::harness::map(&[("a", "9")]));
    assert_eq!(updated.created_at, committed.created_at);
    assert_eq!(updated.parent, "", "the parent given is passed over");
    let updated = c.update("n", &[("z", "1")], None).await.unwrap();
    assert_eq!(updated.labels, crate::harness::map(&[("z", "1")]));
    assert_eq!(c.stat("n").await.unwrap(), updated);
    let updated = c
        .update("n", &[("z", "")], Some(&["labels"]))
        .await
        .unwrap();
    assert!(updated.labels.is_empty());
}

#[tokio::test]
async fn usage_is_of_now_while_active_and_of_the_commit_later() {
    let mut s = server().await;
    let c = &mut s.client;
    let content = PathBuf::from(&c.prepare("k", "").await.unwrap()[0].source);
    let before = c.usage("k").await.unwrap();
    fs::write(content.join("f"), vec![7; 1 << 16]).unwrap();
    let file = fs::File::open(content.join("f")).unwrap();
    file.sync_all().unwrap();
    let after = c.usage("k").await.unwrap();
    assert_eq!(after.inodes, before.inodes + 1);
    assert!(after.size >= before.size + (1 << 16));
    c.commit("n", "k").await.unwrap();
    assert_eq!(c.usage("n").await.unwrap(), after);
    c.view("v", "n").await.unwrap();
    assert_eq!(c.usage("v").await.unwrap(), api::UsageResponse::default());
}

#[tokio::test]
async fn a_long_list_comes_whole_and_filtered() {
    let mut s = server().await;
    let c = &mut s.client;
    for n in 0..250 {
        let label = (n % 2).to_string();
        c.prepare_labelled(&format!("k{n:03}"), "", &[("odd", &label)])
            .await
            .unwrap();
    }
    assert_eq!(c.list(&[]).await.unwrap().len(), 250);
    assert_eq!(c.list(&["labels.odd==1"]).await.unwrap().len(), 125);
    let named = c.list(&["name==k007", "name~=/^k00[89]$/"]).await.unwrap();
    assert_eq!(named.len(), 3);
    assert!(c.list(&["name==nobody"]).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_removed_frees_its_space_and_its_key() {
    let mut s = server().await;
    let c = &mut s.client;
    let content = PathBuf::from(&c.prepare("k", "").await.unwrap()[0].source);
    fs::create_dir(content.join("d")).unwrap();
    fs::write(content.join("d/f"), "x").unwrap();
    c.remove("k").await.unwrap();
    assert!(!content.exists(), "gone from its place at once");
    c.cleanup().await.unwrap();
    assert!(names(&s.root.join("removed")).is_empty());
    assert!(names(&s.root.join("snapshots")).is_empty());
    let again = PathBuf::from(&c.prepare("k", "").await.unwrap()[0].source);
    assert_ne!(again, content, "an id is never used twice");
}

#[tokio::test]
async fn a_start_brings_directories_and_records_together() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    let content = |mounts: Vec<brisk_snapshotter::mounts::Mount>| PathBuf::from(&mounts[0].source);
    let lost = {
        let s = Snapshotter::open(&root, None).unwrap();
        s.prepare("a", "", Default::default()).unwrap();
        s.commit("A", "a", "", Default::default()).unwrap();
        s.prepare("b", "A", Default::default()).unwrap();
        s.commit("B", "b", "", Default::default()).unwrap();
        s.prepare("c", "B", Default::default()).unwrap();
        s.prepare("d", "A", Default::default()).unwrap();
        content(s.view("v", "B", Default::default()).unwrap());
        content(s.prepare("x", "", Default::default()).unwrap())
    };
    // As a crash leaves them: a directory whose record was never written, and one that is gone.
    fs::create_dir_all(root.join("snapshots/77/fs")).unwrap();
    fs::create_dir_all(root.join("snapshots/strange")).unwrap();
    fs::remove_dir_all(root.join("snapshots/2")).unwrap();
    fs::remove_dir_all(lost.parent().unwrap()).unwrap();
    let s = Snapshotter::open(&root, None).unwrap();
    let left: Vec<_> = s.list(&Default::default()).unwrap();
    let left: Vec<_> = left.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(left, ["A", "d"], "what stood on a lost one is given up");
    assert_eq!(names(&root.join("snapshots")), ["1", "4"]);
    s.cleanup().unwrap();
    assert!(names(&root.join("removed")).is_empty());
}

#[tokio::test]
async fn one_process_serves_a_root_and_a_socket() {
    let s = server().await;
    let second = Snapshotter::open(&s.root, None).err().unwrap().to_string();
    assert!(second.contains("another brisk daemon"), "{second}");
    let error = Socket::bind(&s.socket).err().unwrap().to_string();
    assert!(error.contains("another process serves there"), "{error}");
    assert_eq!(mode(&s.socket), 0o600);
    let mut client = s.client.clone();
    assert_eq!(code(client.list(&[]).await), tonic::Code::Ok);
}

#[test]
fn a_root_that_overlay_options_cannot_hold_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let error = Snapshotter::open(&place.path().join("a:b"), None)
        .err()
        .unwrap();
    assert!(error.to_string().contains("colon"), "{error}");
}
