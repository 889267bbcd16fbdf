//! One build at work: stages on threads, each waiting for those it needs; the first failure stops the others at their
//! next step.

use crate::build::base;
use crate::build::cache::{Cache, KEEP, Outcome};
use crate::build::config::Draft;
use crate::build::ignore::Ignore;
use crate::build::listed::list;
use crate::build::repositories::Repositories;
use crate::build::runner::Runner;
use crate::build::scope::Arguments;
use crate::build::stage_run::StageRun;
use crate::build::tree::Tree;
use crate::build::web::{Seen, Web};
use crate::build::{Build, BuildContext, BuildEvent, Listener};
use crate::content::ContentStore;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;
use crate::lease::Lease;
use crate::manifest::LayerPlan;
use crate::reference::Reference;
use crate::store::find::find;
use crate::store::parts::Parts;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Everything that the stages of one build share.
pub(crate) struct Job<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) build: &'a Build,
    pub(crate) runner: &'a dyn Runner,
    listener: Listener<'a>,
    pub(crate) context: Tree,
    /// Directories that were given names.
    contexts: BTreeMap<String, Tree>,
    pub(crate) cache: Cache,
    pub(crate) web: Web<'a>,
    pub(crate) repositories: Repositories,
    /// Stages that are done; none where one failed.
    finished: Mutex<BTreeMap<usize, Option<(Draft, Arguments)>>>,
    changed: Condvar,
    failed: AtomicBool,
    steps: AtomicUsize,
    /// Keep what this build relies on until it is listed.
    leases: Mutex<Vec<Lease>>,
    used: Mutex<Vec<Digest>>,
}

fn named_trees(contexts: &BTreeMap<String, BuildContext>) -> Result<BTreeMap<String, Tree>> {
    let mut trees = BTreeMap::new();
    for (name, context) in contexts {
        let BuildContext::Directory(path) = context else { continue };
        let file = path.join(".dockerignore");
        let ignore = match std::fs::read(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(|e| Error::path("read", &file, e))?,
        };
        let ignore = Ignore::parse(&String::from_utf8_lossy(&ignore));
        trees.insert(name.clone(), Tree::open(path, ignore)?);
    }
    Ok(trees)
}

