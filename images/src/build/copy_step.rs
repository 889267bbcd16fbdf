//! COPY and ADD: from the context, a stage, an image, or the Dockerfile itself.

use crate::build::chmod::Chmod;
use crate::build::config::Draft;
use crate::build::copy::{Copier, Look};
use crate::build::ignore::Ignore;
use crate::build::instruction::Transfer;
use crate::build::job::Step;
use crate::build::owner;
use crate::build::source::mark;
use crate::build::stage_run::StageRun;
use crate::build::stages::Origin;
use crate::build::tree::{Found, Named, Tree};
use crate::build::workspace::{Workspace, with_workspace};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::compression::decompress_archive;
use crate::layer::directory::DirectorySink;
use crate::layer::entry::TreePath;
use crate::layer::inherit::inherit;
use crate::layer::limits::Limits;
use crate::layer::unpack::unpack;
use std::io::{BufReader, Read};

/// What to do, with variables replaced.
struct Plan {
    add: bool,
    sources: Vec<String>,
    /// Contents that stand in the Dockerfile: name and bytes.
    inline: Vec<(String, Vec<u8>)>,
    target: TreePath,
    /// The target must be a directory.
    into: bool,
    chown: Option<String>,
    mode: Option<Chmod>,
    exclude: Vec<String>,
    parents: bool,
}

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
    let keys = keys(stage, &plan, &origin)?;
    stage.layered(step, &keys, text, |workspace| match &origin {
        Source::Directory(tree) => execute(&plan, tree, workspace, Some((0, 0))),
        Source::Layers(origin) => {
            let view = workspace.view(origin.top())?;
            execute(&plan, &Tree::open(&view, Ignore::default())?, workspace, None)
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

fn plan(stage: &StageRun<'_>, transfer: &Transfer) -> Result<Plan> {
    let scope = stage.scope();
    let flags = transfer.flags.expanded(scope.escape, &scope)?;
    if let Some(flag) = ["checksum", "keep-git-dir"].into_iter().find(|flag| flags.get(flag).is_some()) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("--{flag}: remote sources are not supported yet"),
        ));
    }
    flags.is_set("link")?;
    let target = scope.expand(&transfer.target)?;
    let mut plan = Plan {
        add: transfer.add && flags.get("unpack") != Some("false"),
        sources: Vec::new(),
        inline: Vec::new(),
        target: stage.absolute(&target),
        into: target.ends_with('/') || target == "." || target.ends_with("/."),
        chown: flags.get("chown").map(str::to_owned),
        mode: flags.get("chmod").map(Chmod::parse).transpose()?,
        exclude: flags.all("exclude").map(str::to_owned).collect(),
        parents: flags.is_set("parents")?,
    };
    let mut heredocs = transfer.heredocs.iter();
    for source in &transfer.sources {
        match mark(source).and_then(|_| heredocs.next()) {
            Some(heredoc) => {
                let content = match heredoc.expand {
                    true => scope.expand_document(&heredoc.content)?,
                    false => heredoc.content.clone(),
                };
                plan.inline.push((heredoc.name.clone(), content.into_bytes()));
            }
            None => plan.sources.push(local(scope.expand(source)?)?),
        }
    }
    if plan.sources.len() + plan.inline.len() > 1 && !plan.into {
        let name = if transfer.add { "ADD" } else { "COPY" };
        return Err(Error::invalid(format!(
            "When using {name} with more than one source file, the destination must be a directory and end with a /"
        )));
    }
    Ok(plan)
}

