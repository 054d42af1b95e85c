//! Reading `invariants/*.toml`.

use std::ops::Range;

use crate::column::{Column, Rule};
use crate::document::{KeyName, Reading, Table, Value};
use crate::entity_reading::Draft;
use crate::invariant::{Figure, Invariant, InvariantForm, InvariantQuery, Tolerance};
use crate::manifest_reading::bad_label;
use crate::name;
use crate::problem::Problem;
use crate::source_files::{FileId, Span, Spanned};
use crate::sql_check::{self, Used};

/// The folder of the invariants' files.
pub(crate) const FOLDER: &str = "invariants/";

/// The keys of an invariant that is written through an entity.
pub(crate) const ENTITY_KEYS: &[&str] = &["description", "entity", "by", "measure", "tolerance"];
/// The keys of an invariant that is a pair of queries.
pub(crate) const QUERIES_KEYS: &[&str] = &[
    "description",
    "source",
    "target",
    "keys",
    "entities",
    "tolerance",
];
const ALL_KEYS: &[&str] = &[
    "description",
    "entity",
    "by",
    "measure",
    "source",
    "target",
    "keys",
    "entities",
    "tolerance",
];
/// What a query names the moved rows of an entity with.
const MOVED: &str = "moved";

/// Whether a path is one of an invariants' file.
pub(crate) fn is_invariants_file(path: &str) -> bool {
    let stem = path
        .strip_prefix(FOLDER)
        .and_then(|name| name.strip_suffix(".toml"));
    stem.is_some_and(|stem| !stem.contains('/'))
}

/// Reads the invariants of one file and adds them to `found`. Problems are reported.
pub(crate) fn read_invariants(
    reading: &Reading<'_>,
    file: FileId,
    text: &str,
    drafts: &[Draft],
    found: &mut Vec<Invariant>,
) {
    let Some(document) = crate::document::parse(reading, file, text) else {
        return;
    };
    let start = Span::new(file, 0..0);
    let root = Table::new(reading, start, "the file", document.get_ref());
    if root.is_empty() {
        reading.report(
            Problem::warning("project::no-invariants", "the file holds no invariant")
                .at(start)
                .hint("an invariant is a table: [payments-by-status]"),
        );
    }
    for (key, value) in root.entries() {
        check_name(reading, key, found);
        found.extend(read_invariant(key, &value, drafts));
    }
}

fn check_name(reading: &Reading<'_>, key: KeyName<'_>, found: &[Invariant]) {
    if !name::is_label(key.text) {
        reading.report(bad_label("name of an invariant", key.text, key.span));
    }
    if let Some(first) = found.iter().find(|other| other.name.value == key.text) {
        let path = reading.sources.path(first.name.span.file);
        let line = reading.sources.position(first.name.span).line;
        reading.report(
            Problem::error(
                "project::duplicate-invariant",
                format!("two invariants are named `{}`", key.text),
            )
            .at(key.span)
            .label(format!("the first one is in {path}, line {line}"))
            .hint("differences are told under the name: give each its own"),
        );
    }
}

fn read_invariant(key: KeyName<'_>, value: &Value<'_>, drafts: &[Draft]) -> Option<Invariant> {
    let what = format!("invariant `{}`", key.text);
    let table = value.open_table(&what)?.knowing(ALL_KEYS);
    let through_entity = table.contains("entity");
    let known = match through_entity {
        true => ENTITY_KEYS,
        false => QUERIES_KEYS,
    };
    for (key, _) in table.entries() {
        if !ALL_KEYS.contains(&key.text) {
            table.reading.report(table.unknown_key(key, known));
        } else if !known.contains(&key.text) {
            table.reading.report(other_form(key, through_entity));
        }
    }
    let form = match through_entity {
        true => read_entity_form(&table, drafts),
        false => read_queries(&table),
    };
    Some(Invariant {
        name: Spanned::new(key.text.to_owned(), key.span),
        description: table.string("description").map(|text| text.value),
        tolerance: read_tolerance(&table)?,
        form: form?,
    })
}

/// A key of the form that the invariant doesn't have.
fn other_form(key: KeyName<'_>, through_entity: bool) -> Problem {
    let hint = if through_entity {
        "an invariant is either written through an entity (entity, by, measure) or a pair of \
         queries (source, target)"
    } else {
        "this key needs `entity`, the entity whose rows are meant"
    };
    Problem::error(
        "project::unknown-key",
        format!("`{}` does not belong here", key.text),
    )
    .at(key.span)
    .label("of the other form of invariants")
    .hint(hint)
}

