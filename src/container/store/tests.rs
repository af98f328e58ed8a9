use super::*;
use crate::options::RunOptions;
use crate::process::ProcessIdentity;

fn store() -> (tempfile::TempDir, Store) {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    (root, store)
}

fn add(store: &Store, id: &str, name: Option<&str>) -> Container {
    let padded = format!("{id:0<64}");
    store
        .create(&ContainerId::try_from(padded).unwrap(), name)
        .unwrap()
}

fn state(phase: Phase, init: Option<ProcessIdentity>) -> State {
    State {
        phase,
        monitor: None,
        init,
        before_program: None,
        started_unix_ms: None,
        finished_unix_ms: None,
        exit_code: (phase == Phase::Exited).then_some(3),
        error: None,
    }
}

#[test]
fn found_by_name_id_and_beginning() {
    let (_root, store) = store();
    let first = add(&store, "aa11", Some("web"));
    let second = add(&store, "aa22", None);
    assert_eq!(store.find("web").unwrap().id, first.id);
    assert_eq!(store.find("aa2").unwrap().id, second.id);
    assert_eq!(store.find(first.id.as_str()).unwrap().id, first.id);
    assert_eq!(store.find(second.id.short()).unwrap().id, second.id);
    assert!(matches!(
        store.find("aa"),
        Err(ContainerError::Ambiguous(_))
    ));
    for missing in ["", "b", "..", "names", "../containers", &"f".repeat(64)] {
        assert!(
            store.find(missing).unwrap_err().is_no_such_container(),
            "{missing:?}"
        );
    }
}

#[test]
fn names_are_unique_until_their_container_goes() {
    let (_root, store) = store();
    let first = add(&store, "aa", Some("web"));
    let id = ContainerId::random().unwrap();
    let error = store.create(&id, Some("web")).unwrap_err();
    assert!(matches!(error, ContainerError::NameInUse { .. }), "{error}");
    assert_eq!(
        store.list().unwrap().len(),
        1,
        "the failed one leaves nothing"
    );
    store.remove(&first).unwrap();
    store.create(&id, Some("web")).unwrap();
    assert_eq!(store.find("web").unwrap().id, id);
}

#[test]
fn a_name_left_by_a_crash_is_free() {
    let (_root, store) = store();
    let first = add(&store, "aa", Some("web"));
    std::fs::remove_dir(&first.directory).unwrap();
    let second = add(&store, "bb", Some("web"));
    assert_eq!(store.find("web").unwrap().id, second.id);
}

#[test]
fn names_cannot_leave_their_directory() {
    let (_root, store) = store();
    for name in ["", ".", "..", "a/b", "-x", "_x", "a b", &"n".repeat(129)] {
        let id = ContainerId::random().unwrap();
        assert!(store.create(&id, Some(name)).is_err(), "{name:?}");
    }
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn status_follows_what_lives() {
    let (_root, store) = store();
    let container = add(&store, "aa", None);
    assert_eq!(container.status().unwrap(), Status::Exited { code: None });
    let lock = container.lock().unwrap();
    assert!(container.lock().is_err(), "one monitor each");
    assert_eq!(container.status().unwrap(), Status::Creating);
    container
        .write_state(&state(Phase::Running, None), Durability::Process)
        .unwrap();
    assert_eq!(container.status().unwrap(), Status::Running);
    drop(lock);
    assert_eq!(container.status().unwrap(), Status::Exited { code: None });
    let own = ProcessIdentity::own();
    container
        .write_state(&state(Phase::Running, own.clone()), Durability::Process)
        .unwrap();
    assert_eq!(
        container.status().unwrap(),
        Status::Running,
        "the monitor alone died"
    );
    let rebooted = own.map(|own| ProcessIdentity {
        boot: "earlier".to_owned(),
        ..own
    });
    container
        .write_state(&state(Phase::Running, rebooted), Durability::Process)
        .unwrap();
    assert_eq!(container.status().unwrap(), Status::Exited { code: None });
    container
        .write_state(&state(Phase::Exited, None), Durability::Process)
        .unwrap();
    assert_eq!(
        container.status().unwrap(),
        Status::Exited { code: Some(3) }
    );
}

#[test]
fn the_exit_code_outlives_the_directory() {
    let (_root, store) = store();
    let container = add(&store, "aa", None);
    let mut lock = container.lock().unwrap();
    let mut watch = container.watch().unwrap();
    assert!(!watch.has_ended());
    lock.leave_exit_code(200).unwrap();
    lock.leave_exit_code(7).unwrap();
    store.remove(&container).unwrap();
    drop(lock);
    assert!(watch.has_ended());
    assert_eq!(watch.wait().unwrap(), Some(7));
}

#[test]
fn damage_is_reported_with_its_file() {
    let (_root, store) = store();
    let container = add(&store, "aa", None);
    std::fs::write(container.directory.join("state.json"), "{").unwrap();
    let error = container.status().unwrap_err();
    assert!(
        error.to_string().contains("state.json is damaged"),
        "{error}"
    );
}

#[test]
fn records_survive_a_round_trip() {
    let (_root, store) = store();
    let container = add(&store, "aa", Some("web"));
    let record = Record {
        id: container.id.clone(),
        name: "web".to_owned(),
        created_unix_ms: 5,
        image: "alpine".to_owned(),
        manifest_digest: None,
        command: vec!["sh".to_owned()],
        stop_signal: 15,
        options: RunOptions::default(),
    };
    container.write_record(&record).unwrap();
    assert_eq!(container.record().unwrap().name, "web");
}
