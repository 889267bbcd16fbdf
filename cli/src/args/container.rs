//! The command line of single containers (`knarr run` and its companions), named as Docker's.

use super::{CreateOptions, Later, Limits, Volume};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Container {
    /// Run one container, with no daemon
    #[command(disable_help_flag = true)]
    Run(Later<Run>),
    /// Make a container without starting it
    #[command(disable_help_flag = true)]
    Create(Later<CreateOptions>),
    /// Start containers that were made or have ended
    Start(Start),
    /// Stop containers and start them again
    Restart(Stop),
    /// Stop running containers
    Stop(Stop),
    /// Send a signal to running containers
    Kill(Kill),
    /// Freeze all processes of containers
    Pause(Names),
    /// Let frozen processes go on
    Unpause(Names),
    /// Wait until containers have ended and print their exit codes
    Wait(Names),
    /// List containers started by run
    Ps(Ps),
    /// Print the output of a container
    Logs(Logs),
    /// Tell what happens to containers, images and volumes
    Events(Events),
    /// Clear away after a container that has ended (run by its monitor)
    #[command(hide = true)]
    Ended {
        #[allow(missing_docs)]
        directory: String,
    },
    /// Look after the health of a running container (run by whoever starts one)
    #[command(hide = true)]
    Health {
        #[allow(missing_docs)]
        directory: String,
        /// Which life of which container, and how, as JSON
        watch: String,
        /// One check alone; whether the container may still be starting up
        #[arg(long)]
        once: Option<bool>,
    },
    /// Run a command in a running container
    Exec(Exec),
    /// Join the input and output of a running container
    Attach(Attach),
    /// Print everything known about containers, images or volumes as JSON
    Inspect(Inspect),
    /// Print the published ports of a container
    Port {
        #[allow(missing_docs)]
        name: String,
        /// PORT[/PROTOCOL] of the container
        port: Option<String>,
    },
    /// Give a container another name
    Rename {
        #[allow(missing_docs)]
        name: String,
        #[allow(missing_docs)]
        new_name: String,
    },
    /// Show what running containers use
    Stats(Stats),
    /// Change the limits of containers
    Update(Later<Update>),
    /// Copy files between a container and this machine (CONTAINER:PATH, or - for a tar stream)
    Cp(Cp),
    /// Print which files a container has added (A), changed (C) or deleted (D)
    Diff {
        #[allow(missing_docs)]
        name: String,
    },
    /// Make an image of a container
    Commit(Commit),
    /// Write a container's root file system as a tar archive
    Export {
        /// The archive [default: stdout]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[allow(missing_docs)]
        name: String,
    },
    /// Remove containers
    #[command(visible_alias = "remove")]
    Rm(Rm),
    /// Make, list and remove named volumes
    #[command(subcommand)]
    Volume(Later<Volume>),
}

/// Options of `knarr run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Run in the background and print the container's id
    #[arg(short, long)]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) terminal: Terminal,
    #[command(flatten)]
    pub(crate) options: CreateOptions,
}

/// How a terminal is shared with a container.
#[derive(Debug, Args)]
pub(crate) struct Terminal {
    /// Keys that leave the container running and end this command
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(crate) detach_keys: String,
    /// Pass signals on to the container's process
    #[arg(long, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) sig_proxy: bool,
}

