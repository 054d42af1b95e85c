//! Connections to the two servers, opened and set up the same way everywhere.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, NoTls, SimpleQueryMessage, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Error, ErrorKind, Result};
use crate::settings::{ChannelBinding, Endpoint, Host, Side, SslMode};
use crate::tls;

/// How a session is to be opened.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// What `pg_stat_activity` shows, unless the endpoint names something itself.
    pub application_name: String,
    /// Whether transactions are read-only unless they say otherwise, and row-level security
    /// fails loudly instead of hiding rows. Only a demo or a test opens the source without it.
    pub read_only: bool,
    /// How long name lookup, connection, TLS and log-in may take together, unless the endpoint
    /// sets a limit itself.
    pub connect_timeout: Duration,
}

impl SessionOptions {
    /// For a session that reads: read-only, 5 seconds to connect.
    pub fn reading(application_name: impl Into<String>) -> Self {
        Self {
            application_name: application_name.into(),
            read_only: true,
            connect_timeout: Duration::from_secs(5),
        }
    }

    /// For a session that writes: 5 seconds to connect.
    pub fn writing(application_name: impl Into<String>) -> Self {
        Self {
            read_only: false,
            ..Self::reading(application_name)
        }
    }
}

/// An open connection with known settings: times in UTC and ISO form, numbers in full, no
/// timeouts that would kill a long statement, and on the source read-only.
///
/// It derefs to [`tokio_postgres::Client`]. Errors of the client's own methods don't know the
/// side; [`Session::error`] adds it. Dropping the session closes the connection in the
/// background, within a second also when a statement is at work, which the server then cancels;
/// [`Session::close`] waits for it.
pub struct Session {
    client: Client,
    side: Side,
    server_version_num: u32,
    backend_pid: i32,
    transport: Transport,
    driver: Driver,
    end: Arc<OnceLock<Error>>,
}

/// The task that keeps a connection going. It ends with the client once all answers are there; when
/// it is dropped, the answers that are still missing are waited for no longer than a moment.
struct Driver(Option<JoinHandle<()>>);

/// How long a connection that is dropped may wait for answers.
const MOMENT: Duration = Duration::from_secs(1);

impl Drop for Driver {
    fn drop(&mut self) {
        let (Some(driver), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let abort = driver.abort_handle();
        runtime.spawn(async move {
            if tokio::time::timeout(MOMENT, driver).await.is_err() {
                abort.abort();
            }
        });
    }
}

impl Session {
    /// Connects and sets the session up.
    ///
    /// # Errors
    ///
    /// `Unreachable` if no connection is there within the time limit, `Tls` if encryption or the
    /// certificate is not as `sslmode` asks, `Authentication` if the server refuses the user, and
    /// `Settings` if it has no such database. All name the server and say what to check.
    pub async fn connect(endpoint: &Endpoint, options: &SessionOptions) -> Result<Self> {
        let limit = endpoint
            .connect_timeout()
            .unwrap_or(options.connect_timeout);
        let opening = tokio::time::timeout(limit, open(endpoint, options, limit)).await;
        opening
            .unwrap_or_else(|_elapsed| {
                let cause = format!("no answer within {} s", limit.as_secs_f64());
                Err(no_connection(endpoint, &cause))
            })
            .map_err(|error| error.with_side(endpoint.side()))
    }

    /// Which database it is connected to.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The server's version as a number: 150018 is 15.18.
    pub fn server_version_num(&self) -> u32 {
        self.server_version_num
    }

    /// The id of the server process behind this session.
    pub fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Why the connection ended, if it ended by itself: the client's methods say no more than
    /// that it is closed.
    pub fn end(&self) -> Option<Error> {
        self.end.get().cloned()
    }

    /// Classifies and redacts an error of the client's, and adds the side.
    pub fn error(&self, error: tokio_postgres::Error) -> Error {
        match self.end.get() {
            Some(end) if error.is_closed() => end.clone(),
            _ => Error::from_postgres(Some(self.side), error),
        }
    }

    /// A handle to cancel whatever the session is executing, from any task.
    pub fn cancel_token(&self) -> CancelToken {
        CancelToken {
            side: self.side,
            token: self.client.cancel_token(),
            transport: self.transport.clone(),
        }
    }

