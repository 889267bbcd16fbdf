//! What a container is made of, on the command line: the options that `knarr run` and `create` share.

use super::{Finer, Networking};
use clap::{ArgAction, Args};
use std::path::PathBuf;

/// What a container is made of.
#[derive(Debug, Default, Args)]
pub(crate) struct CreateOptions {
    /// Remove the container when it ends
    #[arg(long)]
    pub(crate) rm: bool,
    /// Keep stdin open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Join these alone of stdin, stdout and stderr
    #[arg(short, long, value_name = "STREAM")]
    pub(crate) attach: Vec<String>,
    /// Give the container a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Name of the container
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Write the container's id to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// missing, always or never
    #[arg(long, default_value = "missing", value_parser = ["missing", "always", "never"])]
    pub(crate) pull: String,
    /// os/architecture[/variant]
    #[arg(long)]
    pub(crate) platform: Option<String>,
    /// Do not show the progress of a pull
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Start it again when it ends: no, on-failure[:MOST], always or unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no")]
    pub(crate) restart: String,
    /// A process 1 that passes signals on and reaps
    #[arg(long)]
    pub(crate) init: bool,
    /// Set an environment variable (NAME=VALUE, or NAME to take it from here)
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Set environment variables from a file, one NAME=VALUE a line
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Set metadata (NAME=VALUE)
    #[arg(short, long = "label", value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// Set metadata from a file, one NAME=VALUE a line
    #[arg(long, value_name = "FILE")]
    pub(crate) label_file: Vec<PathBuf>,
    /// Mount a directory, a file or a named volume (SOURCE:TARGET[:ro])
    #[arg(short, long = "volume", value_name = "[SOURCE:]TARGET[:ro]")]
    pub(crate) volume: Vec<String>,
    /// Mount what another container has mounted: its volumes and bind mounts (CONTAINER[:ro|rw])
    #[arg(long, value_name = "CONTAINER[:ro]")]
    pub(crate) volumes_from: Vec<String>,
    /// Mount something (type=bind|volume|tmpfs,source=...,target=...[,readonly])
    #[arg(long, value_name = "type=...,target=...")]
    pub(crate) mount: Vec<String>,
    /// Mount a file system in memory (TARGET[:OPTIONS])
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    pub(crate) tmpfs: Vec<String>,
    /// Working directory
    #[arg(short, long)]
    pub(crate) workdir: Option<String>,
    /// User and group, as names or numbers (USER[:GROUP])
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Further groups, as names or numbers
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_add: Vec<String>,
    /// Publish a port ([IP:][HOST:]CONTAINER[/udp], ranges as FIRST-LAST)
    #[arg(short, long = "publish", value_name = "[IP:]HOST:CONTAINER")]
    pub(crate) publish: Vec<String>,
    /// A port that the container has beside those of its image (PORT[/udp])
    #[arg(long, value_name = "PORT")]
    pub(crate) expose: Vec<String>,
    /// One of engine.runtimes
    #[arg(long, value_name = "NAME")]
    pub(crate) runtime: Option<String>,
    /// Logs are files here: json-file and local are taken for that, none keeps none, anything else is refused
    #[arg(long, value_name = "DRIVER")]
    pub(crate) log_driver: Option<String>,
    /// Of a log driver; there is none, so this changes nothing
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) log_opt: Vec<String>,
    /// Publish every port that the image exposes at a free port of this machine
    #[arg(short = 'P', long)]
    pub(crate) publish_all: bool,
    /// bridge, host, none, container:NAME, or one made by `network create`
    #[arg(long = "network", visible_alias = "net", value_name = "NETWORK")]
    pub(crate) networks: Vec<String>,
    /// The first of them, as `inspect` has it
    #[arg(skip)]
    pub(crate) network: String,
    /// Host name of the container
    #[arg(short = 'h', long)]
    pub(crate) hostname: Option<String>,
    /// A line of /etc/hosts (NAME:IP; host-gateway is this machine)
    #[arg(long, value_name = "NAME:IP")]
    pub(crate) add_host: Vec<String>,
    /// Name server
    #[arg(long, value_name = "IP")]
    pub(crate) dns: Vec<String>,
    /// Domain in which names are looked up
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// Option of the resolver
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    pub(crate) dns_option: Vec<String>,
    #[command(flatten)]
    pub(crate) health: Health,
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// Most open files, processes, ... (NAME=SOFT[:HARD])
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// Size of /dev/shm (64m)
    #[arg(long, value_name = "BYTES")]
    pub(crate) shm_size: Option<String>,
    /// How willingly the kernel swaps the container out (0 to 100)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) memory_swappiness: Option<i64>,
    /// How willingly the kernel kills the container when memory is short (-1000 to 1000)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) oom_score_adj: Option<i64>,
    /// A kernel parameter of the container's own namespaces
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) sysctl: Vec<String>,
    /// A device of this machine (SOURCE[:TARGET[:rwm]])
    #[arg(long, value_name = "SOURCE[:TARGET[:rwm]]")]
    pub(crate) device: Vec<String>,
    /// host: the processes of this machine are seen; container:NAME
    #[arg(long, value_name = "MODE")]
    pub(crate) pid: Option<String>,
    /// host: IPC objects are this machine's; private, shareable, container:NAME
    #[arg(long, value_name = "MODE")]
    pub(crate) ipc: Option<String>,
    /// The root file system is read-only
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Add a capability
    #[arg(long, value_name = "CAP")]
    pub(crate) cap_add: Vec<String>,
    /// Drop a capability (ALL drops every one)
    #[arg(long, value_name = "CAP")]
    pub(crate) cap_drop: Vec<String>,
    /// All capabilities and devices
    #[arg(long)]
    pub(crate) privileged: bool,
    /// seccomp=unconfined|FILE, no-new-privileges, apparmor=PROFILE, systempaths=unconfined
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<String>,
    /// Signal that asks the container to end
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// Seconds after that until it is killed
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) stop_timeout: Option<i64>,
    /// Instead of the image's entry point; empty: none
    #[arg(long)]
    pub(crate) entrypoint: Option<String>,
    #[command(flatten)]
    pub(crate) networking: Networking,
    #[command(flatten)]
    pub(crate) finer: Finer,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub(crate) help: Option<bool>,
    /// The image, and what to run instead of its command: what follows the image is no option of ours
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE", "COMMAND"])]
    pub(crate) words: Vec<String>,
    #[arg(skip)]
    pub(crate) image: String,
    #[arg(skip)]
    pub(crate) command: Vec<String>,
}

