//! What unpacking layers one after the other into an empty directory leaves, done the plain
//! way: a tree of names, changed by one entry after the other. The rules are those of an OCI
//! unpacker (parents through symlinks, removal before replacement, whiteouts that spare what
//! the same layer has put there); beyond them, a file in the way of a directory is replaced, and
//! a hardlink may lead to what was there before its layer.

use crate::fixture::layer_bytes;
use index_format::{
    FileData, FileKind, Index, InodeNumber, Node, NodeContent, StreamOffset, Timestamp, Tree,
    TreeError,
};
use std::collections::{BTreeMap, BTreeSet};

pub mod random;

pub type Path = Vec<u8>;

/// One entry of a layer's tar.
#[derive(Clone, Debug)]
pub enum Operation {
    Insert(Path, Node),
    Hardlink(Path, Path),
    Whiteout(Path, Path),
    Opaque(Path),
}

#[derive(Clone, Debug)]
struct DiskNode {
    attributes: Attributes,
    layer: u32,
    content: DiskContent,
}

#[derive(Clone, Debug)]
enum DiskContent {
    Directory(BTreeMap<Vec<u8>, usize>),
    Other(NodeContent),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub permissions: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timestamp,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What is seen at one path, for comparing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub attributes: Attributes,
    pub layer: u32,
    pub nlink: u32,
    /// `None`: a directory.
    pub content: Option<NodeContent>,
    /// Every path of the same inode.
    pub names: BTreeSet<Path>,
}

/// The directory that layers are unpacked into.
#[derive(Clone, Debug)]
pub struct Disk {
    nodes: Vec<DiskNode>,
}

fn implicit(layer: u32) -> DiskNode {
    DiskNode {
        attributes: Attributes {
            permissions: 0o755,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs: BTreeMap::new(),
        },
        layer,
        content: DiskContent::Directory(BTreeMap::new()),
    }
}

impl Disk {
    pub fn new() -> Disk {
        Disk {
            nodes: vec![implicit(0)],
        }
    }

    fn children(&self, node: usize) -> Option<&BTreeMap<Vec<u8>, usize>> {
        match &self.nodes[node].content {
            DiskContent::Directory(children) => Some(children),
            DiskContent::Other(_) => None,
        }
    }

    fn children_mut(&mut self, node: usize) -> &mut BTreeMap<Vec<u8>, usize> {
        match &mut self.nodes[node].content {
            DiskContent::Directory(children) => children,
            DiskContent::Other(other) => panic!("{other:?} has no children"),
        }
    }

    /// The node at a path without symlinks.
    fn at(&self, path: &[Vec<u8>]) -> Option<usize> {
        path.iter()
            .try_fold(0, |node, name| self.children(node)?.get(name).copied())
    }

    /// `path` with every symlink in it followed as far as things exist.
    fn real_path(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let mut real: Vec<Vec<u8>> = Vec::new();
        let mut rest = components(path);
        while !rest.is_empty() {
            let name = rest.remove(0);
            if name == b".." {
                real.pop();
                continue;
            }
            real.push(name);
            if let Some(node) = self.at(&real)
                && let DiskContent::Other(NodeContent::Symlink { target }) =
                    &self.nodes[node].content
            {
                real.pop();
                if target.starts_with(b"/") {
                    real.clear();
                }
                rest.splice(0..0, components(target));
            }
        }
        real
    }

    /// The path of an entry: its directory's symlinks followed, its own not.
    fn entry_path(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let mut parts = components(path);
        let Some(last) = parts.pop() else {
            return Vec::new();
        };
        let mut real = self.real_path(&parts.join(&b'/'));
        real.push(last);
        real
    }

    fn make_directories(&mut self, path: &[Vec<u8>], layer: u32) -> usize {
        let mut at = 0;
        for name in path {
            at = match self.children(at).unwrap().get(name).copied() {
                Some(child) if self.children(child).is_some() => child,
                _ => {
                    self.nodes.push(implicit(layer));
                    let child = self.nodes.len() - 1;
                    self.children_mut(at).insert(name.clone(), child);
                    child
                }
            };
        }
        at
    }

