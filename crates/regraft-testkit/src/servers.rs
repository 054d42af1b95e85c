//! The servers that tests run against.

use std::future::Future;
use std::sync::LazyLock;
use std::thread;

use regraft_pg::managed::{Installation, Server, ServerOptions};
use regraft_pg::{Endpoint, Environment, Session, SessionOptions, Side};

/// A legacy and a modern server, which may be one and the same.
#[derive(Debug)]
pub struct Servers {
    legacy: Server,
    modern: Option<Server>,
}

static SHARED: LazyLock<Servers> = LazyLock::new(|| Servers {
    legacy: start("testkit"),
    modern: None,
});

impl Servers {
    /// One server for both sides and for every test of this binary. It is never dropped: its
    /// watcher ends it with the process.
    pub fn shared() -> &'static Self {
        &SHARED
    }

    /// Two servers of the caller's own, for tests that stop one. They end with the value.
    pub fn pair() -> Self {
        thread::scope(|scope| {
            let legacy = scope.spawn(|| start("legacy"));
            let modern = start("modern");
            Self {
                legacy: legacy.join().expect("the server starts"),
                modern: Some(modern),
            }
        })
    }

    /// The server of the legacy databases.
    pub fn legacy(&self) -> &Server {
        &self.legacy
    }

    /// The server of the modern databases.
    pub fn modern(&self) -> &Server {
        self.modern.as_ref().unwrap_or(&self.legacy)
    }
}

fn start(name: &str) -> Server {
    let installation = Installation::find(None, &Environment::from_process())
        .unwrap_or_else(|e| panic!("PostgreSQL is needed for tests: {}", e.message()));
    let mut options = ServerOptions::new(installation, name);
    options
        .settings
        .push(("max_connections".to_owned(), "200".to_owned()));
    Server::start(options).unwrap_or_else(|e| panic!("a server does not start: {}", e.message()))
}

/// Waits for a future, also from inside another runtime.
pub fn block_on<T: Send>(work: impl Future<Output = T> + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime starts")
                .block_on(work)
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The endpoint that a URL names.
pub fn endpoint_of(url: &str, side: Side) -> Endpoint {
    Endpoint::parse(side, url).unwrap_or_else(|e| panic!("not a URL: {}", e.message()))
}

/// A session that may write.
pub(crate) async fn session(url: &str) -> Session {
    let endpoint = endpoint_of(url, Side::Target);
    Session::connect(&endpoint, &SessionOptions::writing("regraft testkit"))
        .await
        .unwrap_or_else(|e| panic!("no connection: {}", e.message()))
}

/// The rows of a query, values as text.
pub(crate) async fn rows(session: &Session, query: &str) -> Vec<Vec<Option<String>>> {
    let found = session.simple_query(query).await;
    let found = found.unwrap_or_else(|e| panic!("{}: {query}", session.error(e).message()));
    found
        .iter()
        .filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|i| row.get(i).map(str::to_owned))
                    .collect(),
            ),
            _ => None,
        })
        .collect()
}
