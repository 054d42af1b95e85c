//! Reading a column's rule: a string, or a table whose leading key tells the form.

use crate::column::{BadJson, Column, EmptyJson, JsonField, JsonObject, Missing, Provenance, Rule};
use crate::document::{KeyName, Reading, Table, Value};
use crate::name;
use crate::problem::Problem;
use crate::source_files::Spanned;
use crate::sql_check;

/// Deeper JSON objects are a mistake, and reading them is recursive.
const MAX_JSON_DEPTH: usize = 32;

/// A form of a column written as a table.
struct Form {
    /// The key that tells the form.
    leading: &'static str,
    /// All keys of the form.
    keys: &'static [&'static str],
    read: for<'a> fn(&Table<'a>, Value<'a>) -> Option<(Rule, Provenance)>,
}

const FORMS: &[Form] = &[
    Form {
        leading: "sql",
        keys: &["sql", "provenance"],
        read: read_sql,
    },
    Form {
        leading: "value",
        keys: &["value"],
        read: read_value,
    },
    Form {
        leading: "map",
        keys: &["from", "map", "null", "otherwise"],
        read: read_map,
    },
    Form {
        leading: "json",
        keys: &["json"],
        read: read_json,
    },
    Form {
        leading: "parse",
        keys: &["parse", "bad", "empty"],
        read: read_parse,
    },
    Form {
        leading: "ref",
        keys: &["ref", "from", "missing"],
        read: read_ref,
    },
    Form {
        leading: "ref_by",
        keys: &["ref_by", "cases", "from", "missing"],
        read: read_ref_by,
    },
];

/// Keys of each form of a column, the leading one first in its list's name.
#[cfg(test)]
pub(crate) fn forms() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    FORMS.iter().map(|form| (form.leading, form.keys))
}

/// Reads one entry of `[columns]`. Problems are reported; `None` when no rule is left.
pub(crate) fn read_column(key: KeyName<'_>, value: Value<'_>) -> Option<Column> {
    check_column_name(value.reading, &key.spanned());
    let (rule, provenance) = if value.is_string() {
        let (sql, bare_column) = sql_check::expression(value)?;
        (Rule::Sql(sql), sql_provenance(bare_column))
    } else if value.is_table() {
        read_table(key, value)?
    } else {
        value.reading.report(
            value
                .wrong_type("an SQL expression or a table")
                .hint(format!(
                    "for a constant write {} = {{ value = ... }}",
                    key.text
                )),
        );
        return None;
    };
    Some(Column {
        name: key.spanned(),
        rule,
        provenance,
        span: value.span,
    })
}

/// Reports a target column that can't have this name.
pub(crate) fn check_column_name(reading: &Reading<'_>, name: &Spanned<String>) {
    if let Some(fault) = name::identifier_fault(&name.value) {
        reading.report(
            Problem::error("project::bad-name", format!("a column name {fault}")).at(name.span),
        );
    }
}

fn sql_provenance(bare_column: bool) -> Provenance {
    if bare_column {
        Provenance::Copied
    } else {
        Provenance::Derived
    }
}

fn read_table(key: KeyName<'_>, value: Value<'_>) -> Option<(Rule, Provenance)> {
    let table = value.open_table(&format!("column `{}`", key.text))?;
    let present: Vec<&Form> = FORMS
        .iter()
        .filter(|form| table.contains(form.leading))
        .collect();
    let form = match present[..] {
        [form] => form,
        [] => {
            report_formless(&table);
            return None;
        }
        [first, second, ..] => {
            table.reading.report(
                Problem::error(
                    "project::two-rules",
                    format!(
                        "column `{}` has both `{}` and `{}`",
                        key.text, first.leading, second.leading
                    ),
                )
                .at(value.span)
                .hint("a column has one rule; keep one of them"),
            );
            return None;
        }
    };
    let table = table.knowing(form.keys);
    report_unknown(&table, form);
    (form.read)(&table, table.get(form.leading)?)
}

/// A table without a key that tells its form.
fn report_formless(table: &Table<'_>) {
    let leading: Vec<_> = FORMS.iter().map(|form| form.leading).collect();
    let every: Vec<_> = FORMS.iter().flat_map(|form| form.keys).copied().collect();
    let mut mistyped = false;
    for (key, _) in table
        .entries()
        .iter()
        .filter(|(key, _)| !every.contains(&key.text))
    {
        mistyped |= name::nearest(key.text, leading.iter().copied()).is_some();
        table.reading.report(table.unknown_key(*key, &every));
    }
    if !mistyped {
        table.reading.report(
            Problem::error("project::missing-key", "this column has no rule")
                .at(table.span)
                .label("no key here tells where the value comes from")
                .hint(format!("add one of {}", name::quoted_list(leading))),
        );
    }
}

