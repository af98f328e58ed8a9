//! Other OCI runtimes than brisk's own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::lab::Lab;
use crate::support::{Done, done};

/// A mount namespace without the hierarchy of version 2 that lies beside those of version 1: with
/// both, crun takes it for the only one. The root is its own as well, so that brisk stays in it.
struct WithoutHybrid(Child);

impl WithoutHybrid {
    fn new(root: &Path) -> Self {
        std::fs::create_dir_all(root).unwrap();
        let script = "umount -l /sys/fs/cgroup/unified 2>/dev/null; \
                      mount -t tmpfs none \"$0\" && echo ready; exec sleep 600";
        let mut child = Command::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .arg(root)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        WithoutHybrid(child)
    }

    /// Runs a command of the lab in it.
    fn done(&self, lab: &Lab, command: &Command) -> Done {
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.0.id());
        let mut inside = Command::new("nsenter");
        inside.arg(namespace).arg(command.get_program());
        done(
            inside
                .args(command.get_args())
                .env("DOCKER_CONFIG", lab.node.path("docker")),
        )
    }
}

impl Drop for WithoutHybrid {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn other_runtimes_serve_as_well() {
    let lab = Lab::new("zoo");
    let inside = WithoutHybrid::new(&lab.node.root());
    for runtime in ["/usr/sbin/runc", "/usr/bin/crun"] {
        let flags = ["--runtime", runtime, "--memory", "200m", "-e", "A=b"];
        let ran_by = |words: &[&str]| inside.done(&lab, &lab.run_command(&flags, words));
        let script = "cat /zoo/small; echo $A > /written; cat /written; echo no >&2; exit 3";
        let ran = ran_by(&["sh", "-c", script]);
        assert_eq!(
            (ran.code, ran.out.as_str(), ran.err.as_str()),
            (3, "small\nb\n", "no\n"),
            "{runtime}: {ran:?}"
        );
        for (words, code) in [
            (&["nosuch"][..], 127),
            (&["/zoo/small"], 126),
            (&["sh", "-c", "sleep 1000 & kill -9 $!; wait $!"], 137),
        ] {
            let ran = ran_by(words);
            assert_eq!(ran.code, code, "{runtime} {words:?}: {ran:?}");
        }
    }
    let mut left = lab.node.command(["ps", "-aq"]);
    assert_eq!(inside.done(&lab, &left).out, "");
    left = lab.node.command(["service-stop", "--unmount"]);
    assert_eq!(inside.done(&lab, &left).code, 0);
    let missing = lab.run(&["--runtime", "/nonexistent"], &["true"]);
    assert_eq!(missing.code, 125);
    assert!(
        missing.err.contains("/nonexistent") && missing.err.contains("hint:"),
        "{missing:?}"
    );
}
