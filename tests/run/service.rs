//! The service that runs already, as later commands find it.

use std::process::Command;

use crate::support::lab::Lab;
use crate::support::node::{Node, processes_of};
use crate::support::{Done, done, run};

/// `brisk inspect` with further words and variables.
fn inspect(lab: &Lab, words: &[&str], variables: &[(&str, &str)]) -> Done {
    let words = [&["inspect", &lab.image], words].concat();
    let mut command = lab.node.command(words);
    let inspected = done(command.envs(variables.iter().copied()));
    assert_eq!(inspected.code, 0, "{inspected:?}");
    inspected
}

#[test]
fn what_a_running_service_ignores_is_said() {
    let lab = Lab::new("zoo");
    let tree = lab
        .node
        .mount(&["--log-level", "error", &lab.image], "tree");
    let (other, same) = (lab.node.path("other.toml"), lab.node.path("same.toml"));
    std::fs::write(&other, "[fetch]\nbackground = 'off'\n").unwrap();
    std::fs::write(&same, "").unwrap();
    let config = ["--config", other.to_str().unwrap()];

    // Nothing is asked for, or the same.
    for words in [&[][..], &["--log-level", "error"]] {
        let inspected = inspect(&lab, words, &[]);
        assert_eq!(inspected.err, "", "{words:?}");
    }
    let proxy = [("HTTPS_PROXY", "http://user:sesame@proxy.test:1")];
    for (words, variables, said) in [
        (
            &config[..],
            &[][..],
            &["configuration", config[1], "none"][..],
        ),
        (
            &["--log-level", "info"],
            &[],
            &["--log-level info", "has error"],
        ),
        (&["--log-format", "json"], &[], &["--log-format json"]),
        (&[], &proxy, &["HTTPS_PROXY"]),
        (&[], &[("SSL_CERT_DIR", "/nonexistent")], &["SSL_CERT_DIR"]),
    ] {
        let inspected = inspect(&lab, words, variables);
        let further = ["runs already and ignores", "hint:", "service-stop"];
        for word in further.iter().chain(said) {
            assert!(inspected.err.contains(word), "{word}: {inspected:?}");
        }
        assert!(!inspected.err.contains("sesame"), "a secret: {inspected:?}");
    }
    let run = lab.run(&config, &[]);
    assert_eq!((run.code, run.out.as_str()), (0, "READY zoo\n"), "{run:?}");
    assert_eq!(run.err.matches("ignores configuration").count(), 1);
    // Where it makes no difference, nothing is said.
    for verb in ["images", "status", "ps"] {
        let words = [&[verb], &config[..]].concat();
        assert_eq!(lab.brisk(&words).err, "", "{verb}");
    }

    // The remedy that is named: the next one has what this command asks for; mounts stay.
    lab.node.brisk(&["service-stop"]);
    assert_eq!(inspect(&lab, &config, &proxy).err, "");
    assert_eq!(inspect(&lab, &config, &proxy).err, "");
    assert!(tree.join("zoo/small").exists());
    std::fs::write(&other, "[fetch]\nbackground = 'full'\n").unwrap();
    let changed = inspect(&lab, &config, &proxy);
    assert!(
        changed.err.contains("what has changed in") && changed.err.contains(config[1]),
        "{changed:?}"
    );
}

