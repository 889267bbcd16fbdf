//! `checkpoint`: what a container does is frozen into files, from which `restore` makes it again.

use super::{Arguments, Flag, Global};
use crate::container::Container;
use crate::criu::message::Sort;
use crate::criu::options::{self, Directories, Flags, Subject};
use crate::criu::places;
use crate::criu::service::{Listener, Service};
use crate::error::{Context, Error, Kind, Result};
use crate::spec::{NamespaceKind, Spec};
use crate::state::Status;
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

pub(super) const FLAGS: &[Flag] = &[
    Flag::value("image-path", None),
    Flag::value("work-path", None),
    Flag::value("parent-path", None),
    Flag::switch("leave-running", None),
    Flag::switch("tcp-established", None),
    Flag::switch("tcp-skip-in-flight", None),
    Flag::switch("link-remap", None),
    Flag::switch("ext-unix-sk", None),
    Flag::switch("shell-job", None),
    Flag::switch("lazy-pages", None),
    Flag::value("status-fd", None),
    Flag::value("page-server", None),
    Flag::switch("file-locks", None),
    Flag::switch("pre-dump", None),
    Flag::value("manage-cgroups-mode", None),
    Flag::value("empty-ns", None),
    Flag::switch("auto-dedup", None),
];

/// Which pipes were the container's standard input and outputs.
pub(super) const DESCRIPTORS: &str = "descriptors.json";

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8> {
    let id = super::container_id(arguments);
    let container = Container::open(&global.root, &id)?;
    let status = container.status()?;
    if matches!(status, Status::Created | Status::Stopped | Status::Creating) {
        let why = format!("Container cannot be checkpointed in {} state", status.as_str());
        return Err(Error::new(Kind::State, why));
    }
    let flags = flags(arguments)?;
    let (images, directories) = directories(arguments)?;
    check_parent(&images, &flags.parent_path)?;
    if flags.pre_dump || flags.lazy_pages {
        Service::require(flags.pre_dump, flags.lazy_pages)?;
    }
    let status_fd = arguments.number::<i32>("status-fd")?.filter(|number| *number >= 0);
    let mut ready = LazyReady(status_fd.map(adopt).transpose()?);
    dump(&container, &flags, &directories, &images, &mut ready)
        .map_err(|error| with_log(error, arguments, &images, options::DUMP_LOG))?;
    if !flags.leave_running && !flags.pre_dump {
        let hooks = container.record.hooks.clone();
        super::delete::force(&container, &hooks)?;
    }
    Ok(0)
}

/// What checkpoint and restore are told the same way; a flag that a command does not have is off.
pub(super) fn flags(arguments: &Arguments) -> Result<Flags> {
    let text = |name: &str| arguments.text(name).map(Option::unwrap_or_default);
    for namespace in arguments.texts("empty-ns")? {
        if namespace != "network" {
            return Err(Error::invalid(format!("namespace {namespace:?} is not supported")));
        }
    }
    let page_server = text("page-server")?;
    let page_server = (!page_server.is_empty()).then(|| options::page_server(&page_server)).transpose()?;
    Ok(Flags {
        leave_running: arguments.has("leave-running"),
        tcp_established: arguments.has("tcp-established"),
        tcp_skip_in_flight: arguments.has("tcp-skip-in-flight"),
        ext_unix_sk: arguments.has("ext-unix-sk"),
        shell_job: arguments.has("shell-job"),
        file_locks: arguments.has("file-locks"),
        link_remap: arguments.has("link-remap"),
        auto_dedup: arguments.has("auto-dedup"),
        lazy_pages: arguments.has("lazy-pages"),
        pre_dump: arguments.has("pre-dump"),
        page_server,
        parent_path: text("parent-path")?,
        cgroups_mode: options::cgroups_mode(&text("manage-cgroups-mode")?)?,
        lsm_profile: text("lsm-profile")?,
        lsm_mount_context: text("lsm-mount-context")?,
        nftables: !is_installed("iptables-restore"),
    })
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// The directory of the images by its path, and both directories open; they are made where missing.
pub(super) fn directories(arguments: &Arguments) -> Result<(PathBuf, Directories)> {
    let images = arguments.path("image-path").unwrap_or_else(|| PathBuf::from("checkpoint"));
    let work = arguments.path("work-path");
    let directories = Directories { images: make(&images)?, work: work.as_deref().map(make).transpose()? };
    Ok((images, directories))
}

/// Images hold the memory of the container: nobody else may read them.
fn make(path: &Path) -> Result<OwnedFd> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.context(|| format!("mkdir {}", path.display()))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).context(|| format!("open {}", path.display()))
}

