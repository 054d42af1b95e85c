//! Rows that lose under a unique constraint of the target, found on the source before anything is
//! written, so that which of two equal rows moves does not depend on which batch comes first: the
//! one with the lowest legacy id does.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use regraft_pg::Session;
use regraft_pg::catalog::Index;
use regraft_pg::quote::literal;

use super::read::{Rows, wanted_condition};
use super::stage::unique_indexes;
use super::{Classifier, Reason};
use crate::error::Result;
use crate::keys::LegacyId;
use crate::model::{EntityModel, OutputRule};

/// The losers under every unique index whose columns the source can compute: of equal rows the
/// first that nothing else is wrong with moves, and the others lose to it. Indexes on the key or
/// the legacy id alone are left out: those are unique because the entity's key is.
///
/// Where there are no equal rows this costs one pass over the source per index; only equal rows
/// are classified.
pub(crate) async fn duplicates(
    source: &Session,
    target: &Session,
    classifier: &mut Classifier,
) -> Result<HashMap<LegacyId, Vec<Reason>>> {
    let model = Arc::clone(classifier.model());
    let written: BTreeSet<&str> = model.outputs.iter().map(|o| o.column.as_str()).collect();
    let mut losers: HashMap<LegacyId, Vec<Reason>> = HashMap::new();
    for index in unique_indexes(&model.table, &written) {
        let Equality::Source(fields) = equality(&model, index) else {
            continue;
        };
        let sql = query(&model, &fields, index.nulls_not_distinct);
        let equal: Vec<(LegacyId, i64)> = source
            .query(&sql, &[])
            .await?
            .iter()
            .map(|row| (LegacyId::from_row(model.numeric, row, 0), row.get(1)))
            .filter(|(id, _)| !classifier.merges(id))
            .collect();
        let faulty = faulty_among(source, target, classifier, &equal).await?;
        let name = index.constraint.as_deref().unwrap_or(&index.name);
        let reason = Reason::constraint("unique_violation", name);
        let mut won: Option<i64> = None;
        for (id, group) in equal {
            if faulty.contains(&id) {
                continue;
            }
            if won == Some(group) {
                losers.entry(id).or_default().push(reason.clone());
            }
            won = Some(group);
        }
    }
    Ok(losers)
}

/// Those of the rows that stay behind whatever becomes of their equals.
async fn faulty_among(
    source: &Session,
    target: &Session,
    classifier: &mut Classifier,
    equal: &[(LegacyId, i64)],
) -> Result<HashSet<LegacyId>> {
    let mut faulty = HashSet::new();
    for part in equal.chunks(5_000) {
        let ids = part.iter().map(|(id, _)| id.clone()).collect();
        let progress = classifier
            .classify_rows(source, target, &Rows::Ids(ids))
            .await?;
        faulty.extend(
            progress
                .faults
                .rows
                .into_iter()
                .filter_map(|(id, reasons)| {
                    reasons
                        .iter()
                        .any(|r| r.code != "unique_violation")
                        .then_some(id)
                }),
        );
    }
    Ok(faulty)
}

/// How rows that are equal under an index can be told.
enum Equality<'a> {
    /// There are none: the key or the legacy id is part of it.
    Never,
    /// By these expressions on the source.
    Source(Vec<Cow<'a, str>>),
    /// Only the target can.
    Target,
}

/// Whether rows of the entity can be equal under an index in a way that only the target can tell:
/// a part of the table, an expression, a value that is made on the way. Which of them moves is then decided
/// by their order, and their batches must not overtake each other.
pub(crate) fn order_decides(model: &EntityModel) -> bool {
    let written: BTreeSet<&str> = model.outputs.iter().map(|o| o.column.as_str()).collect();
    unique_indexes(&model.table, &written)
        .any(|index| matches!(equality(model, index), Equality::Target))
}

