//! An image of several platforms.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{images, run};

/// Writes a blob into a layout; gives its descriptor.
fn put(layout: &Path, media_type: &Value, content: &Value) -> Value {
    let bytes = serde_json::to_vec(content).unwrap();
    let digest = index_format::Digest::of(&bytes).to_string();
    let path = layout.join("blobs").join(digest.replace(':', "/"));
    std::fs::write(path, &bytes).unwrap();
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

fn get(layout: &Path, descriptor: &Value) -> Value {
    let digest = descriptor["digest"].as_str().unwrap();
    let path = layout.join("blobs").join(digest.replace(':', "/"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The zoo image for many platforms, each of the same layers; gives each one's manifest digest.
pub fn for_platforms(layout: &Path, platforms: &[Value]) -> Vec<String> {
    run(Command::new("cp")
        .arg("-r")
        .arg(images::layout("zoo"))
        .arg(layout));
    let index = std::fs::read(layout.join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let original = &index["manifests"][0];
    let mut manifests = Vec::new();
    for platform in platforms {
        let mut manifest = get(layout, original);
        let mut config = get(layout, &manifest["config"]);
        for (key, value) in platform.as_object().unwrap() {
            config[key] = value.clone();
        }
        manifest["config"] = put(layout, &manifest["config"]["mediaType"], &config);
        let mut descriptor = put(layout, &original["mediaType"], &manifest);
        descriptor["platform"] = platform.clone();
        manifests.push(descriptor);
    }
    let media_type = json!("application/vnd.oci.image.index.v1+json");
    let inner = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
    let mut outer = put(layout, &media_type, &inner);
    outer["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    let outer = json!({"schemaVersion": 2, "manifests": [outer]});
    std::fs::write(layout.join("index.json"), outer.to_string()).unwrap();
    let digest = |descriptor: &Value| descriptor["digest"].as_str().unwrap().to_owned();
    manifests.iter().map(digest).collect()
}
