//! Random calls give what a plain map of snapshots gives, across restarts.

use std::collections::BTreeMap;

use brisk_snapshotter::filter::Filters;
use brisk_snapshotter::record::Kind;
use brisk_snapshotter::{SnapshotError, Snapshotter};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Call {
    Prepare(u8, Option<u8>),
    View(u8, Option<u8>),
    Commit(u8, u8),
    Remove(u8),
    Label(u8, u8),
    Restart,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    kind: Kind,
    parent: String,
    label: String,
}

type Model = BTreeMap<String, Entry>;

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let name = 0..6_u8;
    let parent = || prop::option::weighted(0.7, 0..6_u8);
    let call = prop_oneof![
        6 => (name.clone(), parent()).prop_map(|(k, p)| Call::Prepare(k, p)),
        2 => (name.clone(), parent()).prop_map(|(k, p)| Call::View(k, p)),
        6 => (name.clone(), name.clone()).prop_map(|(n, k)| Call::Commit(n, k)),
        3 => name.clone().prop_map(Call::Remove),
        2 => (name, 0..3_u8).prop_map(|(n, l)| Call::Label(n, l)),
        1 => Just(Call::Restart),
    ];
    prop::collection::vec(call, 1..40)
}

/// What went wrong, without the words.
fn class(error: &SnapshotError) -> &'static str {
    match error {
        SnapshotError::NotFound { .. } => "not found",
        SnapshotError::AlreadyExists { .. } => "exists",
        SnapshotError::InvalidArgument(_) => "invalid",
        SnapshotError::FailedPrecondition { .. } => "state",
        other => panic!("{other}"),
    }
}

fn create(model: &mut Model, kind: Kind, key: String, parent: String) -> Result<(), &'static str> {
    if !parent.is_empty() {
        let below = model.get(&parent).ok_or("not found")?;
        if below.kind != Kind::Committed {
            return Err("invalid");
        }
    }
    if model.contains_key(&key) {
        return Err("exists");
    }
    let label = String::new();
    model.insert(
        key,
        Entry {
            kind,
            parent,
            label,
        },
    );
    Ok(())
}

fn expect(model: &mut Model, call: &Call) -> Result<(), &'static str> {
    match call {
        Call::Prepare(key, parent) => create(model, Kind::Active, text(*key), below(*parent)),
        Call::View(key, parent) => create(model, Kind::View, text(*key), below(*parent)),
        Call::Commit(name, key) => {
            let entry = model.get(&text(*key)).ok_or("not found")?.clone();
            if model.contains_key(&text(*name)) {
                return Err("exists");
            }
            if entry.kind != Kind::Active {
                return Err("state");
            }
            model.remove(&text(*key));
            let (kind, label) = (Kind::Committed, String::new());
            model.insert(
                text(*name),
                Entry {
                    kind,
                    label,
                    ..entry
                },
            );
            Ok(())
        }
        Call::Remove(name) => {
            model.get(&text(*name)).ok_or("not found")?;
            if model.values().any(|e| e.parent == text(*name)) {
                return Err("state");
            }
            model.remove(&text(*name));
            Ok(())
        }
        Call::Label(name, label) => {
            model.get_mut(&text(*name)).ok_or("not found")?.label = value(*label);
            Ok(())
        }
        Call::Restart => Ok(()),
    }
}

fn carry_out(s: &Snapshotter, call: &Call) -> Result<(), SnapshotError> {
    let none = BTreeMap::new;
    match call {
        Call::Prepare(key, parent) => s.prepare(&text(*key), &below(*parent), none()).map(drop),
        Call::View(key, parent) => s.view(&text(*key), &below(*parent), none()).map(drop),
        Call::Commit(name, key) => s.commit(&text(*name), &text(*key), "", none()),
        Call::Remove(name) => s.remove(&text(*name)),
        Call::Label(name, label) => {
            let labels = [("l".to_owned(), value(*label))].into();
            s.update(&text(*name), &labels, &["labels.l".to_owned()])
                .map(drop)
        }
        Call::Restart => Ok(()),
    }
}

fn text(name: u8) -> String {
    format!("n{name}")
}

fn below(parent: Option<u8>) -> String {
    parent.map(text).unwrap_or_default()
}

/// The first of the values is the empty one, which takes the label away.
fn value(label: u8) -> String {
    "x".repeat(label.into())
}

fn observed(s: &Snapshotter) -> Model {
    let all = s.list(&Filters::default()).unwrap();
    all.into_iter()
        .map(|info| {
            let label = info.record.labels.get("l").cloned().unwrap_or_default();
            let (kind, parent) = (info.record.kind, info.record.parent);
            (
                info.name,
                Entry {
                    kind,
                    parent,
                    label,
                },
            )
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn calls_do_what_a_map_does(calls in calls()) {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        let mut snapshotter = Snapshotter::open(&root, None).unwrap();
        let mut model = Model::new();
        for call in &calls {
            if matches!(call, Call::Restart) {
                drop(snapshotter);
                snapshotter = Snapshotter::open(&root, None).unwrap();
            }
            let expected = expect(&mut model, call);
            let answer = carry_out(&snapshotter, call).map_err(|e| class(&e));
            prop_assert_eq!(answer, expected, "{:?}", call);
            prop_assert_eq!(&observed(&snapshotter), &model, "{:?}", call);
        }
        let directories = crate::harness::names(&root.join("snapshots"));
        prop_assert_eq!(directories.len(), model.len());
    }
}
