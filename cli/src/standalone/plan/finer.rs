//! The options that few need, as what the engine adds to a container; those that cannot be had are refused in Docker's words.

use super::{environment, sizes};
use crate::args::{CreateOptions, Finer};
use anyhow::{Context, bail};
use knarr_agent::engine::additions::{
    Additions, BlockIo, DeviceRule, NamespaceKind, ThrottleDevice, WeightDevice,
};
use std::os::unix::fs::MetadataExt;

/// Weights that the kernel knows.
const WEIGHTS: std::ops::RangeInclusive<u16> = 10..=1000;

/// Adds what the options come to.
pub(super) fn add(options: &CreateOptions, to: &mut Additions) -> anyhow::Result<()> {
    let finer = &options.finer;
    refuse(finer)?;
    to.annotations = environment::pairs("annotation", &finer.annotation)?.into_iter().collect();
    limit(finer, to)?;
    to.device_rules =
        finer.device_cgroup_rule.iter().map(|rule| device_rule(rule)).collect::<anyhow::Result<_>>()?;
    to.no_oom_kill = finer.oom_kill_disable;
    if options.network == "host" {
        // What has this machine's network has its name too, unless it is given one.
        to.hostname = options.hostname.clone().unwrap_or_default();
    }
    to.domainname = finer.domainname.clone().unwrap_or_default();
    to.namespaces = namespaces(options)?;
    Ok(())
}

/// What of it is a limit.
pub(super) fn limit(finer: &Finer, to: &mut Additions) -> anyhow::Result<()> {
    to.block_io = block_io(finer)?;
    to.realtime = (finer.cpu_rt_runtime, finer.cpu_rt_period);
    Ok(())
}

fn refuse(finer: &Finer) -> anyhow::Result<()> {
    if finer.gpus.is_some() {
        bail!("could not select device driver \"\" with capabilities: [[gpu]]");
    }
    if !finer.storage_opt.is_empty() {
        bail!("--storage-opt is supported only for overlay over xfs with 'pquota' mount option");
    }
    if let Some(mode) = finer.userns.as_deref().filter(|mode| !["", "host"].contains(mode)) {
        bail!("--userns: invalid USER mode: {mode:?}");
    }
    if let Some(other) = finer.isolation.as_deref().filter(|name| !["", "default"].contains(name)) {
        bail!("invalid isolation (\"{other}\"): only \"default\" is supported on linux");
    }
    Ok(())
}

fn namespaces(options: &CreateOptions) -> anyhow::Result<Vec<(NamespaceKind, Option<String>)>> {
    let mut found = Vec::new();
    match options.finer.uts.as_deref() {
        None | Some("") if options.network == "host" && options.hostname.is_some() => {
            found.push((NamespaceKind::Uts, Some(String::new())));
        }
        None | Some("") => {}
        Some("host") if options.hostname.is_some() => {
            bail!("conflicting options: hostname and the UTS mode")
        }
        Some("host") => found.push((NamespaceKind::Uts, None)),
        Some(other) => bail!("--uts: invalid UTS mode: {other:?}"),
    }
    match options.finer.cgroupns.as_deref() {
        None | Some("") => {}
        Some("host") => found.push((NamespaceKind::Cgroup, None)),
        Some("private") => found.push((NamespaceKind::Cgroup, Some(String::new()))),
        Some(other) => bail!("--cgroupns: invalid CGROUP mode: {other:?}"),
    }
    Ok(found)
}

fn block_io(finer: &Finer) -> anyhow::Result<Option<BlockIo>> {
    let weight = finer.blkio_weight.filter(|weight| *weight != 0);
    if weight.is_some_and(|weight| !WEIGHTS.contains(&weight)) {
        bail!("range of blkio weight is from 10 to 1000");
    }
    let bytes = |text: &str| sizes::bytes(text).ok().and_then(|bytes| u64::try_from(bytes).ok());
    let number = |text: &str| text.parse().ok();
    let throttles = |all: &[String], rate: fn(&str) -> Option<u64>| {
        all.iter().map(|text| throttle(text, rate)).collect::<anyhow::Result<Vec<_>>>()
    };
    let wanted = BlockIo {
        weight,
        weight_device: finer
            .blkio_weight_device
            .iter()
            .map(|text| weighed(text))
            .collect::<Result<_, _>>()?,
        throttle_read_bps_device: throttles(&finer.device_read_bps, bytes)?,
        throttle_write_bps_device: throttles(&finer.device_write_bps, bytes)?,
        throttle_read_iops_device: throttles(&finer.device_read_iops, number)?,
        throttle_write_iops_device: throttles(&finer.device_write_iops, number)?,
        ..BlockIo::default()
    };
    Ok(Some(wanted).filter(|wanted| *wanted != BlockIo::default()))
}

