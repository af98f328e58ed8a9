//! The systemd driver, against a message bus (dbus-daemon) on which a part of this test answers
//! in systemd's place: there is no systemd where the tests run. Needs root.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod harness;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use harness::{Container, wait_until};
use rustbus::connection::Timeout;
use rustbus::message_builder::{MarshalledMessage, MessageBuilder};
use rustbus::wire::ObjectPath;
use rustbus::wire::unmarshal::traits::Variant;
use rustbus::{RpcConn, connection::ll_conn::force_finish_on_error};
use serde_json::json;

const FILE: &str = "BRISK_FAKE_SYSTEMD_LOG";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const OBJECT: &str = "/org/freedesktop/systemd1";
const JOB: &str = "/org/freedesktop/systemd1/job/1";

/// Where a real systemd would have the unit, in its own hierarchy.
fn named(slice: &str, unit: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup/systemd").join(slice).join(unit)
}

/// Not a test: what answers for systemd, when the test below starts this program again.
#[test]
fn systemd_for_the_others() {
    let Ok(log) = std::env::var(FILE) else { return };
    let limit = Timeout::Infinite;
    let mut connection = RpcConn::session_conn(limit).unwrap();
    let mut name = rustbus::standard_messages::request_name("org.freedesktop.systemd1", 0);
    let serial = send(&mut connection, &mut name);
    connection.wait_response(serial, limit).unwrap();
    let mut log = std::fs::File::options().append(true).open(log).unwrap();
    writeln!(log, "ready").unwrap();
    let mut units: Vec<(String, String)> = Vec::new();
    loop {
        let Ok(call) = connection.wait_call(limit) else {
            return;
        };
        let member = call.dynheader.member.clone().unwrap();
        let mut answer = call.dynheader.make_response();
        let mut ended = None;
        match member.as_str() {
            "StartTransientUnit" => match start(&call, &mut log, &mut units) {
                Some(unit) => ended = Some(unit),
                None => {
                    refuse(
                        &mut connection,
                        &call,
                        "org.freedesktop.systemd1.UnitExists",
                    );
                    continue;
                }
            },
            "StopUnit" => {
                let unit: String = call.body.parser().get().unwrap();
                writeln!(log, "StopUnit {unit}").unwrap();
                let at = units.iter().position(|(_, known)| *known == unit).unwrap();
                let (slice, _) = units.remove(at);
                let _ = std::fs::remove_dir(named(&slice, &unit));
                ended = Some(unit);
            }
            "SetUnitProperties" => {
                let mut body = call.body.parser();
                let (unit, _): (&str, bool) = body.get2().unwrap();
                let properties: Vec<(&str, Variant<'_, '_>)> = body.get().unwrap();
                writeln!(log, "SetUnitProperties {unit}").unwrap();
                write_properties(&mut log, &properties);
            }
            _ => {}
        }
        let Some(unit) = ended else {
            send(&mut connection, &mut answer);
            continue;
        };
        answer
            .body
            .push_param(ObjectPath::new(JOB).unwrap())
            .unwrap();
        send(&mut connection, &mut answer);
        let mut signal = MessageBuilder::new()
            .signal(MANAGER, "JobRemoved", OBJECT)
            .build();
        let path = ObjectPath::new(JOB).unwrap();
        signal
            .body
            .push_param4(1_u32, path, unit.as_str(), "done")
            .unwrap();
        send(&mut connection, &mut signal);
    }
}

fn send(connection: &mut RpcConn, message: &mut MarshalledMessage) -> u32 {
    let sending = connection.send_message(message).unwrap();
    sending
        .write(Timeout::Infinite)
        .map_err(force_finish_on_error)
        .unwrap()
}

/// Answers with an error; by hand, because the crate leaves its name out.
fn refuse(connection: &mut RpcConn, call: &MarshalledMessage, name: &str) {
    let mut fields = Vec::new();
    let mut text = |code: u8, text: &str| {
        fields.resize(fields.len().next_multiple_of(8), 0);
        fields.extend([code, 1, b's', 0]);
        fields.extend((text.len() as u32).to_le_bytes());
        fields.extend(text.bytes().chain([0]));
    };
    text(4, name);
    text(6, call.dynheader.sender.as_deref().unwrap());
    fields.resize(fields.len().next_multiple_of(8), 0);
    fields.extend([5, 1, b'u', 0]);
    fields.extend(call.dynheader.serial.unwrap().to_le_bytes());
    let serial = connection.alloc_serial();
    let mut message = vec![b'l', 3, 0, 1, 0, 0, 0, 0];
    message.extend(serial.to_le_bytes());
    message.extend((fields.len() as u32).to_le_bytes());
    message.extend(fields);
    message.resize(message.len().next_multiple_of(8), 0);
    let socket = connection.conn().as_raw_fd();
    let flags = nix::sys::socket::MsgFlags::empty();
    let sent = nix::sys::socket::send(socket, &message, flags).unwrap();
    assert_eq!(sent, message.len());
}

