//! Images from Dockerfiles.
//!
//! `source` splits the file into lines, `instruction` understands each, `stages` finds out what the target needs: all
//! pure. `job` then executes the needed stages, each on a thread of its own as soon as what it needs is there: every
//! step that can change files either finds its result in the `cache` or is executed in a `workspace` and committed as
//! a layer. A RUN is executed by the caller's `Runner`.
//!
//! What must hold:
//! - The same input gives the same image: no time of day, no name of this machine, no order of a directory is in it.
//!   (What a RUN itself writes is its own affair; `source_date_epoch` bounds the times of its files.)
//! - Neither the context nor an image can make a build read or write outside of them.
//! - A build that is killed leaves nothing but finished layers in the cache.
//! - Every error of the Dockerfile names file and line.

use crate::build::stages::Graph;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::parts::Parts;
use runner::{Network, RunLimits, Runner};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub(crate) mod base;
pub(crate) mod cache;
pub(crate) mod check;
mod chmod;
pub(crate) mod config;
pub(crate) mod copy;
mod copy_plan;
mod copy_step;
pub(crate) mod describe;
mod expand;
mod flags;
mod glob;
pub(crate) mod health;
pub(crate) mod ignore;
pub(crate) mod instruction;
mod job;
pub(crate) mod listed;
mod near;
pub(crate) mod outline;
mod owner;
pub(crate) mod remote;
mod repositories;
mod run_step;
pub(crate) mod runner;
pub(crate) mod scope;
pub(crate) mod source;
mod stage_run;
mod stages;
mod step_mount;
mod stubs;
pub(crate) mod tree;
mod web;
pub(crate) mod workspace;

/// What to build.
#[derive(Debug, Clone, Default)]
pub struct BuildRequest {
    /// The directory that COPY and ADD take files from.
    pub context: PathBuf,
    /// Name of the Dockerfile in messages.
    pub file: String,
    /// Its text.
    pub dockerfile: String,
    /// Text of the `.dockerignore`.
    pub ignore: String,
    /// Names of the result.
    pub tags: Vec<String>,
    /// `--build-arg`.
    pub arguments: BTreeMap<String, String>,
    /// `--secret`: contents by id.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// `--ssh`: sockets of agents by id.
    pub ssh: BTreeMap<String, PathBuf>,
    /// `--build-context`: what else FROM and `--from` can name.
    pub contexts: BTreeMap<String, BuildContext>,
    /// `--add-host`: lines of a RUN's /etc/hosts, name and address.
    pub hosts: Vec<(String, String)>,
    /// Labels besides those of the Dockerfile.
    pub labels: BTreeMap<String, String>,
    /// Stop after this stage.
    pub target: Option<String>,
    /// `os/architecture[/variant]`; this machine's where absent.
    pub platform: Option<String>,
    /// Execute every step again.
    pub no_cache: bool,
    /// Execute the steps of these stages again.
    pub no_cache_stages: BTreeSet<String>,
    /// For RUNs that do not say.
    pub network: Network,
    /// For every RUN.
    pub limits: RunLimits,
    /// Of the result's manifest.
    pub annotations: BTreeMap<String, String>,
    /// Seconds since 1970: the image was made then, and no file of a new layer is newer.
    pub source_date_epoch: Option<i64>,
}

/// A name besides those of stages and images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildContext {
    /// A directory, for `--from`; its own `.dockerignore` counts.
    Directory(PathBuf),
    /// Another image than the one of that name.
    Image(String),
}

/// What happens during a build. Steps have numbers in the order in which they begin.
#[derive(Debug, Clone, PartialEq)]
pub enum BuildEvent {
    /// A step begins: `[builder 2/4] RUN make`.
    Started {
        #[allow(missing_docs)]
        step: usize,
        #[allow(missing_docs)]
        name: String,
    },
    /// Something that a RUN printed, line by line without the line break.
    Output {
        #[allow(missing_docs)]
        step: usize,
        #[allow(missing_docs)]
        line: String,
    },
    /// The step was done before.
    Cached {
        #[allow(missing_docs)]
        step: usize,
    },
    /// The step is done.
    Done {
        #[allow(missing_docs)]
        step: usize,
        #[allow(missing_docs)]
        took: std::time::Duration,
    },
    /// The step failed.
    Failed {
        #[allow(missing_docs)]
        step: usize,
        #[allow(missing_docs)]
        error: String,
    },
}

