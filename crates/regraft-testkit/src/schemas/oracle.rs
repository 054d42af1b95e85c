//! What a migration must come to, worked out in plain SQL on the source, and held against what is
//! in the target. The target's mappings serve to translate keys, and for nothing else.

use std::collections::{BTreeMap, BTreeSet};

use regraft_pg::Session;
use regraft_pg::quote::{ident, literal};

use super::generator::leads;
use super::table::{Edge, Missing, Strategy, Table};
use crate::rehearsal::Rehearsal;
use crate::servers::{block_on, rows, session};

/// Differences shown.
const SHOWN: usize = 12;

type Values = Vec<Option<String>>;

pub(super) fn judge(tables: &[Table], rehearsal: &Rehearsal<'_>) -> Vec<String> {
    let (legacy, modern) = (rehearsal.legacy_url(), rehearsal.modern_url());
    block_on(async {
        let (source, target) = (session(&legacy).await, session(&modern).await);
        let script = script(tables);
        let done = source.batch_execute(&script).await;
        done.unwrap_or_else(|e| panic!("the oracle: {}: {script}", source.error(e).message()));
        let late = Late::of(tables);
        let mut wrong = buckets(&source, &target, &late).await;
        for table in tables {
            wrong.extend(rows_of(&source, &target, table).await);
        }
        wrong.extend(reasons(&source, &target, &late).await);
        source.close().await;
        target.close().await;
        wrong.truncate(SHOWN);
        wrong
    })
}

/// Works out where each row of the source must be.
fn script(tables: &[Table]) -> String {
    let mut script = String::from(
        "create temp table node (entity text, id text, kept boolean, primary key (entity, id));
         create temp table fault (entity text, id text, reason text);
         create temp table edge (entity text, id text, col text, parent text, parent_id text, strict boolean);
         create temp table merged (entity text, id text, first text, primary key (entity, id));\n",
    );
    script.extend(tables.iter().filter_map(merged));
    for table in tables {
        let (name, id, from, kept) = (literal(&table.name), table.id(), table.from(), table.kept());
        script.push_str(&format!(
            "insert into node select {name}, ({id})::text, {kept} from {from};\n"
        ));
        // Of a row that is part of another one nothing but its id is moved.
        let own = format!(
            "{kept} and not exists (select from merged m where m.entity = {name} and m.id = ({id})::text)"
        );
        for (reason, when) in faults(table) {
            script.push_str(&format!(
                "insert into fault select {name}, ({id})::text, {} from {from} where {own} and ({when});\n",
                literal(&reason)
            ));
        }
        script.extend(equal_rows(table));
        for edge in &table.edges {
            script.push_str(&format!(
                "insert into edge select {name}, ({id})::text, {}, {parent}, ({leads_to})::text, {} from {from}
                 where {own} and ({leads_to}) is not null and {parent} is not null;\n",
                literal(&edge.name),
                edge.missing == Missing::Quarantine,
                parent = parent(edge),
                leads_to = edge.from,
            ));
        }
    }
    script.push_str(
        "insert into edge select entity, id, 'id', entity, first, true from merged;
         insert into fault select e.entity, e.id, 'missing_parent:' || e.col from edge e
         where e.strict and not exists (select from node n where n.entity = e.parent and n.id = e.parent_id and n.kept);
         create temp table gone as with recursive gone (entity, id) as (
           select distinct entity, id from fault
           union select e.entity, e.id from gone g join edge e on e.strict and e.parent = g.entity and e.parent_id = g.id)
         select * from gone;
         create temp table moved as select entity, id from node n
         where kept and not exists (select from gone g where g.entity = n.entity and g.id = n.id);
         analyze node, fault, edge, merged, gone, moved;",
    );
    script
}

