//! The rows that a row refers to, and those that refer to it.

use std::collections::BTreeMap;

use regraft_ledger::RowState;
use regraft_pg::quote::{ident, literal};
use regraft_project::{Entity, KeyStrategy, Project, Rule, Sql};
use uuid::Uuid;

use super::document::{ChildExample, ChildRecord, ParentRecord, RecordState};
use super::reading::SourceReader;
use super::standing::{Standing, filter_name};
use crate::error::Result;
use crate::validate::databases::Databases;
use crate::validate::subject::{IdSpaces, Subject, is_integer};

/// Children shown.
const EXAMPLES: usize = 5;

/// Children whose standing is looked up; of more, only their number is told.
const LOOKED_UP: usize = 10_000;

/// A reference of an entity, as the project declares it.
struct Declared<'a> {
    column: &'a str,
    from: &'a Sql,
    /// The value that chooses the parent.
    by: Option<&'a Sql>,
    /// The value and the parent that it chooses; one pair with an empty value without a choice.
    cases: Vec<(&'a str, &'a str)>,
}

fn declared(entity: &Entity) -> Vec<Declared<'_>> {
    let key = &entity.target.key;
    let mut found = Vec::new();
    if let KeyStrategy::SameAs {
        entity: parent,
        from,
    } = &key.strategy
    {
        found.push(Declared {
            column: &key.column.value,
            from: from.as_ref().unwrap_or(&entity.source.key),
            by: None,
            cases: vec![("", &parent.value)],
        });
    }
    for column in &entity.columns {
        let column_name = column.name.value.as_str();
        match &column.rule {
            Rule::Ref {
                entity: parent,
                from,
                ..
            } => found.push(Declared {
                column: column_name,
                from,
                by: None,
                cases: vec![("", &parent.value)],
            }),
            Rule::RefBy {
                by, cases, from, ..
            } => found.push(Declared {
                column: column_name,
                from,
                by: Some(by),
                cases: cases
                    .iter()
                    .map(|(value, parent)| (value.value.as_str(), parent.value.as_str()))
                    .collect(),
            }),
            _ => {}
        }
    }
    found
}

/// What is needed to look at other entities.
pub(super) struct Family<'a> {
    pub(super) project: &'a Project,
    pub(super) databases: &'a Databases<'a>,
    pub(super) catalog: &'a regraft_pg::catalog::Catalog,
    pub(super) spaces: &'a IdSpaces<'a>,
}

