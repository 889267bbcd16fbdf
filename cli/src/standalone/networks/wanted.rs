//! `--network`, as often as it is given, with what else says how a container takes part in its networks: in Docker's words,
//! those of its refusals too.

use super::membership::{self, Membership};
use super::record;
use crate::args::CreateOptions;
use crate::settings::Settings;
use crate::standalone::{plan, shared};
use anyhow::{Context, bail};
use std::collections::BTreeSet;

/// One network as it is asked for; the membership names none yet.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    membership: Membership,
}

/// `NAME`, or `name=NAME,alias=NAME,ip=IP,...`.
fn parse(text: &str) -> anyhow::Result<Wanted> {
    if !text.contains('=') {
        let name = if text.is_empty() { "bridge" } else { text };
        return Ok(Wanted { name: name.to_owned(), ..Wanted::default() });
    }
    let mut wanted = Wanted::default();
    let joined = &mut wanted.membership;
    for field in text.split(',') {
        let Some((key, value)) = field.split_once('=') else { bail!("invalid field {field}") };
        let wrong = || format!("invalid argument \"{text}\" for \"--network\" flag");
        match key.trim().to_lowercase().as_str() {
            "name" => value.clone_into(&mut wanted.name),
            "alias" => joined.aliases.push(value.to_owned()),
            "ip" => joined.address = Some(value.parse().with_context(wrong)?),
            "ip6" => joined.second = Some(value.parse().with_context(wrong)?),
            "mac-address" => joined.hardware = Some(membership::hardware(value).with_context(wrong)?),
            "gw-priority" => joined.priority = value.parse().with_context(wrong)?,
            // None of Docker's bridge driver is of use here.
            "driver-opt" => {}
            _ => bail!("invalid field key {key}"),
        }
    }
    if wanted.name.is_empty() {
        bail!("network name/id is not specified");
    }
    Ok(wanted)
}

/// All of them; options that name no network are about the first one.
fn all(options: &CreateOptions) -> anyhow::Result<Vec<Wanted>> {
    let mut all = options.networks.iter().map(|text| parse(text)).collect::<anyhow::Result<Vec<_>>>()?;
    if all.iter().all(|one| plan::is_built_in(&one.name)) {
        // Nothing is connected to two of these: the last word counts.
        all.drain(..all.len().saturating_sub(1));
    }
    if all.is_empty() {
        all.push(Wanted { name: "bridge".to_owned(), ..Wanted::default() });
    }
    let own = &options.networking;
    let first = &mut all[0].membership;
    for (twice, what) in [
        (!own.network_alias.is_empty() && !first.aliases.is_empty(), "--network-alias and per-network alias"),
        (own.ip.is_some() && first.address.is_some(), "--ip and per-network IPv4 address"),
        (own.ip6.is_some() && first.second.is_some(), "--ip6 and per-network IPv6 address"),
        (own.mac_address.is_some() && first.hardware.is_some(), "--mac-address and per-network MAC address"),
    ] {
        if twice {
            bail!("conflicting options: cannot specify both {what}");
        }
    }
    first.aliases.extend(own.network_alias.iter().cloned());
    first.address = first.address.or(own.ip);
    first.second = first.second.or(own.ip6);
    if let Some(text) = &own.mac_address {
        first.hardware = Some(membership::hardware(text)?);
    }
    first.links = own.link.iter().map(|text| link(text)).collect::<anyhow::Result<_>>()?;
    Ok(all)
}

/// `NAME[:ALIAS]`.
pub(crate) fn link(text: &str) -> anyhow::Result<(String, String)> {
    let (name, alias) = text.split_once(':').unwrap_or((text, text));
    if name.is_empty() || alias.contains(':') || !is_host_name(alias) {
        bail!("bad format for links: {text}");
    }
    Ok((name.to_owned(), alias.to_owned()))
}

/// It becomes a word of a line of others' `/etc/hosts`.
fn is_host_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// Makes the mode of `inspect` of what was asked for: the first one, by its name.
pub(crate) fn mode(settings: &Settings, options: &mut CreateOptions) -> anyhow::Result<()> {
    let first = all(options)?.swap_remove(0).name;
    options.network = match first.as_str() {
        name if plan::is_built_in(name) => first,
        name => record::expect(settings, name)?.name,
    };
    Ok(())
}

