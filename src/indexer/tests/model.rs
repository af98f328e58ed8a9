//! Random layers against a reference model: a flat table of paths, unpacked naively. Markers are
//! left to the tests of the index format, which merges them.

use std::collections::BTreeMap;

use index_format::{FileKind, Index, InodeNumber};
use proptest::prelude::*;

use crate::tar::fixture::{end, ustar};
use crate::tests::{content, index_pieces, indexed, options};

/// One entry of a random layer.
#[derive(Debug, Clone)]
enum Op {
    Directory(Path, u16),
    File(Path, Vec<u8>),
    Symlink(Path, String),
    Hardlink(Path, Path),
    Fifo(Path),
}

/// A path of few names, so that entries meet.
type Path = Vec<&'static str>;

fn path() -> impl Strategy<Value = Path> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4)
}

fn op() -> impl Strategy<Value = Op> {
    let target = prop::sample::select(vec!["a", "b", "/c", "../a", "/a/b", "b/c", ".", "../.."]);
    prop_oneof![
        3 => (path(), 0_u16..0o1000).prop_map(|(path, mode)| Op::Directory(path, mode)),
        4 => (path(), prop::collection::vec(any::<u8>(), 0..600))
            .prop_map(|(path, content)| Op::File(path, content)),
        2 => (path(), target).prop_map(|(path, to)| Op::Symlink(path, to.to_owned())),
        2 => (path(), path()).prop_map(|(path, to)| Op::Hardlink(path, to)),
        1 => path().prop_map(Op::Fifo),
    ]
}

impl Op {
    fn write(&self) -> Vec<u8> {
        let name = |path: &Path| path.join("/").into_bytes();
        match self {
            Op::Directory(path, mode) => {
                let mode = format!("{mode:07o}\0");
                ustar(&name(path), b'5').put(100, mode.as_bytes()).done()
            }
            Op::File(path, content) => ustar(&name(path), b'0').with(content),
            Op::Symlink(path, target) => ustar(&name(path), b'2').link(target.as_bytes()).done(),
            Op::Hardlink(path, target) => ustar(&name(path), b'1').link(&name(target)).done(),
            Op::Fifo(path) => ustar(&name(path), b'6').done(),
        }
    }
}

/// What stands at a path. Names of one inode have the same number.
#[derive(Debug, Clone, PartialEq)]
struct Item {
    inode: usize,
    what: What,
}

#[derive(Debug, Clone, PartialEq)]
enum What {
    Directory { mode: u16 },
    File(Vec<u8>),
    Symlink(String),
    Foreign(String),
    Fifo,
}

/// A layer as a table from real paths (no symlink in them) to items.
#[derive(Debug, Default)]
struct Model {
    items: BTreeMap<Vec<String>, Item>,
    inodes: usize,
}

/// The symlinks on the way go in a circle.
#[derive(Debug)]
struct Circle;

/// The way to a directory.
enum Way {
    There(Vec<String>),
    Missing,
    File,
}

impl Model {
    fn put(&mut self, path: Vec<String>, what: What) {
        self.items.retain(|other, _| !other.starts_with(&path));
        self.inodes += 1;
        self.items.insert(
            path,
            Item {
                inode: self.inodes,
                what,
            },
        );
    }

