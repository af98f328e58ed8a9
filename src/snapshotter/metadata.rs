//! The records of all snapshots, in one transactional file.

use std::path::Path;

use redb::{
    Database, MultimapTableDefinition, ReadTransaction, ReadableDatabase, ReadableTable,
    TableDefinition, WriteTransaction,
};

use crate::error::SnapshotError;
use crate::record::{Info, Record};
use crate::remote::{ImageLabels, RemoteSnapshot};

/// Name -> [`Record`] as JSON.
const SNAPSHOTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshots");
/// Parent, empty where there is none -> names of the snapshots on it.
const CHILDREN: MultimapTableDefinition<'_, &str, &str> = MultimapTableDefinition::new("children");
/// Counters by name.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// The next snapshot's id.
const NEXT_ID: &str = "next-id";

/// The store. One writer at a time; readers see the last complete state and wait for nobody.
pub struct Metadata {
    database: Database,
}

impl Metadata {
    /// Opens the file, and repairs it where a crash left it open.
    ///
    /// # Errors
    /// [`SnapshotError::Open`] where it is damaged, not ours, or in use.
    pub fn open(path: &Path) -> Result<Self, SnapshotError> {
        let opened = Database::create(path).map_err(|source| SnapshotError::Open {
            path: path.to_path_buf(),
            source: source.into(),
        })?;
        let metadata = Metadata { database: opened };
        metadata.write(|changes| {
            let transaction = &changes.transaction;
            transaction.open_table(SNAPSHOTS).map_err(store)?;
            transaction.open_multimap_table(CHILDREN).map_err(store)?;
            transaction.open_table(NUMBERS).map_err(store)?;
            Ok(())
        })?;
        Ok(metadata)
    }

    /// Carries out changes; all of them last beyond a crash, of the machine too, or none.
    ///
    /// # Errors
    /// What `change` says, or the store; nothing has then changed.
    pub fn write<T>(
        &self,
        change: impl FnOnce(&Changes) -> Result<T, SnapshotError>,
    ) -> Result<T, SnapshotError> {
        let changes = Changes {
            transaction: self.database.begin_write().map_err(store)?,
        };
        match change(&changes) {
            Ok(result) => {
                changes.transaction.commit().map_err(store)?;
                Ok(result)
            }
            Err(error) => {
                changes.transaction.abort().map_err(store)?;
                Err(error)
            }
        }
    }

    /// One consistent state to read from.
    ///
    /// # Errors
    /// The store's.
    pub fn read(&self) -> Result<State, SnapshotError> {
        Ok(State {
            transaction: self.database.begin_read().map_err(store)?,
        })
    }
}

/// A state of the records that does not change while it is read.
pub struct State {
    transaction: ReadTransaction,
}

impl State {
    /// Calls `visit` for each snapshot in the order of names.
    ///
    /// # Errors
    /// The store's, or a record that cannot be understood.
    pub fn each(&self, mut visit: impl FnMut(Info)) -> Result<(), SnapshotError> {
        let table = self.transaction.open_table(SNAPSHOTS).map_err(store)?;
        for entry in table.iter().map_err(store)? {
            let (name, bytes) = entry.map_err(store)?;
            let name = name.value().to_owned();
            let record = parse(&name, bytes.value())?;
            visit(Info { name, record });
        }
        Ok(())
    }
}

/// An open transaction.
pub struct Changes {
    transaction: WriteTransaction,
}

impl Changes {
    /// Writes a record that is not there yet, or that keeps its parent.
    pub fn put(&self, name: &str, record: &Record) -> Result<(), SnapshotError> {
        let bytes = serde_json::to_vec(record).map_err(|source| SnapshotError::Record {
            name: name.to_owned(),
            source,
        })?;
        let mut table = self.transaction.open_table(SNAPSHOTS).map_err(store)?;
        table.insert(name, bytes.as_slice()).map_err(store)?;
        let mut children = self
            .transaction
            .open_multimap_table(CHILDREN)
            .map_err(store)?;
        children
            .insert(record.parent.as_str(), name)
            .map_err(store)?;
        Ok(())
    }

