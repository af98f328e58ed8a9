//! What a scope is given: systemd.resource-control(5), systemd.scope(5).

use std::collections::BTreeMap;

use crate::cgroup::device_rules::{self, Devices, Kind, Policy, letters};
use crate::cgroup::systemd::bus::{Properties, Value};
use crate::cgroup::v2::{weight_of_shares, wide_weight};
use crate::error::{Error, Result};
use crate::spec::{Cpu, Resources};

/// Annotations that are properties begin so.
const ANNOTATION: &str = "org.systemd.property.";

/// systemd rounds quotas to these microseconds per second.
const QUOTA_STEP: u64 = 10_000;

fn entry(name: &str, value: Value) -> (String, Value) {
    (name.to_owned(), value)
}

/// What every container's scope is given.
pub fn of_scope(slice: &str, pid: i32, unified: bool) -> Properties {
    let io = if unified {
        "IOAccounting"
    } else {
        "BlockIOAccounting"
    };
    vec![
        entry(
            "Description",
            Value::Text("container of brisk-runtime".to_owned()),
        ),
        entry("Slice", Value::Text(slice.to_owned())),
        entry("Delegate", Value::Flag(true)),
        entry("PIDs", Value::Shorts(vec![pid.cast_unsigned()])),
        entry("MemoryAccounting", Value::Flag(true)),
        entry("CPUAccounting", Value::Flag(true)),
        entry(io, Value::Flag(true)),
        entry("TasksAccounting", Value::Flag(true)),
        entry("DefaultDependencies", Value::Flag(false)),
    ]
}

/// Limits in bytes and numbers are negative where there is none.
fn limit(value: i64) -> Value {
    Value::Number(u64::try_from(value).unwrap_or(u64::MAX))
}

/// Those of the limits that are properties. The others are written to their files alone.
///
/// # Errors
/// [`Error::Invalid`].
pub fn of_resources(unified: bool, resources: &Resources) -> Result<Properties> {
    let mut properties = Properties::new();
    let set = |value: Option<i64>| value.filter(|&value| value != 0);
    if let Some(memory) = &resources.memory {
        if let Some(value) = set(memory.limit) {
            let name = if unified { "MemoryMax" } else { "MemoryLimit" };
            properties.push(entry(name, limit(value)));
        }
        if unified && let Some(value) = set(memory.reservation) {
            properties.push(entry("MemoryLow", limit(value)));
        }
        if unified && let Some(swap) = set(memory.swap) {
            match set(memory.limit) {
                _ if swap < 0 => properties.push(entry("MemorySwapMax", limit(-1))),
                Some(memory) if memory > 0 && swap >= memory => {
                    properties.push(entry("MemorySwapMax", limit(swap - memory)));
                }
                // What the file says when it is written.
                _ => {}
            }
        }
    }
    if let Some(cpu) = &resources.cpu {
        properties.extend(of_cpu(unified, cpu)?);
    }
    if let Some(value) = set(resources.pids.as_ref().and_then(|pids| pids.limit)) {
        properties.push(entry("TasksMax", limit(value)));
    }
    let weight = resources.block_io.as_ref().and_then(|io| io.weight);
    if let Some(weight) = weight.filter(|&weight| weight != 0) {
        properties.push(if unified {
            entry("IOWeight", Value::Number(wide_weight(weight)))
        } else {
            entry("BlockIOWeight", Value::Number(u64::from(weight)))
        });
    }
    Ok(properties)
}

fn of_cpu(unified: bool, cpu: &Cpu) -> Result<Properties> {
    let mut properties = Properties::new();
    if let Some(shares) = cpu.shares.filter(|&shares| shares != 0) {
        properties.push(if unified {
            entry("CPUWeight", Value::Number(weight_of_shares(shares)))
        } else {
            entry("CPUShares", Value::Number(shares))
        });
    }
    if let Some(quota) = cpu.quota.filter(|&quota| quota != 0) {
        let period = cpu.period.filter(|&period| period != 0).unwrap_or(100_000);
        let a_second = match u64::try_from(quota) {
            Ok(quota) => {
                let exact = quota.saturating_mul(1_000_000) / period;
                exact.div_ceil(QUOTA_STEP).saturating_mul(QUOTA_STEP)
            }
            Err(_) => u64::MAX,
        };
        properties.push(entry("CPUQuotaPerSecUSec", Value::Number(a_second)));
        properties.push(entry("CPUQuotaPeriodUSec", Value::Number(period)));
    }
    if unified {
        for (field, name, text) in [
            ("cpus", "AllowedCPUs", &cpu.cpus),
            ("mems", "AllowedMemoryNodes", &cpu.mems),
        ] {
            if !text.is_empty() {
                properties.push(entry(name, Value::Bytes(mask(field, text)?)));
            }
        }
    }
    Ok(properties)
}

