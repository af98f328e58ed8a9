use std::os::unix::fs::symlink;

use super::*;

fn root_with(make: impl FnOnce(&Path)) -> (tempfile::TempDir, Root) {
    let outside = tempfile::tempdir().unwrap();
    let inside = outside.path().join("root");
    std::fs::create_dir(&inside).unwrap();
    make(&inside);
    let directory = OwnedFd::from(std::fs::File::open(&inside).unwrap());
    (outside, Root::new(directory))
}

#[test]
fn missing_directories_are_made() {
    let (outside, root) = root_with(|_| {});
    root.make_directory("/a/b/../c").unwrap();
    assert!(outside.path().join("root/a/c").is_dir());
    assert!(!outside.path().join("root/a/b").exists());
}

#[test]
fn climbing_ends_at_the_root() {
    let (outside, root) = root_with(|_| {});
    root.make_directory("../../escape").unwrap();
    assert!(outside.path().join("root/escape").is_dir());
    assert!(!outside.path().join("escape").exists());
}

#[test]
fn symlinks_lead_nowhere_else_whether_their_target_is_there_or_not() {
    let (outside, root) = root_with(|inside| {
        symlink("/", inside.join("absolute")).unwrap();
        symlink("../../..", inside.join("relative")).unwrap();
        symlink("/not/there", inside.join("dangling")).unwrap();
        symlink("../up", inside.join("sideways")).unwrap();
    });
    let inside = outside.path().join("root");
    root.make_directory("/absolute/one").unwrap();
    assert!(inside.join("one").is_dir());
    root.make_directory("/relative/two").unwrap();
    assert!(inside.join("two").is_dir());
    root.make_directory("/dangling/three").unwrap();
    assert!(inside.join("not/there/three").is_dir());
    root.make_directory("/sideways/four").unwrap();
    assert!(inside.join("up/four").is_dir());
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn a_circle_of_symlinks_is_an_error() {
    let (_outside, root) = root_with(|inside| {
        symlink("b", inside.join("a")).unwrap();
        symlink("a", inside.join("b")).unwrap();
    });
    assert!(root.make_directory("a/x").is_err());
}

#[test]
fn files_are_made_empty_and_existing_ones_left() {
    let (outside, root) = root_with(|inside| std::fs::write(inside.join("old"), "text").unwrap());
    root.make_file("/new/file").unwrap();
    root.make_file("/old").unwrap();
    let inside = outside.path().join("root");
    assert_eq!(std::fs::read(inside.join("new/file")).unwrap(), b"");
    assert_eq!(std::fs::read(inside.join("old")).unwrap(), b"text");
}
