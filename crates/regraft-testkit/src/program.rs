//! The program as a process.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::namespace::Namespace;
use crate::rehearsal::{Rehearsal, SECRET};

/// No run of a test takes longer than this.
const LIMIT: Duration = Duration::from_secs(120);

/// How to run the program.
#[derive(Debug, Clone)]
pub struct Program {
    binary: PathBuf,
    /// What the command line begins with, before the program.
    prefix: Vec<String>,
    folder: PathBuf,
    environment: Vec<(String, String)>,
    limit: Duration,
}

impl Program {
    /// The program at `binary`, with an environment that holds nothing of the caller's.
    /// `REGRAFT_TEST_BINARY` names another one, such as an optimised build (with fail points).
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        let given = std::env::var_os("REGRAFT_TEST_BINARY");
        Self {
            binary: given.map_or_else(|| binary.into(), PathBuf::from),
            prefix: Vec::new(),
            folder: std::env::temp_dir(),
            environment: Vec::new(),
            limit: LIMIT,
        }
        .with("PATH", &std::env::var("PATH").unwrap_or_default())
        .with("NO_COLOR", "1")
        .with("COLUMNS", "100")
    }

    /// The program on the databases of a rehearsal: small batches, two workers, and a single
    /// retry, so that a lost server is not waited for.
    pub fn on(binary: impl Into<PathBuf>, rehearsal: &Rehearsal<'_>) -> Self {
        Self::new(binary)
            .with("SOURCE_DATABASE_URL", &rehearsal.legacy_url())
            .with("TARGET_DATABASE_URL", &rehearsal.modern_url())
            .with(
                "REGRAFT_PROJECT",
                &rehearsal.project().display().to_string(),
            )
            .with("REGRAFT_KEY_SECRET", SECRET)
            .with("REGRAFT_WORKERS", "2")
            .with("MAX_RETRY_ATTEMPTS", "1")
    }

    /// With an environment variable; replaces one of that name.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// In this directory.
    #[must_use]
    pub fn in_folder(mut self, folder: &Path) -> Self {
        self.folder = folder.to_owned();
        self
    }

    /// On this host.
    #[must_use]
    pub fn on_host(mut self, host: &Namespace) -> Self {
        self.prefix = host.prefix().map(str::to_owned).to_vec();
        self
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.start(arguments).wait()
    }

    /// Runs it and expects it to end with this code.
    pub fn expect(&self, code: i32, arguments: &[&str]) -> Finished {
        let finished = self.run(arguments);
        assert_eq!(
            finished.code,
            Some(code),
            "{arguments:?} ended otherwise:\n{finished}"
        );
        finished
    }

    /// Runs it with `--format json` and gives the document it printed.
    pub fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let mut all = vec!["--format", "json"];
        all.extend(arguments);
        let finished = self.expect(code, &all);
        serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|e| panic!("{arguments:?} printed no JSON ({e}):\n{finished}"))
    }

    /// Starts it.
    pub fn start(&self, arguments: &[&str]) -> Running {
        // Files, and not pipes: nobody has to read while it runs.
        let stdout = tempfile::tempfile().expect("a temporary file can be made");
        let stderr = tempfile::tempfile().expect("a temporary file can be made");
        let copy = |file: &File| file.try_clone().expect("a file handle can be copied");
        let mut command = match self.prefix.split_first() {
            Some((first, more)) => {
                let mut command = Command::new(first);
                command.args(more).arg(&self.binary);
                command
            }
            None => Command::new(&self.binary),
        };
        let child = command
            .args(arguments)
            .current_dir(&self.folder)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(copy(&stdout))
            .stderr(copy(&stderr))
            .spawn()
            .unwrap_or_else(|e| panic!("{} does not start: {e}", self.binary.display()));
        Running {
            child,
            stdout,
            stderr,
            started: Instant::now(),
            limit: self.limit,
        }
    }
}

/// The program at work. Killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: File,
    stderr: File,
    started: Instant,
    limit: Duration,
}

impl Running {
    /// The number of its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: no destructor runs, nothing is flushed.
    pub fn kill(mut self) -> Finished {
        let _ = self.child.kill();
        self.wait()
    }

    /// Lets it work for that long, then kills it.
    pub fn kill_after(self, time: Duration) -> Finished {
        thread::sleep(time.saturating_sub(self.started.elapsed()));
        self.kill()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("a process id fits");
        // SAFETY: kill(2) takes two numbers and touches no memory of ours; the child was not
        // waited for yet, so its id is still its own.
        unsafe {
            libc::kill(pid, signal);
        }
    }

    /// Whether it still works.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has said on stderr so far.
    pub fn said(&self) -> String {
        content(&self.stderr)
    }

    /// Waits until it ends, which a program that was to stop must do in good time however long it has
    /// been at work.
    pub fn wait(mut self) -> Finished {
        let asked = Instant::now();
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if asked.elapsed() < self.limit => {
                    thread::sleep(Duration::from_millis(3));
                }
                Ok(None) => {
                    let _ = self.child.kill();
                    panic!(
                        "still at work after {:?}:\n{}",
                        self.limit,
                        content(&self.stderr)
                    );
                }
                Err(error) => panic!("the program can't be waited for: {error}"),
            }
        };
        Finished {
            code: status.code(),
            signal: status.signal(),
            stdout: content(&self.stdout),
            stderr: content(&self.stderr),
            time: self.started.elapsed(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn content(file: &File) -> String {
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    // The position is shared with the child's handle and must not move.
    let read = file.read_at(&mut bytes, 0).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

/// What became of it.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said besides.
    pub stderr: String,
    /// How long it took.
    pub time: Duration,
}

impl Finished {
    /// Whether stdout or stderr has this text in it.
    pub fn says(&self, text: &str) -> bool {
        self.stdout.contains(text) || self.stderr.contains(text)
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "code {:?}, signal {:?}, {:.2?}\n--- stdout\n{}--- stderr\n{}",
            self.code, self.signal, self.time, self.stdout, self.stderr
        )
    }
}
