//! Addresses and ranges of networks: `cidr('10.0.0.0/8').containsIP('10.1.2.3')`. Addresses of version 6 that stand for
//! one of version 4, and zones, are none.

use super::{
    Arguments, Method, Outcome, argument, fault, flag, methods, number, of_text, opaque, text, words,
};
use cel::common::types::STRING_TYPE;
use cel::common::value::CowVal;
use cel::{DeclarationError, Env, ExecutionError};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Debug, Clone, PartialEq)]
struct Address(IpAddr);

opaque!(Address, ADDRESS, "net.IP");

/// An address, and how many of its first bits are those of the range.
#[derive(Debug, Clone, PartialEq)]
struct Range {
    address: IpAddr,
    length: u8,
}

opaque!(Range, RANGE, "net.CIDR");

pub(super) fn extend(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_type(ADDRESS.to_owned())?;
    env.add_type(RANGE.to_owned())?;
    let of_texts: [Method<'_>; 5] = [
        ("isIP", &[], |all| flag(address(text(&all, 0)?).is_ok())),
        ("ip", &[], |all| told(read(text(&all, 0)?)?)),
        ("ip.isCanonical", &[], |all| flag(read(text(&all, 0)?)?.to_string() == text(&all, 0)?)),
        ("isCIDR", &[], |all| flag(range(text(&all, 0)?).is_ok())),
        ("cidr", &[], |all| Ok(CowVal::owned(read_range(text(&all, 0)?)?))),
    ];
    of_text(env, &of_texts)?;
    let of_addresses: &[Method<'_>] = &[
        ("family", &[], |all| number(if own(&all)?.is_ipv4() { 4 } else { 6 })),
        ("isUnspecified", &[], |all| flag(own(&all)?.is_unspecified())),
        ("isLoopback", &[], |all| flag(own(&all)?.is_loopback())),
        ("isLinkLocalMulticast", &[], |all| flag(is_link_local_multicast(own(&all)?))),
        ("isLinkLocalUnicast", &[], |all| flag(is_link_local(own(&all)?))),
        ("isGlobalUnicast", &[], |all| flag(is_global_unicast(own(&all)?))),
    ];
    methods(env, &ADDRESS, of_addresses)?;
    let of_ranges: &[Method<'_>] = &[
        ("ip", &[], |all| told(argument::<Range>(&all, 0)?.address)),
        ("masked", &[], |all| Ok(CowVal::owned(argument::<Range>(&all, 0)?.masked()))),
        ("prefixLength", &[], |all| number(argument::<Range>(&all, 0)?.length.into())),
        ("containsIP", &[&ADDRESS], |all| {
            flag(argument::<Range>(&all, 0)?.contains(argument::<Address>(&all, 1)?.0))
        }),
        ("containsIP", &[&STRING_TYPE], |all| {
            flag(argument::<Range>(&all, 0)?.contains(read(text(&all, 1)?)?))
        }),
        ("containsCIDR", &[&RANGE], |all| {
            flag(argument::<Range>(&all, 0)?.holds(argument::<Range>(&all, 1)?))
        }),
        ("containsCIDR", &[&STRING_TYPE], |all| {
            flag(argument::<Range>(&all, 0)?.holds(&read_range(text(&all, 1)?)?))
        }),
    ];
    methods(env, &RANGE, of_ranges)?;
    env.add_overload("string", "ip_to_string", vec![ADDRESS.to_owned()], address_as_text)?;
    env.add_overload("string", "cidr_to_string", vec![RANGE.to_owned()], range_as_text)
}

fn address_as_text<'b, 'v>(all: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    words(own(&all)?.to_string())
}

fn range_as_text<'b, 'v>(all: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    let Range { address, length } = argument::<Range>(&all, 0)?;
    words(format!("{address}/{length}"))
}

fn own(all: &[CowVal<'_, '_>]) -> Result<IpAddr, ExecutionError> {
    argument::<Address>(all, 0).map(|address| address.0)
}

fn told<'b, 'v>(address: IpAddr) -> Outcome<'b, 'v> {
    Ok(CowVal::owned(Address(address)))
}

fn address(text: &str) -> Result<IpAddr, String> {
    let read = text.parse().map_err(|_| {
        format!("IP Address {text:?} parse error during conversion from string: unable to parse IP")
    })?;
    match read {
        IpAddr::V6(six) if six.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        other => Ok(other),
    }
}