fn report_unknown(table: &Table<'_>, form: &Form) {
    for (key, _) in table.entries() {
        if form.keys.contains(&key.text) {
            continue;
        }
        let problem = table.unknown_key(key, form.keys);
        let elsewhere = FORMS.iter().find(|other| other.keys.contains(&key.text));
        table.reading.report(match elsewhere {
            Some(other) => problem.label(format!(
                "goes with `{}`, not with `{}`",
                other.leading, form.leading
            )),
            None => problem,
        });
    }
}

fn read_sql(table: &Table<'_>, value: Value<'_>) -> Option<(Rule, Provenance)> {
    let stated = table.get("provenance").and_then(read_provenance);
    let (sql, bare_column) = sql_check::expression(value)?;
    Some((
        Rule::Sql(sql),
        stated.unwrap_or_else(|| sql_provenance(bare_column)),
    ))
}

/// Provenances that can be stated; the others follow from a rule's form.
const STATED: &[(&str, Provenance)] = &[
    ("copied", Provenance::Copied),
    ("derived", Provenance::Derived),
    ("defaulted", Provenance::Defaulted),
    ("heuristic", Provenance::Heuristic),
    ("synthesised", Provenance::Synthesised),
];

fn read_provenance(value: Value<'_>) -> Option<Provenance> {
    let text = value.string()?;
    let found = STATED.iter().find(|(name, _)| *name == text.value);
    if found.is_none() {
        let known = STATED.iter().map(|(name, _)| *name);
        value.reading.report(
            Problem::error(
                "project::bad-value",
                format!("unknown provenance `{}`", text.value),
            )
            .at(text.span)
            .hint(name::suggestion(&text.value, "provenances", known)),
        );
    }
    found.map(|(_, provenance)| *provenance)
}

fn read_value(_: &Table<'_>, value: Value<'_>) -> Option<(Rule, Provenance)> {
    Some((Rule::Value(value.scalar()?), Provenance::Defaulted))
}

fn read_map(table: &Table<'_>, value: Value<'_>) -> Option<(Rule, Provenance)> {
    let null = table.get("null").and_then(|value| value.scalar());
    let otherwise = table.get("otherwise").and_then(|value| value.scalar());
    let map = read_cases(value, "map", |value| value.scalar());
    let from = read_from(table, "\"i.status\"");
    Some((
        Rule::Map {
            from: from?,
            map: map?,
            null,
            otherwise,
        },
        Provenance::Mapped,
    ))
}

