//! One database: where it is, how to log in, and how much TLS that needs.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::connection_string::{Parameters, malformed};
use super::{Environment, Side, SslMode};
use crate::error::{Error, ErrorKind, Result};

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A host name or an IP address.
    Tcp(String),
    /// The directory of a Unix socket.
    Unix(PathBuf),
}

impl Host {
    /// Whether it is this machine: a Unix socket, `localhost` or a loopback address.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(name) => match name.parse::<IpAddr>() {
                Ok(address) => address.is_loopback(),
                Err(_) => name.eq_ignore_ascii_case("localhost"),
            },
        }
    }

    fn parse(text: &str) -> Self {
        match text.strip_prefix('/') {
            Some(_) => Self::Unix(PathBuf::from(text)),
            None => Self::Tcp(text.to_owned()),
        }
    }
}

/// The certificates that a server's certificate must descend from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootCertificate {
    /// Those that the operating system trusts.
    System,
    /// Those of this PEM file.
    File(PathBuf),
}

impl RootCertificate {
    fn parse(text: &str) -> Self {
        match text {
            "system" => Self::System,
            path => Self::File(PathBuf::from(path)),
        }
    }
}

/// Whether a log-in by SCRAM must be bound to the TLS connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// If the server offers it.
    Prefer,
    /// Or there is no log-in.
    Require,
}

/// One of the two databases: address, log-in and TLS.
///
/// `Debug` hides the password; [`describe`](Self::describe) is meant for messages.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    side: Side,
    host: Host,
    hostaddr: Option<IpAddr>,
    port: u16,
    user: String,
    password: Option<String>,
    database: String,
    sslmode: Option<SslMode>,
    root_certificate: Option<RootCertificate>,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    channel_binding: ChannelBinding,
    application_name: Option<String>,
    connect_timeout: Option<Duration>,
    options: Option<String>,
}

impl Endpoint {
    /// A database by its parts, without a password.
    pub fn new(
        side: Side,
        host: Host,
        port: u16,
        user: impl Into<String>,
        database: impl Into<String>,
    ) -> Self {
        Self {
            side,
            host,
            hostaddr: None,
            port,
            user: user.into(),
            password: None,
            database: database.into(),
            sslmode: None,
            root_certificate: None,
            client_certificate: None,
            client_key: None,
            channel_binding: ChannelBinding::Prefer,
            application_name: None,
            connect_timeout: None,
            options: None,
        }
    }

    /// Reads the settings of one side.
    ///
    /// `SOURCE_DATABASE_URL` (a URL or a `key=value` list) wins over `SOURCE_DB_HOST`, `_PORT`
    /// (5432), `_USER` and `_NAME`. What the URL leaves open is taken from `SOURCE_DB_PASSWORD`
    /// or the file that `SOURCE_DB_PASSWORD_FILE` names, `SOURCE_DB_SSLMODE` and
    /// `SOURCE_DB_SSLROOTCERT`. The target's variables begin with `TARGET`; its `_NAME` is
    /// `postgres` by default, as on Supabase.
    ///
    /// One error lists all variables that are missing.
    pub fn from_environment(side: Side, environment: &Environment) -> Result<Self> {
        let variable = |suffix: &str| environment.get(&side.variable(suffix)).map(str::trim);
        let mut endpoint = match variable("DATABASE_URL") {
            Some(url) => Self::parse(side, url).map_err(|error| {
                let name = environment.origin(&side.variable("DATABASE_URL"));
                let message = format!("{name}: {}", error.message());
                error.with_message(message)
            })?,
            None => Self::from_variables(side, environment)?,
        };
        if endpoint.password.is_none() {
            endpoint.password = password(side, environment)?;
        }
        if endpoint.sslmode.is_none() {
            endpoint.sslmode = environment
                .get_parsed(&side.variable("DB_SSLMODE"))
                .map_err(|error| error.with_side(side))?;
        }
        if endpoint.root_certificate.is_none() {
            endpoint.root_certificate = variable("DB_SSLROOTCERT").map(RootCertificate::parse);
        }
        endpoint.check()
    }

