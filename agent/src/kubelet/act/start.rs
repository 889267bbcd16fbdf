//! Starts one container: what it refers to, its image, its configuration, create, start, postStart; each step with
//! the reason and the event that a kubelet gives when it fails.

use super::{Batch, Report, sandbox};
use crate::kubelet::container_config::{Inputs, container_config};
use crate::kubelet::env::{self, Sources};
use crate::kubelet::events::Severity;
use crate::kubelet::host::{CALL_DEADLINE, within};
use crate::kubelet::images::{self, ImageFailure, PresentImage};
use crate::kubelet::observed::Sandbox;
use crate::kubelet::references::{self, References};
use crate::kubelet::{hooks, hosts_file, labels, pod, security};
use crate::policies::PATIENCE;
use k8s_openapi::api::core::v1::Container;
use knarr_cri::v1::{
    ContainerConfig, CreateContainerRequest, PodSandboxConfig, StartContainerRequest, StopContainerRequest,
};
use std::collections::BTreeMap;
use std::path::Path;

/// A step that failed: the waiting reason and its message.
struct Failure {
    reason: &'static str,
    message: String,
    /// The image, if it was its pull that failed.
    pull_of: Option<String>,
}

impl Failure {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), pull_of: None }
    }

    fn of_image(failure: ImageFailure, image: Option<&String>) -> Self {
        let pull = matches!(failure.reason, "ErrImagePull" | "SignatureValidationFailed");
        Self { reason: failure.reason, message: failure.message, pull_of: image.filter(|_| pull).cloned() }
    }
}

impl Batch {
    pub(super) async fn start(&self, name: &str, attempt: u32) {
        let Some((_, container)) = pod::find_container(&self.pod, name) else { return };
        let Some(sandbox) = self.observed.ready_sandbox() else { return };
        let started = tokio::select! {
            started = self.try_start(&container, attempt, sandbox) => started,
            () = self.cancel.cancelled() => return,
        };
        match started {
            Ok(id) => self.report(Report::Started { container: container.name, id }),
            Err(failure) => self.start_failed(container, failure),
        }
    }

    fn start_failed(&self, container: Container, failure: Failure) {
        let text = if failure.pull_of.is_some()
            || failure.reason == "ErrImageNeverPull"
            || failure.reason == "InvalidImageName"
        {
            format!("Error: {}", failure.reason)
        } else {
            format!("Error: {}", failure.message)
        };
        // The failure of a hook has an event of its own.
        if failure.reason != "PostStartHookError" {
            self.host.recorder.container(&self.pod, &container.name, Severity::Warning, "Failed", text);
        }
        self.report(Report::StartFailed {
            container: container.name,
            reason: failure.reason.to_string(),
            message: failure.message,
            pull_of: failure.pull_of,
        });
    }

    async fn try_start(
        &self,
        container: &Container,
        attempt: u32,
        sandbox: &Sandbox,
    ) -> Result<String, Failure> {
        let (host, pod) = (&self.host, &self.pod);
        let invalid = |message: String| Failure::new("CreateContainerConfigError", message);
        let references = references::fetch(&*host.objects, pod).await.map_err(invalid)?;
        let (sandbox_config, _) = sandbox::config(host, pod, sandbox.attempt).await;
        let image = images::ensure_image(host, pod, container, &references, &sandbox_config).await;
        let image = image.map_err(|failure| Failure::of_image(failure, container.image.as_ref()))?;
        let volumes = self.image_volumes(container, &references, &sandbox_config).await?;
        let config = self.configure(container, attempt, sandbox, &references, &image, volumes).await;
        let mut config = config.map_err(invalid)?;
        host.devices.equip(pod::uid(pod), container, &mut config).await.map_err(invalid)?;
        self.give_processors(container, &mut config);
        let log = Path::new(&sandbox_config.log_directory).join(&config.log_path);
        // It may have been given other limits since the pod's were written; what stands against them is told by what follows.
        if let Err(error) = self.grow_pod().await {
            tracing::warn!(pod = pod::described(pod), "{error}");
        }
        if attempt > 0 {
            // Refused while another container has more: then it is written with that one's own resize.
            let _later = self.resize_pod().await;
        }
        let id = self.create(container, sandbox, config, sandbox_config).await?;
        self.link_log(container, &id, &log).await;
        host.recorder.container(
            pod,
            &container.name,
            Severity::Normal,
            "Created",
            format!("Created container: {}", container.name),
        );
        self.await_policies(sandbox).await;
        let request = StartContainerRequest { container_id: id.clone() };
        within(CALL_DEADLINE, host.runtime.start_container(request))
            .await
            .map_err(|status| Failure::new("RunContainerError", status.message()))?;
        let text = format!("Started container {}", container.name);
        host.recorder.container(pod, &container.name, Severity::Normal, "Started", text);
        self.post_start(container, &id, sandbox).await?;
        Ok(id)
    }