impl<'a> Family<'a> {
    fn subject(&self, entity: &'a Entity) -> Result<Subject<'a>> {
        Subject::new(self.project, entity, self.catalog, self.spaces)
    }

    /// Every reference of a row of the source, followed.
    pub(super) async fn parents(
        &self,
        entity: &Entity,
        reader: &SourceReader<'_>,
    ) -> Result<Vec<ParentRecord>> {
        let mut parents = Vec::new();
        for reference in declared(entity) {
            let chosen = match reference.by {
                None => reference.cases.first().map(|(_, parent)| *parent),
                Some(by) => {
                    let value = reader.value(&by.text).await?.and_then(|read| read.value);
                    let mut cases = reference.cases.iter();
                    let case = cases.find(|(case, _)| Some(*case) == value.as_deref());
                    case.map(|(_, parent)| *parent)
                }
            };
            let wanted = reader.value(&reference.from.text).await?;
            let wanted = wanted.and_then(|read| read.value);
            parents.push(self.parent(reference.column, chosen, wanted).await?);
        }
        Ok(parents)
    }

    async fn parent(
        &self,
        column: &str,
        entity: Option<&str>,
        legacy_id: Option<String>,
    ) -> Result<ParentRecord> {
        let mut record = ParentRecord {
            column: column.to_owned(),
            entity: entity.map(str::to_owned),
            legacy_id,
            state: None,
            filter: None,
            key: None,
        };
        let (Some(parent), Some(id)) = (
            entity.and_then(|name| self.project.entity(name)),
            &record.legacy_id,
        ) else {
            return Ok(record);
        };
        let standing = Standing::of(self.databases, &self.subject(parent)?, id).await?;
        record.state = Some(standing.state());
        record.key = standing.mappings.first().map(|mapping| mapping.new_id);
        record.filter = standing.filter;
        Ok(record)
    }

    /// Every entity with references to the row, by each of them. `ids` are the legacy ids of the row
    /// and of those merged with it.
    pub(super) async fn children(
        &self,
        of: &Subject<'_>,
        ids: &[String],
        key: Option<Uuid>,
    ) -> Result<Vec<ChildRecord>> {
        let mut children = Vec::new();
        for entity in self.project.entities() {
            for reference in declared(entity) {
                let values: Vec<&str> = reference
                    .cases
                    .iter()
                    .filter(|(_, parent)| *parent == of.name())
                    .map(|(value, _)| *value)
                    .collect();
                if values.is_empty() {
                    continue;
                }
                let child = self.subject(entity)?;
                let condition = self.condition(&child, &reference, &values, ids).await?;
                let mut record = ChildRecord {
                    entity: entity.name.clone(),
                    column: reference.column.to_owned(),
                    source_rows: 0,
                    kept: 0,
                    left_behind: None,
                    target_rows: self.target_rows(&child, reference.column, key).await?,
                    examples: Vec::new(),
                };
                self.source_rows(&child, &condition, &mut record).await?;
                children.push(record);
            }
        }
        Ok(children)
    }

    /// The condition that a row of the source refers to one of the legacy ids.
    async fn condition(
        &self,
        child: &Subject<'_>,
        reference: &Declared<'_>,
        values: &[&str],
        ids: &[String],
    ) -> Result<String> {
        let from = &reference.from.text;
        let list = |texts: &mut dyn Iterator<Item = &str>| {
            texts.map(literal).collect::<Vec<_>>().join(", ")
        };
        let query = format!("select ({from}\n) from {}\n", child.entity.source.from.text);
        let described = self.databases.describe_source(&query).await?;
        let number =
            described.is_ok_and(|d| d.columns().first().is_some_and(|c| is_integer(c.type_())));
        let numbers: Vec<i64> = ids.iter().filter_map(|id| id.parse().ok()).collect();
        // Numbers as numbers, so that the source can use an index.
        let wanted = if number && !numbers.is_empty() {
            let numbers: Vec<String> = numbers.iter().map(i64::to_string).collect();
            format!("({from}\n) in ({})", numbers.join(", "))
        } else {
            format!(
                "({from}\n)::text in ({})",
                list(&mut ids.iter().map(String::as_str))
            )
        };
        Ok(match reference.by {
            None => wanted,
            Some(by) => format!(
                "{wanted} and ({}\n)::text in ({})",
                by.text,
                list(&mut values.iter().copied())
            ),
        })
    }

    async fn source_rows(
        &self,
        child: &Subject<'_>,
        condition: &str,
        record: &mut ChildRecord,
    ) -> Result<()> {
        let source = self.databases.source().await?;
        let query = child.rows_where_query(condition, LOOKED_UP);
        let rows = source.query(&query, &[]).await;
        let rows = rows.map_err(|error| source.error(error))?;
        self.databases.give_back(source);
        if let Some(first) = rows.first() {
            record.source_rows = first.get::<_, i64>(2).unsigned_abs();
            record.kept = first.get::<_, i64>(3).unsigned_abs();
        }
        let rows: Vec<(String, i64)> = rows
            .iter()
            .filter_map(|row| Some((row.get::<_, Option<String>>(0)?, row.get(1))))
            .collect();
        let ids: Vec<String> = rows.iter().map(|(id, _)| id.clone()).collect();
        let (name, numeric) = (child.name(), child.numeric);
        let states =
            regraft_ledger::row_states(&*self.databases.lookup, name, numeric, &ids).await?;
        let behind = |state: &&RowState| matches!(state, RowState::Quarantined | RowState::Blocked);
        record.left_behind = (record.source_rows <= LOOKED_UP as u64)
            .then(|| states.values().filter(behind).count() as u64);
        record.examples = examples(child, &rows, &states);
        Ok(())
    }

    async fn target_rows(
        &self,
        child: &Subject<'_>,
        column: &str,
        key: Option<Uuid>,
    ) -> Result<u64> {
        let there = child.table.is_some_and(|table| {
            table
                .column(column)
                .is_some_and(|column| column.type_name == "uuid")
        });
        let Some(key) = key.filter(|_| there) else {
            return Ok(0);
        };
        let query = format!(
            "select count(*) from {} t where t.{} = $1",
            child.table_name,
            ident(column)
        );
        let rows: i64 = self
            .databases
            .lookup
            .query_one(&query, &[&key])
            .await?
            .get(0);
        Ok(rows.unsigned_abs())
    }
}

/// The first children, those that are not in the target before the others.
fn examples(
    child: &Subject<'_>,
    rows: &[(String, i64)],
    states: &BTreeMap<String, RowState>,
) -> Vec<ChildExample> {
    let of = |(id, filter): &(String, i64)| ChildExample {
        legacy_id: id.clone(),
        ledger: states.get(id).copied(),
        filter: filter_name(child, *filter),
    };
    let (there, not_there): (Vec<ChildExample>, Vec<ChildExample>) = rows
        .iter()
        .map(of)
        .partition(|child| matches!(child.ledger, Some(RowState::Migrated | RowState::Merged)));
    not_there.into_iter().chain(there).take(EXAMPLES).collect()
}

/// Why a row that refers to this one can't be moved, if it can't.
pub(super) fn parent_problem(parent: &ParentRecord) -> Option<String> {
    let (entity, id) = (parent.entity.as_ref()?, parent.legacy_id.as_ref()?);
    let why = match parent.state? {
        RecordState::Quarantined => "is in quarantine",
        RecordState::Blocked => "is blocked by its own parent",
        RecordState::Filtered => "is dropped by a filter",
        RecordState::Nowhere => "is not in the source",
        RecordState::NotMigrated => "was not migrated",
        _ => return None,
    };
    Some(format!("`{}`: row {id} of {entity} {why}", parent.column))
}
