//! RUN: a command in the root file system so far, with the mounts it asks for.

use crate::build::ignore::Ignore;
use crate::build::instruction::Command;
use crate::build::job::{Job, Step, locked};
use crate::build::runner::{Network, RunMount, RunStep};
use crate::build::source::Heredoc;
use crate::build::stage_run::StageRun;
use crate::build::stages::Origin;
use crate::build::step_mount::{Kind, Sharing, StepMount};
use crate::build::stubs::Stubs;
use crate::build::tree::Tree;
use crate::build::workspace::Workspace;
use crate::build::{copy::Copier, copy::Look, flags::Flags};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::entry::TreePath;
use crate::lock::FileLock;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Lines longer than this are shown in pieces.
const MAX_LINE: usize = 8 << 10;

/// A mount whose source is known.
struct Planned {
    mount: StepMount,
    target: String,
    from: Place,
}

/// Where the files of a mount are.
#[derive(Debug)]
enum Place {
    /// The context, or a directory with a name.
    Directory(Option<String>),
    /// The layers of a stage or image.
    Layers(Option<Digest>),
}

/// Where the sockets of agents are in a container, numbered.
const AGENTS: &str = "/run/buildkit/ssh_agent.";

/// Where a script of the Dockerfile is while it runs.
const SCRIPTS: &str = "/dev/pipes";

/// Executes one RUN.
pub(crate) fn run(
    stage: &mut StageRun<'_>,
    step: &Step<'_>,
    (flags, command, heredocs): (&Flags, &Command, &Vec<Heredoc>),
) -> Result<()> {
    let network = network(flags, stage.job.build.request.network)?;
    let mounts = planned(stage, flags)?;
    let script = script_of(command, heredocs);
    let command = with_heredocs(command, heredocs);
    let (argv, env) = (stage.draft.argv(&command), stage.scope().environment());
    let key = key(stage, (&argv, &env, script), &mounts, network)?;
    let created_by = stage.history_of(&command);
    let (job, draft) = (stage.job, stage.draft.clone());
    let shown = shown(command_words(&argv));
    stage.layered(step, &[key], &created_by, |workspace| {
        let mut prepared = Prepared::new(job, &mounts, workspace)?;
        script.map_or(Ok(()), |script| prepared.script(script, workspace))?;
        let root = workspace.root();
        Copier::new(&root, Look::default()).and_then(|mut copier| {
            copier.make_dir(&TreePath::clean(draft.workdir().as_bytes()))?;
            copier.finish()
        })?;
        let stubs = Stubs::note(&root, prepared.mounts.iter().map(RunMount::target))?;
        let lines = Lines { step, rest: Mutex::default() };
        let status = job.runner.run(&RunStep {
            id: workspace.id.clone(),
            scratch: workspace.mkdir("bundle")?,
            rootfs: root,
            argv,
            env: env.into_iter().chain(prepared.env).collect(),
            workdir: draft.workdir(),
            user: draft.user().to_owned(),
            mounts: prepared.mounts,
            network,
            hosts: job.build.request.hosts.clone(),
            limits: job.build.request.limits.clone(),
            output: &|bytes| lines.print(bytes),
        })?;
        lines.end();
        if status != 0 {
            let message = format!("process {shown:?} did not complete successfully: exit code: {status}");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        stubs.clear()
    })
}

fn command_words(argv: &[String]) -> String {
    argv.join(" ")
}

/// A command in a message: not a whole script.
fn shown(text: String) -> String {
    text.chars().take(500).collect()
}

/// A here-document alone that names its own interpreter: the kernel reads that in the first line of a file.
fn script_of<'a>(command: &Command, heredocs: &'a [Heredoc]) -> Option<&'a Heredoc> {
    let (Command::Shell(line), [only]) = (command, heredocs) else { return None };
    let alone = crate::build::source::mark(line.trim()).is_some();
    (alone && only.content.starts_with("#!")).then_some(only)
}

/// A here-document alone is the script. After a command it is what the shell makes of it.
fn with_heredocs(command: &Command, heredocs: &[Heredoc]) -> Command {
    let (Command::Shell(line), [first, ..]) = (command, heredocs) else { return command.clone() };
    if script_of(command, heredocs).is_some() {
        return Command::Shell(format!("{SCRIPTS}/{}", first.name));
    }
    if heredocs.len() == 1 && crate::build::source::mark(line.trim()).is_some() {
        return Command::Shell(first.content.clone());
    }
    let mut text = line.clone();
    for heredoc in heredocs {
        text.push_str(&format!("\n{}{}", heredoc.content, heredoc.name));
    }
    Command::Shell(text)
}

