//! Resolving entities against both catalogs, with every problem found on the way.

use std::collections::{BTreeMap, HashMap};

use regraft_pg::Session;
use regraft_pg::catalog::{Catalog, Table};
use regraft_pg::quote;
use regraft_project::{
    BadJson, Column, EmptyJson, Entity, KeyStrategy, Missing, Problem, Problems, Project,
    Provenance, Rule, Span, Spanned, Sql,
};
use tokio_postgres::types::{Kind, Type};

use super::fields::{Fields, cast, json_expressions, json_object};
use super::transfer::{self, Limit, Transfer, base, integer_width, is_text};
use super::{
    BadText, EmptyText, EntityModel, KeyRule, MissingKey, Model, Output, OutputRule, constants,
};
use crate::error::Result;

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
    let target_catalog = Catalog::read(&**target, &[]).await?;
    let source_catalog_hash = Catalog::read(&**source, &[]).await?.hash();
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
                all.entities().iter().find(|step| step.entity == entity.name).map(|s| s.cyclic.clone())
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
    Ok(Resolution { model: Model { entities, source_catalog_hash, target_catalog }, problems })
}

/// What the source says of an expression.
#[derive(Debug, Clone)]
struct Described {
    of: Type,
    modifier: i32,
}

/// Asks the source for the types of expressions over a FROM list; problems are reported at the
/// expression, with the position PostgreSQL gives.
async fn describe(
    source: &Session,
    from: &Sql,
    expressions: &[&Sql],
    problems: &mut Problems,
) -> Result<Vec<Option<Described>>> {
    let list: Vec<String> = expressions.iter().map(|e| cast(&e.text, None)).collect();
    let all = format!("select {} from {}\n", list.join(", "), from.text);
    if let Ok(statement) = source.prepare(&all).await {
        return Ok(statement
            .columns()
            .iter()
            .map(|c| Some(Described { of: c.type_().clone(), modifier: c.type_modifier() }))
            .collect());
    }
    let mut described = Vec::with_capacity(expressions.len());
    let mut from_reported = false;
    for expression in expressions {
        let head = "select (";
        let sql = format!("{head}{}\n) from {}\n", expression.text, from.text);
        match source.prepare(&sql).await {
            Ok(statement) => described.push(
                statement
                    .columns()
                    .first()
                    .map(|c| Described { of: c.type_().clone(), modifier: c.type_modifier() }),
            ),
            Err(e) => {
                described.push(None);
                let error = source.error(e);
                if error.sqlstate().is_none() {
                    return Err(error.into());
                }
                let position = error.position().map_or(0, |p| p as usize).saturating_sub(1);
                let length = expression.text.chars().count();
                let in_expression = position.saturating_sub(head.len()) <= length;
                let (sql, offset) = if in_expression {
                    (*expression, position.saturating_sub(head.len()))
                } else {
                    (from, position.saturating_sub(head.len() + length + ") from ".len() + 1))
                };
                if !in_expression {
                    if from_reported {
                        continue;
                    }
                    from_reported = true;
                }
                problems.push(
                    Problem::error("source::expression", format!("the source refuses this: {}", error.message()))
                        .at(sql.span_at(offset, 1))
                        .label("here, says PostgreSQL"),
                );
            }
        }
    }
    Ok(described)
}

/// Whether an entity's legacy ids are numbers; `None` when they can't be used.
async fn key_kind(
    source: &Session,
    entity: &Entity,
    problems: &mut Problems,
) -> Result<Option<bool>> {
    let described =
        describe(source, &entity.source.from, &[&entity.source.key], problems).await?;
    let Some(Some(key)) = described.into_iter().next() else { return Ok(None) };
    if integer_width(&key.of).is_some() {
        return Ok(Some(true));
    }
    if is_text(&key.of) || *base(&key.of) == Type::UUID {
        return Ok(Some(false));
    }
    problems.push(
        Problem::error("source::key-type", format!("a key of type {} can't be used", key.of.name()))
            .at(entity.source.key.span)
            .hint("a key is a smallint, integer, bigint, text, varchar or uuid; cast it, for example to text"),
    );
    Ok(None)
}

struct Resolver<'a> {
    project: &'a Project,
    entity: &'a Entity,
    source: &'a Session,
    target: &'a Session,
    catalog: &'a Catalog,
    keys: &'a BTreeMap<String, bool>,
    cyclic: Vec<String>,
    problems: &'a mut Problems,
    fields: Fields,
}

