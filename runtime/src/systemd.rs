//! `--systemd-cgroup`: the container's cgroup is a transient scope that systemd owns, so limits set with systemctl, the
//! journal and a reload of systemd agree with what we do.
//!
//! systemd makes a scope only around a process that exists. So init is cloned first and waits; `StartTransientUnit`
//! moves it, and the files of the cgroup are written afterwards, which is what counts where both say something. We speak
//! D-Bus with systemd itself, over its private socket: no bus daemon has to answer, and none can hang a container.

mod annotations;
mod bus;
mod properties;
mod scope;

pub(crate) use annotations::properties as annotated;
pub(crate) use properties::Value;
pub(crate) use scope::Scope;

use crate::dbus::Body;
use crate::error::{Context, Error, Kind, Result};
use crate::spec::Resources;
use bus::Bus;
use rustix::process::Pid;
use serde::Serialize;

/// What a scope of ours is to have.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Wanted {
    pub(crate) resources: Resources,
    /// From annotations.
    pub(crate) properties: Vec<(String, Value)>,
}

/// systemd is the first process here: it says so itself, see `sd_booted(3)`.
///
/// # Errors
/// It is not, in runc's words. Nothing must have been made by then: slices would stay.
pub(crate) fn check_running() -> Result<()> {
    let booted = std::fs::symlink_metadata("/run/systemd/system").is_ok_and(|found| found.is_dir());
    let refused = || {
        Error::new(Kind::Unsupported, "systemd not running on this host, cannot use systemd cgroups manager")
    };
    booted.then_some(()).ok_or_else(refused)
}

/// Makes the scope with one process in it, and waits until systemd has done so.
pub(crate) fn start(scope: &Scope, id: &str, pid: Pid, wanted: &Wanted, unified: bool) -> Result<()> {
    let mut all = properties::of_scope(scope, id, pid.as_raw_nonzero().get() as u32, unified);
    all.extend(properties::of_resources(&wanted.resources, unified)?);
    let mut body = Body::new("ssa(sv)a(sa(sv))");
    body.string(&scope.unit).string("replace");
    let named = all.iter().map(|(name, value)| (*name, value));
    let annotated = wanted.properties.iter().map(|(name, value)| (name.as_str(), value));
    write_properties(&mut body, named.chain(annotated));
    body.empty_array(8);
    let started = || -> Result<()> {
        let mut bus = Bus::connect(scope.user)?;
        bus.subscribe()?;
        let job = bus.call("StartTransientUnit", &body)?.first_string()?;
        match bus.job_result(&job)?.as_str() {
            "done" => Ok(()),
            other => Err(Error::new(Kind::Os, format!("systemd ended the job of {}: {other}", scope.unit))),
        }
    };
    started().context(|| format!("unable to start unit {:?}", scope.unit))
}

/// Other limits for a scope that runs.
pub(crate) fn update(scope: &Scope, resources: &Resources, unified: bool) -> Result<()> {
    let all = properties::of_resources(resources, unified)?;
    if all.is_empty() {
        return Ok(());
    }
    let mut body = Body::new("sba(sv)");
    // For as long as this boot lasts.
    body.string(&scope.unit).boolean(true);
    write_properties(&mut body, all.iter().map(|(name, value)| (*name, value)));
    let set = || Bus::connect(scope.user)?.call("SetUnitProperties", &body).map(drop);
    set().context(|| format!("unable to set properties of unit {:?}", scope.unit))
}

/// Lets systemd forget it. One that has ended by itself is gone already.
pub(crate) fn stop(scope: &Scope) -> Result<()> {
    let mut body = Body::new("ss");
    body.string(&scope.unit).string("replace");
    let mut name = Body::new("s");
    name.string(&scope.unit);
    let stopped = || -> Result<()> {
        let mut bus = Bus::connect(scope.user)?;
        bus.subscribe()?;
        let job = unless_gone(bus.call("StopUnit", &body))?;
        if let Some(job) = job {
            bus.job_result(&job.first_string()?)?;
        }
        unless_gone(bus.call("ResetFailedUnit", &name)).map(drop)
    };
    stopped().context(|| format!("unable to stop unit {:?}", scope.unit))
}

fn unless_gone<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write_properties<'a>(body: &mut Body, all: impl Iterator<Item = (&'a str, &'a Value)>) {
    body.array(8, |body| {
        for (name, value) in all {
            body.align(8);
            body.string(name);
            match value {
                Value::Boolean(value) => body.variant("b").boolean(*value),
                Value::Byte(value) => body.variant("y").raw(&[*value]),
                Value::Int(value) => body.variant("i").word(*value as u32),
                Value::Word(value) => body.variant("u").word(*value),
                Value::Long(value) => body.variant("x").number(*value as u64),
                Value::Real(value) => body.variant("d").number(value.to_bits()),
                Value::Number(value) => body.variant("t").number(*value),
                Value::Text(text) => body.variant("s").string(text),
                Value::Texts(texts) => body.variant("as").array(4, |body| {
                    for text in texts {
                        body.string(text);
                    }
                }),
                Value::Numbers(numbers) => body.variant("au").array(4, |body| {
                    for number in numbers {
                        body.word(*number);
                    }
                }),
                Value::Bytes(bytes) => body.variant("ay").array(1, |body| {
                    body.raw(bytes);
                }),
            };
        }
    });
}
