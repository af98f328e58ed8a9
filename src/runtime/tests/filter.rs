//! System call filters: actions, conditions, architectures, notification.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod harness;

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use harness::Container;
use libseccomp::{ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

fn filtered(script: &str, profile: Value) -> Container {
    let mut container = Container::new(script);
    container.spec["linux"]["seccomp"] = profile;
    container
}

fn refused(profile: Value) -> String {
    let container = filtered("true", profile);
    let created = container.create(&[]);
    assert!(!created.status.success(), "was accepted");
    container.assert_gone();
    String::from_utf8(created.stderr).unwrap()
}

/// The agent's end: descriptor of notifications, and what it was told.
fn receive(listener: &UnixListener) -> (OwnedFd, Value) {
    let limit = Timespec {
        tv_sec: 60,
        tv_nsec: 0,
    };
    let mut events = [PollFd::new(listener, PollFlags::IN)];
    assert_eq!(poll(&mut events, Some(&limit)).unwrap(), 1, "nobody came");
    let (stream, _) = listener.accept().unwrap();
    let mut events = [PollFd::new(&stream, PollFlags::IN)];
    assert_eq!(poll(&mut events, Some(&limit)).unwrap(), 1, "nothing came");
    let mut text = vec![0; 64 << 10];
    let mut data = [IoSliceMut::new(&mut text)];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(&stream, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let state = serde_json::from_slice(&text[..received.bytes]).unwrap();
    (descriptor.expect("no descriptor came"), state)
}

#[test]
fn calls_are_reported_to_an_agent_which_answers_them() {
    for no_new_privileges in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent");
        let listener = UnixListener::bind(&path).unwrap();
        let mut container = filtered(
            "mkdir /memory/x 2>&1; true",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
                "listenerMetadata": "hello",
                "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]}),
        );
        container.spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
        container.save();
        let bundle = container.directory.path().to_str().unwrap();
        let running = container
            .command(&["run", "-b", bundle, &container.id])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (notifications, state) = receive(&listener);
        assert_eq!(state["fds"], json!(["seccompFd"]));
        assert_eq!(state["metadata"], "hello");
        assert_eq!(state["state"]["id"], json!(container.id));
        assert!(state["pid"].as_i64().unwrap() > 1, "{state}");
        let request = ScmpNotifReq::receive(notifications.as_raw_fd()).unwrap();
        let answer = ScmpNotifResp::new_error(
            request.id,
            -nix::libc::ENOMEDIUM,
            ScmpNotifRespFlags::empty(),
        );
        answer.respond(notifications.as_raw_fd()).unwrap();
        let output = running.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("No medium found"), "{text}");
    }
}

#[test]
fn notifications_that_could_never_be_handed_over_are_refused() {
    let notify = |name: &str| json!([{"names": [name], "action": "SCMP_ACT_NOTIFY"}]);
    let path = json!("/nowhere");
    let allow = json!("SCMP_ACT_ALLOW");
    for (profile, word) in [
        (
            json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": path}),
            "linux.seccomp.defaultAction",
        ),
        (
            json!({"defaultAction": allow, "syscalls": notify("mkdir")}),
            "linux.seccomp.listenerPath",
        ),
        (
            json!({"defaultAction": allow, "listenerPath": path}),
            "linux.seccomp.listenerPath",
        ),
        (
            json!({"defaultAction": allow, "listenerPath": path, "syscalls": notify("write")}),
            "cannot be used for the write syscall",
        ),
        (
            json!({"defaultAction": allow, "listenerPath": path, "syscalls": notify("mkdir")}),
            "listenerPath /nowhere",
        ),
    ] {
        let words = refused(profile);
        assert!(words.contains(word), "{words}");
    }
}

#[test]
fn what_a_profile_cannot_say_is_refused_by_name() {
    let allow = json!("SCMP_ACT_ALLOW");
    for (profile, word) in [
        (json!({"defaultAction": "SCMP_ACT_NONE"}), "defaultAction"),
        (json!({"defaultAction": allow, "flags": ["NONE"]}), "flags"),
        (
            json!({"defaultAction": allow, "architectures": ["NONE"]}),
            "architectures",
        ),
        (
            json!({"defaultAction": allow, "syscalls": [{"names": ["mkdir"],
                "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "NONE"}]}]}),
            "args.op",
        ),
        (
            json!({"defaultAction": allow, "syscalls": [{"names": ["mkdir"],
                "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 1,
                "op": "SCMP_CMP_EQ"}]}]}),
            "args.index",
        ),
    ] {
        let words = refused(profile);
        assert!(
            words.contains("linux.seccomp") && words.contains(word),
            "{words}"
        );
    }
}

#[test]
fn conditions_and_errors_are_those_asked_for() {
    // Everything is allowed but one signal.
    let container = filtered(
        "kill -0 $$ && echo allowed; kill -WINCH $$ 2>&1; true",
        json!({"defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_NATIVE"],
            "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 123,
                "args": [{"index": 1, "value": 28, "op": "SCMP_CMP_EQ"}]}]}),
    );
    let text = container.output();
    assert!(text.starts_with("allowed\n"), "{text}");
    assert!(text.contains("No medium found"), "{text}");
}

#[test]
fn a_call_that_kills() {
    for (action, code) in [("SCMP_ACT_KILL_PROCESS", 159), ("SCMP_ACT_TRAP", 159)] {
        let container = filtered(
            "(mkdir /memory); echo $?",
            json!({"defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": action}]}),
        );
        let text = container.output();
        assert_eq!(
            text.lines().last(),
            Some(code.to_string().as_str()),
            "{text}"
        );
    }
}