/// Fails on what would have to be fetched.
fn local(source: String) -> Result<String> {
    let remote =
        ["http://", "https://", "git://", "ssh://", "git@"].iter().any(|scheme| source.starts_with(scheme));
    if remote {
        let message =
            format!("{source}: remote sources are not supported yet; download it and COPY the file");
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    Ok(source)
}

/// Files of a stage or image are known by the layers they are in, which is cheap, and by what they are, which lets
/// a step survive a change in a stage that gave the same files.
fn keys(stage: &StageRun<'_>, plan: &Plan, origin: &Source<'_>) -> Result<Vec<Digest>> {
    let words = format!(
        "{} {:?} {:?} {:?} {} {:?} {:?} {:?} {}",
        plan.add,
        plan.sources,
        plan.inline,
        plan.target,
        plan.into,
        plan.chown,
        plan.mode,
        plan.exclude,
        plan.parents
    );
    let origin = match origin {
        Source::Layers(origin) => origin,
        Source::Directory(tree) => {
            let content = contents(plan, tree, false)?;
            return Ok(vec![stage.key("COPY", &[words.as_bytes(), content.as_str().as_bytes()])]);
        }
    };
    let top = origin.top().map_or("scratch", |chain| chain.as_str());
    let cheap = stage.key("COPY --from", &[words.as_bytes(), top.as_bytes()]);
    if stage.job.cached(&cheap)?.is_some() {
        return Ok(vec![cheap]);
    }
    let content = with_workspace(stage.job.parts, origin.top(), |workspace| {
        contents(plan, &workspace.tree()?, plan.chown.is_none())
    })?;
    Ok(vec![stage.key("COPY --from", &[words.as_bytes(), content.as_str().as_bytes()]), cheap])
}

fn contents(plan: &Plan, tree: &Tree, with_owner: bool) -> Result<Digest> {
    let mut all = String::new();
    for (found, _) in plan.find(tree)? {
        all.push_str(tree.digest(&found, with_owner)?.as_str());
    }
    Ok(Digest::of(all.as_bytes()))
}

impl Plan {
    fn find(&self, tree: &Tree) -> Result<Vec<(Named, usize)>> {
        let exclude = Ignore::of(self.exclude.iter().map(String::as_str));
        let mut all = Vec::new();
        for source in &self.sources {
            let above = above_pivot(source);
            all.extend(tree.find_as(source, &exclude, self.parents)?.into_iter().map(|named| (named, above)));
        }
        Ok(all)
    }

    /// Where one source goes.
    fn target_of(&self, copier: &Copier, source: &TreePath, is_dir: bool, above: usize) -> TreePath {
        if self.parents {
            let kept = source.parts().skip(above);
            return kept.fold(self.target.clone(), |path, part| path.join(part));
        }
        match source.split() {
            Some((_, name)) if !is_dir && (self.into || copier.is_dir(&self.target)) => {
                self.target.join(name)
            }
            _ => self.target.clone(),
        }
    }
}

/// `--parents` keeps only what comes after a `/./` of the source: how many parts come before it.
fn above_pivot(source: &str) -> usize {
    let inside = source.strip_prefix("./").unwrap_or(source);
    inside.split_once("/./").map_or(0, |(above, _)| TreePath::clean(above.as_bytes()).parts().count())
}

fn execute(plan: &Plan, tree: &Tree, workspace: &Workspace<'_>, owner: Option<(u32, u32)>) -> Result<()> {
    let chown = plan.chown.as_deref().map(|text| owner::resolve(text, &workspace.tree()?)).transpose()?;
    let look = Look { owner: chown.or(owner), mode: plan.mode.clone(), top: plan.parents, ..Look::default() };
    let mut copier = Copier::new(&workspace.root(), look)?;
    let found = plan.find(tree)?;
    let (mut files, many) = (0, !plan.into && !plan.parents && !copier.is_dir(&plan.target));
    for (source, above) in &found {
        match archive(plan, tree, &source.files)? {
            Some(archive) => extract(archive, plan, workspace, chown)?,
            None => {
                files += usize::from(!source.is_dir());
                if many && files > 1 {
                    let message = "the pattern matches several files: the destination must be a directory and end with a /";
                    return Err(Error::invalid(message));
                }
                let target = plan.target_of(&copier, &source.path, source.is_dir(), *above);
                copier.copy(tree, &source.files, &target)?;
            }
        }
    }
    if found.is_empty() && plan.parents {
        copier.make_dir(&plan.target)?;
    }
    for (name, content) in &plan.inline {
        let name = TreePath::clean(name.as_bytes());
        copier.write(&plan.target_of(&copier, &name, false, 0), content)?;
    }
    copier.finish()
}

/// The file as a stream of tar, where ADD has to unpack it, however it is packed.
fn archive(plan: &Plan, tree: &Tree, files: &[Found]) -> Result<Option<Box<dyn Read>>> {
    let [file] = files else { return Ok(None) };
    if !plan.add || file.is_dir() {
        return Ok(None);
    }
    let mut start = [0; 512];
    let mut stream = decompress_archive(tree.file(&file.path)?)?;
    // What only looks compressed is copied as it is, like every other file.
    let is_tar = stream.read_exact(&mut start).is_ok() && start.get(257..262) == Some(b"ustar");
    if is_tar { Ok(Some(decompress_archive(tree.file(&file.path)?)?)) } else { Ok(None) }
}

/// Unpacks aside, then copies, so that what is there already keeps its look as by any other copy.
fn extract(
    archive: Box<dyn Read>,
    plan: &Plan,
    workspace: &Workspace<'_>,
    owner: Option<(u32, u32)>,
) -> Result<()> {
    let aside = workspace.place()?;
    let unpacked = unpack(BufReader::new(archive), Limits::default(), &mut DirectorySink::new(&aside)?)?;
    inherit(&aside, &unpacked.implicit, &[])?;
    let tree = Tree::open(&aside, Ignore::default())?;
    let look = Look { owner, mode: plan.mode.clone(), replace: true, ..Look::default() };
    let mut copier = Copier::new(&workspace.root(), look)?;
    for found in tree.find("/", &Ignore::default())? {
        copier.make_dir(&plan.target)?;
        copier.copy(&tree, &found.files, &plan.target)?;
    }
    copier.finish()
}
