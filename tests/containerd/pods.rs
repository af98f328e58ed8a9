//! Pods, as a kubelet runs them: brisk-runtime as a runtime handler beside runc.

use cri::{Client, spec, wire};

use super::support::busybox;
use super::support::containerd::Containerd;
use super::support::registry::until;
use super::work::LIMIT;

const IMAGE: &str = "localhost/brisk/busybox:1";

/// A containerd that runs pods, and has the image.
struct Node {
    containerd: Containerd,
    client: Client,
}

/// A pod and its configuration.
struct Pod {
    id: String,
    config: wire::PodSandboxConfig,
}

impl Node {
    fn new() -> Self {
        let containerd = Containerd::with_pods(IMAGE);
        let archive = containerd.path("image.tar");
        busybox::save_image(IMAGE, &archive);
        let import = [
            "-n",
            "k8s.io",
            "images",
            "import",
            archive.to_str().unwrap(),
        ];
        containerd.ctr(&import);
        let mut client = Client::connect(&containerd.socket()).unwrap();
        until("the image is known", LIMIT, || {
            client.has_image(IMAGE).unwrap()
        });
        Node { containerd, client }
    }

    fn pod(&mut self, name: &str, handler: &str) -> Pod {
        let config = wire::PodSandboxConfig {
            metadata: Some(wire::PodSandboxMetadata {
                name: name.to_owned(),
                uid: format!("{}-{name}", self.containerd.name()),
                namespace: "tests".to_owned(),
                attempt: 0,
            }),
            hostname: name.to_owned(),
            log_directory: self.containerd.path("logs").display().to_string(),
            linux: Some(wire::LinuxPodSandboxConfig {
                cgroup_parent: format!("/{}", self.containerd.name()),
                sysctls: [("net.ipv4.ip_unprivileged_port_start", "80")]
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
                security_context: Some(wire::LinuxSandboxSecurityContext {
                    // As kubelets have it: a namespace of processes for every container.
                    namespace_options: Some(namespaces()),
                    ..wire::LinuxSandboxSecurityContext::default()
                }),
            }),
            ..wire::PodSandboxConfig::default()
        };
        let id = self.client.run_pod(&config, handler);
        let id = id.unwrap_or_else(|e| panic!("{handler}: {e}\n{}", self.containerd.log()));
        Pod { id, config }
    }

    /// A container in a pod that runs a script, with the default seccomp profile.
    fn container(&mut self, pod: &Pod, name: &str, script: &str) -> String {
        let words = ["/bin/sh", "-c", script];
        let config = wire::ContainerConfig {
            metadata: Some(wire::ContainerMetadata {
                name: name.to_owned(),
                attempt: 0,
            }),
            image: Some(spec(IMAGE)),
            command: words.map(str::to_owned).into(),
            log_path: format!("{name}.log"),
            linux: Some(wire::LinuxContainerConfig {
                resources: Some(wire::LinuxContainerResources {
                    cpu_period: 100_000,
                    cpu_quota: 50_000,
                    cpu_shares: 512,
                    memory_limit_in_bytes: 64 << 20,
                    ..wire::LinuxContainerResources::default()
                }),
                security_context: Some(wire::LinuxContainerSecurityContext {
                    namespace_options: Some(namespaces()),
                    no_new_privs: true,
                    run_as_user: Some(wire::Int64Value { value: 1000 }),
                    run_as_group: Some(wire::Int64Value { value: 2000 }),
                    supplemental_groups: vec![3000],
                    seccomp: Some(wire::SecurityProfile {
                        profile_type: wire::security_profile::ProfileType::RuntimeDefault.into(),
                    }),
                    masked_paths: vec!["/proc/kcore".to_owned()],
                    readonly_paths: vec!["/proc/sys".to_owned()],
                    ..wire::LinuxContainerSecurityContext::default()
                }),
            }),
            ..wire::ContainerConfig::default()
        };
        let created = self.client.create(&pod.id, config, &pod.config);
        created.unwrap_or_else(|e| panic!("{script}: {e}\n{}", self.containerd.log()))
    }

