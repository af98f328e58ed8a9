//! Containers of an ordinary user.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod harness;

use std::process::{Command, Output, Stdio};

use harness::{Container, RUNTIME};
use serde_json::json;

/// The user nobody, whom every machine has.
const USER: &str = "65534";

/// A container that the user owns, with `mapping` for users and groups.
fn of_user(script: &str, mapping: serde_json::Value) -> Container {
    let mut container = Container::new(script);
    for path in ["dev", "proc", "sys"] {
        std::fs::create_dir(container.rootfs().join(path)).unwrap();
    }
    container.spec["linux"]["uidMappings"] = mapping.clone();
    container.spec["linux"]["gidMappings"] = mapping;
    let linux = container.spec["linux"].as_object_mut().unwrap();
    linux.remove("cgroupsPath");
    let namespaces = linux["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "user"}));
    // Its group has no number inside.
    for mount in container.spec["mounts"].as_array_mut().unwrap() {
        if mount["destination"] == "/dev/pts" {
            let options = mount["options"].as_array_mut().unwrap();
            options.retain(|option| !option.as_str().unwrap().starts_with("gid="));
        }
    }
    // The one that was built may be below a directory that only root enters.
    std::fs::copy(RUNTIME, container.directory.path().join("runtime")).unwrap();
    container
}

fn give_away(container: &Container) {
    container.save();
    let owner = format!("{USER}:{USER}");
    let status = Command::new("chown")
        .args(["-R", &owner])
        .arg(container.directory.path())
        .status()
        .unwrap();
    assert!(status.success());
}

/// The runtime, called by the user; `before` runs as root in a mount namespace of its own.
fn call(container: &Container, before: &str, arguments: &str) -> Output {
    let directory = container.directory.path().display();
    let script = format!(
        "cd {directory}; {before} exec setpriv --reuid {USER} --regid {USER} --clear-groups \
         ./runtime --root {directory}/state {arguments}"
    );
    let errors = std::fs::File::create(container.directory.path().join("errors")).unwrap();
    let mut output = Command::new("timeout")
        .args(["-s", "KILL", "60", "unshare", "-m", "sh", "-c", &script])
        .stdin(Stdio::null())
        .stderr(errors)
        .output()
        .unwrap();
    output.stderr = std::fs::read(container.directory.path().join("errors")).unwrap();
    output
}

fn printed(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn with_its_own_id_alone() {
    let script = "id -u; cat /proc/self/uid_map; hostname; grep CapEff /proc/self/status; \
                  echo x > /dev/null && echo device; touch /made";
    let mut container = of_user(
        script,
        json!([{"containerID": 0, "hostID": 65534, "size": 1}]),
    );
    container.spec["root"]["readonly"] = json!(false);
    give_away(&container);
    let text = printed(&call(&container, "", &format!("run {}", container.id)));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "0");
    let map: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(map, ["0", USER, "1"]);
    assert_eq!(lines[2], "brisk");
    // Root of the user namespace has what the specification gives it.
    assert!(!lines[3].ends_with("0000000000000000"), "{text}");
    assert_eq!(lines[4], "device");
    assert!(container.rootfs().join("made").exists());
}

#[test]
fn with_further_ids_by_newuidmap() {
    let mapping = json!([{"containerID": 0, "hostID": 65534, "size": 1},
                         {"containerID": 1, "hostID": 200_000, "size": 1000}]);
    let container = of_user("cat /proc/self/uid_map /proc/self/gid_map", mapping);
    give_away(&container);
    // What the machine lets the user map is said in files of its own /etc.
    let before = "mkdir etc && cp -a /etc/. etc/ && \
                  echo 65534:200000:1000 | tee etc/subuid > etc/subgid && mount --bind etc /etc &&";
    let text = printed(&call(&container, before, &format!("run {}", container.id)));
    let maps: Vec<&str> = text.split_whitespace().collect();
    let one = ["0", USER, "1", "1", "200000", "1000"];
    assert_eq!(maps, [one, one].concat());
    // What it is not allowed to map is refused by name.
    let before = "echo -n > etc/subuid; mount --bind etc /etc;";
    let output = call(&container, before, &format!("run {}", container.id));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && words.contains("linux.uidMappings"),
        "{words}"
    );
}

#[test]
fn a_further_process_and_the_end() {
    let mapping = json!([{"containerID": 0, "hostID": 65534, "size": 1}]);
    let container = of_user("exec sleep 1000", mapping);
    give_away(&container);
    let id = &container.id;
    let created = call(
        &container,
        "",
        &format!("create {id} > out 2>&1 < /dev/null"),
    );
    let words = std::fs::read_to_string(container.directory.path().join("out")).unwrap();
    assert!(created.status.success(), "{words}");
    printed(&call(&container, "", &format!("start {id}")));
    let text = printed(&call(
        &container,
        "",
        &format!("exec {id} sh -c 'id -u; echo $$'"),
    ));
    assert!(text.starts_with("0\n"), "{text}");
    let own = printed(&call(
        &container,
        "",
        &format!("exec {id} readlink /proc/self/ns/user"),
    ));
    let first = printed(&call(
        &container,
        "",
        &format!("exec {id} readlink /proc/1/ns/user"),
    ));
    assert_eq!(own, first);
    printed(&call(&container, "", &format!("delete --force {id}")));
    container.assert_gone();
}

#[test]
fn limits_without_the_right_to_set_them_are_refused_by_name() {
    let mapping = json!([{"containerID": 0, "hostID": 65534, "size": 1}]);
    let mut container = of_user("true", mapping);
    container.spec["linux"]["resources"]["pids"] = json!({"limit": 10});
    give_away(&container);
    let output = call(&container, "", &format!("run {}", container.id));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && words.contains("linux.resources"),
        "{words}"
    );
}

#[test]
fn the_document_for_a_user_runs_for_that_user() {
    let container = of_user("true", json!([]));
    let config = container.directory.path().join("config.json");
    give_away(&container);
    std::fs::remove_file(&config).unwrap();
    printed(&call(&container, "", "spec --rootless"));
    let mut spec: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    let own = json!([{"containerID": 0, "hostID": 65534, "size": 1}]);
    assert_eq!(spec["linux"]["uidMappings"], own);
    assert_eq!(spec["linux"]["gidMappings"], own);
    assert!(spec["linux"].get("resources").is_none(), "{spec}");
    let kinds: Vec<&str> = spec["linux"]["namespaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|namespace| namespace["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["pid", "ipc", "uts", "mount", "user"]);
    // Standing in for the terminal that a person has.
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = json!(["sh", "-c", "id -u; ls /sys; ls /dev/pts"]);
    std::fs::write(&config, serde_json::to_vec(&spec).unwrap()).unwrap();
    let text = printed(&call(&container, "", &format!("run {}", container.id)));
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words[0], "0");
    assert!(
        words.contains(&"kernel") && words.contains(&"ptmx"),
        "{text}"
    );
}