fn network(flags: &Flags, default: Network) -> Result<Network> {
    match flags.get("security") {
        None | Some("sandbox") => {}
        Some(other) => {
            return Err(Error::new(ErrorKind::Unsupported, format!("--security={other}: not supported")));
        }
    }
    match flags.get("network") {
        None | Some("default") => Ok(default),
        Some("host") => Ok(Network::Host),
        Some("none") => Ok(Network::None),
        Some(other) => Err(Error::invalid(format!("--network={other}: default, none or host"))),
    }
}

fn planned(stage: &StageRun<'_>, flags: &Flags) -> Result<Vec<Planned>> {
    let scope = stage.scope();
    let mut all = Vec::new();
    for text in flags.all("mount") {
        let mount = StepMount::parse(&scope.expand(text)?)?;
        let from = match &mount.from {
            None => Place::Directory(None),
            Some(from) => match stage.job.build.graph.origin(from, stage.index)? {
                Origin::Stage(index) => Place::Layers(stage.job.wait_for(index)?.top().cloned()),
                Origin::Image(name) => Place::Layers(stage.job.image(&name, None)?.top().cloned()),
                Origin::Context(name) => Place::Directory(Some(name)),
            },
        };
        let target = match (&mount.target, &mount.id) {
            (Some(target), _) => match stage.absolute(target) {
                root if root.is_root() => return Err(Error::invalid("invalid mount target \"/\"")),
                path => path.to_string(),
            },
            (None, _) if mount.kind == Kind::Ssh => {
                let before = |planned: &&Planned| planned.mount.kind == Kind::Ssh;
                format!("{AGENTS}{}", all.iter().filter(before).count())
            }
            (None, Some(id)) => format!("/run/secrets/{id}"),
            (None, None) => return Err(Error::invalid("--mount=type=secret: id or target is required")),
        };
        all.push(Planned { mount, target, from });
    }
    Ok(all)
}

/// Everything that can make a difference. Contents of caches and secrets do not count, as everywhere.
fn key(
    stage: &StageRun<'_>,
    (argv, env, script): (&[String], &[(String, String)], Option<&Heredoc>),
    mounts: &[Planned],
    network: Network,
) -> Result<Digest> {
    let proxies = |(name, _): &&(String, String)| !name.to_ascii_lowercase().ends_with("_proxy");
    let env: Vec<_> = env.iter().filter(proxies).collect();
    let (user, workdir) = (stage.draft.user().to_owned(), stage.draft.workdir());
    let mut words = format!("{argv:?} {env:?} {user:?} {workdir:?} {network:?}");
    words.extend(script.map(|script| format!(" {:?}", script.content)));
    for planned in mounts {
        words.push_str(&format!(" {:?} {:?}", planned.mount, planned.from));
        if let (Kind::Bind, Place::Directory(name)) = (planned.mount.kind, &planned.from) {
            let (tree, _) = stage.job.tree(name.as_deref());
            for found in tree.find(source(&planned.mount), &Ignore::default())? {
                words.push_str(tree.digest(&found, false)?.as_str());
            }
        }
    }
    Ok(stage.key("RUN", &[words.as_bytes()]))
}

fn source(mount: &StepMount) -> &str {
    if mount.source.is_empty() { "/" } else { &mount.source }
}

/// Mounts that are ready, and what must live as long as the command.
struct Prepared {
    mounts: Vec<RunMount>,
    env: Vec<(String, String)>,
    _locks: Vec<FileLock>,
}

impl Prepared {
    fn new(job: &Job<'_>, planned: &[Planned], workspace: &Workspace<'_>) -> Result<Self> {
        let request = &job.build.request;
        let mut prepared = Self { mounts: Vec::new(), env: Vec::new(), _locks: Vec::new() };
        for planned in planned {
            let mount = &planned.mount;
            match mount.kind {
                Kind::Tmpfs => {
                    let target = planned.target.clone();
                    prepared.mounts.push(RunMount::Tmpfs { target, size: mount.size });
                }
                Kind::Secret => prepared.secret(planned, &request.secrets, workspace)?,
                Kind::Ssh => prepared.agent(planned, &request.ssh)?,
                Kind::Cache => {
                    let directory = prepared.cache(planned, workspace, job)?;
                    prepared.bind(planned, directory, mount.read_only.unwrap_or(false));
                }
                Kind::Bind => {
                    let read_only = mount.read_only.unwrap_or(true);
                    let directory = bind_source(planned, workspace, job, read_only)?;
                    prepared.bind(planned, directory, read_only);
                }
            }
        }
        Ok(prepared)
    }

