//! The store file: redb with two tables, objects by key and the counters. A commit is one transaction, durable when
//! it returns.

use super::super::{Entry, Event, EventKind, Revision};
use anyhow::Context as _;
use redb::{Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Key to (revision, encoded object).
const OBJECTS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("objects");
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
const REVISION: &str = "revision";
const FORMAT: &str = "format";
/// Raised when the tables change their meaning; older numbers must stay readable.
const FORMAT_NUMBER: u64 = 1;
/// Reads come from our own cache; redb needs the upper pages of its tree, and in half of this what one batch writes.
const PAGE_CACHE_BYTES: usize = 4 << 20;

/// The open file.
#[derive(Debug)]
pub(super) struct Disk {
    /// Absent only after a failure to reopen.
    database: Option<Database>,
    path: PathBuf,
}

impl Disk {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        // Secrets are in it. redb would create the file readable by all.
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let database = redb::Builder::new().set_cache_size(PAGE_CACHE_BYTES).create(path)?;
        let disk = Self { database: Some(database), path: path.to_owned() };
        disk.prepare()?;
        Ok(disk)
    }

    fn database(&self) -> anyhow::Result<&Database> {
        self.database.as_ref().context("the store file could not be opened again after a write error")
    }

    /// Creates the tables of a new file; refuses one from a later version.
    fn prepare(&self) -> anyhow::Result<()> {
        let mut transaction = self.database()?.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            transaction.open_table(OBJECTS)?;
            let mut counters = transaction.open_table(COUNTERS)?;
            let format = counters.get(FORMAT)?.map(|number| number.value());
            match format {
                Some(FORMAT_NUMBER) => return Ok(()),
                Some(other) => {
                    anyhow::bail!("the file has format {other}, this version reads {FORMAT_NUMBER}")
                }
                None => counters.insert(FORMAT, FORMAT_NUMBER)?,
            };
        }
        Ok(transaction.commit()?)
    }

    /// Everything in the file.
    pub(super) fn load(&self) -> anyhow::Result<(Revision, Vec<Entry>)> {
        let transaction = self.database()?.begin_read()?;
        let objects = transaction.open_table(OBJECTS)?;
        let mut entries = Vec::new();
        for row in objects.iter()? {
            let (key, value) = row?;
            let (revision, bytes) = value.value();
            entries.push(Entry::new(key.value().into(), revision, bytes.to_vec().into()));
        }
        Ok((self.revision()?, entries))
    }

    /// The revision of the last commit.
    pub(super) fn revision(&self) -> anyhow::Result<Revision> {
        let transaction = self.database()?.begin_read()?;
        let counters = transaction.open_table(COUNTERS)?;
        Ok(counters.get(REVISION)?.map_or(0, |number| number.value()))
    }

    /// Writes a batch; on return it is on the disk.
    pub(super) fn commit(&self, events: &[Event]) -> anyhow::Result<()> {
        let Some(last) = events.last() else { return Ok(()) };
        let mut transaction = self.database()?.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut objects = transaction.open_table(OBJECTS)?;
            for event in events {
                let key: &str = &event.entry.key;
                match event.kind {
                    EventKind::Deleted => objects.remove(key)?.is_some(),
                    EventKind::Added | EventKind::Modified => {
                        objects.insert(key, (event.revision(), &*event.entry.value))?.is_some()
                    }
                };
            }
            transaction.open_table(COUNTERS)?.insert(REVISION, last.revision())?;
        }
        Ok(transaction.commit()?)
    }

    /// Sets the revision that the next write follows.
    pub(super) fn set_revision(&self, revision: Revision) -> anyhow::Result<()> {
        let mut transaction = self.database()?.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.open_table(COUNTERS)?.insert(REVISION, revision)?;
        Ok(transaction.commit()?)
    }

    /// After a failed write redb refuses everything until the file is opened anew (full disk, I/O error).
    pub(super) fn reopen(&mut self) -> anyhow::Result<()> {
        self.database = None;
        *self = Self::open(&self.path)?;
        Ok(())
    }
}