/// The networks that a new container has; none where it has no addresses of its own.
pub(crate) fn memberships(settings: &Settings, options: &CreateOptions) -> anyhow::Result<Vec<Membership>> {
    let all = all(options)?;
    let (built_in, made): (Vec<&Wanted>, Vec<&Wanted>) =
        all.iter().partition(|one| plan::is_built_in(&one.name));
    for wanted in &made {
        record::expect(settings, &wanted.name)?;
    }
    if !built_in.is_empty() && !made.is_empty() {
        bail!("conflicting options: cannot attach both user-defined and non-user-defined network-modes");
    }
    if let [only] = &built_in[..] {
        return shared_bridge(only).map(|membership| membership.into_iter().collect());
    }
    let mut seen = BTreeSet::new();
    let mut memberships = Vec::new();
    for wanted in all {
        let network = record::expect(settings, &wanted.name)?;
        if !seen.insert(network.id.clone()) {
            bail!("network {:?} is specified multiple times", wanted.name);
        }
        let own = checked(Membership { network: network.id.clone(), ..wanted.membership }, &network)?;
        memberships.push(if memberships.is_empty() { own } else { own.further() });
    }
    Ok(memberships)
}

/// What a network that somebody made has to have for this.
pub(crate) fn checked(wanted: Membership, network: &record::Record) -> anyhow::Result<Membership> {
    if let Some(alias) = wanted.aliases.iter().find(|alias| !is_host_name(alias)) {
        bail!("invalid network alias {alias:?}");
    }
    if let Some(second) = wanted.second.filter(|_| network.second_subnet.is_none()) {
        bail!("invalid endpoint settings:\nno configured subnet contains IP address {second}");
    }
    Ok(wanted)
}

/// Where only some things can be asked for.
fn shared_bridge(wanted: &Wanted) -> anyhow::Result<Option<Membership>> {
    let own = &wanted.membership;
    if own.address.is_some() || own.second.is_some() {
        bail!("user specified IP address is supported on user defined networks only");
    }
    if !own.aliases.is_empty() {
        bail!("network-scoped alias is supported only for containers in user defined networks");
    }
    let bridge = matches!(wanted.name.as_str(), "bridge" | "default");
    let another = shared::target(&wanted.name).is_some();
    if !own.links.is_empty() && !bridge {
        let mode = if another { "container type network mode" } else { "non-bridge network mode" };
        bail!("conflicting options: links can't be used with {mode}");
    }
    if own.hardware.is_some() && another {
        bail!("conflicting options: mac-address and the network mode");
    }
    Ok(bridge.then(|| Membership { network: membership::SHARED.to_owned(), ..own.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_asked_for_in_dockers_words() {
        let wanted = parse(
            "name=mine,alias=a,alias=b,ip=10.0.0.9,ip6=fd00::9,mac-address=02:00:00:00:00:01,gw-priority=2",
        );
        let Wanted { name, membership } = wanted.unwrap();
        assert_eq!((name.as_str(), membership.aliases.len(), membership.priority), ("mine", 2, 2));
        assert_eq!(membership.hardware, Some([2, 0, 0, 0, 0, 1]));
        for (text, words) in [
            ("alias=a", "network name/id is not specified"),
            ("name=a,b", "invalid field b"),
            ("name=a,colour=red", "invalid field key colour"),
            ("name=a,ip=x", "invalid argument \"name=a,ip=x\" for \"--network\" flag"),
        ] {
            assert!(parse(text).unwrap_err().to_string().contains(words), "{text}");
        }
    }

    #[test]
    fn what_is_said_twice_is_refused() {
        let mut options = CreateOptions {
            networks: vec!["name=mine,ip=10.0.0.9".into(), "b".into()],
            ..Default::default()
        };
        assert_eq!(all(&options).unwrap().len(), 2);
        options.networking.ip = Some("10.0.0.10".parse().unwrap());
        assert!(all(&options).unwrap_err().to_string().contains("both --ip and per-network IPv4 address"));
    }
}
