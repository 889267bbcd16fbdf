//! COPY and ADD: from the context, a stage, an image, the web, a git repository, or the Dockerfile itself.

use crate::build::config::Draft;
use crate::build::copy::{Copier, Look};
use crate::build::copy_plan::{Item, Plan, Remote, plan};
use crate::build::ignore::Ignore;
use crate::build::instruction::Transfer;
use crate::build::job::{Job, Step};
use crate::build::owner;
use crate::build::repositories::Repository;
use crate::build::stage_run::StageRun;
use crate::build::stages::Origin;
use crate::build::tree::{Found, Tree};
use crate::build::web::Facts;
use crate::build::workspace::{Workspace, with_workspace};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::compression::decompress_archive;
use crate::layer::directory::DirectorySink;
use crate::layer::entry::TreePath;
use crate::layer::inherit::inherit;
use crate::layer::limits::Limits;
use crate::layer::unpack::unpack;
use crate::web_file::WebFile;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::sync::Arc;

/// Files of the web that are here, by URL.
type Fetched = BTreeMap<String, Arc<WebFile>>;

/// Executes COPY or ADD.
pub(crate) fn run(stage: &mut StageRun<'_>, step: &Step<'_>, transfer: &Transfer, text: &str) -> Result<()> {
    let plan = plan(stage, transfer)?;
    let job = stage.job;
    let origin = match transfer.flags.get("from") {
        None => Source::Directory(&job.context),
        Some(from) => match job.build.graph.origin(from, stage.index)? {
            Origin::Stage(index) => Source::Layers(Box::new(job.wait_for(index)?)),
            Origin::Image(name) => Source::Layers(Box::new(job.image(&name, None)?)),
            Origin::Context(name) => Source::Directory(job.tree(Some(&name)).0),
        },
    };
    let mut keys = keys(stage, &plan, &origin)?;
    let mut fetched = Fetched::new();
    if plan.remotes().next().is_some() && !stage.has_done(&keys)? {
        fetched = fetch(stage, &plan)?;
        // A file may have changed since its server was asked.
        keys = self::keys(stage, &plan, &origin)?;
    }
    stage.layered(step, &keys, text, |workspace| match &origin {
        Source::Directory(tree) => execute(&plan, (tree, &fetched, job), workspace, Some((0, 0))),
        Source::Layers(origin) => {
            let view = workspace.view(origin.top())?;
            execute(&plan, (&Tree::open(&view, Ignore::default())?, &fetched, job), workspace, None)
        }
    })
}

/// Where files come from.
enum Source<'a> {
    /// The context, or a directory with a name.
    Directory(&'a Tree),
    /// A stage or an image.
    Layers(Box<Draft>),
}

/// Files of a stage or image are known by the layers they are in, which is cheap, and by what they are, which lets
/// a step survive a change in a stage that gave the same files.
fn keys(stage: &StageRun<'_>, plan: &Plan, origin: &Source<'_>) -> Result<Vec<Digest>> {
    let words = plan.words();
    let origin = match origin {
        Source::Layers(origin) => origin,
        Source::Directory(tree) => {
            let content = contents(stage, plan, tree, false)?;
            return Ok(vec![stage.key("COPY", &[words.as_bytes(), content.as_str().as_bytes()])]);
        }
    };
    let top = origin.top().map_or("scratch", |chain| chain.as_str());
    let cheap = stage.key("COPY --from", &[words.as_bytes(), top.as_bytes()]);
    if stage.job.cached(&cheap)?.is_some() {
        return Ok(vec![cheap]);
    }
    let content = with_workspace(stage.job.parts, origin.top(), |workspace| {
        contents(stage, plan, &workspace.tree()?, plan.chown.is_none())
    })?;
    Ok(vec![stage.key("COPY --from", &[words.as_bytes(), content.as_str().as_bytes()]), cheap])
}

fn contents(stage: &StageRun<'_>, plan: &Plan, tree: &Tree, with_owner: bool) -> Result<Digest> {
    let mut all = String::new();
    for item in plan.find(tree)? {
        match item {
            Item::Files(found, _) => all.push_str(tree.digest(&found, with_owner)?.as_str()),
            Item::Web(Remote { checksum: Some(digest), .. }) => all.push_str(digest.as_str()),
            Item::Web(remote) => {
                let Facts { digest, modified } = stage.job.web.facts(stage.job, &remote.wanted)?;
                all.push_str(&format!("{digest} {modified:?}"));
            }
            Item::Git(repository) => {
                all.push_str(&stage.job.repositories.words(stage.job, repository)?);
            }
        }
    }
    Ok(Digest::of(all.as_bytes()))
}

/// Every file of the web that the step needs.
fn fetch(stage: &StageRun<'_>, plan: &Plan) -> Result<Fetched> {
    let mut fetched = Fetched::new();
    for remote in plan.remotes() {
        let file = stage.job.web.file(stage.job, &remote.wanted)?;
        if let Some(expected) = remote.checksum.as_ref().filter(|expected| **expected != file.digest) {
            let (url, got) = (remote.wanted.shown(), &file.digest);
            let message = format!("digest mismatch for {url}: {got} (expected: {expected})");
            return Err(Error::new(ErrorKind::Mismatch, message));
        }
        fetched.insert(remote.wanted.url.clone(), file);
    }
    Ok(fetched)
}