    fn from_variables(side: Side, environment: &Environment) -> Result<Self> {
        let default_name = (side == Side::Target).then_some("postgres");
        let mut missing = Vec::new();
        let mut required = |suffix: &str, default: Option<&str>| {
            let name = side.variable(suffix);
            match environment.get(&name).map(str::trim).or(default) {
                Some(value) => value.to_owned(),
                None => {
                    missing.push(name);
                    String::new()
                }
            }
        };
        let host = required("DB_HOST", None);
        let user = required("DB_USER", None);
        let database = required("DB_NAME", default_name);
        if !missing.is_empty() {
            return Err(not_set(side, &missing));
        }
        let port = environment
            .get_parsed(&side.variable("DB_PORT"))
            .map_err(|error| error.with_side(side))?;
        Ok(Self::new(
            side,
            Host::parse(&host),
            port.unwrap_or(5432),
            user,
            database,
        ))
    }

    /// Reads a `postgresql://` URL or a `key=value` list. Parameters that are not known are an
    /// error, as they are for libpq.
    pub fn parse(side: Side, connection_string: &str) -> Result<Self> {
        Parameters::parse(connection_string)
            .and_then(|parameters| Self::from_parameters(side, parameters))
            .and_then(Self::check)
            .map_err(|error| error.with_side(side))
    }

    fn from_parameters(side: Side, mut given: Parameters) -> Result<Self> {
        let host = given.take("host").unwrap_or_else(|| "localhost".to_owned());
        if host.contains(',') {
            return Err(malformed("it names several hosts; name one"));
        }
        let user = given
            .take("user")
            .ok_or_else(|| malformed("it names no user"))?;
        let database = given.take("dbname").unwrap_or_else(|| user.clone());
        let port = number(&mut given, "port")?.unwrap_or(5432);
        let seconds = number::<u64>(&mut given, "connect_timeout")?;
        let endpoint = Self {
            hostaddr: number(&mut given, "hostaddr")?,
            password: given.take("password"),
            sslmode: given.take("sslmode").map(|mode| mode.parse()).transpose()?,
            root_certificate: given
                .take("sslrootcert")
                .map(|text| RootCertificate::parse(&text)),
            client_certificate: given.take("sslcert").map(PathBuf::from),
            client_key: given.take("sslkey").map(PathBuf::from),
            channel_binding: channel_binding(&mut given)?,
            application_name: given.take("application_name"),
            // As for libpq, zero means no limit of its own.
            connect_timeout: seconds
                .filter(|&seconds| seconds > 0)
                .map(Duration::from_secs),
            options: given.take("options"),
            ..Self::new(side, Host::parse(&host), port, user, database)
        };
        for name in WITHOUT_EFFECT {
            given.take(name);
        }
        match given.leftover() {
            Some(name) => Err(malformed(&format!("the parameter {name} is not supported"))),
            None => Ok(endpoint),
        }
    }

    /// Finds settings that contradict each other.
    fn check(self) -> Result<Self> {
        let weak = self.sslmode.is_some_and(|mode| mode != SslMode::VerifyFull);
        if weak && self.root_certificate == Some(RootCertificate::System) {
            return Err(Error::new(
                ErrorKind::Settings,
                "sslrootcert=system needs sslmode=verify-full: those authorities sign for anybody",
            )
            .with_side(self.side));
        }
        if self.client_certificate.is_some() != self.client_key.is_some() {
            return Err(Error::new(
                ErrorKind::Settings,
                "sslcert and sslkey must be given together",
            )
            .with_side(self.side));
        }
        Ok(self)
    }

    /// The same server and log-in, with another database.
    #[must_use]
    pub fn with_database(&self, name: impl Into<String>) -> Self {
        Self {
            database: name.into(),
            ..self.clone()
        }
    }

