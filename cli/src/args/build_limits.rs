//! How much the RUNs of a build may use, and what docker users write that is so here in any case.

use super::Share;
use clap::Args;

/// How much each RUN may use.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct BuildLimits {
    /// Size of /dev/shm (64m)
    #[arg(long, value_name = "BYTES")]
    pub(crate) shm_size: Option<String>,
    /// Most open files, processes, ... of a RUN (NAME=SOFT[:HARD])
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// The cgroup below which RUNs have theirs
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<String>,
    #[command(flatten)]
    pub(crate) share: Share,
}

/// Docker's older kind of signatures, which nobody asks for here: what has to be signed is said in the policy.
#[derive(Debug, Args)]
#[allow(dead_code)]
pub(crate) struct NotaryTrust {
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disable_content_trust: Option<String>,
}

/// What docker users write, and what is so here in any case: nobody asks for it.
#[derive(Debug, Args)]
#[allow(dead_code)]
pub(crate) struct SameAnyway {
    /// The result is in the store anyway
    #[arg(long, hide = true)]
    load: bool,
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    rm: Option<String>,
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    force_rm: Option<String>,
    #[arg(long, hide = true)]
    compress: bool,
    /// Nothing more can be told
    #[arg(short = 'D', long, hide = true)]
    debug: bool,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disable_content_trust: Option<String>,
    #[arg(long, hide = true)]
    cache_from: Vec<String>,
    #[arg(long, hide = true)]
    cache_to: Vec<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    provenance: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sbom: Option<String>,
    #[arg(long, hide = true)]
    attest: Vec<String>,
    /// Nothing has to be allowed that is there
    #[arg(long, hide = true)]
    allow: Vec<String>,
    #[arg(long, hide = true)]
    builder: Option<String>,
    #[arg(long, hide = true, value_parser = ["", "default", "process"])]
    isolation: Option<String>,
    #[arg(long, hide = true)]
    security_opt: Vec<String>,
}
