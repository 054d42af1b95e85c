//! Resolving entities against both catalogs, with every problem found on the way.

use std::collections::{BTreeMap, HashMap};

use regraft_pg::Session;
use regraft_pg::catalog::{Catalog, Table};
use regraft_project::{
    Entity, KeyStrategy, Problem, Problems, Project, Provenance, Span, Spanned, Sql,
};
use tokio::try_join;
use tokio_postgres::types::Type;

use super::columns::expressions;
use super::describe::{Described, describe, key_kind};
use super::fields::{Fields, cast};
use super::transfer::{self, Limit, base, integer_width, is_text};
use super::{EntityModel, KeyRule, MergeRule, Model, Output, OutputRule};
use crate::error::Result;
use crate::validate::{invariant_problems, query_problems};

/// The model with all problems that were found; unusable when one of them is an error.
#[derive(Debug)]
pub(crate) struct Resolution {
    pub(crate) model: Model,
    pub(crate) problems: Problems,
}

/// Resolves every entity of the project.
///
/// # Errors
/// A connection that fails. What is wrong with the project is in [`Resolution::problems`].
pub(crate) async fn resolve(
    project: &Project,
    source: &Session,
    target: &Session,
) -> Result<Resolution> {
    let (target_catalog, source_catalog) =
        try_join!(Catalog::read(&**target, &[]), Catalog::read(&**source, &[]))?;
    let mut problems = Problems::new(project.sources().clone());
    let mut keys = BTreeMap::new();
    for entity in project.entities() {
        if let Some(numeric) = key_kind(source, entity, &mut problems).await? {
            keys.insert(entity.name.clone(), numeric);
        }
    }
    let mut entities = BTreeMap::new();
    for entity in project.entities() {
        let cyclic = project
            .select(&[], false)
            .ok()
            .and_then(|all| {
                all.entities()
                    .iter()
                    .find(|step| step.entity == entity.name)
                    .map(|s| s.cyclic.clone())
            })
            .unwrap_or_default();
        let resolver = Resolver {
            project,
            entity,
            source,
            target,
            catalog: &target_catalog,
            keys: &keys,
            cyclic,
            problems: &mut problems,
            fields: Fields::default(),
        };
        if let Some(model) = resolver.run().await? {
            entities.insert(entity.name.clone(), model);
        }
    }
    // What is wrong with an entity would be told again of every invariant about it.
    if !problems.has_errors() {
        problems.extend(invariant_problems(project, source, target).await?);
        problems.extend(query_problems(project, target).await?);
    }
    Ok(Resolution {
        model: Model {
            entities,
            source_catalog_hash: source_catalog.hash(),
            source_tables: source_catalog.table_hashes(),
            target_catalog,
        },
        problems,
    })
}

pub(super) struct Resolver<'a> {
    pub(super) project: &'a Project,
    pub(super) entity: &'a Entity,
    pub(super) source: &'a Session,
    pub(super) target: &'a Session,
    pub(super) catalog: &'a Catalog,
    pub(super) keys: &'a BTreeMap<String, bool>,
    pub(super) cyclic: Vec<String>,
    pub(super) problems: &'a mut Problems,
    pub(super) fields: Fields,
}

