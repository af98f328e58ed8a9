//! Further processes, and terminals.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod harness;

use std::io::{IoSliceMut, Read};
use std::os::unix::net::UnixListener;

use harness::{Container, wait_until};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;

fn running() -> Container {
    let container = Container::new("exec sleep 1000");
    container.start();
    container
}

#[test]
fn a_further_process_is_in_the_container_and_its_exit_code_comes_back() {
    let container = running();
    let text = container.ok(&["exec", &container.id, "hostname"]);
    assert_eq!(text, "brisk\n");
    let output = container.call(&["exec", &container.id, "sh", "-c", "exit 5"]);
    assert_eq!(output.status.code(), Some(5));
    let cgroup = container.ok(&["exec", &container.id, "cat", "/proc/self/cgroup"]);
    assert!(
        cgroup.contains(&format!("pids:/{}", container.id)),
        "{cgroup}"
    );
    let output = container.call(&["exec", &container.id, "no-such-program"]);
    assert_eq!(output.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not found in $PATH"));
}

#[test]
fn flags_change_what_it_runs_as() {
    let container = running();
    let script = "id -u; id -g; id -G; pwd; echo $A; grep CapBnd /proc/self/status";
    let text = container.ok(&[
        "exec",
        "--user",
        "9:10",
        "-g",
        "11",
        &container.id,
        "--cwd",
        "/bin",
        "-e",
        "A=b",
        "--cap",
        "CAP_SYS_TIME",
        "sh",
        "-c",
        script,
    ]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..5], ["9", "10", "10 11", "/bin", "b"]);
    let bounding = u64::from_str_radix(lines[5].split_whitespace().last().unwrap(), 16).unwrap();
    assert_ne!(bounding & (1 << 25), 0);
}

#[test]
fn a_process_document_detached_with_a_pid_file() {
    let container = running();
    let document = container.directory.path().join("process.json");
    let process = json!({"args": ["sleep", "1000"], "cwd": "/", "user": {"uid": 3, "gid": 4},
        "env": ["PATH=/bin"]});
    std::fs::write(&document, process.to_string()).unwrap();
    let pid_file = container.directory.path().join("exec.pid");
    let status = container
        .command(&["exec", "--process"])
        .arg(&document)
        .args(["--detach", "--pid-file"])
        .arg(&pid_file)
        .arg(&container.id)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert!(
        container
            .ok(&["ps", "-f", "json", &container.id])
            .contains(&pid)
    );
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t3\t3\t3\t3"), "{status}");
}

/// The master side of a terminal that the runtime sends.
fn receive(listener: &UnixListener) -> std::fs::File {
    let (stream, _) = listener.accept().unwrap();
    let mut name = [0; 64];
    let mut data = [IoSliceMut::new(&mut name)];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(&stream, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let received = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    std::fs::File::from(received.unwrap())
}

#[test]
fn a_terminal_arrives_over_the_console_socket() {
    let mut container = Container::new("tty; stty size; ls -l /dev/console; sleep 1000");
    container.spec["process"]["terminal"] = json!(true);
    container.spec["process"]["consoleSize"] = json!({"height": 33, "width": 111});
    let path = container.directory.path().join("console");
    let listener = UnixListener::bind(&path).unwrap();
    let created = container.create(&["--console-socket", path.to_str().unwrap()]);
    assert!(
        created.status.success(),
        "{}",
        String::from_utf8_lossy(&created.stderr)
    );
    let mut master = receive(&listener);
    container.ok(&["start", &container.id]);
    let mut text = String::new();
    wait_until("the terminal's output is there", || {
        let mut buffer = [0; 512];
        let length = master.read(&mut buffer).unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        text.contains("/dev/console")
    });
    assert!(
        text.contains("/dev/pts/0") && text.contains("33 111"),
        "{text}"
    );
}

#[test]
fn a_terminal_without_a_socket_is_refused() {
    let mut container = Container::new("true");
    container.spec["process"]["terminal"] = json!(true);
    let created = container.create(&[]);
    assert!(String::from_utf8_lossy(&created.stderr).contains("--console-socket"));
    container.assert_gone();
}