impl Resolver<'_> {
    async fn run(mut self) -> Result<Option<EntityModel>> {
        let errors_before = self.problems.len();
        let Some(table) = self.table() else { return Ok(None) };
        let types = self.column_types(&table).await?;
        self.check_filters().await?;
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
            Problem::error("target::no-table", format!("the target has no table `{schema}.{name}`"))
                .at(self.entity.target.table.span)
                .hint(hint),
        );
        None
    }

    async fn column_types(&self, table: &Table) -> Result<HashMap<String, Type>> {
        let statement =
            self.target.prepare(&format!("select * from {}", table.sql_name())).await?;
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
                        format!("filter `{}` is of type {}, not boolean", filter.name, described.of.name()),
                    )
                    .at(filter.keep.span)
                    .hint("a row is kept when the condition is true"),
                );
            }
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
                    format!("the key column `{}` is of type {}, not uuid", column.name, column.type_name),
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
                    format!("the key column `{}` has no unique index of its own", column.name),
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
                let Some(described) = self.describe_one(time).await? else { return Ok(None) };
                if !matches!(*base(&described.of), Type::TIMESTAMPTZ | Type::TIMESTAMP | Type::DATE) {
                    self.problems.push(
                        Problem::error(
                            "source::time-type",
                            format!("the time of a uuid_v7 key is of type {}", described.of.name()),
                        )
                        .at(time.span)
                        .hint("it has to be a timestamptz, timestamp or date"),
                    );
                    return Ok(None);
                }
                let sql = cast(&time.text, (*base(&described.of) == Type::DATE).then_some("timestamp"));
                Ok(Some(KeyRule::V7 { time: self.fields.position(column, sql) }))
            }
            KeyStrategy::Column { from } => {
                let Some(described) = self.describe_one(from).await? else { return Ok(None) };
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
                        format!("a key read from the source is uuid or text, not {}", described.of.name()),
                    )
                    .at(from.span),
                );
                Ok(None)
            }
            KeyStrategy::SameAs { entity: parent, from } => {
                let from = from.as_ref().unwrap_or(&entity.source.key);
                let Some(field) = self.reference_field(column, parent, from).await? else {
                    return Ok(None);
                };
                Ok(Some(KeyRule::SameAs { entity: parent.value.clone(), field }))
            }
        }
    }

    async fn describe_one(&mut self, sql: &Sql) -> Result<Option<Described>> {
        let described =
            describe(self.source, &self.entity.source.from, &[sql], self.problems).await?;
        Ok(described.into_iter().next().flatten())
    }

    fn legacy_output(&mut self, table: &Table, types: &HashMap<String, Type>) -> Option<Output> {
        let legacy = self.entity.target.legacy.as_ref()?;
        let column = self.writable(legacy, table)?;
        let of = types.get(&column.name)?;
        let numeric = *self.keys.get(&self.entity.name)?;
        let width = integer_width(of).filter(|_| numeric).or_else(|| is_text(of).then_some(0));
        let Some(width) = width else {
            self.problems.push(
                Problem::error(
                    "target::legacy-type",
                    format!("the legacy id does not fit into column `{}` of type {}", column.name, column.type_name),
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
        let mut described =
            describe(self.source, &entity.source.from, &all, self.problems).await?.into_iter();
        Ok(entity
            .columns
            .iter()
            .map(|column| described.by_ref().take(expressions(column).len()).collect())
            .collect())
    }

    async fn output(
        &mut self,
        column: &Column,
        described: &[Option<Described>],
        table: &Table,
        types: &HashMap<String, Type>,
    ) -> Result<Option<Output>> {
        let Some(target) = self.writable(&column.name, table) else { return Ok(None) };
        let Some(of) = types.get(&target.name) else { return Ok(None) };
        if described.iter().any(Option::is_none) {
            return Ok(None);
        }
        let described: Vec<&Described> = described.iter().flatten().collect();
        let rule = match &column.rule {
            Rule::Sql(sql) => self.plain(column, sql, described[0], of),
            Rule::Value(value) => {
                self.constant(value, of).await?.map(|bytes| OutputRule::Constant(Some(bytes)))
            }
            Rule::Map { from, map, null, otherwise } => {
                self.map(column, from, map, null.as_ref(), otherwise.as_ref(), of).await?
            }
            Rule::Json(object) => self.json(column, object, of),
            Rule::Parse { from, bad, empty } => self.parse(column, from, described[0], bad, empty, of),
            Rule::Ref { entity, from, missing } => {
                self.reference(column, entity, from, missing, table).await?
            }
            Rule::RefBy { by, cases, from, missing } => {
                self.reference_by(column, by, cases, from, missing, table).await?
            }
        };
        let Some(rule) = rule else { return Ok(None) };
        let modifier = match &column.rule {
            Rule::Sql(_) => described[0].modifier,
            _ => -1,
        };
        let limit = match transfer::limit(&target, of, modifier) {
            Ok(limit) => limit,
            Err(hint) => {
                self.problems.push(
                    Problem::error("target::silent-rounding", format!("column `{}` can't take this as it is", target.name))
                        .at(column.span)
                        .hint(hint),
                );
                return Ok(None);
            }
        };
        Ok(Some(Output {
            column: target.name.clone(),
            rule,
            not_null: target.not_null,
            limit,
            provenance: column.provenance,
            shown: shown(&column.rule),
        }))
    }

    fn plain(&mut self, column: &Column, sql: &Sql, described: &Described, of: &Type) -> Option<OutputRule> {
        let name = column.name.value.as_str();
        match transfer::transfer(&described.of, of) {
            Ok(Transfer::Pass(to)) => {
                Some(OutputRule::Copy { field: self.fields.position(name, cast(&sql.text, to)) })
            }
            Ok(Transfer::Narrow(width)) => Some(OutputRule::Narrow {
                field: self.fields.position(name, cast(&sql.text, Some("int8"))),
                width,
            }),
            Ok(Transfer::Labels(labels)) => Some(OutputRule::Label {
                field: self.fields.position(name, cast(&sql.text, None)),
                labels,
            }),
            Ok(Transfer::Recode(recode)) => Some(OutputRule::Recode {
                field: self.fields.position(name, cast(&sql.text, None)),
                recode,
            }),
            Err(hint) => {
                self.problems.push(
                    Problem::error(
                        "target::type",
                        format!("the expression is of type {}, the column `{name}` of type {}", described.of.name(), of.name()),
                    )
                    .at(sql.span)
                    .hint(hint),
                );
                None
            }
        }
    }

    /// Encodes a constant for a column's type; a label that an enum doesn't have is a problem at
    /// the label.
    async fn constant(&mut self, text: &Spanned<String>, of: &Type) -> Result<Option<Vec<u8>>> {
        if let Kind::Enum(labels) = base(of).kind()
            && !labels.contains(&text.value)
        {
            let hint = match closest(&text.value, labels.iter().map(String::as_str)) {
                Some(close) => format!("did you mean `{close}`? It has {}", labels.join(", ")),
                None => format!("it has {}", labels.join(", ")),
            };
            self.problems.push(
                Problem::error("target::enum-label", format!("type {} has no label `{}`", base(of).name(), text.value))
                    .at(text.span)
                    .hint(hint),
            );
            return Ok(None);
        }
        match constants::encode(self.target, &text.value, of).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.database().is_some_and(|e| e.sqlstate().is_some()) => {
                self.problems.push(
                    Problem::error("target::constant", format!("`{}` is no value of type {}", text.value, of.name()))
                        .at(text.span),
                );
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn map(
        &mut self,
        column: &Column,
        from: &Sql,
        map: &[(Spanned<String>, Spanned<String>)],
        null: Option<&Spanned<String>>,
        otherwise: Option<&Spanned<String>>,
        of: &Type,
    ) -> Result<Option<OutputRule>> {
        let mut encoded = HashMap::new();
        let mut complete = true;
        for (value, becomes) in map {
            match self.constant(becomes, of).await? {
                Some(bytes) => {
                    encoded.insert(value.value.clone().into_bytes(), bytes);
                }
                None => complete = false,
            }
        }
        let mut others = [None, None];
        for (slot, value) in others.iter_mut().zip([null, otherwise]) {
            if let Some(value) = value {
                *slot = self.constant(value, of).await?;
                complete &= slot.is_some();
            }
        }
        let field = self.fields.position(&column.name.value, cast(&from.text, Some("text")));
        let [null, otherwise] = others;
        Ok(complete.then_some(OutputRule::Map { field, map: encoded, null, otherwise }))
    }

    fn json(&mut self, column: &Column, object: &regraft_project::JsonObject, of: &Type) -> Option<OutputRule> {
        let sql = match *base(of) {
            Type::JSONB => json_object(object),
            Type::JSON => format!("({})::json", json_object(object)),
            _ => {
                self.not_json(column, of);
                return None;
            }
        };
        Some(OutputRule::Copy { field: self.fields.position(&column.name.value, sql) })
    }

    fn not_json(&mut self, column: &Column, of: &Type) {
        self.problems.push(
            Problem::error(
                "target::type",
                format!("the column `{}` is of type {}, not json or jsonb", column.name.value, of.name()),
            )
            .at(column.span),
        );
    }

    fn parse(
        &mut self,
        column: &Column,
        from: &Sql,
        described: &Described,
        bad: &BadJson,
        empty: &EmptyJson,
        of: &Type,
    ) -> Option<OutputRule> {
        if !matches!(*base(of), Type::JSONB | Type::JSON) {
            self.not_json(column, of);
            return None;
        }
        if !is_text(&described.of) && *base(&described.of) != Type::BPCHAR {
            self.problems.push(
                Problem::error(
                    "source::parse-type",
                    format!("only text can be parsed as JSON; this is of type {}", described.of.name()),
                )
                .at(from.span),
            );
            return None;
        }
        Some(OutputRule::Json {
            field: self.fields.position(&column.name.value, cast(&from.text, Some("text"))),
            binary: *base(of) == Type::JSONB,
            bad: match bad {
                BadJson::Quarantine => BadText::Quarantine,
                BadJson::Null => BadText::Null,
                BadJson::KeepAs(name) => BadText::KeepAs(name.clone()),
            },
            empty: match empty {
                EmptyJson::Null => EmptyText::Null,
                EmptyJson::Quarantine => EmptyText::Quarantine,
                EmptyJson::Value(text) => EmptyText::Value(text.clone().into_bytes()),
            },
        })
    }

    async fn reference(
        &mut self,
        column: &Column,
        parent: &Spanned<String>,
        from: &Sql,
        missing: &Missing,
        table: &Table,
    ) -> Result<Option<OutputRule>> {
        self.check_reference(column, parent, table);
        let Some(missing) = self.missing(missing).await? else { return Ok(None) };
        let Some(field) = self.reference_field(&column.name.value, parent, from).await? else {
            return Ok(None);
        };
        let later = self.later(column, table);
        Ok(Some(OutputRule::Reference { field, entity: parent.value.clone(), missing, later }))
    }

    async fn reference_by(
        &mut self,
        column: &Column,
        by: &Sql,
        cases: &[(Spanned<String>, Spanned<String>)],
        from: &Sql,
        missing: &Missing,
        table: &Table,
    ) -> Result<Option<OutputRule>> {
        let Some(missing) = self.missing(missing).await? else { return Ok(None) };
        let mut field = None;
        for (_, parent) in cases {
            if cases.iter().map(|(_, p)| &p.value).all(|p| *p == parent.value) {
                self.check_reference(column, parent, table);
            }
            field = self.reference_field(&column.name.value, parent, from).await?;
        }
        let by = self.fields.position(&column.name.value, cast(&by.text, Some("text")));
        let later = self.later(column, table);
        let cases = cases
            .iter()
            .map(|(value, parent)| (value.value.clone().into_bytes(), parent.value.clone()))
            .collect();
        Ok(field.map(|field| OutputRule::ReferenceBy { by, field, cases, missing, later }))
    }

    /// Whether a reference has to wait until its cycle is in place; a NOT NULL column can't.
    fn later(&mut self, column: &Column, table: &Table) -> bool {
        let cyclic = self.cyclic.contains(&column.name.value);
        if cyclic && table.column(&column.name.value).is_some_and(|c| c.not_null) {
            self.problems.push(
                Problem::error(
                    "target::cycle-not-null",
                    format!("the reference `{}` is part of a cycle and NOT NULL: no row could be the first", column.name.value),
                )
                .at(column.name.span)
                .hint("let the column be NULL in the target; it is filled in when the whole cycle is in place"),
            );
        }
        cyclic
    }

    async fn missing(&mut self, missing: &Missing) -> Result<Option<MissingKey>> {
        Ok(match missing {
            Missing::Quarantine => Some(MissingKey::Quarantine),
            Missing::Null => Some(MissingKey::Null),
            Missing::Default(text) => self.constant(text, &Type::UUID).await?.map(MissingKey::Key),
        })
    }

    /// The field that holds the legacy id of a parent, cast to what that parent's ids are.
    async fn reference_field(
        &mut self,
        column: &str,
        parent: &Spanned<String>,
        from: &Sql,
    ) -> Result<Option<usize>> {
        let Some(described) = self.describe_one(from).await? else { return Ok(None) };
        let Some(&numeric) = self.keys.get(&parent.value) else { return Ok(None) };
        if numeric && integer_width(&described.of).is_none() {
            self.problems.push(
                Problem::error(
                    "source::reference-type",
                    format!("ids of `{}` are numbers, but this is of type {}", parent.value, described.of.name()),
                )
                .at(from.span),
            );
            return Ok(None);
        }
        let to = if numeric { "int8" } else { "text" };
        Ok(Some(self.fields.position(column, cast(&from.text, Some(to)))))
    }

    /// A reference must be a uuid column, and a foreign key on it must point to the entity's table.
    fn check_reference(&mut self, column: &Column, parent: &Spanned<String>, table: &Table) {
        let name = column.name.value.as_str();
        let Some(target) = table.column(name) else { return };
        if target.type_name != "uuid" {
            self.problems.push(
                Problem::error(
                    "target::reference-type",
                    format!("the reference `{name}` is of type {}, not uuid", target.type_name),
                )
                .at(column.name.span),
            );
        }
        let Some(parent_entity) = self.project.entity(&parent.value) else { return };
        let namespace = self.project.manifest().target.namespace.as_str();
        let (schema, parent_table) = parent_entity.target.schema_and_table(namespace);
        let keys: Vec<_> = table.foreign_keys_of(name).collect();
        let fits = keys.iter().any(|key| {
            key.foreign_schema.as_deref() == Some(schema)
                && key.foreign_table.as_deref() == Some(parent_table)
        });
        if let (false, Some(key)) = (fits, keys.first()) {
            let points_to = key.foreign_table.as_deref().unwrap_or("another table");
            let meant = self.project.entities().iter().find(|e| {
                e.target.schema_and_table(namespace).1 == points_to
            });
            let hint = match meant {
                Some(entity) => format!("ids of `{}` and of `{}` are different things; did you mean ref = \"{}\"?", parent.value, entity.name, entity.name),
                None => format!("no entity of this project fills `{points_to}`"),
            };
            self.problems.push(
                Problem::error(
                    "target::wrong-reference",
                    format!(
                        "`{name}` points to `{points_to}` (foreign key {}), but `{}` fills `{parent_table}`",
                        key.name, parent.value
                    ),
                )
                .at(parent.span)
                .hint(hint),
            );
        }
    }

    /// The column `name` of the target, if it can be written.
    fn writable(&mut self, name: &Spanned<String>, table: &Table) -> Option<regraft_pg::catalog::Column> {
        let Some(column) = table.column(&name.value) else {
            self.no_column(name, table);
            return None;
        };
        if column.is_generated() {
            self.problems.push(
                Problem::error(
                    "target::generated",
                    format!("column `{}` is generated: PostgreSQL computes it", column.name),
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
                table.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ")
            ),
        };
        self.problems.push(
            Problem::error("target::no-column", format!("table `{}` has no column `{}`", table.name, name.value))
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
            if column.not_null && !column.has_default() && !column.is_generated() && !mapped(&column.name) {
                self.problems.push(
                    Problem::error(
                        "target::unmapped-not-null",
                        format!("column `{}` of `{}` is NOT NULL, has no default and is not mapped", column.name, table.name),
                    )
                    .at(span)
                    .hint(format!("add `{}` under [columns]", column.name)),
                );
            }
        }
    }
}

/// The expressions of a column, in the order in which their types are asked for.
fn expressions(column: &Column) -> Vec<&Sql> {
    match &column.rule {
        Rule::Sql(sql) => vec![sql],
        Rule::Value(_) => Vec::new(),
        Rule::Map { from, .. } | Rule::Parse { from, .. } | Rule::Ref { from, .. } => vec![from],
        Rule::Json(object) => json_expressions(object),
        Rule::RefBy { by, from, .. } => vec![by, from],
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

/// A rule for people, in one line.
fn shown(rule: &Rule) -> String {
    let text = match rule {
        Rule::Sql(sql) => sql.text.clone(),
        Rule::Value(value) => format!("constant {}", quote::literal(&value.value)),
        Rule::Map { from, map, .. } => format!("{} by a map of {} values", from.text, map.len()),
        Rule::Json(object) => format!("jsonb of {} fields", object.fields.len()),
        Rule::Parse { from, .. } => format!("JSON in {}", from.text),
        Rule::Ref { entity, from, .. } => format!("key of {} for {}", entity.value, from.text),
        Rule::RefBy { by, from, .. } => format!("key chosen by {} for {}", by.text, from.text),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The name most like `wanted`, if any is close.
fn closest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    regraft_project::nearest(wanted, known)
}
