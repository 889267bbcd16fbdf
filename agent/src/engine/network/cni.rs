//! Pod networks made by CNI plugins, after the Container Network Interface specification 1.1.
//!
//! ```text
//! config   the network configuration list of the node (a file in the configuration directory)
//! request  what one plugin reads on stdin (pure)
//! invoke   one plugin, run
//! record   what is remembered of an attachment, so that DEL and CHECK say what ADD said
//! ```
//! An attachment is on disk before its first plugin runs: whatever happens, DEL follows (also after a reboot, with
//! no namespace), and no address that a plugin gave is leaked. Operations on one pod never overlap, and garbage
//! collection excludes all of them.

mod config;
mod invoke;
mod record;
mod request;

use super::{PodAttachment, PodNetwork};
use crate::config::Config;
use crate::nft;
use anyhow::{Context, anyhow};
use async_trait::async_trait;
use config::NetworkList;
use invoke::{Command, Plugins};
use record::{Attachment, Records};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::RwLock;
use tokio::task::spawn_blocking;

/// STATUS and GC came with this version of the specification.
const STATUS_AND_GC: (u32, u32) = (1, 1);
/// CHECK came with this one.
const CHECK: (u32, u32) = (0, 4);

/// CNI plugins as the pods' network.
#[derive(Debug)]
pub struct CniNetwork {
    conf_dir: PathBuf,
    plugins: Plugins,
    records: Records,
    owner: PathBuf,
    services_table: String,
    /// The range that the cluster gave this node, for plugins with the `ipRanges` capability.
    pod_cidr: Mutex<Option<String>>,
    /// Attaching and detaching read, garbage collection writes.
    operations: RwLock<()>,
    /// One lock per pod that somebody works on.
    pods: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl CniNetwork {
    /// The network whose configuration is in `conf_dir`, now or later.
    pub fn new(config: &Config, conf_dir: &Path) -> Arc<Self> {
        Arc::new(Self {
            conf_dir: conf_dir.to_owned(),
            plugins: Plugins::new(config.network.cni_bin_dirs.clone()),
            records: Records::new(config.network_dir().join("cni")),
            owner: config.data_dir.clone(),
            services_table: config.network.services_table(),
            pod_cidr: Mutex::default(),
            operations: RwLock::default(),
            pods: Mutex::default(),
        })
    }

    /// Runs `work` while nobody else works on the pod.
    async fn exclusively<T>(&self, sandbox_id: &str, work: impl Future<Output = T>) -> T {
        let lock = self
            .pods
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(sandbox_id.to_owned())
            .or_default()
            .clone();
        let result = {
            let _operation = self.operations.read().await;
            let _pod = lock.lock().await;
            work.await
        };
        drop(lock);
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.retain(|_, lock| Arc::strong_count(lock) > 1);
        result
    }

    async fn attach(&self, pod: &PodAttachment) -> anyhow::Result<Vec<IpAddr>> {
        if let Some(known) = self.records.find(&pod.sandbox_id)? {
            if let Some(result) = &known.result
                && self.check(&known, result).await.is_ok()
            {
                return request::addresses(result);
            }
            // A crash in the middle of ADD, or a network that no longer is as it was: from the beginning.
            self.detach(&known).await?;
        }
        let list = config::load(&self.conf_dir)?.ok_or_else(not_initialized)?;
        let range = self.pod_cidr.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut attachment = Attachment::new(pod, &self.owner, list, range.as_deref());
        self.records.write(&attachment)?;
        loopback_up(&pod.netns).await?;
        match self.add(&attachment).await {
            Ok(result) => {
                let addresses = request::addresses(&result)?;
                attachment.result = Some(result);
                self.records.write(&attachment)?;
                Ok(addresses)
            }
            Err(error) => {
                // The error of ADD is the one to see; a DEL that fails leaves the record, and is tried again later.
                if let Err(second) = self.detach(&attachment).await {
                    tracing::warn!(
                        sandbox = pod.sandbox_id,
                        error = format!("{second:#}"),
                        "CNI DEL after a failed ADD"
                    );
                }
                Err(error)
            }
        }
    }

    /// The plugins in order, each with the result of the one before.
    async fn add(&self, attachment: &Attachment) -> anyhow::Result<Value> {
        let mut previous = None;
        for plugin in &attachment.list.plugins {
            let input = request::input(attachment, plugin, previous.as_ref());
            let result = self.plugins.run(Command::Add, attachment, plugin, &input).await?;
            previous = Some(result.context("a CNI plugin answered ADD without a result")?);
        }
        previous.context("the CNI network configuration has no plugins")
    }

    async fn check(&self, attachment: &Attachment, result: &Value) -> anyhow::Result<()> {
        if attachment.list.version() < CHECK || attachment.list.disable_check {
            return Ok(());
        }
        for plugin in &attachment.list.plugins {
            let input = request::input(attachment, plugin, Some(result));
            self.plugins.run(Command::Check, attachment, plugin, &input).await?;
        }
        Ok(())
    }

    /// The plugins in reverse; all of them, whatever one says. The record goes when all are content.
    async fn detach(&self, attachment: &Attachment) -> anyhow::Result<()> {
        let mut errors = Vec::new();
        for plugin in attachment.list.plugins.iter().rev() {
            let result = attachment.result.as_ref().filter(|_| attachment.list.version() >= CHECK);
            let input = request::input(attachment, plugin, result);
            errors.extend(self.plugins.run(Command::Del, attachment, plugin, &input).await.err());
        }
        all_of(&errors)?;
        self.records.remove(&attachment.sandbox_id)
    }

    /// Tells the plugins which attachments are real, so that they drop what they keep of others.
    async fn tell_what_lives(&self, list: &NetworkList, living: &[Attachment]) -> anyhow::Result<()> {
        if list.version() < STATUS_AND_GC || list.disable_gc {
            return Ok(());
        }
        let mut errors = Vec::new();
        for plugin in &list.plugins {
            let input = request::garbage(list, plugin, living);
            errors.extend(self.plugins.run_for_list(Command::Gc, plugin, list, &input).await.err());
        }
        all_of(&errors)
    }

    async fn status(&self) -> anyhow::Result<()> {
        let list = config::load(&self.conf_dir)?.ok_or_else(not_initialized)?;
        if list.version() < STATUS_AND_GC {
            return Ok(());
        }
        for plugin in &list.plugins {
            let input = request::plain(&list, plugin);
            self.plugins.run_for_list(Command::Status, plugin, &list, &input).await?;
        }
        Ok(())
    }
}

fn not_initialized() -> anyhow::Error {
    anyhow!("cni plugin not initialized")
}

fn all_of(errors: &[anyhow::Error]) -> anyhow::Result<()> {
    let texts: Vec<String> = errors.iter().map(|error| format!("{error:#}")).collect();
    if texts.is_empty() { Ok(()) } else { Err(anyhow!(texts.join("; "))) }
}

/// Plugins see to eth0 only.
async fn loopback_up(netns: &Path) -> anyhow::Result<()> {
    let netns = netns.to_owned();
    let work = move || {
        let file = std::fs::File::open(&netns).with_context(|| format!("open {}", netns.display()))?;
        super::inside::inside(&file, super::links::loopback_up)
    };
    spawn_blocking(work).await.context("the network's thread panicked")?
}

#[async_trait]
impl PodNetwork for CniNetwork {
    async fn setup(&self, pod: &PodAttachment) -> anyhow::Result<Vec<IpAddr>> {
        self.exclusively(&pod.sandbox_id, self.attach(pod)).await
    }

