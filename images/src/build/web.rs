//! The files of the web that a build adds: each is fetched once, all steps of one build see the same, and where a
//! server says that a file is still what it was (its ETag), an earlier build's word of it is enough.

use crate::build::cache::KEEP;
use crate::build::job::{Job, locked};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::registry::retry::Patience;
use crate::registry::transport::Transport;
use crate::store::parts::Parts;
use crate::web_file::{self, Wanted, WebFile};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};
use tokio::runtime::Runtime;

/// How soon a transfer notices that its build is over.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What tells whether a step has to be done again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) digest: Digest,
    /// Seconds since 1970.
    pub(crate) modified: Option<i64>,
}

impl Facts {
    pub(crate) fn of(file: &WebFile) -> Self {
        Self { digest: file.digest.clone(), modified: file.modified }
    }
}

/// Empty until the file is here; who fetches it holds it.
type Slot = Arc<Mutex<Option<Arc<WebFile>>>>;

/// The web as one build sees it.
pub(crate) struct Web<'a> {
    parts: &'a Parts,
    transport: Arc<Transport>,
    /// Most builds need none.
    runtime: OnceLock<Runtime>,
    seen: Seen,
    fetched: Mutex<BTreeMap<String, Slot>>,
}

impl<'a> Web<'a> {
    pub(crate) fn new(parts: &'a Parts) -> Self {
        let transport = Transport::new(Patience::default(), parts.options.proxies.clone());
        Self {
            parts,
            transport: Arc::new(transport),
            runtime: OnceLock::new(),
            seen: Seen::of(&parts.root),
            fetched: Mutex::default(),
        }
    }

    /// What the file is now. Fetched only where nobody knows.
    pub(crate) fn facts(&self, job: &Job<'_>, wanted: &Wanted) -> Result<Facts> {
        let here = self.slot(wanted);
        if let Some(file) = &*locked(&here) {
            return Ok(Facts::of(file));
        }
        if let Some(seen) = self.seen.get(wanted)
            && self.wait(job, async { Ok(web_file::tag(&self.transport, wanted).await) })? == Some(seen.tag)
        {
            return Ok(seen.facts);
        }
        self.file(job, wanted).map(|file| Facts::of(&file))
    }

    /// The file itself.
    pub(crate) fn file(&self, job: &Job<'_>, wanted: &Wanted) -> Result<Arc<WebFile>> {
        let slot = self.slot(wanted);
        let mut slot = locked(&slot);
        if let Some(file) = &*slot {
            return Ok(file.clone());
        }
        let file = Arc::new(self.wait(job, web_file::fetch(self.parts, &self.transport, wanted))?);
        self.seen.remember(wanted, &file)?;
        *slot = Some(file.clone());
        Ok(file)
    }

    fn slot(&self, wanted: &Wanted) -> Slot {
        locked(&self.fetched).entry(wanted.url.clone()).or_default().clone()
    }

    /// Waits, unless the build ends before.
    pub(crate) fn wait<T>(&self, job: &Job<'_>, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime()?.block_on(async {
            tokio::select! {
                done = work => done,
                error = ended(job) => Err(error),
            }
        })
    }

    fn runtime(&self) -> Result<&Runtime> {
        if self.runtime.get().is_none() {
            let made = tokio::runtime::Builder::new_current_thread().enable_all().build();
            // Another stage may have been faster; one of the two is not used then.
            let _ = self.runtime.set(made.map_err(|e| Error::io("start a client", e))?);
        }
        self.runtime.get().ok_or_else(|| Error::invalid("no client"))
    }
}

async fn ended(job: &Job<'_>) -> Error {
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        if let Err(error) = job.check() {
            return error;
        }
    }
}

/// What was found behind a URL, and what its server called that.
#[derive(Debug, Serialize, Deserialize)]
struct Sight {
    tag: String,
    #[serde(flatten)]
    facts: Facts,
}

/// Such sights of earlier builds. Losing one costs a transfer.
#[derive(Debug)]
pub(crate) struct Seen(PathBuf);

impl Seen {
    pub(crate) fn of(root: &Path) -> Self {
        Self(root.join("build/web"))
    }

    /// Who else may ask may see something else.
    fn path(&self, wanted: &Wanted) -> PathBuf {
        let key = format!("{}\0{}", wanted.url, wanted.authorization.as_deref().unwrap_or_default());
        self.0.join(Digest::of(key.as_bytes()).hex())
    }

    fn get(&self, wanted: &Wanted) -> Option<Sight> {
        let path = self.path(wanted);
        let sight = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
        // Only tells how lately it was used.
        let _ = std::fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(sight)
    }

    fn remember(&self, wanted: &Wanted, file: &WebFile) -> Result<()> {
        let Some(tag) = file.tag.clone() else { return Ok(()) };
        let failed = |e| Error::path("write in", &self.0, e);
        std::fs::create_dir_all(&self.0).map_err(failed)?;
        let text = serde_json::to_vec(&Sight { tag, facts: Facts::of(file) });
        let text = text.map_err(|e| Error::invalid(e.to_string()))?;
        let written = tempfile::NamedTempFile::new_in(&self.0).map_err(failed)?;
        std::fs::write(written.path(), text).map_err(failed)?;
        written.persist(self.path(wanted)).map(drop).map_err(|e| failed(e.error))
    }

    /// Forgets what no build has asked for so long.
    pub(crate) fn forget(&self, unused_for: Duration) {
        let limit = SystemTime::now().checked_sub(unused_for.min(KEEP)).unwrap_or(SystemTime::UNIX_EPOCH);
        for entry in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let used = entry.metadata().and_then(|meta| meta.modified());
            if used.is_ok_and(|used| used <= limit) {
                // What cannot be removed is asked for again next time.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}
