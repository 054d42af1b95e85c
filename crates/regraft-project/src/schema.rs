//! JSON schemas of the project's files, for editors.
//!
//! The types here are shapes: they exist for their schema and their docstrings, which editors
//! show. Reading goes another way (see `document`), and a test keeps the keys of both the same.

#![expect(dead_code, reason = "the fields are read by the derive alone")]

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, json_schema};
use serde_json::Value;

/// JSON schema (draft 2020-12) of `regraft.toml`.
pub fn json_schema_manifest() -> Value {
    schema_of::<ManifestFile>()
}

/// JSON schema (draft 2020-12) of `entities/NAME.toml`.
pub fn json_schema_entity() -> Value {
    schema_of::<EntityFile>()
}

/// JSON schema (draft 2020-12) of `queries/NAME.toml`.
pub fn json_schema_queries() -> Value {
    schema_of::<QueriesFile>()
}

/// JSON schema (draft 2020-12) of `invariants/NAME.toml`.
pub fn json_schema_invariants() -> Value {
    schema_of::<InvariantsFile>()
}

fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(drop_null));
    settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

/// An optional key may be left out; TOML knows no null to set it to.
fn drop_null(schema: &mut Schema) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|one| one != "null");
        if let [one] = &types[..] {
            let one = one.clone();
            schema.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(options)) = schema.get("anyOf")
        && let [Value::Object(option), null] = &options[..]
        && null["type"] == "null"
    {
        let option = option.clone();
        schema.remove("anyOf");
        schema.extend(option);
    }
    if schema.get("default") == Some(&Value::Null) {
        schema.remove("default");
    }
}

/// A constant: a string, integer, float or boolean.
fn scalar(_: &mut schemars::SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "integer", "number", "boolean"] })
}

/// The manifest of a regraft project.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "regraft.toml")]
struct ManifestFile {
    /// Version of the project format.
    #[schemars(range(min = 1, max = 1))]
    version: u32,
    /// Name of the project.
    #[schemars(regex(pattern = "^[a-z][a-z0-9_-]*$"))]
    name: String,
    /// What the migration is about.
    description: Option<String>,
    source: Option<SourceTable>,
    target: Option<TargetTable>,
    limits: Option<LimitsTable>,
    run: Option<RunTable>,
    validation: Option<ValidationTable>,
    /// Named lists of entities and other groups. `all` is built in: every entity.
    groups: Option<BTreeMap<String, Vec<String>>>,
}

/// What the demo builds the legacy database from.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct SourceTable {
    /// SQL files that create the legacy schema, in order.
    schema: Option<Vec<String>>,
    /// SQL files that fill it with made-up rows, in order.
    generator: Option<Vec<String>>,
}

/// The target as a whole.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct TargetTable {
    /// SQL files that create the target schema, in order; they name tables without a schema.
    schema: Option<Vec<String>>,
    /// PostgreSQL schema the target tables live in. Default: "public".
    namespace: Option<String>,
}

/// What a run may leave behind and still be a success.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct LimitsTable {
    /// Rows of an entity that may be in quarantine or blocked before `migrate` ends with exit
    /// code 1: a count (100) or a percentage of its source rows ("0.5%"). Default: 0.
    quarantine: Option<Quarantine>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum Quarantine {
    /// A number of rows.
    Rows(u64),
    /// A percentage of the entity's source rows.
    Percentage(#[schemars(regex(pattern = "^[0-9]+(\\.[0-9]+)? *%$"))] String),
}

/// Defaults for how a run works.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct RunTable {
    /// Source rows per batch. The environment variable BATCH_SIZE and --batch-size override it.
    #[schemars(range(min = 1, max = 1_000_000))]
    batch_size: Option<u32>,
    /// Batches moved at the same time.
    #[schemars(range(min = 1, max = 64))]
    workers: Option<u32>,
}

/// What becomes of the results of validations.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ValidationTable {
    /// How long results are kept in the ledger; older ones are deleted when a validation is stored.
    /// Default: "90 days".
    #[schemars(regex(pattern = "^[0-9]+ days?$"))]
    keep: Option<String>,
}

