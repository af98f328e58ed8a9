//! What a container sees beside its image, and what it can write.

use std::fs;

use crate::support::lab::Lab;

#[test]
fn the_root_is_writable_or_read_only() {
    let lab = Lab::new("zoo");
    assert_eq!(
        lab.shell(
            &[],
            "echo x > /zoo/small; cat /zoo/small; rm /zoo/empty; ls /zoo/empty 2>&1 | wc -l"
        ),
        "x\n1\n"
    );
    // Nothing of that reached the image.
    assert_eq!(
        lab.shell(&[], "cat /zoo/small; wc -c < /zoo/empty"),
        "small\n0\n"
    );
    let done = lab.run(&["--read-only"], &["touch", "/x"]);
    assert!(
        done.code == 1 && done.err.contains("Read-only file system"),
        "{done:?}"
    );
    let flags = ["--read-only", "--tmpfs", "/scratch:size=1m"];
    let out = lab.shell(&flags, "touch /scratch/x && grep ' /scratch ' /proc/mounts");
    assert!(
        out.starts_with("tmpfs /scratch tmpfs rw") && out.contains("size=1024k"),
        "{out}"
    );
}

#[test]
fn paths_of_the_host() {
    let lab = Lab::new("zoo");
    let shared = lab.node.directory("shared");
    let file = lab.node.path("file");
    fs::write(shared.join("from-host"), "host\n").unwrap();
    fs::write(&file, "content\n").unwrap();
    let directory = format!("{}:/data/deep", shared.display());
    let single = format!("{}:/etc/single:ro", file.display());
    let flags = ["-v", directory.as_str(), "-v", single.as_str()];
    let script = "cat /data/deep/from-host /etc/single; echo new > /data/deep/new; \
                  (echo x > /etc/single) 2>&1 | grep -c Read-only";
    assert_eq!(lab.shell(&flags, script), "host\ncontent\n1\n");
    assert_eq!(fs::read_to_string(shared.join("new")).unwrap(), "new\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), "content\n");
    // A directory that is not there is made, as docker does.
    let made = lab.node.path("made");
    let flag = format!("{}:/made", made.display());
    lab.shell(&["-v", &flag], "touch /made/x");
    assert!(made.join("x").exists());
    let refused = lab.run(&["-v", "relative:/x"], &["true"]);
    assert!(
        refused.code == 125 && refused.err.contains("relative"),
        "{refused:?}"
    );
}

#[test]
fn names_and_resolvers() {
    let lab = Lab::new("zoo");
    let host = lab.shell(&[], "hostname; cat /etc/hostname");
    let own = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    assert_eq!(host, format!("{own}\n{own}\n"));
    let out = lab.shell(
        &["--hostname", "box", "--net", "none"],
        "hostname; cat /etc/hostname; grep -c box /etc/hosts",
    );
    assert!(out.starts_with("box\nbox\n"), "{out}");
    assert_ne!(out.lines().last(), Some("0"));
    let resolvers = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let seen = lab.shell(&[], "cat /etc/resolv.conf");
    for line in resolvers
        .lines()
        .filter(|line| line.starts_with("nameserver"))
    {
        assert!(seen.contains(line), "{line} in {seen}");
    }
}
