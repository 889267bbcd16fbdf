//! What is mounted into a container.

use super::lab::{self, Lab};
use knarr_cri::v1::*;
use std::path::Path;

fn mount(container_path: &str, host_path: &Path, readonly: bool) -> Mount {
    Mount {
        container_path: container_path.into(),
        host_path: host_path.display().to_string(),
        readonly,
        ..Default::default()
    }
}

fn with_mounts(lab: &Lab, name: &str, script: &str, mounts: Vec<Mount>) -> ContainerConfig {
    ContainerConfig { mounts, ..lab.container(name, &["sh", "-c", script]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn host_paths_are_bound_links_followed_and_missing_ones_refused() {
    lab::with(async |lab| {
        let pod = lab.run_pod(lab.pod("volumes")).await.unwrap();
        let (real, link) = (lab.path("real"), lab.path("link"));
        std::fs::create_dir(&real).unwrap();
        std::fs::write(real.join("file"), "content\n").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let mounts = vec![mount("/data", &link, false), mount("/fixed", &real, true)];
        let script =
            "cat /data/file; echo new > /data/made; (echo x > /fixed/no) 2>/dev/null || echo refused";
        let config = with_mounts(&lab, "volume", script, mounts);
        let output = lab.output(&pod, config).await;
        assert!(output.starts_with("content\n") && output.ends_with("refused\n"), "{output}");
        assert_eq!(std::fs::read_to_string(real.join("made")).unwrap(), "new\n");
        let missing = with_mounts(&lab, "missing", "true", vec![mount("/data", &lab.path("none"), false)]);
        let error = lab.create(&pod, missing).await.unwrap_err();
        assert!(error.message().contains("none"), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recursive_read_only_covers_what_is_mounted_below() {
    lab::with(async |lab| {
        let pod = lab.run_pod(lab.pod("rro")).await.unwrap();
        let outer = lab.path("outer");
        std::fs::create_dir_all(outer.join("inner")).unwrap();
        let inner = outer.join("inner");
        rustix::mount::mount("tmpfs", &inner, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        let script = "echo x > /v/inner/file && echo written || echo refused";
        let plain = mount("/v", &outer, true);
        let recursive = Mount { recursive_read_only: true, ..plain.clone() };
        let plain = lab.output(&pod, with_mounts(&lab, "plain", script, vec![plain])).await;
        let recursive = lab.output(&pod, with_mounts(&lab, "recursive", script, vec![recursive])).await;
        rustix::mount::unmount(&inner, rustix::mount::UnmountFlags::DETACH).unwrap();
        assert!(plain.contains("written"), "{plain}");
        assert!(recursive.contains("refused"), "{recursive}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_can_be_a_volume() {
    lab::with(async |lab| {
        let pod = lab.run_pod(lab.pod("image-volume")).await.unwrap();
        let volume = |sub_path: &str, readonly| Mount {
            container_path: "/image".into(),
            image: Some(ImageSpec { image: lab::IMAGE.into(), ..Default::default() }),
            image_sub_path: sub_path.into(),
            readonly,
            ..Default::default()
        };
        let script = "ls /image; touch /image/x || echo refused";
        let whole = with_mounts(&lab, "whole", script, vec![volume("", true)]);
        let output = lab.output(&pod, whole).await;
        assert!(output.contains("etc\n") && output.contains("refused"), "{output}");
        let part = with_mounts(&lab, "part", script, vec![volume("etc", true)]);
        assert!(lab.output(&pod, part).await.contains("passwd\n"));
        for (sub_path, readonly, words) in
            [("no/such", true, "does not exist"), ("../..", true, "'..'"), ("", false, "readonly")]
        {
            let config = with_mounts(&lab, "bad", "true", vec![volume(sub_path, readonly)]);
            let error = lab.create(&pod, config).await.unwrap_err();
            assert!(error.message().contains(words), "{error}");
        }
    })
    .await;
}
