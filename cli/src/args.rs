//! The command line as data: what the user typed, with no effect and no default that depends on the machine.

mod build_limits;
mod container;
mod create;
mod finer;
mod image;
mod later;
mod manifest;
mod networking;
pub(crate) mod switches;
mod volume;
mod words;

pub(crate) use build_limits::*;
pub(crate) use container::*;
pub(crate) use create::*;
pub(crate) use finer::*;
pub(crate) use image::*;
pub(crate) use later::*;
pub(crate) use manifest::*;
pub(crate) use networking::*;
pub(crate) use volume::*;
pub(crate) use words::*;

use clap::{Args, Parser, Subcommand, ValueEnum};
use knarr_agent::membership::{Pin, Token as BootstrapToken};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// A Linux container node and a small Kubernetes-compatible cluster.
#[derive(Debug, Parser)]
#[command(name = "knarr", version, propagate_version = true, args_override_self = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Where images, the store and pod data are kept [default: /var/lib/knarr]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where sockets, namespaces and other things that end with a reboot are kept [default: /run/knarr]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// error, warn, info, debug or trace; or a filter such as knarr_agent=debug
    #[arg(long, global = true, value_name = "LEVEL", default_value = "warn")]
    pub(crate) log_level: String,
    /// Log lines for people or, with one JSON object per line, for machines
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Settings of the node
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/knarr/config.toml")]
    pub(crate) config: PathBuf,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a control plane and a node agent on this machine
    Up(Later<Up>),
    /// Stop every pod and remove what knarr made on this machine, except images and the store
    Down(Down),
    /// Start a control plane alone
    Server(Later<Server>),
    /// Start a node agent alone
    Agent(Later<Agent>),
    /// Start a CRI v1 server alone, for a foreign kubelet or crictl
    Engine(Engine),
    #[command(flatten)]
    Container(Container),
    /// Pull, push, list and make images
    #[command(subcommand)]
    Image(Later<Image>),
    #[command(flatten)]
    Word(Word),
    /// Make and send lists of manifests, by which one name stands for images of several platforms
    #[command(subcommand)]
    Manifest(Later<Manifests>),
    /// Authenticate to a registry
    Login(Login),
    /// Forget the credentials for a registry
    Logout {
        #[arg(
            value_name = "SERVER",
            default_value = "docker.io",
            help = "The registry, such as 127.0.0.1:5000"
        )]
        server: String,
    },
    /// Make, list and delete the tokens by which nodes join
    #[command(subcommand)]
    Token(Later<Token>),
    /// Live view of pods and containers; with a name, the processes of one container
    Top {
        /// A container started by run
        container: Option<String>,
        /// Options of ps
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        ps: Vec<String>,
    },
    /// What this machine lacks, and what to do about it
    Doctor,
    /// Make, list and remove networks of containers of run
    #[command(subcommand)]
    Network(Later<Network>),
    /// Print a completion script
    Completions {
        #[allow(missing_docs)]
        shell: clap_complete::Shell,
    },
    /// Write manual pages
    #[command(hide = true)]
    Man {
        #[allow(missing_docs)]
        directory: PathBuf,
    },
}

/// Commands about bootstrap tokens; they use the server's admin kubeconfig.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token and print it, then the command by which another machine joins with it
    Create {
        /// How long it holds, such as 30m or 24h; 0 is for ever
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        ttl: String,
        /// What it is for
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
    },
    /// List the tokens
    List,
    /// Delete tokens
    Delete {
        /// The token, or its part before the point
        #[arg(required = true, value_name = "TOKEN")]
        tokens: Vec<String>,
    },
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    #[allow(missing_docs)]
    Text,
    #[allow(missing_docs)]
    Json,
}

/// Where the API server listens and what it hands out.
#[derive(Debug, Clone, Args)]
pub(crate) struct ControlPlane {
    /// Address of the API server
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:6443")]
    pub(crate) listen: SocketAddr,
    /// Address under which pods and nodes reach the API server [default: that of the default route]
    #[arg(long, value_name = "IP")]
    pub(crate) advertise: Option<IpAddr>,
    #[command(flatten)]
    pub(crate) audit: Audit,
}

