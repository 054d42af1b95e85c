//! A server's main process: started, waited for, signalled.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::account::Account;
use super::cluster::Layout;
use crate::error::{Error, ErrorKind, Result};

/// How long a server may take to accept connections; after a crash it replays its log first.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long a fast shutdown may take before it becomes an immediate one.
const STOP_LIMIT: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(5);

/// Why a server did not start.
pub(super) enum StartFailure {
    /// Another process has the port.
    PortTaken,
    /// Anything else.
    Other(Error),
}

/// The main process of a running server.
pub(super) enum Postmaster {
    /// Started by us.
    Child(Child),
    /// Started by a process that is gone.
    Stranger { pid: u32, port: u16, data: PathBuf },
}

impl Postmaster {
    /// Starts the server on this port and waits until it accepts connections.
    pub(super) fn start(
        bin_dir: &Path,
        account: Account,
        layout: &Layout,
        port: u16,
        mut started: impl FnMut(u32),
    ) -> Result<Self, StartFailure> {
        let path = layout.log();
        let opened = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .mode(0o600)
            .open(&path)
            .and_then(|log| Ok((log.try_clone()?, log.try_clone()?, log)));
        let (output, errors, mut log) = opened.map_err(|error| {
            StartFailure::Other(Error::io(
                format_args!("opening {}", path.display()),
                &error,
            ))
        })?;
        let log_start = log.seek(SeekFrom::End(0)).unwrap_or(0);
        let mut command = Command::new(bin_dir.join("postgres"));
        account.apply(&mut command);
        let mut child = command
            .arg("-D")
            .arg(layout.data())
            .args(["-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| StartFailure::Other(Error::io("running postgres", &error)))?;
        started(child.id());
        let reason = match wait_until_ready(&mut child, layout) {
            Ok(()) => return Ok(Self::Child(child)),
            Err(reason) => reason,
        };
        let mut said = String::new();
        if log.seek(SeekFrom::Start(log_start)).is_ok() {
            let _ = log.read_to_string(&mut said);
        }
        Err(explain(reason, &said, &path))
    }

    /// The main process of a server that is running already; `None` if it isn't.
    pub(super) fn find(layout: &Layout, port: u16) -> Option<Self> {
        let lock = LockFile::read(layout)?;
        let (pid, data) = (lock.pid, layout.data());
        let is_it = lock.port == Some(port) && is_server(pid, &data, port);
        is_it.then_some(Self::Stranger { pid, port, data })
    }

    pub(super) fn is_running(&mut self) -> bool {
        match self {
            Self::Child(child) => matches!(child.try_wait(), Ok(None)),
            Self::Stranger { pid, port, data } => is_server(*pid, data, *port),
        }
    }

    /// Disconnects everybody, writes everything to disk and ends; by force if that takes too long.
    pub(super) fn stop(mut self) -> Result<()> {
        self.signal(libc::SIGINT);
        if self.wait(STOP_LIMIT) {
            return Ok(());
        }
        self.stop_immediately()
    }

    /// Ends at once, as a crash would: the next start recovers from the log.
    pub(super) fn stop_immediately(mut self) -> Result<()> {
        self.signal(libc::SIGQUIT);
        if self.wait(Duration::from_secs(10)) {
            return Ok(());
        }
        self.signal(libc::SIGKILL);
        if self.wait(Duration::from_secs(10)) {
            return Ok(());
        }
        let pid = self.pid();
        Err(Error::new(
            ErrorKind::Io,
            format!("the server (process {pid}) does not end"),
        ))
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Child(child) => child.id(),
            Self::Stranger { pid, .. } => *pid,
        }
    }

    /// A process that is gone can't be signalled, which is as good.
    fn signal(&mut self, signal: libc::c_int) {
        // A child of ours that was waited for has given its id back.
        if self.is_running() {
            let _ = send(self.pid(), signal);
        }
    }

    fn wait(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_running() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(POLL);
        }
        true
    }
}

/// `postmaster.pid`, as far as it matters here.
struct LockFile {
    pid: u32,
    port: Option<u16>,
    is_ready: bool,
}

impl LockFile {
    fn read(layout: &Layout) -> Option<Self> {
        let text = fs::read_to_string(layout.data().join("postmaster.pid")).ok()?;
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        Some(Self {
            pid: lines.first()?.parse().ok()?,
            port: lines.get(3).and_then(|port| port.parse().ok()),
            is_ready: lines.get(7) == Some(&"ready"),
        })
    }
}

fn wait_until_ready(child: &mut Child, layout: &Layout) -> Result<(), &'static str> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return Err("it ended at once"),
        }
        if LockFile::read(layout).is_some_and(|lock| lock.is_ready && lock.pid == child.id()) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let _ = send(child.id(), libc::SIGQUIT);
            let _ = child.wait();
            return Err("it was not ready in time");
        }
        thread::sleep(POLL);
    }
}

fn explain(reason: &str, said: &str, log: &Path) -> StartFailure {
    if said.contains("could not bind") && said.contains("already in use") {
        return StartFailure::PortTaken;
    }
    let mut fatal = said
        .lines()
        .filter_map(|line| line.split_once("FATAL:"))
        .map(|(_, text)| text);
    let reason = fatal.next_back().map_or(reason, str::trim);
    StartFailure::Other(
        Error::new(
            ErrorKind::Install,
            format!("PostgreSQL did not start: {reason}"),
        )
        .with_hint(format!("see {}", log.display())),
    )
}

/// Whether this process is the server of this directory. After a crash of the machine, the lock
/// file may name a process that has nothing to do with us; and a process that has ended keeps its
/// id, without a command line, until its parent asks for it, which some never do.
fn is_server(pid: u32, data: &Path, port: u16) -> bool {
    if !is_alive(pid) {
        return false;
    }
    match fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(arguments) => arguments
            .split(|&byte| byte == 0)
            .any(|word| word == data.as_os_str().as_bytes()),
        // Not every system has /proc.
        Err(_) => {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
        }
    }
}

fn is_alive(pid: u32) -> bool {
    match send(pid, 0) {
        Ok(()) => true,
        // It exists and belongs to somebody else.
        Err(error) => error.raw_os_error() == Some(libc::EPERM),
    }
}

fn send(pid: u32, signal: libc::c_int) -> std::io::Result<()> {
    // Zero and negative numbers would mean whole groups of processes.
    let pid = match libc::pid_t::try_from(pid) {
        Ok(pid) if pid > 1 => pid,
        _ => return Err(std::io::ErrorKind::InvalidInput.into()),
    };
    // SAFETY: kill takes two numbers and touches no memory of ours.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// A port on loopback that nobody has at the moment, from below the range that outgoing
/// connections take theirs from: a server that is restarted finds its port free again.
pub(super) fn free_port() -> Result<u16> {
    for _ in 0..100 {
        let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
        let port = 15_000 + u16::try_from(random % 15_000).unwrap_or_default();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::new(
        ErrorKind::Resource,
        "there is no free port on 127.0.0.1",
    ))
}
