//! Finding files in an image's tree as a program in it would.

use std::ops::Range;

use fuse::{MountedTree, Piece};
use index_format::{FileKind, InodeNumber};

use crate::ImageContent;

/// Symlinks followed on one path: the kernel's limit (path_resolution(7)).
const MAX_SYMLINKS: u32 = 40;

/// Where ld.so looks at last (ld.so(8)), with the directories of Debian's multiarch, which its
/// cache has.
const LIBRARIES: [&str; 8] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// Where further directories may be listed; programs of local make are found there.
const LOCAL: [&str; 1] = ["/usr/local/lib"];

/// An image's tree.
pub(super) struct Tree<'a>(&'a MountedTree<ImageContent>);

impl<'a> Tree<'a> {
    pub(super) fn new(tree: &'a MountedTree<ImageContent>) -> Tree<'a> {
        Tree(tree)
    }

    /// The regular file at an absolute path, symlinks followed within the tree, and its size.
    pub(super) fn file(&self, path: &str) -> Option<(InodeNumber, u64)> {
        let index = self.0.index();
        let mut links = 0;
        let mut rest: Vec<Vec<u8>> = components(path.as_bytes());
        let mut walked = vec![InodeNumber::ROOT];
        while let Some(name) = rest.pop() {
            if name == b".." {
                walked.truncate(walked.len().saturating_sub(1).max(1));
                continue;
            }
            let at = *walked.last()?;
            if index.inode(at).ok()?.kind != FileKind::Directory {
                return None;
            }
            let next = index.lookup(at, &name).ok()??;
            match index.inode(next).ok()?.kind {
                FileKind::Symlink => {
                    links += 1;
                    if links > MAX_SYMLINKS {
                        return None;
                    }
                    let target = index.symlink_target(next).ok()?;
                    if target.starts_with(b"/") {
                        walked.truncate(1);
                    }
                    rest.extend(components(target));
                }
                _ => walked.push(next),
            }
        }
        let inode = index.inode(*walked.last()?).ok()?;
        (inode.kind == FileKind::Regular).then_some((inode.number, inode.size))
    }

    /// Where the bytes of a file lie.
    pub(super) fn pieces(&self, inode: InodeNumber, range: Range<u64>) -> Option<Vec<Piece>> {
        let length = u32::try_from(range.end.saturating_sub(range.start)).ok()?;
        Some(self.0.read(inode, range.start, length).ok()?.pieces)
    }

    /// The program of a name, as execvp(3) finds it.
    pub(super) fn find_program(&self, name: &str, path: &str, directory: &str) -> Option<String> {
        if name.starts_with('/') {
            return Some(name.to_owned());
        }
        if name.contains('/') {
            return Some(format!("{directory}/{name}"));
        }
        let candidates = path.split(':').map(|place| format!("{place}/{name}"));
        candidates
            .filter(|candidate| candidate.starts_with('/'))
            .find(|candidate| self.file(candidate).is_some())
    }

    /// The library of a name, as ld.so(8) finds it for a file with these directories of its own.
    pub(super) fn find_library(
        &self,
        name: &str,
        directories: &[String],
        file: &str,
    ) -> Option<String> {
        if name.contains('/') {
            return name.starts_with('/').then(|| name.to_owned());
        }
        let origin = file.rsplit_once('/').map_or("", |(before, _)| before);
        let own = directories.iter().map(|directory| {
            directory
                .replace("${ORIGIN}", origin)
                .replace("$ORIGIN", origin)
        });
        let usual = LIBRARIES
            .iter()
            .chain(&LOCAL)
            .map(|place| (*place).to_owned());
        own.chain(usual)
            .map(|place| format!("{place}/{name}"))
            .find(|candidate| self.file(candidate).is_some())
    }
}

/// The names of a path, the last one first.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.split(|byte| *byte == b'/');
    names
        .filter(|name| !name.is_empty() && *name != b".")
        .map(<[u8]>::to_vec)
        .rev()
        .collect()
}

/// The words of a `#!` line.
pub(super) fn script_words(line: &[u8]) -> Vec<String> {
    let end = line.iter().position(|byte| *byte == b'\n');
    let line = &line[..end.unwrap_or(line.len())];
    let text = String::from_utf8_lossy(line);
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::{components, script_words};

    #[test]
    fn paths_and_lines_are_taken_apart() {
        let names = components(b"//usr/./lib/../x/");
        let names: Vec<_> = names
            .iter()
            .rev()
            .map(|n| String::from_utf8_lossy(n))
            .collect();
        assert_eq!(names, ["usr", "lib", "..", "x"]);
        assert_eq!(
            script_words(b" /usr/bin/env  -S python3\nx"),
            ["/usr/bin/env", "-S", "python3"]
        );
        assert!(script_words(b"").is_empty());
    }
}