/// A table of values, at least one.
fn read_cases(
    value: Value<'_>,
    what: &str,
    read: fn(&Value<'_>) -> Option<Spanned<String>>,
) -> Option<Vec<(Spanned<String>, Spanned<String>)>> {
    let table = value.open_table(&format!("`{what}`"))?;
    if table.is_empty() {
        value.reading.report(
            Problem::error("project::empty-map", format!("`{what}` is empty"))
                .at(value.span)
                .label("no value is named here")
                .hint(format!("write at least one: {what} = {{ 0 = \"...\" }}")),
        );
    }
    let mut cases = Vec::new();
    for (key, value) in table.entries() {
        if value.is_table() {
            value.reading.report(
                Problem::error(
                    "project::wrong-type",
                    format!("`{}` is a table here", key.text),
                )
                .at(key.span)
                .label("TOML reads a dot in a key as a table in a table")
                .hint("put keys with a dot in quotes: \"1.5\" = ..."),
            );
        } else if let Some(to) = read(&value) {
            cases.push((key.spanned(), to));
        }
    }
    Some(cases)
}

fn read_from(table: &Table<'_>, example: &str) -> Option<crate::sql::Sql> {
    let value = table.required("from", &format!("from = {example}"))?;
    Some(sql_check::expression(value)?.0)
}

fn read_json(_: &Table<'_>, value: Value<'_>) -> Option<(Rule, Provenance)> {
    Some((Rule::Json(read_object(value, 0)?), Provenance::Derived))
}

fn read_object(value: Value<'_>, depth: usize) -> Option<JsonObject> {
    if depth > MAX_JSON_DEPTH {
        value.reading.report(
            Problem::error("project::bad-value", "this JSON object is nested too deep")
                .at(value.span),
        );
        return None;
    }
    let table = value.open_table(&format!("`{}`", value.key))?;
    let mut fields = Vec::new();
    for (key, value) in table.entries() {
        let field = if value.is_table() {
            read_object(value, depth + 1).map(JsonField::Object)
        } else if value.is_string() {
            sql_check::expression(value).map(|(sql, _)| JsonField::Sql(sql))
        } else {
            value.reading.report(
                value
                    .wrong_type("an SQL expression or a table of them")
                    .hint("put a constant in quotes: it is an SQL expression, too"),
            );
            None
        };
        if key.text.contains('\0') {
            value.reading.report(
                Problem::error(
                    "project::bad-name",
                    "PostgreSQL's JSON can't hold a NUL character",
                )
                .at(key.span),
            );
        }
        fields.extend(field.map(|field| (key.text.to_owned(), field)));
    }
    Some(JsonObject { fields })
}

fn read_parse(table: &Table<'_>, value: Value<'_>) -> Option<(Rule, Provenance)> {
    let bad = table.get("bad").map_or(Some(BadJson::Quarantine), read_bad);
    let empty = table.get("empty").map_or(Some(EmptyJson::Null), read_empty);
    let (from, _) = sql_check::expression(value)?;
    Some((
        Rule::Parse {
            from,
            bad: bad?,
            empty: empty?,
        },
        Provenance::Derived,
    ))
}

fn read_bad(value: Value<'_>) -> Option<BadJson> {
    const FORMS: &str = "\"quarantine\", \"null\" or { keep_as = \"raw\" }";
    if value.is_table() {
        let table = value.table("`bad`", &["keep_as"])?;
        let name = table
            .required("keep_as", "bad = { keep_as = \"raw\" }")?
            .string()?;
        return Some(BadJson::KeepAs(name.value));
    }
    match choice(value, FORMS)?.value.as_str() {
        "quarantine" => Some(BadJson::Quarantine),
        "null" => Some(BadJson::Null),
        other => report_choice(value, other, &["quarantine", "null"], FORMS),
    }
}

fn read_empty(value: Value<'_>) -> Option<EmptyJson> {
    const FORMS: &str = "\"null\", \"quarantine\" or JSON text such as \"{}\"";
    match choice(value, FORMS)?.value.as_str() {
        "null" => Some(EmptyJson::Null),
        "quarantine" => Some(EmptyJson::Quarantine),
        text if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => {
            Some(EmptyJson::Value(text.to_owned()))
        }
        other => report_choice(value, other, &["null", "quarantine"], FORMS),
    }
}

/// A string that is one of a few words, or the problem that names all forms.
fn choice(value: Value<'_>, forms: &str) -> Option<Spanned<String>> {
    if value.is_string() {
        return value.string();
    }
    value.reading.report(value.wrong_type(forms));
    None
}

fn report_choice<T>(value: Value<'_>, found: &str, words: &[&str], forms: &str) -> Option<T> {
    let hint = match name::nearest(found, words.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("write {forms}"),
    };
    value.reading.report(
        Problem::error(
            "project::bad-value",
            format!("`{}` can't be `{found}`", value.key),
        )
        .at(value.span)
        .label("not known here")
        .hint(hint),
    );
    None
}

fn read_ref(table: &Table<'_>, value: Value<'_>) -> Option<(Rule, Provenance)> {
    let entity = read_entity_name(&value);
    let missing = read_missing(table);
    let from = read_from(table, "\"i.patient_id\"");
    let rule = Rule::Ref {
        entity: entity?,
        from: from?,
        missing: missing?,
    };
    Some((rule, Provenance::Referenced))
}

/// The name of an entity there is.
pub(crate) fn read_entity_name(value: &Value<'_>) -> Option<Spanned<String>> {
    let name = value.string()?;
    value.reading.require_entity(&name);
    Some(name)
}

fn read_ref_by(table: &Table<'_>, value: Value<'_>) -> Option<(Rule, Provenance)> {
    let cases = table
        .required("cases", "cases = { 11 = \"patients\", 58 = \"profiles\" }")
        .and_then(|value| read_cases(value, "cases", read_entity_name));
    let missing = read_missing(table);
    let from = read_from(table, "\"r.target_id\"");
    let (by, _) = sql_check::expression(value)?;
    let rule = Rule::RefBy {
        by,
        cases: cases?,
        from: from?,
        missing: missing?,
    };
    Some((rule, Provenance::Referenced))
}

fn read_missing(table: &Table<'_>) -> Option<Missing> {
    const FORMS: &str = "\"quarantine\", \"null\" or { default = \"...\" }";
    let Some(value) = table.get("missing") else {
        return Some(Missing::Quarantine);
    };
    if value.is_table() {
        let table = value.table("`missing`", &["default"])?;
        let literal = table
            .required("default", "missing = { default = \"...\" }")?
            .scalar()?;
        return Some(Missing::Default(literal));
    }
    match choice(value, FORMS)?.value.as_str() {
        "quarantine" => Some(Missing::Quarantine),
        "null" => Some(Missing::Null),
        other => report_choice(value, other, &["quarantine", "null"], FORMS),
    }
}
