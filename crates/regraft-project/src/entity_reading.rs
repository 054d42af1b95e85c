//! Reading `entities/NAME.toml`.

use crate::changes::{Changes, read_changes};
use crate::column::Column;
use crate::column_reading::{check_column_name, read_column, read_entity_name};
use crate::document::{Reading, Table, Value};
use crate::entity::{Entity, EntitySource, EntityTarget, Filter, Key, KeyStrategy, Merge};
use crate::manifest_reading::bad_label;
use crate::name;
use crate::problem::Problem;
use crate::source_files::{FileId, Span, Spanned};
use crate::sql::Sql;
use crate::sql_check;

/// The folder of the entities' files.
pub(crate) const FOLDER: &str = "entities/";

pub(crate) const ROOT_KEYS: &[&str] = &["description", "source", "target", "columns", "changes"];
pub(crate) const SOURCE_KEYS: &[&str] = &["from", "key", "filter", "merge"];
/// The keys of `[source.merge]`.
pub(crate) const MERGE_KEYS: &[&str] = &["name", "by", "when"];
pub(crate) const FILTER_KEYS: &[&str] = &["name", "keep"];
pub(crate) const TARGET_KEYS: &[&str] = &["table", "key", "legacy"];
pub(crate) const KEY_KEYS: &[&str] = &["column", "strategy", "time", "entity", "from"];

/// What was understood of an entity's file. References are checked on drafts too, so that a
/// mistake in one place doesn't hide those in others.
pub(crate) struct Draft {
    pub(crate) name: String,
    file: FileId,
    description: Option<String>,
    source: Option<EntitySource>,
    target: Option<TargetDraft>,
    pub(crate) columns: Vec<Column>,
    changes: Changes,
}

struct TargetDraft {
    table: Option<Spanned<String>>,
    key: Option<KeyDraft>,
    legacy: Option<Spanned<String>>,
}

struct KeyDraft {
    column: Option<Spanned<String>>,
    strategy: Option<KeyStrategy>,
}

impl Draft {
    /// The strategy of the key, if it could be read.
    pub(crate) fn strategy(&self) -> Option<&KeyStrategy> {
        self.target.as_ref()?.key.as_ref()?.strategy.as_ref()
    }

    /// The names of the key column and of the column for the legacy id.
    pub(crate) fn identity(&self) -> Option<(&str, Option<&str>)> {
        let target = self.target.as_ref()?;
        let key = target.key.as_ref()?.column.as_ref()?;
        let legacy = target.legacy.as_ref().map(|legacy| legacy.value.as_str());
        Some((&key.value, legacy))
    }

    /// The entity, when nothing it needs is missing.
    pub(crate) fn finish(self) -> Option<Entity> {
        let target = self.target?;
        let key = target.key?;
        Some(Entity {
            name: self.name,
            file: self.file,
            description: self.description,
            source: self.source?,
            target: EntityTarget {
                table: target.table?,
                key: Key {
                    column: key.column?,
                    strategy: key.strategy?,
                },
                legacy: target.legacy,
            },
            columns: self.columns,
            changes: self.changes,
        })
    }
}

/// Reads the entity `name`. Problems are reported; `None` when its file isn't TOML.
pub(crate) fn read_entity(
    reading: &Reading<'_>,
    name: &str,
    file: FileId,
    text: &str,
) -> Option<Draft> {
    let document = crate::document::parse(reading, file, text)?;
    let what = format!("entity `{name}`");
    let root =
        Table::new(reading, Span::new(file, 0..0), &what, document.get_ref()).knowing(ROOT_KEYS);
    root.reject_unknown(ROOT_KEYS);
    let source = root
        .required("source", "[source] with `from` and `key`")
        .and_then(|value| read_source(&value));
    let target = root
        .required("target", "[target] with `table` and `key`")
        .and_then(|value| read_target(&value));
    let columns = root
        .required("columns", "[columns] with one line for each target column")
        .and_then(|value| value.open_table("[columns]"))
        .map(|table| read_columns(&table))
        .unwrap_or_default();
    let draft = Draft {
        name: name.to_owned(),
        file,
        description: root.string("description").map(|text| text.value),
        source,
        target,
        columns,
        changes: root
            .get("changes")
            .and_then(|value| read_changes(&value))
            .unwrap_or_default(),
    };
    check_double_columns(reading, &draft);
    Some(draft)
}

fn read_columns(table: &Table<'_>) -> Vec<Column> {
    table
        .entries()
        .into_iter()
        .filter_map(|(key, value)| read_column(key, value))
        .collect()
}

