//! TLS for real: every `sslmode` against every kind of certificate.

mod cluster;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use regraft_pg::settings::{RootCertificate, SslMode};
use regraft_pg::{Endpoint, Error, ErrorKind, Session, SessionOptions, Side};

/// Makes certificates with the `openssl` command.
struct Authority {
    dir: PathBuf,
}

impl Authority {
    fn openssl(&self, arguments: &[&str]) {
        let status = Command::new("openssl")
            .args(arguments)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "openssl {arguments:?}");
    }

    /// `name.crt` and `name.key`, signed by itself; an authority as OpenSSL sees it.
    fn self_signed(&self, name: &str, subject: &str) {
        let (key, crt) = (format!("{name}.key"), format!("{name}.crt"));
        self.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            subject,
            "-keyout",
            &key,
            "-out",
            &crt,
        ]);
    }

    /// `name.crt` and `name.key`, signed by `issuer`, with these extensions (none: version 1).
    fn signed(&self, name: &str, issuer: &str, subject: &str, extensions: &str, days: &str) {
        let [key, csr, crt, ext] = ["key", "csr", "crt", "ext"].map(|end| format!("{name}.{end}"));
        let (ca, ca_key) = (format!("{issuer}.crt"), format!("{issuer}.key"));
        self.openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            subject,
            "-keyout",
            &key,
            "-out",
            &csr,
        ]);
        let mut arguments = vec![
            "x509",
            "-req",
            "-in",
            &csr,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-days",
            days,
            "-out",
            &crt,
        ];
        if !extensions.is_empty() {
            fs::write(self.dir.join(&ext), extensions).unwrap();
            arguments.extend(["-extfile", &ext]);
        }
        self.openssl(&arguments);
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

const SAN: &str = "subjectAltName=DNS:localhost,IP:127.0.0.1";
const NO_SAN: &str = "basicConstraints=CA:FALSE";

/// Certificates for the server, and other authorities than its own.
fn certificates(dir: PathBuf) -> Authority {
    let authority = Authority { dir };
    authority.self_signed("ca", "/CN=Good Authority");
    authority.self_signed("other", "/CN=Other Authority");
    authority.self_signed("self", "/CN=localhost");
    authority.signed("good", "ca", "/CN=x", SAN, "2");
    authority.signed("common_name", "ca", "/CN=localhost", NO_SAN, "2");
    authority.signed(
        "elsewhere",
        "ca",
        "/CN=localhost",
        "subjectAltName=DNS:db.example",
        "2",
    );
    authority.signed("expired", "ca", "/CN=x", SAN, "-1");
    authority.signed("version_1", "ca", "/CN=localhost", "", "2");
    authority.signed("client", "ca", "/CN=postgres", NO_SAN, "2");
    authority
}

