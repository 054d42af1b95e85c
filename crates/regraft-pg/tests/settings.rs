//! Settings out of environments and connection strings.

use std::time::Duration;

use regraft_pg::settings::{Host, RootCertificate, SslMode};
use regraft_pg::{Endpoint, Environment, ErrorKind, Side};

fn source(pairs: &[(&str, &str)]) -> regraft_pg::Result<Endpoint> {
    Endpoint::from_environment(
        Side::Source,
        &Environment::from_pairs(pairs.iter().copied()),
    )
}

#[test]
fn the_variables_of_the_brief_make_an_endpoint() {
    let endpoint = source(&[
        ("SOURCE_DB_HOST", "127.0.0.1"),
        ("SOURCE_DB_PORT", "5433"),
        ("SOURCE_DB_USER", "regraft"),
        ("SOURCE_DB_PASSWORD", "p@ss/w%rd"),
        ("SOURCE_DB_NAME", "legacy"),
    ])
    .unwrap();
    assert_eq!(
        endpoint.describe(),
        "source database \"legacy\" at 127.0.0.1:5433 as \"regraft\""
    );
    assert_eq!(
        endpoint.url(),
        "postgresql://regraft:p%40ss%2Fw%25rd@127.0.0.1:5433/legacy"
    );
    assert_eq!(
        endpoint.url_redacted(),
        "postgresql://regraft@127.0.0.1:5433/legacy"
    );
    assert!(!format!("{endpoint:?}").contains("ss"), "{endpoint:?}");
}

#[test]
fn all_missing_variables_are_listed_at_once() {
    let error = source(&[("SOURCE_DB_HOST", " "), ("SOURCE_DB_PASSWORD", "secret")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Settings);
    assert_eq!(
        error.to_string(),
        "source: SOURCE_DB_HOST, SOURCE_DB_USER and SOURCE_DB_NAME are not set"
    );
    let hint = error.hint().unwrap();
    assert!(
        hint.contains(".env.example") && hint.contains("regraft demo --keep"),
        "{hint}"
    );
}

#[test]
fn the_target_of_the_env_example_needs_no_database_name() {
    let environment = Environment::from_pairs([
        ("TARGET_DB_HOST", "localhost"),
        ("TARGET_DB_PORT", "54322"),
        ("TARGET_DB_USER", "postgres"),
        ("TARGET_DB_NAME", ""),
    ]);
    let endpoint = Endpoint::from_environment(Side::Target, &environment).unwrap();
    assert_eq!(
        endpoint.describe(),
        "target database \"postgres\" at localhost:54322 as \"postgres\""
    );
}

#[test]
fn the_url_wins_and_the_variables_fill_what_it_leaves_open() {
    let endpoint = source(&[
        ("SOURCE_DATABASE_URL", "postgres://u@db.example.org/legacy"),
        ("SOURCE_DB_HOST", "elsewhere"),
        ("SOURCE_DB_PASSWORD", "pw"),
        ("SOURCE_DB_SSLMODE", "verify-ca"),
        ("SOURCE_DB_SSLROOTCERT", "/etc/ca.pem"),
    ])
    .unwrap();
    assert_eq!(endpoint.host(), &Host::Tcp("db.example.org".into()));
    assert_eq!(endpoint.sslmode(), SslMode::VerifyCa);
    assert_eq!(
        endpoint.root_certificate(),
        Some(&RootCertificate::File("/etc/ca.pem".into()))
    );
    assert!(
        endpoint
            .url()
            .starts_with("postgresql://u:pw@db.example.org:5432/legacy?")
    );
}

#[test]
fn a_password_may_come_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    std::fs::write(&path, "two words\r\n").unwrap();
    let file = path.to_str().unwrap();
    let url = ("SOURCE_DATABASE_URL", "postgres://u@localhost/d");
    let endpoint = source(&[url, ("SOURCE_DB_PASSWORD_FILE", file)]).unwrap();
    assert_eq!(
        endpoint.url(),
        "postgresql://u:two%20words@localhost:5432/d"
    );

    let error = source(&[url, ("SOURCE_DB_PASSWORD_FILE", "/nonexistent")]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("SOURCE_DB_PASSWORD_FILE: /nonexistent"),
        "{error}"
    );
}

