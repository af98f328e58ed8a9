//! Attacks of a hostile image. Each is tried twice: it fails, and with the one defence against it
//! switched off it succeeds, which shows that the test sees what it looks for.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

#[path = "../../tests/harness/mod.rs"]
mod harness;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use harness::{Container, RUNTIME};
use serde_json::json;

/// `command` with the defence on, or off.
fn weaken<'a>(command: &'a mut Command, defence: &str, off: bool) -> &'a mut Command {
    if off {
        command.env("BRISK_WEAKEN", defence);
    }
    command
}

/// `run` in the foreground, everything that it says and its program prints.
fn run(container: &Container, defence: &str, off: bool) -> Output {
    container.save();
    let bundle = container.directory.path().to_str().unwrap();
    let mut command = container.command(&["run", "-b", bundle, &container.id]);
    weaken(&mut command, defence, off).output().unwrap()
}

fn printed(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A directory of the host next to the rootfs, with a file that a container must not see.
fn outside(container: &Container) -> PathBuf {
    let path = container.directory.path().join("outside");
    std::fs::create_dir(&path).unwrap();
    path
}

fn entries(path: &Path) -> usize {
    std::fs::read_dir(path).unwrap().count()
}

/// CVE-2019-5736. The image's program is the runtime itself, by `/proc/self/exe`; a second process
/// holds that file open until nobody executes it any more, and then writes to it.
#[test]
fn the_runtimes_file_cannot_be_overwritten_from_inside() {
    const ATTACK: &str = "while :; do for p in /proc/[0-9]*; do \
        case $p in /proc/1|/proc/$$) ;; *) exec 9<$p/exe && break 2;; esac; done; done; \
        echo '{' > /b/config.json; while [ -d $p ]; do :; done; \
        (printf overwritten > /proc/self/fd/9) 2>/dev/null; true";
    for off in [false, true] {
        let mut container = Container::new("exec sleep 1000");
        // A copy, for it may be destroyed.
        let victim = container.directory.path().join("runtime");
        std::fs::copy(RUNTIME, &victim).unwrap();
        let before = std::fs::read(&victim).unwrap();
        std::fs::create_dir(container.rootfs().join("b")).unwrap();
        nix::unistd::mkfifo(
            &container.rootfs().join("b/config.json"),
            nix::sys::stat::Mode::S_IRWXU,
        )
        .unwrap();
        container.spec["process"]["capabilities"] = json!({});
        container.start();
        let root = container.root();
        let root = root.to_str().unwrap();
        let victim_call = |flags: &[&str], program: &[&str]| {
            let mut command = Command::new("timeout");
            command.args(["-s", "KILL", "60"]).arg(&victim);
            command.args(["--root", root, "exec"]).args(flags);
            command.arg(&container.id).args(program);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            weaken(&mut command, "SealedExecutable", off);
            command
        };
        // It waits in the container, reading a pipe that it takes for its specification.
        let variable = format!("BRISK_WEAKEN={}", if off { "SealedExecutable" } else { "" });
        let program = ["/proc/self/exe", "--root", "/r", "create", "-b", "/b", "x"];
        let status = victim_call(&["-d", "-e", &variable], &program).status();
        assert!(status.unwrap().success());
        let status = container
            .command(&["exec", &container.id, "sh", "-c", ATTACK])
            .status()
            .unwrap();
        assert!(status.success());
        let changed = std::fs::read(&victim).unwrap() != before;
        assert_eq!(changed, off, "defence off: {off}");
    }
}

/// CVE-2019-19921: procfs mounted where the image likes, so that what is masked is elsewhere.
#[test]
fn procfs_does_not_follow_a_link() {
    for off in [false, true] {
        let container = Container::new("ls /elsewhere");
        std::fs::create_dir(container.rootfs().join("elsewhere")).unwrap();
        symlink("elsewhere", container.rootfs().join("proc")).unwrap();
        let output = run(&container, "OrdinaryDirectory", off);
        if off {
            assert!(printed(&output).contains("self"));
        } else {
            let words = words(&output);
            assert!(words.contains("ordinary directory"), "{words}");
        }
    }
}

/// CVE-2021-30465: a link in place of the destination leads a mount outside.
#[test]
fn a_mount_does_not_follow_a_link_to_the_host() {
    for off in [false, true] {
        let mut container = Container::new("ls /trap");
        let outside = outside(&container);
        symlink(&outside, container.rootfs().join("trap")).unwrap();
        let source = container.directory.path().join("source");
        std::fs::create_dir(&source).unwrap();
        std::fs::write(source.join("here"), "").unwrap();
        container.spec["mounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"destination": "/trap", "source": source, "options": ["bind"]}));
        let output = run(&container, "ResolveInside", off);
        let arrived = output.status.success() && printed(&output).contains("here");
        assert_eq!(arrived, !off, "{}", words(&output));
    }
}

/// Tells the other thread that it is over, also when this one panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// CVE-2021-30465 and CVE-2024-45310, with the link coming and going all the time.
#[test]
fn nothing_is_made_outside_while_links_come_and_go() {
    let mut container = Container::new("true");
    let outside = outside(&container);
    let (place, link) = (
        container.rootfs().join("place"),
        container.rootfs().join("link"),
    );
    std::fs::create_dir(&place).unwrap();
    symlink(&outside, &link).unwrap();
    let source = container.directory.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "").unwrap();
    let mounts = container.spec["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/place/a/b", "source": source, "options": ["bind"]}));
    mounts.push(
        json!({"destination": "/place/c", "source": source.join("file"),
        "options": ["bind"]}),
    );
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stopped_at_the_end = Stop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = rustix::fs::renameat_with(
                    rustix::fs::CWD,
                    &place,
                    rustix::fs::CWD,
                    &link,
                    rustix::fs::RenameFlags::EXCHANGE,
                );
            }
        });
        // Some fail, for what they made is gone; that is no harm.
        for _ in 0..20 {
            run(&container, "", false);
        }
        drop(stopped_at_the_end);
    });
    assert_eq!(entries(&outside), 0);
}

