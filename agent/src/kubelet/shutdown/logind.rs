//! logind's delay lock: who holds one is told before the machine goes down, and the machine waits until it is let go of, at
//! most as long as logind is set to wait.

use crate::system_bus::SystemBus;
use anyhow::{Context, ensure};
use knarr_runtime::dbus::{Body, Target};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const MANAGER: Target = Target {
    destination: "org.freedesktop.login1",
    path: "/org/freedesktop/login1",
    interface: "org.freedesktop.login1.Manager",
};
const PROPERTIES: Target = Target { interface: "org.freedesktop.DBus.Properties", ..MANAGER };
const SYSTEMD: Target = Target {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};
const SIGNAL: &str = "PrepareForShutdown";
/// What a setting of ours is called among those of logind.
const SETTINGS_FILE: &str = "99-knarr.conf";
/// logind reads its settings anew some time after it was told to.
const REREAD: Duration = Duration::from_millis(100);
const REREADS: usize = 50;

/// Where it is asked, and where it is set.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The socket of the system bus.
    pub(crate) bus: PathBuf,
    /// Its directory of additional settings.
    pub(crate) settings: PathBuf,
}

impl Places {
    /// Those of every machine with systemd.
    pub(crate) fn usual(bus: &Path) -> Self {
        Self { bus: bus.into(), settings: "/etc/systemd/logind.conf.d".into() }
    }
}

/// A connection to it.
#[derive(Debug)]
pub(super) struct Logind {
    bus: SystemBus,
}

impl Logind {
    /// `None` on a machine without a system bus. What it tells of is heard from now on.
    pub(super) async fn connect(places: &Places) -> anyhow::Result<Option<Self>> {
        let Some(mut bus) = SystemBus::connect(&places.bus).await? else { return Ok(None) };
        bus.subscribe(&format!("type='signal',interface='{}',member='{SIGNAL}'", MANAGER.interface)).await?;
        Ok(Some(Self { bus }))
    }

    /// Sees to it that it waits long enough for us.
    pub(super) async fn wait_for_us(&mut self, settings: &Path, wanted: Duration) -> anyhow::Result<()> {
        if self.longest_wait().await? >= wanted {
            return Ok(());
        }
        std::fs::create_dir_all(settings)?;
        let file = settings.join(SETTINGS_FILE);
        let text = format!("# Pods of knarr need it.\n[Login]\nInhibitDelayMaxSec={}\n", wanted.as_secs());
        std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        self.reload().await?;
        let mut ticks = tokio::time::interval(REREAD);
        for _ in 0..REREADS {
            ticks.tick().await;
            if self.longest_wait().await? >= wanted {
                return Ok(());
            }
        }
        let waits = self.longest_wait().await?;
        ensure!(waits >= wanted, "logind waits {waits:?} and not {wanted:?}: see InhibitDelayMaxSec");
        Ok(())
    }

    async fn longest_wait(&mut self) -> anyhow::Result<Duration> {
        let mut body = Body::new("ss");
        body.string(MANAGER.interface).string("InhibitDelayMaxUSec");
        let answer = self.bus.call(&PROPERTIES, "Get", &body).await?;
        let mut arguments = answer.arguments();
        ensure!(arguments.signature()? == "t", "InhibitDelayMaxUSec is no number");
        Ok(Duration::from_micros(arguments.number()?))
    }

    async fn reload(&mut self) -> anyhow::Result<()> {
        let mut body = Body::new("ssi");
        let hangup = rustix::process::Signal::HUP.as_raw().unsigned_abs();
        body.string("systemd-logind.service").string("all").word(hangup);
        self.bus.call(&SYSTEMD, "KillUnit", &body).await.map(drop)
    }

    /// Takes the lock; dropping it lets the machine go on.
    pub(super) async fn hold(&mut self) -> anyhow::Result<OwnedFd> {
        let mut body = Body::new("ssss");
        body.string("shutdown").string("knarr").string("pods need time to end").string("delay");
        self.bus.call(&MANAGER, "Inhibit", &body).await?;
        self.bus.take_descriptor().context("logind gave no lock")
    }

    /// Waits for news: the machine goes down, or does not after all.
    pub(super) async fn goes_down(&mut self) -> anyhow::Result<bool> {
        loop {
            let signal = self.bus.signal().await?;
            if signal.member == SIGNAL {
                return Ok(signal.arguments().word()? != 0);
            }
        }
    }
}