/// The unit's name, or nothing where there is one already.
fn start(
    call: &MarshalledMessage,
    log: &mut std::fs::File,
    units: &mut Vec<(String, String)>,
) -> Option<String> {
    let mut body = call.body.parser();
    let (unit, _): (&str, &str) = body.get2().unwrap();
    let properties: Vec<(&str, Variant<'_, '_>)> = body.get().unwrap();
    if units.iter().any(|(_, known)| known == unit) {
        return None;
    }
    writeln!(log, "StartTransientUnit {unit}").unwrap();
    write_properties(log, &properties);
    let find = |name: &str| {
        properties
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    };
    let slice: &str = find("Slice").unwrap().get().unwrap();
    let pids: Vec<u32> = find("PIDs").unwrap().get().unwrap();
    let directory = named(slice, unit);
    if std::fs::create_dir_all(&directory).is_ok() {
        std::fs::write(directory.join("cgroup.procs"), pids[0].to_string()).unwrap();
    }
    units.push((slice.to_owned(), unit.to_owned()));
    Some(unit.to_owned())
}

fn write_properties(log: &mut std::fs::File, properties: &[(&str, Variant<'_, '_>)]) {
    for (name, value) in properties {
        let text = value
            .get::<&str>()
            .map(str::to_owned)
            .or_else(|_| value.get::<bool>().map(|value| value.to_string()))
            .or_else(|_| value.get::<u64>().map(|value| value.to_string()))
            .or_else(|_| value.get::<Vec<u32>>().map(|value| format!("{value:?}")))
            .or_else(|_| {
                value
                    .get::<Vec<(&str, &str)>>()
                    .map(|value| format!("{value:?}"))
            })
            .unwrap_or_else(|_| "?".to_owned());
        writeln!(log, "{name}={text}").unwrap();
    }
}

/// The bus with the one who answers on it.
struct Systemd {
    children: Vec<Child>,
    directory: tempfile::TempDir,
    slice: String,
}

