//! `knarr build --call`, `--check`: what a Dockerfile can be asked for without building it, in buildx' words.

use super::build_findings::{check_document, check_text};
use super::build_outline::{outline_document, outline_text, targets_document, targets_text};
use super::config_of;
use crate::args::Build as Arguments;
use crate::output;
use anyhow::{anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use knarr_images::{BaseConfigs, Build, BuildRequest, ImageStore, check_dockerfile};
use std::process::ExitCode;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Check,
    Outline,
    Targets,
}

/// A question, and how it is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    method: Method,
    json: bool,
    ignore_status: bool,
}

impl Call {
    /// `--check`, or `--call METHOD[,format=json][,ignorestatus=BOOL]`; nothing where it is a build.
    pub(super) fn of(arguments: &Arguments) -> anyhow::Result<Option<Self>> {
        if arguments.check {
            return Ok(Some(Self { method: Method::Check, json: false, ignore_status: false }));
        }
        Self::parse(&arguments.call)
    }

    fn parse(text: &str) -> anyhow::Result<Option<Self>> {
        let (mut name, mut json, mut ignore_status) = (None, false, false);
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("format", format)) => json = format == "json",
                Some(("ignorestatus", value)) => {
                    ignore_status =
                        value.parse().map_err(|_| anyhow!("invalid ignorestatus print value: {value}"))?;
                }
                Some(_) => bail!("invalid print field: {field}"),
                None if name.is_some() => bail!("invalid print value: {text}"),
                None => name = Some(field),
            }
        }
        let method = match name.unwrap_or_default() {
            "" | "build" => return Ok(None),
            "check" | "lint" => Method::Check,
            "outline" => Method::Outline,
            "targets" => Method::Targets,
            other => bail!("unsupported method {other:?}: check, outline or targets"),
        };
        Ok(Some(Self { method, json, ignore_status }))
    }

    /// Answers it. A check that found something has failed.
    pub(super) async fn answer(self, store: &ImageStore, request: BuildRequest) -> anyhow::Result<ExitCode> {
        if self.method == Method::Check {
            return self.check(store, request).await;
        }
        let text = STANDARD.encode(&request.dockerfile);
        let build = Build::plan(request)?;
        match (self.method, self.json) {
            (Method::Outline, true) => output::json(&outline_document(&build.outline(), &text))?,
            (Method::Outline, false) => output::raw(&outline_text(&build.outline())),
            (_, true) => output::json(&targets_document(&build.targets(), &text))?,
            (_, false) => output::raw(&targets_text(&build.targets())),
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn check(self, store: &ImageStore, request: BuildRequest) -> anyhow::Result<ExitCode> {
        let (mut bases, mut failed) = (BaseConfigs::new(), None);
        match Build::plan(request.clone()) {
            Ok(build) => {
                for base in build.bases(request.target.is_none()) {
                    let platform = base.1.clone().unwrap_or_else(|| build.platform());
                    match config_of(store, &base.0, &platform).await {
                        Ok(config) => drop(bases.insert(base, config)),
                        Err(error) => failed = failed.or(Some(format!("{error:#}"))),
                    }
                }
            }
            Err(error) => failed = Some(error.to_string()),
        }
        let findings = check_dockerfile(&request, &bases, true)?;
        let failed = failed.or(findings.violation());
        if self.json {
            output::json(&check_document(&findings, &request, failed.as_deref()))?;
        } else {
            output::raw(&check_text(&findings, &request, failed.is_some()));
        }
        match failed {
            Some(error) if !self.json => Err(anyhow!(error)),
            failed if self.ignore_status || (findings.list.is_empty() && failed.is_none()) => {
                Ok(ExitCode::SUCCESS)
            }
            _ => Ok(ExitCode::FAILURE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked() {
        let call = |method, json, ignore_status| Some(Call { method, json, ignore_status });
        assert_eq!(Call::parse("build").unwrap(), None);
        assert_eq!(Call::parse("check").unwrap(), call(Method::Check, false, false));
        assert_eq!(Call::parse("lint,format=json").unwrap(), call(Method::Check, true, false));
        assert_eq!(Call::parse("outline,ignorestatus=true").unwrap(), call(Method::Outline, false, true));
        for wrong in ["nope", "check,targets", "check,x=y", "check,ignorestatus=perhaps"] {
            assert!(Call::parse(wrong).is_err(), "{wrong}");
        }
    }
}
