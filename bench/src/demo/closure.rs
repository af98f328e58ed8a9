//! The files that a program of this machine needs to run elsewhere.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// As many symlinks as the kernel follows in one path.
const LINK_LIMIT: usize = 40;

/// Paths, absolute, that together make programs run: each path with the symlinks on its way.
#[derive(Debug, Default)]
pub struct Closure {
    /// Regular files and symlinks.
    pub paths: BTreeSet<PathBuf>,
}

impl Closure {
    /// Adds a file by the path under which it is used, and every symlink passed on the way.
    ///
    /// # Errors
    /// Where the path leads nowhere.
    pub fn add(&mut self, path: &Path) -> Result<()> {
        let mut rest = path.to_owned();
        for _ in 0..LINK_LIMIT {
            match first_link(&rest)? {
                None => {
                    self.paths.insert(rest);
                    return Ok(());
                }
                Some((link, target)) => {
                    self.paths.insert(link);
                    rest = target;
                }
            }
        }
        bail!("{}: too many symlinks", path.display());
    }

    /// Adds a program and the libraries that the dynamic linker loads for it.
    ///
    /// # Errors
    /// Where the program is not there.
    pub fn add_program(&mut self, program: &Path) -> Result<()> {
        self.add(program)?;
        let output = output_of(Command::new("ldd").arg(program))?;
        for word in output.split_whitespace().filter(|w| w.starts_with('/')) {
            self.add(Path::new(word.trim_end_matches(':')))?;
        }
        Ok(())
    }
}

/// What a command prints.
///
/// # Errors
/// Where it cannot be run or fails.
pub fn output_of(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("running {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!(
            "{}: {}",
            command.get_program().display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first component of a path that is a symlink, and the path with it replaced.
fn first_link(path: &Path) -> Result<Option<(PathBuf, PathBuf)>> {
    let names: Vec<OsString> = path
        .components()
        .filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir))
        .map(|c| c.as_os_str().to_owned())
        .collect();
    let mut so_far = PathBuf::from("/");
    for (number, name) in names.iter().enumerate() {
        if name == ".." {
            so_far.pop();
            continue;
        }
        so_far.push(name);
        let metadata = so_far
            .symlink_metadata()
            .with_context(|| so_far.display().to_string())?;
        if metadata.is_symlink() {
            let target = so_far.read_link()?;
            let mut replaced = so_far.parent().unwrap_or(Path::new("/")).join(target);
            replaced.extend(&names[number + 1..]);
            return Ok(Some((so_far, replaced)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_symlink_on_the_way_is_taken_along() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("real")).unwrap();
        std::fs::write(at("real/file.1"), "x").unwrap();
        symlink("file.1", at("real/file")).unwrap();
        symlink("../real", at("real/up")).unwrap();
        symlink("real/up", at("short")).unwrap();
        let mut closure = Closure::default();
        closure.add(&at("short/file")).unwrap();
        let names = ["real/file", "real/file.1", "real/up", "short"];
        assert_eq!(closure.paths, names.iter().map(|n| at(n)).collect());
        assert!(closure.add(&at("missing")).is_err());
        symlink("loop", at("loop")).unwrap();
        assert!(closure.add(&at("loop")).is_err());
    }
}
