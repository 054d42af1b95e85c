//! `cargo xtask picture`: the demo's output as an SVG for the README.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::terminal::{self, Span};
use crate::workspace::{cargo, output, root};

const FILE: &str = "docs/images/demo.svg";
const COLUMNS: usize = 100;
/// The last so many lines are drawn: an account of every entity is longer than a screen.
const SCREEN: usize = 72;
/// Size of a character, and of the border around all, in pixels.
const CELL: (f64, f64) = (7.8, 17.0);
const BORDER: f64 = 16.0;

const BACKGROUND: &str = "#14181f";
const FOREGROUND: &str = "#d6dbe4";
const FAINT: &str = "#8a93a3";
/// The terminal's colours: eight, and eight bright ones.
const PALETTE: [&str; 16] = [
    "#2b313c", "#f2777a", "#8fce7e", "#e8c266", "#7fb2f0", "#cf9be8", "#6fcfd0", "#d6dbe4",
    "#8a93a3", "#ff9a9d", "#aee39f", "#ffd98a", "#a3caff", "#e0b8f5", "#97e6e6", "#ffffff",
];

/// Runs the demo in a terminal and draws all that it leaves on the screen.
///
/// # Errors
/// The program can't be built or run, or the file can't be written.
pub(crate) fn draw() -> Result<(), String> {
    output(&mut cargo(&[
        "build",
        "--release",
        "--package",
        "regraft-cli",
    ]))?;
    // The program is called by its name alone, as where it is installed: no path of this machine
    // gets into the picture.
    let lines = terminal::run(
        &format!(
            "printf '$ regraft demo\\n'; PATH='{}':\"$PATH\" regraft demo",
            release()?.display()
        ),
        COLUMNS,
    )?;
    // What a high window shows of it in the end.
    let shown = &lines[lines.len().saturating_sub(SCREEN)..];
    fs::write(root().join(FILE), svg(shown)).map_err(|error| format!("{FILE}: {error}"))
}

/// The folder of the optimised programs, beside that of this one.
fn release() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let target = this.parent().and_then(Path::parent);
    target
        .map(|target| target.join("release"))
        .ok_or_else(|| format!("{} is in no target folder", this.display()))
}

fn svg(lines: &[Vec<Span>]) -> String {
    let columns = lines.iter().map(|line| width(line)).max().unwrap_or(0);
    let (right, bottom) = (
        columns as f64 * CELL.0 + 2.0 * BORDER,
        lines.len() as f64 * CELL.1 + 2.0 * BORDER,
    );
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {right:.0} {bottom:.0}\" \
         width=\"{right:.0}\" height=\"{bottom:.0}\" role=\"img\" aria-label=\"A terminal after \
         `regraft demo`: what was done, and the receipt\" font-size=\"13\" \
         font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', \
         monospace\">\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n"
    );
    for (row, line) in lines.iter().enumerate() {
        let y = BORDER + (row as f64 + 0.75) * CELL.1;
        let mut column = 0;
        for span in line {
            let cells = span.text.chars().count();
            if !span.text.trim().is_empty() {
                text(&mut out, span, BORDER + column as f64 * CELL.0, y);
            }
            column += cells;
        }
    }
    out.push_str("</svg>\n");
    out
}

/// One span, stretched to its cells: columns stay under each other in whatever font there is.
fn text(out: &mut String, span: &Span, left: f64, y: f64) {
    let blank = span.text.chars().take_while(|c| *c == ' ').count();
    let shown = span.text.trim();
    let cells = shown.chars().count();
    let colour = match span.colour {
        Some(colour) => PALETTE[usize::from(colour) % PALETTE.len()],
        None if span.dim => FAINT,
        None => FOREGROUND,
    };
    let weight = if span.bold {
        " font-weight=\"bold\""
    } else {
        ""
    };
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{y:.1}\" textLength=\"{:.1}\" fill=\"{colour}\"{weight} \
         xml:space=\"preserve\">{}</text>",
        left + blank as f64 * CELL.0,
        cells as f64 * CELL.0,
        escaped(shown),
    );
}

fn width(line: &[Span]) -> usize {
    line.iter().map(|span| span.text.chars().count()).sum()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