fn check_parent(images: &Path, parent: &str) -> Result<()> {
    if parent.is_empty() {
        return Ok(());
    }
    if parent.starts_with('/') {
        return Err(Error::invalid("--parent-path must be relative"));
    }
    let real = images.join(parent);
    match std::fs::metadata(&real) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(Error::invalid(format!("invalid --parent-path: {}: not a directory", real.display()))),
        Err(error) => Err(error).context(|| format!("invalid --parent-path: stat {}", real.display())),
    }
}

fn dump(
    container: &Container,
    flags: &Flags,
    directories: &Directories,
    images: &Path,
    listener: &mut dyn Listener,
) -> Result<()> {
    let pid = container.record.init_process_pid;
    let spec = container.spec()?;
    check_namespaces(&spec)?;
    let record = &container.record;
    let binds = places::of_running(pid, &spec, Path::new(&record.rootfs), Path::new(&record.bundle))?;
    let subject = Subject { spec: &spec, cgroups: &record.cgroups, binds: &binds };
    let masked = masked_files(pid, spec.linux.iter().flat_map(|linux| &linux.masked_paths))?;
    let options = options::dump(flags, directories, &subject, pid, (&record.rootfs, &masked))?;
    if !flags.pre_dump {
        let json = serde_json::to_vec(&descriptors(pid)).unwrap_or_default();
        let file = images.join(DESCRIPTORS);
        std::fs::write(&file, json).context(|| format!("write {}", file.display()))?;
    }
    let service = Service::start(&[])?;
    let sort = if flags.pre_dump { Sort::PreDump } else { Sort::Dump };
    match service.ask(sort, &options, listener) {
        // It waits for the dump proper, which will be another command's.
        Ok(_) if flags.pre_dump => service.kill(),
        Ok(_) => service.finish(),
        Err(error) => Err(error.and(service.kill())),
    }
}

/// What criu would only fail at half way.
fn check_namespaces(spec: &Spec) -> Result<()> {
    let all = || spec.linux.iter().flat_map(|linux| &linux.namespaces);
    if !all().any(|one| one.kind == NamespaceKind::Mount) {
        return Err(Error::unsupported("checkpoint of a container without a mount namespace"));
    }
    if all().any(|one| one.kind == NamespaceKind::User && !one.path.is_empty()) {
        return Err(Error::unsupported("checkpoint of a container in a user namespace that it has joined"));
    }
    Ok(())
}

/// Those of the masked paths that are files: they are covered with a device of the host.
fn masked_files<'a>(pid: i32, paths: impl Iterator<Item = &'a String>) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for path in paths {
        match std::fs::metadata(format!("/proc/{pid}/root/{path}")) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => files.push(path.clone()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context(|| format!("stat {path}")),
        }
    }
    Ok(files)
}

/// What the first three descriptors of a process are.
fn descriptors(pid: i32) -> [String; 3] {
    [0, 1, 2].map(|number| {
        let link = std::fs::read_link(format!("/proc/{pid}/fd/{number}"));
        link.map(|target| target.display().to_string()).unwrap_or_default()
    })
}

/// A descriptor that was passed to us by number.
fn adopt(number: i32) -> Result<OwnedFd> {
    let writable = |fd: &OwnedFd| {
        rustix::fs::fcntl_getfl(fd).is_ok_and(|flags| flags.intersects(OFlags::WRONLY | OFlags::RDWR))
    };
    match knarr_sys::process::adopt_fd(number) {
        Some(fd) if writable(&fd) => Ok(fd),
        Some(_) => Err(Error::invalid(format!("invalid --status-fd argument {number}: not writable"))),
        None => Err(Error::invalid(format!("invalid --status-fd argument {number}: bad file descriptor"))),
    }
}

/// Tells whoever waits that pages can be asked for.
struct LazyReady(Option<OwnedFd>);

impl Listener for LazyReady {
    fn notified(&mut self, script: &str, _: i32, _: Option<OwnedFd>) -> Result<()> {
        match self.0.take_if(|_| script == "status-ready") {
            Some(fd) => rustix::io::write(&fd, &[0]).map(drop).context(|| "write(<status fd>)"),
            None => Ok(()),
        }
    }
}

/// An error of criu's is only half of it without what its log says.
pub(super) fn with_log(error: Error, arguments: &Arguments, images: &Path, log: &str) -> Error {
    let file = arguments.path("work-path").unwrap_or_else(|| images.into()).join(log);
    let text =
        std::fs::read(&file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("Error")).take(3).collect();
    let seen = if errors.is_empty() { String::new() } else { format!(": {}", errors.join("; ")) };
    error.followed_by(&format!("log file: {}{seen}", file.display()))
}
