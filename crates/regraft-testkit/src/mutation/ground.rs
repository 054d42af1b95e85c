//! A migrated target, and what can be corrupted in it.

use std::collections::BTreeSet;

use regraft_engine::Validation;
use regraft_pg::{Session, quote};
use regraft_project::{Entity, KeyStrategy, Project, Rule};

use crate::rehearsal::Rehearsal;
use crate::servers::{block_on, rows, session};

/// A migrated target, and what can be corrupted in it.
#[derive(Debug)]
pub struct Ground {
    /// The entities that were validated, in their order.
    pub(super) subjects: Vec<Subject>,
}

/// An entity.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) name: String,
    /// The target table's quoted name, and as a message has it.
    pub(super) table: String,
    pub(super) table_plain: String,
    /// The quoted key column, and its bare name.
    pub(super) key: String,
    pub(super) key_plain: String,
    pub(super) legacy: Option<String>,
    /// Whether legacy ids are written to a column of text.
    pub(super) legacy_is_text: bool,
    /// Something to select its mappings from.
    pub(super) mappings: String,
    pub(super) values: Vec<ValueColumn>,
    pub(super) edges: Vec<EdgeColumn>,
    /// The entity that its keys are of, if they are another one's.
    pub(super) same_as: Option<String>,
    /// Whether the source has the key.
    pub(super) key_from_source: bool,
    pub(super) merges: bool,
    /// The entity that answers for foreign rows of the table, and its column for the legacy id.
    pub(super) answers: (String, Option<String>),
    /// All columns that can be written.
    pub(super) writable: Vec<String>,
}

/// A mapped column that is no reference.
#[derive(Debug)]
pub(super) struct ValueColumn {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Its type with length or precision.
    pub(super) declared: String,
}

/// A mapped column that is a reference.
#[derive(Debug)]
pub(super) struct EdgeColumn {
    pub(super) name: String,
    pub(super) parents: Vec<String>,
}

/// Of which kind a column's values are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// Blanks at the end don't count.
    Padded,
    Integer,
    /// With the digits behind the point, where they are declared.
    Numeric(Option<i32>),
    Float,
    Boolean,
    Timestamp,
    Date,
    Enum(Vec<String>),
    Jsonb,
    Bytea,
    Array,
    Other,
}

/// Takes off what would refuse a corrupted row: such a row is in the target all the same when a
/// faulty program wrote it before a constraint was there. Keys and foreign keys stay.
const RELAX: &str = "do $$ declare c record; begin
  for c in select conrelid::regclass as t, conname from pg_constraint
           where connamespace in ('public'::regnamespace, 'regraft'::regnamespace)
             and contype in ('c', 'u', 'x') and conrelid <> 0 and coninhcount = 0
  loop execute format('alter table %s drop constraint %I cascade', c.t, c.conname); end loop;
  for c in select i.indexrelid::regclass as i from pg_index i join pg_class k on k.oid = i.indexrelid
           where k.relnamespace = 'public'::regnamespace and i.indisunique and not i.indisprimary
             and not k.relispartition
  loop execute format('drop index %s cascade', c.i); end loop;
  for c in select a.attrelid::regclass as t, a.attname from pg_attribute a join pg_class k on k.oid = a.attrelid
           where k.relnamespace = 'public'::regnamespace and k.relkind in ('r', 'p') and not k.relispartition
             and a.attnum > 0 and a.attnotnull and a.attidentity = '' and not a.attisdropped
             and not exists (select from pg_index i where i.indrelid = a.attrelid and i.indisprimary and a.attnum = any (i.indkey))
  loop execute format('alter table %s alter column %I drop not null', c.t, c.attname); end loop;
  end $$";

