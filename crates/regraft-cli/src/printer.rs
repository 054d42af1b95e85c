//! The one place that writes: results to standard output, everything else to standard error.

use std::fmt::Display;
use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anstream::{AutoStream, ColorChoice};
use indicatif::{MultiProgress, ProgressDrawTarget};
use regraft_engine::{Error, Kind};
use serde::Serialize;

use crate::arguments::{Color, Format, GlobalOptions};
use crate::exit::ExitStatus;
use crate::figures;
use crate::files;
use crate::style::{self, paint};

/// Text wider than this is hard to read, whatever the terminal's width.
const WIDEST: usize = 100;

/// Where all output goes.
pub(crate) struct Printer {
    format: Format,
    quiet: bool,
    verbose: bool,
    progress: bool,
    stdout: ColorChoice,
    stderr: ColorChoice,
    bars: MultiProgress,
    /// What a command to type begins with.
    program: String,
    failed: Mutex<Option<io::Error>>,
}

impl Printer {
    /// A printer as the command line asks for it.
    pub(crate) fn new(options: &GlobalOptions) -> Self {
        let choice = |auto: ColorChoice| match options.color {
            Color::Auto => auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        };
        let progress = !options.no_progress && !options.quiet;
        let target = match progress && io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr_with_hz(8),
            false => ProgressDrawTarget::hidden(),
        };
        Self {
            format: options.format,
            quiet: options.quiet,
            verbose: options.verbose,
            progress,
            stdout: choice(AutoStream::choice(&io::stdout())),
            stderr: choice(AutoStream::choice(&io::stderr())),
            bars: MultiProgress::with_draw_target(target),
            program: program(options.project.as_deref()),
            failed: Mutex::new(None),
        }
    }

    /// Prints a result: the JSON document, or its form for people.
    pub(crate) fn report<T: Serialize>(&self, value: &T, human: impl FnOnce(usize) -> String) {
        match self.format {
            Format::Json => self.document(value),
            Format::Human | Format::Markdown | Format::Html | Format::Csv => {
                self.data(&human(self.width()))
            }
        }
    }

    /// Writes a result to a file, or prints it as [`Self::report`] does.
    ///
    /// # Errors
    /// The file can't be written.
    pub(crate) fn deliver<T: Serialize>(
        &self,
        output: Option<&Path>,
        value: &T,
        human: impl FnOnce(usize) -> String,
    ) -> Result<(), Error> {
        let Some(path) = output else {
            self.report(value, human);
            return Ok(());
        };
        let text = if self.is_json() {
            serde_json::to_string_pretty(value).map_err(|error| {
                Error::new(
                    Kind::Internal,
                    format!("the result can't be written: {error}"),
                )
            })?
        } else {
            human(WIDEST)
        };
        self.save(path, &text)
    }

    /// Writes a text to a file, without colours.
    ///
    /// # Errors
    /// The file can't be written.
    pub(crate) fn save(&self, path: &Path, text: &str) -> Result<(), Error> {
        let plain = anstream::adapter::strip_str(text).to_string();
        std::fs::write(path, format!("{}\n", plain.trim_end()))
            .map_err(|error| files::failed("writing", path, &error))?;
        self.note(format!("it is in {}", path.display()));
        Ok(())
    }

    /// Prints a result for people. `text` may hold colours.
    pub(crate) fn data(&self, text: &str) {
        self.write_out(text.trim_end_matches('\n'));
    }

    /// Prints the JSON document.
    fn document<T: Serialize>(&self, value: &T) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.write_out(&text),
            Err(error) => self.remember(io::Error::other(error)),
        }
    }

    /// Whether results are JSON documents.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Tells something in passing.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.quiet {
            self.write_err(&text.to_string());
        }
    }

    /// Tells a detail that is only of interest with `--verbose`.
    pub(crate) fn detail(&self, text: impl Display) {
        if self.verbose {
            self.write_err(&paint(style::QUIET, text));
        }
    }

    /// Tells of something that may be wrong.
    pub(crate) fn warning(&self, text: impl Display) {
        self.note(format!("{}: {text}", paint(style::CAUTION, "warning")));
    }

    /// Says what to type next. For people only.
    pub(crate) fn next_steps(&self, steps: &[(String, &str)]) {
        if steps.is_empty() || self.is_json() {
            return;
        }
        let program = &self.program;
        let steps: Vec<(String, &str)> = steps
            .iter()
            .map(|(command, why)| {
                (
                    command.replacen("regraft ", &format!("{program} "), 1),
                    *why,
                )
            })
            .collect();
        let widest = steps
            .iter()
            .map(|(command, _)| command.chars().count())
            .max()
            .unwrap_or(0);
        let mut text = String::from("\n");
        for (at, (command, why)) in steps.iter().enumerate() {
            let lead = if at == 0 { "next:" } else { "     " };
            let gap = " ".repeat(widest - command.chars().count() + 3);
            text.push_str(&format!(
                "{lead} {}{gap}{why}\n",
                paint(style::LITERAL, command)
            ));
        }
        self.note(text.trim_end());
    }

    /// Prints an error. `text` may hold colours.
    pub(crate) fn error(&self, text: &str) {
        self.write_err(text.trim_end_matches('\n'));
    }

    /// Prints an error as the JSON document.
    pub(crate) fn error_document<T: Serialize>(&self, value: &T) {
        self.document(value);
    }

    /// Asks on the terminal whether to go on.
    ///
    /// # Errors
    /// An answer other than yes ([`Kind::Interrupted`]); nobody there to answer ([`Kind::Usage`]),
    /// with `why` it is asked. `kept` says that nothing was done.
    pub(crate) fn confirm(&self, question: &str, why: &str, kept: &str) -> Result<(), Error> {
        match self.ask(question) {
            Ok(Some(true)) => Ok(()),
            Ok(Some(false)) => Err(Error::new(
                Kind::Interrupted,
                format!("not confirmed; {kept}"),
            )),
            Ok(None) => Err(Error::new(
                Kind::Usage,
                format!("{why}, and there is no terminal to ask on; {kept}"),
            )
            .hint("look at the preview, then add --yes")),
            Err(error) => Err(Error::new(
                Kind::Internal,
                format!("the answer can't be read: {error}"),
            )),
        }
    }

    /// The answer to a question; `None` when nobody is there to answer.
    fn ask(&self, question: &str) -> io::Result<Option<bool>> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Ok(None);
        }
        self.bars.suspend(|| {
            let mut stream = AutoStream::new(io::stderr().lock(), self.stderr);
            write!(stream, "{question} [y/N] ")?;
            stream.flush()
        })?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(Some(matches!(
            answer.trim().to_lowercase().as_str(),
            "y" | "yes"
        )))
    }

    /// Whether progress is wanted, as bars or as lines.
    pub(crate) fn wants_progress(&self) -> bool {
        self.progress
    }

    /// Whether details are wanted.
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// The bars on the terminal; hidden where there is none.
    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Whether errors are printed in colour.
    pub(crate) fn colours_errors(&self) -> bool {
        self.stderr != ColorChoice::Never
    }

    /// Whether results are printed in colour.
    pub(crate) fn colours_results(&self) -> bool {
        self.stdout != ColorChoice::Never
    }

    /// Characters a line of a result may have.
    pub(crate) fn width(&self) -> usize {
        terminal_width(libc::STDOUT_FILENO).min(WIDEST)
    }

    /// Characters a line on standard error may have.
    pub(crate) fn error_width(&self) -> usize {
        terminal_width(libc::STDERR_FILENO).min(WIDEST)
    }

    /// The status to end with: a result that could not be written was not delivered. A reader that
    /// went away (`| head`) is no fault.
    pub(crate) fn finish(&self, status: ExitStatus) -> ExitStatus {
        let failed = self
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match failed {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                self.write_err(&format!(
                    "{}: the result could not be written to standard output: {error}",
                    paint(style::BAD, "error")
                ));
                ExitStatus::Internal
            }
            _ => status,
        }
    }

    fn write_out(&self, text: &str) {
        let written = self.bars.suspend(|| {
            let mut stream = AutoStream::new(io::stdout().lock(), self.stdout);
            writeln!(stream, "{text}").and_then(|()| stream.flush())
        });
        if let Err(error) = written {
            self.remember(error);
        }
    }

    fn write_err(&self, text: &str) {
        // When standard error is gone there is nobody left to tell.
        let _ = self.bars.suspend(|| {
            let mut stream = AutoStream::new(io::stderr().lock(), self.stderr);
            writeln!(stream, "{text}").and_then(|()| stream.flush())
        });
    }

    fn remember(&self, error: io::Error) {
        self.failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
    }
}

/// What to type to run this program again on the same project: as it was typed, because it need
/// not be in PATH.
fn program(project: Option<&Path>) -> String {
    let typed = std::env::args().next().unwrap_or_default();
    let program = if typed.contains('/') {
        typed
    } else {
        "regraft".to_owned()
    };
    match project {
        Some(project) => format!("{program} --project {}", project.display()),
        None => program,
    }
}

/// Wraps a line for standard error.
pub(crate) fn wrapped(printer: &Printer, text: &str, indent: usize) -> String {
    figures::wrap(text, printer.error_width(), indent)
}

/// The width of the terminal behind a file descriptor; `COLUMNS`, else the widest, without one.
fn terminal_width(descriptor: libc::c_int) -> usize {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes one winsize through the pointer, which is valid for it.
    let done = unsafe { libc::ioctl(descriptor, libc::TIOCGWINSZ, &raw mut size) };
    if done == 0 && size.ws_col > 0 {
        return usize::from(size.ws_col);
    }
    std::env::var("COLUMNS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(WIDEST)
}
