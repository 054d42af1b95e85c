//! Reading `regraft.toml`.

use indexmap::IndexMap;

use crate::document::{KeyName, Reading, Table, Value};
use crate::manifest::{
    Budget, Limits, Manifest, ManifestSource, ManifestTarget, RunSettings, ValidationSettings,
};
use crate::name;
use crate::problem::Problem;
use crate::source_files::{FileId, Span, Spanned};

/// The manifest's path in a project.
pub(crate) const MANIFEST: &str = "regraft.toml";

/// The version of the project format this program reads.
const VERSION: i64 = 1;

/// The built-in group of all entities.
pub(crate) const ALL: &str = "all";

pub(crate) const ROOT_KEYS: &[&str] = &[
    "version",
    "name",
    "description",
    "source",
    "target",
    "limits",
    "run",
    "validation",
    "groups",
];
pub(crate) const SOURCE_KEYS: &[&str] = &["schema", "generator"];
pub(crate) const TARGET_KEYS: &[&str] = &["schema", "namespace"];
pub(crate) const LIMITS_KEYS: &[&str] = &["quarantine"];
pub(crate) const VALIDATION_KEYS: &[&str] = &["keep"];
pub(crate) const RUN_KEYS: &[&str] = &["batch_size", "workers"];

/// Reads the manifest. Problems are reported; `None` when it can't be understood at all.
pub(crate) fn read_manifest(reading: &Reading<'_>, file: FileId, text: &str) -> Option<Manifest> {
    let document = crate::document::parse(reading, file, text)?;
    let root = Table::new(
        reading,
        Span::new(file, 0..0),
        "regraft.toml",
        document.get_ref(),
    )
    .knowing(ROOT_KEYS);
    root.reject_unknown(ROOT_KEYS);
    let version = read_version(&root);
    let name = root
        .required("name", "name = \"dispatch\"")
        .and_then(|value| read_label(&value));
    Some(Manifest {
        version: version.unwrap_or_default(),
        name: name.unwrap_or_default(),
        description: root.string("description").map(|text| text.value),
        source: read_source(&root),
        target: read_target(&root),
        limits: read_limits(&root),
        run: read_run(&root),
        validation: read_validation(&root),
        groups: read_groups(&root),
    })
}

fn read_version(root: &Table<'_>) -> Option<u32> {
    let value = root.required("version", "version = 1")?;
    let version = value.integer()?;
    if version != VERSION {
        value.reading.report(
            Problem::error(
                "project::unsupported-version",
                format!("version {version} of the project format is not supported"),
            )
            .at(value.span)
            .label("not supported")
            .hint(if version > VERSION {
                "this program reads version 1; a newer one is needed for this project"
            } else {
                "write version = 1"
            }),
        );
    }
    u32::try_from(version).ok()
}

fn read_label(value: &Value<'_>) -> Option<String> {
    let text = value.string()?;
    if !name::is_label(&text.value) {
        value
            .reading
            .report(bad_label(value.key, &text.value, text.span));
    }
    Some(text.value)
}

/// The problem of a name that is none.
pub(crate) fn bad_label(what: &str, found: &str, span: Span) -> Problem {
    Problem::error("project::bad-name", format!("`{found}` can't be a {what}"))
        .at(span)
        .label("not a name")
        .hint("names are lower-case letters, digits, `_` and `-`, and begin with a letter")
}

fn read_source(root: &Table<'_>) -> ManifestSource {
    let Some(table) = root
        .get("source")
        .and_then(|value| value.table("[source]", SOURCE_KEYS))
    else {
        return ManifestSource::default();
    };
    ManifestSource {
        schema: read_paths(&table, "schema"),
        generator: read_paths(&table, "generator"),
    }
}

