//! The charts of a receipt: inline SVG, coloured by the page's style, readable without colours.

use regraft_engine::{EntityReceipt, Receipt};
use regraft_ledger::{Account, RunReason};

use super::report::buckets;
use crate::figures;
use crate::views::written::markup_free as escaped;

/// Units across.
const WIDTH: f64 = 860.0;
/// Units from one bar to the next, and of a bar.
const STEP: f64 = 26.0;
const BAR: f64 = 16.0;
/// Units of a character, for the room that labels need.
const CHARACTER: f64 = 6.7;
/// Units left for the figures beside a bar.
const FIGURES: f64 = 210.0;
/// Parts that are there, but too small to be seen, are drawn this wide.
const LEAST: f64 = 3.0;
/// Reasons drawn; all of them are in the table.
pub(super) const REASONS: usize = 15;

/// The textures of the buckets, once for the page.
pub(super) fn textures() -> String {
    let mut out = String::from(
        "<svg class=\"textures\" width=\"0\" height=\"0\" aria-hidden=\"true\"><defs>\n",
    );
    for (bucket, lines) in [
        ("updated", "M2 2h2v2h-2zM6 6h2v2h-2z"),
        ("unchanged", "M0 8L8 0M-2 2L2 -2M6 10L10 6"),
        ("merged", "M2 0v8M6 0v8"),
        ("filtered", "M0 4h8"),
        ("quarantined", "M0 0L8 8M8 0L0 8"),
        ("blocked", "M0 0L8 8M-2 6L2 10M6 -2L10 2"),
    ] {
        out.push_str(&format!(
            "<pattern id=\"texture-{bucket}\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\">\
             <rect class=\"{bucket}\" width=\"8\" height=\"8\"/><path class=\"stroke\" d=\"{lines}\"/></pattern>\n"
        ));
    }
    out.push_str("</defs></svg>\n");
    out
}

/// What the colours and textures mean; only those that occur.
pub(super) fn legend(total: &Account) -> String {
    let mut out = String::from("<ul class=\"legend\">");
    for (name, rows) in buckets(total) {
        if rows != 0 {
            out.push_str(&format!(
                "<li><svg width=\"18\" height=\"12\" aria-hidden=\"true\"><rect width=\"18\" height=\"12\" fill=\"{}\" class=\"{}\"/></svg> {name}</li>",
                fill(name),
                solid(name),
            ));
        }
    }
    out.push_str("</ul>\n");
    out
}

/// The account of each entity as one bar.
pub(super) fn accounts(receipt: &Receipt) -> String {
    let names = receipt.entities.iter().map(|e| e.entity.as_str());
    let frame = Frame::new(names);
    let mut out = frame.open(
        receipt.entities.len(),
        "Source rows of each entity by bucket",
    );
    for (at, entity) in receipt.entities.iter().enumerate() {
        out.push_str(&frame.label(at, &entity.entity));
        out.push_str(&frame.track(at));
        out.push_str(&stack(&frame, at, entity));
        let left = entity.account.quarantined + entity.account.blocked;
        let mut words = figures::counted(entity.account.source_rows, "row");
        if left > 0 {
            words.push_str(&format!(", {} left behind", figures::count(left)));
        }
        out.push_str(&frame.figures(at, frame.left + frame.room, &words));
    }
    out.push_str("</svg>\n");
    out
}

/// The parts of one bar. What the small parts get more than their share is taken from the largest.
fn stack(frame: &Frame, at: usize, entity: &EntityReceipt) -> String {
    let parts: Vec<(&str, i64)> = buckets(&entity.account)
        .into_iter()
        .filter(|(_, rows)| *rows > 0)
        .collect();
    let all: f64 = parts.iter().map(|(_, rows)| units(*rows)).sum();
    let mut widths: Vec<f64> = parts
        .iter()
        .map(|(_, rows)| (units(*rows) / all * frame.room).max(LEAST))
        .collect();
    let excess = widths.iter().sum::<f64>() - frame.room;
    if let Some(largest) = widths.iter_mut().max_by(|a, b| a.total_cmp(b)) {
        *largest = (*largest - excess).max(LEAST);
    }
    let mut out = String::new();
    let mut x = frame.left;
    for ((name, rows), width) in parts.iter().zip(widths) {
        let hint = format!("{}: {} {name}", entity.entity, figures::count(*rows));
        out.push_str(&bar(x, at, width, name, &hint));
        x += width;
    }
    out
}

/// How long each entity took.
pub(super) fn durations(receipt: &Receipt) -> String {
    let timed: Vec<(&EntityReceipt, f64)> = receipt
        .entities
        .iter()
        .filter_map(|entity| Some((entity, entity.seconds?)))
        .collect();
    let longest = timed.iter().map(|(_, s)| *s).fold(0.0, f64::max);
    let frame = Frame::new(timed.iter().map(|(entity, _)| entity.entity.as_str()));
    let mut out = frame.open(timed.len(), "Time of each entity");
    for (at, (entity, seconds)) in timed.iter().enumerate() {
        let mut words = figures::duration(*seconds);
        if let Some(rate) = entity.rows_per_second {
            words.push_str(&format!(", {} rows/s", figures::rate(rate)));
        }
        out.push_str(&frame.measure(at, &entity.entity, *seconds, longest, "time", &words));
    }
    out.push_str("</svg>\n");
    out
}

