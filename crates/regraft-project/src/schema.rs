//! JSON schemas of the project's files, for editors.

/// JSON schema (draft 2020-12) of `regraft.toml`.
pub fn json_schema_manifest() -> serde_json::Value {
    serde_json::json!({})
}

/// JSON schema (draft 2020-12) of `entities/NAME.toml`.
pub fn json_schema_entity() -> serde_json::Value {
    serde_json::json!({})
}