impl Systemd {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("bus");
        let config = directory.path().join("bus.conf");
        let text = format!(
            "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow send_destination=\"*\"/><allow own=\"*\"/>\
             <allow receive_sender=\"*\"/><allow send_type=\"signal\"/></policy></busconfig>",
            socket.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--print-address"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(daemon.stdout.take().unwrap());
        let mut systemd = Self {
            children: vec![daemon],
            slice: format!("brisktest{}.slice", std::process::id()),
            directory,
        };
        output.read_line(&mut String::new()).unwrap();
        std::fs::write(systemd.log_file(), "").unwrap();
        let service = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "systemd_for_the_others"])
            .env(
                "DBUS_SESSION_BUS_ADDRESS",
                format!("unix:path={}", socket.display()),
            )
            .env(FILE, systemd.log_file())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        systemd.children.push(service);
        wait_until("the service answers", || systemd.has("ready"));
        systemd
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap()
    }

    fn has(&self, line: &str) -> bool {
        self.log().lines().any(|known| known == line)
    }

    /// The runtime, shown the bus where the system's is.
    fn call(&self, container: &Container, arguments: &[&str]) -> Output {
        let script = "mount --make-rprivate / && mount -t tmpfs none /run && mkdir /run/dbus && \
                      ln -s \"$1\" /run/dbus/system_bus_socket && shift && exec \"$@\"";
        let socket = self.directory.path().join("bus");
        let errors = self.directory.path().join("errors");
        // A container would hold a pipe open.
        let status = Command::new("unshare")
            .args(["-m", "sh", "-c", script, "sh"])
            .arg(socket)
            .args([
                "timeout",
                "-s",
                "KILL",
                "60",
                env!("CARGO_BIN_EXE_brisk-runtime"),
            ])
            .args(["--systemd-cgroup", "--root"])
            .arg(container.root())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&errors).unwrap())
            .status()
            .unwrap();
        Output {
            status,
            stdout: Vec::new(),
            stderr: std::fs::read(errors).unwrap(),
        }
    }

    fn create(&self, container: &Container) -> Output {
        container.save();
        let bundle = container.directory.path().to_str().unwrap();
        self.call(container, &["create", "--bundle", bundle, &container.id])
    }

    fn ok(&self, container: &Container, arguments: &[&str]) {
        let output = self.call(container, arguments);
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {words}");
    }

    /// The slice's directories in all hierarchies.
    fn slices(&self) -> Vec<PathBuf> {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
        let directories = hierarchies.map(|entry| entry.path().join(&self.slice));
        directories.filter(|path| path.exists()).collect()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        for mut child in self.children.drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
        for slice in self.slices() {
            for entry in std::fs::read_dir(&slice).into_iter().flatten().flatten() {
                let _ = std::fs::remove_dir(entry.path());
            }
            let _ = std::fs::remove_dir(slice);
        }
    }
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_container_is_a_transient_scope() {
    if std::env::var(FILE).is_ok() {
        return;
    }
    let systemd = Systemd::new();
    let mut container = Container::new("exec sleep 1000");
    let unit = format!("p-{}.scope", container.id);
    container.spec["linux"]["cgroupsPath"] = json!(format!("{}:p:{}", systemd.slice, container.id));
    container.spec["linux"]["resources"] = json!({
        "memory": {"limit": 67_108_864}, "cpu": {"shares": 512, "quota": 20_000},
        "pids": {"limit": 60}, "devices": [{"allow": false, "access": "rwm"}],
    });
    container.spec["annotations"] = json!({"org.systemd.property.CollectMode": "'inactive'"});
    let created = systemd.create(&container);
    assert!(created.status.success(), "{}", words(&created));
    let pid = container.state()["pid"].to_string();
    for line in [
        format!("StartTransientUnit {unit}"),
        format!("Slice={}", systemd.slice),
        format!("PIDs=[{pid}]"),
        "Delegate=true".to_owned(),
        "CollectMode=inactive".to_owned(),
        "TasksMax=60".to_owned(),
        "CPUQuotaPerSecUSec=200000".to_owned(),
        "DevicePolicy=strict".to_owned(),
    ] {
        assert!(systemd.has(&line), "{line} is not in {}", systemd.log());
    }
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let wanted = format!("/{}/{unit}", systemd.slice);
    assert!(
        groups.lines().all(|line| line.ends_with(&wanted)),
        "{groups}"
    );
    let limit = Path::new("/sys/fs/cgroup/pids")
        .join(&systemd.slice)
        .join(&unit);
    let limit = limit.join("pids.max");
    assert_eq!(std::fs::read_to_string(&limit).unwrap(), "60\n");

    // Another one of the name changes nothing of this.
    let mut other = Container::new("exec sleep 1000");
    other.spec["linux"]["cgroupsPath"] = container.spec["linux"]["cgroupsPath"].clone();
    let refused = systemd.create(&other);
    assert!(
        words(&refused).contains("UnitExists"),
        "{}",
        words(&refused)
    );
    other.assert_gone();
    assert_eq!(container.status(), "created");

    systemd.ok(&container, &["update", "--pids-limit", "70", &container.id]);
    assert!(systemd.has("TasksMax=70"), "{}", systemd.log());
    assert_eq!(std::fs::read_to_string(&limit).unwrap(), "70\n");
    systemd.ok(&container, &["start", &container.id]);
    systemd.ok(&container, &["delete", "--force", &container.id]);
    assert!(
        systemd.has(&format!("StopUnit {unit}")),
        "{}",
        systemd.log()
    );
    let left: Vec<_> = systemd
        .slices()
        .into_iter()
        .filter(|slice| slice.join(&unit).exists())
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new());
    container.assert_gone();
}

#[test]
fn what_systemd_cannot_do_is_told() {
    if std::env::var(FILE).is_ok() {
        return;
    }
    let mut container = Container::new("true");
    container.save();
    let bundle = container.directory.path().to_str().unwrap().to_owned();
    let create = |container: &Container| {
        container.fails(&["--systemd-cgroup", "create", "-b", &bundle, &container.id])
    };
    // The harness's path is one for the other driver.
    assert!(create(&container).contains("slice:prefix:name"));
    container.assert_gone();
    container.spec["linux"]["cgroupsPath"] = json!(format!("a.slice:p:{}", container.id));
    container.save();
    if !Path::new("/run/dbus/system_bus_socket").exists() {
        let text = create(&container);
        assert!(
            text.contains("system bus") && text.contains("--systemd-cgroup"),
            "{text}"
        );
        container.assert_gone();
    }
}
