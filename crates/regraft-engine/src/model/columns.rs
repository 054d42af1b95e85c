//! Resolving the columns of an entity: each rule becomes bytes for its target column.

use std::collections::HashMap;

use regraft_pg::catalog::Table;
use regraft_pg::quote;
use regraft_project::{
    BadJson, Column, EmptyJson, JsonObject, Missing, Problem, Rule, Spanned, Sql,
};
use tokio_postgres::types::{Kind, Type};

use super::describe::Described;
use super::fields::{cast, json_expressions, json_object};
use super::resolve::{Resolver, closest};
use super::transfer::{self, Transfer, base, integer_width, is_text};
use super::{BadText, Document, EmptyText, MissingKey, Output, OutputRule, constants};
use crate::error::Result;

/// A document of more members is built by the source: a query has no room for more than 1,664 fields
/// (MaxTupleAttributeNumber).
const MOST_MEMBERS: usize = 200;

impl Resolver<'_> {
    pub(super) async fn output(
        &mut self,
        column: &Column,
        described: &[Option<Described>],
        table: &Table,
        types: &HashMap<String, Type>,
    ) -> Result<Option<Output>> {
        let Some(target) = self.writable(&column.name, table) else {
            return Ok(None);
        };
        let Some(of) = types.get(&target.name) else {
            return Ok(None);
        };
        if described.iter().any(Option::is_none) {
            return Ok(None);
        }
        let described: Vec<&Described> = described.iter().flatten().collect();
        let rule = match &column.rule {
            Rule::Sql(sql) => self.plain(column, sql, described[0], of),
            Rule::Value(value) => self
                .constant(value, of)
                .await?
                .map(|bytes| OutputRule::Constant(Some(bytes))),
            Rule::Map {
                from,
                map,
                null,
                otherwise,
            } => {
                self.map(column, from, map, null.as_ref(), otherwise.as_ref(), of)
                    .await?
            }
            Rule::Json(object) => self.json(column, object, &described, of),
            Rule::Parse { from, bad, empty } => {
                self.parse(column, from, described[0], bad, empty, of)
            }
            Rule::Ref {
                entity,
                from,
                missing,
            } => self.reference(column, entity, from, missing, table).await?,
            Rule::RefBy {
                by,
                cases,
                from,
                missing,
            } => {
                self.reference_by(column, by, cases, from, missing, table)
                    .await?
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
                    Problem::error(
                        "target::silent-rounding",
                        format!("column `{}` can't take this as it is", target.name),
                    )
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

    fn plain(
        &mut self,
        column: &Column,
        sql: &Sql,
        described: &Described,
        of: &Type,
    ) -> Option<OutputRule> {
        let name = column.name.value.as_str();
        match transfer::transfer(&described.of, of) {
            Ok(Transfer::Pass(to)) => Some(OutputRule::Copy {
                field: self.fields.position(name, cast(&sql.text, to)),
            }),
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
                        format!(
                            "the expression is of type {}, the column `{name}` of type {}",
                            described.of.name(),
                            of.name()
                        ),
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
                Problem::error(
                    "target::enum-label",
                    format!("type {} has no label `{}`", base(of).name(), text.value),
                )
                .at(text.span)
                .hint(hint),
            );
            return Ok(None);
        }
        match constants::encode(self.target, &text.value, of).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.database().is_some_and(|e| e.sqlstate().is_some()) => {
                self.problems.push(
                    Problem::error(
                        "target::constant",
                        format!("`{}` is no value of type {}", text.value, of.name()),
                    )
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
        let field = self
            .fields
            .position(&column.name.value, cast(&from.text, Some("text")));
        let [null, otherwise] = others;
        Ok(complete.then_some(OutputRule::Map {
            field,
            map: encoded,
            null,
            otherwise,
        }))
    }

    fn json(
        &mut self,
        column: &Column,
        object: &JsonObject,
        described: &[&Described],
        of: &Type,
    ) -> Option<OutputRule> {
        let (name, fields) = (column.name.value.as_str(), &mut self.fields);
        let copied = match *base(of) {
            Type::JSONB if described.len() <= MOST_MEMBERS => {
                let mut types = described.iter().map(|described| described.of.clone());
                let document = Document::of(object, &mut types, name, fields);
                return Some(OutputRule::Document(document));
            }
            Type::JSONB => json_object(object),
            Type::JSON => format!("({})::json", json_object(object)),
            _ => {
                self.not_json(column, of);
                return None;
            }
        };
        Some(OutputRule::Copy {
            field: fields.position(name, copied),
        })
    }

    fn not_json(&mut self, column: &Column, of: &Type) {
        self.problems.push(
            Problem::error(
                "target::type",
                format!(
                    "the column `{}` is of type {}, not json or jsonb",
                    column.name.value,
                    of.name()
                ),
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
                    format!(
                        "only text can be parsed as JSON; this is of type {}",
                        described.of.name()
                    ),
                )
                .at(from.span),
            );
            return None;
        }
        Some(OutputRule::Json {
            field: self
                .fields
                .position(&column.name.value, cast(&from.text, Some("text"))),
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
        let Some(missing) = self.missing(missing).await? else {
            return Ok(None);
        };
        let Some(field) = self
            .reference_field(&column.name.value, parent, from)
            .await?
        else {
            return Ok(None);
        };
        let later = self.later(column, table);
        Ok(Some(OutputRule::Reference {
            field,
            entity: parent.value.clone(),
            missing,
            later,
        }))
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
        let Some(missing) = self.missing(missing).await? else {
            return Ok(None);
        };
        let mut field = None;
        for (_, parent) in cases {
            if cases
                .iter()
                .map(|(_, p)| &p.value)
                .all(|p| *p == parent.value)
            {
                self.check_reference(column, parent, table);
            }
            field = self
                .reference_field(&column.name.value, parent, from)
                .await?;
        }
        let by = self
            .fields
            .position(&column.name.value, cast(&by.text, Some("text")));
        let later = self.later(column, table);
        let cases = cases
            .iter()
            .map(|(value, parent)| (value.value.clone().into_bytes(), parent.value.clone()))
            .collect();
        Ok(field.map(|field| OutputRule::ReferenceBy {
            by,
            field,
            cases,
            missing,
            later,
        }))
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
    pub(super) async fn reference_field(
        &mut self,
        column: &str,
        parent: &Spanned<String>,
        from: &Sql,
    ) -> Result<Option<usize>> {
        let Some(described) = self.describe_one(from).await? else {
            return Ok(None);
        };
        let Some(&numeric) = self.keys.get(&parent.value) else {
            return Ok(None);
        };
        if numeric && integer_width(&described.of).is_none() {
            self.problems.push(
                Problem::error(
                    "source::reference-type",
                    format!(
                        "ids of `{}` are numbers, but this is of type {}",
                        parent.value,
                        described.of.name()
                    ),
                )
                .at(from.span),
            );
            return Ok(None);
        }
        let to = if numeric { "int8" } else { "text" };
        Ok(Some(
            self.fields.position(column, cast(&from.text, Some(to))),
        ))
    }

    /// A reference must be a uuid column, and a foreign key on it must point to the entity's table.
    fn check_reference(&mut self, column: &Column, parent: &Spanned<String>, table: &Table) {
        let name = column.name.value.as_str();
        let Some(target) = table.column(name) else {
            return;
        };
        if target.type_name != "uuid" {
            self.problems.push(
                Problem::error(
                    "target::reference-type",
                    format!(
                        "the reference `{name}` is of type {}, not uuid",
                        target.type_name
                    ),
                )
                .at(column.name.span),
            );
        }
        let Some(parent_entity) = self.project.entity(&parent.value) else {
            return;
        };
        let namespace = self.project.manifest().target.namespace.as_str();
        let (schema, parent_table) = parent_entity.target.schema_and_table(namespace);
        let keys: Vec<_> = table.foreign_keys_of(name).collect();
        let fits = keys.iter().any(|key| {
            key.foreign_schema.as_deref() == Some(schema)
                && key.foreign_table.as_deref() == Some(parent_table)
        });
        if let (false, Some(key)) = (fits, keys.first()) {
            let points_to = key.foreign_table.as_deref().unwrap_or("another table");
            let meant = self
                .project
                .entities()
                .iter()
                .find(|e| e.target.schema_and_table(namespace).1 == points_to);
            let hint = match meant {
                Some(entity) => format!(
                    "ids of `{}` and of `{}` are different things; did you mean ref = \"{}\"?",
                    parent.value, entity.name, entity.name
                ),
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
}

/// The expressions of a column, in the order in which their types are asked for.
pub(super) fn expressions(column: &Column) -> Vec<&Sql> {
    match &column.rule {
        Rule::Sql(sql) => vec![sql],
        Rule::Value(_) => Vec::new(),
        Rule::Map { from, .. } | Rule::Parse { from, .. } | Rule::Ref { from, .. } => vec![from],
        Rule::Json(object) => json_expressions(object),
        Rule::RefBy { by, from, .. } => vec![by, from],
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