fn read_source(value: &Value<'_>) -> Option<EntitySource> {
    let table = value.table("[source]", SOURCE_KEYS)?;
    let from = table
        .required("from", "from = \"legacy_table t\"")
        .and_then(sql_check::from_list);
    let key = table
        .required("key", "key = \"t.id\"")
        .and_then(sql_check::expression)
        .map(|(sql, _)| sql);
    let filters = table
        .get("filter")
        .map(|value| read_filters(&value))
        .unwrap_or_default();
    let merge = table.get("merge").and_then(|value| read_merge(&value));
    Some(EntitySource {
        from: from?,
        key: key?,
        filters,
        merge,
    })
}

fn read_merge(value: &Value<'_>) -> Option<Merge> {
    let table = value.table("[source.merge]", MERGE_KEYS)?;
    let name = table
        .required("name", "name = \"same-address\"")
        .and_then(|v| v.string());
    let by = table.required("by", "by = [\"lower(t.name)\"]")?;
    let by: Vec<Sql> = by
        .array("SQL expressions")?
        .into_iter()
        .filter_map(|item| sql_check::expression(item).map(|(sql, _)| sql))
        .collect();
    let when = table
        .get("when")
        .and_then(sql_check::expression)
        .map(|(sql, _)| sql);
    let name = name?;
    if !name::is_label(&name.value) {
        table
            .reading
            .report(bad_label("merge rule's name", &name.value, name.span));
    }
    if by.is_empty() {
        table.reading.report(
            Problem::error("project::empty-merge", "the merge rule compares nothing")
                .at(name.span)
                .hint("name the expressions under `by` that make rows equal"),
        );
        return None;
    }
    Some(Merge {
        name: name.value,
        by,
        when,
    })
}

fn read_filters(value: &Value<'_>) -> Vec<Filter> {
    let Some(items) = value.array("tables; write [[source.filter]]") else {
        return Vec::new();
    };
    let mut named: Vec<Spanned<String>> = Vec::new();
    let mut filters = Vec::new();
    for item in items {
        let Some(table) = item.table("a [[source.filter]]", FILTER_KEYS) else {
            continue;
        };
        let name = table
            .required("name", "name = \"soft-deleted\"")
            .and_then(|v| v.string());
        let keep = table
            .required("keep", "keep = \"not t.deleted\"")
            .and_then(sql_check::expression)
            .map(|(sql, _)| sql);
        let Some(name) = name else { continue };
        check_filter_name(table.reading, &name, &named);
        named.push(name.clone());
        filters.extend(keep.map(|keep| Filter {
            name: name.value,
            keep,
        }));
    }
    filters
}

fn check_filter_name(reading: &Reading<'_>, name: &Spanned<String>, named: &[Spanned<String>]) {
    if !name::is_label(&name.value) {
        reading.report(bad_label("filter's name", &name.value, name.span));
    }
    if let Some(first) = named.iter().find(|other| *other == name) {
        let line = reading.sources.position(first.span).line;
        reading.report(
            Problem::error(
                "project::duplicate-filter",
                format!("two filters are named `{}`", name.value),
            )
            .at(name.span)
            .label(format!("the first one is in line {line}"))
            .hint("rows are counted under the filter that drops them: give each its own name"),
        );
    }
}

fn read_target(value: &Value<'_>) -> Option<TargetDraft> {
    let table = value.table("[target]", TARGET_KEYS)?;
    let name = table
        .required("table", "table = \"orders\"")
        .and_then(|value| value.string());
    if let Some(name) = &name {
        check_table_name(table.reading, name);
    }
    let key = table
        .required("key", "key = { column = \"id\", strategy = \"uuid_v5\" }")
        .and_then(|value| read_key(&value));
    let legacy = table.string("legacy");
    if let Some(legacy) = &legacy {
        check_column_name(table.reading, legacy);
    }
    Some(TargetDraft {
        table: name,
        key,
        legacy,
    })
}

fn check_table_name(reading: &Reading<'_>, name: &Spanned<String>) {
    let parts: Vec<_> = name.value.split('.').collect();
    let fault = match parts[..] {
        [_] | [_, _] => parts.iter().find_map(|part| name::identifier_fault(part)),
        _ => Some("has more than one dot"),
    };
    if let Some(fault) = fault {
        reading.report(
            Problem::error("project::bad-name", format!("this table name {fault}"))
                .at(name.span)
                .hint("write \"orders\" or \"schema.orders\", without SQL quotes"),
        );
    }
}

/// A strategy: its name, the keys it needs, the keys it may have.
struct Strategy {
    name: &'static str,
    needs: &'static [(&'static str, &'static str)],
    may_have: &'static [&'static str],
}