/// A statement for the rows that are part of the first row that equals them; those that the source
/// can't compute stay behind for that.
fn merged(table: &Table) -> Option<String> {
    let merge = table.merge.as_ref()?;
    let when = merge.when.as_deref().unwrap_or("true");
    let by = merge.by.iter().enumerate();
    let values: String = by.map(|(n, by)| format!(", ({by}) as by_{n}")).collect();
    let equal: String = (0..merge.by.len())
        .map(|n| format!(" and a.by_{n} is not distinct from b.by_{n}"))
        .collect();
    let faults = table.values.iter().flat_map(|value| &value.faults);
    let faults = faults.filter(|(reason, _)| reason.starts_with("source_error"));
    let uncomputable: Vec<String> = faults
        .map(|(_, when)| format!("({when}) is true"))
        .collect();
    let uncomputable = match uncomputable.as_slice() {
        [] => "false".to_owned(),
        all => all.join(" or "),
    };
    Some(format!(
        "insert into merged with rows as (select ({id})::text as id, {order} as place{values} from {from} where {kept} and ({when}))
           select {name}, b.id, (select a.id from rows a where true{equal} order by a.place limit 1) from rows b
           where exists (select from rows a where a.place < b.place{equal})
             and b.id not in (select ({id})::text from {from} where {kept} and ({uncomputable}));\n",
        id = table.id(),
        order = table.order(),
        from = table.from(),
        kept = table.kept(),
        name = literal(&table.name),
    ))
}

/// What is wrong with a row whatever the others are: reasons, and SQL over `t` for when.
fn faults(table: &Table) -> Vec<(String, String)> {
    let mut faults: Vec<(String, String)> = Vec::new();
    for value in &table.values {
        faults.extend(value.faults.iter().cloned());
    }
    if table.strategy == Strategy::V7 {
        faults.push(("not_null:id".to_owned(), "t.born is null".to_owned()));
    }
    for edge in &table.edges {
        if edge.not_null {
            let reason = format!("not_null:{}", edge.name);
            faults.push((reason, format!("({}) is null", edge.from)));
        }
        if let (Some(by), Missing::Quarantine) = (&edge.by, &edge.missing) {
            let known = edge.parents.iter().map(|(code, _)| code.to_string());
            let known = known.collect::<Vec<_>>().join(", ");
            let when = format!(
                "({}) is not null and (t.{by} in ({known})) is not true",
                edge.from
            );
            faults.push((format!("unmapped_value:{}", edge.name), when));
        }
    }
    faults
}

/// A statement for the rows that equal an earlier one where the target allows only one; of rows
/// that something else is wrong with none is the first.
fn equal_rows(table: &Table) -> Option<String> {
    let value = &table.values[table.unique?].expected;
    Some(format!(
        "insert into fault select {name}, x.id, 'unique_violation:only_one_{table_name}' from (
           select ({id})::text as id, row_number() over (partition by {value} order by {id}) as n from {from}
           where {kept} and ({value}) is not null
             and not exists (select from fault f where f.entity = {name} and f.id = ({id})::text)) x
         where x.n > 1;\n",
        name = literal(&table.name),
        id = table.id(),
        from = table.from(),
        kept = table.kept(),
        table_name = table.name
    ))
}

/// SQL for the entity that a reference leads to.
fn parent(edge: &Edge) -> String {
    match &edge.by {
        None => literal(&edge.parents[0].1),
        Some(by) => {
            let arms: Vec<String> = edge
                .parents
                .iter()
                .map(|(code, parent)| format!("when {code} then {}", literal(parent)))
                .collect();
            format!("case t.{by} {} end", arms.join(" "))
        }
    }
}

