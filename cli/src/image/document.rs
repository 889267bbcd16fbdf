//! Everything known about an image, as an object of `docker image inspect`.

use super::listed::created;
use super::names;
use knarr_images::{Image, ImageStore, Inspect};
use serde_json::{Map, Value, json};

/// Fields of an image's config that every image has, set or not.
const TEXTS: [&str; 2] = ["User", "WorkingDir"];
const LISTS: [&str; 4] = ["Env", "Cmd", "Entrypoint", "OnBuild"];
const OBJECTS: [&str; 3] = ["Labels", "Volumes", "ExposedPorts"];

/// The object; Docker's fields first, then what only we (and podman) tell.
pub(crate) fn of(store: &ImageStore, image: &Image) -> anyhow::Result<Value> {
    let found = store.inspect(image)?;
    let config = &found.config;
    let text = |key: &str| config[key].as_str().unwrap_or_default();
    let short = |names: &[String]| names.iter().map(|name| names::short(name)).collect::<Vec<_>>().into();
    let (tags, digests): (Value, Value) = (short(&image.tags), short(&image.digests));
    let diff_ids: Vec<&str> = found.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let last = config["history"].as_array().and_then(|history| history.last());
    let mut document = json!({
        "Id": image.id,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Parent": "",
        "Comment": last.and_then(|step| step["comment"].as_str()).unwrap_or_default(),
        "Created": created(config).map(|time| time.to_string()),
        "Author": text("author"),
        "Config": settings(&config["config"]),
        "Architecture": text("architecture"),
        "Os": text("os"),
        "Size": found.layers.iter().map(|layer| layer.unpacked.0).sum::<u64>(),
        "GraphDriver": {"Name": "overlay", "Data": Value::Null},
        "RootFS": {"Type": "layers", "Layers": diff_ids},
        "Descriptor": {
            "mediaType": media_type(&found), "digest": found.manifest_digest,
            "size": found.manifest_size,
        },
    });
    if config["variant"].is_string() {
        document["Variant"] = config["variant"].clone();
    }
    document["Digest"] = json!(found.manifest_digest);
    document["Pinned"] = json!(image.pinned);
    document["History"] = config["history"].clone();
    document["Layers"] = layers(&found);
    Ok(document)
}

fn media_type(found: &Inspect) -> &str {
    found.manifest["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json")
}

fn layers(found: &Inspect) -> Value {
    let layers = found.layers.iter().map(|layer| {
        json!({
            "Digest": layer.digest, "DiffID": layer.diff_id, "Size": layer.size,
            "Unpacked": {"Bytes": layer.unpacked.0, "Inodes": layer.unpacked.1},
        })
    });
    layers.collect()
}

/// What containers of the image are like, with the fields that are not set.
fn settings(config: &Value) -> Value {
    let mut settings = config.as_object().cloned().unwrap_or_default();
    let mut missing = |names: &[&str], empty: Value| {
        for name in names {
            settings.entry(*name).or_insert_with(|| empty.clone());
        }
    };
    missing(&TEXTS, json!(""));
    missing(&LISTS, Value::Null);
    missing(&OBJECTS, Value::Null);
    Value::Object(settings)
}

/// The same for templates, which print a list or an object that is not there as an empty one.
pub(crate) fn for_template(mut document: Value) -> Value {
    if let Some(config) = document["Config"].as_object_mut() {
        fill(config);
    }
    document
}

fn fill(config: &mut Map<String, Value>) {
    for (names, empty) in [(&LISTS[..], json!([])), (&OBJECTS[..], json!({}))] {
        for name in names {
            if config.get(*name).is_some_and(Value::is_null) {
                config.insert((*name).to_owned(), empty.clone());
            }
        }
    }
}
