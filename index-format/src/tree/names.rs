//! The names of a tree under construction, in flat tables: a million files have a million of
//! them, and an allocation for each would take more memory than all the rest of the tree.

use crate::limit::MAX_ENTRIES;
use crate::tree::{NodeId, TreeError};
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

/// The first link of a directory's list; 0: the list is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FirstLink(u32);

/// A name in a directory, and what it names.
#[derive(Clone, Debug)]
struct Link {
    directory: NodeId,
    child: NodeId,
    /// Where the name is; its length is the byte before it.
    name: u32,
    /// The next link of the directory.
    next: FirstLink,
}

/// The names of all directories of one tree.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    bytes: Vec<u8>,
    /// Every link ever made; removed ones stay behind, in no list and not in the table.
    links: Vec<Link>,
    /// Positions in `links`, by directory and name. Keyed at random: names are hostile.
    table: HashTable<u32>,
    hasher: RandomState,
}

impl Names {
    fn name(&self, link: &Link) -> &[u8] {
        let start = link.name as usize;
        &self.bytes[start..start + usize::from(self.bytes[start - 1])]
    }

    fn hash(&self, directory: NodeId, name: &[u8]) -> u64 {
        self.hasher.hash_one((directory.0, name))
    }

    fn find(&self, directory: NodeId, name: &[u8]) -> Option<u32> {
        let is_it = |position: &u32| {
            let link = &self.links[*position as usize];
            link.directory == directory && self.name(link) == name
        };
        self.table.find(self.hash(directory, name), is_it).copied()
    }

    /// What a name of a directory names.
    pub(crate) fn get(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        let position = self.find(directory, name)?;
        Some(self.links[position as usize].child)
    }

    /// Gives a name of 1 to 255 bytes of a directory, whose list starts at `first`, to a node;
    /// where the list starts now.
    pub(crate) fn put(
        &mut self,
        directory: NodeId,
        name: &[u8],
        child: NodeId,
        first: FirstLink,
    ) -> Result<FirstLink, TreeError> {
        if let Some(position) = self.find(directory, name) {
            self.links[position as usize].child = child;
            return Ok(first);
        }
        // Positions and the places of names fit 32 bits then.
        let place = u32::try_from(self.bytes.len() + 1).ok();
        let place = place.filter(|_| self.links.len() < MAX_ENTRIES as usize);
        let (Some(place), Ok(length)) = (place, u8::try_from(name.len())) else {
            return Err(TreeError::TooManyNames);
        };
        let position = self.links.len() as u32;
        self.bytes.push(length);
        self.bytes.extend_from_slice(name);
        self.links.push(Link {
            directory,
            child,
            name: place,
            next: first,
        });
        let hash = self.hash(directory, name);
        let Names {
            bytes,
            links,
            table,
            hasher,
        } = self;
        table.insert_unique(hash, position, |position| {
            let link = &links[*position as usize];
            let start = link.name as usize;
            let name = &bytes[start..start + usize::from(bytes[start - 1])];
            hasher.hash_one((link.directory.0, name))
        });
        Ok(FirstLink(position + 1))
    }

    /// The names of a directory and what they name, in no order.
    pub(crate) fn of(&self, first: FirstLink) -> impl Iterator<Item = (&[u8], NodeId)> {
        let mut next = first;
        std::iter::from_fn(move || {
            let link = &self.links[next.0.checked_sub(1)? as usize];
            next = link.next;
            Some((self.name(link), link.child))
        })
    }

    /// Removes the names of a directory whose nodes are not to be kept; where its list starts
    /// now.
    pub(crate) fn retain(&mut self, first: FirstLink, keep: impl Fn(NodeId) -> bool) -> FirstLink {
        let (mut kept, mut next) = (FirstLink::default(), first);
        while let Some(position) = next.0.checked_sub(1) {
            let link = &self.links[position as usize];
            next = link.next;
            if keep(link.child) {
                self.links[position as usize].next = kept;
                kept = FirstLink(position + 1);
                continue;
            }
            let hash = self.hash(link.directory, self.name(link));
            if let Ok(entry) = self.table.find_entry(hash, |found| *found == position) {
                entry.remove();
            }
        }
        kept
    }
}