    /// Unpacks a layer.
    pub fn unpack(&mut self, layer: u32, operations: &[Operation]) {
        let before = self.clone();
        let mut upper: BTreeSet<Vec<Vec<u8>>> = BTreeSet::new();
        for operation in operations {
            match operation {
                Operation::Insert(path, node) => {
                    let path = self.entry_path(path);
                    self.insert(&path, node, layer);
                    mark(&mut upper, &path);
                }
                Operation::Hardlink(path, target) => {
                    let target = self
                        .at(&self.entry_path(target))
                        .or_else(|| before.at(&before.entry_path(target)))
                        .filter(|node| self.children(*node).is_none());
                    let path = self.entry_path(path);
                    let (name, directory) = path.split_last().unwrap();
                    let directory = self.make_directories(directory, layer);
                    match target {
                        Some(target) => self.children_mut(directory).insert(name.clone(), target),
                        None => self.children_mut(directory).remove(name),
                    };
                    mark(&mut upper, &path);
                }
                Operation::Whiteout(directory, name) => {
                    let mut path = self.real_path(directory);
                    path.push(name.clone());
                    self.remove(&path, &upper, false);
                }
                Operation::Opaque(directory) => {
                    let path = self.real_path(directory);
                    self.remove(&path, &upper, true);
                }
            }
        }
    }

    /// Whether `target` is there and can get another name.
    pub fn is_file(&self, target: &[u8]) -> bool {
        self.at(&self.entry_path(target))
            .is_some_and(|node| self.children(node).is_none())
    }

    /// Whether `path` is there.
    pub fn exists(&self, path: &[u8]) -> bool {
        self.at(&self.entry_path(path)).is_some()
    }

    fn insert(&mut self, path: &[Vec<u8>], node: &Node, layer: u32) {
        let attributes = Attributes {
            permissions: node.permissions,
            uid: node.uid,
            gid: node.gid,
            mtime: node.mtime,
            xattrs: node.xattrs.iter().cloned().collect(),
        };
        let old = self.at(path).filter(|old| self.children(*old).is_some());
        if node.content == NodeContent::Directory
            && let Some(old) = old
        {
            self.nodes[old].attributes = attributes;
            self.nodes[old].layer = layer;
            return;
        }
        let (name, directory) = path.split_last().expect("the root is a directory");
        let directory = self.make_directories(directory, layer);
        let content = match &node.content {
            NodeContent::Directory => DiskContent::Directory(BTreeMap::new()),
            other => DiskContent::Other(other.clone()),
        };
        self.nodes.push(DiskNode {
            attributes,
            layer,
            content,
        });
        let new = self.nodes.len() - 1;
        self.children_mut(directory).insert(name.clone(), new);
    }

    /// Removes `path`, or what it holds, but for what this layer has put there.
    fn remove(&mut self, path: &[Vec<u8>], upper: &BTreeSet<Vec<Vec<u8>>>, opaque: bool) {
        let Some(node) = self.at(path) else { return };
        if !opaque && !upper.contains(path) {
            let (name, directory) = path.split_last().unwrap();
            let directory = self.at(directory).unwrap();
            self.children_mut(directory).remove(name);
            return;
        }
        let names: Vec<_> = self
            .children(node)
            .into_iter()
            .flat_map(|map| map.keys().cloned())
            .collect();
        for name in names {
            let child = [path, &[name]].concat();
            self.remove(&child, upper, false);
        }
    }

    /// Everything that can be seen, by path.
    pub fn seen(&self) -> BTreeMap<Path, Seen> {
        let mut paths = BTreeMap::new();
        let mut names: BTreeMap<usize, BTreeSet<Path>> = BTreeMap::new();
        let mut pending = vec![(Vec::new(), 0)];
        while let Some((path, node)) = pending.pop() {
            names.entry(node).or_default().insert(path.clone());
            for (name, child) in self.children(node).into_iter().flatten() {
                pending.push((join(&path, name), *child));
            }
            paths.insert(path, node);
        }
        paths
            .into_iter()
            .map(|(path, node)| {
                let DiskNode {
                    attributes,
                    layer,
                    content,
                } = &self.nodes[node];
                let nlink = match content {
                    DiskContent::Directory(children) => {
                        2 + children
                            .values()
                            .filter(|child| self.children(**child).is_some())
                            .count()
                    }
                    DiskContent::Other(_) => names[&node].len(),
                };
                let seen = Seen {
                    attributes: attributes.clone(),
                    layer: *layer,
                    nlink: nlink as u32,
                    content: match content {
                        DiskContent::Directory(_) => None,
                        DiskContent::Other(other) => Some(other.clone()),
                    },
                    names: names[&node].clone(),
                };
                (path, seen)
            })
            .collect()
    }
}

