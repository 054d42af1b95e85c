//! A project with a legacy and a modern database of its own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use regraft_engine::{
    Context, Events, GenerateOptions, KeySecret, Pace, Settings, Validation, ValidationOptions,
};
use regraft_pg::{Endpoint, Side};
use regraft_project::Project;
use tokio_util::sync::CancellationToken;

use crate::program::Running;
use crate::servers::{Servers, block_on, session};

/// What the legacy data is like.
#[derive(Debug, Clone, Copy)]
pub struct Legacy {
    /// 1 is the real size.
    pub scale: f64,
    /// The same seed gives the same data.
    pub seed: i64,
    /// 1 is the real rate of dirt, 0 is none.
    pub dirt: f64,
}

/// The secret that keys are derived with in rehearsals.
pub(crate) const SECRET: &str = "a secret for rehearsals, and nothing else";

/// Timestamps in columns that regraft leaves to their defaults and to triggers: with `now()` no two
/// runs would leave the same bytes.
const STOP_CLOCK: &str = "do $$ declare c record; begin
  for c in select pg_get_functiondef(p.oid) as body from pg_proc p
           join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang
           where n.nspname not in ('regraft', 'pg_catalog', 'information_schema')
             and l.lanname = 'plpgsql' and position(':= now()' in p.prosrc) > 0
  loop
    execute replace(c.body, ':= now()', ':= timestamptz ''2001-02-03 04:05:07+00''');
  end loop;
  for c in select n.nspname, t.relname, a.attname
           from pg_attrdef d join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
           join pg_class t on t.oid = d.adrelid join pg_namespace n on n.oid = t.relnamespace
           where pg_get_expr(d.adbin, d.adrelid) in ('now()', 'CURRENT_TIMESTAMP') and n.nspname <> 'regraft'
  loop
    execute format('alter table %I.%I alter column %I set default %L', c.nspname, c.relname, c.attname,
                   '2001-02-03 04:05:06+00');
  end loop; end $$";

/// Databases made once per server, project and data; tests get copies.
static TEMPLATES: Mutex<Option<HashMap<String, (String, String)>>> = Mutex::new(None);
static NEXT: AtomicU32 = AtomicU32::new(1);

/// A legacy and a modern database, ready to be migrated.
#[derive(Debug)]
pub struct Rehearsal<'a> {
    servers: &'a Servers,
    project: PathBuf,
    templates: (String, String),
    legacy: String,
    modern: String,
    /// Whether the legacy database is dropped with the value.
    owns_legacy: bool,
}

/// The folder of the bundled project.
pub fn dispatch() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../projects/dispatch")
}

impl<'a> Rehearsal<'a> {
    /// Databases of their own for a project: the legacy one filled by the project's generator, the
    /// modern one with its schema and no rows.
    pub fn new(servers: &'a Servers, project: &Path, legacy: Legacy) -> Self {
        let templates = templates(servers, project, legacy);
        let rehearsal = Self {
            servers,
            project: project.to_owned(),
            legacy: unique("legacy"),
            modern: unique("modern"),
            templates,
            owns_legacy: false,
        };
        copy(servers.legacy(), &rehearsal.legacy, &rehearsal.templates.0);
        copy(servers.modern(), &rehearsal.modern, &rehearsal.templates.1);
        rehearsal
    }

    /// Databases for a project that no other test needs: both are gone with the value.
    pub fn once(servers: &'a Servers, project: &Path, legacy: Legacy) -> Self {
        let names = (unique("legacy"), unique("modern"));
        make(servers, project, legacy, &names);
        Self {
            servers,
            project: project.to_owned(),
            legacy: names.0.clone(),
            modern: names.1.clone(),
            templates: names,
            owns_legacy: true,
        }
    }

    /// The same legacy database with another modern one, which is empty.
    #[must_use]
    pub fn again(&self) -> Self {
        let modern = unique("modern");
        copy(self.servers.modern(), &modern, &self.templates.1);
        Self {
            servers: self.servers,
            project: self.project.clone(),
            templates: self.templates.clone(),
            legacy: self.legacy.clone(),
            modern,
            owns_legacy: false,
        }
    }

