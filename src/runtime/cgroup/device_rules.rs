//! Device rules: what `linux.resources.devices` says, and what it comes to in the end.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::spec::DeviceRule;

/// Making a node.
pub const MKNOD: u8 = 1;
/// Reading from a device.
pub const READ: u8 = 2;
/// Writing to a device.
pub const WRITE: u8 = 4;
/// All that can be done.
pub const FULL: u8 = MKNOD | READ | WRITE;

/// Kinds of device nodes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// `b`.
    Block,
    /// `c`, and `u` of the specification.
    Character,
}

impl Kind {
    fn letter(self) -> char {
        match self {
            Self::Block => 'b',
            Self::Character => 'c',
        }
    }
}

/// One rule; `None` is any.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Whether it allows or denies.
    pub allow: bool,
    /// The kind of node.
    pub kind: Option<Kind>,
    /// The driver.
    pub major: Option<u32>,
    /// The driver's device.
    pub minor: Option<u32>,
    /// What it allows or denies: bits of [`FULL`].
    pub access: u8,
}

impl Rule {
    /// Whether it is about everything, which makes what came before it void.
    pub fn is_for_all(&self) -> bool {
        (self.kind, self.major, self.minor, self.access) == (None, None, None, FULL)
    }
}

const ANY: Option<u32> = None;

/// What every container may use: making any node, and the devices that the specification asks
/// every container to have, with the terminals.
const ALWAYS_ALLOWED: [(Kind, Option<u32>, Option<u32>, u8); 11] = [
    (Kind::Character, ANY, ANY, MKNOD),
    (Kind::Block, ANY, ANY, MKNOD),
    (Kind::Character, Some(1), Some(3), FULL),
    (Kind::Character, Some(1), Some(5), FULL),
    (Kind::Character, Some(1), Some(7), FULL),
    (Kind::Character, Some(1), Some(8), FULL),
    (Kind::Character, Some(1), Some(9), FULL),
    (Kind::Character, Some(5), Some(0), FULL),
    (Kind::Character, Some(5), Some(1), FULL),
    (Kind::Character, Some(5), Some(2), FULL),
    (Kind::Character, Some(136), ANY, FULL),
];

/// The rules as they are to be applied, in order; those that hold for every container last.
///
/// # Errors
/// [`Error::Invalid`] naming the field.
pub fn parse(rules: &[DeviceRule]) -> Result<Vec<Rule>> {
    let mut parsed = rules.iter().map(parse_one).collect::<Result<Vec<_>>>()?;
    parsed.extend(ALWAYS_ALLOWED.map(|(kind, major, minor, access)| Rule {
        allow: true,
        kind: Some(kind),
        major,
        minor,
        access,
    }));
    Ok(parsed)
}

fn parse_one(rule: &DeviceRule) -> Result<Rule> {
    let kind = match rule.kind.as_str() {
        "" | "a" => None,
        "b" => Some(Kind::Block),
        "c" | "u" => Some(Kind::Character),
        other => return Err(Error::invalid("linux.resources.devices.type", other)),
    };
    let number = |field: &str, number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number).map(Some).map_err(|_| {
            let field = format!("linux.resources.devices.{field}");
            Error::invalid(field, number.to_string())
        }),
    };
    let mut access = 0;
    for letter in rule.access.chars() {
        access |= match letter {
            'm' => MKNOD,
            'r' => READ,
            'w' => WRITE,
            // Not a letter of the specification; runc passes it over beside others.
            'a' if rule.access.len() > 1 => 0,
            _ => {
                let field = "linux.resources.devices.access";
                return Err(Error::invalid(field, rule.access.clone()));
            }
        };
    }
    Ok(Rule {
        allow: rule.allow,
        kind,
        major: number("major", rule.major)?,
        minor: number("minor", rule.minor)?,
        access: if access == 0 { FULL } else { access },
    })
}

/// The devices that an exception is for.
pub type Devices = (Kind, Option<u32>, Option<u32>);

/// What the rules come to, as the controller of version 1 keeps it: a default, and exceptions
/// from it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Policy {
    /// Whether what has no exception is allowed.
    pub allows: bool,
    /// Exceptions with the access that they are for.
    pub exceptions: BTreeMap<Devices, u8>,
}

impl Policy {
    /// Applies `rules` in order to a policy that allows nothing.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a rule that takes a part out of a wider one: version 1 cannot
    /// keep that.
    pub fn of(rules: &[Rule]) -> Result<Self> {
        let mut policy = Self::default();
        for rule in rules {
            policy.apply(rule)?;
        }
        Ok(policy)
    }

    fn apply(&mut self, rule: &Rule) -> Result<()> {
        if rule.is_for_all() {
            self.allows = rule.allow;
            self.exceptions.clear();
            return Ok(());
        }
        let kinds = match &rule.kind {
            Some(kind) => std::slice::from_ref(kind),
            None => &[Kind::Block, Kind::Character],
        };
        for &kind in kinds {
            let devices = (kind, rule.major, rule.minor);
            if rule.allow != self.allows {
                *self.exceptions.entry(devices).or_insert(0) |= rule.access;
                continue;
            }
            if let Some((wider, _)) = self.exceptions.iter().find(|(other, access)| {
                **other != devices
                    && **access & rule.access != 0
                    && overlap(**other, devices)
                    && !covers(devices, **other)
            }) {
                let reason = format!(
                    "the rule for {} takes a part out of that for {}, which version 1 of the \
                     controller cannot do",
                    line(devices, rule.access),
                    line(*wider, rule.access)
                );
                return Err(Error::unsupported("linux.resources.devices", reason));
            }
            self.exceptions.retain(|&other, access| {
                if covers(devices, other) {
                    *access &= !rule.access;
                }
                *access != 0
            });
        }
        Ok(())
    }