impl Ground {
    /// Takes constraints off a migrated target, and looks at what there is; `validation` is one of
    /// it, which found nothing. What it says that it did not check is not corrupted.
    pub fn new(rehearsal: &Rehearsal<'_>, validation: &Validation) -> Self {
        let findings: Vec<String> = validation
            .entities
            .iter()
            .flat_map(|entity| &entity.checks)
            .flat_map(|check| &check.findings)
            .map(|finding| format!("{finding:?}"))
            .collect();
        assert!(
            findings.is_empty(),
            "nothing is corrupted yet: {findings:?}"
        );
        rehearsal.modern(RELAX);
        // What is looked for among these rows would be nested loops otherwise.
        rehearsal.modern("analyze");
        let project = rehearsal.context().project;
        let url = rehearsal.modern_url();
        let subjects = block_on(async {
            let session = session(&url).await;
            let mut subjects: Vec<Subject> = Vec::new();
            for validated in &validation.entities {
                let entity = project.entity(&validated.entity).expect("it is there");
                let subject = subject(&session, &project, entity, validation, &subjects).await;
                subjects.push(subject);
            }
            session.close().await;
            subjects
        });
        Self { subjects }
    }

    /// Keeps everything as it is now beside the original, so that [`super::Round::undo`] can bring
    /// it back; for small targets.
    pub fn keep(&self, rehearsal: &Rehearsal<'_>) {
        let mut tables: BTreeSet<&str> = LEDGER.into_iter().collect();
        tables.extend(self.subjects.iter().map(|subject| subject.table.as_str()));
        let mut statements = String::from("create schema testkit_kept;");
        for table in tables {
            statements.push_str(&format!("create table {} as table {table};", kept(table)));
        }
        rehearsal.modern(&statements);
    }

    pub(super) fn subject(&self, name: &str) -> Option<&Subject> {
        self.subjects.iter().find(|subject| subject.name == name)
    }

    /// The references to an entity: who refers, and the quoted column.
    pub(super) fn children(&self, parent: &str) -> Vec<(&Subject, &str)> {
        let mut children = Vec::new();
        for subject in &self.subjects {
            let edges = subject.edges.iter();
            let edges = edges.filter(|edge| edge.parents.iter().any(|p| p == parent));
            children.extend(edges.map(|edge| (subject, edge.name.as_str())));
            if subject.same_as.as_deref() == Some(parent) {
                children.push((subject, subject.key_plain.as_str()));
            }
        }
        children
    }
}

/// The tables of the ledger that are corrupted.
const LEDGER: [&str; 4] = [
    "regraft.migration_mappings",
    "regraft.migration_control",
    "regraft.migration_checkpoints",
    "regraft.migration_quarantine",
];

/// Where a table is kept.
fn kept(table: &str) -> String {
    quote::qualified("testkit_kept", table)
}

/// Brings a table back as it was kept.
pub(super) async fn restore(session: &Session, table: &str) {
    let writable = columns(session, table).await;
    let writable = writable.iter().filter(|column| column.writable);
    let list = quote::idents(writable.map(|column| column.name.as_str()));
    let kept = kept(table);
    let statements = format!(
        "delete from {table}; insert into {table} ({list}) overriding system value select {list} from {kept}"
    );
    let done = session.batch_execute(&statements).await;
    done.unwrap_or_else(|e| panic!("{}: {statements}", session.error(e).message()));
}

async fn subject(
    session: &Session,
    project: &Project,
    entity: &Entity,
    validation: &Validation,
    before: &[Subject],
) -> Subject {
    let (schema, table) = entity
        .target
        .schema_and_table(&project.manifest().target.namespace);
    let place = quote::qualified(schema, table);
    let there = columns(session, &place).await;
    let legacy = entity.target.legacy.as_ref().map(|l| l.value.clone());
    let first = before.iter().find(|other| other.table == place);
    let answers = first.map_or_else(
        || (entity.name.clone(), legacy.clone()),
        |first| (first.name.clone(), first.legacy.clone()),
    );
    let (values, edges) = mapped(entity, &there, &not_checked(validation, &entity.name));
    Subject {
        name: entity.name.clone(),
        table: place,
        table_plain: entity.target.table.value.clone(),
        key: quote::ident(&entity.target.key.column.value),
        key_plain: entity.target.key.column.value.clone(),
        legacy_is_text: legacy.as_ref().is_some_and(|legacy| {
            let mut columns = there.iter();
            columns.any(|column| column.name == *legacy && column.kind == Kind::Text)
        }),
        mappings: format!(
            "(select * from regraft.migration_mappings where entity = {})",
            quote::literal(&entity.name)
        ),
        values,
        edges,
        same_as: match &entity.target.key.strategy {
            KeyStrategy::SameAs { entity, .. } => Some(entity.value.clone()),
            _ => None,
        },
        key_from_source: matches!(entity.target.key.strategy, KeyStrategy::Column { .. }),
        merges: entity.source.merge.is_some(),
        answers,
        legacy,
        writable: there
            .into_iter()
            .filter_map(|column| column.writable.then_some(column.name))
            .collect(),
    }
}