impl CreateOptions {
    /// Tells the image from the command. The grammar takes both together: only so does nothing behind the image's name
    /// look like an option.
    pub(crate) fn tell_words(&mut self) {
        let mut words = std::mem::take(&mut self.words).into_iter();
        self.image = words.next().unwrap_or_default();
        self.command = words.collect();
    }
}

/// How it is found out whether the container works.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Health {
    /// A command that succeeds as long as the container works, run by its shell
    #[arg(long, value_name = "COMMAND")]
    pub(crate) health_cmd: Option<String>,
    /// Time between two checks (30s)
    #[arg(long, value_name = "TIME")]
    pub(crate) health_interval: Option<String>,
    /// Most time that a check may take (30s)
    #[arg(long, value_name = "TIME")]
    pub(crate) health_timeout: Option<String>,
    /// So many failures in a row are an unhealthy container (3)
    #[arg(long, value_name = "N")]
    pub(crate) health_retries: Option<u32>,
    /// Time after the start in which failures do not count (0s)
    #[arg(long, value_name = "TIME")]
    pub(crate) health_start_period: Option<String>,
    /// Time between two checks meanwhile (5s)
    #[arg(long, value_name = "TIME")]
    pub(crate) health_start_interval: Option<String>,
    /// Without the check that the image asks for
    #[arg(long)]
    pub(crate) no_healthcheck: bool,
}

/// What a container may use.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Limits {
    #[command(flatten)]
    pub(crate) share: Share,
    /// Memory that is left to it when memory is short
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory_reservation: Option<String>,
    /// CPU limit (1.5)
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) cpus: Option<f64>,
    /// Most processes; -1 is any number
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
}

/// The memory and the processors that a container, or a step of a build, may use.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Share {
    /// Memory limit (512m, 2g, ...)
    #[arg(short, long)]
    pub(crate) memory: Option<String>,
    /// Memory and swap together; -1 is any amount
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub(crate) memory_swap: Option<String>,
    /// Weight among others for the CPU (1024)
    #[arg(short, long, value_name = "N")]
    pub(crate) cpu_shares: Option<i64>,
    /// Microseconds over which --cpu-quota counts
    #[arg(long, value_name = "N")]
    pub(crate) cpu_period: Option<i64>,
    /// Microseconds of CPU time in a period
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// CPUs it may use (0-3, 0,1)
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes it may use
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
}
