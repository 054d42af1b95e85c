//! A program run in a terminal, and what is on the screen after it.

use std::process::Command;

use crate::workspace::output;

/// Name of the tmux server of ours, so that nobody else's is touched.
const SERVER: &str = "regraft-xtask";

/// Characters in a row that look the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) text: String,
    pub(crate) bold: bool,
    pub(crate) dim: bool,
    /// The number of the terminal's colour, 0 to 15.
    pub(crate) colour: Option<u8>,
}

/// Runs a shell command in a terminal of `columns` and gives all lines it left on the screen and
/// above. Needs tmux.
///
/// # Errors
/// tmux can't be run.
pub(crate) fn run(command: &str, columns: usize) -> Result<Vec<Vec<Span>>, String> {
    let width = columns.to_string();
    let in_terminal = format!("{command}; tmux -L {SERVER} wait-for -S end; sleep 600");
    let result = tmux(&[
        "-f",
        "/dev/null",
        "start-server",
        ";",
        "set-option",
        "-g",
        "history-limit",
        "5000",
        ";",
        "new-session",
        "-d",
        "-x",
        &width,
        "-y",
        "50",
        &in_terminal,
    ])
    .and_then(|_| tmux(&["wait-for", "end"]))
    .and_then(|_| tmux(&["capture-pane", "-e", "-p", "-S", "-"]));
    let stopped = tmux(&["kill-server"]);
    let text = result?;
    stopped?;
    let mut lines: Vec<Vec<Span>> = lines(&text);
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    Ok(lines)
}

fn tmux(arguments: &[&str]) -> Result<String, String> {
    output(Command::new("tmux").args(["-L", SERVER]).args(arguments))
}

/// Lines with escape sequences for colours, as spans. A style lasts over the end of a line.
fn lines(text: &str) -> Vec<Vec<Span>> {
    let mut style = Span::default();
    text.lines()
        .map(|line| {
            let mut spans: Vec<Span> = Vec::new();
            for (at, piece) in line.split("\x1b[").enumerate() {
                let text = match piece.split_once('m') {
                    Some((codes, text)) if at > 0 => {
                        codes.split(';').for_each(|code| apply(&mut style, code));
                        text
                    }
                    _ => piece,
                };
                let text: String = text.chars().filter(|c| !c.is_control()).collect();
                if !text.is_empty() {
                    spans.push(Span {
                        text,
                        ..style.clone()
                    });
                }
            }
            spans
        })
        .collect()
}

fn apply(style: &mut Span, code: &str) {
    match code.parse::<u8>().unwrap_or(0) {
        0 => *style = Span::default(),
        1 => style.bold = true,
        2 => style.dim = true,
        22 => (style.bold, style.dim) = (false, false),
        code @ 30..=37 => style.colour = Some(code - 30),
        39 => style.colour = None,
        code @ 90..=97 => style.colour = Some(code - 82),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_are_read() {
        let lines = lines("a \x1b[1m\x1b[32mb\x1b[0m c\n\x1b[2md");
        let (plain, styled, dim) = (&lines[0][0], &lines[0][1], &lines[1][0]);
        assert_eq!((plain.text.as_str(), plain.bold), ("a ", false));
        assert_eq!(
            (styled.text.as_str(), styled.bold, styled.colour),
            ("b", true, Some(2))
        );
        assert_eq!(lines[0][2].text, " c");
        assert!(dim.dim && dim.colour.is_none());
    }
}
