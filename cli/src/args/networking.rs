//! The command line of `knarr network`, and the options by which `run` and `create` take part in a network.

use clap::{Args, Subcommand};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How a container takes part in a network that somebody made.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Networking {
    /// The address that it wants
    #[arg(long, value_name = "IP")]
    pub(crate) ip: Option<Ipv4Addr>,
    /// The IPv6 address that it wants
    #[arg(long, value_name = "IP")]
    pub(crate) ip6: Option<Ipv6Addr>,
    /// The address of its link
    #[arg(long, value_name = "MAC")]
    pub(crate) mac_address: Option<String>,
    /// A name that it has for another container (NAME[:ALIAS])
    #[arg(long, value_name = "NAME[:ALIAS]")]
    pub(crate) link: Vec<String>,
    /// A further name for the others on its network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    pub(crate) network_alias: Vec<String>,
}

/// Commands about networks.
#[derive(Debug, Subcommand)]
pub(crate) enum Network {
    /// Make a network and print its id
    Create(CreateNetwork),
    /// Connect a container to a further network
    Connect(ConnectNetwork),
    /// Take a container out of a network
    Disconnect(DisconnectNetwork),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(LsNetworks),
    /// Print everything known about networks as JSON
    Inspect {
        /// json, or a template such as '{{.Driver}}'
        #[arg(short, long, value_name = "TEMPLATE")]
        format: Option<String>,
        /// All is told anyway
        #[arg(short, long, hide = true)]
        verbose: bool,
        #[arg(required = true, value_name = "NETWORK")]
        names: Vec<String>,
    },
    /// Remove networks
    #[command(visible_alias = "remove")]
    Rm {
        /// One that is not there is no error
        #[arg(short, long)]
        force: bool,
        #[arg(required = true, value_name = "NETWORK")]
        names: Vec<String>,
    },
    /// Remove networks that no container uses
    Prune {
        /// label=NAME[=VALUE], label!=NAME[=VALUE], until=TIME
        #[arg(long, value_name = "KEY=VALUE")]
        filter: Vec<String>,
        /// Ask nothing, on a terminal too
        #[arg(short, long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ConnectNetwork {
    /// The address that it wants
    #[arg(long, value_name = "IP")]
    pub(crate) ip: Option<Ipv4Addr>,
    /// The IPv6 address that it wants
    #[arg(long, value_name = "IP")]
    pub(crate) ip6: Option<Ipv6Addr>,
    /// A further name for the others on the network
    #[arg(long, value_name = "NAME")]
    pub(crate) alias: Vec<String>,
    /// A name that it has for another container (NAME[:ALIAS])
    #[arg(long, value_name = "NAME[:ALIAS]")]
    pub(crate) link: Vec<String>,
    /// The network of the highest leads to everything else
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) gw_priority: i32,
    /// Docker's bridge driver knows none that is of use here
    #[arg(long, hide = true)]
    pub(crate) driver_opt: Vec<String>,
    #[arg(long, hide = true)]
    pub(crate) link_local_ip: Vec<IpAddr>,
    #[allow(missing_docs)]
    pub(crate) network: String,
    #[allow(missing_docs)]
    pub(crate) container: String,
}

#[derive(Debug, Args)]
pub(crate) struct DisconnectNetwork {
    /// Also a container that is not there any more
    #[arg(short, long)]
    pub(crate) force: bool,
    #[allow(missing_docs)]
    pub(crate) network: String,
    #[allow(missing_docs)]
    pub(crate) container: String,
}

#[derive(Debug, Args)]
pub(crate) struct CreateNetwork {
    /// bridge, or macvlan: on a link of this machine, with hardware addresses of their own
    #[arg(short, long, default_value = "bridge")]
    pub(crate) driver: String,
    /// Its range of addresses; one of each family at most
    #[arg(long, value_name = "CIDR")]
    pub(crate) subnet: Vec<String>,
    /// This machine's address in it, or the router's on a link: the first of the range, where none is given
    #[arg(long, value_name = "IP")]
    pub(crate) gateway: Vec<IpAddr>,
    /// The part of the range that containers have addresses of
    #[arg(long, value_name = "CIDR")]
    pub(crate) ip_range: Vec<String>,
    /// An address that no container has (NAME=IP)
    #[arg(long, value_name = "NAME=IP")]
    pub(crate) aux_address: Vec<String>,
    /// Nothing leaves it
    #[arg(long)]
    pub(crate) internal: bool,
    /// With IPv6 addresses too: of --subnet, or of a range of its own
    #[arg(long)]
    pub(crate) ipv6: bool,
    /// Set metadata (NAME=VALUE)
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// com.docker.network.bridge.name=LINK, com.docker.network.driver.mtu=BYTES; parent=LINK[.VLAN],
    /// macvlan_mode=bridge|private|vepa|passthru
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) opt: Vec<String>,
    /// So it is anyway
    #[arg(long)]
    pub(crate) attachable: bool,
    /// So it is anyway
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = ["true"])]
    pub(crate) ipv4: Option<String>,
    #[allow(missing_docs)]
    #[arg(long, hide = true, value_parser = ["local"])]
    pub(crate) scope: Option<String>,
    #[allow(missing_docs)]
    #[arg(long, hide = true, value_parser = ["default"])]
    pub(crate) ipam_driver: Option<String>,
    #[allow(missing_docs)]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct LsNetworks {
    /// Ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Whole ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// name=, id=, driver=, label=NAME[=VALUE], type=builtin|custom, scope=, dangling=BOOL
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// json, or a template such as '{{.Name}}' (after "table": with a header)
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
}