    /// Reads the controller's `devices.list`. Of a policy that allows by default it does not
    /// show the exceptions.
    pub fn read(list: &str) -> Self {
        let mut policy = Self::default();
        for line in list.lines() {
            match parse_line(line) {
                Some((devices, access)) => {
                    policy.exceptions.insert(devices, access);
                }
                None => policy.allows = true,
            }
        }
        policy
    }
}

/// `None` for the line about everything.
fn parse_line(line: &str) -> Option<(Devices, u8)> {
    let mut words = line.split(' ');
    let kind = match words.next()? {
        "b" => Kind::Block,
        "c" => Kind::Character,
        _ => return None,
    };
    let (major, minor) = words.next()?.split_once(':')?;
    let access = words.next()?;
    let bit = |letter, bit| if access.contains(letter) { bit } else { 0 };
    let access = bit('r', READ) | bit('w', WRITE) | bit('m', MKNOD);
    Some(((kind, major.parse().ok(), minor.parse().ok()), access))
}

fn overlap(one: Devices, other: Devices) -> bool {
    let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
    one.0 == other.0 && meet(one.1, other.1) && meet(one.2, other.2)
}

fn covers(wide: Devices, narrow: Devices) -> bool {
    let within = |wide: Option<u32>, narrow: Option<u32>| wide.is_none() || wide == narrow;
    wide.0 == narrow.0 && within(wide.1, narrow.1) && within(wide.2, narrow.2)
}

/// As the controller's files have it: `c 1:3 rwm`.
pub fn line((kind, major, minor): Devices, access: u8) -> String {
    let number =
        |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
    let kind = kind.letter();
    let access = letters(access);
    format!("{kind} {}:{} {access}", number(major), number(minor))
}

/// `rwm`, or a part of it.
pub fn letters(access: u8) -> String {
    let letters = [('r', READ), ('w', WRITE), ('m', MKNOD)];
    letters
        .iter()
        .filter(|(_, bit)| access & bit != 0)
        .map(|(letter, _)| *letter)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::rule;

    fn policy(rules: &[DeviceRule]) -> Result<Policy> {
        Policy::of(&parse(rules)?)
    }

    #[test]
    fn nothing_but_the_defaults_is_allowed_without_rules() {
        let policy = policy(&[]).unwrap();
        assert!(!policy.allows);
        let null = (Kind::Character, Some(1), Some(3));
        assert_eq!(policy.exceptions[&null], FULL);
        let disk = (Kind::Block, Some(8), Some(0));
        assert!(!policy.exceptions.contains_key(&disk));
        assert_eq!(policy.exceptions[&(Kind::Block, ANY, ANY)], MKNOD);
    }

    #[test]
    fn an_a_beside_other_letters_is_passed_over() {
        let parsed = parse(&[rule(true, "c", 10, 1, "rwa")]).unwrap();
        assert_eq!(parsed[0].access, READ | WRITE);
        for access in ["a", "rx"] {
            let words = parse(&[rule(true, "c", 10, 1, access)]).unwrap_err();
            assert!(words.to_string().contains("devices.access"), "{words}");
        }
    }

    #[test]
    fn a_rule_for_all_voids_those_before_it() {
        let rules = [rule(true, "c", 10, 1, "rw"), rule(true, "a", -1, -1, "rwm")];
        let policy = policy(&rules).unwrap();
        assert!(policy.allows && policy.exceptions.is_empty());
    }

    #[test]
    fn rules_add_and_take_away_single_accesses_of_both_kinds() {
        let rules = [
            rule(true, "", 10, -1, "rw"),
            rule(false, "c", 10, -1, "w"),
            rule(true, "c", 11, 1, "r"),
            rule(true, "c", 11, 2, "r"),
            rule(false, "c", 11, -1, ""),
        ];
        let policy = policy(&rules).unwrap();
        assert_eq!(
            policy.exceptions[&(Kind::Block, Some(10), ANY)],
            READ | WRITE
        );
        assert_eq!(policy.exceptions[&(Kind::Character, Some(10), ANY)], READ);
        assert!(!policy.exceptions.keys().any(|key| key.1 == Some(11)));
    }

    #[test]
    fn a_hole_in_a_wider_rule_is_refused() {
        let rules = [
            rule(true, "c", 10, -1, "rwm"),
            rule(false, "c", 10, 200, "rwm"),
        ];
        let words = policy(&rules).unwrap_err().to_string();
        assert!(words.contains("c 10:200 rwm"), "{words}");
        let allowing = [
            rule(true, "a", -1, -1, ""),
            rule(false, "b", 8, -1, "w"),
            rule(true, "b", 8, 1, "w"),
        ];
        assert!(policy(&allowing).is_err());
    }

    #[test]
    fn what_is_no_rule_is_named() {
        for (bad, field) in [
            (rule(true, "x", 1, 1, "r"), "type"),
            (rule(true, "c", 1, 1, "rx"), "access"),
            (rule(true, "c", -2, 1, "r"), "major"),
        ] {
            let words = policy(&[bad]).unwrap_err().to_string();
            assert!(
                words.contains(&format!("linux.resources.devices.{field}")),
                "{words}"
            );
        }
    }

    #[test]
    fn the_controllers_list_is_read_back() {
        assert!(Policy::read("a *:* rwm\n").allows);
        let policy = policy(&[rule(true, "b", 8, -1, "r")]).unwrap();
        let list: String = policy
            .exceptions
            .iter()
            .map(|(&devices, &access)| line(devices, access) + "\n")
            .collect();
        assert_eq!(Policy::read(&list), policy);
    }
}
