//! Mount options as the runtime specification lists them.

use nix::libc;
use sys::mount_attributes::{
    ATIME_MASK, Change, NO_ATIME, NO_DEV, NO_DIR_ATIME, NO_EXEC, NO_SUID, NO_SYMLINK_FOLLOW,
    READ_ONLY, STRICT_ATIME,
};

use crate::error::{Error, Result};

/// What a mount's options ask for.
#[derive(Debug, Default)]
pub struct Options {
    /// A bind mount, and whether with the mounts below.
    pub bind: Option<bool>,
    /// Attributes of the mount itself.
    pub own: Change,
    /// Attributes of the mount and of all below.
    pub below: Change,
    /// Propagation changes in order, each recursive or not.
    pub propagation: Vec<(u64, bool)>,
    /// Changes of what is mounted there already, instead of a new mount.
    pub remount: bool,
    /// Ids mapped, and whether in the mounts below too.
    pub id_map: Option<bool>,
    /// A tmpfs that begins with the image's files.
    pub copy_up: bool,
    /// Flags and `key=value` pairs for the filesystem.
    pub data: Vec<String>,
}

/// (name, bits to set, bits to clear). With an `r` before it, the recursive form.
const ATTRIBUTES: &[(&str, u64, u64)] = &[
    ("ro", READ_ONLY, 0),
    ("rw", 0, READ_ONLY),
    ("nosuid", NO_SUID, 0),
    ("suid", 0, NO_SUID),
    ("nodev", NO_DEV, 0),
    ("dev", 0, NO_DEV),
    ("noexec", NO_EXEC, 0),
    ("exec", 0, NO_EXEC),
    ("nodiratime", NO_DIR_ATIME, 0),
    ("diratime", 0, NO_DIR_ATIME),
    ("nosymfollow", NO_SYMLINK_FOLLOW, 0),
    ("symfollow", 0, NO_SYMLINK_FOLLOW),
    ("noatime", NO_ATIME, ATIME_MASK),
    ("strictatime", STRICT_ATIME, ATIME_MASK),
    ("relatime", 0, ATIME_MASK),
    ("atime", 0, ATIME_MASK),
    ("norelatime", STRICT_ATIME, ATIME_MASK),
    ("nostrictatime", 0, ATIME_MASK),
];

const PROPAGATION: &[(&str, libc::c_ulong)] = &[
    ("shared", libc::MS_SHARED),
    ("slave", libc::MS_SLAVE),
    ("private", libc::MS_PRIVATE),
    ("unbindable", libc::MS_UNBINDABLE),
];

/// The `MS_*` bit of a propagation name, and whether it is the recursive form.
pub fn propagation(name: &str) -> Option<(u64, bool)> {
    let find = |name: &str| PROPAGATION.iter().find(|(known, _)| *known == name);
    if let Some((_, flag)) = find(name) {
        return Some((*flag, false));
    }
    find(name.strip_prefix('r')?).map(|(_, flag)| (*flag, true))
}

/// Every option that does not depend on the filesystem.
pub fn names() -> Vec<String> {
    let plain = ATTRIBUTES.iter().map(|(name, ..)| *name);
    let plain = plain.chain(PROPAGATION.iter().map(|(name, _)| *name));
    let plain: Vec<&str> = plain.collect();
    let recursive = plain.iter().map(|name| format!("r{name}"));
    let mut names: Vec<String> = plain.iter().map(|&name| name.to_owned()).collect();
    names.extend(recursive);
    let others = [
        "bind",
        "rbind",
        "defaults",
        "remount",
        "idmap",
        "ridmap",
        "tmpcopyup",
    ];
    names.extend(others.map(str::to_owned));
    names.sort();
    names
}

fn attribute(name: &str) -> Option<(u64, u64, bool)> {
    let find = |name: &str| ATTRIBUTES.iter().find(|(known, ..)| *known == name);
    if let Some((_, set, clear)) = find(name) {
        return Some((*set, *clear, false));
    }
    find(name.strip_prefix('r')?).map(|(_, set, clear)| (*set, *clear, true))
}

fn merge(change: &mut Change, set: u64, clear: u64) {
    // The later option wins; access time modes replace one another whole.
    change.set = (change.set & !clear) | set;
    change.clear = (change.clear & !set) | clear;
    if clear & ATIME_MASK == ATIME_MASK {
        change.clear |= ATIME_MASK;
    }
}

impl Options {
    /// Sorts the options of the mount at `destination`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the destination.
    pub fn parse(destination: &str, options: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options {
            if let Some((set, clear, recursive)) = attribute(option) {
                merge(
                    if recursive {
                        &mut parsed.below
                    } else {
                        &mut parsed.own
                    },
                    set,
                    clear,
                );
            } else if let Some(change) = propagation(option) {
                parsed.propagation.push(change);
            } else {
                parsed.parse_other(destination, option)?;
            }
        }
        Ok(parsed)
    }

    /// Whether these options, or the type, ask for a bind mount.
    #[must_use]
    pub fn is_bind(&self, kind: &str) -> bool {
        self.bind.is_some() || kind == "bind"
    }

    fn parse_other(&mut self, destination: &str, option: &str) -> Result<()> {
        match option {
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            // The default of every filesystem.
            "defaults" | "async" | "loud" | "silent" | "nomand" | "noiversion" | "nolazytime" => {}
            "remount" => self.remount = true,
            "idmap" => self.id_map = Some(self.id_map.unwrap_or(false)),
            "ridmap" => self.id_map = Some(true),
            "tmpcopyup" => self.copy_up = true,
            "" => {
                let field = format!("mounts.options of {destination}");
                return Err(Error::invalid(field, "an option is empty"));
            }
            // Flags of the superblock (sync, dirsync, lazytime, …) go the way of the
            // filesystem's own options.
            _ => self.data.push(option.to_owned()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Options {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        Options::parse("/x", &options).unwrap()
    }

    #[test]
    fn the_later_of_two_opposites_wins() {
        assert_eq!(parse(&["ro", "rw"]).own.set, 0);
        assert_eq!(parse(&["rw", "ro"]).own.set, READ_ONLY);
        assert_eq!(parse(&["rw", "ro"]).own.clear, 0);
    }

    #[test]
    fn access_time_modes_replace_one_another() {
        let options = parse(&["noatime", "strictatime"]);
        assert_eq!(options.own.set, STRICT_ATIME);
        assert_eq!(options.own.clear & ATIME_MASK, ATIME_MASK);
    }

    #[test]
    fn recursive_forms_are_kept_apart() {
        let options = parse(&["rro", "rbind", "rslave", "nosuid"]);
        assert_eq!(options.below.set, READ_ONLY);
        assert_eq!(options.own.set, NO_SUID);
        assert_eq!(options.bind, Some(true));
        assert_eq!(options.propagation, [(libc::MS_SLAVE, true)]);
    }

    #[test]
    fn relatime_is_not_the_recursive_form_of_something() {
        assert!(parse(&["relatime"]).below.is_empty());
        assert_eq!(
            parse(&["size=64k", "mode=755"]).data,
            ["size=64k", "mode=755"]
        );
    }

    #[test]
    fn what_is_done_by_the_runtime_is_not_for_the_filesystem() {
        let options = parse(&["remount", "ridmap", "idmap", "tmpcopyup"]);
        assert!(options.remount && options.copy_up && options.data.is_empty());
        assert_eq!(options.id_map, Some(true));
        assert!(Options::parse("/x", &[String::new()]).is_err());
    }
}