/// A mapping from a source query to one target table. Its name is the file's.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "entities/NAME.toml")]
struct EntityFile {
    /// What the entity is about.
    description: Option<String>,
    source: EntitySourceTable,
    target: EntityTargetTable,
    /// The target columns and where their values come from.
    columns: BTreeMap<String, ColumnRule>,
    /// How later changes are carried over by `differential`.
    changes: Option<ChangesTable>,
}

/// Who wins where both sides have changed, and what becomes of rows that the source has no more.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ChangesTable {
    /// Who wins. Default: what the command says, or else "manual".
    conflicts: Option<PolicyName>,
    /// Who wins in single columns.
    columns: Option<BTreeMap<String, PolicyName>>,
    /// What tells which side was changed later, for "newest".
    newest: Option<NewestTable>,
    /// Expression on the source that grows with every change of a row, such as "t.updated_at": a
    /// shortcut, so that only rows from some value on have to be looked at. All are looked at once a
    /// day all the same.
    cursor: Option<String>,
    /// What becomes of rows that the source has no more. Default: what the command says, or else
    /// "mirror".
    deletes: Option<DeletesName>,
    /// How a row is marked as deleted, for "soft".
    deleted: Option<DeletedTable>,
}

/// Who wins.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "the schema is all that is made of it")]
enum PolicyName {
    SourceWins,
    TargetWins,
    Newest,
    Manual,
}

/// What becomes of rows that the source has no more.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "the schema is all that is made of it")]
enum DeletesName {
    Mirror,
    Soft,
    Ignore,
}

/// The times that tell which side was changed later.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct NewestTable {
    /// SQL expression on the source.
    source: String,
    /// Column of the target.
    target: String,
}

/// What marks a row of the target as deleted.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct DeletedTable {
    /// The column, which the project doesn't map; a row is not marked while it is NULL or false.
    column: String,
    /// SQL expression on the target for the mark.
    value: String,
}

/// Where the rows come from.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct EntitySourceTable {
    /// A FROM list; the aliases in it are used by all expressions of the file.
    from: String,
    /// SQL expression for the legacy id, unique over `from`; an integer, text or uuid.
    key: String,
    /// Conditions on the rows. What they drop is counted under their names; a row that several
    /// would drop counts for the first.
    filter: Option<Vec<FilterTable>>,
    /// Rows that are one row of the target.
    merge: Option<MergeTable>,
}

/// Rows that are equal are moved as one, the one with the lowest legacy id; the legacy ids of the
/// others are mapped to its key, and they are counted as merged.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct MergeTable {
    /// The name merged rows are counted under.
    #[schemars(regex(pattern = "^[a-z][a-z0-9_-]*$"))]
    name: String,
    /// SQL expressions: rows are equal when all of them are; NULL equals NULL.
    #[schemars(length(min = 1))]
    by: Vec<String>,
    /// SQL condition: only rows for which it is true are merged.
    when: Option<String>,
}

/// A named condition.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct FilterTable {
    /// The name dropped rows are counted under.
    #[schemars(regex(pattern = "^[a-z][a-z0-9_-]*$"))]
    name: String,
    /// SQL condition: a row is kept only when it is true (NULL drops the row).
    keep: String,
}

/// Where the rows go.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct EntityTargetTable {
    /// `table` or `schema.table`.
    table: String,
    key: KeyTable,
    /// Column that receives the legacy id.
    legacy: Option<String>,
}

/// The key column and how keys come about.
#[derive(JsonSchema)]
#[schemars(tag = "strategy", rename_all = "snake_case", deny_unknown_fields)]
enum KeyTable {
    /// Derived from the legacy id and ordered by a time: the choice for rows that have one.
    UuidV7 {
        /// The key column.
        column: String,
        /// SQL expression for the time.
        time: String,
    },
    /// Derived from the legacy id alone.
    UuidV5 {
        /// The key column.
        column: String,
    },
    /// Random; the mapping is stored.
    UuidV4 {
        /// The key column.
        column: String,
    },
    /// Read from the source.
    Column {
        /// The key column.
        column: String,
        /// SQL expression for the key (uuid or text).
        from: String,
    },
    /// The same key as a row of another entity.
    SameAs {
        /// The key column.
        column: String,
        /// The other entity.
        entity: String,
        /// SQL expression for the legacy id over there. Default: the source's key.
        from: Option<String>,
    },
}

