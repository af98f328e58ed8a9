#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::Filters;
use crate::error::SnapshotError;
use crate::record::{Info, Kind, Labels, Moment, Record, Usage};

fn info() -> Info {
    let labels: [(&str, &str); 3] = [
        ("r", "3"),
        ("a/b", "slash"),
        ("containerd.io/snapshot.ref", "sha256:1"),
    ];
    Info {
        name: "k8s.io/7/c1".to_owned(),
        record: Record {
            id: 1,
            kind: Kind::Committed,
            parent: String::new(),
            labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            created: Moment(1),
            updated: Moment(1),
            usage: Usage::default(),
            remote: None,
        },
    }
}

fn passes(filters: &[&str]) -> bool {
    Filters::parse(filters).unwrap().pass(&info())
}

#[test]
fn conditions_hold_as_in_containerd() {
    for (filter, expected) in [
        ("", true),
        ("name==k8s.io/7/c1", true),
        ("name==c1", false),
        ("name!=c1", true),
        ("kind==committed", true),
        ("kind==Committed", false),
        ("parent", true),
        (r#"parent=="""#, true),
        ("labels.r", true),
        ("labels.missing", false),
        ("labels.r==3,kind==active", false),
        ("labels.r==3,kind==committed", true),
        ("labels.missing!=3", true),
        ("labels.missing==\"\"", false),
        (r#"labels."a/b"==slash"#, true),
        (
            r#"labels."containerd.io/snapshot.ref"==sha256:1,parent=="""#,
            true,
        ),
        ("labels", false),
        ("bogus==1", false),
        ("bogus!=1", true),
        ("bogus", false),
        ("name~=c[0-9]$", true),
        ("name~=/^k8s.io\\/7/", true),
        ("name~=|^k8s|", true),
        (r#"name~="^c1""#, false),
        ("name~=[", false),
        ("labels.missing~=^$", true),
        (" name == k8s.io/7/c1, kind==committed", true),
        (r#"labels.r=="\x33""#, true),
        (r#"labels.r=="\063""#, true),
        (r#"labels.r=="\u0033""#, true),
    ] {
        assert_eq!(passes(&[filter]), expected, "{filter}");
    }
}

#[test]
fn several_filters_are_alternatives() {
    assert!(passes(&[]));
    assert!(passes(&["name==x", "labels.r"]));
    assert!(!passes(&["name==x", "name==y"]));
}

#[test]
fn what_is_no_filter_is_refused_with_its_place() {
    for filter in [
        "name=c1",
        "name==",
        ",",
        "name==a,",
        "name==\"a",
        "name==/a/",
        "==a",
        "name===a",
        "labels..a",
        "name==a b",
        "name~=/a",
        r#"name=="\q""#,
        r#"name=="\400""#,
        r#"name=="\ud800""#,
        r#"name=="\xff""#,
        "name~",
        ".",
        "name==\"a\nb\"",
    ] {
        match Filters::parse(&[filter]) {
            Err(SnapshotError::InvalidArgument(message)) => {
                assert!(message.contains("byte "), "{message}");
            }
            other => panic!("{filter:?}: {other:?}"),
        }
    }
}

#[test]
fn labels_with_an_empty_value_are_not_kept() {
    let labels: Labels = [
        ("a".to_owned(), String::new()),
        ("b".to_owned(), "1".to_owned()),
    ]
    .into();
    assert_eq!(crate::record::kept(labels).len(), 1);
}
