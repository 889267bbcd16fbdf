//! Images for containers: pull policy, credentials, and the events that tell about it.

mod credentials;

use crate::kubelet::events::Severity;
use crate::kubelet::host::{CALL_DEADLINE, Host, rpc_error, within};
use crate::kubelet::pod;
use crate::kubelet::references::References;
use crate::kubelet::security::ImageUser;
use k8s_openapi::api::core::v1::{Container, Pod};
use knarr_cri::v1::{Image, ImageSpec, ImageStatusRequest, PodSandboxConfig, PullImageRequest};
use knarr_images::Reference;
use std::time::{Duration, Instant};

/// A whole pull may take this long; a stalled one must end some day.
const PULL_DEADLINE: Duration = Duration::from_secs(3600);

/// An image that is there.
#[derive(Debug, Clone)]
pub struct PresentImage {
    /// What the runtime calls it.
    pub reference: String,
    /// Who its processes run as.
    pub user: ImageUser,
}

/// Why a container has no image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFailure {
    /// `ErrImagePull`, `ErrImageNeverPull`, `InvalidImageName`, `ImageInspectError`.
    pub reason: &'static str,
    #[allow(missing_docs)]
    pub message: String,
}

/// The name with `:latest` where it has neither tag nor digest; `None` when it is no image name.
fn with_tag(image: &str) -> Option<String> {
    Reference::parse(image).ok()?;
    let last = image.rsplit('/').next().unwrap_or_default();
    let tagged = image.contains('@') || last.contains(':');
    Some(if tagged { image.to_string() } else { format!("{image}:latest") })
}

/// `imagePullPolicy`, with the API's default: Always for `:latest`.
fn policy<'a>(container: &'a Container, image: &str) -> &'a str {
    match container.image_pull_policy.as_deref() {
        Some(policy) if !policy.is_empty() => policy,
        _ if image.ends_with(":latest") => "Always",
        _ => "IfNotPresent",
    }
}

/// Makes sure that the container's image is on the node, pulling it if its policy says so.
pub async fn ensure_image(
    host: &Host,
    pod: &Pod,
    container: &Container,
    references: &References,
    sandbox: &PodSandboxConfig,
) -> Result<PresentImage, ImageFailure> {
    let given = container.image.as_deref().unwrap_or_default();
    let event = |severity, reason, text: String| tell(host, pod, container, severity, reason, text);
    let Some(image) = with_tag(given) else {
        let message = format!(
            "Failed to apply default image tag \"{given}\": couldn't parse image name \"{given}\": invalid reference format"
        );
        event(Severity::Warning, "InspectFailed", message.clone());
        return Err(ImageFailure { reason: "InvalidImageName", message });
    };
    let spec = ImageSpec { image, user_specified_image: given.to_string(), ..Default::default() };
    let present = inspect(host, &spec).await.map_err(|status| {
        let message = format!("Failed to inspect image \"{given}\": {status}");
        event(Severity::Warning, "InspectFailed", message.clone());
        ImageFailure { reason: "ImageInspectError", message }
    })?;
    match (policy(container, &spec.image), present) {
        ("Never", None) => {
            let message = format!("Container image \"{given}\" is not present with pull policy of Never");
            event(Severity::Warning, "ErrImageNeverPull", message.clone());
            Err(ImageFailure { reason: "ErrImageNeverPull", message })
        }
        ("Never" | "IfNotPresent", Some(image)) => {
            event(
                Severity::Normal,
                "Pulled",
                format!("Container image \"{given}\" already present on machine"),
            );
            Ok(present_image(image))
        }
        _ => pull(host, pod, container, references, sandbox, spec).await,
    }
}

/// About the container, or about the pod where the image is a volume's.
fn tell(
    host: &Host,
    pod: &Pod,
    container: &Container,
    severity: Severity,
    reason: &'static str,
    text: String,
) {
    match container.name.as_str() {
        "" => host.recorder.pod(pod, severity, reason, text),
        name => host.recorder.container(pod, name, severity, reason, text),
    }
}