/// Where a column's value comes from.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum ColumnRule {
    /// An SQL expression on the source: `alias.column` is copied, anything else derived.
    Expression(String),
    Sql(SqlRule),
    Value(ValueRule),
    Map(MapRule),
    Json(JsonRule),
    Parse(ParseRule),
    Ref(RefRule),
    RefBy(RefByRule),
}

/// An SQL expression with its provenance stated.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct SqlRule {
    /// SQL expression on the source.
    sql: String,
    provenance: Option<StatedProvenance>,
}

/// Where the value comes from. Synthesised values are counted apart.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum StatedProvenance {
    Copied,
    Derived,
    Defaulted,
    Synthesised,
}

/// A constant.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ValueRule {
    /// The constant.
    #[schemars(schema_with = "scalar")]
    value: String,
}

/// A source value translated by a table of values.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct MapRule {
    /// SQL expression for the source value.
    from: String,
    map: Cases,
    /// What NULL becomes. Default: NULL.
    #[schemars(schema_with = "scalar", default)]
    null: Option<String>,
    /// What a value that is not in the map becomes. Default: such rows are quarantined.
    #[schemars(schema_with = "scalar", default)]
    otherwise: Option<String>,
}

/// Source value (in its text form) and target value; at least one.
#[derive(JsonSchema)]
#[schemars(transparent, extend("minProperties" = 1))]
struct Cases(BTreeMap<String, CaseValue>);

/// A string, integer, float or boolean.
#[derive(JsonSchema)]
#[schemars(transparent)]
struct CaseValue(#[schemars(schema_with = "scalar")] String);

/// A JSON object built from SQL expressions.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct JsonRule {
    /// Names of the object's fields and what they hold.
    json: BTreeMap<String, JsonFieldValue>,
}

/// What a field of a JSON object holds.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum JsonFieldValue {
    /// An SQL expression.
    Sql(String),
    /// An object in the object.
    Object(BTreeMap<String, JsonFieldValue>),
}

/// A source text that holds JSON.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ParseRule {
    /// SQL expression for the text.
    parse: String,
    /// What to do with text that is not JSON. Default: "quarantine".
    bad: Option<Bad>,
    /// What to do with empty text: "null" (default), "quarantine", or the JSON text to use.
    empty: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum Bad {
    Word(Word),
    KeepAs(KeepAs),
}

/// Keep the text in an object.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct KeepAs {
    /// The name of the object's only field, which holds the text.
    keep_as: String,
}

/// Quarantine the row, or use NULL.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Word {
    Quarantine,
    Null,
}

/// The key of a row of another entity.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct RefRule {
    /// The other entity.
    #[schemars(rename = "ref")]
    entity: String,
    /// SQL expression for the legacy id over there; NULL gives NULL.
    from: String,
    missing: Option<MissingRule>,
}

/// The key of a row of one of several entities.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct RefByRule {
    /// SQL expression for the value that tells which entity is meant.
    ref_by: String,
    /// That value (in its text form) and the entity it stands for; at least one.
    #[schemars(extend("minProperties" = 1))]
    cases: BTreeMap<String, String>,
    /// SQL expression for the legacy id over there; NULL gives NULL.
    from: String,
    missing: Option<MissingRule>,
}

/// What to do when there is no such row. Default: "quarantine".
#[derive(JsonSchema)]
#[schemars(untagged)]
enum MissingRule {
    Word(Word),
    Default(MissingDefault),
}

/// Use a constant instead.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct MissingDefault {
    /// The constant.
    #[schemars(schema_with = "scalar")]
    default: String,
}

/// Queries that the new database has to answer in time. Each table is one; its name is the table's.
#[derive(JsonSchema)]
#[schemars(transparent, title = "queries/NAME.toml")]
struct QueriesFile(BTreeMap<String, QueryTable>);

