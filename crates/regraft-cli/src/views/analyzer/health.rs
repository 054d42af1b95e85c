//! Whether both servers and the ledger are in order.

use regraft_engine::{Health, HealthCheck, Verdict};

use crate::figures;
use crate::style::{self, paint};

/// The health for people, area by area.
pub(crate) fn render(health: &Health, width: usize) -> String {
    let mut areas: Vec<&str> = Vec::new();
    for check in &health.checks {
        if !areas.contains(&check.area) {
            areas.push(check.area);
        }
    }
    let mut out = String::new();
    for area in areas {
        out.push_str(&format!("{}\n", paint(style::HEADING, area)));
        for check in health.checks.iter().filter(|check| check.area == area) {
            out.push_str(&line(check, width));
        }
        out.push('\n');
    }
    out.push_str(&verdict(health));
    out
}

fn line(check: &HealthCheck, width: usize) -> String {
    let (word, tone) = match check.verdict {
        Verdict::Ok => ("ok", style::GOOD),
        Verdict::Warning => ("warning", style::CAUTION),
        Verdict::Failure => ("failure", style::BAD),
    };
    let room = width.saturating_sub(2);
    let lead = format!("{word:<7} {}: {}", check.check, check.found);
    let wrapped = figures::wrap(&lead, room, 10);
    let mut out = format!("  {}\n", wrapped.replacen(word, &paint(tone, word), 1));
    if let Some(to_do) = &check.to_do {
        let to_do = figures::wrap(&format!("what to do: {to_do}"), room.saturating_sub(8), 10);
        out.push_str(&format!("          {to_do}\n"));
    }
    out
}

fn verdict(health: &Health) -> String {
    let checks = figures::counted(health.checks.len() as u64, "check");
    let found = format!(
        "{}, {}",
        figures::counted(health.failures as u64, "failure"),
        figures::counted(health.warnings as u64, "warning")
    );
    if !health.reachable {
        format!(
            "{} a server can't be reached: {found} in {checks}",
            paint(style::BAD, "✗")
        )
    } else if health.healthy {
        format!("{} in order: {found} in {checks}", paint(style::GOOD, "✓"))
    } else {
        format!(
            "{} not in order: {found} in {checks}",
            paint(style::BAD, "✗")
        )
    }
}