    /// What a script prints that runs in a container by ExecSync.
    fn inside(&mut self, container: &str, script: &str) -> String {
        let words = ["/bin/sh", "-c", script];
        let done = self.client.exec(container, &words, 60).unwrap();
        assert_eq!(done.exit_code, 0, "{script}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    fn cgroup_file(&self, hierarchy: &str, container: &str, name: &str) -> String {
        let parent = self.containerd.name();
        let path = format!("/sys/fs/cgroup/{hierarchy}/{parent}/{container}/{name}");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        text.trim_end().to_owned()
    }

    fn wait_for(&mut self, container: &str, state: wire::ContainerState) -> wire::ContainerStatus {
        until(&format!("{container} is {state:?}"), LIMIT, || {
            self.client.status(container).unwrap().state() == state
        });
        self.client.status(container).unwrap()
    }
}

fn namespaces() -> wire::NamespaceOption {
    wire::NamespaceOption {
        pid: wire::NamespaceMode::Container.into(),
        ..wire::NamespaceOption::default()
    }
}

/// The whole life of a pod with two containers.
fn live(node: &mut Node, handler: &str) {
    let name = format!("pod-{handler}");
    let pod = node.pod(&name, handler);
    let status = node.client.pod_status(&pod.id).unwrap();
    assert_eq!(status.state(), wire::PodSandboxState::SandboxReady);
    assert_eq!(status.runtime_handler, handler);
    let address = status.network.unwrap().ip;
    assert!(address.starts_with("10."), "{address}");

    let script = "trap 'exit 5' TERM; echo said; while :; do sleep 0.05; done";
    let first = node.container(&pod, "first", script);
    let status = node.client.status(&first).unwrap();
    assert_eq!(status.state(), wire::ContainerState::ContainerCreated);
    node.client.start(&first).unwrap();
    let second = node.container(&pod, "second", "exit 7");
    node.client.start(&second).unwrap();
    let status = node.wait_for(&second, wire::ContainerState::ContainerExited);
    assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));
    let running = node.client.status(&first).unwrap().state();
    assert_eq!(running, wire::ContainerState::ContainerRunning);

    // The pod's network, name and sysctl; the container's user, confinement and limits.
    let asked = [
        ("ip -4 -o addr show eth0", format!(" {address}/24 ")),
        ("hostname", name.clone()),
        (
            "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
            "80".to_owned(),
        ),
        ("id", "uid=1000 gid=2000 groups=2000,3000".to_owned()),
        (
            "cat /proc/1/status",
            "\nNoNewPrivs:\t1\nSeccomp:\t2\n".to_owned(),
        ),
        (
            "echo 1 2>&1 >/proc/sys/net/ipv4/ip_forward || true",
            "Read-only".to_owned(),
        ),
        ("head -c1 /proc/kcore | od", "0000000\n".to_owned()),
    ];
    for (script, expected) in asked {
        let script = script.replace("| od", "| busybox od");
        let found = node.inside(&first, &script);
        assert!(found.contains(&expected), "{handler} {script}: {found}");
    }
    assert_eq!(node.cgroup_file("cpu", &first, "cpu.shares"), "512");
    assert_eq!(node.cgroup_file("cpu", &first, "cpu.cfs_quota_us"), "50000");
    let limit = node.cgroup_file("memory", &first, "memory.limit_in_bytes");
    assert_eq!(limit, (64 << 20).to_string());
    let log = std::fs::read_to_string(node.containerd.path("logs/first.log")).unwrap();
    assert!(log.contains(" stdout F said\n"), "{handler}: {log}");

    let words = ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"];
    let done = node.client.exec(&first, &words, 60).unwrap();
    assert_eq!(
        (done.exit_code, &done.stdout[..], &done.stderr[..]),
        (3, &b"out\n"[..], &b"err\n"[..]),
        "{handler}"
    );
    let missing = node.client.exec(&first, &["/nosuch"], 60).unwrap_err();
    let said = missing.message();
    assert!(said.contains("/nosuch"), "{handler}: {said}");
    // A limit ends what runs longer.
    let late = node.client.exec(&first, &["sleep", "1000"], 1);
    let said = late.unwrap_err();
    assert_eq!(
        said.code(),
        cri::Code::DeadlineExceeded,
        "{handler}: {said}"
    );

    let limits = wire::LinuxContainerResources {
        cpu_quota: 70_000,
        cpu_shares: 256,
        memory_limit_in_bytes: 96 << 20,
        ..wire::LinuxContainerResources::default()
    };
    node.client.update(&first, limits).unwrap();
    assert_eq!(node.cgroup_file("cpu", &first, "cpu.shares"), "256");
    assert_eq!(node.cgroup_file("cpu", &first, "cpu.cfs_quota_us"), "70000");
    let limit = node.cgroup_file("memory", &first, "memory.limit_in_bytes");
    assert_eq!(limit, (96 << 20).to_string());

    let stats = node.client.stats(&first).unwrap();
    assert_eq!(stats.attributes.unwrap().id, first);
    let used = stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value;
    assert!(used > 0, "{handler}");
    let memory = stats.memory.unwrap().working_set_bytes.unwrap().value;
    assert!((1..96 << 20).contains(&memory), "{handler}: {memory}");

    node.client.stop(&first, 60).unwrap();
    let status = node.client.status(&first).unwrap();
    assert_eq!(status.state(), wire::ContainerState::ContainerExited);
    assert_eq!(status.exit_code, 5, "{handler}: it was asked, not killed");
    for container in [&first, &second] {
        until("the container's removal", LIMIT, || {
            node.client.remove(container).is_ok()
        });
        assert!(node.client.status(container).is_err(), "{handler}");
    }

    // A pod's end ends what still runs in it.
    let third = node.container(&pod, "third", "exec sleep 1000");
    node.client.start(&third).unwrap();
    node.client.stop_pod(&pod.id).unwrap();
    let status = node.client.status(&third).unwrap();
    assert_eq!(status.exit_code, 137, "{handler}");
    let status = node.client.pod_status(&pod.id).unwrap();
    assert_eq!(status.state(), wire::PodSandboxState::SandboxNotready);
    until("the pod's removal", LIMIT, || {
        node.client.remove_pod(&pod.id).is_ok()
    });
    assert!(node.client.pod_status(&pod.id).is_err(), "{handler}");

    let left = node.containerd.cgroups();
    let left: Vec<_> = left
        .iter()
        .filter(|path| {
            [&first, &second, &third, &pod.id]
                .iter()
                .any(|id| path.ends_with(id))
        })
        .collect();
    assert!(left.is_empty(), "{handler}: {left:?}");
    let state = node.containerd.path(handler).join("k8s.io");
    // Compiled filters are kept beside the containers, for all of them.
    let state: Vec<_> = std::fs::read_dir(state)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != ".kept:seccomp")
        .collect();
    assert!(state.is_empty(), "{handler}: {state:?}");
    let addresses = node
        .containerd
        .path("addresses")
        .join(node.containerd.name());
    assert!(!addresses.join(&address).exists(), "{handler}: {address}");
}

