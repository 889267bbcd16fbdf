//! The command line, in runc's words: global flags, a command, its flags before and after the container's id.

mod arguments;
mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod foreground;
mod help;
mod kill;
mod launch;
mod list;
mod mounts;
mod pause;
mod plan;
mod ps;
mod restore;
mod resume;
mod run;
mod spec;
mod start;
mod state;
mod update;

use crate::error::{Error, Result};
use crate::log::Log;
use arguments::{Arguments, Flag};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// What all commands share.
#[derive(Debug)]
pub(crate) struct Global {
    /// Where containers are kept.
    pub(crate) root: PathBuf,
    /// By the caller's own words.
    pub(crate) root_given: bool,
    pub(crate) log: Log,
    /// systemd makes the cgroups.
    pub(crate) systemd: bool,
}

/// A command: its name, its flags, how many plain arguments come before the rest is not ours to read, what it does.
struct Command {
    name: &'static str,
    summary: &'static str,
    flags: &'static [Flag],
    positionals: usize,
    /// How many plain arguments there must be, at least and at most.
    count: (usize, usize),
    run: fn(&Global, &Arguments) -> Result<u8>,
}

/// Plain arguments are read to the end.
const ALL: usize = usize::MAX;

const COMMANDS: &[Command] = &[
    Command {
        name: "checkpoint",
        summary: "checkpoint a running container",
        flags: checkpoint::FLAGS,
        positionals: ALL,
        count: (1, 1),
        run: checkpoint::run,
    },
    Command {
        name: "create",
        summary: "create a container",
        flags: create::FLAGS,
        positionals: ALL,
        count: (1, 1),
        run: create::run,
    },
    Command {
        name: "delete",
        summary: "delete any resources held by the container",
        flags: delete::FLAGS,
        positionals: ALL,
        count: (1, 1),
        run: delete::run,
    },
    Command {
        name: "events",
        summary: "display container events and statistics",
        flags: events::FLAGS,
        positionals: ALL,
        count: (1, 1),
        run: events::run,
    },
    Command {
        name: "exec",
        summary: "execute new process inside the container",
        flags: exec::FLAGS,
        positionals: 1,
        count: (1, ALL),
        run: exec::run,
    },
    Command {
        name: "features",
        summary: "show the enabled features",
        flags: &[],
        positionals: ALL,
        count: (0, 0),
        run: features::run,
    },
    Command {
        name: "kill",
        summary: "send a signal to the container's init process",
        flags: kill::FLAGS,
        positionals: ALL,
        count: (1, 2),
        run: kill::run,
    },
    Command {
        name: "list",
        summary: "list containers with the given root",
        flags: list::FLAGS,
        positionals: ALL,
        count: (0, 0),
        run: list::run,
    },
    Command {
        name: "mounts",
        summary: "add mounts to a running container, or remove them",
        flags: &[],
        positionals: ALL,
        count: (3, 3),
        run: mounts::run,
    },
    Command {
        name: "pause",
        summary: "suspend all processes inside the container",
        flags: &[],
        positionals: ALL,
        count: (1, 1),
        run: pause::run,
    },
    Command {
        name: "plan",
        summary: "print every kernel operation that will build the container, and why",
        flags: plan::FLAGS,
        positionals: ALL,
        count: (0, 1),
        run: plan::run,
    },
    Command {
        name: "ps",
        summary: "display the processes inside the container",
        flags: ps::FLAGS,
        positionals: 1,
        count: (1, ALL),
        run: ps::run,
    },
    Command {
        name: "restore",
        summary: "restore a container from a previous checkpoint",
        flags: restore::FLAGS,
        positionals: ALL,
        count: (1, 1),
        run: restore::run,
    },
    Command {
        name: "resume",
        summary: "resume all processes that have been paused",
        flags: &[],
        positionals: ALL,
        count: (1, 1),
        run: resume::run,
    },
    Command {
        name: "run",
        summary: "create and run a container",
        flags: run::FLAGS,
        positionals: ALL,
        count: (1, 1),
        run: run::run,
    },
    Command {
        name: "spec",
        summary: "create a new specification file",
        flags: spec::FLAGS,
        positionals: ALL,
        count: (0, 0),
        run: spec::run,
    },
    Command {
        name: "start",
        summary: "execute the user-defined process in a created container",
        flags: start::FLAGS,
        positionals: ALL,
        count: (1, 1),
        run: start::run,
    },
    Command {
        name: "state",
        summary: "output the state of a container",
        flags: &[],
        positionals: ALL,
        count: (1, 1),
        run: state::run,
    },
    Command {
        name: "update",
        summary: "update container resource constraints",
        flags: update::FLAGS,
        positionals: ALL,
        count: (1, 1),
        run: update::run,
    },
];

