//! A small project between two real databases, and the real binary run on it.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use assert_cmd::Command;
use regraft_pg::managed::{Installation, Server, ServerOptions};
use regraft_pg::{Environment, Side};
use tempfile::TempDir;

/// The one server of this test binary. Its watcher ends it when the process is gone.
pub(crate) static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let installation = Installation::find(None, &Environment::from_process()).expect("PostgreSQL");
    let server = Server::start(ServerOptions::new(installation, "cli-tests")).expect("a server");
    server
        .create_database("shop_source", None)
        .expect("a database");
    server
        .execute("shop_source", SOURCE)
        .expect("the source schema");
    server
        .create_database("shop_target", None)
        .expect("a database");
    server
        .execute("shop_target", TARGET)
        .expect("the target schema");
    server
});

static NEXT: AtomicUsize = AtomicUsize::new(1);

const SOURCE: &str = "
create table client (id integer primary key, name text, status integer not null, created_at timestamptz not null);
create table purchase (id integer primary key, client_id integer not null, price numeric(10, 2), deleted boolean not null);
insert into client select i, 'Client ' || i, i % 3, timestamptz '2020-01-01 00:00Z' + i * interval '1 day' from generate_series(1, 50) i;
insert into client values (60, null, 1, '2021-01-01Z'), (61, 'Nine', 9, '2021-01-01Z');
insert into purchase select i, i % 50 + 1, i, i % 10 = 0 from generate_series(1, 200) i;
insert into purchase values (300, 60, 5, false), (301, 999, 5, false), (302, 1, -5, false);
";

/// The target schema of the shop.
pub(crate) const TARGET: &str = "
create table clients (id uuid primary key, legacy_id integer unique, name text not null, status text not null, created_at timestamptz not null);
create table purchases (id uuid primary key, legacy_id integer unique, client_id uuid not null references clients, price numeric(10, 2) check (price >= 0));
";

const MANIFEST: &str = "\
version = 1
name = \"shop\"

[target]
schema = [\"target/schema.sql\"]

[limits]
quarantine = 5

[groups]
people = [\"clients\"]
";

const CLIENTS: &str = "\
[source]
from = \"client c\"
key  = \"c.id\"

[target]
table  = \"clients\"
key    = { column = \"id\", strategy = \"uuid_v7\", time = \"c.created_at\" }
legacy = \"legacy_id\"

[columns]
name       = \"c.name\"
status     = { from = \"c.status\", map = { 0 = \"new\", 1 = \"active\", 2 = \"gone\" } }
created_at = \"c.created_at\"
";

const PURCHASES: &str = "\
[source]
from = \"purchase p\"
key  = \"p.id\"
[[source.filter]]
name = \"deleted\"
keep = \"not p.deleted\"

[target]
table  = \"purchases\"
key    = { column = \"id\", strategy = \"uuid_v5\" }
legacy = \"legacy_id\"

[columns]
client_id = { ref = \"clients\", from = \"p.client_id\" }
price     = \"p.price\"
";

/// The secret that keys are derived with in tests.
pub(crate) const SECRET: &str = "a secret for tests, long enough";

/// A project folder, and a target database of its own.
pub(crate) struct Shop {
    dir: TempDir,
    target: String,
    variables: Vec<(String, String)>,
}

impl Shop {
    /// A project with both databases reachable and nothing migrated yet.
    pub(crate) fn new() -> Self {
        let target = format!("shop_target_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        SERVER
            .create_database(&target, Some("shop_target"))
            .expect("a copy");
        let mut shop = Self::offline();
        shop.variables = vec![
            ("SOURCE_DATABASE_URL".to_owned(), SERVER.url("shop_source")),
            ("TARGET_DATABASE_URL".to_owned(), SERVER.url(&target)),
            ("REGRAFT_KEY_SECRET".to_owned(), SECRET.to_owned()),
        ];
        shop.target = target;
        shop
    }

    /// A project without any database.
    pub(crate) fn offline() -> Self {
        let shop = Self {
            dir: tempfile::tempdir().expect("a folder"),
            target: String::new(),
            variables: Vec::new(),
        };
        shop.file("regraft.toml", MANIFEST);
        shop.file("entities/clients.toml", CLIENTS);
        shop.file("entities/purchases.toml", PURCHASES);
        shop.file("target/schema.sql", TARGET);
        shop
    }

    /// The project's folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file of the project.
    pub(crate) fn file(&self, path: &str, text: &str) {
        let path: PathBuf = self.dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    /// Runs SQL in the target.
    pub(crate) fn in_target(&self, sql: &str) {
        SERVER
            .execute(&self.target, sql)
            .expect("SQL in the target");
    }

    /// Sets or replaces an environment variable.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The target's URL with another user and password.
    #[must_use]
    pub(crate) fn with_target_user(self, user: &str, password: &str) -> Self {
        let endpoint = SERVER.endpoint(Side::Target, &self.target);
        let url = endpoint.with_user(user, Some(password.to_owned())).url();
        self.with("TARGET_DATABASE_URL", &url)
    }

    /// The binary in the project's folder, with nothing of the tester's own environment.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = regraft(self.dir.path(), line);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// What a command prints and ends with.
    pub(crate) fn run(&self, line: &str) -> String {
        transcript(&mut self.command(line), line, self.dir.path())
    }
}

/// The binary in a folder, with nothing of the tester's own environment.
pub(crate) fn regraft(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regraft"));
    command
        .args(line.split_whitespace())
        .current_dir(folder)
        .env_clear();
    for name in ["PATH", "HOME", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .env("COLUMNS", "100")
        .timeout(std::time::Duration::from_secs(60));
    command
}

/// What a command prints and ends with; what differs from run to run is replaced.
pub(crate) fn transcript(command: &mut Command, line: &str, folder: &Path) -> String {
    let output = command.output().expect("the binary runs");
    let text = format!(
        "$ regraft {line}\nexit code: {}\n--- stdout\n{}--- stderr\n{}",
        output
            .status
            .code()
            .map_or_else(|| "none".to_owned(), |code| code.to_string()),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    text.replace(env!("CARGO_BIN_EXE_regraft"), "regraft")
        .replace(
            &folder
                .canonicalize()
                .expect("a folder")
                .display()
                .to_string(),
            "[DIR]",
        )
        .replace(&folder.display().to_string(), "[DIR]")
}

/// Filters for what differs from run to run.
pub(crate) fn filters() -> Vec<(&'static str, &'static str)> {
    vec![
        (r"127\.0\.0\.1:\d{4,5}", "127.0.0.1:[PORT]"),
        (r"(migrate|rollback)_\d{8}_\d{6}_[0-9a-f]{4}", "${1}_[RUN]"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "[TIME]"),
        (r"shop_target_\d+", "shop_target"),
        (r" +\d+(\.\d+)? (ms|s)\b", " [SPAN]"),
        (r"\b[0-9a-f]{16}\b", "[HASH]"),
    ]
}

/// Takes a snapshot of a transcript.
#[macro_export]
macro_rules! snapshot {
    ($name:expr, $text:expr) => {
        insta::with_settings!({ filters => $crate::harness::filters(), omit_expression => true }, {
            insta::assert_snapshot!($name, $text);
        });
    };
}