/// The mapped columns of an entity that are checked: values, and references.
fn mapped(
    entity: &Entity,
    there: &[Declared],
    excluded: &BTreeSet<String>,
) -> (Vec<ValueColumn>, Vec<EdgeColumn>) {
    let (mut values, mut edges) = (Vec::new(), Vec::new());
    for column in &entity.columns {
        let name = column.name.value.clone();
        if excluded.contains(&name) {
            continue;
        }
        let parents = match &column.rule {
            Rule::Ref { entity, .. } => BTreeSet::from([entity.value.clone()]),
            Rule::RefBy { cases, .. } => cases.iter().map(|(_, p)| p.value.clone()).collect(),
            _ => {
                let Some(known) = there.iter().find(|known| known.name == name) else {
                    continue;
                };
                values.push(ValueColumn {
                    name,
                    kind: known.kind.clone(),
                    declared: known.declared.clone(),
                });
                continue;
            }
        };
        let parents = parents.into_iter().collect();
        edges.push(EdgeColumn { name, parents });
    }
    (values, edges)
}

/// Columns that the program says it did not check, with its reason: `entity.column: reason`.
fn not_checked(validation: &Validation, entity: &str) -> BTreeSet<String> {
    let remarks = validation.not_checked.iter();
    remarks
        .filter_map(|remark| {
            let column = remark.strip_prefix(entity)?.strip_prefix('.')?;
            Some(column.split(':').next()?.to_owned())
        })
        .collect()
}

/// A column of a table.
struct Declared {
    name: String,
    kind: Kind,
    declared: String,
    writable: bool,
}

/// The columns of a table.
async fn columns(session: &Session, table: &str) -> Vec<Declared> {
    let query = format!(
        "select a.attname, coalesce(b.typname, t.typname), case when t.typtype = 'd' then t.typtypmod else a.atttypmod end,
                coalesce(b.typtype, t.typtype), a.attgenerated <> '' or a.attidentity = 'a',
                (select string_agg(e.enumlabel, chr(31) order by e.enumsortorder) from pg_enum e
                 where e.enumtypid = coalesce(b.oid, t.oid)), coalesce(b.typcategory, t.typcategory),
                format_type(a.atttypid, a.atttypmod)
         from pg_attribute a join pg_type t on t.oid = a.atttypid left join pg_type b on b.oid = nullif(t.typbasetype, 0)
         where a.attrelid = {}::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum",
        quote::literal(table)
    );
    let rows = rows(session, &query).await;
    rows.into_iter()
        .map(|row| {
            let text = |i: usize| row[i].clone().unwrap_or_default();
            let modifier: i32 = text(2).parse().unwrap_or(-1);
            let kind = match text(1).as_str() {
                _ if text(3) == "e" => {
                    Kind::Enum(text(5).split('\u{1f}').map(str::to_owned).collect())
                }
                _ if text(6) == "A" => Kind::Array,
                "text" | "varchar" | "citext" => Kind::Text,
                "bpchar" => Kind::Padded,
                "int2" | "int4" | "int8" => Kind::Integer,
                "numeric" => Kind::Numeric((modifier >= 4).then_some((modifier - 4) & 0x7ff)),
                "float4" | "float8" => Kind::Float,
                "bool" => Kind::Boolean,
                "timestamp" | "timestamptz" => Kind::Timestamp,
                "date" => Kind::Date,
                "jsonb" => Kind::Jsonb,
                "bytea" => Kind::Bytea,
                _ => Kind::Other,
            };
            Declared {
                name: text(0),
                kind,
                declared: text(7),
                writable: text(4) != "t",
            }
        })
        .collect()
}