    fn bind(&mut self, planned: &Planned, source: PathBuf, read_only: bool) {
        self.mounts.push(RunMount::Bind { source, target: planned.target.clone(), read_only });
    }

    /// A script that the Dockerfile holds.
    fn script(&mut self, script: &Heredoc, workspace: &Workspace<'_>) -> Result<()> {
        let source = workspace.place()?;
        let file = source.join(&script.name);
        let failed = |e| Error::path("write", &file, e);
        std::fs::write(&file, &script.content).map_err(failed)?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).map_err(failed)?;
        self.mounts.push(RunMount::Bind { source, target: SCRIPTS.to_owned(), read_only: true });
        Ok(())
    }

    /// In memory only: a secret is never written to a disk of ours.
    fn secret(
        &mut self,
        planned: &Planned,
        secrets: &BTreeMap<String, Vec<u8>>,
        workspace: &Workspace<'_>,
    ) -> Result<()> {
        let mount = &planned.mount;
        let name = || planned.target.rsplit('/').next().unwrap_or_default().to_owned();
        let id = mount.id.clone().unwrap_or_else(name);
        let Some(secret) = secrets.get(&id) else {
            return match mount.required {
                true => Err(Error::invalid(format!("secret {id}: not found"))),
                false => Ok(()),
            };
        };
        if let Some(variable) = &mount.env {
            self.env.push((variable.clone(), String::from_utf8_lossy(secret).into_owned()));
            if mount.target.is_none() {
                return Ok(());
            }
        }
        let file = workspace.memory()?.join("secret");
        let failed = |e| Error::path("write", &file, e);
        std::fs::write(&file, secret).map_err(failed)?;
        chown(&file, Some(mount.uid), Some(mount.gid)).map_err(failed)?;
        let mode = std::fs::Permissions::from_mode(mount.mode.unwrap_or(0o400));
        std::fs::set_permissions(&file, mode).map_err(failed)?;
        self.bind(planned, file, true);
        Ok(())
    }

    /// The socket of an agent, which whoever builds has named.
    fn agent(&mut self, planned: &Planned, agents: &BTreeMap<String, PathBuf>) -> Result<()> {
        let id = planned.mount.id.as_deref().unwrap_or("default");
        let Some(socket) = agents.get(id) else {
            return match planned.mount.required {
                true => Err(Error::invalid(format!("unset ssh forward key {id}"))),
                false => Ok(()),
            };
        };
        if !self.env.iter().any(|(name, _)| name == "SSH_AUTH_SOCK") {
            self.env.push(("SSH_AUTH_SOCK".to_owned(), planned.target.clone()));
        }
        self.bind(planned, socket.clone(), false);
        Ok(())
    }

    /// The directory of a cache: by its id, or else its target, by whose it is, and by what it begins with.
    fn cache(&mut self, planned: &Planned, workspace: &Workspace<'_>, job: &Job<'_>) -> Result<PathBuf> {
        let (mount, store) = (&planned.mount, &job.parts.root);
        let id = mount.id.as_deref().unwrap_or(&planned.target);
        let name = match ((mount.uid, mount.gid, mount.mode), &mount.from) {
            ((0, 0, None), None) => Digest::of(id.as_bytes()),
            (owner, None) => Digest::of(format!("{id}\0{owner:?}").as_bytes()),
            (owner, Some(_)) => {
                let begins = (&planned.from, source(mount));
                Digest::of(format!("{id}\0{owner:?}\0{begins:?}").as_bytes())
            }
        };
        let directory = store.join("build/mounts").join(name.hex());
        let failed = |e| Error::path("mkdir", &directory, e);
        let parent = directory.parent().unwrap_or(store);
        std::fs::create_dir_all(parent).map_err(failed)?;
        let lock_file = directory.with_extension("lock");
        match mount.sharing {
            Sharing::Shared => {}
            Sharing::Locked => self._locks.push(FileLock::exclusive(&lock_file)?),
            Sharing::Private => match FileLock::try_exclusive(&lock_file)? {
                Some(lock) => self._locks.push(lock),
                None => return workspace.place(),
            },
        }
        if !directory.exists() {
            new_cache(planned, workspace, job, &directory)?;
        }
        Ok(directory)
    }
}