    /// Follows `path` to a directory. With `make`, whatever is not there or no directory becomes
    /// one.
    fn walk(&mut self, path: &[&str], make: bool) -> Result<Way, Circle> {
        let mut todo: Vec<String> = path.iter().rev().map(|name| (*name).to_owned()).collect();
        let mut at: Vec<String> = Vec::new();
        let mut hops = 0;
        while let Some(name) = todo.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            at.push(name);
            let here = self.items.get(&at).map(|item| item.what.clone());
            match here {
                Some(What::Directory { .. }) => {}
                Some(What::Symlink(target)) => {
                    hops += 1;
                    if hops > 40 {
                        return Err(Circle);
                    }
                    at.pop();
                    if target.starts_with('/') {
                        at.clear();
                    }
                    let names = target.split('/').filter(|name| !matches!(*name, "" | "."));
                    todo.extend(names.rev().map(str::to_owned));
                }
                _ if make => {
                    let what = What::Directory { mode: 0o755 };
                    self.put(at.clone(), what);
                }
                None => return Ok(Way::Missing),
                Some(_) => return Ok(Way::File),
            }
        }
        Ok(Way::There(at))
    }

    /// The real path of an entry, with its directories made.
    fn place(&mut self, path: &Path) -> Result<Vec<String>, Circle> {
        let (last, directory) = path.split_last().unwrap();
        let Way::There(mut real) = self.walk(directory, true)? else {
            unreachable!()
        };
        real.push((*last).to_owned());
        Ok(real)
    }

    fn apply(&mut self, op: &Op) -> Result<(), Circle> {
        match op {
            Op::Directory(path, mode) => {
                let real = self.place(path)?;
                let what = What::Directory { mode: *mode };
                match self.items.get_mut(&real) {
                    Some(item) if matches!(item.what, What::Directory { .. }) => item.what = what,
                    _ => self.put(real, what),
                }
            }
            Op::File(path, content) => self.replace(path, What::File(content.clone()))?,
            Op::Symlink(path, target) => self.replace(path, What::Symlink(target.clone()))?,
            Op::Fifo(path) => self.replace(path, What::Fifo)?,
            Op::Hardlink(path, target) if path == target => {}
            Op::Hardlink(path, target) => self.hardlink(path, target)?,
        }
        Ok(())
    }

    fn replace(&mut self, path: &Path, what: What) -> Result<(), Circle> {
        let real = self.place(path)?;
        self.put(real, what);
        Ok(())
    }

    fn hardlink(&mut self, path: &Path, target: &Path) -> Result<(), Circle> {
        let (last, directory) = target.split_last().unwrap();
        let found = match self.walk(directory, false)? {
            Way::There(real) => {
                let real = [real, vec![(*last).to_owned()]].concat();
                self.items.get(&real).cloned()
            }
            Way::Missing | Way::File => None,
        };
        // A link to a directory is refused with the whole layer; the caller has left those out.
        match found {
            Some(item) => {
                let real = self.place(path)?;
                self.items.retain(|other, _| !other.starts_with(&real));
                self.items.insert(real, item);
                Ok(())
            }
            None => self.replace(path, What::Foreign(target.join("/"))),
        }
    }

    /// Whether the link's target is a directory.
    fn links_to_directory(&mut self, op: &Op) -> bool {
        let Op::Hardlink(path, target) = op else {
            return false;
        };
        let (last, directory) = target.split_last().unwrap();
        let Ok(Way::There(real)) = self.walk(directory, false) else {
            return false;
        };
        let real = [real, vec![(*last).to_owned()]].concat();
        let item = self.items.get(&real);
        path != target && item.is_some_and(|item| matches!(item.what, What::Directory { .. }))
    }
}

/// The index as a table like the model's.
fn table(index: &Index, stream: &[u8]) -> BTreeMap<Vec<String>, Item> {
    let mut items = BTreeMap::new();
    let mut todo = vec![(Vec::new(), InodeNumber::ROOT)];
    while let Some((path, directory)) = todo.pop() {
        for entry in index.entries(directory).unwrap() {
            let entry = entry.unwrap();
            let name = String::from_utf8(entry.name.to_vec()).unwrap();
            let path: Vec<String> = [&path[..], &[name]].concat();
            let inode = index.inode(entry.inode).unwrap();
            let target = || {
                let target = index.symlink_target(entry.inode).unwrap();
                String::from_utf8(target.to_vec()).unwrap()
            };
            let what = match inode.kind {
                FileKind::Directory => {
                    todo.push((path.clone(), entry.inode));
                    What::Directory {
                        mode: inode.permissions,
                    }
                }
                FileKind::Regular => What::File(content(index, entry.inode, stream)),
                FileKind::Symlink => What::Symlink(target()),
                FileKind::ForeignLink => What::Foreign(target()),
                FileKind::Fifo => What::Fifo,
                kind => panic!("{kind:?}"),
            };
            let number = usize::try_from(entry.inode.0).unwrap();
            items.insert(
                path,
                Item {
                    inode: number,
                    what,
                },
            );
        }
    }
    items
}

/// Gives inodes numbers in the order of their first paths, which both sides have in common.
fn numbered(items: BTreeMap<Vec<String>, Item>) -> BTreeMap<Vec<String>, Item> {
    let mut numbers = BTreeMap::new();
    let renumber = |(path, item): (Vec<String>, Item)| {
        let next = numbers.len();
        let inode = *numbers.entry(item.inode).or_insert(next);
        (path, Item { inode, ..item })
    };
    items.into_iter().map(renumber).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn random_layers_are_unpacked_as_the_model_does(ops in prop::collection::vec(op(), 0..14)) {
        let mut model = Model::default();
        let mut stream = Vec::new();
        let mut circle = false;
        for op in ops {
            if model.links_to_directory(&op) {
                continue;
            }
            stream.extend(op.write());
            circle = model.apply(&op).is_err();
            if circle {
                break;
            }
        }
        stream.extend(end());
        if circle {
            let result = index_pieces(&stream, index_format::Compression::None, 512, options());
            prop_assert!(result.is_err());
        } else {
            let (index, _) = indexed(&[&stream]);
            prop_assert_eq!(numbered(table(&index, &stream)), numbered(model.items));
        }
    }
}
