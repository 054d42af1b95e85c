//! Servers of our own: made, stopped, crashed, kept and cleaned up, whatever happens to us.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use regraft_pg::managed::{Installation, Server, ServerOptions, stop_kept};
use regraft_pg::{Environment, ErrorKind, Session, SessionOptions, Side};

fn options(name: &str) -> ServerOptions {
    let installation = Installation::find(None, &Environment::from_process()).unwrap();
    ServerOptions::new(installation, name)
}

async fn count(server: &Server, database: &str) -> i64 {
    let endpoint = server.endpoint(Side::Target, database);
    let session = Session::connect(&endpoint, &SessionOptions::reading("test"))
        .await
        .unwrap();
    session
        .query_one("select count(*) from t", &[])
        .await
        .unwrap()
        .get(0)
}

fn listens(port: u16) -> bool {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn a_server_survives_stops_and_crashes_and_leaves_nothing_behind() {
    let server = Server::start(options("life")).unwrap();
    let dir = server.dir().to_path_buf();
    let port = server.port();
    server.create_database("a b", None).unwrap();
    server
        .execute(
            "a b",
            "create table t as select * from generate_series(1, 10)",
        )
        .unwrap();
    server.create_database("copy", Some("a b")).unwrap();

    server.restart().unwrap();
    assert_eq!(count(&server, "a b").await, 10);
    server
        .execute("copy", "insert into t select * from generate_series(1, 5)")
        .unwrap();

    server.stop_immediate().unwrap();
    assert!(!server.is_running() && !listens(port));
    server.stop().unwrap();
    let thief = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let error = server.start_again().unwrap_err();
    assert!(
        error.message().contains("another process has taken port"),
        "{error}"
    );
    drop(thief);
    server.start_again().unwrap();
    assert_eq!(server.port(), port);
    assert_eq!(count(&server, "copy").await, 15);

    server.drop_database("copy").unwrap();
    let error = server.execute("copy", "select 1").unwrap_err();
    assert!(
        error.message().contains("there is no database \"copy\""),
        "{error}"
    );

    drop(server);
    assert!(!dir.exists() && !listens(port));
}

#[tokio::test]
async fn two_servers_run_beside_each_other_over_tcp_and_sockets() {
    let start =
        |name: &'static str| std::thread::spawn(move || Server::start(options(name)).unwrap());
    let (first, second) = (start("first"), start("second"));
    let (first, second) = (first.join().unwrap(), second.join().unwrap());
    assert_ne!(first.port(), second.port());
    for server in [&first, &second] {
        for endpoint in [
            server.endpoint(Side::Source, "postgres"),
            server.socket_endpoint(Side::Source, "postgres"),
        ] {
            let session = Session::connect(&endpoint, &SessionOptions::reading("test"))
                .await
                .unwrap();
            let row = session.query_one("show data_directory", &[]).await.unwrap();
            assert_eq!(Path::new(row.get::<_, &str>(0)), server.data_dir());
            session.close().await;
        }
    }
    let stranger = first
        .endpoint(Side::Source, "postgres")
        .with_user("postgres", Some("x".into()));
    let error = Session::connect(&stranger, &SessionOptions::reading("test"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);
}

#[test]
fn settings_reach_the_server_and_a_bad_one_leaves_nothing_behind() {
    let mut bad = options("bad");
    bad.settings
        .push(("no_such_setting".into(), "it's \\ odd".into()));
    let dir = bad.dir.clone();
    let error = Server::start(bad).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Install);
    assert!(error.message().contains("configuration file"), "{error}");
    assert!(!dir.exists());
}

#[test]
fn directories_in_use_and_strange_ones_are_left_alone() {
    let parent = tempfile::Builder::new()
        .permissions(open_to_all())
        .tempdir()
        .unwrap();
    let dir = parent.path().join("precious");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("file"), "precious").unwrap();
    let error = Server::start(ServerOptions {
        dir: dir.clone(),
        ..options("x")
    })
    .unwrap_err();
    assert!(error.message().ends_with("is not empty"), "{error}");
    for outcome in [stop_kept(&dir), Server::attach(&dir).map(drop)] {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Settings);
    }
    std::fs::write(dir.join("regraft-server.toml"), "format = 99\n").unwrap();
    assert_eq!(stop_kept(&dir).unwrap_err().kind(), ErrorKind::Settings);
    assert_eq!(
        std::fs::read_to_string(dir.join("file")).unwrap(),
        "precious"
    );
}

#[tokio::test]
async fn a_kept_server_is_found_again_and_stopped() {
    let parent = tempfile::Builder::new()
        .permissions(open_to_all())
        .tempdir()
        .unwrap();
    // Too long for a socket.
    let dir = parent.path().join("d".repeat(90));
    let server = Server::start(ServerOptions {
        dir: dir.clone(),
        keep: true,
        ephemeral: false,
        ..options("kept")
    })
    .unwrap();
    let port = server.port();
    server
        .execute("postgres", "create table t as select 1")
        .unwrap();
    let again = Server::start(ServerOptions {
        dir: dir.clone(),
        ..options("x")
    })
    .unwrap_err();
    assert!(
        again.message().ends_with("holds a server already"),
        "{again}"
    );
    drop(server);
    assert!(listens(port));

    let attached = Server::attach(&dir).unwrap();
    assert_eq!((attached.name(), attached.port()), ("kept", port));
    assert_eq!(count(&attached, "postgres").await, 1);
    attached.restart().unwrap();
    assert_eq!(count(&attached, "postgres").await, 1);
    attached.stop().unwrap();
    assert_eq!(
        Server::attach(&dir).unwrap_err().kind(),
        ErrorKind::Unreachable
    );
    attached.start_again().unwrap();
    let socket_dir = match attached.socket_endpoint(Side::Source, "x").host() {
        regraft_pg::settings::Host::Unix(dir) => dir.clone(),
        other => panic!("{other:?}"),
    };
    drop(attached);

    stop_kept(&dir).unwrap();
    assert!(!listens(port) && !dir.exists() && !socket_dir.exists());
}

fn open_to_all() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o755)
}

/// Not a test of its own: what the next test starts and kills.
#[test]
#[ignore = "started by the test that kills it"]
fn holds_a_server_until_it_is_killed() {
    let server = Server::start(options("orphan")).unwrap();
    let mut stdout = std::io::stdout();
    writeln!(
        stdout,
        "server {} {}",
        server.port(),
        server.dir().display()
    )
    .unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_server_ends_when_its_process_is_killed() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "holds_a_server_until_it_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (port, dir) = lines
        .map_while(Result::ok)
        .find_map(|line| {
            // The test harness may have begun the line.
            let (port, dir) = line.split_once("server ")?.1.split_once(' ')?;
            Some((port.parse().ok()?, PathBuf::from(dir)))
        })
        .expect("the child says where its server is");
    assert!(listens(port) && dir.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the server ends and its directory goes", || {
        !listens(port) && !dir.exists()
    });
}