const GLOBAL: &[Flag] = &[
    Flag::switch("debug", None),
    Flag::value("log", None),
    Flag::value("log-format", None),
    Flag::value("root", None),
    Flag::value("criu", None),
    Flag::switch("systemd-cgroup", None),
    Flag::value("rootless", None),
    Flag::switch("help", Some('h')),
    Flag::switch("version", Some('v')),
];

/// The whole program.
pub fn main() -> ExitCode {
    let mut log = Log::default();
    match dispatch(std::env::args_os().skip(1).collect(), &mut log) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            log.error(&error.to_string());
            ExitCode::from(1)
        }
    }
}

fn dispatch(args: Vec<OsString>, log: &mut Log) -> Result<u8> {
    let (global, rest) = Arguments::parse(GLOBAL, args, 0)?.split();
    *log = self::log(&global)?;
    if global.has("version") {
        return print(&version());
    }
    let mut rest = rest.into_iter();
    let name = rest.next().map(|name| name.to_string_lossy().into_owned());
    let Some(name) = name.filter(|name| name != "help" && !global.has("help")) else {
        return print(&help::program());
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        log.error(&format!("No help topic for '{name}'"));
        return Ok(UNKNOWN_COMMAND);
    };
    let arguments = Arguments::parse(command.flags, rest.collect(), command.positionals)
        .and_then(|arguments| check_count(command, &arguments).map(|()| arguments));
    let arguments = match arguments {
        Ok(arguments) if arguments.has("help") => return print(&help::command(command)),
        Ok(arguments) => arguments,
        Err(error) => {
            print(&format!("Incorrect Usage: {error}\n\n{}", help::command(command)))?;
            return Err(error);
        }
    };
    (command.run)(
        &Global {
            root: root(&global)?,
            root_given: global.has("root"),
            log: log.clone(),
            systemd: global.has("systemd-cgroup"),
        },
        &arguments,
    )
}

/// The status of runc for a command that it does not have.
const UNKNOWN_COMMAND: u8 = 3;

/// In the words of runc, which are preceded by the program's own name.
fn check_count(command: &Command, arguments: &Arguments) -> Result<()> {
    let (least, most) = command.count;
    let given = arguments.positionals.len();
    if arguments.has("help") || (least..=most).contains(&given) {
        return Ok(());
    }
    let wanted = match (least == most, given < least) {
        (true, _) => format!("exactly {least}"),
        (false, true) => format!("a minimum of {least}"),
        (false, false) => format!("a maximum of {most}"),
    };
    let program = std::env::args().next().unwrap_or_default();
    Err(Error::invalid(format!("{program}: {:?} requires {wanted} argument(s)", command.name)))
}

fn log(global: &Arguments) -> Result<Log> {
    let json = match global.text("log-format")?.as_deref() {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => return Err(Error::invalid(format!("invalid log-format: {other}"))),
    };
    Ok(Log { file: global.path("log"), json, debug: global.has("debug") })
}

/// Root's containers are kept apart from those of a user.
fn root(global: &Arguments) -> Result<PathBuf> {
    if let Some(root) = global.path("root") {
        let root = std::path::absolute(&root).unwrap_or(root);
        if crate::safe_path::clean(&root.to_string_lossy()) == std::path::Path::new("/") {
            return Err(Error::invalid("Option --root argument should not be set to /"));
        }
        return Ok(root);
    }
    Ok(match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(directory) if !rustix::process::geteuid().is_root() => {
            PathBuf::from(directory).join("knarr-runtime")
        }
        _ => PathBuf::from("/run/knarr-runtime"),
    })
}

fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("knarr-runtime version {version}\ncommit: {version}\nspec: {}\n", crate::spec::VERSION)
}

/// As it is called.
const NAME: &str = "knarr-runtime";

/// Writes to standard output; a reader that has gone away is not our failure.
pub(crate) fn print(text: &str) -> Result<u8> {
    use std::io::Write;
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::new(crate::error::Kind::Os, format!("write to standard output: {error}")))
        }
        _ => Ok(0),
    }
}

/// The plain argument that names the container; empty, which names none, where it is not given.
pub(crate) fn container_id(arguments: &Arguments) -> String {
    arguments.positionals.first().map(|id| id.to_string_lossy().into_owned()).unwrap_or_default()
}