fn has_openssl() -> bool {
    Command::new("openssl")
        .arg("version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Gives the server's user what the server reads.
fn hand_over(dir: &Path, data: &Path) {
    let owner = fs::metadata(data).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    chown(dir, Some(owner.uid()), Some(owner.gid())).unwrap();
}

/// Changes the server's configuration and waits until new sessions see it.
async fn configure(settings: &[(&str, &str)], access: &str) {
    let server = cluster::server();
    let own = "local all all scram-sha-256\n";
    fs::write(
        server.data_dir().join("pg_hba.conf"),
        format!("{own}{access}\n"),
    )
    .unwrap();
    let socket = server.socket_endpoint(Side::Target, "postgres");
    let options = SessionOptions::writing("test");
    let session = Session::connect(&socket, &options).await.unwrap();
    for (name, value) in settings {
        session
            .batch_execute(&format!("alter system set {name} = '{value}'"))
            .await
            .unwrap();
    }
    let loaded = "select pg_conf_load_time()::text";
    let before: String = session.query_one(loaded, &[]).await.unwrap().get(0);
    session
        .batch_execute("select pg_reload_conf()")
        .await
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let session = Session::connect(&socket, &options).await.unwrap();
        let now: String = session.query_one(loaded, &[]).await.unwrap().get(0);
        if now != before {
            return;
        }
        assert!(Instant::now() < deadline, "the configuration is not loaded");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const ANY: &str = "host all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 scram-sha-256";

async fn show_certificate(authority: &Authority, name: &str) {
    let file = |end: &str| {
        authority
            .file(&format!("{name}.{end}"))
            .display()
            .to_string()
    };
    let (certificate, key) = (file("crt"), file("key"));
    let settings = [
        ("ssl_cert_file", &*certificate),
        ("ssl_key_file", &*key),
        ("ssl", "on"),
    ];
    configure(&settings, ANY).await;
}

fn endpoint(host: &str, parameters: &str) -> Endpoint {
    let url = cluster::server()
        .url("postgres")
        .replace("@127.0.0.1:", &format!("@{host}:"));
    Endpoint::parse(Side::Target, &format!("{url}?{parameters}")).unwrap()
}

/// Whether the connection that comes about is encrypted.
async fn connect(endpoint: &Endpoint) -> Result<bool, Error> {
    let session = Session::connect(endpoint, &SessionOptions::reading("test")).await?;
    let query = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let encrypted = session.query_one(query, &[]).await.unwrap().get(0);
    if encrypted {
        // Cancelling goes over TLS, too.
        session.cancel_token().cancel().await.unwrap();
    }
    Ok(encrypted)
}

const PLAIN: &str = "plain";
const TLS: &str = "TLS";

/// What comes of a connection: `plain`, `TLS`, or the error.
async fn outcome(endpoint: &Endpoint) -> String {
    match connect(endpoint).await {
        Ok(true) => TLS.to_owned(),
        Ok(false) => PLAIN.to_owned(),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
            assert!(error.hint().is_some(), "{error}");
            error.message().to_owned()
        }
    }
}

const MODES: [SslMode; 6] = [
    SslMode::Disable,
    SslMode::Allow,
    SslMode::Prefer,
    SslMode::Require,
    SslMode::VerifyCa,
    SslMode::VerifyFull,
];

/// Connects with every mode that the root certificate allows, and compares the outcomes: each
/// expected one must be part of the real one.
async fn expect(authority: &Authority, host: &str, root: Option<&str>, expected: [&str; 6]) {
    for (mode, expected) in MODES.into_iter().zip(expected) {
        let root = root.map(|name| RootCertificate::File(authority.file(name)));
        let endpoint = endpoint(host, "").with_tls(mode, root.clone());
        if mode == SslMode::VerifyCa && root.is_none() {
            let error = connect(&endpoint).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Settings);
            continue;
        }
        let outcome = outcome(&endpoint).await;
        assert!(
            outcome.contains(expected),
            "{host}, {mode}, {root:?}: {outcome}"
        );
    }
}

#[tokio::test]
async fn every_mode_meets_every_certificate() {
    if !has_openssl() {
        use std::io::Write;
        writeln!(
            std::io::stderr(),
            "skipped: there is no openssl to make certificates"
        )
        .unwrap();
        return;
    }
    let server = cluster::server();
    let dir = server.dir().join("certificates");
    fs::create_dir(&dir).unwrap();
    let authority = certificates(dir.clone());
    hand_over(&dir, &server.data_dir());

    let none = "does not offer TLS";
    expect(
        &authority,
        "localhost",
        Some("ca.crt"),
        [PLAIN, PLAIN, PLAIN, none, none, none],
    )
    .await;

    let untrusted = "is not signed by an authority that is trusted";
    show_certificate(&authority, "good").await;
    for host in ["localhost", "127.0.0.1"] {
        expect(
            &authority,
            host,
            Some("ca.crt"),
            [PLAIN, PLAIN, TLS, TLS, TLS, TLS],
        )
        .await;
    }
    let wrong_root = [PLAIN, PLAIN, PLAIN, untrusted, untrusted, untrusted];
    expect(&authority, "localhost", Some("other.crt"), wrong_root).await;
    expect(
        &authority,
        "localhost",
        None,
        [PLAIN, PLAIN, TLS, TLS, "", untrusted],
    )
    .await;

    let misnamed = "does not name this host";
    show_certificate(&authority, "elsewhere").await;
    expect(
        &authority,
        "localhost",
        Some("ca.crt"),
        [PLAIN, PLAIN, TLS, TLS, TLS, misnamed],
    )
    .await;

    show_certificate(&authority, "common_name").await;
    expect(
        &authority,
        "localhost",
        Some("ca.crt"),
        [PLAIN, PLAIN, TLS, TLS, TLS, TLS],
    )
    .await;
    expect(
        &authority,
        "127.0.0.1",
        Some("ca.crt"),
        [PLAIN, PLAIN, TLS, TLS, TLS, misnamed],
    )
    .await;

    show_certificate(&authority, "self").await;
    expect(
        &authority,
        "localhost",
        Some("self.crt"),
        [PLAIN, PLAIN, TLS, TLS, TLS, TLS],
    )
    .await;
    expect(&authority, "localhost", Some("ca.crt"), wrong_root).await;

    let expired = "has expired";
    show_certificate(&authority, "expired").await;
    let outcomes = [PLAIN, PLAIN, PLAIN, expired, expired, expired];
    expect(&authority, "localhost", Some("ca.crt"), outcomes).await;

    let invalid = "is of version 1";
    show_certificate(&authority, "version_1").await;
    expect(
        &authority,
        "localhost",
        None,
        [PLAIN, PLAIN, TLS, TLS, "", invalid],
    )
    .await;

    encryption_asked_for_by_the_server(&authority).await;
}

/// The rest needs the same server, and configures it anew.
async fn encryption_asked_for_by_the_server(authority: &Authority) {
    show_certificate(authority, "good").await;
    let ca = authority.file("ca.crt").display().to_string();
    let encrypted = ANY.replace("host ", "hostssl ");
    configure(&[], &encrypted).await;
    for (mode, expected) in [("allow", true), ("prefer", true), ("require", true)] {
        let endpoint = endpoint("127.0.0.1", &format!("sslmode={mode}"));
        assert_eq!(connect(&endpoint).await.unwrap(), expected, "{mode}");
    }
    let error = connect(&endpoint("127.0.0.1", "sslmode=disable"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");

    configure(&[], &ANY.replace("host ", "hostnossl ")).await;
    assert!(
        !connect(&endpoint("127.0.0.1", "sslmode=prefer"))
            .await
            .unwrap()
    );
    let error = connect(&endpoint("127.0.0.1", "sslmode=require"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");

    let certified = encrypted.replace("sha-256", "sha-256 clientcert=verify-full");
    configure(&[("ssl_ca_file", &ca)], &certified).await;
    let file = |name: &str| authority.file(name).display().to_string();
    let files = format!(
        "sslcert={}&sslkey={}",
        file("client.crt"),
        file("client.key")
    );
    let bare = endpoint("127.0.0.1", "sslmode=require");
    let certified = endpoint("127.0.0.1", &format!("sslmode=require&{files}"));
    assert_eq!(
        connect(&bare).await.unwrap_err().kind(),
        ErrorKind::Authentication
    );
    assert!(connect(&certified).await.unwrap());
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    for (parameters, expected) in [
        (
            "sslmode=verify-full&sslrootcert=/nonexistent",
            "sslrootcert: /nonexistent can't be used",
        ),
        (
            "sslmode=verify-ca&sslrootcert=/dev/null",
            "it holds no certificate",
        ),
        (
            "sslmode=require&sslcert=/nonexistent&sslkey=/nonexistent",
            "sslcert: /nonexistent",
        ),
    ] {
        let error = connect(&endpoint("127.0.0.1", parameters))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Settings, "{error}");
        assert!(error.message().contains(expected), "{error}");
    }
}
