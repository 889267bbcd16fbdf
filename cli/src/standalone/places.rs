//! Where stand-alone containers are: one directory each, whose name is the container's unless it was renamed.
//!
//! ```text
//! DATA_DIR/containers/PLACE/lock     held shared by everyone who has an engine over the container, exclusive by who
//!                                    makes, starts again or removes it: an engine that sees half of that would
//!                                    take it for the remains of a crash
//! DATA_DIR/containers/PLACE/name     its name, where that is not PLACE
//! ```

use crate::settings::Settings;
use anyhow::{Context, anyhow, bail};
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Longer than it takes to make a container, whose lock is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// One container's directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// What the user calls the container.
    pub(crate) name: String,
    /// Its directory's name.
    pub(crate) directory: String,
}

/// A lock that is held as long as somebody has this.
#[derive(Debug, Clone)]
pub(crate) struct Lock(Arc<Held>);

#[derive(Debug)]
struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        // Closing is not enough: a child that has not begun its own program yet has a copy of the descriptor, and who
        // only tries for the lock passes the container over.
        let _ = self.0.unlock();
    }
}

impl Lock {
    /// Waits for the lock of an open file.
    async fn of(file: File, hold: Hold) -> anyhow::Result<Self> {
        let lock = Self(Arc::new(Held(file)));
        lock.change(hold).await?;
        Ok(lock)
    }

    /// Lets others in, or waits until there are none.
    pub(crate) async fn change(&self, hold: Hold) -> anyhow::Result<()> {
        let held = self.0.clone();
        let changed = tokio::task::spawn_blocking(move || match hold {
            Hold::Shared => held.0.lock_shared(),
            Hold::Exclusive => held.0.lock(),
        });
        let changed = tokio::time::timeout(PATIENCE, changed).await;
        Ok(changed.map_err(|_| anyhow!("the container is in use by another command"))???)
    }

    /// It is the lock at this path, not of what was there before.
    pub(crate) fn is_at(&self, path: &Path) -> anyhow::Result<bool> {
        let held = self.0.0.metadata()?.ino();
        Ok(std::fs::metadata(path).is_ok_and(|there| there.ino() == held))
    }
}

/// How a place is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    Shared,
    Exclusive,
}

impl Place {
    /// What outlives a reboot.
    pub(crate) fn data_dir(&self, settings: &Settings) -> PathBuf {
        containers_dir(settings).join(&self.directory)
    }

    /// What does not.
    pub(crate) fn state_dir(&self, settings: &Settings) -> PathBuf {
        settings.node.state_dir.join("containers").join(&self.directory)
    }

    /// Whether the id of its container begins like this. Its engine's records are named after it, so nobody is waited for
    /// who has the container, which may be us.
    pub(crate) fn has_id(&self, settings: &Settings, prefix: &str) -> bool {
        let records = std::fs::read_dir(self.data_dir(settings).join("engine/containers"));
        let mut records = records.into_iter().flatten().flatten();
        records.any(|record| record.file_name().to_string_lossy().starts_with(prefix))
    }

    /// Waits for the place's lock; an error if it is not there (any more).
    pub(crate) async fn lock(&self, settings: &Settings, hold: Hold) -> anyhow::Result<Lock> {
        let path = self.data_dir(settings).join("lock");
        let missing = || no_such(&self.name);
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(missing()),
            other => other.with_context(|| format!("open {}", path.display()))?,
        };
        let lock = Lock::of(file, hold).await?;
        // Removed and perhaps made again while we waited.
        if lock.is_at(&path)? { Ok(lock) } else { Err(missing()) }
    }

    /// The lock, shared, if nobody has it alone.
    pub(crate) fn try_lock(&self, settings: &Settings) -> anyhow::Result<Option<Lock>> {
        let path = self.data_dir(settings).join("lock");
        let Ok(file) = File::open(&path) else { return Ok(None) };
        match file.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("lock {}", path.display()));
            }
        }
        let lock = Lock(Arc::new(Held(file)));
        Ok(lock.is_at(&path)?.then_some(lock))
    }
}

/// Docker's words.
pub(crate) fn no_such(name: &str) -> anyhow::Error {
    anyhow!("No such container: {name}")
}

fn containers_dir(settings: &Settings) -> PathBuf {
    settings.node.data_dir.join("containers")
}

