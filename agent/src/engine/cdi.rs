//! Container Device Interface: what a device vendor wants done to a container that gets one of its devices, read from
//! files that vendors install.
//!
//! A device is named `vendor.com/class=name`. `/var/run/cdi` (written by drivers as they start) goes before `/etc/cdi`
//! (written by the administrator at leisure), unless the configuration says otherwise. The files are read at each creation
//! that asks for a device: drivers change them at any time. Kubelets before 1.28 ask in annotations.

mod edits;
mod file;

use edits::ContainerEdits;
use file::CdiFile;
use knarr_cri::Status;
use knarr_cri::v1::ContainerConfig;
use knarr_runtime::spec::Spec;
use std::path::PathBuf;

/// Annotations that name devices begin so.
const ANNOTATION: &str = "cdi.k8s.io/";

/// Gives a container the devices that its configuration names, from files of these directories, of which the last is the
/// most important. Blocking.
pub(crate) fn inject(
    spec: &mut Spec,
    config: &ContainerConfig,
    directories: &[PathBuf],
) -> Result<(), Status> {
    let devices = wanted(config);
    if devices.is_empty() {
        return Ok(());
    }
    let places: Vec<Vec<CdiFile>> = directories.iter().rev().map(|place| file::read_all(place)).collect();
    inject_from(spec, &devices, &places)
}

/// Each device once: a kubelet may ask both ways.
fn wanted(config: &ContainerConfig) -> Vec<&str> {
    let asked = config.cdi_devices.iter().map(|device| device.name.as_str());
    let mut annotations: Vec<_> =
        config.annotations.iter().filter(|(key, _)| key.starts_with(ANNOTATION)).collect();
    annotations.sort();
    let annotated = annotations.into_iter().flat_map(|(_, names)| names.split(','));
    let mut names = Vec::new();
    for name in asked.chain(annotated) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn inject_from(spec: &mut Spec, devices: &[&str], places: &[Vec<CdiFile>]) -> Result<(), Status> {
    let mut found: Vec<(&CdiFile, &ContainerEdits)> = Vec::new();
    let mut missing = Vec::new();
    for device in devices {
        match find(device, places)? {
            Some(hit) => found.push(hit),
            None => missing.push(*device),
        }
    }
    if !missing.is_empty() {
        return Err(Status::not_found(format!(
            "CDI device injection failed: unresolvable CDI devices {}",
            missing.join(", ")
        )));
    }
    let mut applied: Vec<*const CdiFile> = Vec::new();
    for (file, edits) in found {
        // What a file asks for all of its devices is done once.
        if !applied.contains(&std::ptr::from_ref(file)) {
            applied.push(file);
            file.container_edits.apply(spec)?;
        }
        edits.apply(spec)?;
    }
    Ok(())
}

/// The file that defines a device, and the device's own edits.
fn find<'a>(
    name: &str,
    places: &'a [Vec<CdiFile>],
) -> Result<Option<(&'a CdiFile, &'a ContainerEdits)>, Status> {
    let Some((kind, device)) = name.split_once('=').filter(|(kind, _)| kind.contains('/')) else {
        return Err(Status::invalid_argument(format!(
            "CDI device {name:?} is not a qualified name (vendor/class=device)"
        )));
    };
    for place in places {
        let of_kind = place.iter().filter(|file| file.kind == kind);
        let hits: Vec<_> = of_kind
            .flat_map(|file| file.devices.iter().map(move |known| (file, known)))
            .filter(|(_, known)| known.name == device)
            .collect();
        match hits.as_slice() {
            [] => {}
            [(file, device)] => return Ok(Some((file, &device.container_edits))),
            _ => {
                return Err(Status::failed_precondition(format!(
                    "CDI device {name:?} is defined more than once"
                )));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file(device: &str, env: &str) -> CdiFile {
        serde_json::from_value(json!({
            "cdiVersion": "0.6.0",
            "kind": "vendor.com/gpu",
            "devices": [{"name": device, "containerEdits": {"env": [format!("DEVICE={device}")]}}],
            "containerEdits": {"env": [format!("COMMON={env}")]},
        }))
        .unwrap()
    }

    fn ask(names: &[&str], places: &[Vec<CdiFile>]) -> Result<Vec<String>, Status> {
        let mut spec = Spec { process: Some(Default::default()), ..Spec::default() };
        inject_from(&mut spec, names, places)?;
        Ok(spec.process.unwrap().env)
    }

    #[test]
    fn the_first_place_that_has_a_device_wins() {
        let places = [vec![file("a", "run")], vec![file("a", "etc"), file("b", "etc")]];
        assert_eq!(ask(&["vendor.com/gpu=a"], &places).unwrap(), ["COMMON=run", "DEVICE=a"]);
        assert_eq!(ask(&["vendor.com/gpu=b"], &places).unwrap(), ["COMMON=etc", "DEVICE=b"]);
    }

    #[test]
    fn devices_are_asked_for_in_two_ways_and_given_once() {
        let device = |name: &str| knarr_cri::v1::CdiDevice { name: name.into() };
        let mut config = ContainerConfig { cdi_devices: vec![device("v/c=a")], ..Default::default() };
        config.annotations.insert("cdi.k8s.io/plugin_2".into(), "v/c=d".into());
        config.annotations.insert("cdi.k8s.io/plugin_1".into(), "v/c=b,v/c=a".into());
        config.annotations.insert("other".into(), "v/c=x".into());
        assert_eq!(wanted(&config), ["v/c=a", "v/c=b", "v/c=d"]);
    }

    #[test]
    fn what_cannot_be_found_or_is_ambiguous_is_named() {
        let places = [vec![file("a", "1"), file("a", "2")]];
        let message = |name: &str| ask(&[name], &places).unwrap_err().message().to_owned();
        assert!(message("vendor.com/gpu=x").contains("unresolvable CDI devices vendor.com/gpu=x"));
        assert!(message("vendor.com/gpu=a").contains("more than once"));
        assert!(message("a").contains("not a qualified name"));
    }
}