fn read_target(root: &Table<'_>) -> ManifestTarget {
    let default = || "public".to_owned();
    let Some(table) = root
        .get("target")
        .and_then(|value| value.table("[target]", TARGET_KEYS))
    else {
        return ManifestTarget {
            schema: Vec::new(),
            namespace: default(),
        };
    };
    let namespace = table.string("namespace");
    if let Some(namespace) = &namespace
        && let Some(fault) = name::identifier_fault(&namespace.value)
    {
        table.reading.report(
            Problem::error("project::bad-name", format!("`namespace` {fault}")).at(namespace.span),
        );
    }
    ManifestTarget {
        schema: read_paths(&table, "schema"),
        namespace: namespace.map_or_else(default, |namespace| namespace.value),
    }
}

/// Files of the project; those that aren't there are reported.
fn read_paths(table: &Table<'_>, key: &'static str) -> Vec<String> {
    let Some(value) = table.get(key) else {
        return Vec::new();
    };
    let paths = value.strings();
    for path in &paths {
        check_path(table.reading, path);
    }
    paths.into_iter().map(|path| path.value).collect()
}

fn check_path(reading: &Reading<'_>, path: &Spanned<String>) {
    if !is_inside(&path.value) {
        reading.report(
            Problem::error("project::bad-path", "this path leads out of the project")
                .at(path.span)
                .label("must be relative, without `..`")
                .hint("move the file into the project, so that all of it is reviewed together"),
        );
    } else if reading.sources.find(&path.value).is_none() && !reading.is_unread(&path.value) {
        let known: Vec<_> = reading
            .sources
            .ids()
            .map(|file| reading.sources.path(file))
            .filter(|path| !path.ends_with(".toml"))
            .collect();
        let problem = Problem::error("project::missing-file", format!("no file `{}`", path.value))
            .at(path.span)
            .label("not there");
        reading.report(match name::nearest(&path.value, known) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem.hint("paths are relative to the project's folder"),
        });
    }
}

