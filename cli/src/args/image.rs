//! The command line of `knarr image`.

use super::{BuildLimits, Later, NotaryTrust, Output, SameAnyway};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Download an image and unpack it
    Pull(Pull),
    /// Upload an image
    Push(Push),
    /// Copy an image from registry to registry
    Copy {
        #[allow(missing_docs)]
        source: String,
        #[allow(missing_docs)]
        target: String,
    },
    /// List images
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Print everything known about images as JSON
    Inspect(InspectImages),
    /// Give an image another name
    Tag(Tag),
    /// Remove names, and images with their last name
    #[command(visible_alias = "remove")]
    Rm(RmImages),
    /// Write images as an archive
    Save(Save),
    /// Read images from an archive
    Load(Load),
    /// Make an image of a directory or tar archive
    Import(Import),
    /// Build an image from a Dockerfile
    Build(Later<Build>),
    /// Remove images that no container uses
    Prune(PruneImages),
    /// Print how an image came to be, the newest step first
    History(History),
    /// List the tags of a repository in its registry
    Tags {
        #[allow(missing_docs)]
        name: String,
    },
    /// List the repositories of a registry
    Catalog {
        #[allow(missing_docs)]
        registry: String,
    },
    /// Show what images take on disk
    Df,
    /// Mount an image read-only and print where
    Mount {
        #[allow(missing_docs)]
        name: String,
        #[allow(missing_docs)]
        target: PathBuf,
    },
    /// Undo a mount of an image
    #[command(visible_alias = "umount")]
    Unmount {
        #[allow(missing_docs)]
        target: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// Every tag of the repository
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// Print the image's name only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// os/architecture[/variant]
    #[arg(long)]
    pub(crate) platform: Option<String>,
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) trust: NotaryTrust,
    #[allow(missing_docs)]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Push {
    /// Every tag of the repository that is here
    #[arg(short, long, conflicts_with = "target")]
    pub(crate) all_tags: bool,
    /// Print the image's name only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// It has to be for this one: os/architecture[/variant]
    #[arg(long)]
    pub(crate) platform: Option<String>,
    #[command(flatten)]
    pub(crate) trust: NotaryTrust,
    #[allow(missing_docs)]
    pub(crate) name: String,
    /// Under another name
    pub(crate) target: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Images that only others stand on are not kept here, so this changes nothing
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Whole ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Digests too
    #[arg(long)]
    pub(crate) digests: bool,
    /// reference=PATTERN, dangling=BOOL, label=NAME[=VALUE], before=IMAGE, since=IMAGE, until=TIME
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// json, or a template such as '{{.Repository}}:{{.Tag}}' (after "table": with a header)
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) output: Output,
    /// Only those of this name, with or without a tag
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InspectImages {
    /// json, or a template such as '{{.Config.Cmd}}'
    #[arg(short, long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// It has to be for this one: os/architecture[/variant]
    #[arg(long)]
    pub(crate) platform: Option<String>,
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Tag {
    #[allow(missing_docs)]
    pub(crate) name: String,
    #[allow(missing_docs)]
    pub(crate) target: String,
}

#[derive(Debug, Args)]
pub(crate) struct RmImages {
    /// Also where a container that has ended uses it; one that is not there is no error
    #[arg(short, long)]
    pub(crate) force: bool,
    /// No image stands on another one here, so this changes nothing
    #[arg(long)]
    pub(crate) no_prune: bool,
    /// It has to be for this one: os/architecture[/variant]
    #[arg(long)]
    pub(crate) platform: Option<String>,
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// The archive [default: stdin]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Nothing but the names is printed here anyway
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// It has to be for this one: os/architecture[/variant]
    #[arg(long)]
    pub(crate) platform: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PruneImages {
    /// Named ones too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only those not pulled or used for so long: 30m, 72h, 7d
    #[arg(long, value_name = "DURATION")]
    pub(crate) until: Option<String>,
    /// until=DURATION, dangling=BOOL, label=NAME[=VALUE], label!=NAME[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Ask nothing, on a terminal too
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// Whole commands
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Sizes and dates for people
    #[arg(short = 'H', long, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) human: bool,
    /// json, or a template such as '{{.CreatedBy}}' (after "table": with a header)
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// It has to be for this one: os/architecture[/variant]
    #[arg(long)]
    pub(crate) platform: Option<String>,
    #[allow(missing_docs)]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Save {
    /// The archive [default: stdout]
    #[arg(short, long)]
    pub(crate) output: Option<PathBuf>,
    /// oci or docker
    #[arg(long, default_value = "docker")]
    pub(crate) format: String,
    /// It has to be for this one: os/architecture[/variant]
    #[arg(long)]
    pub(crate) platform: Option<String>,
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Command of the image, as a JSON array or a shell line
    #[arg(long)]
    pub(crate) cmd: Option<String>,
    /// Entry point of the image, as a JSON array or a shell line
    #[arg(long)]
    pub(crate) entrypoint: Option<String>,
    /// NAME=VALUE
    #[arg(short, long = "env")]
    pub(crate) env: Vec<String>,
    #[arg(long)]
    pub(crate) workdir: Option<String>,
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// NAME=VALUE
    #[arg(short, long = "label")]
    pub(crate) label: Vec<String>,
    /// PORT[/udp]
    #[arg(long)]
    pub(crate) expose: Vec<String>,
    /// A Dockerfile instruction: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR, ...
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// What for
    #[arg(short, long)]
    pub(crate) message: Option<String>,
    /// What it is for: os/architecture[/variant] [default: this machine's]
    #[arg(long)]
    pub(crate) platform: Option<String>,
    /// Push it under its name as well
    #[arg(long, requires = "name")]
    pub(crate) push: bool,
    /// A directory, a tar archive (- for stdin) or a URL of one
    pub(crate) source: PathBuf,
    #[allow(missing_docs)]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// Name of the result
    #[arg(short, long)]
    pub(crate) tag: Vec<String>,
    /// The Dockerfile, - for stdin [default: CONTEXT/Dockerfile]
    #[arg(short, long)]
    pub(crate) file: Option<PathBuf>,
    /// NAME=VALUE
    #[arg(long)]
    pub(crate) build_arg: Vec<String>,
    /// Stop after this stage
    #[arg(long)]
    pub(crate) target: Option<String>,
    /// os/architecture[/variant]
    #[arg(long)]
    pub(crate) platform: Option<String>,
    /// Run every step again
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Pull base images even if they are here
    #[arg(long)]
    pub(crate) pull: bool,
    /// For RUN --mount=type=secret: id=NAME[,src=FILE|,env=VARIABLE]
    #[arg(long, value_name = "id=NAME,...")]
    pub(crate) secret: Vec<String>,
    /// For RUN --mount=type=ssh: an agent's socket [default: $SSH_AUTH_SOCK]
    #[arg(long, value_name = "default|ID[=SOCKET]", num_args = 0..=1, default_missing_value = "default")]
    pub(crate) ssh: Vec<String>,
    /// Another name for FROM and --from: a directory, docker-image://NAME, or oci-layout://DIRECTORY[:TAG][@DIGEST]
    #[arg(long, value_name = "NAME=PLACE")]
    pub(crate) build_context: Vec<String>,
    /// A line of the /etc/hosts of RUN (NAME:IP)
    #[arg(long, value_name = "NAME:IP")]
    pub(crate) add_host: Vec<String>,
    /// Run the steps of these stages again
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// NAME=VALUE
    #[arg(long)]
    pub(crate) label: Vec<String>,
    /// What RUN reaches: host or none
    #[arg(long, default_value = "host")]
    pub(crate) network: String,
    /// Write the result elsewhere too: a directory, - (tar to stdout), or type=local|tar|oci|docker,dest=PATH
    #[arg(short, long, value_name = "type=...,dest=...")]
    pub(crate) output: Vec<String>,
    /// Print the id of the image only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Write the id of the image to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// auto, plain, tty and rawjson are the same; none and quiet show nothing
    #[arg(long, default_value = "auto", value_parser = ["auto", "none", "plain", "tty", "quiet", "rawjson"])]
    pub(crate) progress: String,
    /// Push the result under its names
    #[arg(long, requires = "tag")]
    pub(crate) push: bool,
    /// Write what was built to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// An annotation of the result's manifest (NAME=VALUE)
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Look for what is better written otherwise, and build nothing: the same as --call=check
    #[arg(long)]
    pub(crate) check: bool,
    /// Ask instead of building: check, outline or targets, and ,format=json behind it
    #[arg(long, value_name = "METHOD", default_value = "build", hide_default_value = true)]
    pub(crate) call: String,
    #[command(flatten)]
    pub(crate) limits: BuildLimits,
    #[command(flatten)]
    pub(crate) same: SameAnyway,
    /// A directory, or - for stdin: a tar archive of the context, or a Dockerfile alone
    pub(crate) context: PathBuf,
}

/// Who is asking a registry.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Username
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// Password
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub(crate) password: Option<String>,
    /// Take the password from stdin
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// The registry, such as 127.0.0.1:5000
    #[arg(value_name = "SERVER", default_value = "docker.io")]
    pub(crate) server: String,
}