    /// The same legacy database with a copy of the modern one as it is now. Waits until nobody is
    /// connected to that one.
    #[must_use]
    pub fn copied(&self) -> Self {
        wait_until_left(self.servers.modern(), &self.modern);
        let modern = unique("modern");
        copy(self.servers.modern(), &modern, &self.modern);
        Self {
            servers: self.servers,
            project: self.project.clone(),
            templates: self.templates.clone(),
            legacy: self.legacy.clone(),
            modern,
            owns_legacy: false,
        }
    }

    /// What the engine works with, for tests that call it without the program.
    pub fn context(&self) -> Context {
        context(
            &self.project,
            self.servers.legacy().endpoint(Side::Source, &self.legacy),
            self.servers.modern().endpoint(Side::Target, &self.modern),
        )
    }

    /// Validates entities and groups with what they depend on, or everything where none is named.
    pub fn validate(&self, names: &[&str], options: &ValidationOptions) -> Validation {
        let context = self.context();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let selection = context
            .project
            .select(&names, true)
            .unwrap_or_else(|e| panic!("no selection: {e}"));
        let validation = block_on(regraft_engine::validate(&context, &selection, options));
        validation.unwrap_or_else(|e| panic!("no validation: {}", e.message()))
    }

    /// The project's folder.
    pub fn project(&self) -> &Path {
        &self.project
    }

    /// The legacy database's name.
    pub fn legacy_name(&self) -> &str {
        &self.legacy
    }

    /// The modern database's name.
    pub fn modern_name(&self) -> &str {
        &self.modern
    }

    /// The legacy database, with the password.
    pub fn legacy_url(&self) -> String {
        self.servers
            .legacy()
            .endpoint(Side::Source, &self.legacy)
            .url()
    }

    /// The modern database, with the password.
    pub fn modern_url(&self) -> String {
        self.servers.modern().url(&self.modern)
    }

    /// Runs statements in the legacy database.
    pub fn legacy(&self, statements: &str) {
        let done = self.servers.legacy().execute(&self.legacy, statements);
        done.unwrap_or_else(|e| panic!("legacy: {}: {statements}", e.message()));
    }

    /// Runs statements in the modern database.
    pub fn modern(&self, statements: &str) {
        let done = self.servers.modern().execute(&self.modern, statements);
        done.unwrap_or_else(|e| panic!("modern: {}: {statements}", e.message()));
    }

    /// The rows of a query on the legacy database, all values as text, NULL as nothing.
    pub fn legacy_rows(&self, query: &str) -> Vec<Vec<String>> {
        rows(&self.legacy_url(), query)
    }

    /// The rows of a query on the modern database, all values as text, NULL as nothing.
    pub fn modern_rows(&self, query: &str) -> Vec<Vec<String>> {
        rows(&self.modern_url(), query)
    }

    /// The one number that a query on the modern database gives.
    pub fn modern_number(&self, query: &str) -> i64 {
        let rows = self.modern_rows(query);
        let value = rows.first().and_then(|row| row.first());
        value
            .and_then(|v| v.parse().ok())
            .unwrap_or_else(|| panic!("no number: {query}"))
    }

    /// Waits until a migration at work has committed so many batches, 30 seconds at most.
    #[track_caller]
    pub fn wait_for_batches(&self, running: &mut Running, batches: i64) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let installed = "select 1 from pg_class where relname = 'migration_checkpoints'";
        let done = "select coalesce(sum(batches_done), 0) from regraft.migration_checkpoints";
        while self.modern_rows(installed).is_empty() || self.modern_number(done) < batches {
            assert!(running.is_running(), "ended too early:\n{}", running.said());
            assert!(Instant::now() < deadline, "too slow:\n{}", running.said());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Counts, from now on, how often rows were begun to be written to each of the project's
    /// tables, also by transactions that never committed: a sequence is never rolled back.
    pub fn count_attempts(&self) {
        self.modern(
            "create schema testkit; create sequence testkit.attempts;
             create function testkit.attempt() returns trigger language plpgsql as
               $$ begin perform nextval('testkit.attempts'); return null; end $$;
             do $$ declare t text; begin
               for t in select format('%I', tablename) from pg_tables where schemaname = 'public' loop
                 execute 'create trigger testkit_attempt before insert on public.' || t ||
                         ' for each statement execute function testkit.attempt()';
               end loop; end $$",
        );
    }

    /// How often that was.
    pub fn attempts(&self) -> i64 {
        self.modern_number(
            "select case when is_called then last_value else 0 end from testkit.attempts",
        )
    }
}

impl Drop for Rehearsal<'_> {
    fn drop(&mut self) {
        // Whatever stays goes with its server.
        let _ = self.servers.modern().drop_database(&self.modern);
        if self.owns_legacy {
            let _ = self.servers.legacy().drop_database(&self.legacy);
        }
    }
}

