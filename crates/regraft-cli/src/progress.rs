//! How far the work is: bars on a terminal, now and then a line elsewhere.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use regraft_engine::{Event, Events};

use crate::diagnostics;
use crate::figures;
use crate::printer::Printer;
use crate::style::{self, paint};

/// Least time between two lines about one entity where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(2);

const BAR: &str = "  {prefix} {bar:22.cyan} {percent:>3}%  {counted}  {rate}  {left}{msg}";
const SPINNER: &str = "{spinner:.cyan} {msg}";

/// What is being done to the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    /// They are moved.
    Moving,
    /// They are gone through, and nothing is changed.
    Rehearsing,
    /// They are taken back.
    Undoing,
    /// Somebody decides on them.
    Deciding,
}

/// Turns events into progress.
pub(crate) struct Progress {
    printer: Arc<Printer>,
    doing: Doing,
    lanes: Mutex<Lanes>,
}

#[derive(Default)]
struct Lanes {
    width: usize,
    lanes: HashMap<String, Lane>,
}

/// One entity at work.
struct Lane {
    bar: ProgressBar,
    rows: u64,
    done: u64,
    started: Instant,
    told: Instant,
}

impl Progress {
    /// A sink of events that shows them through `printer`.
    pub(crate) fn start(printer: Arc<Printer>, doing: Doing) -> Events {
        let progress = Self {
            printer,
            doing,
            lanes: Mutex::default(),
        };
        Events::new(move |event| progress.take(event))
    }

    fn take(&self, event: Event) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::RunStarted {
                run_id,
                resumed,
                entities,
                ..
            } => {
                lanes.width = entities
                    .iter()
                    .map(|name| name.chars().count())
                    .max()
                    .unwrap_or(0);
                self.run_started(&run_id, resumed, &entities);
            }
            Event::EntityStarted {
                entity,
                rows,
                batches,
                mode,
            } => {
                self.entity_started(&mut lanes, entity, rows, batches, mode);
            }
            Event::RowsDone { entity, rows, .. } => {
                if let Some(lane) = lanes.lanes.get_mut(&entity) {
                    self.rows_done(&entity, lane, rows);
                }
            }
            Event::PhaseStarted { entity, phase } => {
                self.printer.detail(format!("{entity}: {phase}"));
                if let Some(lane) = lanes.lanes.get(&entity) {
                    lane.bar.set_message(format!("  {phase}"));
                }
            }
            Event::EntityFinished {
                entity,
                inserted,
                left,
                seconds,
            } => {
                let width = lanes.width;
                if let Some(lane) = lanes.lanes.remove(&entity) {
                    lane.bar.finish_and_clear();
                    self.printer.bars().remove(&lane.bar);
                }
                self.entity_finished(&entity, width, inserted, left, seconds);
            }
            Event::Note(text) | Event::Retried { text, .. } => self.printer.note(text),
            Event::JobFailed { job, error } => {
                let text = diagnostics::human(&self.printer, &error);
                self.printer.error(&format!("{job}: {text}"));
            }
            Event::BatchStarted { .. }
            | Event::BatchFinished { .. }
            | Event::RunFinished { .. }
            | Event::JobEnded(_) => {}
            Event::PaceChanged(change) => self.printer.note(change.to_string()),
        }
    }

    fn run_started(&self, run_id: &str, resumed: bool, entities: &[String]) {
        match self.doing {
            Doing::Rehearsing => self.printer.note("dry run: nothing will be changed"),
            // Its command tells what it undoes.
            Doing::Undoing | Doing::Deciding => {}
            _ if resumed => {
                self.printer
                    .note(format!("going on with {run_id}: {}", entities.join(", ")));
            }
            _ => self.printer.note(format!("run {run_id}")),
        }
    }

    fn entity_started(
        &self,
        lanes: &mut Lanes,
        entity: String,
        rows: u64,
        batches: u64,
        mode: &str,
    ) {
        let bar = if self.printer.bars().is_hidden() {
            if self.printer.wants_progress() {
                self.printer.note(format!(
                    "{entity}: {} in {}, {mode}",
                    figures::counted(rows, "source row"),
                    figures::counted(batches, "batch"),
                ));
            }
            ProgressBar::hidden()
        } else {
            let bar = ProgressBar::new(rows).with_style(bar_style());
            let bar = bar.with_prefix(format!("{entity:<width$}", width = lanes.width));
            self.printer.bars().add(bar)
        };
        bar.tick();
        let now = Instant::now();
        let lane = Lane {
            bar,
            rows,
            done: 0,
            started: now,
            told: now,
        };
        lanes.lanes.insert(entity, lane);
    }

    fn rows_done(&self, entity: &str, lane: &mut Lane, rows: u64) {
        lane.done += rows;
        lane.bar.inc(rows);
        let due = lane.told.elapsed() >= BETWEEN_LINES && lane.done < lane.rows;
        if due && self.printer.bars().is_hidden() && self.printer.wants_progress() {
            lane.told = Instant::now();
            let rate = per_second(lane.done, lane.started.elapsed());
            self.printer.note(format!(
                "{entity}: {} of {} rows, {} rows/s, {}",
                figures::count(lane.done),
                figures::count(lane.rows),
                figures::rate(rate),
                left(lane.rows - lane.done, rate),
            ));
        }
    }

    fn entity_finished(&self, entity: &str, width: usize, inserted: u64, left: u64, seconds: f64) {
        if !self.printer.wants_progress() {
            return;
        }
        let (rows, verb) = match self.doing {
            Doing::Moving | Doing::Deciding => (inserted, "moved"),
            Doing::Rehearsing => (inserted, "would be moved"),
            // A rollback tells what it took back under `left`.
            Doing::Undoing => (left, "undone"),
        };
        let rows = figures::counted(rows, "row");
        let mut line = format!(
            "{} {entity:<width$}  {rows} {verb}",
            paint(style::GOOD, "✓")
        );
        if self.doing == Doing::Undoing {
            self.printer.note(line);
            return;
        }
        if left > 0 {
            let text = format!("{} left behind", figures::count(left));
            let _ = write!(line, ", {}", paint(style::CAUTION, text));
        }
        let _ = write!(line, " ({})", figures::duration(seconds));
        self.printer.note(line);
    }
}