/// A query that the users of the new database wait for.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct QueryTable {
    /// What it is for.
    description: Option<String>,
    /// The query, for the modern database.
    sql: String,
    /// How long it may take: "50 ms", "1.5 s".
    #[schemars(regex(pattern = "^[0-9.]+ *m?s$"))]
    limit: String,
}

/// Figures that must be the same in both databases. Each table is one invariant; its name is the
/// table's.
#[derive(JsonSchema)]
#[schemars(transparent, title = "invariants/NAME.toml")]
struct InvariantsFile(BTreeMap<String, InvariantTable>);

#[derive(JsonSchema)]
#[schemars(untagged)]
enum InvariantTable {
    Entity(EntityInvariant),
    Queries(QueriesInvariant),
}

/// Figures over the rows of an entity that were moved, written once on the target's columns.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct EntityInvariant {
    /// What it is about.
    description: Option<String>,
    /// The entity.
    entity: String,
    /// SQL expressions on the target's columns that rows are grouped by. A reference stands for the
    /// legacy id it leads to. Default: one group of all rows.
    by: Option<OneOrMore>,
    /// SQL aggregates on the target's columns.
    measure: OneOrMore,
    tolerance: Option<ToleranceValue>,
}

/// A query for each side; `{moved:ENTITY}` stands for the rows of an entity that were moved.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct QueriesInvariant {
    /// What it is about.
    description: Option<String>,
    /// The query of the legacy database.
    source: String,
    /// The query of the modern database, with as many columns.
    target: String,
    /// How many of the first columns are the group's key. Default: all but the last.
    #[schemars(range(max = 100))]
    keys: Option<u32>,
    /// Entities it is about, besides those that the queries name.
    entities: Option<Vec<String>>,
    tolerance: Option<ToleranceValue>,
}

/// One SQL expression, or several.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum OneOrMore {
    One(String),
    Several(Vec<String>),
}

