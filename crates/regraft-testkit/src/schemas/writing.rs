//! A random project as a folder.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use regraft_pg::quote::{ident, idents};

use super::table::{Edge, Missing, Strategy, Table};
use super::value::TYPES;

/// A text in TOML.
pub(super) fn toml(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

pub(super) fn write(tables: &[Table], folder: &Path) {
    let put = |path: &str, text: String| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        fs::write(path, text).expect("the folder can be written to");
    };
    let manifest = "version = 1\nname = \"random\"\n[source]\nschema = [\"source/schema.sql\"]\n\
                    generator = [\"source/data.sql\"]\n[target]\nschema = [\"target/schema.sql\"]\n\
                    [limits]\nquarantine = \"100%\"\n";
    put("regraft.toml", manifest.to_owned());
    let all = |of: fn(&Table) -> String| tables.iter().map(of).collect::<String>();
    put("source/schema.sql", format!("{TYPES}{}", all(source)));
    put("source/data.sql", all(data));
    let foreign: String = tables
        .iter()
        .map(|table| foreign_keys(tables, table))
        .collect();
    put(
        "target/schema.sql",
        format!("{TYPES}{}{foreign}", all(target)),
    );
    for table in tables {
        put(&format!("entities/{}.toml", table.name), entity(table));
    }
}

fn source(table: &Table) -> String {
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|(name, of)| format!("{} {of}", ident(name)))
        .collect();
    let key = table.key.columns().iter().map(|(name, _)| *name);
    format!(
        "create table {} ({}, primary key ({}));\n",
        ident(&table.source),
        columns.join(", "),
        idents(key)
    )
}

fn data(table: &Table) -> String {
    if table.rows.is_empty() {
        return String::new();
    }
    let rows: Vec<String> = table
        .rows
        .iter()
        .map(|row| format!("({})", row.join(", ")))
        .collect();
    format!(
        "insert into {} values\n{};\n",
        ident(&table.source),
        rows.join(",\n")
    )
}

fn target(table: &Table) -> String {
    if !table.is_first() {
        return String::new();
    }
    let mut columns = vec!["id uuid primary key".to_owned()];
    if table.legacy {
        columns.push(format!(
            "legacy_id {}{}",
            table.key.legacy_type(),
            if table.partitions == 0 && !table.shared {
                " unique"
            } else {
                ""
            }
        ));
    }
    for value in &table.values {
        let null = if value.not_null { " not null" } else { "" };
        columns.push(format!("{} {}{null}", ident(&value.name), value.target));
        columns.extend(
            value
                .check
                .iter()
                .map(|(name, check)| format!("constraint {} check ({check})", ident(name))),
        );
    }
    for edge in table.edges.iter().filter(|edge| edge.name != "id") {
        let null = if edge.not_null { " not null" } else { "" };
        columns.push(format!("{} uuid{null}", edge.name));
    }
    if table.identity {
        columns.push("here integer generated always as identity".to_owned());
        columns.push("key_text text generated always as ('key') stored".to_owned());
        columns.push("arrived timestamptz not null default now()".to_owned());
    }
    if let Some(unique) = table.unique {
        columns.push(format!(
            "constraint only_one_{} unique ({})",
            table.name,
            ident(&table.values[unique].name)
        ));
    }
    let by = if table.partitions > 0 {
        " partition by hash (id)"
    } else {
        ""
    };
    let mut sql = format!(
        "create table {} (\n  {}){by};\n",
        table.name,
        columns.join(",\n  ")
    );
    for part in 0..table.partitions {
        let _ = writeln!(
            sql,
            "create table {name}_{part} partition of {name} for values with (modulus {}, remainder {part});",
            table.partitions,
            name = table.name
        );
    }
    sql
}

fn foreign_keys(tables: &[Table], table: &Table) -> String {
    let declared = table.edges.iter().filter(|edge| edge.declared);
    declared
        .filter(|_| table.is_first())
        .filter_map(|edge| {
            let mut parents = tables.iter();
            let parent = parents.find(|parent| parent.name == edge.parents[0].1)?;
            Some(format!(
                "alter table {} add foreign key ({}) references {};\ncreate index on {0} ({1});\n",
                table.target, edge.name, parent.target
            ))
        })
        .collect()
}

fn entity(table: &Table) -> String {
    let mut text = format!(
        "[source]\nfrom = {}\nkey = {}\n",
        toml(&table.from()),
        toml(&table.id())
    );
    for (name, keep) in &table.filters {
        let _ = writeln!(
            text,
            "[[source.filter]]\nname = {}\nkeep = {}",
            toml(name),
            toml(keep)
        );
    }
    if let Some(merge) = &table.merge {
        let by: Vec<String> = merge.by.iter().map(|by| toml(by)).collect();
        let _ = writeln!(
            text,
            "[source.merge]\nname = \"equal\"\nby = [{}]",
            by.join(", ")
        );
        if let Some(when) = &merge.when {
            let _ = writeln!(text, "when = {}", toml(when));
        }
    }
    let strategy = match &table.strategy {
        Strategy::V7 => "strategy = \"uuid_v7\", time = \"t.born\"".to_owned(),
        Strategy::V5 => "strategy = \"uuid_v5\"".to_owned(),
        Strategy::V4 => "strategy = \"uuid_v4\"".to_owned(),
        Strategy::Column => "strategy = \"column\", from = \"t.id\"".to_owned(),
        Strategy::SameAs(parent) => format!(
            "strategy = \"same_as\", entity = \"{parent}\", from = {}",
            toml(&table.edges[0].from)
        ),
    };
    let _ = writeln!(
        text,
        "[target]\ntable = \"{}\"\nkey = {{ column = \"id\", {strategy} }}",
        table.target
    );
    if table.legacy {
        text.push_str("legacy = \"legacy_id\"\n");
    }
    text.push_str("[columns]\n");
    for value in &table.values {
        let _ = writeln!(text, "{} = {}", toml(&value.name), value.rule);
    }
    for edge in table.edges.iter().filter(|edge| edge.name != "id") {
        let _ = writeln!(text, "{} = {}", edge.name, reference(edge));
    }
    text
}

fn reference(edge: &Edge) -> String {
    let missing = match &edge.missing {
        Missing::Quarantine => String::new(),
        Missing::Null => ", missing = \"null\"".to_owned(),
        Missing::Default(key) => format!(", missing = {{ default = \"{key}\" }}"),
    };
    let from = toml(&edge.from);
    match &edge.by {
        None => format!(
            "{{ ref = \"{}\", from = {from}{missing} }}",
            edge.parents[0].1
        ),
        Some(by) => {
            let cases: Vec<String> = edge
                .parents
                .iter()
                .map(|(code, parent)| format!("{code} = \"{parent}\""))
                .collect();
            format!(
                "{{ ref_by = \"t.{by}\", cases = {{ {} }}, from = {from}{missing} }}",
                cases.join(", ")
            )
        }
    }
}
