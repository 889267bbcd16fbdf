//! PullImage: fetches an image from its registry and answers its id. A client that goes away ends the pull.

use crate::engine::core::Core;
use base64::Engine as _;
use knarr_cri::Status;
use knarr_cri::v1::{AuthConfig, PullImageRequest, PullImageResponse};
use knarr_images::{Credentials, Error, ErrorKind, Pull};

pub(crate) async fn call(core: &Core, request: PullImageRequest) -> Result<PullImageResponse, Status> {
    let reference = request.image.map(|image| image.image).unwrap_or_default();
    if reference.is_empty() {
        return Err(Status::invalid_argument("image is required"));
    }
    let credentials = request.auth.map(credentials).transpose()?.flatten();
    let pull = Pull { reference: reference.clone(), credentials, ..Pull::default() };
    match core.images.pull(pull).await {
        Ok(image) => Ok(PullImageResponse { image_ref: image.id }),
        Err(error) => Err(failed(&reference, &error)),
    }
}

/// The code tells a kubelet whether trying again can help.
fn failed(reference: &str, error: &Error) -> Status {
    let message = format!("failed to pull and unpack image {reference:?}: {:#}", chain(error));
    match error.kind() {
        ErrorKind::Invalid => Status::invalid_argument(message),
        ErrorKind::NotFound => Status::not_found(message),
        // Kubelets look for what the policy says at the beginning.
        ErrorKind::Denied => Status::permission_denied(chain(error)),
        ErrorKind::Unauthorized => Status::permission_denied(message),
        ErrorKind::Unavailable => Status::unavailable(message),
        ErrorKind::Unsupported => Status::unimplemented(message),
        _ => Status::unknown(message),
    }
}

/// An error with its causes, unless it tells them itself.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}

/// `auth` is `user:password` in base64, as in Docker's config.json.
fn credentials(auth: AuthConfig) -> Result<Option<Credentials>, Status> {
    if auth == AuthConfig::default() {
        return Ok(None);
    }
    let mut credentials = Credentials {
        registry_token: auth.registry_token,
        identity_token: auth.identity_token,
        ..Credentials::basic(auth.username, auth.password)
    };
    if !auth.auth.is_empty() && credentials.username.is_empty() {
        let bad = || Status::invalid_argument("auth.auth is not user:password in base64");
        let bytes = base64::engine::general_purpose::STANDARD.decode(auth.auth.trim()).map_err(|_| bad())?;
        let text = String::from_utf8(bytes).map_err(|_| bad())?;
        let (user, password) = text.split_once(':').ok_or_else(bad)?;
        credentials.username = user.to_owned();
        credentials.password = password.trim_end_matches('\0').to_owned();
    }
    Ok(Some(credentials))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_style_auth_is_unpacked() {
        let auth = |text: &str| AuthConfig { auth: text.into(), ..AuthConfig::default() };
        let found = credentials(auth("dXNlcjpwYTpzcw==")).unwrap().unwrap();
        assert_eq!((found.username.as_str(), found.password.as_str()), ("user", "pa:ss"));
        assert!(credentials(auth("!")).is_err());
        assert!(credentials(AuthConfig::default()).unwrap().is_none());
    }
}