fn read_entity_form(table: &Table<'_>, drafts: &[Draft]) -> Option<InvariantForm> {
    let entity = table.get("entity")?.string()?;
    table.reading.require_entity(&entity);
    let draft = drafts.iter().find(|draft| draft.name == entity.value);
    let columns = draft.and_then(Offered::of);
    let read = |value: Value<'_>| -> Vec<Figure> {
        let items = match value.is_string() {
            true => vec![value],
            false => value.array("SQL expressions").unwrap_or_default(),
        };
        let figures = items.into_iter();
        figures
            .filter_map(|item| read_figure(item, columns.as_ref()))
            .collect()
    };
    let by = table.get("by").map(read).unwrap_or_default();
    let measure = table.required("measure", "measure = [\"count(*)\", \"sum(amount)\"]")?;
    let span = measure.span;
    let nothing = !measure.is_string() && measure.array("SQL expressions")?.is_empty();
    if nothing {
        table.reading.report(
            Problem::error(
                "project::empty-invariant",
                "this invariant measures nothing",
            )
            .at(span)
            .hint("name what is computed: measure = \"count(*)\""),
        );
    }
    let measures = read(measure);
    if measures.is_empty() {
        return None;
    }
    Some(InvariantForm::Entity {
        entity,
        by,
        measures,
    })
}

/// What the rows of an entity offer to figures.
struct Offered<'a> {
    entity: &'a str,
    key: &'a str,
    legacy: Option<&'a str>,
    columns: &'a [Column],
}

impl<'a> Offered<'a> {
    fn of(draft: &'a Draft) -> Option<Self> {
        let (key, legacy) = draft.identity()?;
        Some(Self {
            entity: &draft.name,
            key,
            legacy,
            columns: &draft.columns,
        })
    }

    fn names(&self) -> impl Iterator<Item = &'a str> + Clone {
        let columns = self.columns.iter().map(|column| column.name.value.as_str());
        columns.chain([self.key]).chain(self.legacy)
    }

    fn rule(&self, name: &str) -> Option<&'a Rule> {
        let mut columns = self.columns.iter();
        columns
            .find(|column| column.name.value == name)
            .map(|column| &column.rule)
    }

    /// What keeps a column from being used, if anything does.
    fn fault(&self, used: &Used) -> Option<Problem> {
        let name = used.name.as_str();
        if !used.certain && self.rule(name).is_none() {
            return None;
        }
        if !self.names().any(|known| known == name) {
            return Some(
                Problem::error(
                    "project::unknown-column",
                    format!("entity `{}` maps no column `{name}`", self.entity),
                )
                .label("not mapped")
                .hint(name::suggestion(name, "its columns", self.names())),
            );
        }
        let why = match self.rule(name)? {
            Rule::Parse { .. } => "its JSON is read row by row, which the source can't do in SQL",
            Rule::RefBy { .. } => "it refers to more than one entity",
            _ => return None,
        };
        Some(
            Problem::error(
                "project::unusable-column",
                format!("`{name}` can't be used in an invariant: {why}"),
            )
            .label("not in this form")
            .hint("write a pair of queries instead: `source` and `target`"),
        )
    }
}

fn read_figure(value: Value<'_>, offered: Option<&Offered<'_>>) -> Option<Figure> {
    let (sql, used) = sql_check::figure(value)?;
    if let Some(offered) = offered {
        for used in &used {
            if let Some(problem) = offered.fault(used) {
                value.reading.report(problem.at(used.span));
            }
        }
    }
    let mut columns: Vec<String> = used.into_iter().map(|used| used.name).collect();
    // Where the parser gave up, a word that isn't a column is something else.
    if let Some(offered) = offered {
        columns.retain(|name| offered.names().any(|known| known == name));
    }
    columns.sort_unstable();
    columns.dedup();
    Some(Figure { sql, columns })
}

