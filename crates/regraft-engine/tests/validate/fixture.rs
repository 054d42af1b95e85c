//! A migrated pair of databases to copy, and ways to look at what a validation finds.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use regraft_engine::{
    Context, EntityValidation, Events, KeySecret, Method, MigrateOptions, Outcome, Pace, Settings,
    Validation, ValidationOptions, migrate, validate,
};
use regraft_pg::managed::{Installation, Server, ServerOptions};
use regraft_pg::{Environment, Session, SessionOptions, Side};
use regraft_project::Project;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let installation = Installation::find(None, &Environment::from_process()).unwrap();
    Server::start(ServerOptions::new(installation, "validate")).unwrap()
});

/// The server of this test binary; its watcher ends it.
pub(crate) fn server() -> &'static Server {
    &SERVER
}

/// The project as it is.
pub(crate) const FILES: &[(&str, &str)] = &[
    ("regraft.toml", include_str!("project/regraft.toml")),
    ("target.sql", include_str!("project/target.sql")),
    (
        "entities/shops.toml",
        include_str!("project/entities/shops.toml"),
    ),
    (
        "entities/people.toml",
        include_str!("project/entities/people.toml"),
    ),
    (
        "entities/logins.toml",
        include_str!("project/entities/logins.toml"),
    ),
    (
        "entities/tokens.toml",
        include_str!("project/entities/tokens.toml"),
    ),
    (
        "entities/messages.toml",
        include_str!("project/entities/messages.toml"),
    ),
];

/// The project with one file taken for another text, or added.
pub(crate) fn project_with(path: &str, text: &str) -> Project {
    let mut files: Vec<(String, String)> = FILES
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect();
    files.retain(|(other, _)| other != path);
    files.push((path.to_owned(), text.to_owned()));
    Project::from_files("proof", files)
        .unwrap_or_else(|problems| panic!("{}", problems.render(false, 100)))
}

/// Two databases of a test's own.
pub(crate) struct Pair {
    pub(crate) context: Context,
}

static MIGRATED: OnceCell<()> = OnceCell::const_new();

