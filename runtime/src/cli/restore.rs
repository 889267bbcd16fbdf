//! `restore`: a container goes on from where `checkpoint` left it, under its old name or another.
//!
//! criu makes the processes and namespaces; what is around them (record, cgroups with their limits, a root that is a mount,
//! places for mounts) is made as `create` makes it. The processes become children of this command, as those of `run` do.

use super::checkpoint::{self, DESCRIPTORS};
use super::foreground::Foreground;
use super::launch::{self, Bundle};
use super::{Arguments, Flag, Global};
use crate::cgroups::control;
use crate::container::Container;
use crate::criu::message::Sort;
use crate::criu::options::{self, Directories, Flags, Subject};
use crate::criu::places::{self, Bound};
use crate::criu::readers;
use crate::criu::service::{Listener, Service};
use crate::error::{Context, Error, Kind, Result};
use crate::mounts::Propagation;
use crate::plan::{HookKind, Plan, Step};
use crate::state::Status;
use crate::systemd::{self, Wanted};
use crate::{hooks, rootfs, socket};
use knarr_sys::clone::Child;
use knarr_sys::{mount, namespace};
use rustix::fs::CWD;
use rustix::process::{Pid, PidfdFlags};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

pub(super) const FLAGS: &[Flag] = &[
    Flag::value("console-socket", None),
    Flag::value("image-path", None),
    Flag::value("work-path", None),
    Flag::switch("tcp-established", None),
    Flag::switch("ext-unix-sk", None),
    Flag::switch("shell-job", None),
    Flag::switch("file-locks", None),
    Flag::value("manage-cgroups-mode", None),
    Flag::value("bundle", Some('b')),
    Flag::switch("detach", Some('d')),
    Flag::value("pid-file", None),
    Flag::switch("no-subreaper", None),
    Flag::switch("no-pivot", None),
    Flag::value("empty-ns", None),
    Flag::switch("auto-dedup", None),
    Flag::switch("lazy-pages", None),
    Flag::value("lsm-profile", None),
    Flag::value("lsm-mount-context", None),
];

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8> {
    knarr_sys::process::close_inherited(3)?;
    restore(global, arguments).context(|| "runc restore failed")
}

fn restore(global: &Global, arguments: &Arguments) -> Result<u8> {
    let id = super::container_id(arguments);
    crate::container::check_id(&id)?;
    let images = arguments.path("image-path").unwrap_or_else(|| PathBuf::from("checkpoint"));
    if !images.is_dir() {
        return Err(Error::invalid(format!("stat {}: no such file or directory", images.display())));
    }
    let flags = checkpoint::flags(arguments)?;
    hide_mounts()?;
    let (_, directories) = checkpoint::directories(arguments)?;
    let bundle = launch::read_bundle(arguments)?;
    let detach = arguments.has("detach");
    let console = launch::console(&bundle, arguments, detach)?;
    let terminal = bundle.spec.process.as_ref().is_some_and(|process| process.terminal);
    let foreground =
        if detach { None } else { Some(Foreground::prepare(terminal, !arguments.has("no-subreaper"))?) };
    let (foreground, console) = super::foreground::console(foreground, console);
    if global.systemd {
        systemd::check_running()?;
    }
    let plan = launch::plan(global, &bundle, &id, arguments, false)?;
    crate::container::check_free(&global.root, &id)?;
    control::ensure_free(&plan.cgroups)?;
    let mut container = Container::create(&global.root, launch::record(&bundle, &plan)?, &bundle.json)?;
    let job = Job { flags: &flags, directories: &directories, images: &images, bundle: &bundle, plan: &plan };
    let child = match job.make(&mut container, console, arguments) {
        Ok(child) => child,
        Err(error) => {
            let error = checkpoint::with_log(error, arguments, &images, options::RESTORE_LOG);
            if container.directory.join(ROOT).exists() {
                // With the container's root still mounted there, removing the record would remove its files.
                return Err(error);
            }
            return Err(error.and(launch::undo(&container, &plan)));
        }
    };
    let container = container.unlocked();
    let Some(foreground) = foreground else { return Ok(0) };
    let code = foreground.wait(&child)?;
    super::delete::remove(&container, &plan.hooks)?;
    Ok(code)
}

/// Descriptors by the keys that criu knows them by.
type Named = Vec<(String, i32)>;

/// What criu and we mount on the way is in a namespace of this command's: nothing of it is left however we end. It comes
/// before directories are opened, as nothing can be mounted in those of another namespace.
fn hide_mounts() -> Result<()> {
    namespace::unshare(namespace::Kind::Mount.clone_flag())?;
    rootfs::detach_from_host(Propagation { flag: libc::MS_SLAVE, recursive: true })
}

/// Where the container's root is a mount of its own, in its directory.
const ROOT: &str = "criu-root";

struct Job<'a> {
    flags: &'a Flags,
    directories: &'a Directories,
    images: &'a Path,
    bundle: &'a Bundle,
    plan: &'a Plan,
}

