//! A server of ours, from `initdb` to the last file deleted.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use super::account::Account;
use super::cluster::{self, Layout};
use super::installation::Installation;
use super::marker::Marker;
use super::postmaster::{Postmaster, StartFailure, free_port};
use super::watcher::Watcher;
use crate::error::{Error, ErrorKind, Result};
use crate::quote;
use crate::session::{Session, SessionOptions};
use crate::settings::{Endpoint, Host, Side};

/// The role that everything belongs to: scripts written for Supabase and for most other servers
/// expect it under this name.
pub(super) const SUPERUSER: &str = "postgres";

/// How a server is to be made.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Whose programs to use.
    pub installation: Installation,
    /// A directory for everything that belongs to the server; must be empty or not exist yet.
    pub dir: PathBuf,
    /// What the server is called, in its marker file.
    pub name: String,
    /// Configuration parameters on top of this program's own.
    pub settings: Vec<(String, String)>,
    /// Whether the server and its directory outlive this process.
    pub keep: bool,
    /// Whether it may lose its data when the machine crashes, which makes it much faster.
    pub ephemeral: bool,
}

impl ServerOptions {
    /// An ephemeral server that ends with this process, in a new directory of the system's
    /// temporary one.
    pub fn new(installation: Installation, name: impl Into<String>) -> Self {
        let name = name.into();
        let unique = cluster::random_hex();
        let dir = std::env::temp_dir().join(format!("regraft-{name}-{}", &unique[..12]));
        Self {
            installation,
            dir,
            name,
            settings: Vec::new(),
            keep: false,
            ephemeral: true,
        }
    }
}

/// A PostgreSQL server that this program made: on 127.0.0.1 and a Unix socket, with a random
/// password.
///
/// Dropping it stops it and deletes its directory, unless it was started with `keep` or attached
/// to. Its methods block; they may be called from several threads.
pub struct Server {
    marker: Marker,
    layout: Layout,
    account: Account,
    keep: bool,
    state: Mutex<State>,
}

struct State {
    postmaster: Option<Postmaster>,
    watcher: Option<Watcher>,
}

impl Server {
    /// Makes a cluster and starts it: about a second.
    ///
    /// # Errors
    ///
    /// `Settings` if the directory is in use, `Install` if PostgreSQL's programs fail, saying
    /// what they say. Nothing is left behind then.
    pub fn start(options: ServerOptions) -> Result<Self> {
        let account = Account::choose();
        account.check_way_to(&options.installation.bin_dir.join("postgres"))?;
        let layout = Layout::make(&options.dir, account)?;
        let password = cluster::random_hex();
        let marker = Marker::new(
            &options.name,
            &options.installation.bin_dir,
            &layout.socket_dir,
            password,
        );
        marker.write(&layout.dir)?;
        let mut server = Self {
            marker,
            layout,
            account,
            // Until it has started, a failure deletes it.
            keep: false,
            state: Mutex::new(State {
                postmaster: None,
                watcher: None,
            }),
        };
        server.create(&options)?;
        server.start_on_a_free_port()?;
        server.marker.write(&server.layout.dir)?;
        if options.keep {
            server.keep = true;
            server.dismiss_watcher();
        }
        Ok(server)
    }

    /// A server that was started with `keep`, perhaps by another process, and still runs.
    ///
    /// # Errors
    ///
    /// `Settings` if the directory holds no server of ours, `Unreachable` if it doesn't run.
    pub fn attach(dir: &Path) -> Result<Self> {
        let server = Self::of_dir(dir)?;
        if server.is_running() {
            return Ok(server);
        }
        Err(Error::new(
            ErrorKind::Unreachable,
            format!("the server in {} does not run any more", dir.display()),
        )
        .with_hint("delete it (`regraft demo --stop`) and make a new one"))
    }

    fn of_dir(dir: &Path) -> Result<Self> {
        let marker = Marker::read(dir)?;
        let layout = Layout::of(dir, &marker.socket_dir)?;
        let postmaster = Postmaster::find(&layout, marker.port);
        Ok(Self {
            marker,
            layout,
            account: Account::choose(),
            keep: true,
            state: Mutex::new(State {
                postmaster,
                watcher: None,
            }),
        })
    }

    fn create(&self, options: &ServerOptions) -> Result<()> {
        let watcher = Watcher::start(self.account, &self.layout.dir, &self.layout.socket_dir)?;
        self.state().watcher = Some(watcher);
        let mut settings = cluster::base_settings(&self.layout.socket_dir, options.ephemeral);
        settings.extend(options.settings.iter().cloned());
        cluster::create(
            &self.layout,
            &options.installation,
            self.account,
            &self.marker.password,
            &settings,
        )
    }

    /// Between the moment a port is found free and the moment the server takes it, another
    /// process may.
    fn start_on_a_free_port(&mut self) -> Result<()> {
        for _ in 0..10 {
            self.marker.port = free_port()?;
            match self.start_postmaster() {
                Ok(()) => return Ok(()),
                Err(StartFailure::PortTaken) => {}
                Err(StartFailure::Other(error)) => return Err(error),
            }
        }
        Err(Error::new(
            ErrorKind::Resource,
            "other processes took ten ports in a row from under the server",
        ))
    }

    fn start_postmaster(&self) -> Result<(), StartFailure> {
        let mut state = self.state();
        let State {
            postmaster,
            watcher,
        } = &mut *state;
        let mut tell = |pid| {
            if let Some(watcher) = watcher {
                watcher.watch(pid);
            }
        };
        let started = Postmaster::start(
            &self.marker.bin_dir,
            self.account,
            &self.layout,
            self.marker.port,
            |pid| tell(Some(pid)),
        );
        match started {
            Ok(started) => {
                *postmaster = Some(started);
                Ok(())
            }
            Err(failure) => {
                tell(None);
                Err(failure)
            }
        }
    }

