//! The command line of `knarr volume`.

use clap::{Args, Subcommand};

/// `NAME=VALUE`, or a name alone.
pub(crate) fn label(text: &str) -> Result<String, String> {
    match text.split('=').next() {
        None | Some("") => Err(format!("invalid label '{text}': empty name")),
        Some(_) => Ok(text.to_owned()),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Volume {
    /// Make a volume and print its name
    Create(CreateVolume),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(LsVolumes),
    /// Print where volumes are, as JSON
    Inspect {
        /// json, or a template such as '{{.Mountpoint}}'
        #[arg(short, long, value_name = "TEMPLATE")]
        format: Option<String>,
        #[arg(required = true, value_name = "VOLUME")]
        names: Vec<String>,
    },
    /// Remove volumes
    #[command(visible_alias = "remove")]
    Rm {
        /// One that is not there is no error
        #[arg(short, long)]
        force: bool,
        #[arg(required = true, value_name = "VOLUME")]
        names: Vec<String>,
    },
    /// Remove volumes that no container uses
    Prune {
        /// Named ones too
        #[arg(short, long)]
        all: bool,
        /// label=NAME[=VALUE], label!=NAME[=VALUE], all=BOOL
        #[arg(long, value_name = "KEY=VALUE")]
        filter: Vec<String>,
        /// Ask nothing, on a terminal too
        #[arg(short, long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateVolume {
    /// NAME=VALUE
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    pub(crate) label: Vec<String>,
    /// local, which is the only one
    #[arg(short, long, default_value = "local", value_parser = ["local"])]
    pub(crate) driver: String,
    /// type=none, o=bind, device=DIRECTORY: a directory of this machine
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) opt: Vec<String>,
    #[allow(missing_docs)]
    #[arg(long = "name", hide = true, value_name = "NAME", conflicts_with = "name")]
    pub(crate) also_name: Option<String>,
    #[allow(missing_docs)]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LsVolumes {
    /// Names only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// name=, label=NAME[=VALUE], dangling=BOOL, driver=
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// json, or a template such as '{{.Name}}' (after "table": with a header)
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
}
