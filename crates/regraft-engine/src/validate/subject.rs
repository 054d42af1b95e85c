//! An entity as it is validated: the project's declaration, turned into queries of both databases.

use std::collections::{BTreeMap, BTreeSet};

use regraft_pg::catalog::{Catalog, Table};
use regraft_pg::{Session, quote};
use regraft_project::{Entity, Project};
use tokio_postgres::types::{Kind as TypeKind, Type};

use super::databases::Databases;
use super::extent::Extent;
use crate::error::{Error, Kind, Result};

/// Ids of the quarantine that one query leaves out.
const PART: i64 = 20_000;

/// The id spaces of a project: of which type the legacy ids of each entity are, and where its
/// mappings lie.
pub(super) struct IdSpaces<'a> {
    numeric: BTreeMap<&'a str, Result<bool, String>>,
    partitions: BTreeSet<String>,
}

impl<'a> IdSpaces<'a> {
    /// Asks the source for the type of every entity's key, and the ledger for its partitions.
    pub(super) async fn read(project: &'a Project, databases: &Databases<'_>) -> Result<Self> {
        let mut numeric = BTreeMap::new();
        for entity in project.entities() {
            let query = format!(
                "select ({}\n) from {}\n",
                entity.source.key.text, entity.source.from.text
            );
            let described = databases.describe_source(&query).await?;
            let integer =
                described.map(|d| d.columns().first().is_some_and(|c| is_integer(c.type_())));
            numeric.insert(entity.name.as_str(), integer);
        }
        let partitions = databases
            .target
            .query(
                "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
                 where i.inhparent = 'regraft.migration_mappings'::regclass",
                &[],
            )
            .await?;
        Ok(Self {
            numeric,
            partitions: partitions.iter().map(|row| row.get(0)).collect(),
        })
    }

    /// The mappings of an entity, as something to select from. The partition by its own name:
    /// of a part of the whole table the planner expects a few rows as long as nobody has analysed
    /// it, and takes the way that suits a few.
    fn mappings(&self, entity: &str) -> String {
        let partition = regraft_ledger::partition_name(entity);
        if self.partitions.contains(&partition) {
            return quote::qualified(regraft_ledger::SCHEMA, &partition);
        }
        format!(
            "(select * from regraft.migration_mappings where entity = {})",
            quote::literal(entity)
        )
    }
}

/// An entity with what its queries need.
pub(super) struct Subject<'a> {
    /// The declaration.
    pub(super) entity: &'a Entity,
    /// Whether legacy ids are numbers.
    pub(super) numeric: bool,
    /// The target table as the target declares it; `None` when it, or its key, isn't there.
    pub(super) table: Option<&'a Table>,
    /// The table's quoted name.
    pub(super) table_name: String,
    /// Every entity of the project that fills this table, by name.
    pub(super) fillers: Vec<&'a str>,
    project: &'a Project,
    catalog: &'a Catalog,
    spaces: &'a IdSpaces<'a>,
}

impl<'a> Subject<'a> {
    /// Prepares an entity.
    ///
    /// # Errors
    /// [`Kind::Usage`] when the source refuses the entity's query.
    pub(super) fn new(
        project: &'a Project,
        entity: &'a Entity,
        catalog: &'a Catalog,
        spaces: &'a IdSpaces<'a>,
    ) -> Result<Self> {
        let numeric = match spaces.numeric.get(entity.name.as_str()) {
            Some(Ok(numeric)) => *numeric,
            Some(Err(why)) => {
                return Err(Error::new(
                    Kind::Usage,
                    format!("the source refuses its query: {why}"),
                )
                .in_entity(&entity.name)
                .hint("see `regraft check`"));
            }
            None => {
                return Err(Error::new(Kind::Internal, "the entity has no id space")
                    .in_entity(&entity.name));
            }
        };
        let namespace = project.manifest().target.namespace.as_str();
        let place = entity.target.schema_and_table(namespace);
        let fills_it = |other: &&Entity| other.target.schema_and_table(namespace) == place;
        Ok(Self {
            entity,
            numeric,
            table: catalog
                .table(place.0, place.1)
                .filter(|table| table.column(&entity.target.key.column.value).is_some()),
            table_name: quote::qualified(place.0, place.1),
            fillers: project
                .entities()
                .iter()
                .filter(fills_it)
                .map(|other| other.name.as_str())
                .collect(),
            project,
            catalog,
            spaces,
        })
    }