/// A name that no database has.
fn unused(prefix: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}_{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

impl Pair {
    /// Two empty databases, under the usual project.
    pub(crate) fn empty() -> Self {
        let (source, target) = (unused("source"), unused("target"));
        server().create_database(&source, None).unwrap();
        server().create_database(&target, None).unwrap();
        Self::of(&source, &target)
    }

    fn of(source: &str, target: &str) -> Self {
        let settings = Settings {
            batch_size: 10,
            secret: Some(KeySecret::new("a secret of a test").unwrap()),
            ..Settings::default()
        };
        Self {
            context: Context {
                project: Arc::new(project_with(FILES[0].0, FILES[0].1)),
                source: server().endpoint(Side::Source, source),
                target: server().endpoint(Side::Target, target),
                settings,
                cancel: CancellationToken::new(),
                events: Events::none(),
                pace: Pace::default(),
            },
        }
    }

    /// A copy of the target that the whole project was migrated to; the source is everybody's.
    pub(crate) async fn migrated() -> Self {
        MIGRATED.get_or_init(Self::migrate_whole).await;
        let target = unused("target");
        server()
            .create_database(&target, Some("target_whole"))
            .unwrap();
        Self::of("source_whole", &target)
    }

    /// The same with a copy of the source.
    pub(crate) async fn migrated_with_own_source() -> Self {
        let mut pair = Self::migrated().await;
        let source = unused("source");
        server()
            .create_database(&source, Some("source_template"))
            .unwrap();
        pair.context.source = server().endpoint(Side::Source, &source);
        pair
    }

    async fn migrate_whole() {
        // Nobody may be connected to a template, and somebody always is to the source.
        for name in ["source_whole", "source_template", "target_whole"] {
            server().create_database(name, None).unwrap();
        }
        let pair = Self::of("source_whole", "target_whole");
        pair.source(include_str!("project/source.sql")).await;
        run(
            &server().endpoint(Side::Source, "source_template"),
            include_str!("project/source.sql"),
        )
        .await;
        pair.target(include_str!("project/target.sql")).await;
        pair.migrate().await;
    }

    /// Migrates everything.
    pub(crate) async fn migrate(&self) -> Outcome {
        let all = self.context.project.select(&[], false).unwrap();
        migrate(&self.context, &all, &MigrateOptions::default())
            .await
            .unwrap_or_else(|error| {
                panic!(
                    "{error} {:?}",
                    error.project_problems().map(|p| p.render(false, 100))
                )
            })
    }

    /// Runs statements in the source.
    pub(crate) async fn source(&self, statements: &str) {
        run(&self.context.source, statements).await;
    }

    /// Runs statements in the target.
    pub(crate) async fn target(&self, statements: &str) {
        run(&self.context.target, statements).await;
    }

    /// A session in the target.
    pub(crate) async fn session(&self) -> Session {
        Session::connect(&self.context.target, &SessionOptions::writing("test"))
            .await
            .unwrap()
    }

    /// Validates everything.
    pub(crate) async fn validate(&self) -> Validation {
        self.validate_only("all").await
    }

    /// Validates an entity or a group.
    pub(crate) async fn validate_only(&self, name: &str) -> Validation {
        let selection = self
            .context
            .project
            .select(&[name.to_owned()], false)
            .unwrap();
        let by = async |method| {
            let options = ValidationOptions {
                method,
                ..ValidationOptions::default()
            };
            validate(&self.context, &selection, &options)
                .await
                .unwrap_or_else(|error| panic!("{error}"))
        };
        let (streamed, summed) = (by(Method::Stream).await, by(Method::Sums).await);
        assert_eq!(findings(&streamed), findings(&summed), "stream and sums");
        assert_eq!(looked_at(&streamed), looked_at(&summed), "stream and sums");
        assert_eq!(streamed.not_checked, summed.not_checked, "stream and sums");
        for (streamed, summed) in streamed.entities.iter().zip(&summed.entities) {
            if !summed.distributions.is_empty() {
                let [a, b] = [streamed, summed].map(|e| format!("{:#?}", e.distributions));
                assert_eq!(a, b, "stream and sums: {}", summed.entity);
            }
        }
        streamed
    }
}

async fn run(endpoint: &regraft_pg::Endpoint, statements: &str) {
    let session = Session::connect(endpoint, &SessionOptions::writing("test"))
        .await
        .unwrap();
    // The source's sessions are read-only unless they say otherwise.
    let writing = format!("set default_transaction_read_only = off; {statements}");
    session
        .batch_execute(&writing)
        .await
        .unwrap_or_else(|error| panic!("{error:?} in {statements}"));
    // Nobody may be connected to a template.
    session.close().await;
}

/// Every finding in a line: `entity check: what (rows) [ids]`.
pub(crate) fn findings(validation: &Validation) -> Vec<String> {
    let mut lines = Vec::new();
    for entity in &validation.entities {
        for check in &entity.checks {
            assert_eq!(check.passed, check.findings.is_empty());
            for finding in &check.findings {
                assert!(finding.rows > 0);
                lines.push(format!(
                    "{} {}: {} ({}) [{}]",
                    entity.entity,
                    check.name,
                    finding.what,
                    finding.rows,
                    finding.examples.join(", ")
                ));
            }
        }
    }
    // Checks of the migration as a whole are for the tests that are about them.
    let whole = validation.migration.iter().all(|check| check.passed);
    assert_eq!(validation.passed, lines.is_empty() && whole);
    lines
}

/// Asserts that exactly these findings were made: each expected line is `beginning ... end`, of
/// which the parts around the dots must be at the beginning and at the end of a line.
pub(crate) fn assert_found(validation: &Validation, expected: &[&str], about: &str) {
    let mut found = findings(validation);
    for line in expected {
        let (beginning, end) = line.split_once(" ... ").unwrap_or((line, ""));
        let Some(at) = found
            .iter()
            .position(|f| f.starts_with(beginning) && f.ends_with(end))
        else {
            panic!(
                "{about}: not found: {line}\nfound: {:#?}",
                findings(validation)
            );
        };
        found.remove(at);
    }
    assert!(found.is_empty(), "{about}: found besides: {found:#?}");
}

/// What every check looked at.
fn looked_at(validation: &Validation) -> Vec<(String, &'static str, u64)> {
    let checks = |entity: &EntityValidation| -> Vec<_> {
        let checks = entity.checks.iter();
        checks
            .map(|check| (entity.entity.clone(), check.name, check.looked_at))
            .collect()
    };
    validation.entities.iter().flat_map(checks).collect()
}
