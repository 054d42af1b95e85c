//! The proof: every row of the target's table, traced to the source row it came from.

use std::sync::Arc;

use regraft_ledger::{Candidate, PROVEN, encode_proven};
use regraft_pg::Session;
use regraft_pg::quote::ident;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::context::Context;
use crate::error::{Error, Kind, Result};
use crate::keys::Deriver;
use crate::link::fingerprint_position;
use crate::load::{
    BatchRange, Progress, Reason, Sink, Transformer, fingerprint_of, merged, read_into, send_merged,
};
use crate::migrate::parent_keys;
use crate::model::{EntityModel, KeyRule, Model};
use crate::validate::Finding;

/// How many ids a finding shows.
const EXAMPLES: i64 = 5;

/// Rows whose later references are read at once.
const AT_ONCE: i64 = 20_000;

/// What was proven of an entity.
pub(super) struct Proof {
    pub(super) table_rows: u64,
    pub(super) proven: u64,
    /// Rows of the source that are merged into those.
    pub(super) merged: u64,
    pub(super) own: u64,
    pub(super) findings: Vec<Finding>,
}

/// An entity's table, as the proof asks for it.
struct Held<'a> {
    model: &'a EntityModel,
    table: String,
    key: String,
    /// The legacy id of a row as text, where the table has a column for it.
    legacy: Option<String>,
    /// Other entities fill the table too.
    shared: bool,
}

/// Puts a candidate per source row into [`PROVEN`], marks those that the target bears out, and
/// names the rows that none of them accounts for. Runs inside the caller's transaction.
pub(super) async fn prove(
    context: &Context,
    all: &Model,
    source: &Session,
    target: &Session,
    model: &EntityModel,
    ranges: &[BatchRange],
) -> Result<Proof> {
    let held = Held::new(context, all, model)?;
    regraft_ledger::create_proven(&**target).await?;
    candidates(context, all, source, target, model, ranges).await?;
    target
        .batch_execute(&format!(
            "create index on {PROVEN} (legacy_id); create index on {PROVEN} (new_id); analyze {PROVEN}"
        ))
        .await?;
    let mut findings = held.findings(target).await?;
    held.mark(target).await?;
    held.later_references(target).await?;
    if model.merge.is_some() {
        regraft_ledger::prove_merged(&**target).await?;
        findings.extend(no_longer_merged(target, model).await?);
    }
    let count = |row: &Row, at: usize| row.get::<_, i64>(at).unsigned_abs();
    let row = target
        .query_one(
            &format!(
                "select (select count(*) from {}), (select count(*) from {PROVEN} where proven and merged_into is null), ({}),
                        (select count(*) from {PROVEN} where proven and merged_into is not null)",
                held.table,
                held.own_rows()
            ),
            &[],
        )
        .await?;
    Ok(Proof {
        table_rows: count(&row, 0),
        proven: count(&row, 1),
        own: count(&row, 2),
        merged: count(&row, 3),
        findings,
    })
}

/// Reads every kept row of the source through the loader's own transformation.
async fn candidates(
    context: &Context,
    all: &Model,
    source: &Session,
    target: &Session,
    model: &EntityModel,
    ranges: &[BatchRange],
) -> Result<()> {
    let parents = parent_keys(context, target, all, model).await?;
    let secret = context.settings.secret.as_ref();
    let deriver = secret.map(|secret| Deriver::new(secret, &model.name));
    let shared = Arc::new(model.clone());
    let mut transformer = Transformer::new(shared, deriver, parents, Arc::default())?;
    transformer.merged = Arc::new(merged(source, model).await?);
    let merged = Arc::clone(&transformer.merged);
    for range in ranges {
        context.stop_requested()?;
        let mut progress = Progress::default();
        let mut nowhere = Sink::nowhere();
        let rows = range.to_rows();
        read_into(
            source,
            model,
            &rows,
            &mut transformer,
            &mut progress,
            &mut nowhere,
            false,
        )
        .await?;
        send(target, model, &progress).await?;
    }
    send_merged(source, target, model, &merged).await
}

/// Mappings that only the ledger can speak for: taking them for wrong would lose what became of
/// their rows.
async fn no_longer_merged(target: &Session, model: &EntityModel) -> Result<Option<Finding>> {
    let (rows, examples) =
        regraft_ledger::no_longer_merged(&**target, &model.name, EXAMPLES).await?;
    Ok((rows > 0).then(|| Finding {
        what: "rows that were merged into others, and by the merge rule are rows of their own now: their source rows have changed since".to_owned(),
        rows: rows.unsigned_abs(),
        examples,
    }))
}

