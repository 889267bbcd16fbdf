//! Images through CRI: what is listed, what a name means, pulls with and without credentials from a real registry.
#![allow(clippy::unwrap_used)] // Helpers of tests: a failed expectation ends the test that made it.

use knarr_cri::v1::*;
use knarr_tests::bins;
use knarr_tests::engine::{Engine, IMAGE, container, pod};
use knarr_tests::registry::Registry;
use tonic::Code;

fn spec(image: &str) -> Option<ImageSpec> {
    Some(ImageSpec { image: image.into(), ..Default::default() })
}

async fn status(engine: &mut Engine, image: &str) -> Option<Image> {
    let request = ImageStatusRequest { image: spec(image), verbose: false };
    engine.images.image_status(request).await.unwrap().into_inner().image
}

#[tokio::test]
async fn an_image_has_one_id_under_all_its_names_and_goes_with_any() {
    let mut engine = Engine::start().await;
    engine.import("busybox", "localhost/other:2", &["--user", "1000"]);
    let image = status(&mut engine, IMAGE).await.unwrap();
    assert!(image.size > 0 && image.id.starts_with("sha256:"));
    assert_eq!(status(&mut engine, &image.id).await.unwrap().id, image.id);
    let other = status(&mut engine, "localhost/other:2").await.unwrap();
    assert_eq!((other.uid.unwrap().value, other.username.as_str()), (1000, ""));
    assert!(status(&mut engine, "localhost/never:1").await.is_none(), "no image is no error");
    let listed =
        engine.images.list_images(ListImagesRequest { filter: None }).await.unwrap().into_inner().images;
    assert_eq!(listed.len(), 2);
    engine.images.remove_image(RemoveImageRequest { image: spec(IMAGE) }).await.unwrap();
    assert!(status(&mut engine, &image.id).await.is_none());
    let info = engine.images.image_fs_info(ImageFsInfoRequest {}).await.unwrap().into_inner();
    assert!(info.image_filesystems[0].used_bytes.unwrap().value > 0);
    assert!(!info.container_filesystems.is_empty());
}

#[tokio::test]
async fn a_pull_needs_the_credentials_of_its_registry() {
    let mut engine = Engine::start().await;
    let registry = Registry::with_login(&engine.path("registry"));
    let name = format!("127.0.0.1:{}/app:1", registry.port);
    std::fs::create_dir(engine.path("docker")).unwrap();
    let login =
        format!("{{\"auths\": {{\"127.0.0.1:{}\": {{\"auth\": \"dXNlcjpzZWNyZXQ=\"}}}}}}", registry.port);
    std::fs::write(engine.path("docker/config.json"), login).unwrap();
    let mut push = engine.knarr();
    push.args(["image", "import", "--push", "--cmd", "[\"true\"]"]).arg(engine.path("busybox")).arg(&name);
    bins::run(push.env("DOCKER_CONFIG", engine.path("docker"))).ok();
    engine.images.remove_image(RemoveImageRequest { image: spec(&name) }).await.unwrap();
    let basic = |password: &str| AuthConfig {
        username: "user".into(),
        password: password.into(),
        ..Default::default()
    };
    let encoded = AuthConfig { auth: "dXNlcjpzZWNyZXQ=".into(), ..Default::default() };
    for (auth, works) in
        [(None, false), (Some(basic("wrong")), false), (Some(basic("secret")), true), (Some(encoded), true)]
    {
        let request = PullImageRequest { image: spec(&name), auth: auth.clone(), sandbox_config: None };
        match engine.images.pull_image(request).await {
            Ok(answer) => {
                assert!(works, "{auth:?}");
                let image = status(&mut engine, &name).await.unwrap();
                assert_eq!(image.id, answer.into_inner().image_ref);
                assert_eq!(image.repo_tags, std::slice::from_ref(&name));
                assert_eq!(image.repo_digests.len(), 1);
                engine.images.remove_image(RemoveImageRequest { image: spec(&name) }).await.unwrap();
            }
            Err(error) => {
                assert!(!works, "{auth:?}: {error}");
                assert_eq!(error.code(), Code::PermissionDenied, "{error}");
            }
        }
    }
}

#[tokio::test]
async fn an_image_can_be_a_read_only_volume() {
    let mut engine = Engine::start().await;
    let config = pod(&engine, "pod");
    let pod = engine.run_pod(&config).await.unwrap();
    let volume = |sub_path: &str, readonly: bool| Mount {
        container_path: "/volume".into(),
        image: spec(IMAGE),
        image_sub_path: sub_path.into(),
        readonly,
        ..Default::default()
    };
    let with = |name: &str, mount: Mount| ContainerConfig {
        mounts: vec![mount],
        ..container(name, &["sleep", "1000"])
    };
    let id = engine.run(&pod, &config, with("whole", volume("", true))).await.unwrap();
    assert_eq!(engine.output(&id, "test -x /volume/bin/sh && echo there").await, "there");
    assert_ne!(engine.exec(&id, "touch /volume/new").await.unwrap().exit_code, 0);
    let id = engine.run(&pod, &config, with("part", volume("etc", true))).await.unwrap();
    assert!(engine.output(&id, "cat /volume/passwd").await.contains("root:"));
    for (name, mount) in [("missing", volume("no/such", true)), ("writable", volume("", false))] {
        assert!(engine.create(&pod, &config, with(name, mount)).await.is_err(), "{name}");
    }
}
