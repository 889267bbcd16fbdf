//! Makes the ground a pod stands on: volumes, cgroup, log directory, then the sandbox.

use super::{Batch, Report};
use crate::kubelet::events::Severity;
use crate::kubelet::host::{Host, rpc_error, within};
use crate::kubelet::sandbox_config::sandbox_config;
use crate::kubelet::volumes::{self, VolumeError, VolumeInputs};
use crate::kubelet::{dns, hosts_file, pod};
use k8s_openapi::api::core::v1::Pod;
use knarr_cri::v1::{PodSandboxConfig, RunPodSandboxRequest};
use std::sync::Arc;
use std::time::Duration;

/// A network plugin may take its time.
const SANDBOX_DEADLINE: Duration = Duration::from_secs(240);

/// The sandbox's configuration on this node, and whether the cluster lacks the name server that the pod wants.
pub(super) async fn config(host: &Host, pod: &Pod, attempt: u32) -> (PodSandboxConfig, bool) {
    let resolv_conf = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default();
    let cluster = host.cluster_dns();
    let sources = dns::DnsSources { host: &resolv_conf, cluster: &cluster, domain: &host.cluster_domain };
    let (dns, missing) = dns::resolv_conf(pod, sources);
    let first_id = host.user_namespaces.first_id(pod::uid(pod));
    let mut config = sandbox_config(pod, attempt, &host.paths, dns, &host.cgroup_root, first_id);
    // One that is too long was refused before there was a sandbox.
    if let (false, Ok(name)) = (config.hostname.is_empty(), hosts_file::node_name(pod, &host.cluster_domain))
    {
        config.hostname = name;
    }
    (config, missing)
}

impl Batch {
    pub(super) async fn create_sandbox(&self, attempt: u32) -> Result<(), String> {
        if self.host.is_real() {
            let made = tokio::select! {
                made = self.set_up_volumes() => made,
                // A volume that hangs must not hold the end of its pod.
                () = self.cancel.cancelled() => Err("the pod ends before its volumes are made".to_string()),
            };
            if let Err(error) = made {
                self.report(Report::SandboxFailed { by_volumes: true });
                return Err(error);
            }
        }
        let created = self.try_create_sandbox(attempt).await;
        self.report(match created {
            Ok(()) => Report::SandboxCreated,
            Err(_) => Report::SandboxFailed { by_volumes: false },
        });
        created
    }

    async fn try_create_sandbox(&self, attempt: u32) -> Result<(), String> {
        let (host, pod) = (&self.host, &self.pod);
        if attempt > 0 {
            let text = "Pod sandbox changed, it will be killed and re-created.";
            host.recorder.pod(pod, Severity::Normal, "SandboxChanged", text);
        }
        if let Err(error) = hosts_file::node_name(pod, &host.cluster_domain) {
            return self.sandbox_event(format!("Failed to create pod sandbox: {error}"));
        }
        if host.is_real() {
            self.prepare_directories().await?;
        }
        let (config, missing_dns) = config(host, pod, attempt).await;
        if missing_dns {
            let text = format!(
                "pod: \"{}\". kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" policy. Falling back to \"Default\" policy.",
                pod::described(pod)
            );
            host.recorder.pod(pod, Severity::Warning, "MissingClusterDNS", text);
        }
        let runtime_handler = self.runtime_handler().await?;
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler };
        match within(SANDBOX_DEADLINE, host.runtime.run_pod_sandbox(request)).await {
            Ok(_) => Ok(()),
            Err(status) => {
                self.sandbox_event(format!("Failed to create pod sandbox: {}", rpc_error(&status)))
            }
        }
    }

    fn sandbox_event(&self, message: String) -> Result<(), String> {
        self.host.recorder.pod(&self.pod, Severity::Warning, "FailedCreatePodSandBox", message.clone());
        Err(message)
    }

    async fn set_up_volumes(&self) -> Result<(), String> {
        let made = make_volumes(&self.host, &self.pod).await;
        made.map_err(|error| mount_failed(&self.host, &self.pod, error))
    }

    async fn prepare_directories(&self) -> Result<(), String> {
        let (host, pod) = (self.host.clone(), self.pod.clone());
        let made = tokio::task::spawn_blocking(move || prepare_directories(&host, &pod)).await;
        match made.map_err(|error| error.to_string()) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => self.sandbox_event(format!("Failed to create pod sandbox: {error}")),
            Err(error) => Err(error),
        }
    }

    /// The handler that the pod's RuntimeClass names; the default one without a class.
    async fn runtime_handler(&self) -> Result<String, String> {
        let class = pod::spec(&self.pod).runtime_class_name.as_deref().unwrap_or_default();
        if class.is_empty() {
            return Ok(String::new());
        }
        let Some(client) = self.host.client.clone() else { return Ok(class.to_string()) };
        let classes: kube::Api<k8s_openapi::api::node::v1::RuntimeClass> = kube::Api::all(client);
        match classes.get(class).await {
            Ok(class) => Ok(class.handler),
            Err(error) => {
                self.sandbox_event(format!(
                    "Failed to create pod sandbox: RuntimeClass \"{class}\": {error}"
                ))?;
                Ok(String::new())
            }
        }
    }
}

async fn make_volumes(host: &Host, pod: &Arc<Pod>) -> Result<(), VolumeError> {
    let inputs = VolumeInputs::gather(host, pod, None).await?;
    host.csi.publish_all(host, &inputs).await?;
    volumes::mount_all(&inputs).await?;
    host.iscsi.attach_all(host, &inputs).await?;
    let made = tokio::task::spawn_blocking(move || volumes::set_up(&inputs)).await;
    made.unwrap_or_else(|error| Err(VolumeError { volume: None, message: error.to_string() }))
}

/// Tells about a volume that could not be made or refreshed; answers the bare reason.
pub fn mount_failed(host: &Host, pod: &Pod, error: VolumeError) -> String {
    let text = match &error.volume {
        Some(volume) if error.is_of_claim() => format!(
            "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], failed to process volumes=[{volume}]: {}",
            error.message
        ),
        Some(volume) => format!("MountVolume.SetUp failed for volume \"{volume}\" : {}", error.message),
        None => error.message.clone(),
    };
    host.recorder.pod(pod, Severity::Warning, "FailedMount", text);
    error.message
}

fn prepare_directories(host: &Host, pod: &Pod) -> std::io::Result<()> {
    std::fs::create_dir_all(host.paths.pod(pod::uid(pod)))?;
    if pod::spec(pod).host_users == Some(false) {
        host.user_namespaces.reserve(pod::uid(pod)).map_err(std::io::Error::other)?;
    }
    std::fs::create_dir_all(host.paths.logs(pod))?;
    host.make_pod_cgroup(pod)
}