/// How far the figures may be apart: a number, or a percentage of the source's ("0.5%"). Default:
/// not at all.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum ToleranceValue {
    Number(f64),
    Text(#[schemars(regex(pattern = "^[0-9]+(\\.[0-9]+)? *%?$"))] String),
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{column_reading, entity_reading, invariant_reading, manifest_reading};

    /// Follows `$ref`.
    fn resolve<'a>(root: &'a Value, mut node: &'a Value) -> &'a Value {
        while let Some(path) = node.get("$ref").and_then(Value::as_str) {
            node = root
                .pointer(path.trim_start_matches('#'))
                .expect("a definition");
        }
        node
    }

    fn keys(node: &Value) -> BTreeSet<&str> {
        assert_eq!(node["additionalProperties"], false, "{node}");
        node["properties"]
            .as_object()
            .expect("properties")
            .keys()
            .map(String::as_str)
            .collect()
    }

    fn set<'a>(keys: &[&'a str]) -> BTreeSet<&'a str> {
        keys.iter().copied().collect()
    }

    #[test]
    fn the_manifests_schema_has_the_keys_that_are_read() {
        let schema = json_schema_manifest();
        assert_eq!(
            schema["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
        assert_eq!(keys(&schema), set(manifest_reading::ROOT_KEYS));
        for (table, known) in [
            ("source", manifest_reading::SOURCE_KEYS),
            ("target", manifest_reading::TARGET_KEYS),
            ("limits", manifest_reading::LIMITS_KEYS),
            ("run", manifest_reading::RUN_KEYS),
            ("validation", manifest_reading::VALIDATION_KEYS),
        ] {
            assert_eq!(
                keys(resolve(&schema, &schema["properties"][table])),
                set(known)
            );
        }
        assert_eq!(schema["required"], serde_json::json!(["version", "name"]));
    }

    #[test]
    fn the_entitys_schema_has_the_keys_that_are_read() {
        let schema = json_schema_entity();
        assert_eq!(keys(&schema), set(entity_reading::ROOT_KEYS));
        let source = resolve(&schema, &schema["properties"]["source"]);
        assert_eq!(keys(source), set(entity_reading::SOURCE_KEYS));
        let filter = resolve(&schema, &source["properties"]["filter"]["items"]);
        assert_eq!(keys(filter), set(entity_reading::FILTER_KEYS));
        let merge = resolve(&schema, &source["properties"]["merge"]);
        assert_eq!(keys(merge), set(entity_reading::MERGE_KEYS));
        let changes = resolve(&schema, &schema["properties"]["changes"]);
        assert_eq!(keys(changes), set(crate::changes::CHANGES_KEYS));
        let newest = resolve(&schema, &changes["properties"]["newest"]);
        assert_eq!(keys(newest), set(crate::changes::NEWEST_KEYS));
        let deleted = resolve(&schema, &changes["properties"]["deleted"]);
        assert_eq!(keys(deleted), set(crate::changes::DELETED_KEYS));
        let target = resolve(&schema, &schema["properties"]["target"]);
        assert_eq!(keys(target), set(entity_reading::TARGET_KEYS));
    }

    #[test]
    fn the_queries_schema_has_the_keys_that_are_read() {
        let schema = json_schema_queries();
        let table = resolve(&schema, &schema["additionalProperties"]);
        assert_eq!(keys(table), set(crate::query::KEYS));
    }

    #[test]
    fn the_invariants_schema_has_the_keys_that_are_read() {
        let schema = json_schema_invariants();
        let table = resolve(&schema, &schema["additionalProperties"]);
        let forms = table["anyOf"].as_array().expect("forms").iter();
        let forms: Vec<_> = forms.map(|form| keys(resolve(&schema, form))).collect();
        assert_eq!(
            forms,
            [
                set(invariant_reading::ENTITY_KEYS),
                set(invariant_reading::QUERIES_KEYS)
            ]
        );
    }

    #[test]
    fn the_keys_schema_knows_all_strategies() {
        let schema = json_schema_entity();
        let target = resolve(&schema, &schema["properties"]["target"]);
        let key = resolve(&schema, &target["properties"]["key"]);
        let variants = key["oneOf"]
            .as_array()
            .expect("one schema for each strategy");
        let strategies: Vec<_> = variants
            .iter()
            .map(|v| v["properties"]["strategy"]["const"].as_str())
            .collect();
        let known: Vec<_> = entity_reading::strategy_names().map(Some).collect();
        assert_eq!(strategies, known);
        let all: BTreeSet<_> = variants.iter().flat_map(keys).collect();
        assert_eq!(all, set(entity_reading::KEY_KEYS));
    }

    #[test]
    fn the_columns_schema_knows_all_forms() {
        let schema = json_schema_entity();
        let columns = resolve(&schema, &schema["properties"]["columns"]);
        let rule = resolve(&schema, &columns["additionalProperties"]);
        let mut options = rule["anyOf"].as_array().expect("forms").iter();
        assert_eq!(options.next().expect("a form")["type"], "string");
        let forms: Vec<_> = options.map(|form| keys(resolve(&schema, form))).collect();
        let known: Vec<_> = column_reading::forms().map(|(_, keys)| set(keys)).collect();
        assert_eq!(forms, known);
    }

    /// Whether a schema allows null, or an object in it does.
    fn allows_null(node: &Value) -> bool {
        match node {
            Value::Object(fields) => {
                fields.get("type").is_some_and(|types| match types {
                    Value::Array(types) => types.iter().any(|one| one == "null"),
                    one => one == "null",
                }) || fields.values().any(allows_null)
            }
            Value::Array(items) => items.iter().any(allows_null),
            node => node.is_null(),
        }
    }

    #[test]
    fn nothing_can_be_null() {
        assert!(!allows_null(&json_schema_manifest()));
        assert!(!allows_null(&json_schema_entity()));
        assert!(!allows_null(&json_schema_invariants()));
        assert!(!allows_null(&json_schema_queries()));
    }

    #[test]
    fn maps_need_a_value() {
        let schema = json_schema_entity();
        assert_eq!(schema["$defs"]["Cases"]["minProperties"], 1);
        assert_eq!(
            schema["$defs"]["RefByRule"]["properties"]["cases"]["minProperties"],
            1
        );
    }
}