/// CVE-2024-45310: a missing destination made through a link, on the host.
#[test]
fn a_destination_is_not_made_on_the_host() {
    for off in [false, true] {
        for file in [false, true] {
            let mut container = Container::new("true");
            let outside = outside(&container);
            symlink(&outside, container.rootfs().join("trap")).unwrap();
            let source = container.directory.path().join("source");
            if file {
                std::fs::write(&source, "").unwrap();
            } else {
                std::fs::create_dir(&source).unwrap();
            }
            container.spec["mounts"]
                .as_array_mut()
                .unwrap()
                .push(json!({"destination": "/trap/new", "source": source, "options": ["bind"]}));
            run(&container, "MakeInside", off);
            assert_eq!(entries(&outside) > 0, off, "file {file}, off {off}");
        }
    }
}

/// CVE-2024-21626: a working directory by a descriptor that the caller left open.
#[test]
fn a_working_directory_outside_is_refused() {
    for off in [false, true] {
        let container = Container::new("exec sleep 1000");
        let outside = outside(&container);
        std::fs::write(container.directory.path().join("secret"), "seen").unwrap();
        container.start();
        let open = std::fs::File::open(&outside).unwrap();
        // Handed on without close-on-exec, as a careless caller would.
        let number = nix::unistd::dup(&open).unwrap();
        let cwd = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&number));
        let arguments = ["exec", "--cwd", &cwd, &container.id, "cat", "../secret"];
        let mut command = container.command(&arguments);
        let output = weaken(&mut command, "WorkInside", off).output().unwrap();
        if off {
            assert_eq!(printed(&output), "seen");
        } else {
            let words = words(&output);
            assert!(words.contains("process.cwd"), "{words}");
        }
    }
}

/// CVE-2024-21626: the descriptor itself.
#[test]
fn a_descriptor_of_the_caller_does_not_stay_open() {
    for off in [false, true] {
        let container = Container::new("ls -l /proc/self/fd");
        let outside = outside(&container);
        let open = std::fs::File::open(&outside).unwrap();
        let _left_open = nix::unistd::dup(&open).unwrap();
        let text = printed(&run(&container, "CloseDescriptors", off));
        let name = outside.file_name().unwrap().to_str().unwrap();
        assert_eq!(text.contains(name), off, "{text}");
    }
}