/// `0-2,5` as bits, the lowest first.
fn mask(field: &str, text: &str) -> Result<Vec<u8>> {
    /// More processors than any kernel is built for.
    const LIMIT: usize = 1 << 16;
    let invalid = || Error::invalid(format!("linux.resources.cpu.{field}"), text);
    let mut mask = Vec::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.parse().map_err(|_| invalid())?;
        let last: usize = last.parse().map_err(|_| invalid())?;
        if first > last || last >= LIMIT {
            return Err(invalid());
        }
        for number in first..=last {
            if mask.len() <= number / 8 {
                mask.resize(number / 8 + 1, 0);
            }
            mask[number / 8] |= 1 << (number % 8);
        }
    }
    Ok(mask)
}

/// The device rules, which systemd would else undo when it is reloaded.
///
/// # Errors
/// As [`Policy::of`].
pub fn of_devices(resources: &Resources) -> Result<Properties> {
    let policy = Policy::of(&device_rules::parse(&resources.devices)?)?;
    let (name, allowed) = if policy.allows {
        // Exceptions from "all" have no property; the files hold them.
        ("auto", Vec::new())
    } else {
        let groups = std::fs::read_to_string("/proc/devices").unwrap_or_default();
        ("strict", allowed(&policy, &groups))
    };
    Ok(vec![
        entry("DevicePolicy", Value::Text(name.to_owned())),
        entry("DeviceAllow", Value::Pairs(allowed)),
    ])
}

/// `groups` is `/proc/devices`. A driver that it does not name cannot be named to systemd.
fn allowed(policy: &Policy, groups: &str) -> Vec<(String, String)> {
    let pair =
        |(devices, &access): (&Devices, &u8)| Some((specifier(*devices, groups)?, letters(access)));
    policy.exceptions.iter().filter_map(pair).collect()
}

fn specifier((kind, major, minor): Devices, groups: &str) -> Option<String> {
    let (directory, group, title) = match kind {
        Kind::Block => ("block", "block", "Block devices:"),
        Kind::Character => ("char", "char", "Character devices:"),
    };
    match (major, minor) {
        (Some(major), Some(minor)) => Some(format!("/dev/{directory}/{major}:{minor}")),
        (None, None) => Some(format!("{group}-*")),
        (None, Some(_)) => None,
        (Some(major), None) => {
            let lines = groups.lines().skip_while(|line| *line != title).skip(1);
            let mut lines = lines.take_while(|line| !line.is_empty());
            let name = lines.find_map(|line| {
                let (number, name) = line.trim_start().split_once(' ')?;
                (number.parse() == Ok(major)).then_some(name)
            })?;
            Some(format!("{group}-{name}"))
        }
    }
}

/// Annotations `org.systemd.property.NAME` in the notation of gvariant-text.
///
/// # Errors
/// [`Error::Invalid`] naming the annotation.
pub fn of_annotations(annotations: &BTreeMap<String, String>) -> Result<Properties> {
    let mut properties = Properties::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(ANNOTATION) else {
            continue;
        };
        let invalid = || Error::invalid(format!("annotations {key}"), text.clone());
        let letters = name.bytes().all(|byte| byte.is_ascii_alphabetic());
        if name.len() < 3 || !letters {
            return Err(invalid());
        }
        let value = parse_value(text).ok_or_else(invalid)?;
        properties.push(
            match name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) {
                // Units are written in seconds, the bus has microseconds.
                Some(stem) => {
                    let seconds = match value {
                        Value::Number(seconds) => seconds,
                        Value::Short(seconds) => u64::from(seconds),
                        Value::Signed(seconds) => u64::try_from(seconds).map_err(|_| invalid())?,
                        Value::SignedLong(seconds) => {
                            u64::try_from(seconds).map_err(|_| invalid())?
                        }
                        _ => return Err(invalid()),
                    };
                    let microseconds = seconds.checked_mul(1_000_000).ok_or_else(invalid)?;
                    (format!("{stem}USec"), Value::Number(microseconds))
                }
                None => (name.to_owned(), value),
            },
        );
    }
    Ok(properties)
}

fn parse_value(text: &str) -> Option<Value> {
    let text = text.trim();
    if let Some(list) = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        let parts = list
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        return parts
            .map(parse_text)
            .collect::<Option<Vec<_>>>()
            .map(Value::Texts);
    }
    if let Some(value) = parse_text(text) {
        return Some(Value::Text(value));
    }
    match text.split_once(' ') {
        Some(("uint64", number)) => number.trim().parse().ok().map(Value::Number),
        Some(("uint32", number)) => number.trim().parse().ok().map(Value::Short),
        Some(("int64", number)) => number.trim().parse().ok().map(Value::SignedLong),
        Some(("int32", number)) => number.trim().parse().ok().map(Value::Signed),
        Some(_) => None,
        None => match text {
            "true" => Some(Value::Flag(true)),
            "false" => Some(Value::Flag(false)),
            number => number.parse().ok().map(Value::Signed),
        },
    }
}

