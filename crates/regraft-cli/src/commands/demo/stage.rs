//! What a demo stands on: a folder with two servers, the project and, when it is kept, a `.env`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use regraft_engine::{Error, Kind, Result};
use regraft_pg::managed::{Installation, Server, ServerOptions, stop_kept};
use regraft_pg::{Endpoint, Side};
use serde::{Deserialize, Serialize};

use crate::bundled;
use crate::files;

/// First line of a `.env` that a demo wrote: only such a file is ever overwritten or removed.
const MARK: &str = "# Written by `regraft demo --keep`, removed by `regraft demo --stop`";
/// Second line: the demo's folder follows.
const FOLDER: &str = "# The demo's folder: ";

/// What a kept demo notes about itself, in its folder.
const NOTES: &str = "regraft-demo.json";

/// What is needed to end a kept demo.
#[derive(Debug, Serialize, Deserialize)]
struct Notes {
    /// The `.env` that belongs to it.
    env: PathBuf,
    /// When it was made. A file of the project that is younger is the user's work.
    made: jiff::Timestamp,
}

/// The database the legacy data is generated in.
const LEGACY: &str = "legacy";
/// The database it is migrated to.
const MODERN: &str = "modern";

/// The folder of a demo. Unless it is kept, dropping it stops the servers and removes everything
/// that the demo made.
pub(super) struct Stage {
    folder: PathBuf,
    servers: Vec<Server>,
    kept: bool,
}

impl Stage {
    /// Makes the folder: `dir`, which must be empty or not exist, or a fresh temporary one.
    pub(super) fn make(dir: Option<&Path>) -> Result<Self> {
        let folder = match dir {
            Some(dir) => given_folder(dir)?,
            None => temporary_folder()?,
        };
        let stage = Self {
            folder,
            servers: Vec::new(),
            kept: false,
        };
        bundled::write(bundled::DEMO, &stage.project())
            .map_err(|error| files::failed("writing", &stage.project(), &error))?;
        Ok(stage)
    }

    /// Starts both servers and makes their databases. Blocks for some seconds.
    pub(super) fn start_servers(&mut self, installation: &Installation, keep: bool) -> Result<()> {
        let start = |name: &str| -> Result<Server> {
            let mut options = ServerOptions::new(installation.clone(), name);
            options.dir = self.folder.join(name);
            options.keep = keep;
            let server = Server::start(options)?;
            server.create_database(name, None)?;
            Ok(server)
        };
        // Most of the time is spent waiting for the disk: both at once.
        let (legacy, modern) = std::thread::scope(|scope| {
            let legacy = scope.spawn(|| start(LEGACY));
            let modern = start(MODERN);
            (legacy.join(), modern)
        });
        let legacy = legacy.unwrap_or_else(|_| {
            Err(Error::new(
                Kind::Internal,
                "the thread that started a server panicked",
            ))
        });
        // Whichever did start is ours to stop, also when the other did not.
        let mut failed = None;
        for server in [legacy, modern] {
            match server {
                Ok(server) => self.servers.push(server),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The project's folder.
    pub(super) fn project(&self) -> PathBuf {
        self.folder.join("project")
    }

    /// The legacy database.
    pub(super) fn source(&self) -> Result<Endpoint> {
        self.endpoint(0, Side::Source, LEGACY)
    }

    /// The modern database.
    pub(super) fn target(&self) -> Result<Endpoint> {
        self.endpoint(1, Side::Target, MODERN)
    }

    fn endpoint(&self, at: usize, side: Side, database: &str) -> Result<Endpoint> {
        match self.servers.get(at) {
            Some(server) => Ok(server.endpoint(side, database)),
            None => Err(Error::new(
                Kind::Internal,
                format!("the {side} server was not started"),
            )),
        }
    }

    /// Leaves servers and data in place and writes the `.env` that the other commands find them
    /// by. Gives its path.
    pub(super) fn keep(&mut self, dir: Option<&Path>, secret: &str) -> Result<PathBuf> {
        let path = self.env_path(dir)?;
        let text = format!(
            "{MARK}\n{FOLDER}{}\nSOURCE_DATABASE_URL={}\nTARGET_DATABASE_URL={}\n\
             REGRAFT_KEY_SECRET={secret}\nREGRAFT_PROJECT={}\n",
            self.folder.display(),
            self.source()?.url(),
            self.target()?.url(),
            self.project().display(),
        );
        // A new file, because the mode of one that exists would stay.
        let incoming = path.with_extension("new");
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&incoming)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&incoming, &path));
        written.map_err(|error| files::failed("writing", &path, &error))?;
        let notes = Notes {
            env: path.clone(),
            made: jiff::Timestamp::now(),
        };
        let text = serde_json::to_string_pretty(&notes)
            .map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        let notes = self.folder.join(NOTES);
        fs::write(&notes, text).map_err(|error| files::failed("writing", &notes, &error))?;
        self.kept = true;
        Ok(path)
    }