/// Sends what became of a range to the target.
async fn send(target: &Session, model: &EntityModel, progress: &Progress) -> Result<()> {
    let random = matches!(model.key_rule, KeyRule::V4);
    let mut sink = Sink::new(target, regraft_ledger::proven_copy_statement());
    let width = model.print_width();
    for (number, row) in progress.written.iter().enumerate() {
        let columns = &progress.fingerprints[number * width..][..width];
        let key = (!random).then_some(row.key);
        let id = row.id.to_string();
        let candidate = Candidate {
            legacy_id: &id,
            new_id: key,
            source_fingerprint: row.fingerprint,
            column_fingerprints: columns,
            ..Candidate::default()
        };
        encode_proven(sink.block(), &candidate);
        sink.send_if_full().await?;
    }
    for (id, reasons) in &progress.faults.rows {
        let reasons: Vec<String> = reasons.iter().map(Reason::key).collect();
        let reason = reasons.join(", ");
        let id = id.to_string();
        let candidate = Candidate {
            legacy_id: &id,
            reason: Some(&reason),
            ..Candidate::default()
        };
        encode_proven(sink.block(), &candidate);
        sink.send_if_full().await?;
    }
    sink.finish().await?;
    Ok(())
}

impl<'a> Held<'a> {
    fn new(context: &Context, all: &Model, model: &'a EntityModel) -> Result<Self> {
        let column = context
            .project
            .entity(&model.name)
            .and_then(|entity| entity.target.legacy.as_ref());
        let legacy = column.map(|column| format!("t.{}::text collate \"C\"", ident(&column.value)));
        let shared = all.shares_table(model);
        if matches!(model.key_rule, KeyRule::V4) && (legacy.is_none() || shared) {
            let why = if shared {
                "several entities fill its table"
            } else {
                "its table has no column for the legacy id"
            };
            return Err(Error::new(
                Kind::Usage,
                format!("its keys are random (uuid_v4), and {why}: nothing tells which source row a row came from"),
            )
            .hint("restore the mappings from a backup of the target, or leave this entity out"));
        }
        Ok(Self {
            model,
            table: model.table.sql_name(),
            key: format!("t.{}", ident(&model.key_column)),
            legacy,
            shared,
        })
    }

    fn random(&self) -> bool {
        matches!(self.model.key_rule, KeyRule::V4)
    }

    /// Rows without a legacy id that no candidate accounts for.
    fn own_rows(&self) -> String {
        match &self.legacy {
            Some(legacy) if !self.shared => format!(
                "select count(*) from {} t where {legacy} is null and not exists (select from {PROVEN} p where p.new_id = {})",
                self.table, self.key
            ),
            _ => "0::bigint".to_owned(),
        }
    }

    async fn mark(&self, target: &Session) -> Result<()> {
        let (table, key) = (&self.table, &self.key);
        let statement = match &self.legacy {
            Some(legacy) if self.random() => format!(
                "update {PROVEN} p set proven = true, new_id = {key} from {table} t
                 where p.reason is null and p.merged_into is null and {legacy} = p.legacy_id"
            ),
            Some(legacy) => format!(
                "update {PROVEN} p set proven = true from {table} t
                 where p.reason is null and {key} = p.new_id and ({legacy} is null or {legacy} = p.legacy_id)"
            ),
            None => format!(
                "update {PROVEN} p set proven = true from {table} t
                 where p.reason is null and {key} = p.new_id"
            ),
        };
        Ok(target.batch_execute(&statement).await?)
    }