    /// One of its databases, over TCP.
    pub fn endpoint(&self, side: Side, database: &str) -> Endpoint {
        self.endpoint_at(Host::Tcp("127.0.0.1".to_owned()), side, database)
    }

    /// One of its databases, over the Unix socket.
    pub fn socket_endpoint(&self, side: Side, database: &str) -> Endpoint {
        self.endpoint_at(Host::Unix(self.layout.socket_dir.clone()), side, database)
    }

    fn endpoint_at(&self, host: Host, side: Side, database: &str) -> Endpoint {
        let user = self.marker.user.as_str();
        Endpoint::new(side, host, self.marker.port, user, database)
            .with_user(user, Some(self.marker.password.clone()))
    }

    /// The URL of one of its databases, with the password.
    pub fn url(&self, database: &str) -> String {
        self.endpoint(Side::Target, database).url()
    }

    /// The port on 127.0.0.1, the same after a restart.
    pub fn port(&self) -> u16 {
        self.marker.port
    }

    /// The directory that everything lives in.
    pub fn dir(&self) -> &Path {
        &self.layout.dir
    }

    /// The cluster's data directory, for tests that change what an administrator would.
    pub fn data_dir(&self) -> PathBuf {
        self.layout.data()
    }

    /// What the server has to say about itself.
    pub fn log_file(&self) -> PathBuf {
        self.layout.log()
    }

    /// What the server was called when it was made.
    pub fn name(&self) -> &str {
        &self.marker.name
    }

    /// Whether the server's main process is alive.
    pub fn is_running(&self) -> bool {
        self.state()
            .postmaster
            .as_mut()
            .is_some_and(Postmaster::is_running)
    }

    /// Stops the server and keeps its data: disconnects everybody, writes everything.
    pub fn stop(&self) -> Result<()> {
        self.end(Postmaster::stop)
    }

    /// Stops the server as a crash would: connections break off, and the next start recovers.
    pub fn stop_immediate(&self) -> Result<()> {
        self.end(Postmaster::stop_immediately)
    }

    fn end(&self, how: fn(Postmaster) -> Result<()>) -> Result<()> {
        let mut state = self.state();
        let Some(postmaster) = state.postmaster.take() else {
            return Ok(());
        };
        how(postmaster)?;
        if let Some(watcher) = &mut state.watcher {
            watcher.watch(None);
        }
        Ok(())
    }

    /// Starts the server again after it was stopped, on the same port.
    pub fn start_again(&self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        self.start_postmaster().map_err(|failure| match failure {
            StartFailure::Other(error) => error,
            StartFailure::PortTaken => Error::new(
                ErrorKind::Resource,
                format!("another process has taken port {} meanwhile", self.port()),
            ),
        })
    }

    /// Stops the server and starts it again, on the same port.
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        self.start_again()
    }

    /// Makes a database, as a copy of `template` if one is named; nobody may be connected to
    /// that then.
    pub fn create_database(&self, name: &str, template: Option<&str>) -> Result<()> {
        let mut statement = format!("create database {}", quote::ident(name));
        if let Some(template) = template {
            statement.push_str(&format!(" template {}", quote::ident(template)));
        }
        self.execute(SUPERUSER, &statement)
    }

    /// Deletes a database if it exists, and disconnects whoever uses it.
    pub fn drop_database(&self, name: &str) -> Result<()> {
        let statement = format!(
            "drop database if exists {} with (force)",
            quote::ident(name)
        );
        self.execute(SUPERUSER, &statement)
    }

    /// Runs statements in one of the databases, as its superuser.
    pub fn execute(&self, database: &str, statements: &str) -> Result<()> {
        let endpoint = self.socket_endpoint(Side::Target, database);
        // A thread of its own, because the caller's may belong to a runtime already, where
        // another one must not be waited for.
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| Error::io("starting a runtime", &error))?;
            runtime.block_on(run(&endpoint, statements))
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().spawn_scoped(scope, work);
            let thread = thread.map_err(|error| Error::io("starting a thread", &error))?;
            thread.join().unwrap_or_else(|_panic| {
                Err(Error::new(
                    ErrorKind::Io,
                    "the thread that ran the statements panicked",
                ))
            })
        })
    }

    fn dismiss_watcher(&self) {
        if let Some(watcher) = self.state().watcher.take() {
            watcher.dismiss();
        }
    }

    /// A method that panicked left the state whole: it changes in single steps.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(endpoint: &Endpoint, statements: &str) -> Result<()> {
    let session = Session::connect(endpoint, &SessionOptions::writing("regraft server")).await?;
    let outcome = session.batch_execute(statements).await;
    let outcome = outcome.map_err(|error| session.error(error));
    session.close().await;
    outcome
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // Nobody is left to tell of a failure; the watcher is not dismissed then, and tries again.
        let stopped = self.end(Postmaster::stop_immediately);
        if stopped.is_ok() && self.layout.delete().is_ok() {
            self.dismiss_watcher();
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.marker.name)
            .field("dir", &self.layout.dir)
            .field("port", &self.marker.port)
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}

/// Stops a server that was started with `keep`, if it still runs, and deletes its directory.
///
/// # Errors
///
/// `Settings` if the directory holds no server of ours: nothing in it is touched then.
pub fn stop_kept(dir: &Path) -> Result<()> {
    let server = Server::of_dir(dir)?;
    server.stop()?;
    server.layout.delete()
}
