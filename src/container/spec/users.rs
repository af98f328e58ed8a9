//! User, group and supplementary groups from the image's own passwd and group files.

use crate::error::ContainerError;
use crate::rootfs::Rootfs;

/// Bytes of a passwd or group file that are read: 100,000 entries of 40 bytes and more.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// Largest user or group number docker accepts (it keeps them in 31 bits).
const MAX_ID: u32 = i32::MAX as u32;
/// The files, in every image at the same place.
const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// Who a process of the container is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResolvedUser {
    /// User number.
    pub uid: u32,
    /// Primary group number.
    pub gid: u32,
    /// All groups of the process, the primary one first.
    pub groups: Vec<u32>,
    /// Home directory, `/` for a user without an entry.
    pub home: String,
}

/// Resolves `user[:group]`, each a name or a number; empty is user 0.
///
/// As docker does: a number need not be in the files; without a `:group` the primary
/// group is the passwd entry's (0 without one) and the supplementary groups are those
/// that list the user; with one it is the only group.
pub fn resolve(rootfs: &Rootfs, user: &str) -> Result<ResolvedUser, ContainerError> {
    let passwd = read(rootfs, PASSWD)?;
    let group = read(rootfs, GROUP)?;
    resolve_in(&passwd, &group, user)
}

fn read(rootfs: &Rootfs, path: &str) -> Result<String, ContainerError> {
    let content = rootfs.read(path, MAX_FILE_BYTES)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&content).into_owned())
}

fn resolve_in(passwd: &str, group: &str, user: &str) -> Result<ResolvedUser, ContainerError> {
    let (user_part, group_part) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let user_part = if user_part.is_empty() { "0" } else { user_part };
    let number = parse_id(user_part)?;
    let mut entries = passwd.lines().filter_map(User::parse);
    let entry = match number {
        Some(uid) => entries.find(|entry| entry.uid == uid),
        None => entries.find(|entry| entry.name == user_part),
    };
    let uid = number
        .or(entry.as_ref().map(|entry| entry.uid))
        .ok_or_else(|| ContainerError::UnknownUser {
            kind: "user",
            name: user_part.to_owned(),
            file: PASSWD,
        })?;
    let mut resolved = ResolvedUser {
        uid,
        gid: entry.as_ref().map_or(0, |entry| entry.gid),
        groups: Vec::new(),
        home: entry.as_ref().map_or("/", |entry| entry.home).to_owned(),
    };
    match group_part {
        Some(wanted) => {
            resolved.gid = find_group(group, wanted)?;
            resolved.groups = vec![resolved.gid];
        }
        None => {
            resolved.groups = vec![resolved.gid];
            if let Some(entry) = entry {
                supplement(&mut resolved.groups, group, entry.name);
            }
        }
    }
    Ok(resolved)
}

/// Adds the groups that list `name` as a member.
fn supplement(groups: &mut Vec<u32>, group: &str, name: &str) {
    for entry in group.lines().filter_map(Group::parse) {
        if entry.members.split(',').any(|member| member.trim() == name)
            && !groups.contains(&entry.gid)
        {
            groups.push(entry.gid);
        }
    }
}

fn find_group(group: &str, wanted: &str) -> Result<u32, ContainerError> {
    if let Some(gid) = parse_id(wanted)? {
        return Ok(gid);
    }
    group
        .lines()
        .filter_map(Group::parse)
        .find(|entry| entry.name == wanted)
        .map(|entry| entry.gid)
        .ok_or_else(|| ContainerError::UnknownUser {
            kind: "group",
            name: wanted.to_owned(),
            file: GROUP,
        })
}

/// A number, none for a name, an error for a number out of range.
fn parse_id(text: &str) -> Result<Option<u32>, ContainerError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(ContainerError::option(
            "user",
            text,
            format!("numbers go from 0 to {MAX_ID}"),
        )),
    }
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> User<'a> {
    /// One line of passwd(5); none for what is not one.
    fn parse(line: &'a str) -> Option<User<'a>> {
        let mut fields = line.trim().split(':');
        let name = fields
            .next()
            .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).filter(|home| !home.is_empty()).unwrap_or("/");
        Some(User {
            name,
            uid,
            gid,
            home,
        })
    }
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl<'a> Group<'a> {
    /// One line of group(5); none for what is not one.
    fn parse(line: &'a str) -> Option<Group<'a>> {
        let mut fields = line.trim().split(':');
        let name = fields
            .next()
            .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(Group {
            name,
            gid,
            members: fields.next().unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD_TEXT: &str = "\
# comment
root:x:0:0:root:/root:/bin/sh
broken line
bad:x:uid:0::/:
web:x:33:34:web server:/var/www:/bin/false
1000:x:5:6::/five:/bin/sh
homeless:x:7:8:::/bin/sh
";
    const GROUP_TEXT: &str = "\
root:x:0:
adm:x:4:syslog,web
web:x:34:web
extra:x:99:root,web
";

    fn resolved(user: &str) -> ResolvedUser {
        resolve_in(PASSWD_TEXT, GROUP_TEXT, user).unwrap()
    }

    fn is(uid: u32, gid: u32, groups: &[u32], home: &str) -> ResolvedUser {
        ResolvedUser {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.to_owned(),
        }
    }

    #[test]
    fn names_numbers_and_nothing() {
        assert_eq!(resolved(""), is(0, 0, &[0, 99], "/root"));
        assert_eq!(resolved("root"), is(0, 0, &[0, 99], "/root"));
        assert_eq!(resolved("web"), is(33, 34, &[34, 4, 99], "/var/www"));
        assert_eq!(resolved("33"), is(33, 34, &[34, 4, 99], "/var/www"));
        assert_eq!(resolved("4242"), is(4242, 0, &[0], "/"));
        assert_eq!(resolved("homeless"), is(7, 8, &[8], "/"));
    }

    #[test]
    fn a_number_is_never_a_name() {
        assert_eq!(resolved("1000"), is(1000, 0, &[0], "/"));
    }

    #[test]
    fn a_given_group_is_the_only_one() {
        assert_eq!(resolved("web:adm"), is(33, 4, &[4], "/var/www"));
        assert_eq!(resolved("web:12345"), is(33, 12345, &[12345], "/var/www"));
        assert_eq!(resolved(":extra"), is(0, 99, &[99], "/root"));
        assert_eq!(resolved("web:"), is(33, 34, &[34, 4, 99], "/var/www"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = resolve_in(PASSWD_TEXT, GROUP_TEXT, "nobody").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no user \"nobody\" in the image's /etc/passwd"
        );
        let error = resolve_in("", "", "0:wheel").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no group \"wheel\" in the image's /etc/group"
        );
        assert!(resolve_in("", "", "4294967296").is_err());
        assert!(resolve_in("", "", "2147483648").is_err());
        assert_eq!(resolve_in("", "", "").unwrap(), is(0, 0, &[0], "/"));
    }
}