    /// The same, as the other side or this one.
    #[must_use]
    pub fn with_side(&self, side: Side) -> Self {
        Self {
            side,
            ..self.clone()
        }
    }

    /// The same, with this user and password.
    #[must_use]
    pub fn with_user(&self, user: impl Into<String>, password: Option<String>) -> Self {
        Self {
            user: user.into(),
            password,
            ..self.clone()
        }
    }

    /// The same, with this much TLS.
    #[must_use]
    pub fn with_tls(&self, sslmode: SslMode, root: Option<RootCertificate>) -> Self {
        Self {
            sslmode: Some(sslmode),
            root_certificate: root,
            ..self.clone()
        }
    }

    /// Which database of the migration it is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Where the server listens.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The address to connect to instead of looking the host's name up.
    pub fn hostaddr(&self) -> Option<IpAddr> {
        self.hostaddr
    }

    /// The server's port; for a Unix socket, part of its file name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The role to log in as.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// How much TLS: as set, else `verify-full`, else `prefer` for this machine.
    pub fn sslmode(&self) -> SslMode {
        match (self.sslmode, &self.root_certificate) {
            (Some(mode), _) => mode,
            (None, Some(RootCertificate::System)) => SslMode::VerifyFull,
            (None, _) if self.host.is_local() => SslMode::Prefer,
            (None, _) => SslMode::VerifyFull,
        }
    }

    /// Whom to trust, if that was set.
    pub fn root_certificate(&self) -> Option<&RootCertificate> {
        self.root_certificate.as_ref()
    }

    /// The PEM files of the client's certificate and key, if they were set.
    pub fn client_certificate(&self) -> Option<(&Path, &Path)> {
        Some((
            self.client_certificate.as_deref()?,
            self.client_key.as_deref()?,
        ))
    }

    /// Whether SCRAM must be bound to TLS.
    pub fn channel_binding(&self) -> ChannelBinding {
        self.channel_binding
    }

    /// The name to show in `pg_stat_activity`, if it was set.
    pub fn application_name(&self) -> Option<&str> {
        self.application_name.as_deref()
    }

    /// How long to wait for a connection, if it was set.
    pub fn connect_timeout(&self) -> Option<Duration> {
        self.connect_timeout
    }

    /// Command-line options for the server process, as in `-c search_path=legacy`.
    pub fn options(&self) -> Option<&str> {
        self.options.as_deref()
    }

    /// The password; for the log-in alone.
    pub(crate) fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// Host and port for messages, as in `127.0.0.1:5433`.
    pub fn address(&self) -> String {
        match &self.host {
            Host::Tcp(name) if name.contains(':') => format!("[{name}]:{}", self.port),
            Host::Tcp(name) => format!("{name}:{}", self.port),
            Host::Unix(dir) => format!("{}/.s.PGSQL.{}", dir.display(), self.port),
        }
    }

    /// For messages: `source database "legacy" at 127.0.0.1:5433 as "regraft"`.
    pub fn describe(&self) -> String {
        format!(
            "{} database \"{}\" at {} as \"{}\"",
            self.side,
            self.database,
            self.address(),
            self.user
        )
    }

    /// The URL **with the password**: for writing `.env` files and for handing it to other
    /// programs through their environment, never for output.
    pub fn url(&self) -> String {
        self.format_url(self.password.as_deref())
    }

    /// The URL without the password.
    pub fn url_redacted(&self) -> String {
        self.format_url(None)
    }

    fn format_url(&self, password: Option<&str>) -> String {
        let mut url = format!("postgresql://{}", encode(&self.user));
        if let Some(password) = password {
            url.extend([":", &encode(password)]);
        }
        url.push('@');
        let mut query = Vec::new();
        match &self.host {
            Host::Tcp(_) => url.push_str(&self.address()),
            Host::Unix(dir) => {
                query.push(("host", dir.display().to_string()));
                query.push(("port", self.port.to_string()));
            }
        }
        url.extend(["/", &encode(&self.database)]);
        query.extend(self.optional_parameters());
        for (at, (name, value)) in query.into_iter().enumerate() {
            let separator = if at == 0 { "?" } else { "&" };
            url.extend([separator, name, "=", &encode(&value)]);
        }
        url
    }

