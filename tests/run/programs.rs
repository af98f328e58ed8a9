//! What runs, as whom, where, with which variables; and which exit code it leaves.

use crate::support::lab::Lab;

#[test]
fn the_images_own_command_runs() {
    let lab = Lab::new("zoo");
    let done = lab.run(&[], &[]);
    assert_eq!(
        (done.code, done.out.as_str(), done.err.as_str()),
        (0, "READY zoo\n", "")
    );
    let inspected = lab.node.inspect(&lab.image);
    let layers = inspected["layers"].as_array().unwrap();
    assert!(
        layers.iter().all(|layer| layer["lazy"] == true),
        "{inspected:#}"
    );
}

#[test]
fn exit_codes_tell_programs_from_brisk() {
    let lab = Lab::new("zoo");
    for (words, code, said) in [
        (&["true"][..], 0, ""),
        (&["sh", "-c", "exit 3"], 3, ""),
        (&["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137, ""),
        (&["nosuch"], 127, "\"nosuch\""),
        (&["/bin/nosuch"], 127, "/bin/nosuch"),
        (&["/etc/passwd"], 126, "/etc/passwd"),
        (&["/zoo"], 126, "/zoo"),
    ] {
        let done = lab.run(&[], words);
        assert_eq!(done.code, code, "{words:?}: {done:?}");
        assert!(done.err.contains(said), "{words:?}: {done:?}");
    }
    let refused = lab.run(&["-u", "nobody"], &["true"]);
    assert_eq!(refused.code, 125, "{refused:?}");
    assert!(refused.err.contains("\"nobody\"") && refused.err.contains("/etc/passwd"));
    assert_eq!(
        lab.brisk(&["ps", "-aq"]).out,
        "",
        "what never ran is no container"
    );
}

#[test]
fn entrypoint_and_command() {
    let lab = Lab::new("zoo");
    assert_eq!(lab.run(&["--entrypoint", "echo"], &["a", "b"]).out, "a b\n");
    // The image's command was for its own entrypoint.
    assert_eq!(lab.run(&["--entrypoint", "echo"], &[]).out, "\n");
    assert_eq!(lab.run(&[], &["echo", "--rm", "-d"]).out, "--rm -d\n");
}

#[test]
fn variables() {
    let lab = Lab::new("zoo");
    let mut command = lab.run_command(
        &["-e", "A=1", "-e", "B", "-e", "NOT_SET", "-e", "HOME=/x"],
        &["env"],
    );
    command.env("B", "of the host");
    let out = crate::support::done(&command).out;
    for line in ["A=1", "B=of the host", "HOME=/x"] {
        assert!(out.lines().any(|l| l == line), "{line} in {out}");
    }
    assert!(!out.contains("NOT_SET"), "{out}");
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert!(out.lines().any(|line| line == path), "{out}");
    assert_eq!(lab.shell(&["-u", "app"], "echo $HOME"), "/home/app\n");
}

#[test]
fn working_directories_are_made() {
    let lab = Lab::new("zoo");
    assert_eq!(lab.shell(&[], "pwd"), "/\n");
    let out = lab.shell(
        &["-w", "/made/here"],
        "pwd; stat -c '%a %u' /made /made/here",
    );
    assert_eq!(out, "/made/here\n755 0\n755 0\n");
    let refused = lab.run(&["-w", "/etc/passwd"], &["true"]);
    assert_eq!(refused.code, 125);
    assert!(refused.err.contains("/etc/passwd"), "{refused:?}");
}

#[test]
fn users_and_their_groups() {
    let lab = Lab::new("zoo");
    for (user, expected) in [
        (
            "app",
            "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)",
        ),
        (
            "1000",
            "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)",
        ),
        (
            "app:extra",
            "uid=1000(app) gid=2000(extra) groups=2000(extra)",
        ),
        ("77:88", "uid=77 gid=88 groups=88"),
        ("77", "uid=77 gid=0(root) groups=0(root)"),
    ] {
        assert_eq!(
            lab.run(&["-u", user], &["id"]).out.trim(),
            expected,
            "{user}"
        );
    }
    let denied = lab.run(&["-u", "app"], &["cat", "/zoo/unreadable"]);
    assert_eq!(denied.code, 1, "{denied:?}");
    assert_eq!(lab.shell(&[], "cat /zoo/unreadable"), "secret");
}