fn equality<'a>(model: &'a EntityModel, index: &Index) -> Equality<'a> {
    let mut fields = Vec::new();
    let mut source = index.predicate.is_none();
    for column in &index.plain_columns {
        let output = model
            .outputs
            .iter()
            .find(|o| Some(&o.column) == column.as_ref());
        match output.map(|o| &o.rule) {
            Some(OutputRule::Key | OutputRule::LegacyId { .. }) => return Equality::Never,
            Some(
                OutputRule::Copy { field }
                | OutputRule::Narrow { field, .. }
                | OutputRule::Label { field, .. }
                | OutputRule::Reference {
                    field,
                    later: false,
                    ..
                },
            ) => fields.push(Cow::Borrowed(model.fields[*field].sql.as_str())),
            Some(OutputRule::Map {
                field,
                map,
                null,
                otherwise,
            }) if column.as_ref().is_some_and(|c| equal_is_same(model, c)) => {
                let code = &model.fields[*field].sql;
                let value = mapped(code, map, null.as_deref(), otherwise.as_deref());
                fields.push(Cow::Owned(value));
            }
            Some(OutputRule::Constant(_)) => {}
            _ => source = false,
        }
    }
    // The entity's own key among the columns makes every row differ.
    let key = model.key.trim();
    if fields
        .iter()
        .any(|f| f.trim_start_matches('(').starts_with(key) && f.contains(&format!("({key})")))
    {
        return Equality::Never;
    }
    if source && !fields.is_empty() {
        Equality::Source(fields)
    } else {
        Equality::Target
    }
}

/// Types with values that are equal though their bytes differ: 1.0 and 1.00, 0 and -0, a day and 24
/// hours, `A` and `a`.
const EQUAL_IN_MANY_FORMS: [&str; 7] = [
    "numeric",
    "real",
    "double precision",
    "character",
    "interval",
    "jsonb",
    "citext",
];

/// Whether values of a column are equal only where their bytes are the same.
fn equal_is_same(model: &EntityModel, column: &str) -> bool {
    model.table.column(column).is_some_and(|column| {
        let name = column.type_name.rsplit('.').next().unwrap_or_default();
        let name = name.split(['(', '[']).next().unwrap_or_default();
        !column.is_domain && !EQUAL_IN_MANY_FORMS.contains(&name)
    })
}

/// SQL for what a map makes of a code, as hexadecimal digits. Codes that it has nothing for give
/// NULL: their rows are at fault for that.
fn mapped(
    code: &str,
    map: &HashMap<Vec<u8>, Vec<u8>>,
    null: Option<&[u8]>,
    otherwise: Option<&[u8]>,
) -> String {
    let value = |bytes: Option<&[u8]>| {
        bytes.map_or_else(|| "null".to_owned(), |b| literal(&hex::encode(b)))
    };
    let ordered: BTreeMap<_, _> = map.iter().collect();
    let arms: String = ordered
        .into_iter()
        .map(|(from, to)| {
            let from = literal(&String::from_utf8_lossy(from));
            format!(" when {from} then {}", value(Some(to)))
        })
        .collect();
    format!(
        "(case when {code} is null then {} else case {code}{arms} else {} end end)",
        value(null),
        value(otherwise)
    )
}

fn query(model: &EntityModel, fields: &[Cow<'_, str>], nulls_equal: bool) -> String {
    let order = model.key_order();
    let key = model.key_value();
    let list: Vec<String> = fields
        .iter()
        .enumerate()
        .map(|(i, f)| format!("{f} as v{i}"))
        .collect();
    let names: Vec<String> = (0..fields.len()).map(|i| format!("v{i}")).collect();
    let same: Vec<String> = names
        .iter()
        .map(|n| {
            let operator = if nulls_equal {
                "is not distinct from"
            } else {
                "="
            };
            format!("r.{n} {operator} t.{n}")
        })
        .collect();
    let present = if nulls_equal {
        "true".to_owned()
    } else {
        names
            .iter()
            .map(|n| format!("{n} is not null"))
            .collect::<Vec<_>>()
            .join(" and ")
    };
    // Which values occur twice is found by hashing alone; only their rows are put in order.
    format!(
        "with rows as not materialized (select {key} as k, {order} as o, {list} from {from}\nwhere {kept}),\n\
         twice as materialized (select {names} from rows where {present} group by {names} having count(*) > 1)\n\
         select r.k, dense_rank() over (order by {ranked}) as g from rows r join twice t on {same} order by g, r.o",
        names = names.join(", "),
        ranked = names
            .iter()
            .map(|n| format!("r.{n}"))
            .collect::<Vec<_>>()
            .join(", "),
        same = same.join(" and "),
        list = list.join(", "),
        from = model.from,
        kept = wanted_condition(model),
    )
}