impl Resolver<'_> {
    async fn run(mut self) -> Result<Option<EntityModel>> {
        let errors_before = self.problems.len();
        let Some(table) = self.table() else {
            return Ok(None);
        };
        let types = self.column_types(&table).await?;
        self.check_filters().await?;
        self.check_merge().await?;
        let key_rule = self.key_rule(&table).await?;
        let mut outputs = vec![Output {
            column: self.entity.target.key.column.value.clone(),
            rule: OutputRule::Key,
            not_null: true,
            limit: Limit::None,
            provenance: Provenance::Derived,
            shown: format!("key, {}", strategy_name(&self.entity.target.key.strategy)),
        }];
        outputs.extend(self.legacy_output(&table, &types));
        let described = self.describe_columns().await?;
        for (column, described) in self.entity.columns.iter().zip(described) {
            if let Some(output) = self.output(column, &described, &table, &types).await? {
                outputs.push(output);
            }
        }
        self.check_left_out(&table, &outputs);
        let (Some(key_rule), Some(&numeric)) = (key_rule, self.keys.get(&self.entity.name)) else {
            return Ok(None);
        };
        if self.problems.len() > errors_before && self.problems.has_errors() {
            return Ok(None);
        }
        let defaulted = table
            .columns
            .iter()
            .filter(|c| !outputs.iter().any(|o| o.column == c.name))
            .map(|c| c.name.clone())
            .collect();
        Ok(Some(EntityModel {
            name: self.entity.name.clone(),
            key_column: self.entity.target.key.column.value.clone(),
            numeric,
            from: self.entity.source.from.text.clone(),
            key: self.entity.source.key.text.clone(),
            filters: self
                .entity
                .source
                .filters
                .iter()
                .map(|f| (f.name.clone(), f.keep.text.clone()))
                .collect(),
            only: None,
            merge: self.entity.source.merge.as_ref().map(|merge| MergeRule {
                name: merge.name.clone(),
                by: merge.by.iter().map(|sql| sql.text.clone()).collect(),
                when: merge.when.as_ref().map(|sql| sql.text.clone()),
            }),
            fields: self.fields.into_vec(),
            key_rule,
            key_strategy: strategy_name(&self.entity.target.key.strategy),
            outputs,
            defaulted,
            table,
        }))
    }

    fn table(&mut self) -> Option<Table> {
        let namespace = self.project.manifest().target.namespace.as_str();
        let (schema, name) = self.entity.target.schema_and_table(namespace);
        if let Some(table) = self.catalog.table(schema, name) {
            return Some(table.clone());
        }
        let known: Vec<&str> = self
            .catalog
            .tables
            .iter()
            .filter(|t| t.schema == schema)
            .map(|t| t.name.as_str())
            .collect();
        let hint = match closest(name, known.iter().copied()) {
            Some(close) => format!("did you mean `{close}`?"),
            None if known.is_empty() => format!(
                "schema \"{schema}\" of the target has no tables: create them with `regraft schema apply`"
            ),
            None => format!("tables of schema \"{schema}\": {}", known.join(", ")),
        };
        self.problems.push(
            Problem::error(
                "target::no-table",
                format!("the target has no table `{schema}.{name}`"),
            )
            .at(self.entity.target.table.span)
            .hint(hint),
        );
        None
    }

    async fn column_types(&self, table: &Table) -> Result<HashMap<String, Type>> {
        let statement = self
            .target
            .prepare(&format!("select * from {}", table.sql_name()))
            .await?;
        Ok(statement
            .columns()
            .iter()
            .map(|c| (c.name().to_owned(), c.type_().clone()))
            .collect())
    }

    async fn check_filters(&mut self) -> Result<()> {
        let entity = self.entity;
        let keeps: Vec<&Sql> = entity.source.filters.iter().map(|f| &f.keep).collect();
        if keeps.is_empty() {
            return Ok(());
        }
        let described = describe(self.source, &entity.source.from, &keeps, self.problems).await?;
        for (filter, described) in entity.source.filters.iter().zip(described) {
            if let Some(described) = described
                && *base(&described.of) != Type::BOOL
            {
                self.problems.push(
                    Problem::error(
                        "source::filter-type",
                        format!(
                            "filter `{}` is of type {}, not boolean",
                            filter.name,
                            described.of.name()
                        ),
                    )
                    .at(filter.keep.span)
                    .hint("a row is kept when the condition is true"),
                );
            }
        }
        Ok(())
    }

    /// The source must know the expressions of a merge rule; and in a cycle nobody could say which
    /// row a reference means before all of it is in place.
    async fn check_merge(&mut self) -> Result<()> {
        let entity = self.entity;
        let Some(merge) = &entity.source.merge else {
            return Ok(());
        };
        let expressions: Vec<&Sql> = merge.by.iter().chain(&merge.when).collect();
        let described = describe(
            self.source,
            &entity.source.from,
            &expressions,
            self.problems,
        )
        .await?;
        if let (Some(when), Some(Some(of))) = (&merge.when, described.last())
            && *base(&of.of) != Type::BOOL
        {
            self.problems.push(
                Problem::error(
                    "source::merge-type",
                    format!("`when` is of type {}, not boolean", of.of.name()),
                )
                .at(when.span)
                .hint("rows are merged where the condition is true"),
            );
        }
        if let (Some(by), false) = (merge.by.first(), self.cyclic.is_empty()) {
            self.problems.push(
                Problem::error(
                    "project::merge-in-cycle",
                    "an entity that is part of a cycle of references can't have a merge rule",
                )
                .at(by.span),
            );
        }
        Ok(())
    }

    async fn key_rule(&mut self, table: &Table) -> Result<Option<KeyRule>> {
        let key = &self.entity.target.key;
        let Some(column) = table.column(&key.column.value) else {
            self.no_column(&key.column, table);
            return Ok(None);
        };
        if column.type_name != "uuid" {
            self.problems.push(
                Problem::error(
                    "target::key-type",
                    format!(
                        "the key column `{}` is of type {}, not uuid",
                        column.name, column.type_name
                    ),
                )
                .at(key.column.span),
            );
            return Ok(None);
        }
        let unique = table.indexes.iter().any(|index| {
            index.unique
                && index.valid
                && index.predicate.is_none()
                && index.plain_columns == [Some(column.name.clone())]
        });
        // A partitioned table's primary key must hold its partition key too, so that the id alone
        // can't be unique there; the mapping's own index still is.
        if !unique && table.kind != "p" {
            self.problems.push(
                Problem::error(
                    "target::key-not-unique",
                    format!(
                        "the key column `{}` has no unique index of its own",
                        column.name
                    ),
                )
                .at(key.column.span)
                .hint("make it the primary key: without it a row could be written twice"),
            );
        }
        self.strategy_rule().await
    }

    async fn strategy_rule(&mut self) -> Result<Option<KeyRule>> {
        let entity = self.entity;
        let column = entity.target.key.column.value.as_str();
        match &entity.target.key.strategy {
            KeyStrategy::UuidV5 => Ok(Some(KeyRule::V5)),
            KeyStrategy::UuidV4 => Ok(Some(KeyRule::V4)),
            KeyStrategy::UuidV7 { time } => {
                let Some(described) = self.describe_one(time).await? else {
                    return Ok(None);
                };
                if !matches!(
                    *base(&described.of),
                    Type::TIMESTAMPTZ | Type::TIMESTAMP | Type::DATE
                ) {
                    self.problems.push(
                        Problem::error(
                            "source::time-type",
                            format!(
                                "the time of a uuid_v7 key is of type {}",
                                described.of.name()
                            ),
                        )
                        .at(time.span)
                        .hint("it has to be a timestamptz, timestamp or date"),
                    );
                    return Ok(None);
                }
                let sql = cast(
                    &time.text,
                    (*base(&described.of) == Type::DATE).then_some("timestamp"),
                );
                Ok(Some(KeyRule::V7 {
                    time: self.fields.position(column, sql),
                }))
            }
            KeyStrategy::Column { from } => {
                let Some(described) = self.describe_one(from).await? else {
                    return Ok(None);
                };
                if *base(&described.of) == Type::UUID {
                    let field = self.fields.position(column, cast(&from.text, None));
                    return Ok(Some(KeyRule::Uuid { field }));
                }
                if is_text(&described.of) {
                    let field = self.fields.position(column, cast(&from.text, Some("text")));
                    return Ok(Some(KeyRule::UuidText { field }));
                }
                self.problems.push(
                    Problem::error(
                        "source::key-type",
                        format!(
                            "a key read from the source is uuid or text, not {}",
                            described.of.name()
                        ),
                    )
                    .at(from.span),
                );
                Ok(None)
            }
            KeyStrategy::SameAs {
                entity: parent,
                from,
            } => {
                let from = from.as_ref().unwrap_or(&entity.source.key);
                let Some(field) = self.reference_field(column, parent, from).await? else {
                    return Ok(None);
                };
                Ok(Some(KeyRule::SameAs {
                    entity: parent.value.clone(),
                    field,
                }))
            }
        }
    }

    pub(super) async fn describe_one(&mut self, sql: &Sql) -> Result<Option<Described>> {
        let described =
            describe(self.source, &self.entity.source.from, &[sql], self.problems).await?;
        Ok(described.into_iter().next().flatten())
    }

    fn legacy_output(&mut self, table: &Table, types: &HashMap<String, Type>) -> Option<Output> {
        let legacy = self.entity.target.legacy.as_ref()?;
        let column = self.writable(legacy, table)?;
        let of = types.get(&column.name)?;
        let numeric = *self.keys.get(&self.entity.name)?;
        let width = integer_width(of)
            .filter(|_| numeric)
            .or_else(|| is_text(of).then_some(0));
        let Some(width) = width else {
            self.problems.push(
                Problem::error(
                    "target::legacy-type",
                    format!(
                        "the legacy id does not fit into column `{}` of type {}",
                        column.name, column.type_name
                    ),
                )
                .at(legacy.span),
            );
            return None;
        };
        Some(Output {
            column: column.name.clone(),
            rule: OutputRule::LegacyId { width },
            not_null: column.not_null,
            limit: transfer::limit(&column, of, -1).unwrap_or(Limit::None),
            provenance: Provenance::Copied,
            shown: "legacy id".to_owned(),
        })
    }

    /// The types of every expression of every column, in the order of [`expressions`].
    async fn describe_columns(&mut self) -> Result<Vec<Vec<Option<Described>>>> {
        let entity = self.entity;
        let all: Vec<&Sql> = entity.columns.iter().flat_map(expressions).collect();
        if all.is_empty() {
            return Ok(entity.columns.iter().map(|_| Vec::new()).collect());
        }
        let mut described = describe(self.source, &entity.source.from, &all, self.problems)
            .await?
            .into_iter();
        Ok(entity
            .columns
            .iter()
            .map(|column| described.by_ref().take(expressions(column).len()).collect())
            .collect())
    }

    /// The column `name` of the target, if it can be written.
    pub(super) fn writable(
        &mut self,
        name: &Spanned<String>,
        table: &Table,
    ) -> Option<regraft_pg::catalog::Column> {
        let Some(column) = table.column(&name.value) else {
            self.no_column(name, table);
            return None;
        };
        if column.is_generated() {
            self.problems.push(
                Problem::error(
                    "target::generated",
                    format!(
                        "column `{}` is generated: PostgreSQL computes it",
                        column.name
                    ),
                )
                .at(name.span)
                .hint("leave it out"),
            );
            return None;
        }
        Some(column.clone())
    }

    fn no_column(&mut self, name: &Spanned<String>, table: &Table) {
        let hint = match closest(&name.value, table.columns.iter().map(|c| c.name.as_str())) {
            Some(close) => format!("did you mean `{close}`?"),
            None => format!(
                "it has {}",
                table
                    .columns
                    .iter()
                    .map(|c| c.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        };
        self.problems.push(
            Problem::error(
                "target::no-column",
                format!("table `{}` has no column `{}`", table.name, name.value),
            )
            .at(name.span)
            .hint(hint),
        );
    }

    fn check_left_out(&mut self, table: &Table, outputs: &[Output]) {
        let span: Span = self.entity.target.table.span;
        let mapped = |name: &str| {
            outputs.iter().any(|o| o.column == name)
                || self.entity.columns.iter().any(|c| c.name.value == name)
        };
        for column in &table.columns {
            if column.not_null
                && !column.has_default()
                && !column.is_generated()
                && !mapped(&column.name)
            {
                self.problems.push(
                    Problem::error(
                        "target::unmapped-not-null",
                        format!(
                            "column `{}` of `{}` is NOT NULL, has no default and is not mapped",
                            column.name, table.name
                        ),
                    )
                    .at(span)
                    .hint(format!("add `{}` under [columns]", column.name)),
                );
            }
        }
    }
}

fn strategy_name(strategy: &KeyStrategy) -> &'static str {
    match strategy {
        KeyStrategy::UuidV7 { .. } => "uuid_v7",
        KeyStrategy::UuidV5 => "uuid_v5",
        KeyStrategy::UuidV4 => "uuid_v4",
        KeyStrategy::Column { .. } => "column",
        KeyStrategy::SameAs { .. } => "same_as",
    }
}

/// The name most like `wanted`, if any is close.
pub(super) fn closest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    regraft_project::nearest(wanted, known)
}
