//! The verbs, from create to delete.

mod harness;

use harness::{Container, wait_until};
use serde_json::json;

#[test]
fn a_container_goes_through_its_states() {
    let container = Container::new("exec sleep 1000");
    let pid_file = container.directory.path().join("pid");
    let created = container.create(&["--pid-file", pid_file.to_str().unwrap()]);
    assert!(
        created.status.success(),
        "{}",
        String::from_utf8_lossy(&created.stderr)
    );
    let state = container.state();
    assert_eq!(state["status"], "created");
    assert_eq!(
        state["pid"].to_string(),
        std::fs::read_to_string(&pid_file).unwrap()
    );
    assert_eq!(state["bundle"], json!(container.directory.path()));
    container.ok(&["start", &container.id]);
    assert_eq!(container.status(), "running");
    assert!(
        container
            .fails(&["start", &container.id])
            .contains("running")
    );
    assert!(
        container
            .fails(&["delete", &container.id])
            .contains("running")
    );
    assert_eq!(container.ok(&["list", "-q"]).trim(), container.id);
    let processes = container.ok(&["ps", "--format", "json", &container.id]);
    assert_eq!(processes.trim(), format!("[{}]", state["pid"]));
    container.ok(&["kill", &container.id, "KILL"]);
    container.wait_for("stopped");
    assert!(
        container
            .fails(&["kill", &container.id, "9"])
            .contains("container not running")
    );
    container.ok(&["delete", &container.id]);
    container.assert_gone();
}

#[test]
fn exit_codes_and_signals_come_out_of_run() {
    assert_eq!(Container::new("exit 7").run().status.code(), Some(7));
    let killed = Container::new("exec 2>/dev/null; sh -c 'kill -TERM $$'; exit $?");
    assert_eq!(killed.run().status.code(), Some(143));
    killed.assert_gone();
}

#[test]
fn a_second_container_of_the_name_is_refused_and_the_first_unharmed() {
    let container = Container::new("exec sleep 1000");
    container.start();
    let again = container.create(&[]);
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists already"));
    assert_eq!(container.status(), "running");
}

#[test]
fn force_deletes_what_runs_and_what_is_not_there() {
    let container = Container::new("exec sleep 1000");
    container.start();
    container.ok(&["delete", "--force", &container.id]);
    container.assert_gone();
    let output = container.call(&["delete", "--force", &container.id]);
    assert!(output.status.success() && output.stderr.is_empty() && output.stdout.is_empty());
    assert!(
        container
            .fails(&["delete", &container.id])
            .contains("does not exist")
    );
    assert!(
        container
            .fails(&["state", &container.id])
            .contains("does not exist")
    );
}

#[test]
fn kill_all_reaches_every_process() {
    let container = Container::new("sleep 1000 & sleep 1001 & exec sleep 1002");
    container.start();
    wait_until("three processes run", || {
        container
            .ok(&["ps", "-f", "json", &container.id])
            .matches(',')
            .count()
            == 2
    });
    container.ok(&["kill", "--all", &container.id, "KILL"]);
    container.wait_for("stopped");
    assert_eq!(
        container.ok(&["ps", "-f", "json", &container.id]).trim(),
        "[]"
    );
}

#[test]
fn pause_stops_and_resume_goes_on() {
    let container = Container::new("exec sleep 1000");
    container.start();
    container.ok(&["pause", &container.id]);
    assert_eq!(container.status(), "paused");
    assert!(
        container
            .fails(&["exec", &container.id, "true"])
            .contains("paused")
    );
    container.ok(&["resume", &container.id]);
    assert_eq!(container.status(), "running");
    container.ok(&["pause", &container.id]);
    container.ok(&["kill", &container.id, "KILL"]);
    container.wait_for("stopped");
}

#[test]
fn a_broken_specification_leaves_nothing() {
    let mut container = Container::new("true");
    let log = container.directory.path().join("log.json");
    let config = container.directory.path().join("config.json");
    std::fs::write(&config, "{\"ociVersion\": 1").unwrap();
    let bundle = container.directory.path().to_str().unwrap().to_owned();
    let log_path = log.to_str().unwrap();
    let id = container.id.clone();
    let arguments = [
        "--log",
        log_path,
        "--log-format",
        "json",
        "create",
        "-b",
        &bundle,
        &id,
    ];
    let words = container.fails(&arguments);
    assert!(
        words.contains("config.json") && words.contains("line 1"),
        "{words}"
    );
    let line = std::fs::read_to_string(&log).unwrap();
    let line: serde_json::Value = serde_json::from_str(line.lines().last().unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().unwrap().contains("config.json"));
    container.assert_gone();

    // One that fails late, in the container's own process.
    container.spec["mounts"].as_array_mut().unwrap().push(
        json!({"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]}),
    );
    let created = container.create(&[]);
    assert!(!created.status.success());
    let words = String::from_utf8_lossy(&created.stderr).into_owned();
    assert!(words.contains("/no/such"), "{words}");
    container.assert_gone();
}

#[test]
fn a_program_that_is_not_there_is_told_by_create() {
    let mut container = Container::new("");
    container.spec["process"]["args"] = json!(["no-such-program"]);
    let created = container.create(&[]);
    assert!(!created.status.success());
    let words = String::from_utf8_lossy(&created.stderr).into_owned();
    assert!(
        words.contains("executable file not found in $PATH"),
        "{words}"
    );
    container.assert_gone();
}

#[test]
fn a_program_that_cannot_be_executed_is_told_by_start() {
    let mut container = Container::new("");
    let script = container.rootfs().join("bin/broken");
    std::fs::write(&script, "#!/no/interpreter\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    container.spec["process"]["args"] = json!(["/bin/broken"]);
    assert!(container.create(&[]).status.success());
    let words = container.fails(&["start", &container.id]);
    assert!(words.contains("/bin/broken"), "{words}");
}

#[test]
fn fields_that_are_not_implemented_are_named() {
    let mut container = Container::new("true");
    container.spec["linux"]["intelRdt"] = json!({});
    let created = container.create(&[]);
    assert!(!created.status.success());
    let words = String::from_utf8_lossy(&created.stderr).into_owned();
    assert!(words.contains("linux.intelRdt is not supported"), "{words}");
    container.assert_gone();
}

#[test]
fn hooks_run_in_order_with_the_state() {
    let mut container = Container::new("true");
    let log = container.directory.path().join("hooks");
    let hook = |name: &str| {
        let script = format!("read -r line; echo {name} $line >> {}", log.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    container.spec["hooks"] = json!({
        "prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
        "poststart": hook("poststart"), "poststop": hook("poststop"),
    });
    container.output();
    let text = std::fs::read_to_string(&log).unwrap();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(
        names,
        ["prestart", "createRuntime", "poststart", "poststop"]
    );
    assert!(
        text.lines().all(|line| line.contains(&container.id)),
        "{text}"
    );

    container.spec["hooks"] =
        json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}]});
    let created = container.create(&[]);
    assert!(!created.status.success());
    assert!(String::from_utf8_lossy(&created.stderr).contains("hook /bin/sh"));
    container.assert_gone();
}

#[test]
fn unknown_flags_are_refused() {
    let container = Container::new("true");
    assert!(
        container
            .fails(&["create", "--nope", "x"])
            .contains("--nope")
    );
}