    async fn findings(&self, target: &Session) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let table = &self.table;
        let Some(legacy) = &self.legacy else {
            if !self.shared {
                let unknown = format!(
                    "select 'key ' || {key}::text as id from {table} t
                     where not exists (select from {PROVEN} p where p.new_id = {key})",
                    key = self.key
                );
                let what = format!(
                    "rows of {table} whose key is derived from no row of the source: they came from elsewhere, or from another secret"
                );
                findings.extend(count(target, &unknown, what).await?);
            }
            return Ok(findings);
        };
        if !self.random() {
            findings.extend(self.foreign_keys(target, legacy).await?);
            let disowned = format!(
                "select p.legacy_id as id from {PROVEN} p join {table} t on {key} = p.new_id
                 where {legacy} is not null and {legacy} <> p.legacy_id",
                key = self.key
            );
            let what = "rows that have the key of this legacy id and name another".to_owned();
            findings.extend(count(target, &disowned, what).await?);
        }
        if !self.shared {
            let twice = format!(
                "select {legacy} as id from {table} t where {legacy} is not null group by 1 having count(*) > 1"
            );
            let what = "legacy ids that several rows of the target name".to_owned();
            findings.extend(count(target, &twice, what).await?);
            let orphans = format!(
                "select {legacy} as id from {table} t
                 where {legacy} is not null and not exists (select from {PROVEN} p where p.legacy_id = {legacy})"
            );
            let what = "rows of the target whose legacy id is no row that the project takes from the source".to_owned();
            findings.extend(count(target, &orphans, what).await?);
            findings.extend(self.refused(target, legacy).await?);
            let merged = format!(
                "select p.legacy_id as id from {PROVEN} p join {table} t on {legacy} = p.legacy_id where p.merged_into is not null"
            );
            let what = "rows of the target whose source rows are merged into others by a rule of the project".to_owned();
            findings.extend(count(target, &merged, what).await?);
        }
        Ok(findings)
    }

    /// Rows that name the legacy id of a source row and have another key than its own.
    async fn foreign_keys(&self, target: &Session, legacy: &str) -> Result<Option<Finding>> {
        if self.shared {
            return Ok(None);
        }
        let (table, key) = (&self.table, &self.key);
        let matching =
            format!("{PROVEN} p join {table} t on {legacy} = p.legacy_id where p.reason is null");
        let right: i64 = target
            .query_one(
                &format!("select count(*) from {matching} and {key} = p.new_id"),
                &[],
            )
            .await?
            .get(0);
        let derived = matches!(self.model.key_rule, KeyRule::V5 | KeyRule::V7 { .. });
        let what = match (derived, right) {
            (true, 0) => format!(
                "no row of {table} has the key that REGRAFT_KEY_SECRET gives it: another secret or another tool made them; set that secret, or declare the keys as uuid_v4 in the project to keep them"
            ),
            (true, _) => {
                "rows with another key than the one derived from their legacy id".to_owned()
            }
            (false, _) => {
                "rows with another key than the one their source row gives them".to_owned()
            }
        };
        let wrong = format!("select p.legacy_id as id from {matching} and {key} <> p.new_id");
        count(target, &wrong, what).await
    }

    /// Rows in the target whose source rows could not be moved as they are now.
    async fn refused(&self, target: &Session, legacy: &str) -> Result<Option<Finding>> {
        let rows = format!(
            "select p.legacy_id as id from {PROVEN} p join {} t on {legacy} = p.legacy_id where p.reason is not null",
            self.table
        );
        let reasons = target
            .query(
                &format!("select distinct reason from {PROVEN} where reason is not null and legacy_id in (select id from ({rows}) r) order by 1 limit 3"),
                &[],
            )
            .await?;
        let reasons: Vec<String> = reasons.iter().map(|row| row.get(0)).collect();
        let what = format!(
            "rows in the target whose source rows could not be moved now ({}); where a parent is missing, rebuild its mappings too",
            reasons.join("; ")
        );
        count(target, &rows, what).await
    }

    /// References inside a cycle are filled in after the rows, so their fingerprints are taken of
    /// what the target holds.
    async fn later_references(&self, target: &Session) -> Result<()> {
        for at in self.model.later_columns() {
            let column = ident(&self.model.outputs[at].column);
            target
                .batch_execute(&format!(
                    "declare regraft_later no scroll cursor for
                     select p.legacy_id, t.{column} from {PROVEN} p join {} t on {} = p.new_id
                     where p.proven and t.{column} is not null",
                    self.table, self.key
                ))
                .await?;
            loop {
                let fetch = format!("fetch {AT_ONCE} from regraft_later");
                let rows = target.query(&fetch, &[]).await?;
                if rows.is_empty() {
                    break;
                }
                self.overlay(target, at, &rows).await?;
            }
            target.batch_execute("close regraft_later").await?;
        }
        Ok(())
    }

    async fn overlay(&self, target: &Session, at: usize, rows: &[Row]) -> Result<()> {
        let ids: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let prints: Vec<Vec<u8>> = rows
            .iter()
            .map(|row| fingerprint_of(row.get::<_, Uuid>(1).as_bytes()).to_vec())
            .collect();
        let position = fingerprint_position(self.model, at);
        target
            .execute(
                &format!(
                    "update {PROVEN} p set column_fingerprints = overlay(p.column_fingerprints placing l.print from $3 for 4)
                     from unnest($1::text[], $2::bytea[]) l (id, print) where p.legacy_id = l.id"
                ),
                &[&ids, &prints, &position],
            )
            .await?;
        Ok(())
    }
}

/// Counts the rows that `query` gives as `id`, and takes the first few.
async fn count(target: &Session, query: &str, what: String) -> Result<Option<Finding>> {
    let rows = target
        .query(
            &format!(
                "select id, count(*) over () from ({query}) found order by length(id), id limit {EXAMPLES}"
            ),
            &[],
        )
        .await?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    Ok(Some(Finding {
        what,
        rows: first.get::<_, i64>(1).unsigned_abs(),
        examples: rows.iter().map(|row| row.get(0)).collect(),
    }))
}