/// `DEVICE:VALUE`: numbers of the device, and the value.
fn of_device(text: &str) -> anyhow::Result<((i64, i64), &str)> {
    let Some((path, value)) = text.split_once(':').filter(|(path, _)| !path.is_empty()) else {
        bail!("bad format: {text}");
    };
    if !path.starts_with("/dev/") {
        bail!("bad format for device path: {text}");
    }
    let number = std::fs::metadata(path).with_context(|| format!("stat {path}"))?.rdev();
    Ok(((rustix::fs::major(number).into(), rustix::fs::minor(number).into()), value))
}

fn weighed(text: &str) -> anyhow::Result<WeightDevice> {
    let ((major, minor), value) = of_device(text)?;
    let weight = value.parse().ok().filter(|weight| *weight == 0 || WEIGHTS.contains(weight));
    let weight = weight.with_context(|| format!("invalid weight for device: {text}"))?;
    Ok(WeightDevice { major, minor, weight: Some(weight), ..WeightDevice::default() })
}

fn throttle(text: &str, rate: fn(&str) -> Option<u64>) -> anyhow::Result<ThrottleDevice> {
    let ((major, minor), value) = of_device(text)?;
    let rate = rate(value).with_context(|| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a \
             positive integer. Unit is optional and can be kb, mb, or gb"
        )
    })?;
    Ok(ThrottleDevice { major, minor, rate })
}

/// `c 42:* rmw`.
fn device_rule(text: &str) -> anyhow::Result<DeviceRule> {
    let wrong = || format!("invalid device cgroup format '{text}'");
    let words: Vec<&str> = text.split(' ').collect();
    let [kind @ ("a" | "b" | "c"), numbers, access] = words[..] else { bail!(wrong()) };
    let (major, minor) = numbers.split_once(':').with_context(wrong)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        text => text.parse::<u32>().map(|number| Some(i64::from(number))).with_context(wrong),
    };
    if access.is_empty() || access.len() > 3 || !access.chars().all(|c| "rwm".contains(c)) {
        bail!(wrong());
    }
    let (major, minor) = (number(major)?, number(minor)?);
    Ok(DeviceRule { allow: true, kind: kind.into(), major, minor, access: access.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(finer: Finer) -> anyhow::Result<Additions> {
        let mut additions = Additions::default();
        add(&CreateOptions { finer, ..CreateOptions::default() }, &mut additions)?;
        Ok(additions)
    }

    #[test]
    fn devices_are_named_by_their_numbers() {
        let finer = Finer { device_read_bps: vec!["/dev/null:1mb".into()], ..Finer::default() };
        let found = added(finer).unwrap().block_io.unwrap().throttle_read_bps_device;
        assert_eq!((found[0].major, found[0].minor, found[0].rate), (1, 3, 1 << 20));
        for wrong in ["", "/dev/null", ":1", "/etc/passwd:1", "/dev/none:1", "/dev/null:x", "/dev/null:-1"] {
            let finer = Finer { device_write_iops: vec![wrong.into()], ..Finer::default() };
            assert!(added(finer).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rules_of_devices() {
        let rule = device_rule("c 42:* rmw").unwrap();
        assert_eq!((rule.kind.as_str(), rule.major, rule.minor, rule.allow), ("c", Some(42), None, true));
        for wrong in ["", "c", "c 1:1", "x 1:1 r", "c 1 r", "c 1:y r", "c 1:1 z", "c 1:1 rwmr"] {
            assert!(device_rule(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        let gpus = Finer { gpus: Some("all".into()), ..Finer::default() };
        assert_eq!(
            added(gpus).unwrap_err().to_string(),
            "could not select device driver \"\" with capabilities: [[gpu]]"
        );
        for mode in ["keep-id", "nobody"] {
            assert!(added(Finer { userns: Some(mode.into()), ..Finer::default() }).is_err());
        }
        assert!(added(Finer { userns: Some("host".into()), ..Finer::default() }).is_ok());
        assert!(added(Finer { blkio_weight: Some(5), ..Finer::default() }).is_err());
    }
}
