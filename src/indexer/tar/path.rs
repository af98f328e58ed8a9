//! Names and targets in tar, brought to one clean form.

use crate::tar::error::TarError;
use crate::tar::limit::{MAX_NAME, MAX_PATH};

/// Cleans a path of an entry or the target of a hard link: empty and `.` components go, so a
/// leading `/` or `./` and a trailing `/` make no difference, and an absolute path is taken from
/// the layer's root, as every unpacker of images does. The root itself is the empty path.
///
/// # Errors
/// A `..` component is refused, never clamped: an honest archive of a layer has none. So are a
/// NUL, and what is beyond [`MAX_PATH`], [`MAX_NAME`] and `max_depth`.
pub fn clean(raw: &[u8], max_depth: usize) -> Result<Vec<u8>, TarError> {
    let too_long = |limit: usize| TarError::PathTooLong {
        path: raw.to_vec(),
        limit,
    };
    if raw.contains(&0) {
        return Err(TarError::NulInPath { path: raw.to_vec() });
    }
    let mut cleaned = Vec::with_capacity(raw.len());
    let mut depth = 0_usize;
    for component in raw.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return Err(TarError::PathEscapes { path: raw.to_vec() }),
            component if component.len() > MAX_NAME => return Err(too_long(MAX_NAME)),
            component => {
                if !cleaned.is_empty() {
                    cleaned.push(b'/');
                }
                cleaned.extend_from_slice(component);
                depth += 1;
            }
        }
    }
    if cleaned.len() > MAX_PATH {
        return Err(too_long(MAX_PATH));
    }
    if depth > max_depth {
        return Err(TarError::PathTooDeep {
            path: raw.to_vec(),
            limit: max_depth,
        });
    }
    Ok(cleaned)
}

/// Checks the target of a symbolic link, which is kept as it is: it may be absolute, dangle, leave
/// the root or loop; whoever resolves it does so inside the container's root.
///
/// # Errors
/// Empty, longer than [`MAX_PATH`], or with a NUL: no kernel could hold it.
pub fn symlink_target(path: &[u8], target: &[u8]) -> Result<Vec<u8>, TarError> {
    if target.is_empty() || target.len() > MAX_PATH || target.contains(&0) {
        return Err(TarError::SymlinkTarget {
            path: path.to_vec(),
            length: target.len(),
        });
    }
    Ok(target.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(raw: &[u8]) -> Vec<u8> {
        clean(raw, 512).unwrap()
    }

    #[test]
    fn cleans() {
        assert_eq!(cleaned(b"./usr/bin/"), b"usr/bin");
        assert_eq!(cleaned(b"/usr//./bin"), b"usr/bin");
        assert_eq!(cleaned(b"a..b/...c"), b"a..b/...c");
        assert_eq!(cleaned(b"caf\xe9"), b"caf\xe9");
    }

    #[test]
    fn root_is_empty() {
        for raw in [&b""[..], b".", b"./", b"/", b"//", b"/./"] {
            assert_eq!(cleaned(raw), b"", "{}", raw.escape_ascii());
        }
    }

    #[test]
    fn dotdot_is_refused() {
        for raw in [
            &b".."[..],
            b"../etc",
            b"a/../b",
            b"a/b/..",
            b"/..",
            b"./../x",
        ] {
            let error = clean(raw, 512).unwrap_err();
            assert!(
                matches!(&error, TarError::PathEscapes { path } if path == raw),
                "{error}"
            );
            let text = error.to_string();
            assert!(text.contains(&raw.escape_ascii().to_string()) && text.contains("refused"));
        }
    }

    #[test]
    fn limits() {
        assert!(clean(&[b'a'; MAX_NAME], 512).is_ok());
        assert!(matches!(
            clean(&[b'a'; MAX_NAME + 1], 512),
            Err(TarError::PathTooLong { .. })
        ));
        let long = [&[b'a'; 99][..], b"/"].concat().repeat(42);
        assert!(matches!(
            clean(&long, 512),
            Err(TarError::PathTooLong {
                limit: MAX_PATH,
                ..
            })
        ));
        assert!(clean(&b"a/".repeat(512), 512).is_ok());
        assert!(matches!(
            clean(&b"a/".repeat(513), 512),
            Err(TarError::PathTooDeep { .. })
        ));
        assert!(matches!(
            clean(b"a\0b", 512),
            Err(TarError::NulInPath { .. })
        ));
    }

    #[test]
    fn symlink_targets_are_verbatim() {
        for target in [&b"../../../etc/passwd"[..], b"/", b"a//b/./c/", b"\xff\xfe"] {
            assert_eq!(symlink_target(b"x", target).unwrap(), target);
        }
        assert!(symlink_target(b"x", b"").is_err());
        assert!(symlink_target(b"x", &[b'a'; MAX_PATH + 1]).is_err());
        assert!(symlink_target(b"x", &[b'a'; MAX_PATH]).is_ok());
    }
}
