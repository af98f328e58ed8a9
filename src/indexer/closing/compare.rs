//! Two trees path by path, for indexes that are not equal byte for byte: another version may
//! number or pool things otherwise and still say the same.

use std::cmp::Ordering;
use std::collections::HashMap;

use index_format::{Entries, Entry, FormatError, Index, Inode, InodeNumber};

use crate::closing::{Closed, Difference};

/// A pair of directories to compare.
struct Pair {
    path: Vec<u8>,
    claimed: InodeNumber,
    own: InodeNumber,
}

/// Adds every difference between the tree of `claimed` and of `own`, which is the truth.
pub fn compare_trees(claimed: &Index, own: &Index, closed: &mut Closed) -> Result<(), FormatError> {
    let mut comparison = Comparison {
        claimed,
        own,
        closed,
        partners: HashMap::new(),
    };
    let root = InodeNumber::ROOT;
    comparison.inodes(b"", root, root)?;
    let mut directories = vec![Pair {
        path: Vec::new(),
        claimed: root,
        own: root,
    }];
    while let Some(pair) = directories.pop() {
        comparison.directory(&pair, &mut directories)?;
    }
    Ok(())
}

struct Comparison<'a> {
    claimed: &'a Index,
    own: &'a Index,
    closed: &'a mut Closed,
    /// Which own inode each claimed one has been met with: names of one inode must stay
    /// together, and others must not.
    partners: HashMap<InodeNumber, InodeNumber>,
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        name.to_vec()
    } else {
        [directory, b"/", name].concat()
    }
}

fn next<'a>(entries: &mut Entries<'a>) -> Result<Option<Entry<'a>>, FormatError> {
    entries.next().transpose()
}

impl Comparison<'_> {
    /// Walks two directories in step; names are sorted in both.
    fn directory(&mut self, pair: &Pair, todo: &mut Vec<Pair>) -> Result<(), FormatError> {
        let mut claimed_entries = self.claimed.entries(pair.claimed)?;
        let mut own_entries = self.own.entries(pair.own)?;
        let (mut claimed, mut own) = (next(&mut claimed_entries)?, next(&mut own_entries)?);
        loop {
            let order = match (claimed, own) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(claimed), Some(own)) => claimed.name.cmp(own.name),
            };
            match (claimed, own) {
                (Some(entry), _) if order == Ordering::Less => {
                    self.closed
                        .add(Difference::Invented(join(&pair.path, entry.name)));
                }
                (_, Some(entry)) if order == Ordering::Greater => {
                    self.closed
                        .add(Difference::Missing(join(&pair.path, entry.name)));
                }
                (Some(claimed), Some(own)) => {
                    let path = join(&pair.path, own.name);
                    if self.inodes(&path, claimed.inode, own.inode)? {
                        todo.push(Pair {
                            path,
                            claimed: claimed.inode,
                            own: own.inode,
                        });
                    }
                }
                _ => {}
            }
            if order != Ordering::Greater {
                claimed = next(&mut claimed_entries)?;
            }
            if order != Ordering::Less {
                own = next(&mut own_entries)?;
            }
        }
    }

    /// Compares two inodes. Returns whether both are directories.
    fn inodes(
        &mut self,
        path: &[u8],
        claimed: InodeNumber,
        own: InodeNumber,
    ) -> Result<bool, FormatError> {
        let (a, b) = (self.claimed.inode(claimed)?, self.own.inode(own)?);
        let partner = *self.partners.entry(claimed).or_insert(own);
        let mut changed = |what| {
            self.closed.add(Difference::Changed {
                path: path.to_vec(),
                what,
            });
        };
        if partner != own {
            changed("its hard links");
        }
        if let Some(what) = changed_attribute(&a, &b) {
            changed(what);
        }
        if a.kind != b.kind {
            return Ok(false);
        }
        if a.kind.has_target()
            && self.claimed.symlink_target(claimed)? != self.own.symlink_target(own)?
        {
            changed("its target");
        }
        if a.kind == index_format::FileKind::Regular {
            if self.claimed.extents(claimed)? != self.own.extents(own)? {
                changed("the place of its content");
            }
            let digest = self.claimed.content_digest(claimed);
            if digest.is_some() && digest != self.own.content_digest(own) {
                changed("the digest of its content");
            }
        }
        let xattrs = self
            .claimed
            .xattrs(claimed)?
            .collect::<Result<Vec<_>, _>>()?;
        if xattrs != self.own.xattrs(own)?.collect::<Result<Vec<_>, _>>()? {
            changed("its extended attributes");
        }
        Ok(a.kind == index_format::FileKind::Directory)
    }
}

/// The first attribute that differs.
fn changed_attribute(a: &Inode, b: &Inode) -> Option<&'static str> {
    let checks = [
        (a.kind == b.kind, "its kind"),
        (a.permissions == b.permissions, "its mode"),
        ((a.uid, a.gid) == (b.uid, b.gid), "its owner"),
        (a.mtime == b.mtime, "its modification time"),
        (a.size == b.size, "its size"),
        (a.nlink == b.nlink, "its number of links"),
        (a.device == b.device, "its device number"),
        (a.opaque == b.opaque, "its opaqueness"),
        (a.implicit == b.implicit, "whether the layer names it"),
    ];
    checks
        .into_iter()
        .find(|(same, _)| !same)
        .map(|(_, what)| what)
}