/// Is there whole or not at all; of several who make it at once, one does.
fn new_cache(planned: &Planned, workspace: &Workspace<'_>, job: &Job<'_>, directory: &Path) -> Result<()> {
    let mount = &planned.mount;
    let fresh = match mount.from {
        None => workspace.place()?,
        Some(_) => {
            let begins = bind_source(planned, workspace, job, true)?;
            visible_part(workspace, &Tree::open(&begins, Ignore::default())?)?
        }
    };
    let failed = |e| Error::path("make", directory, e);
    chown(&fresh, Some(mount.uid), Some(mount.gid)).map_err(failed)?;
    let mode = std::fs::Permissions::from_mode(mount.mode.unwrap_or(0o755));
    std::fs::set_permissions(&fresh, mode).map_err(failed)?;
    match std::fs::rename(&fresh, directory) {
        Err(_) if directory.exists() => Ok(()),
        made => made.map_err(failed),
    }
}

/// What a bind mount shows: a place in the context (without what is hidden) or in other layers.
fn bind_source(
    planned: &Planned,
    workspace: &Workspace<'_>,
    job: &Job<'_>,
    read_only: bool,
) -> Result<PathBuf> {
    let whole = match &planned.from {
        Place::Layers(top) => workspace.view(top.as_ref())?,
        Place::Directory(name) => match job.tree(name.as_deref()) {
            (tree, path) if !tree.hides_anything() => path.to_owned(),
            (tree, _) => visible_part(workspace, tree)?,
        },
    };
    let whole = if read_only { whole } else { workspace.scribble(&whole)? };
    let tree = Tree::open(&whole, Ignore::default())?;
    let found = tree.find(source(&planned.mount), &Ignore::default())?;
    let path =
        found.first().and_then(|named| named.files.first()).map(|file| file.path.clone()).unwrap_or_default();
    Ok(whole.join(OsStr::from_bytes(path.as_bytes())))
}

/// A copy of the context as COPY sees it.
fn visible_part(workspace: &Workspace<'_>, context: &Tree) -> Result<PathBuf> {
    let place = workspace.place()?;
    let mut copier = Copier::new(&place, Look::default())?;
    for found in context.find("/", &Ignore::default())? {
        copier.copy(context, &found.files, &TreePath::default())?;
    }
    copier.finish()?;
    Ok(place)
}

/// Makes lines of what a command prints.
struct Lines<'a, 'b> {
    step: &'a Step<'b>,
    rest: Mutex<Vec<u8>>,
}

impl Lines<'_, '_> {
    fn print(&self, bytes: &[u8]) {
        let mut rest = locked(&self.rest);
        for byte in bytes {
            if *byte == b'\n' || rest.len() >= MAX_LINE {
                self.flush(&mut rest);
            }
            if *byte != b'\n' {
                rest.push(*byte);
            }
        }
    }

    fn flush(&self, rest: &mut Vec<u8>) {
        let line = String::from_utf8_lossy(rest);
        self.step.output(line.trim_end_matches('\r').to_owned());
        rest.clear();
    }

    fn end(&self) {
        let mut rest = locked(&self.rest);
        if !rest.is_empty() {
            self.flush(&mut rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts() {
        let heredoc = |content: &str| Heredoc { name: "EOF".into(), content: content.into(), expand: true };
        let shell = |text: &str| Command::Shell(text.into());
        let alone = with_heredocs(&shell("<<EOF"), &[heredoc("a\nb\n")]);
        assert_eq!(alone, shell("a\nb\n"));
        let piped = with_heredocs(&shell("cat <<EOF > x"), &[heredoc("a\n")]);
        assert_eq!(piped, shell("cat <<EOF > x\na\nEOF"));
        let own = [heredoc("#!/bin/x\nit's\n")];
        assert_eq!(with_heredocs(&shell("<<EOF"), &own), shell("/dev/pipes/EOF"));
        assert_eq!(script_of(&shell("<<EOF"), &own), Some(&own[0]));
        assert_eq!(script_of(&shell("cat <<EOF"), &own), None);
    }
}
