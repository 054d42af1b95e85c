//! Sessions: set up the same way everywhere, and clear about why they can't be had.

mod cluster;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use regraft_pg::settings::Host;
use regraft_pg::{Endpoint, ErrorKind, Session, SessionOptions, Side};

fn reading() -> SessionOptions {
    SessionOptions::reading("it's a \\ test")
}

async fn show(session: &Session, name: &str) -> String {
    session
        .query_one(&format!("show {name}"), &[])
        .await
        .unwrap()
        .get(0)
}

#[tokio::test]
async fn a_session_has_known_settings() {
    let server = cluster::server();
    server
        .execute(
            "postgres",
            "create role odd login superuser password 'x';
             alter role odd set timezone = 'Asia/Tokyo';
             alter role odd set datestyle = 'German';
             alter role odd set statement_timeout = '1s';
             alter role odd set standard_conforming_strings = off;
             alter role odd set search_path = elsewhere",
        )
        .unwrap();
    let endpoint = server
        .endpoint(Side::Source, "postgres")
        .with_user("odd", Some("x".into()));
    let session = Session::connect(&endpoint, &reading()).await.unwrap();
    for (name, expected) in [
        ("application_name", "it's a \\ test"),
        ("timezone", "UTC"),
        ("datestyle", "ISO, MDY"),
        ("intervalstyle", "postgres"),
        ("extra_float_digits", "3"),
        ("bytea_output", "hex"),
        ("client_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
        ("statement_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
        ("default_transaction_read_only", "on"),
        ("row_security", "off"),
        ("search_path", "elsewhere"),
    ] {
        assert_eq!(show(&session, name).await, expected, "{name}");
    }
    if session.server_version_num() >= 140_000 {
        assert_eq!(
            show(&session, "client_connection_check_interval").await,
            "1s"
        );
        assert_eq!(show(&session, "idle_session_timeout").await, "0");
    }
    let pid: i32 = session
        .query_one("select pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!((session.backend_pid(), session.side()), (pid, Side::Source));
}

#[tokio::test]
async fn the_source_is_read_only_and_the_target_is_not() {
    let endpoint = cluster::server().endpoint(Side::Source, "postgres");
    let source = Session::connect(&endpoint, &reading()).await.unwrap();
    let error = source.error(source.batch_execute("create table x ()").await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert!(error.to_string().starts_with("source: 25006 "), "{error}");

    let target = cluster::session().await;
    target
        .batch_execute("create temp table x ()")
        .await
        .unwrap();
    assert_eq!(show(&target, "row_security").await, "on");
}

#[tokio::test]
async fn a_closed_session_is_gone_from_the_server() {
    let watching = cluster::session().await;
    let session = cluster::session().await;
    let pid = session.backend_pid();
    let is_there = async || {
        let query = "select exists (select from pg_stat_activity where pid = $1)";
        watching
            .query_one(query, &[&pid])
            .await
            .unwrap()
            .get::<_, bool>(0)
    };
    assert!(is_there().await && !session.is_closed());
    session.close().await;
    let deadline = Instant::now() + Duration::from_secs(5);
    while is_there().await {
        assert!(Instant::now() < deadline);
    }
}

#[tokio::test]
async fn a_statement_can_be_cancelled() {
    let session = cluster::session().await;
    let token = session.cancel_token();
    let (outcome, ()) = tokio::join!(session.batch_execute("select pg_sleep(30)"), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        token.cancel().await.unwrap();
    });
    assert_eq!(
        session.error(outcome.unwrap_err()).kind(),
        ErrorKind::QueryCanceled
    );
    session.batch_execute("select 1").await.unwrap();
}

#[tokio::test]
async fn a_session_that_is_dropped_ends_its_statement() {
    let session = cluster::session().await;
    let pid = session.backend_pid();
    let work = session.batch_execute("select pg_sleep(60)");
    assert!(
        tokio::time::timeout(Duration::from_millis(200), work)
            .await
            .is_err()
    );
    drop(session);
    let other = cluster::session().await;
    let deadline = Instant::now() + Duration::from_secs(10);
    let there = "select count(*) from pg_stat_activity where pid = $1";
    while other
        .query_one(there, &[&pid])
        .await
        .unwrap()
        .get::<_, i64>(0)
        > 0
    {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_terminated_session_knows_why_it_ended() {
    let session = cluster::session().await;
    let other = cluster::session().await;
    let terminate = "select pg_terminate_backend($1)";
    other
        .execute(terminate, &[&session.backend_pid()])
        .await
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while session.end().is_none() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let error = session.error(session.batch_execute("select 1").await.unwrap_err());
    assert!(session.is_closed());
    assert_eq!(error.sqlstate(), Some("57P01"));
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_soon() {
    // Takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let closed_port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let options = SessionOptions {
        connect_timeout: Duration::from_millis(300),
        ..reading()
    };
    for (host, port, cause) in [
        (
            Host::Tcp("127.0.0.1".into()),
            silent_port,
            "no answer within 0.3 s",
        ),
        (Host::Tcp("127.0.0.1".into()), closed_port, "refused"),
        (Host::Tcp("no-such-host.invalid".into()), 5432, ""),
        (Host::Unix("/nonexistent".into()), 5432, "No such file"),
    ] {
        let endpoint = Endpoint::new(Side::Target, host, port, "u", "d");
        let started = Instant::now();
        let error = Session::connect(&endpoint, &options).await.unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(3), "{error}");
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        let address = endpoint.address();
        let start = format!("target: {address} can't be reached: ");
        assert!(error.to_string().starts_with(&start), "{error}");
        assert!(error.message().contains(cause), "{error}");
        assert!(error.hint().is_some());
    }
}

#[tokio::test]
async fn a_log_in_that_is_refused_says_what_to_check() {
    let endpoint = cluster::server().endpoint(Side::Source, "postgres");
    let connect = async |endpoint| Session::connect(&endpoint, &reading()).await.unwrap_err();

    let wrong = connect(endpoint.with_user("postgres", Some("hunter2".into()))).await;
    assert_eq!(wrong.kind(), ErrorKind::Authentication);
    assert_eq!(wrong.sqlstate(), Some("28P01"));
    assert!(!format!("{wrong:#} {wrong:?}").contains("hunter2"));
    assert!(
        wrong.hint().unwrap().contains("SOURCE_DB_PASSWORD"),
        "{wrong:#}"
    );

    let missing = connect(endpoint.with_user("postgres", None)).await;
    assert_eq!(missing.kind(), ErrorKind::Authentication);
    assert!(
        missing
            .message()
            .ends_with("the server wants a password, and none is set"),
        "{missing}"
    );

    let unknown = connect(endpoint.with_database("no such")).await;
    assert_eq!(unknown.kind(), ErrorKind::Settings);
    assert!(
        unknown
            .message()
            .starts_with("there is no database \"no such\" at 127.0.0.1:")
    );
    assert!(unknown.hint().unwrap().contains("SOURCE_DB_NAME"));
}