/// The reasons that most rows have.
pub(super) fn reasons(receipt: &Receipt) -> String {
    let mut most: Vec<&RunReason> = receipt.reasons.iter().collect();
    most.sort_by_key(|reason| std::cmp::Reverse(reason.rows));
    most.truncate(REASONS);
    let named: Vec<(String, &RunReason)> = most
        .into_iter()
        .map(|reason| {
            let place = reason.place().map(|place| format!(".{place}"));
            let place = place.unwrap_or_default();
            (
                format!("{}{place}: {}", reason.entity, reason.code()),
                reason,
            )
        })
        .collect();
    let longest = named.first().map_or(0.0, |(_, reason)| units(reason.rows));
    let frame = Frame::new(named.iter().map(|(name, _)| name.as_str()));
    let mut out = frame.open(named.len(), "Rows left behind by reason");
    for (at, (name, reason)) in named.iter().enumerate() {
        let bucket = match reason.code() {
            "blocked_parent" => "blocked",
            _ => "quarantined",
        };
        let words = format!("{}, {bucket}", figures::counted(reason.rows, "row"));
        out.push_str(&frame.measure(at, name, units(reason.rows), longest, bucket, &words));
    }
    out.push_str("</svg>\n");
    out
}

/// Where labels end and bars begin.
struct Frame {
    left: f64,
    room: f64,
    /// Characters that a label may have.
    most: usize,
}

impl Frame {
    fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let most = names.map(|name| name.chars().count()).max().unwrap_or(0);
        let most = most.clamp(8, 56);
        #[expect(clippy::cast_precision_loss, reason = "at most 56")]
        let left = (most as f64 * CHARACTER + 14.0).round();
        Self {
            left,
            room: WIDTH - left - FIGURES,
            most,
        }
    }

    fn open(&self, bars: usize, title: &str) -> String {
        let height = top(bars) + 4.0;
        format!(
            "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {height}\" preserveAspectRatio=\"xMinYMin meet\" role=\"img\" aria-label=\"{}\">\n",
            escaped(title)
        )
    }

    fn label(&self, at: usize, name: &str) -> String {
        let short: String = match name.chars().count() > self.most {
            true => name.chars().take(self.most - 1).chain(['…']).collect(),
            false => name.to_owned(),
        };
        format!(
            "<text x=\"0\" y=\"{}\">{}<title>{}</title></text>",
            baseline(at),
            escaped(&short),
            escaped(name)
        )
    }

    /// The outline that a whole bar fills.
    fn track(&self, at: usize) -> String {
        format!(
            "<rect class=\"track\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{BAR}\"/>",
            self.left,
            top(at),
            self.room
        )
    }

    fn figures(&self, at: usize, x: f64, words: &str) -> String {
        format!(
            "<text class=\"figure\" x=\"{:.1}\" y=\"{}\">{}</text>\n",
            x + 8.0,
            baseline(at),
            escaped(words)
        )
    }

    /// A label, a bar as long as its part of the longest, and its figures.
    fn measure(
        &self,
        at: usize,
        name: &str,
        value: f64,
        longest: f64,
        class: &str,
        words: &str,
    ) -> String {
        let part = if longest > 0.0 { value / longest } else { 0.0 };
        let width = (part * self.room).max(1.0);
        let hint = format!("{name}: {words}");
        format!(
            "{}{}{}",
            self.label(at, name),
            bar(self.left, at, width, class, &hint),
            self.figures(at, self.left + width, words)
        )
    }
}

fn bar(x: f64, at: usize, width: f64, class: &str, hint: &str) -> String {
    format!(
        "<rect class=\"{}\" fill=\"{}\" x=\"{x:.1}\" y=\"{}\" width=\"{width:.1}\" height=\"{BAR}\"><title>{}</title></rect>",
        solid(class),
        fill(class),
        top(at),
        escaped(hint)
    )
}

/// Buckets are told apart by a texture; what has none is one colour.
fn fill(class: &str) -> String {
    match solid(class) {
        "textured" => format!("url(#texture-{class})"),
        _ => "currentColor".to_owned(),
    }
}

fn solid(class: &str) -> &'static str {
    match class {
        "inserted" => "inserted",
        "time" => "time",
        _ => "textured",
    }
}

#[expect(clippy::cast_precision_loss, reason = "a bar's number, and a drawing")]
fn top(at: usize) -> f64 {
    at as f64 * STEP + 4.0
}

fn baseline(at: usize) -> f64 {
    top(at) + 12.5
}

#[expect(clippy::cast_precision_loss, reason = "a drawing needs no exactness")]
fn units(rows: i64) -> f64 {
    rows as f64
}