async fn inspect(host: &Host, spec: &ImageSpec) -> Result<Option<Image>, String> {
    let request = ImageStatusRequest { image: Some(spec.clone()), verbose: false };
    let answer = within(CALL_DEADLINE, host.images.image_status(request)).await;
    answer.map(|answer| answer.image).map_err(|status| rpc_error(&status))
}

fn present_image(image: Image) -> PresentImage {
    let user = ImageUser { uid: image.uid.map(|uid| uid.value), name: image.username };
    PresentImage { reference: image.id, user }
}

async fn pull(
    host: &Host,
    pod: &Pod,
    container: &Container,
    references: &References,
    sandbox: &PodSandboxConfig,
    spec: ImageSpec,
) -> Result<PresentImage, ImageFailure> {
    let given = container.image.as_deref().unwrap_or_default();
    let event = |severity, reason, text: String| tell(host, pod, container, severity, reason, text);
    event(Severity::Normal, "Pulling", format!("Pulling image \"{given}\""));
    let asked = Instant::now();
    let failed = |message: String| {
        event(Severity::Warning, "Failed", format!("Failed to pull image \"{given}\": {message}"));
        let unsigned = message.contains("SignatureValidationFailed");
        let reason = if unsigned { "SignatureValidationFailed" } else { "ErrImagePull" };
        ImageFailure { reason, message }
    };
    let _permit = host.pulls.acquire().await.map_err(|error| failed(error.to_string()))?;
    let begun = Instant::now();
    let secrets = pod::spec(pod).image_pull_secrets.iter().flatten();
    let secrets = secrets.filter_map(|secret| references.secrets.get(&secret.name));
    let mut attempts: Vec<_> = credentials::for_image(secrets, &spec.image).into_iter().map(Some).collect();
    if attempts.is_empty() {
        attempts.push(None);
    }
    let mut last = Ok(String::new());
    for auth in attempts {
        let request =
            PullImageRequest { image: Some(spec.clone()), auth, sandbox_config: Some(sandbox.clone()) };
        last = within(PULL_DEADLINE, host.images.pull_image(request)).await.map(|answer| answer.image_ref);
        if last.is_ok() {
            break;
        }
    }
    let reference = last.map_err(|status| failed(rpc_error(&status)))?;
    let by_reference = ImageSpec { image: reference.clone(), ..Default::default() };
    let image = inspect(host, &by_reference).await.ok().flatten();
    let size = image.as_ref().map_or(0, |image| image.size);
    event(
        Severity::Normal,
        "Pulled",
        format!(
            "Successfully pulled image \"{given}\" in {} ({} including waiting). Image size: {size} bytes.",
            go_duration(begun.elapsed()),
            go_duration(asked.elapsed())
        ),
    );
    Ok(image.map_or(PresentImage { reference, user: ImageUser::default() }, present_image))
}

/// Milliseconds as Go prints them: `85ms`, `1.234s`, `2m3.5s`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    if milliseconds < 1000 {
        return format!("{milliseconds}ms");
    }
    let (minutes, rest) = (milliseconds / 60_000, milliseconds % 60_000);
    let seconds = format!("{}.{:03}", rest / 1000, rest % 1000);
    let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
    if minutes == 0 { format!("{seconds}s") } else { format!("{minutes}m{seconds}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_a_tag_or_are_refused() {
        let digested = "x@sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4";
        for (image, expected) in [
            ("busybox", Some("busybox:latest")),
            ("a.b:5000/x/y", Some("a.b:5000/x/y:latest")),
            ("a.b:5000/x:1", Some("a.b:5000/x:1")),
            (digested, Some(digested)),
            ("x@sha256:ab", None),
            ("a//b", None),
            ("", None),
            ("UPPER", None),
            ("a b", None),
            ("x/", None),
        ] {
            assert_eq!(with_tag(image).as_deref(), expected, "{image}");
        }
    }

    #[test]
    fn durations_as_go_prints_them() {
        for (milliseconds, expected) in [(85, "85ms"), (1200, "1.2s"), (2000, "2s"), (123_500, "2m3.5s")] {
            assert_eq!(go_duration(Duration::from_millis(milliseconds)), expected);
        }
    }
}