    /// The mappings of its rows, as something to select from; those of rows that were merged into
    /// others are not among them.
    pub(super) fn mappings(&self) -> String {
        let all = self.spaces.mappings(self.name());
        match self.entity.source.merge {
            None => all,
            Some(_) => format!("(select * from {all} own where merged_into is null)"),
        }
    }

    /// The rows that a merge rule finds equal to an earlier one, and the first of these; legacy ids
    /// as text.
    pub(super) fn equal_rows_query(&self) -> Option<String> {
        let merge = self.entity.source.merge.as_ref()?;
        let list: String = merge
            .by
            .iter()
            .enumerate()
            .map(|(i, by)| format!(", ({}\n) as by_{i}", by.text))
            .collect();
        let same: Vec<String> = (0..merge.by.len())
            .map(|i| format!("f.by_{i} is not distinct from r.by_{i}"))
            .collect();
        let groups: Vec<String> = (0..merge.by.len()).map(|i| format!("by_{i}")).collect();
        let groups = groups.join(", ");
        let when = merge
            .when
            .as_ref()
            .map_or(String::new(), |when| format!("\n  and ({}\n)", when.text));
        Some(format!(
            "with rows as materialized (select {order} as id{list} from {from}\nwhere ({filter}) = 0{when}),
             firsts as (select min(id) as id, {groups} from rows group by {groups} having count(*) > 1)
             select r.id::text, f.id::text from rows r join firsts f on {same} and f.id <> r.id",
            order = self.source_order(),
            from = self.entity.source.from.text,
            filter = self.filter_number(),
            same = same.join(" and "),
        ))
    }

    /// The legacy ids of kept rows that have no row of their own in the target.
    fn left_out(&self) -> String {
        let open = format!(
            "select legacy_id from regraft.migration_quarantine where entity = {} and state <> 'resolved'",
            self.literal()
        );
        match self.entity.source.merge {
            None => format!("({open})"),
            Some(_) => format!(
                "({open} union all select legacy_id from {} all_of where merged_into is not null)",
                self.spaces.mappings(self.name())
            ),
        }
    }

    /// All mappings of an entity.
    pub(super) fn mappings_of(&self, entity: &str) -> String {
        self.spaces.mappings(entity)
    }

    /// Whether the legacy ids of another entity are numbers.
    pub(super) fn is_numeric(&self, entity: &str) -> bool {
        matches!(self.spaces.numeric.get(entity), Some(Ok(true)))
    }

    /// The table and the key column of another entity, quoted; `None` when the table isn't there.
    pub(super) fn parent_place(&self, entity: &str) -> Option<(String, String)> {
        let target = &self.project.entity(entity)?.target;
        let (schema, name) = target.schema_and_table(&self.project.manifest().target.namespace);
        let table = self.catalog.table(schema, name)?;
        let key = table.column(&target.key.column.value)?;
        Some((table.sql_name(), quote::ident(&key.name)))
    }

