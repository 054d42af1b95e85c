//! Where the two databases are and how to log in to them: from the environment, a `.env` file,
//! or a connection string.

mod connection_string;
mod endpoint;
mod environment;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

pub use endpoint::{ChannelBinding, Endpoint, Host, RootCertificate};
pub use environment::Environment;

/// One of the two databases of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The legacy database, which is only read.
    Source,
    /// The modern database, which is written.
    Target,
}

impl Side {
    /// `source` or `target`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }

    /// What the names of its environment variables begin with: `SOURCE` or `TARGET`.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Source => "SOURCE",
            Self::Target => "TARGET",
        }
    }

    /// The name of one of its environment variables: `variable("DB_HOST")` is `SOURCE_DB_HOST`.
    pub fn variable(self, suffix: &str) -> String {
        format!("{}_{suffix}", self.prefix())
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How much TLS a connection needs, in libpq's words and with libpq's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// Without TLS; with it if the server insists.
    Allow,
    /// With TLS; without if that fails.
    Prefer,
    /// With TLS, whoever the server is (its chain is checked if a root certificate is given).
    Require,
    /// With TLS, to a server whose certificate is signed by a trusted authority.
    VerifyCa,
    /// As `VerifyCa`, and the certificate names the host.
    VerifyFull,
}

impl SslMode {
    const ALL: [Self; 6] = [
        Self::Disable,
        Self::Allow,
        Self::Prefer,
        Self::Require,
        Self::VerifyCa,
        Self::VerifyFull,
    ];

    /// The name that libpq gives it, as in `verify-full`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for SslMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Settings,
                    format!(
                        "sslmode must be one of {}",
                        Self::ALL.map(Self::name).join(", ")
                    ),
                )
            })
    }
}