/// All containers, by name.
pub(crate) fn all(settings: &Settings) -> anyhow::Result<Vec<Place>> {
    let directory = containers_dir(settings);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("{}", directory.display())),
    };
    let mut places = Vec::new();
    for entry in entries {
        let entry = entry?;
        let directory = entry.file_name().to_string_lossy().into_owned();
        if directory.starts_with('.') {
            continue;
        }
        let name = std::fs::read_to_string(entry.path().join("name")).unwrap_or_else(|_| directory.clone());
        places.push(Place { name, directory });
    }
    places.sort();
    Ok(places)
}

/// Takes a name for a new container; answers its place and the exclusive lock on it.
pub(crate) async fn reserve(settings: &Settings, name: &str) -> anyhow::Result<(Place, Lock)> {
    check(name)?;
    let _names = naming(settings).await?;
    let known = all(settings)?;
    if known.iter().any(|place| place.name == name) {
        return Err(in_use(name));
    }
    let directory = match known.iter().any(|place| place.directory == name) {
        true => format!("{name}-{}", random()?),
        false => name.to_owned(),
    };
    let place = Place { name: name.to_owned(), directory };
    let path = place.data_dir(settings);
    std::fs::create_dir(&path).with_context(|| format!("mkdir {}", path.display()))?;
    let file = File::create(path.join("lock")).with_context(|| format!("{}", path.display()))?;
    let lock = Lock::of(file, Hold::Exclusive).await?;
    if place.directory != place.name {
        std::fs::write(path.join("name"), name)?;
    }
    Ok((place, lock))
}

/// Gives a container another name.
pub(crate) async fn rename(settings: &Settings, place: &Place, name: &str) -> anyhow::Result<()> {
    check(name)?;
    let _names = naming(settings).await?;
    if all(settings)?.iter().any(|place| place.name == name) {
        return Err(in_use(name));
    }
    let directory = place.data_dir(settings);
    std::fs::write(directory.join("name.new"), name)?;
    std::fs::rename(directory.join("name.new"), directory.join("name"))?;
    Ok(())
}

fn in_use(name: &str) -> anyhow::Error {
    anyhow!(
        "Conflict. The container name \"/{name}\" is already in use. You have to remove (or rename) that \
         container to be able to reuse that name."
    )
}

/// Held while a name is being taken.
async fn naming(settings: &Settings) -> anyhow::Result<Lock> {
    alone_with(settings, ".names").await
}

/// Waits for a lock that all containers share, by its file's name.
pub(crate) async fn alone_with(settings: &Settings, file: &str) -> anyhow::Result<Lock> {
    let directory = containers_dir(settings);
    std::fs::create_dir_all(&directory).with_context(|| format!("mkdir {}", directory.display()))?;
    Lock::of(File::create(directory.join(file))?, Hold::Exclusive).await
}

fn check(name: &str) -> anyhow::Result<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if !first || name.len() < 2 || name.len() > 128 || !name.chars().all(legal) {
        bail!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
    }
    Ok(())
}

/// Twelve random digits.
pub(crate) fn random() -> anyhow::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(text.trim().replace('-', "").chars().take(12).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Arguments, Command};
    use clap::Parser;

    fn settings(directory: &std::path::Path) -> Settings {
        let directory = directory.to_str().unwrap();
        let words = ["knarr", "--data-dir", directory, "--state-dir", directory, "doctor"];
        let arguments = Arguments::parse_from(words);
        assert!(matches!(arguments.command, Command::Doctor));
        Settings::resolve(&arguments.global).unwrap()
    }

    #[tokio::test]
    async fn a_name_is_one_containers() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(directory.path());
        let (first, lock) = reserve(&settings, "one").await.unwrap();
        assert!(format!("{:#}", reserve(&settings, "one").await.unwrap_err()).contains("already in use"));
        rename(&settings, &first, "two").await.unwrap();
        let (second, _lock) = reserve(&settings, "one").await.unwrap();
        assert_ne!(second.directory, "one", "the renamed one still lives there");
        let names: Vec<String> = all(&settings).unwrap().into_iter().map(|place| place.name).collect();
        assert_eq!(names, ["one", "two"]);
        assert!(rename(&settings, &second, "two").await.is_err());
        drop(lock);
        std::fs::remove_dir_all(first.data_dir(&settings)).unwrap();
        let gone = first.lock(&settings, Hold::Shared).await.unwrap_err().to_string();
        assert_eq!(gone, "No such container: one");
    }

    #[test]
    fn names_are_dockers() {
        for wrong in ["", "a", "-ab", ".ab", "a b", "a/b", "é2"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
        assert!(check("a_b-c.9").is_ok());
    }
}