    async fn teardown(&self, sandbox_id: &str) -> anyhow::Result<()> {
        let work = async {
            match self.records.find(sandbox_id)? {
                Some(attachment) => self.detach(&attachment).await,
                None => Ok(()),
            }
        };
        self.exclusively(sandbox_id, work).await
    }

    async fn collect_garbage(&self, living: &BTreeSet<String>) -> anyhow::Result<()> {
        let _alone = self.operations.write().await;
        let mut errors = Vec::new();
        for attachment in self.records.all()? {
            if attachment.owner == self.owner && !living.contains(&attachment.sandbox_id) {
                errors.extend(self.detach(&attachment).await.err());
            }
        }
        if let Some(list) = config::load(&self.conf_dir)? {
            let of_list = |attachment: &Attachment| attachment.list.name == list.name;
            let real: Vec<Attachment> = self.records.all()?.into_iter().filter(of_list).collect();
            errors.extend(self.tell_what_lives(&list, &real).await.err());
        }
        all_of(&errors)
    }

    async fn set_pod_cidr(&self, pod_cidr: &str) -> anyhow::Result<()> {
        super::pod_range::PodRange::parse(pod_cidr)?;
        *self.pod_cidr.lock().unwrap_or_else(PoisonError::into_inner) = Some(pod_cidr.to_owned());
        Ok(())
    }

    async fn ready(&self) -> Result<(), String> {
        self.status().await.map_err(|error| format!("Network plugin returns error: {error:#}"))
    }

    async fn remove_all(&self) -> anyhow::Result<()> {
        let _alone = self.operations.write().await;
        let mut errors = Vec::new();
        for attachment in self.records.all()? {
            errors.extend(self.detach(&attachment).await.err());
        }
        let script = nft::removal(&self.services_table);
        let removed =
            spawn_blocking(move || nft::apply(&script)).await.context("the thread that runs nft panicked")?;
        errors.extend(removed.err());
        all_of(&errors)
    }
}

#[cfg(test)]
mod tests;
