//! The blkio controller.

use std::path::Path;

use crate::cgroup::v1::{directory, write};
use crate::cgroup::{Cgroup, files};
use crate::error::{Error, Result};
use crate::spec::{BlockIo, ThrottleDevice};

/// Writes weights and throttles.
pub fn limit(cgroup: &Cgroup, block_io: &BlockIo) -> Result<()> {
    let weights = [
        ("weight", "weight", block_io.weight),
        ("leafWeight", "leaf_weight", block_io.leaf_weight),
    ];
    for (field, name, weight) in weights {
        if let Some(weight) = weight.filter(|&weight| weight != 0) {
            let field = format!("linux.resources.blockIO.{field}");
            write_weight(cgroup, &field, name, &weight.to_string())?;
        }
    }
    for device in &block_io.weight_device {
        let field = "linux.resources.blockIO.weightDevice";
        let weights = [
            ("weight_device", device.weight),
            ("leaf_weight_device", device.leaf_weight),
        ];
        for (name, weight) in weights {
            if let Some(weight) = weight.filter(|&weight| weight != 0) {
                let value = format!("{}:{} {weight}", device.major, device.minor);
                write_weight(cgroup, field, name, &value)?;
            }
        }
    }
    throttle(cgroup, block_io)
}

/// The file's name depends on the I/O scheduler that the kernel was built with.
fn write_weight(cgroup: &Cgroup, field: &str, name: &str, value: &str) -> Result<()> {
    let path: &Path = directory(cgroup, field, "blkio")?;
    let names = [format!("blkio.{name}"), format!("blkio.bfq.{name}")];
    let found = names.iter().find(|name| path.join(name).exists());
    let name = found.ok_or_else(|| {
        let reason = format!("this kernel has neither {} nor {}", names[0], names[1]);
        Error::unsupported(field, reason)
    })?;
    files::write_limit(path, field, name, value)
}

fn throttle(cgroup: &Cgroup, block_io: &BlockIo) -> Result<()> {
    let throttles: [(&str, &str, &[ThrottleDevice]); 4] = [
        (
            "throttleReadBpsDevice",
            "read_bps",
            &block_io.throttle_read_bps_device,
        ),
        (
            "throttleWriteBpsDevice",
            "write_bps",
            &block_io.throttle_write_bps_device,
        ),
        (
            "throttleReadIOPSDevice",
            "read_iops",
            &block_io.throttle_read_iops_device,
        ),
        (
            "throttleWriteIOPSDevice",
            "write_iops",
            &block_io.throttle_write_iops_device,
        ),
    ];
    for (field, name, devices) in throttles {
        for device in devices {
            let field = format!("linux.resources.blockIO.{field}");
            let name = format!("blkio.throttle.{name}_device");
            let value = format!("{}:{} {}", device.major, device.minor, device.rate);
            write(cgroup, &field, "blkio", &name, &value)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::Tree;
    use serde_json::json;

    fn wanted() -> BlockIo {
        serde_json::from_value(json!({
            "weight": 500, "leafWeight": 300,
            "weightDevice": [{"major": 8, "minor": 16, "weight": 200, "leafWeight": 100}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}],
            "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2000}],
            "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 30}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 40}],
        }))
        .unwrap()
    }

    #[test]
    fn every_limit_goes_to_its_file_under_either_name() {
        for prefix in ["blkio.", "blkio.bfq."] {
            let tree = Tree::v1(&["blkio"]);
            let weights = [
                "weight",
                "leaf_weight",
                "weight_device",
                "leaf_weight_device",
            ];
            let weights = weights.map(|name| format!("{prefix}{name}"));
            let throttles = ["read_bps", "write_bps", "read_iops", "write_iops"];
            let throttles = throttles.map(|name| format!("blkio.throttle.{name}_device"));
            for name in weights.iter().chain(&throttles) {
                tree.touch("blkio", &[name]);
            }
            limit(&tree.cgroup, &wanted()).unwrap();
            let values = weights.map(|name| tree.get("blkio", &name));
            assert_eq!(values, ["500", "300", "8:16 200", "8:16 100"]);
            let values = throttles.map(|name| tree.get("blkio", &name));
            assert_eq!(values, ["8:0 1000", "8:0 2000", "8:0 30", "8:0 40"]);
        }
    }

    #[test]
    fn a_kernel_without_weights_is_told() {
        let tree = Tree::v1(&["blkio"]);
        let words = limit(&tree.cgroup, &wanted()).unwrap_err().to_string();
        assert!(
            words.contains("blockIO.weight") && words.contains("blkio.bfq.weight"),
            "{words}"
        );
    }
}
