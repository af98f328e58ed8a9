//! What a start reads until it is ready is recorded by image and command.

use std::path::PathBuf;
use std::time::Duration;

use index_format::startup::StartupSet;

use crate::support::lab::Lab;
use crate::support::registry::until;

const LIMIT: Duration = Duration::from_secs(60);

/// The recorded sets of a node, the files of all images.
fn sets(lab: &Lab) -> Vec<PathBuf> {
    let images = std::fs::read_dir(lab.node.root().join("startup"));
    let images = images.into_iter().flatten().flatten();
    let files = images.flat_map(|image| std::fs::read_dir(image.path()).unwrap().flatten());
    files.map(|file| file.path()).collect()
}

fn read(lab: &Lab) -> StartupSet {
    let files = sets(lab);
    assert_eq!(files.len(), 1, "{files:?}");
    StartupSet::decode(&std::fs::read(&files[0]).unwrap()).unwrap()
}

#[test]
fn a_recording_has_what_the_program_read_and_is_merged_with_the_next() {
    let lab = Lab::new("zoo");
    let record = |words: &[&str]| {
        let words = [&["record", "--background", "off", &lab.image], words].concat();
        lab.brisk(&words)
    };
    let large = record(&["sh", "-c", "sha256sum /zoo/large; exit 3"]);
    assert_eq!(large.code, 3, "{large:?}");
    assert!(
        large.err.contains("recorded ") && large.err.contains(" 1 starts"),
        "{large:?}"
    );
    let set = read(&lab);
    let first = set.leaves().len();
    // The file was read whole before its digest was written.
    let size = lab
        .shell(&[], "stat -c %s /zoo/large")
        .trim()
        .parse::<u64>()
        .unwrap();
    assert!(first as u64 > size / 65536, "{first} leaves, {size} bytes");
    std::fs::remove_dir_all(lab.node.root().join("startup")).unwrap();

    // Another command is another start; the same one is merged.
    let again = record(&["sh", "-c", "sha256sum /zoo/large; exit 3"]);
    assert!(again.err.contains(" 1 starts"), "{again:?}");
    let again = record(&["sh", "-c", "sha256sum /zoo/large; exit 3"]);
    assert!(again.err.contains(" 2 starts"), "{again:?}");
    assert_eq!(read(&lab).starts(), 2);
    let other = record(&["true"]);
    assert!(other.err.contains(" 1 starts"), "{other:?}");
    assert_eq!(sets(&lab).len(), 2);

    // With the image go its recordings.
    assert_eq!(lab.brisk(&["prune", "--all"]).code, 0);
    assert_eq!(sets(&lab), Vec::<PathBuf>::new());
}

#[test]
fn recording_ends_at_the_first_output_unless_a_time_is_named() {
    let lab = Lab::new("zoo");
    let script = "echo here; while ! test -e /go; do sleep 0.05; done; sha256sum /zoo/large";
    let id = lab.detached(&["--background", "off"], script);
    until("the recording", LIMIT, || !sets(&lab).is_empty());
    let until_output = read(&lab).leaves().len();
    assert_eq!(lab.brisk(&["exec", &id, "touch", "/go"]).code, 0);
    assert_eq!(lab.brisk(&["wait", &id]).code, 0);
    assert_eq!(lab.brisk(&["rm", &id]).code, 0);
    assert_eq!(
        (read(&lab).leaves().len(), read(&lab).starts()),
        (until_output, 1)
    );
    // The program ends before its time: that is its whole start then.
    let flags = ["--background", "off", "--ready-after", "1h"];
    let done = lab.run(&flags, &["sh", "-c", "echo here; sha256sum /zoo/large"]);
    assert_eq!(done.code, 0, "{done:?}");
    let longest = sets(&lab).into_iter().map(|file| {
        let set = StartupSet::decode(&std::fs::read(file).unwrap()).unwrap();
        set.leaves().len()
    });
    let longest = longest.max().unwrap();
    assert!(
        longest > until_output,
        "{longest} leaves, {until_output} until the output"
    );
}
