//! The link of this machine on which a macvlan network stands: one that is there, a VLAN of one (`eth0.10`), or a wire that
//! ends in this machine (`dm-...`).
//!
//! The latter two are made where they are missing, so that a reboot loses nothing; what was made here carries an alias that
//! says so, and nothing else is ever removed.

use super::links;
use super::netlink::Netlink;
use anyhow::{Context, bail};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVlan};
use rustix::io::Errno;

/// What names of wires that end here begin with.
pub(super) const INNER: &str = "dm-";
/// The alias of links that were made here.
const ALIAS: &str = "knarr macvlan parent";

/// Index of the link, which is up.
pub(super) fn ensure(netlink: &mut Netlink, name: &str) -> anyhow::Result<u32> {
    if let Some(index) = index_of(netlink, name)? {
        return Ok(index);
    }
    let link = match vlan(name) {
        _ if name.starts_with(INNER) => LinkBridge::new(name).build(),
        None => bail!("invalid subinterface vlan name {name}, example formatting is eth0.10"),
        Some((parent, id)) => {
            let parent = index_of(netlink, parent)?
                .with_context(|| format!("-o parent interface was not found on the host: {parent}"))?;
            LinkVlan::new(name, parent, id?).build()
        }
    };
    make(netlink, name, link)
}

/// The link below a VLAN and the VLAN's number; none where the name has not this form.
fn vlan(name: &str) -> Option<(&str, anyhow::Result<u16>)> {
    let (parent, id) = name.split_once('.').filter(|(parent, _)| !parent.is_empty())?;
    let number = id.parse().ok().filter(|number| (1..4095).contains(number));
    Some((parent, number.with_context(|| format!("vlan id must be between 1-4094, received: {id}"))))
}

fn index_of(netlink: &mut Netlink, name: &str) -> anyhow::Result<Option<u32>> {
    links::index_of(netlink, name).with_context(|| format!("look up link {name}"))
}

fn make(netlink: &mut Netlink, name: &str, link: LinkMessage) -> anyhow::Result<u32> {
    match netlink.change(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL) {
        // Another process of ours was faster.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::EXIST) => {}
        other => other.with_context(|| format!("create link {name}"))?,
    }
    let index = index_of(netlink, name)?.with_context(|| format!("link {name} vanished"))?;
    let up = LinkMessageBuilder::<LinkUnspec>::default().index(index).alias(ALIAS).up().build();
    netlink.change(RouteNetlinkMessage::SetLink(up), 0).with_context(|| format!("set up link {name}"))?;
    Ok(index)
}

/// Removes the link if it was made here.
pub(super) fn remove(netlink: &mut Netlink, name: &str) -> anyhow::Result<()> {
    let alias = links::alias_of(netlink, name).with_context(|| format!("look up link {name}"))?;
    if alias.as_deref() == Some(ALIAS) { links::delete(netlink, name) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlans_are_named_after_their_link_and_number() {
        let number = |name: &str| vlan(name).map(|(parent, id)| (parent.to_owned(), id.ok()));
        assert_eq!(number("eth0.10"), Some(("eth0".to_owned(), Some(10))));
        for wrong in ["eth0.0", "eth0.4095", "eth0.x", "eth0.", "eth0.1.2"] {
            assert_eq!(number(wrong), Some(("eth0".to_owned(), None)), "{wrong}");
        }
        assert_eq!((number("eth0"), number(".10")), (None, None));
    }
}
