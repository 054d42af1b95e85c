//! The runs of jobs as a chart of characters, and as lines in inline SVG.

use super::series::Series;
use crate::views::written::markup_free as escaped;

/// Eighths of a character's height.
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Lines of a chart of characters.
const LINES: usize = 6;
/// Columns of a chart of characters; more runs than these share them.
const COLUMNS: usize = 60;

/// A column for each run, the oldest at the left, as high as its part of the highest.
pub(super) fn columns(series: &Series) -> String {
    let values = pooled(&series.values);
    let highest = values.iter().flatten().copied().fold(0.0, f64::max);
    if highest <= 0.0 {
        return String::new();
    }
    let (top, bottom) = ((series.written)(highest), (series.written)(0.0));
    let label = top.chars().count().max(bottom.chars().count());
    let mut out = String::new();
    for line in (0..LINES).rev() {
        let name = match line {
            0 => &bottom,
            line if line + 1 == LINES => &top,
            _ => "",
        };
        let column = |value: &Option<f64>| match value {
            Some(value) => piece(*value / highest, line),
            None => ' ',
        };
        let drawn: String = values.iter().map(column).collect();
        out.push_str(&format!("  {name:>label$} ┤{}\n", drawn.trim_end()));
    }
    out
}

/// The character of a column, whose height is a part of the whole, in one line of the chart.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "between 0 and 8 in each of a few lines"
)]
fn piece(part: f64, line: usize) -> char {
    // What is there at all is seen.
    let eighths = (part * (LINES * 8) as f64).round().max(1.0) as usize;
    EIGHTHS[eighths.saturating_sub(line * 8).min(8)]
}

/// At most [`COLUMNS`] values, each the mean of those that share its column.
#[expect(clippy::cast_precision_loss, reason = "a mean of some hundred at most")]
fn pooled(values: &[Option<f64>]) -> Vec<Option<f64>> {
    let share = values.len().div_ceil(COLUMNS).max(1);
    let mean = |part: &[Option<f64>]| {
        let measured: Vec<f64> = part.iter().flatten().copied().collect();
        (!measured.is_empty()).then(|| measured.iter().sum::<f64>() / measured.len() as f64)
    };
    values.chunks(share).map(mean).collect()
}

/// Units across and down.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 180.0;
/// Units for labels at the left, and for those below.
const LEFT: f64 = 110.0;
const BELOW: f64 = 24.0;
const ABOVE: f64 = 12.0;

/// A line through the values of the runs, each with a dot that tells its run and value; `begun` is
/// the first and the last run's time.
pub(super) fn line(series: &Series, runs: &[String], begun: [&str; 2]) -> String {
    let highest = series.range().map_or(0.0, |(_, most)| most);
    // Where all is nothing, the line at the bottom says so.
    let marked: &[f64] = if highest > 0.0 {
        &[0.0, 0.5, 1.0]
    } else {
        &[0.0]
    };
    let whole = highest.max(f64::MIN_POSITIVE);
    let points: Vec<(f64, f64, usize, f64)> = series
        .values
        .iter()
        .enumerate()
        .filter_map(|(at, value)| Some((at, (*value)?)))
        .map(|(at, value)| {
            (
                across(at, series.values.len()),
                down(value / whole),
                at,
                value,
            )
        })
        .collect();
    let mut out = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"xMinYMin meet\" \
         role=\"img\" aria-label=\"{}\">\n",
        escaped(series.name)
    );
    for part in marked {
        let y = down(*part);
        out.push_str(&format!(
            "<path class=\"track\" d=\"M{LEFT} {y:.1}H{WIDTH}\"/>\
             <text class=\"figure\" x=\"0\" y=\"{:.1}\">{}</text>\n",
            y + 4.0,
            escaped(&(series.written)(highest * *part))
        ));
    }
    let course: Vec<String> = points
        .iter()
        .map(|(x, y, ..)| format!("{x:.1} {y:.1}"))
        .collect();
    if course.len() > 1 {
        out.push_str(&format!(
            "<path class=\"course\" d=\"M{}\"/>\n",
            course.join("L")
        ));
    }
    for (x, y, at, value) in &points {
        let run = runs.get(*at).map_or("", String::as_str);
        out.push_str(&format!(
            "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>{}</title></circle>\n",
            escaped(&format!("{run}: {}", (series.written)(*value)))
        ));
    }
    let y = HEIGHT - 6.0;
    out.push_str(&format!(
        "<text class=\"figure\" x=\"{LEFT}\" y=\"{y}\">{}</text>\
         <text class=\"figure\" text-anchor=\"end\" x=\"{WIDTH}\" y=\"{y}\">{}</text>\n</svg>\n",
        escaped(begun[0]),
        escaped(begun[1])
    ));
    out
}

#[expect(clippy::cast_precision_loss, reason = "some hundred runs at most")]
fn across(at: usize, runs: usize) -> f64 {
    let room = WIDTH - LEFT - 6.0;
    match runs {
        0 | 1 => LEFT + room / 2.0,
        runs => LEFT + 3.0 + room * at as f64 / (runs - 1) as f64,
    }
}

fn down(part: f64) -> f64 {
    ABOVE + (1.0 - part) * (HEIGHT - ABOVE - BELOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[Option<f64>]) -> Series {
        Series {
            name: "rows/s",
            caption: "",
            values: values.to_vec(),
            written: |value| format!("{value:.0}"),
        }
    }

    #[test]
    fn columns_are_in_proportion_and_what_was_not_measured_is_left_out() {
        let drawn = columns(&series(&[Some(48.0), None, Some(24.0), Some(0.1)]));
        assert_eq!(
            drawn,
            "  48 ┤█\n     ┤█\n     ┤█\n     ┤█ █\n     ┤█ █\n   0 ┤█ █▁\n"
        );
        assert_eq!(columns(&series(&[None, Some(0.0)])), "");
    }

    #[test]
    fn more_runs_than_columns_share_them() {
        let many: Vec<Option<f64>> = (0..150).map(|at| Some(f64::from(at))).collect();
        let pooled = pooled(&many);
        assert_eq!(pooled.len(), 50);
        assert_eq!(pooled[0], Some(1.0), "the mean of 0, 1 and 2");
    }

    #[test]
    fn a_line_goes_through_what_was_measured() {
        let values = [Some(10.0), None, Some(5.0)];
        let runs = ["a".to_owned(), "b".to_owned(), "<c>".to_owned()];
        let drawn = line(&series(&values), &runs, ["then", "now"]);
        assert_eq!(drawn.matches("<circle").count(), 2);
        assert!(drawn.contains("&lt;c&gt;: 5"), "{drawn}");
        // The middle run was not measured: the line goes on past it.
        assert!(drawn.contains("M113.0 12.0L857.0 84.0"), "{drawn}");
    }
}
