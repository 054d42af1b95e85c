//! One server for all tests of a binary. It is never dropped: its watcher ends it.

use std::sync::LazyLock;

use regraft_pg::managed::{Installation, Server, ServerOptions};
use regraft_pg::{Environment, Session, SessionOptions, Side};

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let installation = Installation::find(None, &Environment::from_process()).unwrap();
    Server::start(ServerOptions::new(installation, "test")).unwrap()
});

/// The server.
pub(crate) fn server() -> &'static Server {
    &SERVER
}

/// A session that may write.
#[allow(dead_code, reason = "not every test binary needs one")]
pub(crate) async fn session() -> Session {
    let endpoint = server().endpoint(Side::Target, "postgres");
    Session::connect(&endpoint, &SessionOptions::writing("regraft test"))
        .await
        .unwrap()
}