fn unique(side: &str) -> String {
    format!("{side}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn copy(server: &regraft_pg::managed::Server, name: &str, template: &str) {
    server
        .create_database(name, Some(template))
        .unwrap_or_else(|e| panic!("database {name}: {}", e.message()));
}

fn rows(url: &str, query: &str) -> Vec<Vec<String>> {
    block_on(async {
        let session = session(url).await;
        let found = session.simple_query(query).await;
        let found = found.unwrap_or_else(|e| panic!("{}: {query}", session.error(e).message()));
        session.close().await;
        found
            .iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => Some(
                    (0..row.len())
                        .map(|i| row.get(i).unwrap_or_default().to_owned())
                        .collect(),
                ),
                _ => None,
            })
            .collect()
    })
}

/// The databases that copies are made from. Nobody ever connects to them again.
fn templates(servers: &Servers, project: &Path, legacy: Legacy) -> (String, String) {
    let key = format!(
        "{} {} {} {legacy:?}",
        servers.legacy().port(),
        servers.modern().port(),
        project.display()
    );
    let mut known = TEMPLATES.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if let Some(names) = known.get(&key) {
        return names.clone();
    }
    let names = (unique("legacy_template"), unique("modern_template"));
    make(servers, project, legacy, &names);
    known.insert(key, names.clone());
    names
}

/// Makes both databases of a project: the legacy one full, the modern one empty.
fn make(servers: &Servers, project: &Path, legacy: Legacy, names: &(String, String)) {
    let made = |side: &str, e: regraft_pg::Error| panic!("{side} template: {}", e.message());
    servers
        .legacy()
        .create_database(&names.0, None)
        .unwrap_or_else(|e| made("legacy", e));
    servers
        .modern()
        .create_database(&names.1, None)
        .unwrap_or_else(|e| made("modern", e));
    fill(servers, project, legacy, names);
}

fn fill(servers: &Servers, project: &Path, legacy: Legacy, names: &(String, String)) {
    let context = context(
        project,
        servers.legacy().endpoint(Side::Source, &names.0),
        servers.modern().endpoint(Side::Target, &names.1),
    );
    let Legacy { scale, seed, dirt } = legacy;
    let options = GenerateOptions { scale, seed, dirt };
    block_on(async {
        let generated = regraft_engine::generate_source(&context, &options).await;
        generated.unwrap_or_else(|e| panic!("legacy data: {}", e.message()));
        let applied = regraft_engine::apply_schema(&context).await;
        applied.unwrap_or_else(|e| panic!("modern schema: {}", e.message()));
    });
    let stopped = servers.modern().execute(&names.1, STOP_CLOCK);
    stopped.unwrap_or_else(|e| panic!("modern schema: {}", e.message()));
    wait_until_left(servers.legacy(), &names.0);
    wait_until_left(servers.modern(), &names.1);
}

fn context(project: &Path, source: Endpoint, target: Endpoint) -> Context {
    let loaded = Project::load(project).unwrap_or_else(|problems| {
        panic!("the project has problems:\n{}", problems.render(false, 100))
    });
    let secret = KeySecret::new(SECRET).expect("the secret is long enough");
    Context {
        project: Arc::new(loaded),
        source,
        target,
        settings: Settings {
            secret: Some(secret),
            ..Settings::default()
        },
        cancel: CancellationToken::new(),
        events: Events::none(),
        pace: Pace::default(),
    }
}

/// Sessions are closed in the background, and a template must have none.
fn wait_until_left(server: &regraft_pg::managed::Server, database: &str) {
    let wait = format!(
        "do $$ begin
            for i in 1..1000 loop
              exit when not exists (select from pg_stat_activity where datname = {});
              perform pg_sleep(0.005), pg_stat_clear_snapshot();
            end loop; end $$",
        regraft_pg::quote::literal(database)
    );
    server
        .execute("postgres", &wait)
        .unwrap_or_else(|e| panic!("{}", e.message()));
}