/// What is written of requests, named as kube-apiserver names it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Audit {
    /// Which requests are audited, and how much of them (an audit.k8s.io/v1 Policy)
    #[arg(long, value_name = "FILE", requires = "audit_log_path")]
    pub(crate) audit_policy_file: Option<PathBuf>,
    /// Where audit events go, one JSON document a line; - is the standard output
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    pub(crate) audit_log_path: Option<PathBuf>,
    /// Megabytes at which the log is put aside; 0 for never
    #[arg(long, value_name = "MB", default_value_t = 100)]
    pub(crate) audit_log_maxsize: u64,
    /// Most logs that were put aside; 0 for any number
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) audit_log_maxbackup: usize,
    /// Days that they are kept; 0 for ever
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    pub(crate) audit_log_maxage: u16,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) control_plane: ControlPlane,
    #[command(flatten)]
    pub(crate) node: NodeOptions,
    /// Apply the manifests in this directory (or file) when ready
    #[arg(long, value_name = "DIR")]
    pub(crate) apply: Option<PathBuf>,
    /// Stop the pods too when stopped by SIGTERM or SIGINT
    #[arg(long)]
    pub(crate) stop_pods: bool,
}

/// Settings of a node that are often given by hand.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct NodeOptions {
    /// Name of this node [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// Address of the kubelet API
    #[arg(long, value_name = "ADDR")]
    pub(crate) kubelet_listen: Option<SocketAddr>,
    /// Address of this node [default: that of the default route]
    #[arg(long, value_name = "IP")]
    pub(crate) node_ip: Option<IpAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct Down {
    /// Remove the images and the store too
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Server {
    #[command(subcommand)]
    pub(crate) command: Option<ServerCommand>,
    #[command(flatten)]
    pub(crate) control_plane: ControlPlane,
    /// Where objects are kept: embedded, or etcd://HOST:PORT,...
    #[arg(long, default_value = "embedded")]
    pub(crate) store: String,
    /// Keep objects in etcd
    #[arg(long, alias = "etcd-servers", value_name = "URL,...", value_delimiter = ',')]
    pub(crate) etcd: Vec<String>,
    /// Who signed the certificates of etcd (PEM) [default: the roots of this machine]
    #[arg(long, value_name = "FILE")]
    pub(crate) etcd_cafile: Option<PathBuf>,
    /// Our certificate for etcd (PEM)
    #[arg(long, value_name = "FILE", requires = "etcd_keyfile")]
    pub(crate) etcd_certfile: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "etcd_certfile")]
    pub(crate) etcd_keyfile: Option<PathBuf>,
}

/// What can be done with the data of a control plane.
#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Write all objects and the cluster's keys to a file, while the server runs
    Backup {
        #[allow(missing_docs)]
        file: PathBuf,
    },
    /// Fill the data directory from a backup, while no server runs
    Restore {
        /// Put aside what is there
        #[arg(long)]
        force: bool,
        #[allow(missing_docs)]
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Agent {
    /// Credentials for a Kubernetes API server
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Join this API server with a bootstrap token; once joined, the token is no longer needed
    #[arg(long, value_name = "URL", requires = "token")]
    pub(crate) server: Option<String>,
    /// Bootstrap token, as knarr token create prints it
    #[arg(long, requires = "server")]
    pub(crate) token: Option<BootstrapToken>,
    /// Digest of the public key of the cluster's CA, as knarr token create and kubeadm print it
    #[arg(long, value_name = "sha256:HEX", requires = "server")]
    pub(crate) ca_hash: Option<Pin>,
    /// Run the pods whose manifests lie in this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) manifests: Option<PathBuf>,
    /// Run the pods of the manifest at this URL, asked for every 20 seconds
    #[arg(long, value_name = "URL")]
    pub(crate) manifest_url: Option<String>,
    /// A header of that request
    #[arg(long, value_name = "NAME: VALUE", requires = "manifest_url")]
    pub(crate) manifest_url_header: Vec<String>,
    /// The machine goes down with the agent: on SIGTERM pods get so much time to end
    #[arg(long, value_name = "SECONDS")]
    pub(crate) shutdown_grace_period: Option<u64>,
    /// The part of it that is kept for critical pods
    #[arg(long, value_name = "SECONDS", requires = "shutdown_grace_period")]
    pub(crate) shutdown_grace_period_critical_pods: Option<u64>,
    /// Be so many nodes whose containers are imaginary
    #[arg(long, value_name = "N")]
    pub(crate) simulate: Option<u32>,
    /// Stop the pods too when stopped by SIGTERM or SIGINT
    #[arg(long)]
    pub(crate) stop_pods: bool,
    #[command(flatten)]
    pub(crate) node: NodeOptions,
}

#[derive(Debug, Args)]
pub(crate) struct Engine {
    /// The CRI socket [default: unix:///run/knarr/cri.sock]
    #[arg(long, value_name = "unix://PATH")]
    pub(crate) listen: Option<String>,
    /// Print the effective settings and exit
    #[arg(long)]
    pub(crate) print_config: bool,
}