#[test]
fn a_pod_lives_and_ends_by_either_runtime() {
    let mut node = Node::new();
    for handler in ["runc", "brisk"] {
        live(&mut node, handler);
    }
    let unknown = node
        .client
        .run_pod(&wire::PodSandboxConfig::default(), "nosuch");
    assert!(unknown.is_err());
    let missing = node.client.pull("localhost:1/nosuch:1").unwrap_err();
    assert!(
        missing.message().contains("localhost:1/nosuch:1"),
        "{missing}"
    );
}

#[test]
fn a_container_out_of_memory_is_told_as_such() {
    let mut node = Node::new();
    for handler in ["runc", "brisk"] {
        let pod = node.pod(&format!("oom-{handler}"), handler);
        let script = "until [ -e /tmp/go ]; do sleep 0.01; done; x=$(tr '\\0' a </dev/zero)";
        let container = node.container(&pod, "hoarder", script);
        node.client.start(&container).unwrap();
        let limits = wire::LinuxContainerResources {
            memory_limit_in_bytes: 16 << 20,
            ..wire::LinuxContainerResources::default()
        };
        node.client.update(&container, limits).unwrap();
        node.inside(&container, "echo >/tmp/go");
        node.wait_for(&container, wire::ContainerState::ContainerExited);
        until("the reason", LIMIT, || {
            node.client.status(&container).unwrap().reason == "OOMKilled"
        });
        node.client.stop_pod(&pod.id).unwrap();
        // containerd may still be writing down how the container ended.
        until("the pod's removal", LIMIT, || {
            node.client.remove_pod(&pod.id).is_ok()
        });
    }
}
