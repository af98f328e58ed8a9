//! The io controller.

use std::path::Path;

use crate::cgroup::files;
use crate::cgroup::v2::absent;
use crate::error::Result;
use crate::spec::BlockIo;

/// Writes weights and throttles.
pub fn limit(path: &Path, block_io: &BlockIo) -> Result<()> {
    let set = |weight: Option<u16>| weight.filter(|&weight| weight != 0);
    if set(block_io.leaf_weight).is_some() {
        return Err(absent("blockIO.leafWeight"));
    }
    if let Some(weight) = set(block_io.weight) {
        write_weight(path, "linux.resources.blockIO.weight", "", weight)?;
    }
    for device in &block_io.weight_device {
        if set(device.leaf_weight).is_some() {
            return Err(absent("blockIO.weightDevice (leafWeight)"));
        }
        if let Some(weight) = set(device.weight) {
            let field = "linux.resources.blockIO.weightDevice";
            let prefix = format!("{}:{} ", device.major, device.minor);
            write_weight(path, field, &prefix, weight)?;
        }
    }
    let throttles = [
        (
            "throttleReadBpsDevice",
            "rbps",
            &block_io.throttle_read_bps_device,
        ),
        (
            "throttleWriteBpsDevice",
            "wbps",
            &block_io.throttle_write_bps_device,
        ),
        (
            "throttleReadIOPSDevice",
            "riops",
            &block_io.throttle_read_iops_device,
        ),
        (
            "throttleWriteIOPSDevice",
            "wiops",
            &block_io.throttle_write_iops_device,
        ),
    ];
    for (field, key, devices) in throttles {
        for device in devices {
            let field = format!("linux.resources.blockIO.{field}");
            let value = format!("{}:{} {key}={}", device.major, device.minor, device.rate);
            files::write_limit(path, &field, "io.max", &value)?;
        }
    }
    Ok(())
}

/// The scheduler BFQ has version 1's weights; the controller's own reach further.
fn write_weight(path: &Path, field: &str, prefix: &str, weight: u16) -> Result<()> {
    if path.join("io.bfq.weight").exists() {
        return files::write_limit(path, field, "io.bfq.weight", &format!("{prefix}{weight}"));
    }
    let weight = format!("{prefix}{}", wide_weight(weight));
    files::write_limit(path, field, "io.weight", &weight)
}

/// 10..=1000 onto 1..=10000, linearly.
pub fn wide_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).clamp(10, 1000) - 10) * 9_999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::Tree;
    use serde_json::json;

    fn set(tree: &Tree, value: serde_json::Value) {
        let block_io: BlockIo = serde_json::from_value(value).unwrap();
        limit(tree.cgroup.unified.as_deref().unwrap(), &block_io).unwrap();
    }

    #[test]
    fn weights_go_to_the_file_that_is_there() {
        let tree = Tree::v2();
        let device = json!({"weightDevice": [{"major": 8, "minor": 16, "weight": 1000}]});
        tree.touch("unified", &["io.weight"]);
        set(&tree, json!({"weight": 10}));
        assert_eq!(tree.get("unified", "io.weight"), "1");
        tree.touch("unified", &["io.weight"]);
        set(&tree, device.clone());
        assert_eq!(tree.get("unified", "io.weight"), "8:16 10000");
        tree.touch("unified", &["io.bfq.weight"]);
        set(&tree, json!({"weight": 10}));
        assert_eq!(tree.get("unified", "io.bfq.weight"), "10");
        tree.touch("unified", &["io.bfq.weight"]);
        set(&tree, device);
        assert_eq!(tree.get("unified", "io.bfq.weight"), "8:16 1000");
    }

    #[test]
    fn each_throttle_is_a_key_of_one_file() {
        for (field, key) in [
            ("throttleReadBpsDevice", "rbps"),
            ("throttleWriteBpsDevice", "wbps"),
            ("throttleReadIOPSDevice", "riops"),
            ("throttleWriteIOPSDevice", "wiops"),
        ] {
            let tree = Tree::v2();
            tree.touch("unified", &["io.max"]);
            let mut value = json!({});
            value[field] = json!([{"major": 8, "minor": 0, "rate": 77}]);
            set(&tree, value);
            assert_eq!(tree.get("unified", "io.max"), format!("8:0 {key}=77"));
        }
    }
}