    /// What another library needs to open connections like this one by itself: the settings, and TLS
    /// where this connection runs over it. Sessions that are opened so are not set up.
    pub fn settings_for_others(
        &self,
        endpoint: &Endpoint,
        options: &SessionOptions,
    ) -> (Config, Option<MakeRustlsConnect>) {
        use tokio_postgres::config::SslMode;
        let limit = endpoint.connect_timeout();
        let mut config = config(endpoint, options, limit.unwrap_or(options.connect_timeout));
        match &self.transport {
            Transport::Plain => {
                config.ssl_mode(SslMode::Disable);
                (config, None)
            }
            Transport::Tls(tls) => {
                let (first, _) = attempts(endpoint);
                config.ssl_mode(match first {
                    Attempt::TlsIfOffered => SslMode::Prefer,
                    Attempt::Plain | Attempt::Tls => SslMode::Require,
                });
                (config, Some(tls.clone()))
            }
        }
    }

    /// Says good-bye to the server and waits until the connection is gone, 5 seconds at most.
    pub async fn close(self) {
        let Self {
            client, mut driver, ..
        } = self;
        drop(client);
        let Some(driver) = driver.0.take() else {
            return;
        };
        let abort = driver.abort_handle();
        if tokio::time::timeout(Duration::from_secs(5), driver)
            .await
            .is_err()
        {
            abort.abort();
        }
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("side", &self.side)
            .field("backend_pid", &self.backend_pid)
            .field("is_closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// Cancels the statement that a session is executing, over a connection of its own.
#[derive(Clone)]
pub struct CancelToken {
    side: Side,
    token: tokio_postgres::CancelToken,
    transport: Transport,
}

impl CancelToken {
    /// Asks the server to cancel. The statement, if there still is one, fails with
    /// [`ErrorKind::QueryCanceled`]; nobody says whether there was one.
    pub async fn cancel(&self) -> Result<()> {
        let outcome = match &self.transport {
            Transport::Plain => self.token.cancel_query(NoTls).await,
            Transport::Tls(tls) => self.token.cancel_query(tls.clone()).await,
        };
        outcome.map_err(|error| Error::from_postgres(Some(self.side), error))
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken")
            .field("side", &self.side)
            .finish_non_exhaustive()
    }
}

/// What a connection runs over.
#[derive(Clone)]
enum Transport {
    Plain,
    Tls(MakeRustlsConnect),
}

/// One attempt to connect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Plain,
    TlsIfOffered,
    Tls,
}

/// What libpq tries under an `sslmode`: the second attempt is made if the first fails because of
/// TLS, or because the server refuses the log-in over that kind of connection.
fn attempts(endpoint: &Endpoint) -> (Attempt, Option<Attempt>) {
    if matches!(endpoint.host(), Host::Unix(_)) {
        return (Attempt::Plain, None);
    }
    match endpoint.sslmode() {
        SslMode::Disable => (Attempt::Plain, None),
        SslMode::Allow => (Attempt::Plain, Some(Attempt::Tls)),
        SslMode::Prefer => (Attempt::TlsIfOffered, Some(Attempt::Plain)),
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => (Attempt::Tls, None),
    }
}

async fn open(endpoint: &Endpoint, options: &SessionOptions, limit: Duration) -> Result<Session> {
    let mut config = config(endpoint, options, limit);
    let (first, second) = attempts(endpoint);
    let outcome = attempt(endpoint, &mut config, first).await;
    let opened = match (outcome, second) {
        (Err(error), Some(second))
            if matches!(error.kind(), ErrorKind::Tls | ErrorKind::Authentication) =>
        {
            match attempt(endpoint, &mut config, second).await {
                // That there is no TLS either tells less than what came first.
                Err(other) if other.kind() == ErrorKind::Tls => Err(error),
                outcome => outcome,
            }
        }
        (outcome, _) => outcome,
    };
    set_up(endpoint, options, opened?).await
}

fn config(endpoint: &Endpoint, options: &SessionOptions, limit: Duration) -> Config {
    let mut config = Config::new();
    config
        .user(endpoint.user())
        .dbname(endpoint.database())
        .port(endpoint.port())
        .application_name(application_name(endpoint, options))
        .connect_timeout(limit)
        // A server that vanished is noticed within a minute, and not by a COPY that waits for
        // ever.
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(30))
        .keepalives_interval(Duration::from_secs(10))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(60))
        .channel_binding(match endpoint.channel_binding() {
            ChannelBinding::Disable => tokio_postgres::config::ChannelBinding::Disable,
            ChannelBinding::Prefer => tokio_postgres::config::ChannelBinding::Prefer,
            ChannelBinding::Require => tokio_postgres::config::ChannelBinding::Require,
        });
    match endpoint.host() {
        Host::Tcp(name) => config.host(name),
        Host::Unix(dir) => config.host_path(dir),
    };
    if let Some(address) = endpoint.hostaddr() {
        config.hostaddr(address);
    }
    if let Some(password) = endpoint.password() {
        config.password(password);
    }
    if let Some(options) = endpoint.options() {
        config.options(options);
    }
    config
}

fn application_name<'a>(endpoint: &'a Endpoint, options: &'a SessionOptions) -> &'a str {
    endpoint
        .application_name()
        .unwrap_or(&options.application_name)
}

/// A connection that is logged in and not yet set up.
struct Opened {
    client: Client,
    driver: JoinHandle<()>,
    end: Arc<OnceLock<Error>>,
    transport: Transport,
    major_version: Option<u32>,
}

async fn attempt(endpoint: &Endpoint, config: &mut Config, attempt: Attempt) -> Result<Opened> {
    use tokio_postgres::config::SslMode;
    config.ssl_mode(match attempt {
        Attempt::Plain => SslMode::Disable,
        Attempt::TlsIfOffered => SslMode::Prefer,
        Attempt::Tls => SslMode::Require,
    });
    if attempt == Attempt::Plain {
        log_in(endpoint, config, NoTls, Transport::Plain).await
    } else {
        let tls = tls::connector(endpoint)?;
        log_in(endpoint, config, tls.clone(), Transport::Tls(tls)).await
    }
}

async fn log_in<T>(
    endpoint: &Endpoint,
    config: &Config,
    tls: T,
    transport: Transport,
) -> Result<Opened>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config
        .connect(tls)
        .await
        .map_err(|error| explain(endpoint, error))?;
    let major_version = connection.parameter("server_version").and_then(|version| {
        version
            .split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    });
    let end = Arc::new(OnceLock::new());
    let driver = tokio::spawn(drive(connection, endpoint.side(), Arc::clone(&end)));
    Ok(Opened {
        client,
        driver,
        end,
        transport,
        major_version,
    })
}