/// Containers by name or id.
#[derive(Debug, Args)]
pub(crate) struct Names {
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    /// Join its output, and pass signals on
    #[arg(short, long)]
    pub(crate) attach: bool,
    /// Join its stdin
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Those whose restart policies want it after a boot of the machine: always, and unless-stopped where nobody stopped it
    #[arg(long, conflicts_with_all = ["names", "attach", "interactive"])]
    pub(crate) boot: bool,
    #[command(flatten)]
    pub(crate) terminal: Terminal,
    #[arg(required_unless_present = "boot", value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// Leave its stdin alone
    #[arg(long)]
    pub(crate) no_stdin: bool,
    #[command(flatten)]
    pub(crate) terminal: Terminal,
    #[allow(missing_docs)]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Ended ones too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Whole ids and commands
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// What they take on disk too
    #[arg(short, long)]
    pub(crate) size: bool,
    /// The newest one only, ended or not
    #[arg(short, long)]
    pub(crate) latest: bool,
    /// The newest ones only, ended or not
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) last: Option<usize>,
    /// name=, id=, label=NAME[=VALUE], status=, exited=CODE, ancestor=IMAGE, volume=, health=, network=, publish=PORT, before=, since=
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// json, or a template such as '{{.ID}} {{.Names}}' (after "table": with a header)
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) output: super::Output,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// json, or a template such as '{{.State.Status}}'
    #[arg(short, long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// container, image or volume [default: the first that has the name]
    #[arg(long = "type", value_name = "TYPE", value_parser = ["container", "image", "network", "volume"])]
    pub(crate) kind: Option<String>,
    /// What containers take on disk too
    #[arg(short, long)]
    pub(crate) size: bool,
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Ended ones too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Print once and end
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// Whole ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// json, or a template such as '{{.Name}} {{.MemUsage}}'
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    #[arg(value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Start it again when it ends: no, on-failure[:MOST], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    pub(crate) restart: Option<String>,
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// Weight among others for block devices (10 to 1000)
    #[arg(long, value_name = "N")]
    pub(crate) blkio_weight: Option<u16>,
    /// Microseconds over which --cpu-rt-runtime counts
    #[arg(long, value_name = "N")]
    pub(crate) cpu_rt_period: Option<u64>,
    /// Microseconds for its processes that ask for real time
    #[arg(long, value_name = "N")]
    pub(crate) cpu_rt_runtime: Option<i64>,
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Cp {
    /// Keep owners
    #[arg(short, long)]
    pub(crate) archive: bool,
    /// Follow a link that is the source
    #[arg(short = 'L', long)]
    pub(crate) follow_link: bool,
    /// Nothing is printed here anyway
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// CONTAINER:PATH, a path of this machine, or -
    pub(crate) source: String,
    /// CONTAINER:PATH, a path of this machine, or -
    pub(crate) target: String,
}

#[derive(Debug, Args)]
pub(crate) struct Commit {
    /// A Dockerfile instruction: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR, ...
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// Who made it
    #[arg(short, long)]
    pub(crate) author: Option<String>,
    /// What for
    #[arg(short, long)]
    pub(crate) message: Option<String>,
    /// Freeze the container meanwhile
    #[arg(short, long, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) pause: bool,
    #[allow(missing_docs)]
    pub(crate) name: String,
    /// Name of the image
    pub(crate) image: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Go on while the container writes
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// The time of each line first
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// What the log driver was told to add first (--log-opt labels=, env=)
    #[arg(long)]
    pub(crate) details: bool,
    /// Only the last lines (a number, or all)
    #[arg(short = 'n', long, default_value = "all", allow_negative_numbers = true)]
    pub(crate) tail: String,
    /// Only lines since a time (2026-01-31T12:00:00Z) or for a time (10m)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only lines before a time, or until so long ago
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    #[allow(missing_docs)]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// type=, event=, container=, image=, volume=, label=NAME[=VALUE], scope=
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// What has happened since a time (2026-01-31T12:00:00Z) or for a time (10m) too
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// End at a time, or with what happened before it
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) until: Option<String>,
    /// json, or a template such as '{{.Time}} {{.Action}} {{.Actor.Attributes.name}}'
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Do not wait for its end
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Keep stdin open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Set an environment variable (NAME=VALUE, or NAME to take it from here)
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Set environment variables from a file, one NAME=VALUE a line
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Working directory
    #[arg(short, long)]
    pub(crate) workdir: Option<String>,
    /// User and group, as names or numbers (USER[:GROUP])
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// With all capabilities
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Keys that end this command, and with it the process
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<String>,
    #[allow(missing_docs)]
    pub(crate) name: String,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// Seconds before it is killed [default: those it was made with, else 10]
    #[arg(short, long, visible_alias = "timeout", allow_negative_numbers = true)]
    pub(crate) time: Option<i64>,
    /// Instead of its own stop signal
    #[arg(short, long)]
    pub(crate) signal: Option<String>,
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// By name or number
    #[arg(short, long, default_value = "KILL")]
    pub(crate) signal: String,
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Kill it first if it runs; one that is not there is no error
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Volumes without a name that were made for it too
    #[arg(short, long)]
    pub(crate) volumes: bool,
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) names: Vec<String>,
}