/// CVE-2025-31133: the image's null device swapped for a link just before it would cover a path.
#[test]
fn a_mask_is_not_what_the_image_calls_null() {
    for off in [false, true] {
        let mut container = Container::new("cat /hidden; true");
        std::fs::write(container.rootfs().join("hidden"), "hidden").unwrap();
        std::fs::write(container.rootfs().join("secret"), "swapped").unwrap();
        for directory in ["dev", "proc", "sys"] {
            std::fs::create_dir(container.rootfs().join(directory)).unwrap();
        }
        // Without a filesystem of its own on /dev, so that the host can swap it.
        let mounts = container.spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        container.spec["linux"]["maskedPaths"] = json!(["/hidden"]);
        let null = container.rootfs().join("dev/null");
        let script = format!("ln -sf /secret {}", null.display());
        container.spec["hooks"] = json!({"createRuntime":
            [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]});
        let text = printed(&run(&container, "HostNull", off));
        assert_eq!(text, if off { "swapped" } else { "" });
    }
}

/// CVE-2025-52565: a terminal's path in the image that is a link to something else.
#[test]
fn the_console_is_the_terminal_whatever_the_image_calls_so() {
    for off in [false, true] {
        let mut container = Container::new("ls -l /dev/console > /result; true");
        container.spec["process"]["terminal"] = json!(true);
        container.spec["root"]["readonly"] = json!(false);
        std::fs::write(container.rootfs().join("secret"), "").unwrap();
        let terminals = container.rootfs().join("prepared");
        std::fs::create_dir_all(terminals.join("pts")).unwrap();
        symlink("/secret", terminals.join("0")).unwrap();
        let mounts = container.spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/dev/pts");
        mounts.push(json!({"destination": "/dev/pts", "source": terminals,
            "options": ["bind", "dev"]}));
        mounts.push(
            json!({"destination": "/dev/pts/pts", "type": "devpts", "source": "devpts",
            "options": ["newinstance", "ptmxmode=0666", "mode=0620"]}),
        );
        container.spec["linux"]["devices"] =
            json!([{"path": "/dev/pts/ptmx", "type": "c", "major": 5, "minor": 2}]);
        let output = run(&container, "TerminalPeer", off);
        assert!(output.status.success(), "{}", words(&output));
        let text = std::fs::read_to_string(container.rootfs().join("result")).unwrap();
        assert_eq!(text.starts_with('c'), !off, "{text}");
    }
}

/// CVE-2025-52565: a link in place of the console leads the terminal elsewhere.
#[test]
fn the_console_is_not_put_behind_a_link() {
    let mut container = Container::new("true");
    container.spec["process"]["terminal"] = json!(true);
    std::fs::create_dir(container.rootfs().join("dev")).unwrap();
    std::fs::write(container.rootfs().join("secret"), "").unwrap();
    symlink("/secret", container.rootfs().join("dev/console")).unwrap();
    let mounts = container.spec["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/dev");
    for directory in ["dev/pts", "dev/shm", "dev/mqueue", "proc", "sys"] {
        std::fs::create_dir(container.rootfs().join(directory)).unwrap();
    }
    let output = run(&container, "", false);
    assert!(!output.status.success());
    assert!(
        words(&output).contains("/dev/console"),
        "{}",
        words(&output)
    );
}

/// CVE-2025-52881: something else in place of a file of procfs takes a write that was meant for
/// the kernel, or passes it on to another setting.
#[test]
fn a_setting_is_written_to_the_kernel_whatever_covers_procfs() {
    for off in [false, true] {
        let mut container = Container::new("cat /proc/sys/kernel/domainname");
        container.spec["linux"]["sysctl"] = json!({"kernel.domainname": "set"});
        container.save();
        let trap = container.directory.path().join("trap");
        std::fs::write(&trap, "untouched").unwrap();
        let script = format!(
            "mount --bind {} /proc/sys/kernel/domainname && exec {RUNTIME} --root {} run -b {} {}",
            trap.display(),
            container.root().display(),
            container.directory.path().display(),
            container.id
        );
        // In a mount namespace of its own: the host's procfs stays as it is.
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", "60", "unshare", "-m", "sh", "-c", &script]);
        let output = weaken(&mut command, "OwnProcfs", off).output().unwrap();
        let written = std::fs::read_to_string(&trap).unwrap() != "untouched";
        assert_eq!(written, off, "{}", words(&output));
        if !off {
            assert_eq!(printed(&output), "set\n");
        }
    }
}