impl Job<'_> {
    /// Whatever happens, the root is unmounted before anybody may remove the directory that it is in.
    fn make(
        &self,
        container: &mut Container,
        console: Option<OwnedFd>,
        arguments: &Arguments,
    ) -> Result<Child> {
        let root = container.directory.join(ROOT);
        std::fs::create_dir(&root).context(|| format!("mkdir {}", root.display()))?;
        let made = self
            .make_root(&root)
            .and_then(|binds| self.make_in((&root, &binds), container, console, arguments));
        let unmounted = mount::unmount_all(&root).context(|| "unmount criu-root");
        let removed = unmounted.and_then(|()| std::fs::remove_dir(&root).context(|| "rmdir criu-root"));
        match (made, removed) {
            (Ok(child), Ok(())) => Ok(child),
            (Ok(child), Err(error)) => Err(error.and(crate::bootstrap::runtime::kill(&child))),
            (Err(error), removed) => Err(error.and(removed)),
        }
    }

    fn make_in(
        &self,
        (root, binds): (&Path, &[Bound]),
        container: &mut Container,
        console: Option<OwnedFd>,
        arguments: &Arguments,
    ) -> Result<Child> {
        if let Some(group) = self.bundle.spec.linux.as_ref().and_then(readers::group) {
            readers::admit(self.images, group)?;
        }
        let (inherited, named) = self.inherited()?;
        let subject = Subject { spec: &self.bundle.spec, cgroups: &self.plan.cgroups, binds };
        let options = options::restore(self.flags, self.directories, &subject, root, &named)?;
        let service = Service::start(&inherited)?;
        let mut events = Events { container, plan: self.plan, console };
        let answer =
            self.place(service.pid()).and_then(|()| service.ask(Sort::Restore, &options, &mut events));
        let response = match answer {
            Ok(response) => response,
            Err(error) => return Err(error.and(service.kill())),
        };
        service.finish()?;
        let pid = Pid::from_raw(response.pid)
            .ok_or_else(|| Error::new(Kind::Os, "criu did not say which process it restored"))?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).context(|| "pidfd_open")?;
        container.stage_init(pid)?;
        container.commit_init()?;
        if let Some(path) = arguments.path("pid-file") {
            launch::write_pid_file(&path, pid)?;
        }
        super::start::poststart(container, &self.plan.hooks)?;
        Ok(Child { pid, pidfd })
    }

    /// The cgroups as `create` makes them, with criu in the place of init: what it restores begins where it is itself.
    fn place(&self, criu: u32) -> Result<()> {
        let cgroups = &self.plan.cgroups;
        let applied = || "unable to apply cgroup configuration";
        for step in &self.plan.steps {
            match step {
                Step::CreateCgroups => control::create(cgroups).context(applied)?,
                Step::StartScope(wanted) => self.start_scope(criu, wanted).context(applied)?,
                Step::LimitCgroups(writes) => {
                    control::write_all(cgroups, writes).context(|| "error setting cgroup config")?;
                }
                Step::FilterDevices(rules) => control::set_device_filter(cgroups, rules)?,
                _ => {}
            }
        }
        control::attach(cgroups, criu).context(applied)
    }

    fn start_scope(&self, criu: u32, wanted: &Wanted) -> Result<()> {
        let pid = i32::try_from(criu).ok().and_then(Pid::from_raw);
        match (&self.plan.cgroups.scope, pid) {
            (Some(scope), Some(pid)) => {
                systemd::start(scope, &self.plan.id, pid, wanted, self.plan.cgroups.unified)
            }
            _ => Ok(()),
        }
    }

    /// criu wants a root that is a mount, and whose parent is not covered. It is to see none of the mounts with which the
    /// places were made.
    fn make_root(&self, root: &Path) -> Result<Vec<Bound>> {
        self.mount_root(root)?;
        let binds = places::make(root, &self.plan.steps)?;
        mount::unmount_all(root).context(|| "unmount criu-root")?;
        self.mount_root(root)?;
        Ok(binds)
    }

    fn mount_root(&self, root: &Path) -> Result<()> {
        let tree = mount::clone_tree(CWD, &self.plan.rootfs, true).context(|| "error opening rootfs")?;
        Ok(mount::move_to_path(&tree, root)?)
    }

    /// Descriptors that stand for what the container had open outside: namespaces it joined, and the pipes that were its
    /// standard input and outputs, in whose place are ours.
    fn inherited(&self) -> Result<(Vec<OwnedFd>, Named)> {
        let mut open = vec![];
        let mut named = vec![];
        for (key, path) in options::inherited_namespaces(&self.bundle.spec) {
            let file = OwnedFd::from(namespace::open(Path::new(path))?);
            named.push((key, file.as_raw_fd()));
            open.push(file);
        }
        let file = self.images.join(DESCRIPTORS);
        let json = std::fs::read(&file).context(|| format!("open {}", file.display()))?;
        let descriptors: Vec<String> = serde_json::from_slice(&json)
            .map_err(|error| Error::invalid(format!("{}: {error}", file.display())))?;
        let pipes = descriptors.into_iter().take(3).zip(0..).filter(|(name, _)| name.contains("pipe:"));
        named.extend(pipes);
        Ok((open, named))
    }
}

/// What happens while criu is at work.
struct Events<'a> {
    container: &'a Container,
    plan: &'a Plan,
    console: Option<OwnedFd>,
}

impl Listener for Events<'_> {
    fn notified(&mut self, script: &str, pid: i32, fd: Option<OwnedFd>) -> Result<()> {
        match (script, fd) {
            ("setup-namespaces", _) => self.run_hooks(pid),
            ("orphan-pts-master", Some(master)) => match self.console.take() {
                Some(console) => socket::send_fd(console.as_fd(), b"/dev/ptmx", master.as_fd()),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl Events<'_> {
    /// The namespaces are there, the program is not.
    fn run_hooks(&self, pid: i32) -> Result<()> {
        let mut state = self.container.state_as(Status::Creating);
        state.pid = pid;
        state.oci_version = crate::spec::VERSION.into();
        for kind in [HookKind::Prestart, HookKind::CreateRuntime] {
            hooks::run(kind.name(), kind.of(&self.plan.hooks), &state)?;
        }
        Ok(())
    }
}