#[test]
fn what_has_just_ended_is_pruned_all_the_same() {
    let lab = Lab::new("zoo");
    let layers = lab.node.root().join("layers");
    let indexes = lab.node.root().join("indexes/trusted");
    for round in 0..6 {
        // The layers arrive whole, and are compared with their diff IDs at once or later.
        let script = match round % 3 {
            0 => "true",
            1 => "cat /zoo/large /zoo/random >/dev/null",
            _ => "cat /zoo/large /zoo/random >/dev/null; sleep 0.3",
        };
        assert_eq!(lab.shell(&[], script), "");
        let pruned = lab.brisk(&["prune", "--all"]);
        assert_eq!(pruned.code, 0, "round {round}: {pruned:?}");
        assert_eq!(pruned.err, "", "round {round}");
        assert!(
            pruned.out.contains(&format!("removed {}", lab.image)),
            "round {round}: {pruned:?}"
        );
        assert_eq!(lab.brisk(&["images", "-q"]).out, "", "round {round}");
        let streams = run(Command::new("find").arg(&layers).args(["-name", "stream"])).stdout;
        assert_eq!(String::from_utf8_lossy(&streams), "", "round {round}");
        let left = std::fs::read_dir(&indexes).map_or(0, Iterator::count);
        assert_eq!(left, 0, "round {round}");
    }
    // One that is in use stays whole.
    let id = lab.detached(&[], "sleep 1000");
    let pruned = lab.brisk(&["prune", "--all"]);
    assert_eq!((pruned.code, pruned.err.as_str()), (0, ""), "{pruned:?}");
    let done = lab.brisk(&["exec", &id, "cat", "/zoo/small"]);
    assert_eq!((done.code, done.out.as_str()), (0, "small\n"), "{done:?}");
    let refused = lab.brisk(&["rmi", &lab.image]);
    assert!(
        refused.code == 1 && refused.err.contains("in use"),
        "{refused:?}"
    );
    lab.brisk(&["rm", "-f", &id]);
    let removed = lab.brisk(&["rmi", &lab.image]);
    assert_eq!((removed.code, removed.err.as_str()), (0, ""), "{removed:?}");
}

#[test]
fn sizes_are_told_apart() {
    let lab = Lab::new("zoo");
    lab.node.mount(&[&lab.image], "tree");
    run(&mut lab.node.command(["pull", &lab.image]));
    for words in [&["images"][..], &["status"], &["inspect", &lab.image]] {
        let table = lab.brisk(words);
        assert_eq!(table.code, 0, "{table:?}");
        let heads = table.out.lines().find(|line| line.contains("PRESENT"));
        let heads = heads.unwrap_or_else(|| panic!("{table:?}"));
        assert!(
            heads.contains("COMPRESSED") && heads.contains("UNCOMPRESSED"),
            "{heads}"
        );
        // What is whole is all there, in the unit of what it is a part of.
        assert!(table.out.contains("(100 %)"), "{words:?}: {table:?}");
    }
    let inspected = lab.node.inspect(&lab.image);
    for layer in inspected["layers"].as_array().unwrap() {
        assert_eq!(layer["uncompressed_size"], layer["bytes_present"]);
        assert!(layer["uncompressed_size"].as_u64() > layer["size"].as_u64());
    }
}

#[test]
fn who_stops_listening_is_no_reason_to_panic() {
    let lab = Lab::new("zoo");
    let id = lab.detached(&["--name", "talker"], "seq 20000");
    lab.brisk(&["wait", &id]);
    let brisk = |words: &str| {
        let program = env!("CARGO_BIN_EXE_brisk");
        format!("{program} --root {} {words}", lab.node.root().display())
    };
    let run_and_fail = format!("run --rm {} nosuch", lab.image);
    let run_much = format!("run --rm {} seq 20000", lab.image);
    let inspect = format!("inspect --json {}", lab.image);
    let verbs = [
        "--help",
        "run --nosuch",
        "images",
        "status",
        "ps -a",
        "man",
        "completions bash",
        "logs talker",
        &inspect,
        &run_and_fail,
        &run_much,
    ];
    for words in verbs {
        let brisk = brisk(words);
        for line in [
            format!("{brisk} 2>{{errors}} | true"),
            format!("{brisk} 2>{{errors}} >&-"),
            format!("{brisk} 2>{{errors}} >/dev/full"),
            format!("({brisk}; echo $? >{{errors}}) 2>/dev/full >/dev/null"),
            format!("({brisk}; echo $? >{{errors}}) 2>&1 | true"),
        ] {
            let errors = lab.node.path("errors");
            let line = line.replace("{errors}", errors.to_str().unwrap());
            let mut shell = Command::new("sh");
            shell.env("DOCKER_CONFIG", lab.node.path("docker"));
            done(shell.args(["-c", &line]));
            let said = std::fs::read_to_string(&errors).unwrap();
            assert!(!said.contains("panicked"), "{line}: {said}");
            assert_ne!(said.trim(), "101", "{line}: a panic's code");
        }
    }
}

#[test]
fn a_service_without_work_ends() {
    let node = Node::new();
    node.brisk(&["images"]);
    assert!(!processes_of(&node.root()).is_empty());
    crate::support::registry::until("its end", std::time::Duration::from_secs(60), || {
        processes_of(&node.root()).is_empty()
    });
}