/// A thread that panicked with a lock held has failed the build already.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Job<'a> {
    pub(crate) fn new(
        parts: &'a Parts,
        build: &'a Build,
        runner: &'a dyn Runner,
        listener: Listener<'a>,
    ) -> Result<Self> {
        Ignore::check(&build.request.ignore)?;
        let context = Tree::open(&build.request.context, Ignore::parse(&build.request.ignore))?;
        Ok(Self {
            parts,
            build,
            runner,
            listener,
            context,
            contexts: named_trees(&build.request.contexts)?,
            cache: Cache::open(&parts.root)?,
            web: Web::new(parts),
            repositories: Repositories::default(),
            finished: Mutex::default(),
            changed: Condvar::new(),
            failed: AtomicBool::new(false),
            steps: AtomicUsize::new(1),
            leases: Mutex::default(),
            used: Mutex::default(),
        })
    }

    /// Builds the target and lists it.
    pub(crate) fn run(self) -> Result<Image> {
        self.cache.forget(KEEP)?;
        Seen::of(&self.parts.root).forget(KEEP);
        let needed = self.build.graph.needed();
        let outcomes = std::thread::scope(|scope| {
            let stages = needed.iter().map(|index| scope.spawn(|| self.stage(*index)));
            let threads: Vec<_> = stages.collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
                thread.join().unwrap_or_else(|_| Err(Error::invalid("a build thread panicked")))
            };
            threads.into_iter().map(join).collect::<Vec<_>>()
        });
        if let Some(error) = first_error(outcomes) {
            return Err(error.in_file(&self.build.request.file));
        }
        let target = locked(&self.finished).remove(&self.build.graph.target).flatten();
        let Some((mut draft, _)) = target else {
            return Err(Error::invalid("the target was not built"));
        };
        for (name, value) in &self.build.request.labels {
            draft.add("Labels", name, serde_json::json!(value));
        }
        let step = self.begin("exporting to image".to_owned());
        let image = list(&self, &draft)?;
        locked(&self.used).iter().try_for_each(|key| self.cache.confirm(key))?;
        step.done();
        Ok(image)
    }

    /// Builds one stage and tells those who wait for it.
    fn stage(&self, index: usize) -> Result<()> {
        let result = StageRun::new(self, index).and_then(StageRun::run);
        let (stage, result) = match result {
            Ok(stage) => (Some(stage), Ok(())),
            Err(error) => {
                self.failed.store(true, Ordering::Relaxed);
                (None, Err(error))
            }
        };
        locked(&self.finished).insert(index, stage);
        self.changed.notify_all();
        result
    }

    /// Waits for another stage.
    pub(crate) fn wait_for(&self, index: usize) -> Result<Draft> {
        self.wait_for_whole(index).map(|(draft, _)| draft)
    }

    /// The same, with the arguments that were declared in it.
    pub(crate) fn wait_for_whole(&self, index: usize) -> Result<(Draft, Arguments)> {
        let mut finished = locked(&self.finished);
        loop {
            match finished.get(&index) {
                Some(Some(stage)) => return Ok(stage.clone()),
                Some(None) => return Err(stopped()),
                None => finished = self.changed.wait(finished).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Fails when another stage has failed, or nobody wants the build any more.
    pub(crate) fn check(&self) -> Result<()> {
        self.runner.check()?;
        if self.failed.load(Ordering::Relaxed) { Err(stopped()) } else { Ok(()) }
    }

    /// Where files come from that no layer has: the context, or a directory with a name.
    pub(crate) fn tree(&self, name: Option<&str>) -> (&Tree, &Path) {
        let request = &self.build.request;
        let named = name.and_then(|name| match (self.contexts.get(name), request.contexts.get(name)) {
            (Some(tree), Some(BuildContext::Directory(path))) => Some((tree, path.as_path())),
            _ => None,
        });
        named.unwrap_or((&self.context, &request.context))
    }

    /// An image of the store as the beginning of a stage, for the platform that the stage names.
    pub(crate) fn image(&self, name: &str, platform: Option<&String>) -> Result<Draft> {
        let catalog = self.parts.catalog.read()?;
        let missing = || Error::new(ErrorKind::NotFound, format!("{name}: no such image"));
        let known = self.build.bases.get(&(name.to_owned(), platform.cloned()));
        let image = find(&catalog, known.map_or(name, String::as_str))?.ok_or_else(missing)?;
        let (id, record) = catalog.expect(&image.id)?;
        let called = Reference::parse(name).ok().filter(|name| record.is_called(name));
        self.parts.may_run(record, called.as_ref())?;
        let protected = record.content().chain(&record.chain).chain([id]);
        self.keep(protected)?;
        base::draft(self.parts, id, record).map_err(|error| error.context(name))
    }

    /// Protects digests from the collector until the build ends.
    fn keep<'d>(&self, digests: impl Iterator<Item = &'d Digest>) -> Result<()> {
        let lease = self.parts.leases.take(digests)?;
        locked(&self.leases).push(lease);
        Ok(())
    }

    /// What a step gave before, if that is still whole.
    pub(crate) fn cached(&self, key: &Digest) -> Result<Option<Outcome>> {
        if self.build.request.no_cache {
            return Ok(None);
        }
        let Some(outcome) = self.cache.get(key)? else { return Ok(None) };
        if let Some(layer) = &outcome.layer {
            self.keep([&layer.blob.digest, &layer.chain_id].into_iter())?;
            let whole = self.parts.layers.record(&layer.chain_id)?.is_some()
                && self.parts.content.stat(&layer.blob.digest)?.is_some();
            if !whole {
                return Ok(None);
            }
        }
        locked(&self.used).push(key.clone());
        Ok(Some(outcome))
    }

    /// Remembers what a step gave.
    pub(crate) fn remember(&self, key: &Digest, outcome: &Outcome) -> Result<()> {
        self.cache.put(key, outcome)?;
        locked(&self.used).push(key.clone());
        Ok(())
    }

    /// Protects a layer that is about to be made.
    pub(crate) fn keep_layer(&self, layer: &LayerPlan) -> Result<()> {
        self.keep([&layer.blob.digest, &layer.chain_id].into_iter())
    }

    /// Protects a document that is about to be stored.
    pub(crate) fn keep_documents(&self, digests: [&Digest; 2]) -> Result<()> {
        self.keep(digests.into_iter())
    }

    /// A step begins.
    pub(crate) fn begin(&self, name: String) -> Step<'_> {
        let number = self.steps.fetch_add(1, Ordering::Relaxed);
        (self.listener)(BuildEvent::Started { step: number, name });
        Step { listener: self.listener, number, since: Instant::now() }
    }
}

/// A step that has begun.
pub(crate) struct Step<'a> {
    listener: Listener<'a>,
    number: usize,
    since: Instant,
}

impl Step<'_> {
    pub(crate) fn output(&self, line: String) {
        (self.listener)(BuildEvent::Output { step: self.number, line });
    }

    pub(crate) fn cached(&self) {
        (self.listener)(BuildEvent::Cached { step: self.number });
    }

    pub(crate) fn done(&self) {
        (self.listener)(BuildEvent::Done { step: self.number, took: self.since.elapsed() });
    }

    pub(crate) fn failed(&self, error: &Error) {
        (self.listener)(BuildEvent::Failed { step: self.number, error: error.to_string() });
    }
}

const STOPPED: &str = "stopped, because another stage failed";

fn stopped() -> Error {
    Error::new(ErrorKind::Unavailable, STOPPED)
}

/// The failure that made the others stop.
fn first_error(outcomes: Vec<Result<()>>) -> Option<Error> {
    let mut errors: Vec<Error> = outcomes.into_iter().filter_map(Result::err).collect();
    errors.sort_by_key(|error| error.to_string().contains(STOPPED));
    errors.into_iter().next()
}