const STRATEGIES: &[Strategy] = &[
    Strategy {
        name: "uuid_v7",
        needs: &[("time", "time = \"t.created_at\"")],
        may_have: &[],
    },
    Strategy {
        name: "uuid_v5",
        needs: &[],
        may_have: &[],
    },
    Strategy {
        name: "uuid_v4",
        needs: &[],
        may_have: &[],
    },
    Strategy {
        name: "column",
        needs: &[("from", "from = \"t.uid\"")],
        may_have: &[],
    },
    Strategy {
        name: "same_as",
        needs: &[("entity", "entity = \"profiles\"")],
        may_have: &["from"],
    },
];

/// Names of all key strategies.
#[cfg(test)]
pub(crate) fn strategy_names() -> impl Iterator<Item = &'static str> {
    STRATEGIES.iter().map(|strategy| strategy.name)
}

fn read_key(value: &Value<'_>) -> Option<KeyDraft> {
    let table = value.table("the key", KEY_KEYS)?;
    let column = table
        .required("column", "column = \"id\"")
        .and_then(|value| value.string());
    if let Some(column) = &column {
        check_column_name(table.reading, column);
    }
    let strategy = table
        .required(
            "strategy",
            "strategy = \"uuid_v7\", time = \"t.created_at\"",
        )
        .and_then(|value| find_strategy(&value))
        .and_then(|strategy| read_strategy(&table, strategy));
    Some(KeyDraft { column, strategy })
}

fn find_strategy(value: &Value<'_>) -> Option<&'static Strategy> {
    let name = value.string()?;
    let found = STRATEGIES
        .iter()
        .find(|strategy| strategy.name == name.value);
    if found.is_none() {
        let known = STRATEGIES.iter().map(|strategy| strategy.name);
        value.reading.report(
            Problem::error(
                "project::bad-value",
                format!("unknown key strategy `{}`", name.value),
            )
            .at(name.span)
            .label("not known")
            .hint(name::suggestion(&name.value, "strategies", known)),
        );
    }
    found
}

fn read_strategy(table: &Table<'_>, strategy: &Strategy) -> Option<KeyStrategy> {
    reject_foreign_keys(table, strategy);
    for (key, example) in strategy.needs {
        if !table.contains(key) {
            table.reading.report(
                Problem::error(
                    "project::missing-key",
                    format!("strategy `{}` needs `{key}`", strategy.name),
                )
                .at(table.span)
                .label(format!("`{key}` is missing"))
                .hint(format!("add it, like this: {example}")),
            );
        }
    }
    let sql = |key| -> Option<Sql> { Some(sql_check::expression(table.get(key)?)?.0) };
    Some(match strategy.name {
        "uuid_v7" => KeyStrategy::UuidV7 { time: sql("time")? },
        "uuid_v5" => KeyStrategy::UuidV5,
        "uuid_v4" => KeyStrategy::UuidV4,
        "column" => KeyStrategy::Column { from: sql("from")? },
        _ => {
            let from = sql("from");
            KeyStrategy::SameAs {
                entity: read_entity_name(&table.get("entity")?)?,
                from,
            }
        }
    })
}

/// Reports keys that are known, but make no sense with this strategy.
fn reject_foreign_keys(table: &Table<'_>, strategy: &Strategy) {
    for (key, _) in table.entries() {
        let general = ["column", "strategy"].contains(&key.text);
        let own = strategy.needs.iter().any(|(need, _)| *need == key.text)
            || strategy.may_have.contains(&key.text);
        if general || own || !KEY_KEYS.contains(&key.text) {
            continue;
        }
        let takers: Vec<_> = STRATEGIES
            .iter()
            .filter(|other| {
                other.needs.iter().any(|(need, _)| *need == key.text)
                    || other.may_have.contains(&key.text)
            })
            .map(|other| other.name)
            .collect();
        table.reading.report(
            Problem::error(
                "project::unexpected-key",
                format!("strategy `{}` takes no `{}`", strategy.name, key.text),
            )
            .at(key.span)
            .label("has no meaning here")
            .hint(format!(
                "remove it; it goes with {}",
                name::quoted_list(takers)
            )),
        );
    }
}

/// Reports target columns that are written from two places.
fn check_double_columns(reading: &Reading<'_>, draft: &Draft) {
    let Some(target) = &draft.target else { return };
    let key = target.key.as_ref().and_then(|key| key.column.as_ref());
    let legacy = target.legacy.as_ref();
    let double = |second: &Spanned<String>, first: &str| {
        Problem::error(
            "project::duplicate-column",
            format!("column `{}` is written twice", second.value),
        )
        .at(second.span)
        .label(format!("this is the {first} already"))
        .hint("remove one of the two")
    };
    if let (Some(key), Some(legacy)) = (key, legacy)
        && key == legacy
    {
        reading.report(double(legacy, "key column"));
    }
    for column in &draft.columns {
        if Some(&column.name) == key {
            reading.report(double(&column.name, "key column"));
        } else if Some(&column.name) == legacy {
            reading.report(double(&column.name, "column of the legacy id"));
        }
    }
}
