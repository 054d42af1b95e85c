//! Funnels: how rows get to their parents.

use regraft_engine::{EntityPlan, Funnel, Hop, Loss, Plan};

use super::heading;
use crate::figures;
use crate::style::{self, paint};
use crate::table::{Table, Tone, count, text, worry};
use crate::views::reasons::examples;

/// The references that some row with a value doesn't follow to its parent, one line each.
pub(super) fn overview(plan: &Plan, width: usize) -> String {
    let mut table = Table::new()
        .text("reference")
        .number("set")
        .number("no such row")
        .number("filtered")
        .number("held back")
        .number("arrive")
        .text("else");
    let mut any = false;
    for entity in &plan.entities {
        for funnel in &entity.funnels {
            let lost = |hop: &str| find(funnel, hop).map_or(0, |hop| hop.lost);
            let nowhere = lost("parent_named") + lost("parent_in_source");
            let (filtered, stopped) = (lost("parent_kept"), lost("parent_moved"));
            if nowhere + filtered + stopped == 0 {
                continue;
            }
            any = true;
            table.row(vec![
                text(format!("{}.{}", entity.entity, title(funnel))),
                count(find(funnel, "set").map_or(0, |hop| hop.rows)),
                worry(nowhere),
                worry(filtered),
                worry(stopped),
                count(find(funnel, "parent_moved").map_or(0, |hop| hop.rows)),
                text(match funnel.missing.as_str() {
                    "null" => "NULL",
                    "default" => "default",
                    _ => "stays",
                }),
            ]);
        }
    }
    if !any {
        return String::new();
    }
    heading("references that don't all arrive") + &table.render(width, 2)
}

/// The funnels of an entity, hop by hop.
pub(super) fn detail(entity: &EntityPlan, width: usize) -> String {
    let mut out = String::new();
    for funnel in &entity.funnels {
        let line = format!(
            "{} (rows that don't arrive: {})",
            paint(style::HEADING, title(funnel)),
            without(funnel)
        );
        out.push_str(&format!("\n  {line}\n"));
        let mut table = Table::new()
            .text("hop")
            .number("rows")
            .number("lost")
            .text("why")
            .text("legacy ids");
        for hop in &funnel.hops {
            for (at, loss) in hop.losses.iter().enumerate() {
                let mut cells = vec![text(""), text(""), worry(loss.rows)];
                if at == 0 {
                    cells[0] = text(hop_words(hop.hop, funnel));
                    cells[1] = count(hop.rows);
                }
                cells.push(text(why(loss)));
                cells.push(text(ids(loss)));
                table.row(cells);
            }
            if hop.losses.is_empty() {
                table.row(quiet_hop(hop, funnel));
            }
        }
        out.push_str(&table.render(width, 4));
    }
    out
}

fn quiet_hop(hop: &Hop, funnel: &Funnel) -> Vec<(String, Tone)> {
    vec![
        text(hop_words(hop.hop, funnel)),
        count(hop.rows),
        text(""),
        text(""),
        text(""),
    ]
}

fn find<'a>(funnel: &'a Funnel, hop: &str) -> Option<&'a Hop> {
    funnel.hops.iter().find(|known| known.hop == hop)
}

fn title(funnel: &Funnel) -> String {
    format!("{} → {}", funnel.column, figures::some(&funnel.parents, 2))
}

fn without(funnel: &Funnel) -> &'static str {
    match funnel.missing.as_str() {
        "null" => "moved with NULL",
        "default" => "moved with the default",
        _ => "left behind",
    }
}

fn hop_words(hop: &str, funnel: &Funnel) -> String {
    let parent = match funnel.parents.as_slice() {
        [one] => one.as_str(),
        _ => "the parent",
    };
    match hop {
        "source_rows" => "source rows".to_owned(),
        "kept" => "kept by the filters".to_owned(),
        "set" => "the reference is set".to_owned(),
        "parent_named" => "it says to which entity".to_owned(),
        "parent_in_source" => format!("its row of {parent} exists"),
        "parent_kept" => "the filters keep that row".to_owned(),
        "parent_moved" => "that row is moved".to_owned(),
        other => other.to_owned(),
    }
}

fn why(loss: &Loss) -> String {
    let parent = loss.parent.as_deref().unwrap_or("the parent");
    let because = loss.because.as_deref().unwrap_or_default();
    let filter = loss.filter.as_deref().unwrap_or_default();
    match loss.reason {
        "filtered" => format!("filter {filter}"),
        "merged" => "it becomes part of another row".to_owned(),
        "source_error" => "an expression fails on this row".to_owned(),
        "null" => "it is NULL".to_owned(),
        "not_named" => "the value that chooses the entity is not in the list".to_owned(),
        "not_in_source" => format!("no such row in {parent}"),
        "parent_filtered" => format!("filter {filter} of {parent}"),
        "parent_quarantined" => format!("{parent} in quarantine: {because}"),
        "parent_blocked" => format!("{parent} blocked: {because}"),
        "parent_stays_behind" => format!("{parent} stays behind"),
        "parent_not_planned" => format!("{parent} is neither moved yet nor part of this plan"),
        other => other.to_owned(),
    }
}

fn ids(loss: &Loss) -> String {
    examples(&loss.examples, i64::try_from(loss.rows).unwrap_or(i64::MAX))
}
