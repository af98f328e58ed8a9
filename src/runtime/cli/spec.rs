//! `spec`: a `config.json` to begin with.

use std::io::Write;
use std::path::Path;

use rustix::process::{getegid, geteuid};
use serde_json::{Value, json};

use crate::cli::Call;
use crate::cli::flags::Flag;
use crate::error::{Context, Error, Result};

pub(crate) const FLAGS: &[Flag] = &[
    Flag::value("bundle", Some('b')),
    Flag::switch("rootless", None),
];

const TEMPLATE: &str = include_str!("spec.json");

pub(crate) fn run(call: &Call) -> Result<u8> {
    call.parsed.at_most(0)?;
    let text = if call.parsed.is_on("rootless") {
        rootless(geteuid().as_raw(), getegid().as_raw())?
    } else {
        TEMPLATE.to_owned()
    };
    let path = Path::new(call.parsed.value("bundle").unwrap_or(".")).join("config.json");
    let mut file = std::fs::File::create_new(&path).doing(|| format!("make {}", path.display()))?;
    file.write_all(text.as_bytes())
        .doing(|| format!("write {}", path.display()))?;
    Ok(0)
}

/// The template for a user without rights: root inside is that user outside. It stays in the
/// host's network, for which the kernel lets it have no sysfs but the host's; it has no cgroup to
/// limit, and no group 5 for its terminals.
fn rootless(user: u32, group: u32) -> Result<String> {
    let unreadable = |reason: String| Error::Document {
        path: "spec.json".into(),
        reason,
    };
    let mut spec: Value =
        serde_json::from_str(TEMPLATE).map_err(|error| unreadable(error.to_string()))?;
    let Some(mounts) = spec["mounts"].as_array_mut() else {
        return Err(unreadable("mounts are missing".to_owned()));
    };
    for mount in mounts {
        if mount["destination"] == "/sys" {
            mount["type"] = json!("none");
            mount["source"] = json!("/sys");
            mount["options"] = json!(["rbind", "nosuid", "noexec", "nodev", "ro"]);
        } else if let Some(options) = mount["options"].as_array_mut() {
            options.retain(|option| *option != "gid=5");
        }
    }
    let map = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
    let linux = &mut spec["linux"];
    linux["uidMappings"] = map(user);
    linux["gidMappings"] = map(group);
    if let Some(linux) = linux.as_object_mut() {
        linux.remove("resources");
    }
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({"type": "user"}));
    }
    Ok(format!("{spec:#}\n"))
}
