//! Rows that lose under a unique constraint of the target, found on the source before anything is
//! written, so that which of two equal rows moves does not depend on which batch comes first: the
//! one with the lowest legacy id does.

use std::collections::{BTreeSet, HashMap};

use regraft_pg::Session;

use super::Reason;
use super::read::kept_condition;
use super::stage::unique_indexes;
use crate::error::Result;
use crate::keys::LegacyId;
use crate::model::{EntityModel, OutputRule};

/// The losers under every unique index whose columns the source can compute. Indexes on the key
/// or the legacy id alone are left out: those are unique because the entity's key is.
pub(crate) async fn duplicates(
    source: &Session,
    model: &EntityModel,
) -> Result<HashMap<LegacyId, Vec<Reason>>> {
    let written: BTreeSet<&str> = model.outputs.iter().map(|o| o.column.as_str()).collect();
    let mut losers: HashMap<LegacyId, Vec<Reason>> = HashMap::new();
    for index in unique_indexes(&model.table, &written) {
        if index.predicate.is_some() {
            continue;
        }
        let Some(fields) = source_fields(model, &index.plain_columns) else { continue };
        let name = index.constraint.as_deref().unwrap_or(&index.name);
        let reason = Reason::constraint("unique_violation", name);
        for row in source.query(&query(model, &fields, index.nulls_not_distinct), &[]).await? {
            let id = if model.numeric {
                LegacyId::Number(row.get(0))
            } else {
                LegacyId::Text(row.get(0))
            };
            losers.entry(id).or_default().push(reason.clone());
        }
    }
    Ok(losers)
}

/// The source expressions of an index's columns, where each is one value of the source that maps
/// to one value of the target; `None` otherwise, or where the key makes the index unique anyway.
fn source_fields<'a>(
    model: &'a EntityModel,
    columns: &[Option<String>],
) -> Option<Vec<&'a str>> {
    let mut fields = Vec::new();
    for column in columns {
        let output = model.outputs.iter().find(|o| Some(&o.column) == column.as_ref())?;
        match &output.rule {
            OutputRule::Key | OutputRule::LegacyId { .. } => return None,
            OutputRule::Copy { field }
            | OutputRule::Narrow { field, .. }
            | OutputRule::Label { field, .. }
            | OutputRule::Reference { field, later: false, .. } => {
                fields.push(model.fields[*field].sql.as_str());
            }
            OutputRule::Constant(_) => {}
            _ => return None,
        }
    }
    // The entity's own key among the columns makes every row differ.
    let key = model.key.trim();
    if fields.iter().any(|f| f.trim_start_matches('(').starts_with(key) && f.contains(&format!("({key})"))) {
        return None;
    }
    (!fields.is_empty()).then_some(fields)
}

fn query(model: &EntityModel, fields: &[&str], nulls_equal: bool) -> String {
    let order = model.key_order();
    let key = model.key_value();
    let list: Vec<String> =
        fields.iter().enumerate().map(|(i, f)| format!("{f} as v{i}")).collect();
    let names: Vec<String> = (0..fields.len()).map(|i| format!("v{i}")).collect();
    let present = if nulls_equal {
        "true".to_owned()
    } else {
        names.iter().map(|n| format!("{n} is not null")).collect::<Vec<_>>().join(" and ")
    };
    format!(
        "select k from (select k, row_number() over (partition by {partition} order by o) as place\n\
           from (select {key} as k, {order} as o, {list} from {from}\nwhere {kept}) rows where {present}) placed\n\
         where place > 1",
        partition = names.join(", "),
        list = list.join(", "),
        from = model.from,
        kept = kept_condition(model),
    )
}
