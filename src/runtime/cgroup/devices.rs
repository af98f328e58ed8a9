//! The device controller of version 1: nothing is allowed but what a rule allows.

use crate::cgroup::{Cgroup, files};
use crate::error::{Error, Result};
use crate::spec::DeviceRule;

/// What every container may use: making any node, and the devices that the specification asks
/// every container to have, with the terminals.
const ALWAYS_ALLOWED: &[&str] = &[
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// Whether a rule is for all devices.
fn is_for_all(rule: &DeviceRule) -> bool {
    let any = |number: Option<i64>| number.is_none_or(|number| number < 0);
    matches!(rule.kind.as_str(), "" | "a") && any(rule.major) && any(rule.minor)
}

/// The lines to write for `rules`, in order: (file, line).
fn lines(rules: &[DeviceRule]) -> Result<Vec<(&'static str, String)>> {
    let mut lines = vec![("devices.deny", "a".to_owned())];
    for rule in rules {
        let file = if rule.allow {
            "devices.allow"
        } else {
            "devices.deny"
        };
        if is_for_all(rule) && (rule.access.is_empty() || rule.access == "rwm") {
            // Everything before it is void.
            lines.clear();
            lines.push((file, "a".to_owned()));
            continue;
        }
        let kinds: &[&str] = match rule.kind.as_str() {
            "" | "a" => &["b", "c"],
            "b" => &["b"],
            "c" | "u" => &["c"],
            other => {
                return Err(Error::invalid("linux.resources.devices.type", other));
            }
        };
        let number = |number: Option<i64>| match number {
            Some(number) if number >= 0 => number.to_string(),
            _ => "*".to_owned(),
        };
        let access = if rule.access.is_empty() {
            "rwm"
        } else {
            &rule.access
        };
        if !access.chars().all(|letter| "rwm".contains(letter)) {
            return Err(Error::invalid("linux.resources.devices.access", access));
        }
        for kind in kinds {
            let (major, minor) = (number(rule.major), number(rule.minor));
            lines.push((file, format!("{kind} {major}:{minor} {access}")));
        }
    }
    let all_allowed = lines.len() == 1 && lines[0].0 == "devices.allow";
    if !all_allowed {
        lines.extend(
            ALWAYS_ALLOWED
                .iter()
                .map(|line| ("devices.allow", (*line).to_owned())),
        );
    }
    Ok(lines)
}

/// Applies the rules.
///
/// # Errors
/// [`Error::Unsupported`] where the rules forbid something and there is no controller of version
/// 1; [`Error::Os`] naming the file.
pub fn apply(cgroup: &Cgroup, rules: &[DeviceRule]) -> Result<()> {
    let lines = lines(rules)?;
    let Some(path) = cgroup.hierarchy("devices") else {
        if lines.len() == 1 && lines[0].0 == "devices.allow" {
            return Ok(());
        }
        let reason = "no devices hierarchy is mounted, and cgroup2's device programs are not \
                      implemented; allow all devices to go on without";
        return Err(Error::unsupported("linux.resources.devices", reason));
    };
    for (file, line) in lines {
        files::write(path, file, &line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_allowed_by_default() {
        let lines = lines(&[]).unwrap();
        assert_eq!(lines[0], ("devices.deny", "a".to_owned()));
        assert!(lines.contains(&("devices.allow", "c 1:3 rwm".to_owned())));
    }

    #[test]
    fn a_rule_for_all_voids_those_before_it() {
        let all = DeviceRule {
            allow: true,
            access: "rwm".into(),
            ..DeviceRule::default()
        };
        assert_eq!(lines(&[all]).unwrap(), [("devices.allow", "a".to_owned())]);
    }

    #[test]
    fn a_rule_without_a_kind_is_for_both() {
        let rule = DeviceRule {
            allow: true,
            major: Some(10),
            ..DeviceRule::default()
        };
        let lines = lines(&[rule]).unwrap();
        assert!(lines.contains(&("devices.allow", "b 10:* rwm".to_owned())));
        assert!(lines.contains(&("devices.allow", "c 10:* rwm".to_owned())));
    }
}
