//! From a path to a node of the union, with symlinks on the way followed under the root.

use crate::directory::is_legal_name;
use crate::draft::{DraftContent, DraftId};
use crate::inode::FileKind;
use crate::limit::{MAX_RESOLVE_STEPS, MAX_SYMLINK_HOPS};
use crate::merge::{Merger, ROOT};

/// Where a walk over directories ended.
pub(crate) enum Walk<'a> {
    /// At this directory.
    Found(DraftId),
    /// In this directory, before names that do not exist there.
    Missing(DraftId, Vec<&'a [u8]>),
    /// At something that leads nowhere.
    Blocked,
}

impl<'a> Merger<'a> {
    /// Walks along `path` from `start`, which must be a directory.
    pub(crate) fn walk(&self, start: DraftId, path: &'a [u8]) -> Walk<'a> {
        let mut at = start;
        let mut pending = Vec::new();
        push(&mut pending, &mut at, path);
        let mut missing = Vec::new();
        let (mut steps, mut hops) = (0, 0);
        while let Some(name) = pending.pop() {
            steps += 1;
            if steps > MAX_RESOLVE_STEPS {
                return Walk::Blocked;
            }
            if name == b".." {
                // Unpackers clean a path before they make anything: `..` takes a missing
                // name back.
                if missing.pop().is_none() {
                    at = self.parents[at as usize];
                }
                continue;
            }
            let child = if missing.is_empty() {
                self.child(at, name)
            } else {
                None
            };
            let Some(child) = child else {
                missing.push(name);
                continue;
            };
            match &self.node(child).content {
                DraftContent::Directory(_) => at = child,
                DraftContent::Link {
                    kind: FileKind::Symlink,
                    target,
                } => {
                    hops += 1;
                    if hops > MAX_SYMLINK_HOPS {
                        return Walk::Blocked;
                    }
                    push(&mut pending, &mut at, target);
                }
                _ => return Walk::Blocked,
            }
        }
        if missing.is_empty() {
            Walk::Found(at)
        } else if missing.iter().all(|name| is_legal_name(name)) {
            Walk::Missing(at, missing)
        } else {
            Walk::Blocked
        }
    }

    /// The node that `path` names in the union; a symlink as its last component is not
    /// followed.
    pub(crate) fn find(&self, path: &'a [u8]) -> Option<DraftId> {
        let (directory, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        match self.walk(ROOT, directory) {
            Walk::Found(directory) => self.child(directory, name),
            Walk::Missing(..) | Walk::Blocked => None,
        }
    }
}

/// Puts the components of `path` before those that are pending; an absolute path starts over
/// at the root.
fn push<'a>(pending: &mut Vec<&'a [u8]>, at: &mut DraftId, path: &'a [u8]) {
    if path.first() == Some(&b'/') {
        *at = ROOT;
    }
    let names = path
        .split(|&byte| byte == b'/')
        .filter(|name| !matches!(*name, b"" | b"."));
    pending.extend(names.rev());
}