/// Keeps a connection going until it ends, and notes why. The driver's own loop would write the
/// server's notices to the log, and those may quote rows; they are dropped here.
async fn drive<S>(mut connection: Connection<Socket, S>, side: Side, end: Arc<OnceLock<Error>>)
where
    S: tokio_postgres::tls::TlsStream + Unpin,
{
    let outcome = std::future::poll_fn(|context| {
        loop {
            match std::task::ready!(connection.poll_message(context)) {
                Some(Ok(_notice)) => {}
                Some(Err(error)) => return std::task::Poll::Ready(Some(error)),
                None => return std::task::Poll::Ready(None),
            }
        }
    })
    .await;
    if let Some(error) = outcome {
        // Nobody else sets it.
        let _ = end.set(Error::from_postgres(Some(side), error));
    }
}

async fn set_up(endpoint: &Endpoint, options: &SessionOptions, opened: Opened) -> Result<Session> {
    let Opened {
        client,
        driver,
        end,
        transport,
        major_version,
    } = opened;
    let statement = set_up_statement(endpoint, options);
    let (settings, check_interval) = tokio::join!(client.simple_query(&statement), async {
        match major_version {
            // Lets the server notice that we are gone in the middle of a long statement.
            Some(14..) => {
                client
                    .batch_execute("set client_connection_check_interval = '1s'")
                    .await
            }
            _ => Ok(()),
        }
    });
    // On some platforms the server refuses any value but 0; the keepalives remain.
    if let Err(error) = check_interval
        && error.as_db_error().is_none()
    {
        return Err(explain(endpoint, error));
    }
    let settings = settings.map_err(|error| explain(endpoint, error))?;
    let (backend_pid, server_version_num) = identity(&settings).ok_or_else(|| {
        Error::new(
            ErrorKind::Protocol,
            format!("{} does not answer as PostgreSQL does", endpoint.address()),
        )
    })?;
    Ok(Session {
        client,
        side: endpoint.side(),
        server_version_num,
        backend_pid,
        transport,
        driver: Driver(Some(driver)),
        end,
    })
}

