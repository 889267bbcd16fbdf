//! Docker's other names for what there is: `knarr images` is `knarr image ls`, `knarr container rm` is `knarr rm`.

use super::{
    Build, Container, Events, History, Import, Later, Load, Ls, Ps, Pull, Push, RmImages, Save, Tag,
};
use clap::{Args, Subcommand};

/// Short names of image commands, and groups of commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Word {
    /// List images (image ls)
    Images(Ls),
    /// Download an image and unpack it (image pull)
    Pull(Pull),
    /// Upload an image (image push)
    Push(Push),
    /// Remove images (image rm)
    Rmi(RmImages),
    /// Give an image another name (image tag)
    Tag(Tag),
    /// Build an image from a Dockerfile (image build)
    Build(Later<Build>),
    /// Docker's other name of build (buildx build, builder build)
    #[command(subcommand, hide = true, alias = "builder")]
    Buildx(Builders),
    /// Write images as an archive (image save)
    Save(Save),
    /// Read images from an archive (image load)
    Load(Load),
    /// Make an image of a directory or tar archive (image import)
    Import(Import),
    /// Print how an image came to be (image history)
    History(History),
    /// The commands about single containers
    #[command(subcommand)]
    Container(Later<Containers>),
    /// What knarr takes on disk, and what it is on
    #[command(subcommand)]
    System(Later<System>),
    /// What this machine and its knarr are
    Info(Shown),
    /// Versions of knarr and of what it runs
    Version(Shown),
}

/// `knarr buildx`: there is one builder, which needs no looking after.
#[derive(Debug, Subcommand)]
pub(crate) enum Builders {
    /// Build an image from a Dockerfile (image build)
    #[command(alias = "b")]
    Build(Later<Build>),
    /// Forget what builds keep to be faster next time
    Prune(PruneBuilds),
}

/// What builds keep is of use together, so without filters it goes together.
#[derive(Debug, Args)]
#[allow(dead_code)]
pub(crate) struct PruneBuilds {
    /// It all goes anyway
    #[arg(short, long)]
    pub(crate) all: bool,
    /// until=TIME: what no build has used for so long
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Leave so much of what was used last
    #[arg(long, visible_alias = "reserved-space", value_name = "BYTES")]
    pub(crate) keep_storage: Option<String>,
    /// Ask nothing, on a terminal too
    #[arg(short, long)]
    pub(crate) force: bool,
    #[arg(short, long, hide = true)]
    pub(crate) verbose: bool,
    #[arg(long, hide = true)]
    pub(crate) builder: Option<String>,
}

/// `knarr container`.
#[derive(Debug, Subcommand)]
pub(crate) enum Containers {
    #[command(flatten)]
    Any(Container),
    /// List containers started by run
    #[command(visible_alias = "list")]
    Ls(Ps),
    /// Remove containers that do not run
    Prune(PruneContainers),
    /// The processes of a container
    Top {
        #[allow(missing_docs)]
        container: String,
        /// Options of ps
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        ps: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PruneContainers {
    /// until=TIME, label=NAME[=VALUE], label!=NAME[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Ask nothing, on a terminal too
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// `knarr system`.
#[derive(Debug, Subcommand)]
pub(crate) enum System {
    /// Show what images, containers and volumes take on disk
    Df(Df),
    /// Tell what happens to containers, images and volumes
    Events(Events),
    /// What this machine and its knarr are
    Info(Shown),
    /// Remove what nobody uses: containers that have ended, images without a name
    Prune(PruneAll),
}

#[derive(Debug, Args)]
pub(crate) struct Df {
    /// Each image, container and volume
    #[arg(short, long, conflicts_with = "format")]
    pub(crate) verbose: bool,
    /// json, or a template such as '{{.Type}} {{.Size}}' (after "table": with a header)
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PruneAll {
    /// All images that no container uses, not only those without a name
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Volumes without a name of their own too
    #[arg(long)]
    pub(crate) volumes: bool,
    /// until=DURATION, label=NAME[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Ask nothing, on a terminal too
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// How facts are shown.
#[derive(Debug, Args)]
pub(crate) struct Shown {
    /// json, or a template such as '{{.Server.Version}}'
    #[arg(short, long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
}