/// Each row in its bucket.
async fn buckets(source: &Session, target: &Session, late: &Late) -> Vec<String> {
    let expected = map(
        source,
        "select n.entity, n.id, case when not n.kept then 'filtered'
                when exists (select from fault f where f.entity = n.entity and f.id = n.id) then 'quarantined'
                when exists (select from gone g where g.entity = n.entity and g.id = n.id) then 'blocked'
                else coalesce((select 'part of ' || m.first from merged m where m.entity = n.entity and m.id = n.id), 'moved') end,
                (select string_agg(f.reason, ' ') from fault f where f.entity = n.entity and f.id = n.id),
                exists (select from edge e join gone g on g.entity = e.parent and g.id = e.parent_id
                        join node p on p.entity = e.parent and p.id = e.parent_id and p.kept
                        where e.strict and e.entity = n.entity and e.id = n.id) from node n",
    )
    .await;
    let found = map(
        target,
        "select entity, legacy_id, coalesce('part of ' || merged_into, 'moved'), null from regraft.migration_mappings
         union all select entity, legacy_id, bucket, reasons::text from regraft.migration_quarantine where state = 'open'",
    )
    .await;
    let mut wrong = Vec::new();
    for ((entity, id), expected, found, text) in compare("bucket", &expected, &found) {
        // The reasons are shown here, and compared on their own.
        let found = found.and_then(|values| values.first().cloned()).flatten();
        let [bucket, reasons, has_gone_parent] =
            expected.unwrap_or_default().try_into().unwrap_or_default();
        let is_right = match (bucket.as_deref(), found.as_deref()) {
            (Some("filtered"), None) => true,
            // Of a row that waits for its parent, faults that are only found by trying are not known.
            (Some("quarantined"), Some("blocked")) => {
                has_gone_parent.as_deref() == Some("t")
                    && reasons
                        .unwrap_or_default()
                        .split(' ')
                        .all(|reason| late.contains(&entity, reason))
            }
            (expected, found) => expected == found,
        };
        if !is_right && !id.is_empty() {
            wrong.push(text);
        }
    }
    wrong
}

/// Reasons that reading a row alone does not give: the target's own conditions, and references that
/// wait until their circle is in place.
struct Late(BTreeSet<(String, String)>);

impl Late {
    fn of(tables: &[Table]) -> Self {
        let mut late = BTreeSet::new();
        for table in tables {
            for edge in &table.edges {
                if !edge
                    .parents
                    .iter()
                    .any(|(_, parent)| leads(tables, parent, &table.name))
                {
                    continue;
                }
                for code in ["missing_parent", "blocked_parent"] {
                    late.insert((table.name.clone(), format!("{code}:{}", edge.name)));
                }
            }
        }
        Self(late)
    }

    fn contains(&self, entity: &str, reason: &str) -> bool {
        reason.starts_with("check_violation")
            || reason.starts_with("unique_violation")
            || reason.starts_with("target_refused")
            || self.0.contains(&(entity.to_owned(), reason.to_owned()))
    }
}

/// Rows by entity and id.
async fn map(session: &Session, query: &str) -> BTreeMap<(String, String), Values> {
    let mut map = BTreeMap::new();
    for mut row in rows(session, query).await {
        let values = row.split_off(2);
        let id = row.pop().flatten().unwrap_or_default();
        let entity = row.pop().flatten().unwrap_or_default();
        // A row that is twice where it should be once is found as a difference.
        let twice = map.insert((entity.clone(), id.clone()), values);
        if twice.is_some() {
            map.insert((entity, format!("{id} (twice)")), Vec::new());
        }
    }
    map
}

type Difference = ((String, String), Option<Values>, Option<Values>, String);

fn compare(
    what: &str,
    expected: &BTreeMap<(String, String), Values>,
    found: &BTreeMap<(String, String), Values>,
) -> Vec<Difference> {
    let keys: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    keys.into_iter()
        .filter(|key| expected.get(*key) != found.get(*key))
        .map(|key| {
            let (expected, found) = (expected.get(key), found.get(key));
            let text = format!("{what} of {key:?}: expected {expected:?}, found {found:?}");
            (key.clone(), expected.cloned(), found.cloned(), text)
        })
        .collect()
}