/// Sets what of this the server knows (older ones lack some), then asks who it is.
fn set_up_statement(endpoint: &Endpoint, options: &SessionOptions) -> String {
    let application_name = application_name(endpoint, options)
        .replace('\\', "\\\\")
        .replace('\'', "\\'");
    let read_only = match options.read_only {
        true => "('default_transaction_read_only', 'on'),",
        false => "",
    };
    let row_security = match options.read_only || endpoint.side() == Side::Source {
        true => "('row_security', 'off'),",
        false => "",
    };
    format!(
        "select pg_catalog.set_config(wanted.name, wanted.value, false)
           from (values
             {read_only}
             {row_security}
             ('application_name', E'{application_name}'),
             ('client_encoding', 'UTF8'),
             ('standard_conforming_strings', 'on'),
             ('TimeZone', 'UTC'),
             ('DateStyle', 'ISO, MDY'),
             ('IntervalStyle', 'postgres'),
             ('extra_float_digits', '3'),
             ('bytea_output', 'hex'),
             ('client_min_messages', 'warning'),
             ('jit', 'off'),
             ('statement_timeout', '0'),
             ('transaction_timeout', '0'),
             ('idle_in_transaction_session_timeout', '0'),
             ('idle_session_timeout', '0'),
             ('tcp_keepalives_idle', '30'),
             ('tcp_keepalives_interval', '10'),
             ('tcp_keepalives_count', '3'),
             ('tcp_user_timeout', '60000')
           ) as wanted (name, value)
           join pg_catalog.pg_settings as known on known.name = wanted.name;
         select pg_catalog.pg_backend_pid(), pg_catalog.current_setting('server_version_num')"
    )
}

fn identity(messages: &[SimpleQueryMessage]) -> Option<(i32, u32)> {
    let row = messages.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })?;
    Some((row.get(0)?.parse().ok()?, row.get(1)?.parse().ok()?))
}

/// Says why a connection could not be made and what can be done.
fn explain(endpoint: &Endpoint, error: tokio_postgres::Error) -> Error {
    let side = endpoint.side();
    let plain = Error::of_postgres(None, &error);
    match plain.kind() {
        ErrorKind::Tls => tls::explain(endpoint, &error),
        // A connection that breaks before it is set up never was one.
        ErrorKind::Unreachable | ErrorKind::ConnectionLost => {
            no_connection(endpoint, plain.message()).with_sqlstate(plain.sqlstate())
        }
        ErrorKind::Authentication => {
            let message = format!(
                "{} refuses the log-in: {}",
                endpoint.address(),
                plain.message()
            );
            plain.with_message(message).with_hint(format!(
                "check the user and the password ({} and {})",
                side.variable("DB_USER"),
                side.variable("DB_PASSWORD")
            ))
        }
        _ if plain.sqlstate() == Some("3D000") => {
            let message = format!(
                "there is no database \"{}\" at {}",
                endpoint.database(),
                endpoint.address()
            );
            let hint = format!("create it, or correct {}", side.variable("DB_NAME"));
            plain
                .with_kind(ErrorKind::Settings)
                .with_message(message)
                .with_hint(hint)
        }
        _ => plain,
    }
}

fn no_connection(endpoint: &Endpoint, cause: &str) -> Error {
    let side = endpoint.side();
    let message = format!("{} can't be reached: {cause}", endpoint.address());
    let checks = match endpoint.host() {
        Host::Tcp(_) => format!(
            "check that the server runs, and {} and {}",
            side.variable("DB_HOST"),
            side.variable("DB_PORT")
        ),
        Host::Unix(_) => "check that the server runs and keeps its socket there".to_owned(),
    };
    Error::new(ErrorKind::Unreachable, message).with_hint(checks)
}