/// A text in quotes of either kind, without any inside.
fn parse_text(text: &str) -> Option<String> {
    let quote = text
        .chars()
        .next()
        .filter(|quote| matches!(quote, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    (!inner.contains(['\'', '"', '\\'])).then(|| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(unified: bool, value: serde_json::Value) -> BTreeMap<String, Value> {
        let resources: Resources = serde_json::from_value(value).unwrap();
        of_resources(unified, &resources)
            .unwrap()
            .into_iter()
            .collect()
    }

    #[test]
    fn limits_have_the_names_of_their_version() {
        let wanted = json!({
            "memory": {"limit": 1000, "swap": 1500, "reservation": 10},
            "cpu": {"shares": 1024, "quota": 15_500, "period": 100_000, "cpus": "0-1,9", "mems": "0"},
            "pids": {"limit": -1}, "blockIO": {"weight": 10},
        });
        let v1 = of(false, wanted.clone());
        assert_eq!(v1["MemoryLimit"], Value::Number(1000));
        assert_eq!(v1["CPUShares"], Value::Number(1024));
        assert_eq!(v1["BlockIOWeight"], Value::Number(10));
        assert_eq!(v1["TasksMax"], Value::Number(u64::MAX));
        assert_eq!(v1["CPUQuotaPerSecUSec"], Value::Number(160_000));
        assert!(!v1.contains_key("AllowedCPUs"));
        let v2 = of(true, wanted);
        assert_eq!(v2["MemoryMax"], Value::Number(1000));
        assert_eq!(v2["MemorySwapMax"], Value::Number(500));
        assert_eq!(v2["MemoryLow"], Value::Number(10));
        assert_eq!(v2["CPUWeight"], Value::Number(39));
        assert_eq!(v2["IOWeight"], Value::Number(1));
        assert_eq!(v2["AllowedCPUs"], Value::Bytes(vec![3, 2]));
        assert_eq!(v2["AllowedMemoryNodes"], Value::Bytes(vec![1]));
        let none = of(true, json!({"cpu": {"quota": -1}}));
        assert_eq!(none["CPUQuotaPerSecUSec"], Value::Number(u64::MAX));
        assert!(mask("cpus", "3-1").is_err() && mask("cpus", "x").is_err());
    }

    #[test]
    fn devices_are_named_as_systemd_names_them() {
        let groups = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  7 loop\n";
        let rules = json!([{"allow": true, "type": "b", "major": 7, "access": "r"},
                           {"allow": true, "type": "b", "major": 99, "access": "r"}]);
        let rules: Vec<_> = serde_json::from_value(rules).unwrap();
        let policy = Policy::of(&device_rules::parse(&rules).unwrap()).unwrap();
        let allowed = allowed(&policy, groups);
        let has = |name: &str, access: &str| allowed.contains(&(name.into(), access.into()));
        assert!(has("block-loop", "r") && has("char-pts", "rwm") && has("char-*", "m"));
        assert!(
            has("/dev/char/1:3", "rwm") && !allowed.iter().any(|(name, _)| name.contains("99"))
        );
    }

    #[test]
    fn annotations_are_typed() {
        let of = |name: &str, text: &str| {
            let annotations = BTreeMap::from([(format!("{ANNOTATION}{name}"), text.to_owned())]);
            of_annotations(&annotations).map(|mut properties| properties.remove(0))
        };
        let ok = |name, text| of(name, text).unwrap();
        assert_eq!(
            ok("CollectMode", "'inactive'").1,
            Value::Text("inactive".into())
        );
        assert_eq!(
            ok("TimeoutStopUSec", "uint64 5"),
            entry("TimeoutStopUSec", Value::Number(5))
        );
        assert_eq!(
            ok("TimeoutStopSec", "2"),
            entry("TimeoutStopUSec", Value::Number(2_000_000))
        );
        assert_eq!(ok("SendSIGHUP", "true").1, Value::Flag(true));
        assert_eq!(
            ok("After", "['a', \"b\"]").1,
            Value::Texts(vec!["a".into(), "b".into()])
        );
        for (name, text) in [
            ("A-b", "1"),
            ("Abc", "what"),
            ("Abc", "uint64 x"),
            ("TimeoutSec", "'x'"),
        ] {
            let words = of(name, text).unwrap_err().to_string();
            assert!(words.contains(ANNOTATION), "{words}");
        }
        let other = BTreeMap::from([("other".to_owned(), "?".to_owned())]);
        assert!(of_annotations(&other).unwrap().is_empty());
    }
}