/// Hears about a build, from any of its threads.
pub type Listener<'a> = &'a (dyn Fn(BuildEvent) + Sync);

/// A Dockerfile that was understood.
#[derive(Debug)]
pub struct Build {
    request: BuildRequest,
    platform: Platform,
    tags: BTreeSet<String>,
    graph: Graph,
    /// Ids of the images that stages begin with, where a name may be another platform's by now.
    bases: BTreeMap<(String, Option<String>), String>,
}

impl Build {
    /// Understands the Dockerfile.
    ///
    /// # Errors
    /// When it cannot be understood (with file and line), or a name is malformed.
    pub fn plan(request: BuildRequest) -> Result<Self> {
        let platform = match &request.platform {
            Some(text) => Platform::parse(text)?,
            None => Platform::host(),
        };
        let mut tags = BTreeSet::new();
        for name in &request.tags {
            let tag = Reference::parse(name)?.tagged();
            tags.insert(tag.ok_or_else(|| Error::invalid(format!("{name}: a tag cannot hold a digest")))?);
        }
        let (target, automatic) = (request.target.as_deref(), automatic_arguments(&platform));
        let graph =
            Graph::plan(&request, target, &automatic).map_err(|error| error.in_file(&request.file))?;
        Ok(Self { request, platform, tags, graph, bases: BTreeMap::new() })
    }

    /// Stages of this name and platform, as `images` has told them, begin with this image.
    /// What its ONBUILDs copy from is needed too: `images` may tell of more afterwards.
    ///
    /// # Errors
    /// When one of them cannot be understood.
    pub fn stand_on(
        &mut self,
        (name, platform): (String, Option<String>),
        image: &Image,
        triggers: &[String],
    ) -> Result<()> {
        self.graph.inherit(&name, triggers).map_err(|error| error.in_file(&self.request.file))?;
        self.bases.insert((name, platform), image.id.clone());
        Ok(())
    }

    /// Images that must be in the store before `ImageStore::build`: name, and platform where not this build's.
    pub fn images(&self) -> BTreeSet<(String, Option<String>)> {
        self.graph.images()
    }

    /// What it is built for: `linux/amd64`.
    pub fn platform(&self) -> String {
        platform_text(&self.platform)
    }
}

/// Builds. Blocks until it is done.
pub(crate) fn build(
    parts: &Parts,
    build: &Build,
    runner: &dyn Runner,
    listener: Listener<'_>,
) -> Result<Image> {
    job::Job::new(parts, build, runner, listener)?.run()
}

/// What of builds is to be forgotten; everything by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForgetBuilds {
    /// Only what no build has used for so long.
    pub unused_for: Option<std::time::Duration>,
    /// Leave so many bytes of what was used last.
    pub keep: Option<u64>,
}

/// Drops results of steps, and, where all is to go, the contents of cache mounts. Answers how many bytes that gave back.
pub(crate) fn forget(parts: &Parts, wanted: &ForgetBuilds) -> Result<u64> {
    let cache = cache::Cache::open(&parts.root)?;
    web::Seen::of(&parts.root).forget(wanted.unused_for.unwrap_or_default());
    let mounts = parts.root.join("build/mounts");
    let kept = if *wanted == ForgetBuilds::default() {
        cache.forget(std::time::Duration::ZERO)?;
        let kept = crate::snapshot::usage::usage_of(&mounts).map_or(0, |(bytes, _)| bytes);
        crate::layer::removal::remove_path(&mounts)?;
        kept
    } else {
        cache.forget_down_to(wanted.unused_for.unwrap_or_default(), wanted.keep.unwrap_or(0))?;
        0
    };
    let ((), collected) = parts.update_and_collect(|_| Ok(()))?;
    Ok(kept + collected.bytes)
}

fn platform_text(platform: &Platform) -> String {
    let variant = platform.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
    format!("{}/{}{variant}", platform.os, platform.architecture)
}

/// Arguments that a stage gets by naming them: `ARG TARGETARCH`.
fn automatic_arguments(target: &Platform) -> BTreeMap<String, String> {
    let mut arguments = BTreeMap::new();
    for (prefix, platform) in [("TARGET", target), ("BUILD", &Platform::host())] {
        for (name, value) in [
            ("PLATFORM", platform_text(platform)),
            ("OS", platform.os.clone()),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", platform.variant.clone().unwrap_or_default()),
        ] {
            arguments.insert(format!("{prefix}{name}"), value);
        }
    }
    arguments
}
