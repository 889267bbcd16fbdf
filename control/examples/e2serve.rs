//! scratch
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let options = knarr_control::Options {
            data_dir: args[1].clone().into(),
            listen: args[2].parse().unwrap(),
            ..Default::default()
        };
        let plane = knarr_control::ControlPlane::start(options).await.unwrap();
        eprintln!("ready");
        tokio::signal::ctrl_c().await.unwrap();
        plane.shutdown().await;
    });
}