fn read_queries(table: &Table<'_>) -> Option<InvariantForm> {
    let query = |key, example| table.required(key, example).and_then(read_query);
    let source = query("source", "source = \"select count(*) from legacy_order\"");
    let target = query("target", "target = \"select count(*) from orders\"");
    let keys = match table.get("keys") {
        None => None,
        Some(value) => Some(read_keys(&value)?),
    };
    let entities = table.get("entities").map(|value| value.strings());
    let entities = entities.unwrap_or_default();
    for entity in &entities {
        table.reading.require_entity(entity);
    }
    Some(InvariantForm::Queries {
        source: source?,
        target: target?,
        keys,
        entities,
    })
}

fn read_keys(value: &Value<'_>) -> Option<usize> {
    let number = value.integer()?;
    let keys = usize::try_from(number).ok().filter(|keys| *keys <= 100);
    if keys.is_none() {
        value.reading.report(
            Problem::error(
                "project::out-of-range",
                format!("`keys` can't be {number}"),
            )
            .at(value.span)
            .label("out of range")
            .hint("it says how many of the queries' first columns are the group's key; 0 for one group of all rows"),
        );
    }
    keys
}

fn read_query(value: Value<'_>) -> Option<InvariantQuery> {
    let sql = value.sql_text()?;
    let mut moved = Vec::new();
    // A placeholder becomes a name of the same length, so that carets stay where they are.
    let mut plain = sql.text.clone();
    for (range, word, entity) in placeholders(&sql.text) {
        let start = sql.text[..range.start].chars().count();
        let length = sql.text[range.clone()].chars().count();
        let span = sql.span_at(start, length);
        let name: String = plain[range.clone()]
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        plain.replace_range(range.clone(), &name);
        if word == MOVED {
            let entity = Spanned::new(entity.to_owned(), span);
            value.reading.require_entity(&entity);
            moved.push((range, entity));
        } else {
            value.reading.report(
                Problem::error(
                    "project::unknown-placeholder",
                    format!("`{{{word}:{entity}}}` stands for nothing"),
                )
                .at(span)
                .label("not known")
                .hint(format!(
                    "the rows of an entity that were moved are {{moved:{entity}}}"
                )),
            );
        }
    }
    sql_check::query(value, &sql, &plain);
    Some(InvariantQuery { sql, moved })
}

/// Everything of the form `{word:name}`: where it is, the word and the name.
fn placeholders(text: &str) -> Vec<(Range<usize>, &str, &str)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(open) = text[at..].find('{').map(|offset| at + offset) {
        at = open + 1;
        let Some(close) = text[at..].find('}').map(|offset| at + offset) else {
            break;
        };
        let is_word = |part: &str| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        if let Some((word, name)) = text[at..close].split_once(':')
            && is_word(word)
            && is_word(name)
        {
            found.push((open..close + 1, word, name));
            at = close + 1;
        }
    }
    found
}

/// The tolerance; `None` when what is written is none.
fn read_tolerance(table: &Table<'_>) -> Option<Tolerance> {
    let Some(value) = table.get("tolerance") else {
        return Some(Tolerance::Exact);
    };
    let text = value.scalar()?;
    let tolerance = match text.value.trim().strip_suffix('%') {
        Some(percent) => decimal(percent.trim_end()).map(Tolerance::Percent),
        None => decimal(text.value.trim()).map(Tolerance::Absolute),
    };
    if tolerance.is_none() {
        table.reading.report(
            Problem::error("project::bad-tolerance", "this is no tolerance")
                .at(value.span)
                .hint("write how far the figures may be apart (0.01), or a percentage of the source's (\"0.5%\"); leave it out for an exact comparison"),
        );
    }
    tolerance
}

/// A decimal number that is not negative, as written.
fn decimal(text: &str) -> Option<String> {
    let plain = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let number: f64 = text.parse().ok().filter(|_| plain)?;
    (number.is_finite() && text.len() <= 40).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_a_word_and_a_name() {
        let text = "select '{a,b}', '{\"x\":1}' from {moved:orders} m, {other:thing} { {moved:a_1}";
        let found: Vec<(&str, &str)> = placeholders(text)
            .iter()
            .map(|(_, word, name)| (*word, *name))
            .collect();
        assert_eq!(
            found,
            [("moved", "orders"), ("other", "thing"), ("moved", "a_1")]
        );
    }

    #[test]
    fn tolerances_are_plain_numbers() {
        for good in ["0", "0.01", "12"] {
            assert_eq!(decimal(good).as_deref(), Some(good));
        }
        for bad in ["", "-1", "1e3", "nan", "."] {
            assert_eq!(decimal(bad), None, "{bad}");
        }
    }
}
