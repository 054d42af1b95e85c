//! Timing whole processes and printing what came of it.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::Result;

/// One measurement.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figure {
    /// Wall time.
    pub(super) seconds: f64,
    /// Peak resident memory of the process; 0 where it isn't a process of its own.
    pub(super) peak_megabytes: f64,
    /// Its processor time; 0 where it isn't a process of its own.
    pub(super) cpu_seconds: f64,
}

/// The measurements of one way.
#[derive(Debug)]
pub(super) struct Measured {
    name: String,
    figures: Vec<Figure>,
}

impl Measured {
    /// A way that was not measured yet.
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            figures: Vec::new(),
        }
    }

    /// Adds a measurement.
    pub(super) fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// The median of its times.
    pub(super) fn median(&self) -> f64 {
        median(self.figures.iter().map(|f| f.seconds).collect())
    }

    /// The most memory of any of them, in megabytes.
    pub(super) fn peak(&self) -> f64 {
        self.figures
            .iter()
            .map(|f| f.peak_megabytes)
            .fold(0.0, f64::max)
    }

    /// The median of the round-by-round ratios to another way.
    pub(super) fn ratio(&self, to: &Self) -> f64 {
        median(
            self.figures
                .iter()
                .zip(&to.figures)
                .map(|(a, b)| a.seconds / b.seconds)
                .collect(),
        )
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// Prints ways beside the one they are held against.
pub(super) fn table(title: &str, base: &Measured, ways: &[&Measured], goal: &str) {
    print(&format!("\n### {title} (goal: {goal})\n"));
    print("| way | median | ratio, round by round | peak memory |\n| --- | --- | --- | --- |");
    print(&format!("| {} | {:.2} s | 1 | |", base.name, base.median()));
    for way in ways {
        let peak = if way.peak() > 0.0 {
            format!("{:.0} MB", way.peak())
        } else {
            String::new()
        };
        print(&format!(
            "| {} | {:.2} s | {:.2} | {peak} |",
            way.name,
            way.median(),
            way.ratio(base)
        ));
    }
}

/// A line of the result.
pub(super) fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line about what is going on.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Builds the program as users get it; its path.
pub(super) fn build_regraft() -> Result<PathBuf> {
    say("building regraft ...");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What cargo told this program about itself would make it build everything anew.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST") {
            command.env_remove(&name);
        }
    }
    let output = command
        .args([
            "build",
            "--release",
            "--package",
            "regraft-cli",
            "--message-format",
            "json",
        ])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("regraft does not build".into());
    }
    let path = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .find(|path| path.file_name().is_some_and(|name| name == "regraft"));
    path.ok_or_else(|| "cargo did not say where regraft is".into())
}

/// Where [`run`] leaves what the program printed.
const PRINTED: &str = "bench.log";

/// The document that the program printed which [`run`] ran last in `dir`.
pub(super) fn printed_json(dir: &Path) -> Result<serde_json::Value> {
    let text = std::fs::read_to_string(dir.join(PRINTED))?;
    Ok(serde_json::from_str(&text)?)
}

/// Runs a program to its end. `expected` are the exit codes that count as done.
pub(super) fn run(
    program: &Path,
    arguments: &[&str],
    environment: &[(String, String)],
    dir: &Path,
    expected: &[i32],
) -> Result<Figure> {
    let log = dir.join(PRINTED);
    let started = Instant::now();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(environment.iter().map(|(k, v)| (k, v)))
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&log)?)
        .stderr(std::fs::File::create(dir.join("bench.err"))?)
        .process_group(0);
    let child = command.spawn()?;
    let (mut status, mut usage) = (0, unsafe { std::mem::zeroed::<libc::rusage>() });
    // SAFETY: the pid is our own child's, which nobody else waits for, and both pointers are valid.
    let waited =
        unsafe { libc::wait4(child.id().cast_signed(), &raw mut status, 0, &raw mut usage) };
    if waited < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    let seconds = started.elapsed().as_secs_f64();
    let code = libc::WEXITSTATUS(status);
    if !libc::WIFEXITED(status) || !expected.contains(&code) {
        let err = std::fs::read_to_string(dir.join("bench.err"))?;
        return Err(format!(
            "{} {} ended with {code}: {err}",
            program.display(),
            arguments.join(" ")
        )
        .into());
    }
    Ok(Figure {
        seconds,
        peak_megabytes: usage.ru_maxrss as f64 / 1024.0,
        cpu_seconds: [usage.ru_utime, usage.ru_stime]
            .map(|time| time.tv_sec as f64 + time.tv_usec as f64 / 1e6)
            .iter()
            .sum(),
    })
}