    /// The entity's name.
    pub(super) fn name(&self) -> &'a str {
        &self.entity.name
    }

    /// The entity's name as an SQL literal.
    pub(super) fn literal(&self) -> String {
        quote::literal(&self.entity.name)
    }

    /// The quoted key column of the target.
    pub(super) fn key_column(&self) -> String {
        quote::ident(&self.entity.target.key.column.value)
    }

    /// The column for the legacy id, if it is declared and there.
    pub(super) fn legacy_column(&self) -> Option<&'a str> {
        let name = self.entity.target.legacy.as_ref()?.value.as_str();
        self.table?.column(name)?;
        Some(name)
    }

    /// Whether the target itself sees to it that no two rows share a key.
    pub(super) fn key_is_unique(&self) -> bool {
        let key = [Some(self.entity.target.key.column.value.clone())];
        self.table.is_some_and(|table| {
            let indexes = &mut table.indexes.iter();
            indexes.any(|i| i.unique && i.valid && i.predicate.is_none() && i.plain_columns == key)
        })
    }

    /// The legacy id as it is selected from the source.
    pub(super) fn source_id(&self) -> String {
        let key = &self.entity.source.key.text;
        if self.numeric {
            format!("({key}\n)::int8")
        } else {
            format!("({key}\n)::text")
        }
    }

    /// The legacy id as the source sorts by it: the bare expression where that can use an index.
    fn source_order(&self) -> String {
        let key = &self.entity.source.key.text;
        if self.numeric {
            format!("({key}\n)")
        } else {
            format!("({key}\n)::text collate \"C\"")
        }
    }

    /// The legacy id of a row of the ledger as it is selected and sorted.
    pub(super) fn ledger_id(&self, alias: &str) -> String {
        if self.numeric {
            format!("{alias}.legacy_id::bigint")
        } else {
            format!("{alias}.legacy_id collate \"C\"")
        }
    }

    fn filter_number(&self) -> String {
        filter_number(self.entity)
    }

    /// Every row of the source in key order: legacy id, and which filter drops it.
    pub(super) fn census_query(&self, extent: &Extent) -> String {
        let order = self.source_order();
        format!(
            "select {}, ({})::int8 from {}\nwhere true{}\norder by {order}",
            self.source_id(),
            self.filter_number(),
            self.entity.source.from.text,
            extent.and(self.numeric, &order),
        )
    }

    /// SQL for the legacy id, and for which filter drops a row.
    pub(super) fn filtered_ids(&self) -> (String, String) {
        (
            self.source_id(),
            format!("({})::int8", self.filter_number()),
        )
    }

    /// Rows of the source whatever the filters say: what `list` selects of those in an extent.
    pub(super) fn unfiltered_query(&self, list: &str, extent: &Extent) -> String {
        format!(
            "select {list} from {}\nwhere true{}",
            self.entity.source.from.text,
            extent.and(self.numeric, &self.source_order())
        )
    }

    /// The first `most` rows of the source under a condition, in key order: legacy id as text, which
    /// filter drops it, how many rows there are in all, and how many of them no filter drops.
    pub(super) fn rows_where_query(&self, condition: &str, most: usize) -> String {
        format!(
            "select id, filter, count(*) over (), count(*) filter (where filter = 0) over ()
             from (select ({})::text as id, ({})::int8 as filter, {order} as place from {}\nwhere {condition}) rows
             order by place limit {most}",
            self.entity.source.key.text,
            self.filter_number(),
            self.entity.source.from.text,
            order = self.source_order(),
        )
    }

    /// The part of the kept rows after one legacy id and up to another, without those listed.
    fn kept_query(
        &self,
        list: &[String],
        extent: &Extent,
        after: Option<&str>,
        upto: Option<&str>,
        without: &[String],
    ) -> String {
        let (id, order) = (self.source_id(), self.source_order());
        let of = if self.numeric { "int8" } else { "text" };
        let bound = |text: &str| format!("{}::{of}", quote::literal(text));
        let mut conditions = vec![
            format!("({}) = 0", self.filter_number()),
            format!("{order} is not null"),
        ];
        conditions.extend(extent.conditions(self.numeric, &order));
        conditions.extend(after.map(|text| format!("{order} > {}", bound(text))));
        conditions.extend(upto.map(|text| format!("{order} <= {}", bound(text))));
        if !without.is_empty() {
            // A join, not `<> all`: older servers compare such a list one by one.
            conditions.push(format!(
                "not exists (select from unnest({}) as regraft_left (regraft_id) where regraft_left.regraft_id = {id})",
                quote::array(without.iter().map(String::as_str), of)
            ));
        }
        let mut selected = format!("{id} as id");
        for expression in list {
            selected.push_str(",\n  ");
            selected.push_str(expression);
        }
        format!(
            "select {selected}\nfrom {}\nwhere {}",
            self.entity.source.from.text,
            conditions.join("\n  and ")
        )
    }
}

