//! What a program's start will read for certain: itself, what its `#!` line names, its
//! interpreter, and the libraries that the loader will look for, found in the image's tree the
//! way the kernel and ld.so find them. Fetched ahead while the container is being made.

mod elf;
mod paths;

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use fuse::{MountedTree, Piece};
use index_format::InodeNumber;

use super::{Cause, ImageContent, Purpose};
use paths::Tree;

/// Files looked at for one start: a program with more libraries gets the rest as it reads them.
const MAX_FILES: usize = 256;

/// Bytes brought of a file's start and around its dynamic section: what the loader maps first.
const MAPPED: u64 = 64 << 10;

/// Fetches ahead what starting a program will read. `arguments` are the program's and its own,
/// `path` is the value of its PATH, `directory` its working directory. Errors end it early.
pub async fn fetch_before_exec(
    tree: &MountedTree<ImageContent>,
    content: &Arc<ImageContent>,
    arguments: &[String],
    path: &str,
    directory: &str,
) {
    let mut start = Start {
        tree: Tree::new(tree),
        content,
        seen: HashSet::new(),
        waiting: VecDeque::new(),
    };
    if let Some((program, rest)) = arguments.split_first() {
        let program = start.tree.find_program(program, path, directory);
        start.waiting.extend(program);
        // A script that an interpreter is given, and the like.
        let named = rest.iter().filter(|argument| argument.starts_with('/'));
        start.waiting.extend(named.take(4).cloned());
    }
    while let Some(file) = start.waiting.pop_front() {
        if start.seen.len() >= MAX_FILES {
            return;
        }
        start.look_at(&file, path, directory).await;
    }
}

struct Start<'a> {
    tree: Tree<'a>,
    content: &'a Arc<ImageContent>,
    seen: HashSet<InodeNumber>,
    waiting: VecDeque<String>,
}

impl Start<'_> {
    /// Fetches what is mapped of a file first, and notes which files it needs.
    async fn look_at(&mut self, file: &str, path: &str, directory: &str) -> Option<()> {
        let (inode, size) = self.tree.file(file)?;
        if !self.seen.insert(inode) {
            return None;
        }
        let head = self.read(inode, 0..size.min(elf::HEAD)).await?;
        if let Some(line) = head.strip_prefix(b"#!") {
            let words = paths::script_words(line);
            let mut words = words.iter().map(String::as_str);
            let interpreter = words.next()?;
            self.waiting.push_back(interpreter.to_owned());
            if interpreter.ends_with("/env") {
                let program = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
                self.waiting
                    .extend(self.tree.find_program(program, path, directory));
            }
            return None;
        }
        let program = elf::program(&head)?;
        if let Some(range) = program.interpreter.clone() {
            let name = self.read(inode, range).await?;
            self.waiting.extend(elf::string(&name));
        }
        let dynamic = program.read_dynamic(&self.read(inode, program.dynamic.clone()?).await?);
        let strings = self.read(inode, dynamic.strings.clone()?).await?;
        let (needed, directories) = dynamic.names(&strings);
        for library in needed {
            let found = self.tree.find_library(&library, &directories, file);
            // They do not wait for one another.
            if let Some((inode, size)) = found.as_deref().and_then(|found| self.tree.file(found)) {
                self.prefetch(inode, 0..size.min(MAPPED));
            }
            self.waiting.extend(found);
        }
        None
    }

    /// Bytes of a file, fetched where they are missing.
    async fn read(&self, inode: InodeNumber, range: Range<u64>) -> Option<Vec<u8>> {
        let pieces = self.tree.pieces(inode, range)?;
        self.content.read_missing(&pieces).await.ok()
    }

    /// Begins to fetch a part of a file.
    fn prefetch(&self, inode: InodeNumber, range: Range<u64>) {
        for piece in self.tree.pieces(inode, range).unwrap_or_default() {
            let Piece::Stream {
                layer,
                offset,
                length,
            } = piece
            else {
                continue;
            };
            if let Some(layer) = self.content.layers().get(layer as usize).cloned() {
                let purpose = Purpose::new(Cause::Speculation, self.content.account());
                let range = offset.0..offset.0.saturating_add(length);
                let fetch = async move { layer.prefetch(&purpose, [range]).await };
                self.content.resources().runtime().spawn(fetch);
            }
        }
    }
}