/// Every value and every reference of the moved rows, and that the table has no other row.
async fn rows_of(source: &Session, target: &Session, table: &Table) -> Vec<String> {
    let name = literal(&table.name);
    let (mut expected, mut found) = (String::new(), String::new());
    for value in &table.values {
        expected.push_str(&format!(", ({})::text", value.expected));
        found.push_str(&format!(", t.{}::text", ident(&value.name)));
    }
    for edge in &table.edges {
        let fallback = match &edge.missing {
            Missing::Default(key) => literal(key),
            _ => "null".to_owned(),
        };
        expected.push_str(&format!(
            ", case when ({from}) is null then null else coalesce((select m.entity || ' ' || coalesce(p.first, m.id) from moved m
               left join merged p on p.entity = m.entity and p.id = m.id
               where m.entity = {} and m.id = ({from})::text), {fallback}) end",
            parent(edge),
            from = edge.from
        ));
        let parents: Vec<String> = edge
            .parents
            .iter()
            .map(|(_, parent)| literal(parent))
            .collect();
        found.push_str(&format!(
            ", coalesce((select string_agg(p.entity || ' ' || p.legacy_id, ',') from regraft.migration_mappings p
               where p.entity in ({}) and p.new_id = t.{} and p.merged_into is null), t.{1}::text)",
            parents.join(", "),
            ident(&edge.name)
        ));
    }
    if table.legacy {
        expected.push_str(&format!(", ({})::text", table.id()));
        found.push_str(", t.legacy_id::text");
    }
    let expected = map(
        source,
        &format!(
            "select {name}, ({id})::text{expected} from {} join moved mv on mv.entity = {name} and mv.id = ({id})::text
             where not exists (select from merged m where m.entity = {name} and m.id = mv.id)",
            table.from(),
            id = table.id()
        ),
    )
    .await;
    // A row that nobody is known to have moved is told of the first entity that fills the table.
    let others = match table.is_first() {
        true => "not exists (select from regraft.migration_mappings o where o.new_id = t.id)",
        false => "false",
    };
    let found = map(
        target,
        &format!(
            "select {name}, coalesce(k.legacy_id, 'key ' || t.id){found} from {} t
             left join regraft.migration_mappings k on k.entity = {name} and k.new_id = t.id and k.merged_into is null
             where k.entity is not null or {others}",
            table.target
        ),
    )
    .await;
    let differences = compare("row", &expected, &found);
    differences.into_iter().map(|(.., text)| text).collect()
}

/// Why rows stay behind. A fault that only the server can find is told where nothing else is wrong
/// with the row, and where the source can't compute a row nothing else is known of it; a reference
/// that waits for its cycle is looked at when the rest is right.
async fn reasons(source: &Session, target: &Session, late: &Late) -> Vec<String> {
    let expected = "select entity, id, reason from fault union all
        select e.entity, e.id, 'blocked_parent:' || e.col from edge e join gone g on g.entity = e.parent and g.id = e.parent_id
        join node n on n.entity = e.parent and n.id = e.parent_id and n.kept where e.strict";
    let found = "select q.entity, q.legacy_id, concat_ws(':', r ->> 'code', coalesce(r ->> 'constraint', r ->> 'column'))
        from regraft.migration_quarantine q, jsonb_array_elements(q.reasons) r where q.state = 'open'";
    let expected = sets(source, expected).await;
    let found = sets(target, found).await;
    let mut wrong = Vec::new();
    for (row, found) in &found {
        let Some(expected) = expected.get(row) else {
            continue;
        };
        let of = |set: &BTreeSet<String>, is_late: bool| -> BTreeSet<String> {
            set.iter()
                .filter(|reason| late.contains(&row.0, reason) == is_late)
                .cloned()
                .collect()
        };
        let early = of(expected, false);
        let unknown = expected
            .iter()
            .any(|reason| reason.starts_with("source_error"));
        let right = if unknown {
            found
                .iter()
                .any(|reason| reason.starts_with("source_error"))
        } else if early.is_empty() {
            // A row that is refused for something else may equal another one besides.
            let rest: BTreeSet<&String> = found.difference(expected).collect();
            !found.is_empty()
                && rest
                    .iter()
                    .all(|reason| reason.starts_with("unique_violation"))
        } else {
            of(found, false) == early && of(found, true).is_subset(expected)
        };
        if !right {
            wrong.push(format!(
                "reasons of {row:?}: expected {expected:?}, found {found:?}"
            ));
        }
    }
    wrong
}

async fn sets(session: &Session, query: &str) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut sets: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for row in rows(session, query).await {
        if let [Some(entity), Some(id), Some(reason)] = row.as_slice() {
            let set = sets.entry((entity.clone(), id.clone())).or_default();
            set.insert(reason.clone());
        }
    }
    sets
}