    fn optional_parameters(&self) -> impl Iterator<Item = (&'static str, String)> {
        let path = |path: &PathBuf| path.display().to_string();
        let root = self.root_certificate.as_ref().map(|root| match root {
            RootCertificate::System => "system".to_owned(),
            RootCertificate::File(file) => path(file),
        });
        let binding = match self.channel_binding {
            ChannelBinding::Prefer => None,
            ChannelBinding::Disable => Some("disable".to_owned()),
            ChannelBinding::Require => Some("require".to_owned()),
        };
        let timeout = self
            .connect_timeout
            .map(|timeout| timeout.as_secs().to_string());
        [
            ("hostaddr", self.hostaddr.map(|address| address.to_string())),
            ("sslmode", self.sslmode.map(|mode| mode.to_string())),
            ("sslrootcert", root),
            ("sslcert", self.client_certificate.as_ref().map(path)),
            ("sslkey", self.client_key.as_ref().map(path)),
            ("channel_binding", binding),
            ("application_name", self.application_name.clone()),
            ("connect_timeout", timeout),
            ("options", self.options.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint")
            .field(&self.side)
            .field(&self.url_redacted())
            .finish()
    }
}

/// Parameters that ask for nothing this program does otherwise: accepted, without effect.
const WITHOUT_EFFECT: [&str; 6] = [
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "pgbouncer",
    "sslcompression",
    "sslsni",
];

/// What may stand unencoded in a URL's user, password, database and parameters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

fn number<T: std::str::FromStr>(given: &mut Parameters, name: &str) -> Result<Option<T>> {
    match given.take(name).map(|text| text.trim().parse()) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(_)) => Err(malformed(&format!("the value of {name} is not valid"))),
    }
}

fn channel_binding(given: &mut Parameters) -> Result<ChannelBinding> {
    match given.take("channel_binding").as_deref() {
        None | Some("prefer") => Ok(ChannelBinding::Prefer),
        Some("disable") => Ok(ChannelBinding::Disable),
        Some("require") => Ok(ChannelBinding::Require),
        Some(_) => Err(malformed(
            "channel_binding must be disable, prefer or require",
        )),
    }
}

fn password(side: Side, environment: &Environment) -> Result<Option<String>> {
    if let Some(password) = environment.get(&side.variable("DB_PASSWORD")) {
        return Ok(Some(password.to_owned()));
    }
    let name = side.variable("DB_PASSWORD_FILE");
    let Some(path) = environment.get(&name).map(str::trim) else {
        return Ok(None);
    };
    match fs::read_to_string(path) {
        Ok(text) => {
            let line = text.strip_suffix('\n').unwrap_or(&text);
            Ok(Some(line.strip_suffix('\r').unwrap_or(line).to_owned()))
        }
        Err(error) => Err(Error::new(
            ErrorKind::Settings,
            format!(
                "{}: {path} can't be read: {error}",
                environment.origin(&name)
            ),
        )
        .with_side(side)),
    }
}

fn not_set(side: Side, missing: &[String]) -> Error {
    let (verb, names) = match missing {
        [one] => ("is", one.clone()),
        [first @ .., last] => ("are", format!("{} and {last}", first.join(", "))),
        [] => ("is", String::new()),
    };
    Error::new(ErrorKind::Settings, format!("{names} {verb} not set"))
        .with_side(side)
        .with_hint(format!(
            "copy .env.example to .env and fill it in, or set {}; \
             `regraft demo --keep` makes two databases to try it on",
            side.variable("DATABASE_URL")
        ))
}
