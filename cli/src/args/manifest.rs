//! The command line of `knarr manifest`, named as Docker's.

use clap::{Args, Subcommand};

/// Commands about lists of manifests, by which one name stands for images of several platforms.
#[derive(Debug, Subcommand)]
pub(crate) enum Manifests {
    /// Print a manifest of a registry, or a list that is being made
    Inspect {
        /// Its registry speaks plain HTTP
        #[arg(long)]
        insecure: bool,
        /// With what is known beside it
        #[arg(short, long)]
        verbose: bool,
        /// One of a list that is being made: the list first
        #[arg(required = true, num_args = 1..=2, value_name = "[LIST] MANIFEST")]
        names: Vec<String>,
    },
    /// Begin a list of manifests that registries have
    Create {
        /// Add to a list that is being made
        #[arg(short, long)]
        amend: bool,
        /// Its registry speaks plain HTTP
        #[arg(long)]
        insecure: bool,
        /// Its name
        list: String,
        #[arg(required = true, value_name = "MANIFEST")]
        members: Vec<String>,
    },
    /// Say what an image of a list is for
    Annotate(Annotate),
    /// Send a list to its registry and print its digest
    Push {
        /// Its registry speaks plain HTTP
        #[arg(long)]
        insecure: bool,
        /// Forget it afterwards
        #[arg(short, long)]
        purge: bool,
        /// Its name
        list: String,
    },
    /// Forget lists that are being made
    Rm {
        #[arg(required = true, value_name = "LIST")]
        lists: Vec<String>,
    },
}

/// What an image of a list is for.
#[derive(Debug, Args)]
pub(crate) struct Annotate {
    /// Architecture
    #[arg(long)]
    pub(crate) arch: Option<String>,
    /// Operating system
    #[arg(long)]
    pub(crate) os: Option<String>,
    /// What it needs of the operating system
    #[arg(long, value_name = "FEATURE,...", value_delimiter = ',')]
    pub(crate) os_features: Vec<String>,
    /// Version of the operating system
    #[arg(long)]
    pub(crate) os_version: Option<String>,
    /// Of the architecture
    #[arg(long)]
    pub(crate) variant: Option<String>,
    /// Name of the list
    pub(crate) list: String,
    /// The image, as it was added
    pub(crate) manifest: String,
}