/// The number of the filter that drops a row, from 1 in file order; 0 for a row that is kept.
/// CASE keeps the order, so that a later condition never sees what an earlier one drops.
pub(super) fn filter_number(entity: &Entity) -> String {
    let filters = &entity.source.filters;
    if filters.is_empty() {
        return "0".to_owned();
    }
    let arms: String = filters
        .iter()
        .enumerate()
        .map(|(i, filter)| format!("when ({}\n) is not true then {} ", filter.keep.text, i + 1))
        .collect();
    format!("case {arms}else 0 end")
}

/// The kept rows of the source that are not in quarantine, with the expressions of `list`, in key
/// order. An expression may fail on a row that is in quarantine for that very reason, so those
/// are left out by their ids, a part of them at a time.
pub(super) struct KeptRows<'a> {
    subject: &'a Subject<'a>,
    list: Vec<String>,
    /// What is made of their query to have sums by ranges of them instead.
    sums: Option<fn(&str) -> String>,
    extent: &'a Extent,
    ledger: &'a Session,
    after: Option<String>,
    done: bool,
}

impl<'a> KeptRows<'a> {
    /// The rows of `subject`; `ledger` is a session in the target's view.
    pub(super) fn new(
        subject: &'a Subject<'a>,
        list: Vec<String>,
        extent: &'a Extent,
        ledger: &'a Session,
    ) -> Self {
        Self {
            subject,
            list,
            sums: None,
            extent,
            ledger,
            after: None,
            done: false,
        }
    }

    /// Sums over ranges of the rows in place of the rows: what `sums` makes of their query.
    pub(super) fn summed(self, sums: fn(&str) -> String) -> Self {
        Self {
            sums: Some(sums),
            ..self
        }
    }

    /// The query of the next part.
    pub(super) async fn next_part(&mut self) -> Result<Option<String>> {
        if self.done {
            return Ok(None);
        }
        let without = self.quarantined().await?;
        let full = without.len() as i64 == PART;
        let upto = if full { without.last().cloned() } else { None };
        let query = self.subject.kept_query(
            &self.list,
            self.extent,
            self.after.as_deref(),
            upto.as_deref(),
            &without,
        );
        self.done = !full;
        self.after = upto;
        Ok(Some(match self.sums {
            None => format!("{query}\norder by {}", self.subject.source_order()),
            Some(sums) => sums(&query),
        }))
    }

    /// The next legacy ids in quarantine, in key order.
    async fn quarantined(&self) -> Result<Vec<String>> {
        let id = self.subject.ledger_id("q");
        let after = match (&self.after, self.subject.numeric) {
            (None, _) => String::new(),
            (Some(id_text), true) => format!("and {id} > {}::bigint", quote::literal(id_text)),
            (Some(id_text), false) => format!("and {id} > {}::text", quote::literal(id_text)),
        };
        let rows = self
            .ledger
            .query(
                &format!(
                    "select q.legacy_id from {} q where true {after} order by {id} limit {PART}",
                    self.subject.left_out()
                ),
                &[],
            )
            .await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

/// Whether a type is an integer under any number of domains.
pub(super) fn is_integer(of: &Type) -> bool {
    match of.kind() {
        TypeKind::Domain(inner) => is_integer(inner),
        _ => matches!(*of, Type::INT2 | Type::INT4 | Type::INT8),
    }
}