    /// Who has processors for itself has all of their time: a quota would only hold it up.
    fn give_processors(&self, container: &Container, config: &mut ContainerConfig) {
        let (cpus, uid) = (&self.host.cpus, pod::uid(&self.pod));
        let Some(resources) = config.linux.as_mut().and_then(|linux| linux.resources.as_mut()) else {
            return;
        };
        resources.cpuset_cpus = cpus.of(uid, &container.name);
        if !cpus.alone(uid, &container.name).is_empty() {
            resources.cpu_quota = -1;
            config.annotations.insert(labels::OWN_PROCESSORS.to_string(), "true".to_string());
        }
    }

    /// Nothing of a pod runs before the network policies that select it hold for its addresses. Of a sandbox in which
    /// something has run already, that was so, or was told.
    async fn await_policies(&self, sandbox: &Sandbox) {
        let Some(policies) = &self.host.policies else { return };
        let has_run = self.observed.containers.iter().any(|container| container.sandbox_id == sandbox.id);
        if has_run || policies.covered(pod::uid(&self.pod)).await {
            return;
        }
        let text = format!(
            "The network policies of the pod are not in force after {} s: its containers start without",
            PATIENCE.as_secs()
        );
        tracing::warn!(pod = pod::described(&self.pod), "{text}");
        self.host.recorder.pod(&self.pod, Severity::Warning, "NetworkPolicyNotReady", text);
    }