/// The same view of an index.
pub fn seen_in(index: &Index) -> BTreeMap<Path, Seen> {
    let mut paths = BTreeMap::new();
    let mut names: BTreeMap<InodeNumber, BTreeSet<Path>> = BTreeMap::new();
    let mut pending = vec![(Vec::new(), InodeNumber::ROOT)];
    while let Some((path, number)) = pending.pop() {
        names.entry(number).or_default().insert(path.clone());
        let inode = index.inode(number).unwrap();
        if inode.kind == FileKind::Directory {
            for entry in index.entries(number).unwrap() {
                let entry = entry.unwrap();
                assert_eq!(index.lookup(number, entry.name).unwrap(), Some(entry.inode));
                assert_eq!(index.inode(entry.inode).unwrap().kind, entry.kind);
                pending.push((join(&path, entry.name), entry.inode));
            }
        }
        assert_eq!(index.resolve(&path).unwrap(), Some(number));
        paths.insert(path, number);
    }
    assert_eq!(names.len() as u32, index.inode_count());
    paths
        .into_iter()
        .map(|(path, number)| {
            let inode = index.inode(number).unwrap();
            let seen = Seen {
                attributes: Attributes {
                    permissions: inode.permissions,
                    uid: inode.uid,
                    gid: inode.gid,
                    mtime: inode.mtime,
                    xattrs: index
                        .xattrs(number)
                        .unwrap()
                        .map(|pair| pair.map(|(name, value)| (name.to_vec(), value.to_vec())))
                        .collect::<Result<_, _>>()
                        .unwrap(),
                },
                layer: inode.layer,
                nlink: inode.nlink,
                content: content_in(index, number),
                names: names[&number].clone(),
            };
            (path, seen)
        })
        .collect()
}

fn content_in(index: &Index, number: InodeNumber) -> Option<NodeContent> {
    let inode = index.inode(number).unwrap();
    Some(match inode.kind {
        FileKind::Directory => return None,
        FileKind::Regular => {
            let extents = index.extents(number).unwrap();
            let data = match (&*extents, inode.sparse) {
                ([whole], false) => FileData::Whole(whole.stream_offset),
                ([], false) => FileData::Whole(StreamOffset(0)),
                _ => FileData::Sparse(extents),
            };
            NodeContent::Regular {
                size: inode.size,
                data,
            }
        }
        FileKind::Symlink => NodeContent::Symlink {
            target: index.symlink_target(number).unwrap().to_vec(),
        },
        FileKind::CharDevice => NodeContent::CharDevice(inode.device),
        FileKind::BlockDevice => NodeContent::BlockDevice(inode.device),
        FileKind::Fifo => NodeContent::Fifo,
        FileKind::Socket => NodeContent::Socket,
        FileKind::Whiteout | FileKind::ForeignLink => panic!("a marker outlived the merge"),
    })
}

/// The tree that a builder makes of the operations. Links to directories of the same layer are
/// left out, as a builder would.
pub fn tree(operations: &[Operation]) -> Tree {
    let mut tree = Tree::new();
    for operation in operations {
        let result = match operation {
            Operation::Insert(path, node) => tree.insert(path, node.clone()).map(|_| ()),
            Operation::Hardlink(path, target) => tree.hardlink(path, target).map(|_| ()),
            Operation::Whiteout(directory, name) => tree.whiteout(directory, name),
            Operation::Opaque(directory) => tree.opaque(directory),
        };
        assert!(
            matches!(result, Ok(()) | Err(TreeError::LinkToDirectory { .. })),
            "{result:?}"
        );
    }
    tree
}

/// The index of a layer with these files.
pub fn layer(tree: &Tree) -> Index {
    let index = Index::open(layer_bytes(tree)).unwrap();
    index.validate().unwrap();
    index
}

fn mark(upper: &mut BTreeSet<Vec<Vec<u8>>>, path: &[Vec<u8>]) {
    for length in 0..=path.len() {
        upper.insert(path[..length].to_vec());
    }
}

fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && name != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

fn join(directory: &[u8], name: &[u8]) -> Path {
    if directory.is_empty() {
        name.to_vec()
    } else {
        [directory, b"/", name].concat()
    }
}