fn read(text: &str) -> Result<IpAddr, ExecutionError> {
    address(text).or_else(|why| fault("ip", why))
}

fn range(text: &str) -> Result<Range, String> {
    const WRONG: &str = "network address parse error during conversion from string";
    let wrong = |why: &str| format!("{WRONG}: {WRONG}: netip.ParsePrefix({text:?}): {why}");
    let (start, bits) = text.rsplit_once('/').ok_or_else(|| wrong("no '/'"))?;
    let number: Result<IpAddr, _> = start.parse();
    let known = number.map_err(|_| wrong(&format!("ParseAddr({start:?}): unable to parse IP")))?;
    let plain = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
    let plain = plain && (bits == "0" || !bits.starts_with('0')) && bits.len() <= 3;
    let length: u16 = bits
        .parse()
        .ok()
        .filter(|_| plain)
        .ok_or_else(|| wrong(&format!("bad bits after slash: {bits:?}")))?;
    let most = if known.is_ipv4() { 32 } else { 128 };
    let length = u8::try_from(length).ok().filter(|length| *length <= most);
    let length = length.ok_or_else(|| wrong("prefix length out of range"))?;
    Ok(Range { address: address(start)?, length })
}

fn read_range(text: &str) -> Result<Range, ExecutionError> {
    range(text).or_else(|why| fault("cidr", why))
}

impl Range {
    fn masked(&self) -> Self {
        let Self { address, length } = *self;
        let first = |bits: u128, width: u32| {
            let rest = width - u32::from(length);
            if rest >= 128 { 0 } else { bits >> rest << rest }
        };
        let address = match address {
            IpAddr::V4(four) => {
                let bits = first(u32::from(four).into(), 32);
                Ipv4Addr::from(u32::try_from(bits).unwrap_or(0)).into()
            }
            IpAddr::V6(six) => Ipv6Addr::from(first(six.into(), 128)).into(),
        };
        Self { address, length }
    }

    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && Self { address, length: self.length }.masked() == self.masked()
    }

    /// Whether all of another range lies in this one.
    fn holds(&self, other: &Self) -> bool {
        self.length <= other.length && self.contains(other.address)
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.is_unicast_link_local(),
    }
}

fn is_link_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => four.octets()[..3] == [224, 0, 0],
        IpAddr::V6(six) => six.segments()[0] & 0xff0f == 0xff02,
    }
}

fn is_global_unicast(address: IpAddr) -> bool {
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    let special = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    !(broadcast || special || is_link_local(address))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all_hold, holds};

    #[test]
    fn addresses_and_ranges() {
        all_hold(&[
            "isIP('127.0.0.1') && isIP('::1') && !isIP('127.0.0.1/8') && !isIP('::ffff:1.2.3.4')",
            "ip('127.0.0.1').family() == 4 && ip('::1').isLoopback() && ip('0.0.0.0').isUnspecified()",
            "ip('169.254.1.1').isLinkLocalUnicast() && ip('224.0.0.1').isLinkLocalMulticast()",
            "ip('8.8.8.8').isGlobalUnicast() && !ip('255.255.255.255').isGlobalUnicast()",
            "ip.isCanonical('::1') && !ip.isCanonical('0:0::1') && string(ip('0:0::1')) == '::1'",
            "isCIDR('10.0.0.0/8') && !isCIDR('10.0.0.0/33')",
            "cidr('10.1.0.0/16').containsIP('10.1.2.3') && !cidr('10.1.0.0/16').containsIP(ip('10.2.0.1'))",
            "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.1.0.0/16').containsCIDR(cidr('10.0.0.0/8'))",
            "cidr('0.0.0.0/0').containsIP('1.1.1.1') && cidr('::/0').containsIP('::1')",
            "cidr('192.168.1.5/24').masked() == cidr('192.168.1.0/24') && cidr('::1/128').prefixLength() == 128",
            "string(cidr('192.168.1.5/24').ip()) == '192.168.1.5'",
        ]);
        let told = holds("cidr('10.0.0.0/').prefixLength() == 1").unwrap_err();
        assert!(told.ends_with("netip.ParsePrefix(\"10.0.0.0/\"): bad bits after slash: \"\""), "{told}");
        assert!(holds("ip('x').isLoopback()").is_err() && holds("cidr('x').prefixLength() == 1").is_err());
    }
}