    async fn configure(
        &self,
        container: &Container,
        attempt: u32,
        sandbox: &Sandbox,
        references: &References,
        image: &PresentImage,
        image_volumes: BTreeMap<String, String>,
    ) -> Result<ContainerConfig, String> {
        let (host, pod) = (&self.host, &self.pod);
        security::check_non_root(pod, container, &image.user)?;
        let facts = host.facts(pod, Some(sandbox));
        if host.is_real() {
            self.write_hosts(&facts.pod_ips).await?;
        }
        let links = pod::spec(pod).enable_service_links.unwrap_or(true);
        let services = env::service_variables(&host.all_services().await?, pod::namespace(pod), links);
        let sources = Sources { pod, facts: &facts, references, services: &services };
        let environment = env::environment(sources, container)?;
        let ephemeral =
            pod::ephemeral_containers(pod).into_iter().find(|(other, _)| other.name == container.name);
        let target =
            ephemeral.and_then(|(_, target)| self.observed.latest(&target?).map(|latest| latest.id.clone()));
        let real = host.is_real();
        let (pod, container, paths) = (pod.clone(), container.clone(), host.paths.clone());
        let (references, image, node_memory) = (references.clone(), image.clone(), host.node_memory);
        let memory_qos = host.memory_qos;
        let (recursive_read_only, seccomp_default) = (host.recursive_read_only, host.seccomp_default);
        let first_id = host.user_namespaces.first_id(pod::uid(&pod));
        let build = move || {
            container_config(Inputs {
                pod: &pod,
                container: &container,
                attempt,
                paths: &paths,
                references: &references,
                image_volumes: &image_volumes,
                environment: &environment,
                image_ref: &image.reference,
                image_user: &image.user,
                target: target.as_deref(),
                node_memory,
                memory_qos,
                recursive_read_only,
                seccomp_default,
                first_id,
                real,
            })
        };
        tokio::task::spawn_blocking(build).await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// For each container anew, as a kubelet does: it may never have been written, or be gone.
    async fn write_hosts(&self, addresses: &[String]) -> Result<(), String> {
        let pod = &self.pod;
        let node_hosts = tokio::fs::read_to_string("/etc/hosts").await.unwrap_or_default();
        let (hostname, domain) = (hosts_file::hostname(pod), &self.host.cluster_domain);
        let text = hosts_file::hosts_file(pod, addresses, &hostname, domain, &node_hosts);
        let file = self.host.paths.hosts_file(pod::uid(pod));
        // Those who read it now never see half of it without need.
        if tokio::fs::read_to_string(&file).await.is_ok_and(|found| found == text) {
            return Ok(());
        }
        tokio::fs::write(&file, text).await.map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Pulls what the container's image volumes show; the reference of each, by the volume's name.
    async fn image_volumes(
        &self,
        container: &Container,
        references: &References,
        sandbox: &PodSandboxConfig,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let mut found = BTreeMap::new();
        for volume in pod::spec(&self.pod).volumes.iter().flatten() {
            let mounted = container.volume_mounts.iter().flatten().any(|mount| mount.name == volume.name);
            let Some(source) = volume.image.as_ref().filter(|_| mounted) else { continue };
            // Without a name: it is the pod's affair, not a container's.
            let wanted = Container {
                image: source.reference.clone(),
                image_pull_policy: source.pull_policy.clone(),
                ..Default::default()
            };
            let image = images::ensure_image(&self.host, &self.pod, &wanted, references, sandbox).await;
            let image = image.map_err(|failure| Failure::of_image(failure, source.reference.as_ref()))?;
            found.insert(volume.name.clone(), image.reference);
        }
        Ok(found)
    }

    async fn create(
        &self,
        container: &Container,
        sandbox: &Sandbox,
        config: ContainerConfig,
        sandbox_config: PodSandboxConfig,
    ) -> Result<String, Failure> {
        let failed = |message: String| Failure::new("CreateContainerError", message);
        if self.host.is_real() {
            let directory = Path::new(&sandbox_config.log_directory).join(&container.name);
            let made = tokio::fs::create_dir_all(&directory).await;
            made.map_err(|error| failed(format!("{}: {error}", directory.display())))?;
        }
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.id.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let created = within(CALL_DEADLINE, self.host.runtime.create_container(request)).await;
        created.map(|answer| answer.container_id).map_err(|status| failed(status.message().to_string()))
    }

    /// `/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log`, where log collectors look.
    async fn link_log(&self, container: &Container, id: &str, log: &Path) {
        if !self.host.is_real() {
            return;
        }
        let link = self.host.paths.log_link(&self.pod, &container.name, id);
        let made = async {
            if let Some(directory) = link.parent() {
                tokio::fs::create_dir_all(directory).await?;
            }
            tokio::fs::symlink(log, &link).await
        };
        if let Err(error) = made.await {
            tracing::debug!("{}: {error}", link.display());
        }
    }

    /// A failing postStart hook ends the container.
    async fn post_start(&self, container: &Container, id: &str, sandbox: &Sandbox) -> Result<(), Failure> {
        let Some(hook) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref())
        else {
            return Ok(());
        };
        let facts = self.host.facts(&self.pod, Some(sandbox));
        let ip = facts.pod_ips.first().cloned().unwrap_or_default();
        let Err(error) = hooks::run(&self.host, hook, &self.pod, container, id, &ip).await else {
            return Ok(());
        };
        let recorder = &self.host.recorder;
        // What a hook says may be secret, and events are read by many.
        let text = "PostStartHook failed";
        recorder.container(&self.pod, &container.name, Severity::Warning, "FailedPostStartHook", text);
        let text = error;
        let grace = pod::grace_period(&self.pod);
        let killing = "FailedPostStartHook".to_string();
        if let Err(error) = self.kill(id, &container.name, &killing, grace).await {
            tracing::warn!("stop after a failed postStart hook: {error}");
            let request = StopContainerRequest { container_id: id.to_string(), timeout: 0 };
            let _ = within(CALL_DEADLINE, self.host.runtime.stop_container(request)).await;
        }
        Err(Failure::new("PostStartHookError", text))
    }
}
