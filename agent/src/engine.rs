//! The engine: pods and containers behind the Container Runtime Interface.
//!
//! Read in this order: `records` (what is remembered), `lifecycle` (what is done, in which order), `spec` (what a
//! container is made of), `calls` (what CRI asks), `recover` (what a restart finds). Four seams keep the rest out:
//! the image store, [`network::PodNetwork`], [`monitors::Monitors`] and the OCI runtime, which is a program.
//!
//! The engine holds no container: each pod's monitor does. It may die or be replaced at any moment and the next one
//! finds everything from records on disk, monitors and the kernel.

pub mod additions;
mod blocking;
pub mod build_step;
mod bundle;
mod call_log;
mod calls;
mod cdi;
mod cgroups;
mod changes;
mod checkpoint;
mod core;
pub mod direct;
mod events;
mod exec_process;
mod failures;
mod handler_features;
mod host;
mod idmapped_mount;
mod ids;
mod lifecycle;
mod metrics;
mod mount_sources;
mod net_dev;
mod oci_runtime;
mod paths;
pub mod pod_files;
mod pod_init;
mod pod_namespaces;
mod pod_user;
mod record_store;
mod records;
mod recover;
mod registry;
mod relimit;
mod rootfs_file;
mod self_metrics;
mod serve;
mod service;
mod spec;
mod state_mount;
mod stop_signal;
mod sub_paths;

pub(crate) mod image_store;
pub mod monitors;
pub mod network;
pub mod stream_target;
pub mod streaming;

pub use changes::pods_changed;
pub use serve::{serve, serve_engine, serve_on};

use self::core::Core;
use self::failures::Failures;
use self::lifecycle::{gates, sandboxes};
use self::monitors::{AttachSession, ExecSession, Monitors};
use self::network::PodNetwork;
use self::stream_target::{StreamTarget, StreamUrls};
use crate::config::Config;
use async_trait::async_trait;
use knarr_cri::Status;
use knarr_images::ImageStore;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// All pods of one state directory.
pub struct Engine {
    core: Arc<Core>,
    /// Set once, right after the engine exists: the server knows the engine and the engine the server.
    streaming: OnceLock<Arc<dyn StreamUrls>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("core", &self.core).finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts an engine and recovers what an earlier one left: the same sandboxes, containers and processes.
    pub async fn start(
        config: Arc<Config>,
        images: ImageStore,
        network: Arc<dyn PodNetwork>,
        monitors: Arc<dyn Monitors>,
    ) -> anyhow::Result<Arc<Engine>> {
        let core = blocking::blocking(move || {
            let core = Arc::new(Core::new(config, images, network, monitors)?);
            state_mount::make(&core.paths.state())?;
            Ok(core)
        })
        .await?;
        recover::recover(&core).await?;
        Ok(Arc::new(Engine { core, streaming: OnceLock::new() }))
    }

    /// Gives the engine its streaming server; only the first one counts.
    pub fn set_streaming(&self, server: Arc<dyn StreamUrls>) {
        drop(self.streaming.set(server));
    }

    fn streaming(&self) -> Result<&dyn StreamUrls, Status> {
        self.streaming
            .get()
            .map(Arc::as_ref)
            .ok_or_else(|| Status::unavailable("this engine runs without a streaming server"))
    }

    /// Removes every pod and container this engine made, and what they share. Every error on the way is returned.
    pub async fn remove_all(&self) -> Vec<anyhow::Error> {
        let mut failures = Failures::default();
        let sandboxes = self.core.registry.all_sandboxes();
        let removals = sandboxes.iter().map(|sandbox| async {
            let _gate = gates::of_sandbox(&self.core, sandbox).await;
            sandboxes::remove(&self.core, sandbox).await
        });
        for result in futures_util::future::join_all(removals).await {
            failures.note("removing a pod", result);
        }
        let state = self.core.paths.state();
        failures.note(
            "unmounting the state directory",
            blocking::blocking(move || state_mount::remove(&state)).await,
        );
        failures.into_errors()
    }
}

#[async_trait]
impl StreamTarget for Engine {
    async fn exec_session(
        &self,
        container_id: &str,
        cmd: Vec<String>,
        tty: bool,
        stdin: bool,
    ) -> Result<ExecSession, Status> {
        exec_process::start(&self.core, container_id, cmd, tty, stdin, None).await.map_err(failures::status)
    }

    fn resize_exec(&self, session: &ExecSession, columns: u16, rows: u16) -> anyhow::Result<()> {
        self.core.monitors.resize_exec(session, columns, rows)
    }

    async fn attach_session(&self, container_id: &str) -> Result<AttachSession, Status> {
        let container = self.core.registry.container(container_id)?;
        if container.record.with(|record| record.exit.is_some()) {
            return Err(Status::failed_precondition("container is in CONTAINER_EXITED state"));
        }
        self.core.monitors.attach(&container.sandbox_id, &container.id).await.map_err(failures::status)
    }

    async fn netns_of(&self, sandbox_id: &str) -> Result<Option<PathBuf>, Status> {
        let sandbox = self.core.registry.sandbox(sandbox_id)?;
        let host = sandbox.record.with(|record| record.host_network());
        Ok((!host).then(|| self.core.paths.namespace(&sandbox.id, "net")))
    }
}
