//! `features`: what the specification's features document tells callers.

use serde_json::json;

use crate::cli::{Call, print};
use crate::error::Result;
use crate::process::{capability_names, filter_names};
use crate::state::SPEC_VERSION;

/// What the runtime does where the machine can: the document says nothing of this machine.
pub(crate) fn run(call: &Call) -> Result<u8> {
    call.parsed.at_most(0)?;
    let features = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart",
                  "poststop"],
        "mountOptions": crate::rootfs::option_names(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capability_names().collect::<Vec<_>>(),
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true,
                       "rdma": true},
            "seccomp": {
                "enabled": true,
                "actions": filter_names::ACTIONS,
                "operators": filter_names::OPERATORS,
                "archs": filter_names::ARCHITECTURES,
                "knownFlags": filter_names::FLAGS,
                "supportedFlags": filter_names::FLAGS,
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": true, "schemata": true},
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true},
        },
    });
    print(&format!("{features:#}\n"))
}