/// Whether a path stays in the project's folder: relative, with plain parts between `/`.
pub(crate) fn is_inside(path: &str) -> bool {
    !path.contains(['\\', ':'])
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

fn read_limits(root: &Table<'_>) -> Limits {
    let quarantine = root
        .get("limits")
        .and_then(|value| value.table("[limits]", LIMITS_KEYS))
        .and_then(|table| table.get("quarantine"))
        .and_then(read_budget);
    Limits {
        quarantine: quarantine.unwrap_or(Budget::Rows(0)),
    }
}

fn read_budget(value: Value<'_>) -> Option<Budget> {
    let hint = "write a number of rows (100) or a percentage from 0 to 100 (\"0.5%\")";
    if !value.is_string() && !value.is_integer() {
        value.reading.report(
            value
                .wrong_type("a number of rows or a percentage")
                .hint(hint),
        );
        return None;
    }
    let budget = if value.is_string() {
        percentage(&value.string()?.value).map(Budget::Fraction)
    } else {
        u64::try_from(value.integer()?).ok().map(Budget::Rows)
    };
    if budget.is_none() {
        value.reading.report(
            Problem::error("project::bad-budget", "this is no limit for the quarantine")
                .at(value.span)
                .hint(hint),
        );
    }
    budget
}

/// "0.5%" as 0.005.
fn percentage(text: &str) -> Option<f64> {
    let number = text.trim().strip_suffix('%')?.trim_end();
    let plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let percent: f64 = number.parse().ok().filter(|_| plain)?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

fn read_run(root: &Table<'_>) -> RunSettings {
    let Some(table) = root
        .get("run")
        .and_then(|value| value.table("[run]", RUN_KEYS))
    else {
        return RunSettings::default();
    };
    RunSettings {
        batch_size: table
            .get("batch_size")
            .and_then(|value| read_range(value, 1_000_000)),
        workers: table.get("workers").and_then(|value| read_range(value, 64)),
    }
}

fn read_validation(root: &Table<'_>) -> ValidationSettings {
    let keep = root
        .get("validation")
        .and_then(|value| value.table("[validation]", VALIDATION_KEYS))
        .and_then(|table| table.get("keep"));
    let Some(value) = keep else {
        return ValidationSettings::default();
    };
    let Some(text) = value.string() else {
        return ValidationSettings::default();
    };
    let days = days(&text.value);
    if days.is_none() {
        value.reading.report(
            Problem::error("project::bad-value", "this is no time to keep results for")
                .at(value.span)
                .hint("write a number of days: \"90 days\""),
        );
    }
    days.map_or_else(ValidationSettings::default, |keep_days| {
        ValidationSettings { keep_days }
    })
}

/// "90 days" as 90; from 1 day to 100 years.
fn days(text: &str) -> Option<u32> {
    let (number, unit) = text.trim().split_once(' ')?;
    let days: u32 = number.parse().ok()?;
    let plain = number.chars().all(|c| c.is_ascii_digit());
    let known = matches!(unit.trim(), "day" | "days");
    (plain && known && (1..=36_525).contains(&days)).then_some(days)
}

/// An integer from 1 to `max`.
fn read_range(value: Value<'_>, max: u32) -> Option<u32> {
    let found = value.integer()?;
    let number = u32::try_from(found)
        .ok()
        .filter(|number| (1..=max).contains(number));
    if number.is_none() {
        value.reading.report(
            Problem::error(
                "project::out-of-range",
                format!("`{}` can't be {found}", value.key),
            )
            .at(value.span)
            .label("out of range")
            .hint(format!("it must be from 1 to {max}")),
        );
    }
    number
}

fn read_groups(root: &Table<'_>) -> IndexMap<String, Vec<Spanned<String>>> {
    let Some(table) = root
        .get("groups")
        .and_then(|value| value.open_table("[groups]"))
    else {
        return IndexMap::new();
    };
    let mut groups = IndexMap::new();
    for (key, value) in table.entries() {
        check_group_name(table.reading, key);
        let Some(items) = value.array("strings") else {
            continue;
        };
        if items.is_empty() {
            table.reading.report(
                Problem::error(
                    "project::empty-group",
                    format!("group `{}` is empty", key.text),
                )
                .at(value.span)
                .hint("name entities or other groups, or remove the group"),
            );
        }
        groups.insert(
            key.text.to_owned(),
            items.iter().filter_map(Value::string).collect(),
        );
    }
    crate::group_check::check_groups(table.reading, &groups);
    groups
}

fn check_group_name(reading: &Reading<'_>, key: KeyName<'_>) {
    if key.text == ALL {
        reading.report(
            Problem::error("project::name-clash", "the group `all` is built in")
                .at(key.span)
                .label("can't be defined")
                .hint("remove it: `all` is every entity"),
        );
    } else if reading.entities.contains(key.text) {
        reading.report(
            Problem::error(
                "project::name-clash",
                format!("`{}` is an entity, too", key.text),
            )
            .at(key.span)
            .label("a group can't have an entity's name")
            .hint("rename the group"),
        );
    } else if !name::is_label(key.text) {
        reading.report(bad_label("group's name", key.text, key.span));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_plain_numbers_from_0_to_100() {
        assert_eq!(percentage("5%"), Some(0.05));
        assert_eq!(percentage(" 0.5 %"), Some(0.005));
        assert_eq!(percentage("100%"), Some(1.0));
        for bad in [
            "5", "%", "-1%", "101%", "1e1%", "nan%", "inf%", "1.2.3%", "",
        ] {
            assert_eq!(percentage(bad), None, "{bad}");
        }
    }

    #[test]
    fn results_are_kept_for_days() {
        assert_eq!(days("90 days"), Some(90));
        assert_eq!(days("1 day"), Some(1));
        for bad in [
            "90",
            "0 days",
            "-1 days",
            "1.5 days",
            "2 weeks",
            "99999 days",
        ] {
            assert_eq!(days(bad), None, "{bad}");
        }
    }

    #[test]
    fn paths_stay_inside() {
        assert!(is_inside("target/schema.sql") && is_inside("schema.sql"));
        for bad in [
            "",
            "/etc/passwd",
            "../x.sql",
            "a//b",
            "a/../b",
            "c:/x",
            "a\\b",
            "./a",
        ] {
            assert!(!is_inside(bad), "{bad}");
        }
    }
}
