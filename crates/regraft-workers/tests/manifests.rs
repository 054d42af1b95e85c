//! The manifests for Kubernetes hold what its API takes, and nothing that it would not know.

use std::fs;
use std::path::Path;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn manifests() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes");
    let mut found: Vec<_> = fs::read_dir(folder)
        .expect("the manifests are there")
        .map(|entry| {
            let path = entry.expect("the folder can be read").path();
            let text = fs::read_to_string(&path).expect("a manifest can be read");
            (path.display().to_string(), text)
        })
        .collect();
    found.sort();
    found
}

/// A field that the API doesn't know is lost on the way through its type.
fn survives<T: DeserializeOwned + Serialize>(name: &str, text: &str, written: &Value) {
    let typed: T = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let kept = serde_json::to_value(&typed).expect("an object of the API can be written");
    assert_eq!(&kept, written, "{name}");
}

#[test]
fn every_manifest_is_what_the_api_takes() {
    let manifests = manifests();
    assert_eq!(manifests.len(), 3, "{manifests:?}");
    for (name, text) in &manifests {
        let written: Value =
            serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        match written["kind"].as_str() {
            Some("Job") => survives::<Job>(name, text, &written),
            Some("Secret") => survives::<Secret>(name, text, &written),
            other => panic!("{name}: no check for {other:?}"),
        }
    }
}

#[test]
fn a_field_that_the_api_does_not_know_is_noticed() {
    let text = "apiVersion: batch/v1\nkind: Job\nspec:\n  paralellism: 4\n  template: {}\n";
    let written: Value = serde_saphyr::from_str(text).expect("it is YAML");
    let noticed = std::panic::catch_unwind(|| survives::<Job>("misspelt", text, &written));
    assert!(noticed.is_err());
}