    /// Takes a record away.
    pub fn delete(&self, name: &str, record: &Record) -> Result<(), SnapshotError> {
        let mut table = self.transaction.open_table(SNAPSHOTS).map_err(store)?;
        table.remove(name).map_err(store)?;
        let mut children = self
            .transaction
            .open_multimap_table(CHILDREN)
            .map_err(store)?;
        children
            .remove(record.parent.as_str(), name)
            .map_err(store)?;
        Ok(())
    }

    /// An id that no snapshot has had.
    pub fn next_id(&self) -> Result<u64, SnapshotError> {
        let mut table = self.transaction.open_table(NUMBERS).map_err(store)?;
        let id = table
            .get(NEXT_ID)
            .map_err(store)?
            .map_or(1, |value| value.value());
        table.insert(NEXT_ID, id + 1).map_err(store)?;
        Ok(id)
    }
}

/// Finds records by name, in a transaction or in a state.
pub trait Lookup {
    /// The record of this name.
    fn find(&self, name: &str) -> Result<Option<Record>, SnapshotError>;

    /// The record of this name; [`SnapshotError::NotFound`] where there is none.
    fn get(&self, name: &str) -> Result<Record, SnapshotError> {
        self.find(name)?
            .ok_or_else(|| SnapshotError::not_found(name))
    }

    /// The snapshots directly on `name`; on none where it is empty.
    fn children(&self, name: &str) -> Result<Vec<String>, SnapshotError>;

    /// What is below the snapshots on `parent`.
    fn chain(&self, parent: &str) -> Result<Chain, SnapshotError> {
        let mut chain = Chain::default();
        let mut name = parent.to_owned();
        while !name.is_empty() {
            let record = self.get(&name)?;
            if let Some(place) = record.remote {
                chain.remote = Some(RemoteSnapshot {
                    id: record.id,
                    place,
                    labels: ImageLabels::of(&record.labels),
                });
                break;
            }
            chain.ordinary.push(record.id);
            name = record.parent;
        }
        Ok(chain)
    }
}

/// What is below a snapshot.
#[derive(Debug, Default)]
pub struct Chain {
    /// Ids of the snapshots whose content is here, the nearest first.
    pub ordinary: Vec<u64>,
    /// The one below them whose content is not here. Its tree has all that is below it as well.
    pub remote: Option<RemoteSnapshot>,
}

impl Lookup for Changes {
    fn find(&self, name: &str) -> Result<Option<Record>, SnapshotError> {
        let table = self.transaction.open_table(SNAPSHOTS).map_err(store)?;
        find_in(&table, name)
    }

    fn children(&self, name: &str) -> Result<Vec<String>, SnapshotError> {
        let transaction = &self.transaction;
        let table = transaction.open_multimap_table(CHILDREN).map_err(store)?;
        table_values(&table, name)
    }
}

impl Lookup for State {
    fn find(&self, name: &str) -> Result<Option<Record>, SnapshotError> {
        let table = self.transaction.open_table(SNAPSHOTS).map_err(store)?;
        find_in(&table, name)
    }

    fn children(&self, name: &str) -> Result<Vec<String>, SnapshotError> {
        let transaction = &self.transaction;
        let table = transaction.open_multimap_table(CHILDREN).map_err(store)?;
        table_values(&table, name)
    }
}

fn find_in(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Option<Record>, SnapshotError> {
    match table.get(name).map_err(store)? {
        None => Ok(None),
        Some(bytes) => parse(name, bytes.value()).map(Some),
    }
}

fn table_values(
    table: &impl redb::ReadableMultimapTable<&'static str, &'static str>,
    name: &str,
) -> Result<Vec<String>, SnapshotError> {
    let mut names = Vec::new();
    for value in table.get(name).map_err(store)? {
        names.push(value.map_err(store)?.value().to_owned());
    }
    Ok(names)
}

fn parse(name: &str, bytes: &[u8]) -> Result<Record, SnapshotError> {
    serde_json::from_slice(bytes).map_err(|source| SnapshotError::Record {
        name: name.to_owned(),
        source,
    })
}

/// The store has an error type for each operation; clients see one.
fn store(error: impl Into<redb::Error>) -> SnapshotError {
    SnapshotError::Metadata(error.into())
}
