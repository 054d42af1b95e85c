//! The servers, schemas, data and project that the benchmark works on.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use regraft_pg::managed::{Installation, Server, ServerOptions};
use regraft_pg::{Environment, Side};

use super::Result;
use super::process::{self, Figure};

/// Two servers: one with the legacy tables, one where a target database is made for every run.
pub(super) struct World {
    pub(super) source: Server,
    pub(super) target: Server,
    pub(super) rows: u64,
    folder: tempfile::TempDir,
    regraft: PathBuf,
    next: Cell<u32>,
}

const SOURCE: &str = include_str!("source.sql");
const TARGET: &str = include_str!("target.sql");
const DIRTY_SHARE: u64 = 4;

impl World {
    /// Starts the servers and fills them: `rows` jobs, a tenth as many customers, 1,000 offices,
    /// both of which are migrated once and for all.
    pub(super) fn start(rows: u64, regraft: &Path) -> Result<Self> {
        let (source, target) = (start_server("bench-source")?, start_server("bench-target")?);
        source.create_database("legacy", None)?;
        let fill = SOURCE
            .replace(":rows", &rows.to_string())
            .replace(":dirty", &(rows / DIRTY_SHARE).to_string());
        source.execute("legacy", &fill)?;
        target.create_database("parents", None)?;
        target.execute("parents", TARGET)?;
        let folder = tempfile::tempdir()?;
        write_project(folder.path())?;
        let world = Self {
            source,
            target,
            rows,
            folder,
            regraft: regraft.to_owned(),
            next: Cell::new(0),
        };
        world.migrate("parents", "parents", &["--mode", "in-place"])?;
        world.rekeyed()?;
        Ok(world)
    }

    /// Rows of each of the tables with and without dirt.
    pub(super) fn dirty_rows(&self) -> u64 {
        self.rows / DIRTY_SHARE
    }

    /// The final rows, as raw COPY moves them: made by a migration of our own, copied back to the
    /// source server as plain bytes.
    fn rekeyed(&self) -> Result<()> {
        self.fresh(|target| {
            self.migrate(target, "jobs", &["--mode", "bulk"])?;
            super::baseline::copy_back(self, target)?;
            Ok(Figure::default())
        })?;
        Ok(())
    }

    /// Runs `work` on a fresh copy of the target that holds the migrated parents.
    pub(super) fn fresh(&self, work: impl FnOnce(&str) -> Result<Figure>) -> Result<Figure> {
        let name = format!("run_{}", self.next.get());
        self.next.set(self.next.get() + 1);
        self.target.create_database(&name, Some("parents"))?;
        self.target.execute("postgres", "checkpoint")?;
        let result = work(&name);
        self.target.drop_database(&name)?;
        result
    }

    /// Migrates with the program itself.
    pub(super) fn migrate(&self, target: &str, entity: &str, options: &[&str]) -> Result<Figure> {
        let mut arguments = vec!["migrate", entity];
        arguments.extend(options);
        self.run(&arguments, &self.urls(target), &[0])
    }

    /// Where the program finds the source and a target.
    pub(super) fn urls(&self, target: &str) -> [String; 2] {
        [
            self.source.endpoint(Side::Source, "legacy").url(),
            self.target.endpoint(Side::Target, target).url(),
        ]
    }

    /// Runs the program between two databases. `expected` are the exit codes that count as done.
    pub(super) fn run(
        &self,
        arguments: &[&str],
        [source, target]: &[String; 2],
        expected: &[i32],
    ) -> Result<Figure> {
        let environment = [
            ("SOURCE_DATABASE_URL", source.as_str()),
            ("TARGET_DATABASE_URL", target),
            ("REGRAFT_KEY_SECRET", "the secret of the benchmark"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let folder = self.folder.path();
        process::run(&self.regraft, arguments, &environment, folder, expected)
    }

    /// The document that the program printed last.
    pub(super) fn printed(&self) -> Result<serde_json::Value> {
        process::printed_json(self.folder.path())
    }

    /// The program that is measured.
    pub(super) fn program(&self) -> &Path {
        &self.regraft
    }
}

/// Starts a server set up as for a large load.
pub(super) fn start_server(name: &str) -> Result<Server> {
    let installation = Installation::find(None, &Environment::from_process())?;
    let mut options = ServerOptions::new(installation, name);
    options.settings = [
        ("shared_buffers", "512MB"),
        ("max_wal_size", "8GB"),
        ("maintenance_work_mem", "256MB"),
        ("checkpoint_timeout", "30min"),
        ("autovacuum", "off"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .to_vec();
    Ok(Server::start(options)?)
}

fn write_project(folder: &Path) -> Result<()> {
    std::fs::create_dir(folder.join("entities"))?;
    std::fs::write(
        folder.join("regraft.toml"),
        include_str!("project/regraft.toml"),
    )?;
    for (name, text) in [
        (
            "customers",
            include_str!("project/customers.toml").to_owned(),
        ),
        ("offices", include_str!("project/offices.toml").to_owned()),
        ("jobs", include_str!("project/jobs.toml").to_owned()),
        (
            "work_clean",
            include_str!("project/work.toml").replace("TABLE", "work_clean"),
        ),
        (
            "work_few",
            include_str!("project/work.toml").replace("TABLE", "work_few"),
        ),
        (
            "work_many",
            include_str!("project/work.toml").replace("TABLE", "work_many"),
        ),
    ] {
        std::fs::write(folder.join("entities").join(format!("{name}.toml")), text)?;
    }
    Ok(())
}
