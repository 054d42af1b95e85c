//! `check-record`: the whole life of one row, from the query that gives it to what the target holds.
//!
//! What is said of it is the validator's, restricted to one legacy id; the loader has no part in it.

mod document;
mod judgement;
mod reading;
mod relatives;
mod rules;
mod standing;

use regraft_ledger::{QuarantineFilter, RowMapping};
use uuid::Uuid;

pub use document::{
    ChildExample, ChildRecord, ColumnRecord, ColumnValue, ColumnVerdict, ParentRecord, Reading,
    Record, RecordId, RecordState, SourceRow, TargetRow,
};

use super::databases::Databases;
use super::extent::Extent;
use super::subject::{IdSpaces, Subject};
use crate::context::Context;
use crate::error::{Error, Kind, Result};
use judgement::Judgement;
use reading::SourceReader;
use relatives::{Family, parent_problem};
use standing::Standing;

/// The whole life of one row of an entity. `values` asks for the values of the row itself, which are
/// in the result then, and nowhere else. What is wrong with the row is in the result, not an error;
/// it is looked at once more, in later views of both databases, before it is told.
///
/// # Errors
/// [`Kind::Usage`] for an entity that the project doesn't have, or a legacy id that can't be one of
/// its; a server that can't be reached; a target without a ledger.
pub async fn check_record(
    context: &Context,
    entity: &str,
    id: &RecordId,
    values: bool,
) -> Result<Record> {
    let told = tell(context, entity, id, values).await?;
    if told.passed {
        return Ok(told);
    }
    tell(context, entity, id, values).await
}

async fn tell(context: &Context, entity: &str, id: &RecordId, values: bool) -> Result<Record> {
    let databases = Databases::open(context, None).await?;
    let project = &context.project;
    let spaces = IdSpaces::read(project, &databases).await?;
    let declared = project
        .entity(entity)
        .ok_or_else(|| Error::new(Kind::Usage, format!("no entity `{entity}`")))?;
    let subject = Subject::new(project, declared, &databases.catalog, &spaces)?;
    let inquiry = Inquiry {
        family: Family {
            project,
            databases: &databases,
            catalog: &databases.catalog,
            spaces: &spaces,
        },
        databases: &databases,
        subject: &subject,
        values,
    };
    let told = match id {
        RecordId::Legacy(id) => inquiry.by_legacy_id(id).await,
        RecordId::Key(key) => inquiry.by_key(*key).await,
    };
    told.map_err(|error| error.in_entity(entity))
}

struct Inquiry<'a> {
    family: Family<'a>,
    databases: &'a Databases<'a>,
    subject: &'a Subject<'a>,
    values: bool,
}