#[test]
fn connection_strings_are_read_as_libpq_reads_them() {
    let parse = |text: &str| Endpoint::parse(Side::Target, text).unwrap();

    let full = parse(
        "postgresql://a%40b:p%3A%2F@[::1]:5499/my%20db?sslmode=require&sslrootcert=%2Fca.pem\
         &application_name=x&connect_timeout=7&options=-c%20search_path%3Dlegacy\
         &sslcert=/c.pem&sslkey=/k.pem&channel_binding=require&pgbouncer=true&hostaddr=127.0.0.1",
    );
    assert_eq!(
        full.describe(),
        "target database \"my db\" at [::1]:5499 as \"a@b\""
    );
    assert_eq!(full.sslmode(), SslMode::Require);
    assert_eq!(full.connect_timeout(), Some(Duration::from_secs(7)));
    assert_eq!(full.options(), Some("-c search_path=legacy"));
    assert_eq!(full.application_name(), Some("x"));
    assert!(full.client_certificate().is_some());
    assert_eq!(
        parse(&full.url()),
        full,
        "a URL is read back as it was written"
    );

    let socket = parse("postgresql://u:p@/d?host=/tmp/sock&port=5434");
    assert_eq!(socket.host(), &Host::Unix("/tmp/sock".into()));
    assert_eq!(socket.address(), "/tmp/sock/.s.PGSQL.5434");
    assert_eq!(parse(&socket.url()), socket);
    assert_eq!(parse("postgresql://u:p@%2Ftmp%2Fsock:5434/d"), socket);

    let list = parse(r"host = localhost  user=u password='it\'s \\ x' dbname=d connect_timeout=0");
    assert_eq!(
        list.url(),
        "postgresql://u:it%27s%20%5C%20x@localhost:5432/d"
    );
    assert_eq!(list.connect_timeout(), None);
    assert_eq!(parse("user=u").database(), "u");
}

#[test]
fn malformed_connection_strings_are_refused_without_being_shown() {
    for text in [
        "postgres://u:hunter2@host:port/d",
        "postgres://u:hunter2%zz@host/d",
        "postgres://u:hunter2%ff@host/d",
        "postgres://u:hunter2@a,b/d",
        "postgres://u:hunter2@host/d?nonsense=1",
        "postgres://u:hunter2@host/d?sslmode=sometimes",
        "postgres://u:hunter2@host/d?sslcert=x",
        "postgres://u:hunter2@host/d?sslmode",
        "postgres://u:hunter2@[::1/d",
        "postgres://:hunter2@host/d",
        "mysql://u:hunter2@host/d",
        "user=u password='hunter2",
        "password=hunter2",
        "user=u hunter2",
        "user=u password=hunter2 sslmode=require sslrootcert=system",
        "hunter2",
        "",
    ] {
        let error = Endpoint::parse(Side::Source, text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Settings, "{text}");
        assert!(
            !format!("{error:#}{error:?}").contains("hunter2"),
            "{text}: {error:#}"
        );
    }
    let error = source(&[("SOURCE_DATABASE_URL", "mysql://u:hunter2@host/d")]).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("source: SOURCE_DATABASE_URL: "),
        "{error}"
    );
}

#[test]
fn tls_is_verified_unless_the_host_is_local() {
    let mode = |text: &str| Endpoint::parse(Side::Source, text).unwrap().sslmode();
    for local in [
        "postgres://u@localhost/d",
        "postgres://u@127.0.0.7/d",
        "postgres://u@[::1]/d",
        "postgres://u@/d?host=/run",
    ] {
        assert_eq!(mode(local), SslMode::Prefer, "{local}");
    }
    for remote in [
        "postgres://u@10.0.0.1/d",
        "postgres://u@localhost.example.org/d",
    ] {
        assert_eq!(mode(remote), SslMode::VerifyFull, "{remote}");
    }
    assert_eq!(
        mode("postgres://u@localhost/d?sslrootcert=system"),
        SslMode::VerifyFull
    );
    assert_eq!(
        mode("postgres://u@db.example.org/d?sslmode=disable"),
        SslMode::Disable
    );
}
