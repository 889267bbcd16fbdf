//! Compiles what lies in `proto` with protox, so no protoc has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = protox::compile(["proto/api.proto"], ["proto"])?;
    // Engine records and verbose status show messages as JSON: an absent field takes its default, so records of an
    // older version stay readable.
    tonic_prost_build::configure()
        .message_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]\n#[serde(default)]")
        .compile_fds(descriptors)?;
    for plugins in ["deviceplugin", "pluginregistration", "csi", "podresources"] {
        let descriptors = protox::compile([format!("proto/{plugins}.proto")], ["proto"])?;
        tonic_prost_build::configure().compile_fds(descriptors)?;
    }
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
