//! The house rules: what review would otherwise have to see every time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors that are modules of the root package, each with those it may import.
const FLOORS: &[(&str, &[&str])] = &[("daemon", &[]), ("cli", &["daemon"])];

/// The floors that are crates, each with the crates of ours that it may depend on. Cargo itself refuses a circle.
const MEMBERS: &[(&str, &[&str])] = &[
    ("index-format", &[]),
    ("fuse", &["index-format"]),
    ("src/sys", &[]),
    ("src/runtime", &["sys"]),
    ("src/runtime/weakened", &["sys"]),
    ("src/registry", &["durable", "index-format", "sys"]),
    ("src/codec", &["index-format", "sys"]),
    ("src/blob", &["registry"]),
    ("src/durable", &[]),
    ("src/cache", &["durable", "index-format", "sys"]),
    ("src/indexer", &["codec", "index-format", "sys"]),
    (
        "src/layer",
        &[
            "blob",
            "cache",
            "codec",
            "durable",
            "fuse",
            "index-format",
            "sys",
        ],
    ),
    (
        "src/image",
        &[
            "blob",
            "cache",
            "codec",
            "durable",
            "index-format",
            "indexer",
            "layer",
            "registry",
            "sys",
        ],
    ),
    ("src/mount", &["fuse", "layer", "sys"]),
    ("src/container", &["durable", "sys"]),
    ("src/snapshotter", &["image", "mount"]),
    ("tests/cri", &[]),
];

/// Longest source file. A file above it has more than one purpose.
const LINE_LIMIT: usize = 700;

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn all_sources() -> Vec<PathBuf> {
    ["src", "fuse", "index-format", "bench", "tests"]
        .iter()
        .flat_map(|part| sources(&project().join(part)))
        .collect()
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The floor names that a line imports by `crate::NAME`.
fn imported(line: &str) -> Vec<&str> {
    line.match_indices("crate::")
        .filter(|(at, _)| !line[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .map(|(at, _)| {
            let rest = &line[at + "crate::".len()..];
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            &rest[..end]
        })
        .collect()
}

#[test]
fn floors_import_downwards_only() {
    let allowed: BTreeMap<&str, &[&str]> = FLOORS.iter().copied().collect();
    let mut faults = Vec::new();
    for (floor, below) in FLOORS {
        let directory = project().join("src").join(floor);
        let files = if directory.is_dir() {
            sources(&directory)
        } else {
            vec![directory.with_extension("rs")]
        };
        for file in files.into_iter().filter(|f| f.exists()) {
            for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
                for name in imported(line.split("//").next().unwrap_or_default()) {
                    if name != *floor && allowed.contains_key(name) && !below.contains(&name) {
                        faults.push(format!(
                            "{}:{}: floor {floor} imports {name}",
                            file.display(),
                            number + 1
                        ));
                    }
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn the_import_reader_sees_an_upward_import() {
    assert_eq!(imported("use crate::cli::run;"), ["cli"]);
    assert_eq!(imported("    fn f(x: &crate::layer::Layer) {"), ["layer"]);
    assert!(imported("use other_crate::cli::run;").is_empty());
}

#[test]
fn every_floor_is_listed() {
    let mut faults = Vec::new();
    for entry in fs::read_dir(project().join("src")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let is_floor = FLOORS.iter().any(|(floor, _)| *floor == name)
            || MEMBERS.iter().any(|(m, _)| *m == format!("src/{name}"));
        if !is_floor && !["lib", "main"].contains(&name.as_str()) {
            faults.push(format!("{} is no floor of tests/house.rs", path.display()));
        }
    }
    report(&faults);
}

/// True for the sources of the root package, whose floors are modules.
fn is_root(file: &Path) -> bool {
    FLOORS
        .iter()
        .any(|(floor, _)| file.starts_with(project().join("src").join(floor)))
}

#[test]
fn imports_do_not_hide_from_the_floor_check() {
    let mut faults = Vec::new();
    for file in all_sources() {
        if file.ends_with("tests/house.rs") {
            continue;
        }
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            // Within a floor's own crate a group hides no other floor.
            let group = line.contains("use crate::{") && is_root(&file);
            if group || line.contains("super::super") {
                faults.push(format!(
                    "{}:{}: {}",
                    file.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    report(&faults);
}

#[test]
fn members_depend_downwards_only() {
    let mut faults = Vec::new();
    for (member, below) in MEMBERS {
        let manifest = fs::read_to_string(project().join(member).join("Cargo.toml")).unwrap();
        let dependencies = manifest
            .split_once("[dependencies]")
            .map_or("", |(_, rest)| rest);
        for line in dependencies.lines().take_while(|l| !l.starts_with('[')) {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if let Some(ours) = name.strip_prefix("brisk-")
                && !below.contains(&ours)
            {
                faults.push(format!("{member} depends on {name}"));
            }
            if *member == "src/runtime" && ["tokio", "reqwest", "hyper"].contains(&name) {
                faults.push(format!("the runtime must not see {name}"));
            }
        }
    }
    report(&faults);
}

#[test]
fn unsafe_code_lives_in_sys_alone() {
    let mut faults = Vec::new();
    for file in all_sources() {
        if file.starts_with(project().join("src/sys")) || file.ends_with("tests/house.rs") {
            continue;
        }
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
                .iter()
                .any(|word| code.contains(word))
            {
                faults.push(format!(
                    "{}:{}: {}",
                    file.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    report(&faults);
}

#[test]
fn files_stay_small_and_are_named_for_what_they_hold() {
    let mut faults = Vec::new();
    for file in all_sources() {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        if lines > LINE_LIMIT {
            faults.push(format!("{} has {lines} lines", file.display()));
        }
        let stem = file.file_stem().unwrap().to_str().unwrap();
        for word in [
            "util", "utils", "common", "helper", "helpers", "manager", "misc",
        ] {
            if stem == word || stem.ends_with(&format!("_{word}")) {
                faults.push(format!("{}: the name says nothing", file.display()));
            }
        }
    }
    report(&faults);
}

#[test]
fn nothing_is_left_to_be_done_in_the_code() {
    let mut faults = Vec::new();
    for file in all_sources() {
        if file.ends_with("tests/house.rs") {
            continue;
        }
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            if ["TODO", "FIXME", "XXX", "HACK"]
                .iter()
                .any(|word| line.contains(word))
            {
                faults.push(format!(
                    "{}:{}: {}",
                    file.display(),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    report(&faults);
}