    /// The folder given, else the current directory, unless a `.env` of somebody else is there.
    fn env_path(&self, dir: Option<&Path>) -> Result<PathBuf> {
        if dir.is_some() {
            return Ok(self.folder.join(".env"));
        }
        let here = Path::new(".env");
        if here.exists() && demo_of_env(here).is_none() {
            return Ok(self.folder.join(".env"));
        }
        let current = std::env::current_dir()
            .map_err(|error| files::failed("looking at", Path::new("."), &error))?;
        Ok(current.join(".env"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // Whatever fails here leaves a file behind, and nobody to tell of it.
        for server in self.servers.drain(..) {
            let folder = server.dir().to_owned();
            drop(server);
            // A server that was to be kept doesn't end by being dropped.
            if folder.exists() {
                let _ = stop_kept(&folder);
            }
        }
        let _ = remove_project(&self.project(), None);
        let _ = fs::remove_dir(&self.folder);
    }
}

/// What `--stop` did.
pub(super) struct Stopped {
    /// The demo's folder.
    pub(super) folder: PathBuf,
    /// Files of the project that were changed since, and were left.
    pub(super) left: Vec<PathBuf>,
}

/// Stops the servers of a kept demo and removes what it made.
pub(super) fn stop(dir: Option<&Path>) -> Result<Stopped> {
    let folder = match dir {
        Some(dir) => dir.to_owned(),
        None => demo_of_env(Path::new(".env")).ok_or_else(|| {
            let what = "no demo is kept here: this directory has no .env of one";
            Error::new(Kind::Usage, what)
                .hint("name the demo's folder: `regraft demo --stop --dir DIR`")
        })?,
    };
    let notes = read_notes(&folder).ok_or_else(|| {
        Error::new(
            Kind::Usage,
            format!("no demo is kept in {}", folder.display()),
        )
    })?;
    for server in [LEGACY, MODERN].map(|name| folder.join(name)) {
        if server.is_dir() {
            stop_kept(&server)?;
        }
    }
    let left = remove_project(&folder.join("project"), Some(notes.made))
        .map_err(|error| files::failed("removing", &folder.join("project"), &error))?;
    if demo_of_env(&notes.env)
        .is_some_and(|of| of == folder || Some(of) == folder.canonicalize().ok())
    {
        fs::remove_file(&notes.env)
            .map_err(|error| files::failed("removing", &notes.env, &error))?;
    }
    let path = folder.join(NOTES);
    fs::remove_file(&path).map_err(|error| files::failed("removing", &path, &error))?;
    // Only goes when nothing of the user's is in it.
    let _ = fs::remove_dir(&folder);
    Ok(Stopped { folder, left })
}

fn read_notes(folder: &Path) -> Option<Notes> {
    serde_json::from_str(&fs::read_to_string(folder.join(NOTES)).ok()?).ok()
}

/// A kept demo that the `.env` in this directory belongs to, if its servers are still there.
pub(super) fn kept_here() -> Option<PathBuf> {
    demo_of_env(Path::new(".env")).filter(|folder| folder.join(NOTES).is_file())
}

/// The folder of the demo that wrote this `.env`; `None` if no demo did.
fn demo_of_env(path: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(path).ok()?;
    let mut lines = text.lines();
    lines.next().filter(|line| *line == MARK)?;
    lines.next()?.strip_prefix(FOLDER).map(PathBuf::from)
}

fn given_folder(dir: &Path) -> Result<PathBuf> {
    if dir.join(NOTES).is_file() {
        return Err(Error::new(
            Kind::Usage,
            format!("{} holds a kept demo already", dir.display()),
        )
        .hint(format!(
            "end it first: `regraft demo --stop --dir {}`",
            dir.display()
        )));
    }
    let empty = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            make_folder(dir)?;
            true
        }
        Err(error) => return Err(files::failed("reading", dir, &error)),
    };
    if !empty {
        return Err(
            Error::new(Kind::Usage, format!("{} is not empty", dir.display()))
                .hint("name a folder that is empty or does not exist yet"),
        );
    }
    dir.canonicalize()
        .map_err(|error| files::failed("reading", dir, &error))
}

fn temporary_folder() -> Result<PathBuf> {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    let folder = std::env::temp_dir().join(format!("regraft-demo-{}", &unique[..10]));
    make_folder(&folder)?;
    Ok(folder)
}

/// The servers may run as another user (PostgreSQL refuses root), who must be able to reach their
/// own folders inside of this one.
fn make_folder(folder: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)
        .map_err(|error| files::failed("making", folder, &error))
}

/// Removes the files of the demo's project, except those that were written after `made`: gives
/// those.
fn remove_project(project: &Path, made: Option<jiff::Timestamp>) -> std::io::Result<Vec<PathBuf>> {
    let mut left = Vec::new();
    let mut folders = vec![project.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let (path, about) = (entry.path(), entry.metadata()?);
            if about.is_dir() {
                folders.push(path);
            } else if made
                .is_some_and(|made| about.modified().is_ok_and(|at| at > SystemTime::from(made)))
            {
                left.push(path);
            } else {
                fs::remove_file(&path)?;
            }
        }
    }
    remove_empty(project);
    left.sort();
    Ok(left)
}

/// Removes a folder and those in it, as far as they are empty.
fn remove_empty(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}