/// A step at work in the root file system.
struct Work<'a> {
    plan: &'a Plan,
    workspace: &'a Workspace<'a>,
    chown: Option<(u32, u32)>,
    copier: Copier,
}

fn execute(
    plan: &Plan,
    (tree, fetched, job): (&Tree, &Fetched, &Job<'_>),
    workspace: &Workspace<'_>,
    owner: Option<(u32, u32)>,
) -> Result<()> {
    let chown = plan.chown.as_deref().map(|text| owner::resolve(text, &workspace.tree()?)).transpose()?;
    let look = Look { owner: chown.or(owner), mode: plan.mode.clone(), top: plan.parents, ..Look::default() };
    let mut work = Work { plan, workspace, chown, copier: Copier::new(&workspace.root(), look)? };
    let found = plan.find(tree)?;
    let (mut files, many) = (0, !plan.into && !plan.parents && !work.copier.is_dir(&plan.target));
    for item in &found {
        let (source, above) = match item {
            Item::Files(source, above) => (source, *above),
            Item::Web(remote) => {
                work.web(remote, fetched)?;
                continue;
            }
            Item::Git(repository) => {
                work.repository(repository, job)?;
                continue;
            }
        };
        match archive(plan, tree, &source.files)? {
            Some(archive) => work.extract(archive)?,
            None => {
                files += usize::from(!source.is_dir());
                if many && files > 1 {
                    let message = "the pattern matches several files: the destination must be a directory and end with a /";
                    return Err(Error::invalid(message));
                }
                let target = plan.target_of(&work.copier, &source.path, source.is_dir(), above)?;
                work.copier.copy(tree, &source.files, &target)?;
            }
        }
    }
    work.finish(found.is_empty())
}

impl Work<'_> {
    fn web(&mut self, remote: &Remote, fetched: &Fetched) -> Result<()> {
        let file = fetched.get(&remote.wanted.url).ok_or_else(|| Error::invalid("nothing was fetched"))?;
        let open = || File::open(file.file.path()).map_err(|e| Error::path("open", file.file.path(), e));
        if self.plan.unpack.1
            && let Some(archive) = tar(open()?, open()?)?
        {
            return self.extract(archive);
        }
        let target = self.plan.target_of(&self.copier, &TreePath::clean(remote.name.as_bytes()), false, 0)?;
        self.copier.put(&target, 0o600, file.modified.unwrap_or(0), &mut open()?)
    }

    /// What is in a repository, not the directory that holds it.
    fn repository(&mut self, repository: &Repository, job: &Job<'_>) -> Result<()> {
        let place = job.repositories.checkout(job, repository, &self.workspace.place()?)?;
        let tree = Tree::open(&place, Ignore::default())?;
        let exclude = Ignore::of(self.plan.exclude.iter().map(String::as_str));
        let target = self.plan.target_of(&self.copier, &TreePath::default(), true, 0)?;
        self.copier.make_dir(&target)?;
        for found in tree.find("/", &exclude)? {
            self.copier.copy(&tree, &found.files, &target)?;
        }
        Ok(())
    }

    /// What stands in the Dockerfile comes last.
    fn finish(mut self, is_empty: bool) -> Result<()> {
        if is_empty && self.plan.parents {
            self.copier.make_dir(&self.plan.target)?;
        }
        for (name, content) in &self.plan.inline {
            let name = TreePath::clean(name.as_bytes());
            let target = self.plan.target_of(&self.copier, &name, false, 0)?;
            self.copier.write(&target, content)?;
        }
        self.copier.finish()
    }

    /// Unpacks aside, then copies, so that what is there already keeps its look as by any other copy.
    fn extract(&self, archive: Box<dyn Read>) -> Result<()> {
        let aside = self.workspace.place()?;
        let unpacked = unpack(BufReader::new(archive), Limits::default(), &mut DirectorySink::new(&aside)?)?;
        inherit(&aside, &unpacked.implicit, &[])?;
        let tree = Tree::open(&aside, Ignore::default())?;
        let through = unpacked.implicit.into_iter().collect();
        let (owner, mode) = (self.chown, self.plan.mode.clone());
        let look = Look { owner, mode, replace: true, through, ..Look::default() };
        let mut copier = Copier::new(&self.workspace.root(), look)?;
        for found in tree.find("/", &Ignore::default())? {
            copier.make_dir(&self.plan.target)?;
            copier.copy(&tree, &found.files, &self.plan.target)?;
        }
        copier.finish()
    }
}

/// The file as a stream of tar, where ADD has to unpack it, however it is packed.
fn archive(plan: &Plan, tree: &Tree, files: &[Found]) -> Result<Option<Box<dyn Read>>> {
    let [file] = files else { return Ok(None) };
    if !plan.unpack.0 || file.is_dir() {
        return Ok(None);
    }
    tar(tree.file(&file.path)?, tree.file(&file.path)?)
}

/// A stream of tar, if that is what the file is: it is read twice. What only looks compressed is copied as it is, like every other file.
fn tar(first: File, second: File) -> Result<Option<Box<dyn Read>>> {
    let mut start = [0; 512];
    let is_tar =
        decompress_archive(first)?.read_exact(&mut start).is_ok() && start.get(257..262) == Some(b"ustar");
    if is_tar { decompress_archive(second).map(Some) } else { Ok(None) }
}