fn bar_style() -> ProgressStyle {
    let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
    style
        .progress_chars("━━ ")
        .with_key(
            "counted",
            |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let all = figures::count(state.len().unwrap_or(0));
                let done = figures::count(state.pos());
                let _ = write!(out, "{done:>width$} of {all} rows", width = all.len());
            },
        )
        .with_key(
            "rate",
            |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = write!(out, "{:>9} rows/s", figures::rate(state.per_sec()));
            },
        )
        .with_key(
            "left",
            |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let rows = state.len().unwrap_or(0).saturating_sub(state.pos());
                if rows > 0 && state.pos() > 0 {
                    let _ = write!(out, "{} left", figures::span(state.eta().as_secs_f64()));
                }
            },
        )
}

fn per_second(rows: u64, span: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rows = rows as f64;
    rows / span.as_secs_f64().max(0.001)
}

fn left(rows: u64, rate: f64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
    let seconds = rows as f64 / rate.max(0.001);
    format!("about {} left", figures::span(seconds))
}

/// One step of a longer undertaking: a spinner while it lasts, a line with its time when it is done.
pub(crate) struct Step {
    printer: Arc<Printer>,
    bar: ProgressBar,
    started: Instant,
}

impl Step {
    /// Begins a step; `doing` says what is being done.
    pub(crate) fn begin(printer: &Arc<Printer>, doing: &str) -> Self {
        let bar = if printer.bars().is_hidden() {
            ProgressBar::hidden()
        } else {
            let style = ProgressStyle::with_template(SPINNER)
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = printer
                .bars()
                .add(ProgressBar::new_spinner().with_style(style));
            bar.set_message(doing.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        };
        printer.detail(doing);
        Self {
            printer: printer.clone(),
            bar,
            started: Instant::now(),
        }
    }

    /// A sink of events that shows the phases of entities beside the spinner.
    pub(crate) fn events(&self) -> Events {
        let (printer, bar) = (self.printer.clone(), self.bar.clone());
        Events::new(move |event| match event {
            Event::PhaseStarted { entity, phase } => {
                printer.detail(format!("{entity}: {phase}"));
                bar.set_message(format!("{entity}: {phase}"));
            }
            Event::Note(text) | Event::Retried { text, .. } => printer.note(text),
            _ => {}
        })
    }

    /// Ends it well; `what` says what is there now.
    pub(crate) fn done(self, what: &str) {
        self.bar.finish_and_clear();
        let seconds = figures::duration(self.started.elapsed().as_secs_f64());
        self.printer
            .note(format!("{} {what} ({seconds})", paint(style::GOOD, "✓")));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        self.printer.bars().remove(&self.bar);
    }
}