impl Inquiry<'_> {
    async fn by_key(&self, key: Uuid) -> Result<Record> {
        let (ledger, name) = (&*self.databases.lookup, self.subject.name());
        let mappings = regraft_ledger::mappings_of_key(ledger, name, key).await?;
        if let Some(mapping) = mappings.first() {
            let id = mapping.legacy_id.clone();
            return self.by_legacy_id(&id).await;
        }
        let mut record = self.empty(None);
        record.key = Some(key);
        record.target = reading::target_row(&self.databases.lookup, self.subject, key).await?;
        let others = regraft_ledger::entities_of_key(ledger, key).await?;
        let of_others = match others.as_slice() {
            [] => String::new(),
            names => format!("; it is the key of a row of {}", names.join(", ")),
        };
        let table = &record.target_table;
        if record.target.is_some() {
            record.state = RecordState::Foreign;
            record.children = self.family.children(self.subject, &[], Some(key)).await?;
            record.problems.push(format!(
                "table {table} has a row with this key, and no mapping of {name} knows it{of_others}"
            ));
        } else {
            record.remarks.push(format!(
                "no mapping of {name} knows this key, and table {table} has no such row{of_others}"
            ));
        }
        Ok(self.closed(record))
    }

    async fn by_legacy_id(&self, id: &str) -> Result<Record> {
        if self.subject.numeric && id.parse::<i64>().is_err() {
            return Err(Error::new(
                Kind::Usage,
                "its legacy ids are whole numbers, of at most 19 digits",
            )
            .hint("name a row of the target by its key with --uuid-id"));
        }
        let standing = Standing::of(self.databases, self.subject, id).await?;
        let mut record = self.empty(Some(id));
        record.state = standing.state();
        self.ledger(&mut record, id, &standing).await?;
        self.target(&mut record, id).await?;
        if record.state == RecordState::Nowhere && record.target.is_none() {
            let name = self.subject.name();
            record.remarks.push(format!(
                "there is no row {id} of {name}: neither in the source, nor in the ledger, nor in the target"
            ));
            return Ok(self.closed(record));
        }
        let extent = Extent::only(vec![id.to_owned()]);
        self.source(&mut record, &standing, &extent).await?;
        let ids = self.ids_of_the_row(&record, id);
        record.children = self.family.children(self.subject, &ids, record.key).await?;
        let judgement = Judgement::of(self.databases, self.subject, id, &extent).await?;
        judgement.mark(self.subject.name(), &mut record.columns);
        record.problems.extend(judgement.problems());
        record.checks = judgement.checks;
        record.not_checked = judgement.not_checked;
        self.stayed_behind(&mut record);
        Ok(self.closed(record))
    }

    /// A record of which nothing is known yet.
    fn empty(&self, legacy_id: Option<&str>) -> Record {
        Record {
            entity: self.subject.name().to_owned(),
            target_table: self.subject.entity.target.table.value.clone(),
            legacy_id: legacy_id.map(str::to_owned),
            key: None,
            exists: false,
            state: RecordState::Nowhere,
            with_values: self.values,
            source: None,
            columns: Vec::new(),
            parents: Vec::new(),
            mappings: Vec::new(),
            batch: None,
            merged: Vec::new(),
            target: None,
            quarantine: None,
            changes: Vec::new(),
            children: Vec::new(),
            checks: Vec::new(),
            not_checked: Vec::new(),
            remarks: Vec::new(),
            problems: Vec::new(),
            passed: false,
        }
    }

    /// Mapping, batch, quarantine, changes.
    async fn ledger(&self, record: &mut Record, id: &str, standing: &Standing) -> Result<()> {
        let (ledger, name) = (&*self.databases.lookup, self.subject.name());
        record.mappings.clone_from(&standing.mappings);
        if let Some(mapping) = standing.mappings.first() {
            record.key = Some(mapping.new_id);
            record.batch =
                regraft_ledger::row_batch(ledger, mapping.run_no, name, mapping.batch).await?;
            let all = regraft_ledger::mappings_of_key(ledger, name, mapping.new_id).await?;
            record.merged = all
                .into_iter()
                .filter(|other| other.merged_into.as_deref() == Some(id))
                .map(|other| other.legacy_id)
                .collect();
        }
        let filter = QuarantineFilter {
            entity: Some(name.to_owned()),
            reason: None,
            legacy_id: Some(id.to_owned()),
            closed: true,
            values: self.values,
            limit: 1,
        };
        let rows = regraft_ledger::list_quarantine(ledger, &filter).await?;
        record.quarantine = rows.into_iter().next();
        record.changes = regraft_ledger::changes_of_row(ledger, name, id, self.values).await?;
        Ok(())
    }

    /// What the target holds: under the key, else under the legacy id that it names.
    async fn target(&self, record: &mut Record, id: &str) -> Result<()> {
        let target = &self.databases.lookup;
        if let Some(key) = record.key {
            record.target = reading::target_row(target, self.subject, key).await?;
            return Ok(());
        }
        let named = reading::rows_that_name(target, self.subject, id).await?;
        if let Some(row) = named.into_iter().next() {
            record.key = Some(row.key);
            record.target = Some(row);
            if record.state == RecordState::Nowhere {
                record.state = RecordState::Foreign;
            }
            record.problems.push(format!(
                "table {} has a row that names this legacy id, and the ledger has no mapping of it; see `regraft mappings rebuild`",
                record.target_table
            ));
        }
        Ok(())
    }

    /// The source row, what each rule makes of it, and the rows it refers to.
    async fn source(
        &self,
        record: &mut Record,
        standing: &Standing,
        extent: &Extent,
    ) -> Result<()> {
        let session = self.databases.source().await?;
        let reader = SourceReader {
            session: &session,
            subject: self.subject,
            extent,
        };
        let there = standing.source_rows > 0;
        for mut rule in rules::rules(self.family.project, self.subject) {
            if self.values
                && there
                && let Some(sql) = &rule.sql
            {
                rule.record.source = reader.value(sql).await?;
            }
            if self.values
                && let Some(row) = &record.target
            {
                let mut values = row.values.iter();
                let held = values.find(|value| value.column == rule.record.column);
                rule.record.target = held.map(|held| Reading {
                    value: held.value.clone(),
                    fails_with: None,
                });
            }
            record.columns.push(rule.record);
        }
        if there {
            let read = rules::names_read(self.subject);
            let (mut values, unread): (Vec<_>, Vec<_>) = reader
                .whole_row()
                .await?
                .into_iter()
                .partition(|value| read.contains(&value.column.to_lowercase()));
            if !self.values {
                values.clear();
            }
            record.source = Some(SourceRow {
                rows: standing.source_rows,
                filter: standing.filter.clone(),
                values,
                unread: unread.into_iter().map(|value| value.column).collect(),
            });
            let entity = self.subject.entity;
            record.parents = self.family.parents(entity, &reader).await?;
        }
        self.databases.give_back(session);
        Ok(())
    }

    /// The legacy ids that lead to the same row of the target.
    fn ids_of_the_row(&self, record: &Record, id: &str) -> Vec<String> {
        let survivor = record
            .mappings
            .first()
            .and_then(|mapping: &RowMapping| mapping.merged_into.clone());
        let others = record.merged.iter().cloned();
        [id.to_owned()]
            .into_iter()
            .chain(survivor)
            .chain(others)
            .collect()
    }

    /// A row that stayed behind is accounted for, and is not where it should be all the same.
    fn stayed_behind(&self, record: &mut Record) {
        let why = match record.state {
            RecordState::Quarantined => "it is in quarantine",
            RecordState::Blocked => "it is in quarantine because of a row it refers to",
            _ => return,
        };
        let mut problems = vec![why.to_owned()];
        problems.extend(record.parents.iter().filter_map(parent_problem));
        record.problems.splice(0..0, problems);
    }

    /// The record with its verdict, and without values where none were asked for.
    fn closed(&self, mut record: Record) -> Record {
        if !self.values
            && let Some(row) = &mut record.target
        {
            row.values.clear();
        }
        record.exists = record.state != RecordState::Nowhere;
        record.passed = record.problems.is_empty();
        record
    }
}
