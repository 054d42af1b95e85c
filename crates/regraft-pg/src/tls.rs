//! TLS as libpq's `sslmode` describes it, by rustls.
//!
//! The driver knows no `verify-ca`, and rustls on its own always verifies in full; what stands
//! between is [`Verifier`]. The cryptography is chosen here and never taken from the process's
//! default, which another library may have set or may fail to set.

use std::error::Error as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio_postgres_rustls::MakeRustlsConnect;
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

use crate::error::{Error, ErrorKind, Result};
use crate::settings::{Endpoint, RootCertificate, SslMode};

/// Prepares TLS for a connection to this endpoint.
///
/// Fails if a file that the settings name can't be used, or if there is nothing to verify with.
pub(crate) fn connector(endpoint: &Endpoint) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::of(endpoint, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Tls, error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match endpoint.client_certificate() {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = read_certificates(certificate, "sslcert")?;
            let key_der = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| unusable_file(key, "sslkey", &error))?;
            builder
                .with_client_auth_cert(chain, key_der)
                .map_err(|error| unusable_file(key, "sslkey", &error))?
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

/// What a server has to prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    /// Nothing: its certificate is not looked at.
    Nothing,
    /// That somebody we trust signed its certificate.
    Chain,
    /// That somebody we trust signed its certificate for this host.
    ChainAndName,
}

#[derive(Debug)]
struct Verifier {
    demand: Demand,
    roots: Arc<RootCertStore>,
    /// The certificates of `sslrootcert` as they are. A server that shows one of them is trusted
    /// even if it is no authority: self-signed certificates are made that way, and authorities
    /// that sign for themselves are not valid chains for webpki.
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn of(endpoint: &Endpoint, provider: Arc<CryptoProvider>) -> Result<Self> {
        let demand = match (endpoint.sslmode(), endpoint.root_certificate()) {
            (SslMode::VerifyFull, _) => Demand::ChainAndName,
            (SslMode::VerifyCa, None) => {
                return Err(Error::new(
                    ErrorKind::Settings,
                    "sslmode=verify-ca needs to know which authority to trust",
                )
                .with_hint(format!(
                    "set {} to the PEM file of its certificate",
                    endpoint.side().variable("DB_SSLROOTCERT")
                )));
            }
            // As for libpq: whoever names a root certificate wants it checked.
            (_, Some(_)) => Demand::Chain,
            (_, None) => Demand::Nothing,
        };
        let (roots, trusted) = match (demand, endpoint.root_certificate()) {
            (Demand::Nothing, _) => (Arc::new(RootCertStore::empty()), Vec::new()),
            (_, Some(RootCertificate::File(path))) => roots_of_file(path)?,
            (_, Some(RootCertificate::System) | None) => (system_roots()?, Vec::new()),
        };
        Ok(Self {
            demand,
            roots,
            trusted,
            provider,
        })
    }

    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        if self.trusted.iter().any(|trusted| trusted == end_entity) {
            return check_validity(end_entity, now);
        }
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )
        .map_err(|error| match is_about(&error, "CaUsedAsEndEntity") {
            // It signed for itself, and it is not one that is trusted as it is.
            true => CertificateError::UnknownIssuer.into(),
            false => error,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.demand != Demand::Nothing {
            self.verify_chain(end_entity, intermediates, now)?;
        }
        if self.demand == Demand::ChainAndName {
            verify_name(end_entity, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.demand == Demand::Nothing {
            // A signature by a key that nobody vouches for proves nothing, and checking it would
            // shut out version 1 certificates, which `openssl x509 -req` makes by default.
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.demand == Demand::Nothing {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Checks the host's name against the certificate's alternative names and, if it has none at all,
/// against its common name, as libpq does: many private authorities still sign such certificates.
fn verify_name(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
) -> Result<(), rustls::Error> {
    let Err(error) = verify_server_name(&ParsedCertificate::try_from(certificate)?, name) else {
        return Ok(());
    };
    match common_name_alone(certificate) {
        Some(pattern) if name_matches(&pattern, &name.to_str()) => Ok(()),
        _ => Err(error),
    }
}

/// The common name of a certificate without alternative names.
fn common_name_alone(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let has_alternatives = parsed.extensions().iter().any(|extension| {
        matches!(
            extension.parsed_extension(),
            ParsedExtension::SubjectAlternativeName(_)
        )
    });
    if has_alternatives {
        return None;
    }
    let name = parsed.subject().iter_common_name().next()?;
    Some(name.as_str().ok()?.to_owned())
}

/// Whether a common name such as `db.example.org` or `*.example.org` stands for this host. The
/// star stands for exactly one label.
fn name_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => host
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent)),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

fn check_validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).map_err(|_| CertificateError::BadEncoding)?;
    if now < parsed.validity().not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > parsed.validity().not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

type Roots = (Arc<RootCertStore>, Vec<CertificateDer<'static>>);

fn roots_of_file(path: &Path) -> Result<Roots> {
    let certificates = read_certificates(path, "sslrootcert")?;
    let mut roots = RootCertStore::empty();
    // What can't be an authority may still be trusted as it is.
    roots.add_parsable_certificates(certificates.iter().cloned());
    Ok((Arc::new(roots), certificates))
}

fn read_certificates(path: &Path, parameter: &str) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable_file(path, parameter, &error))?;
    if certificates.is_empty() {
        return Err(unusable_file(path, parameter, &"it holds no certificate"));
    }
    Ok(certificates)
}

fn unusable_file(path: &Path, parameter: &str, reason: &dyn std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Settings,
        format!("{parameter}: {} can't be used: {reason}", path.display()),
    )
}

/// The authorities that the operating system trusts, read once.
fn system_roots() -> Result<Arc<RootCertStore>> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    if roots.is_empty() {
        return Err(Error::new(
            ErrorKind::Tls,
            "the certificate authorities that the operating system trusts were not found",
        )
        .with_hint("install the package ca-certificates, or name a PEM file as sslrootcert"));
    }
    Ok(Arc::clone(roots))
}

/// Says why TLS failed and what can be done.
pub(crate) fn explain(endpoint: &Endpoint, error: &tokio_postgres::Error) -> Error {
    let address = endpoint.address();
    let mode_variable = endpoint.side().variable("DB_SSLMODE");
    let root_variable = endpoint.side().variable("DB_SSLROOTCERT");
    let (message, hint) = match certificate_error(error) {
        Some(CertificateError::UnknownIssuer | CertificateError::BadSignature) => (
            format!("the certificate of {address} is not signed by an authority that is trusted"),
            format!(
                "set {root_variable} to the PEM file of the authority that signed it; \
                 {mode_variable}=require encrypts without checking who answers"
            ),
        ),
        Some(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => (
            format!("the certificate of {address} does not name this host"),
            format!(
                "connect by a name that the certificate holds, or set {mode_variable}=verify-ca \
                 with {root_variable} to check the authority alone"
            ),
        ),
        Some(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => (
            format!("the certificate of {address} has expired"),
            "renew the server's certificate".to_owned(),
        ),
        Some(other) if is_about(other, "UnsupportedCertVersion") => (
            format!("the certificate of {address} is of version 1, which can't be verified"),
            "have it signed again as version 3 (`openssl x509 -req -extfile ...`)".to_owned(),
        ),
        Some(other) => (
            format!("the certificate of {address} is not valid: {other}"),
            format!("{mode_variable}=require encrypts without checking who answers"),
        ),
        None if is_refusal(error) => (
            format!(
                "{address} does not offer TLS, which sslmode={} needs",
                endpoint.sslmode()
            ),
            format!(
                "turn on TLS at the server; on a network that you trust, {mode_variable}=prefer \
                 does without"
            ),
        ),
        None => {
            let cause = error
                .source()
                .map_or_else(|| error.to_string(), ToString::to_string);
            (
                format!("TLS with {address} failed: {cause}"),
                format!("check {mode_variable} and {root_variable}"),
            )
        }
    };
    Error::new(ErrorKind::Tls, message).with_hint(hint)
}

/// Some of webpki's errors come through rustls without a variant of their own.
fn is_about(error: &impl std::fmt::Debug, name: &str) -> bool {
    format!("{error:?}").contains(name)
}

fn is_refusal(error: &tokio_postgres::Error) -> bool {
    error
        .source()
        .is_some_and(|cause| cause.to_string() == "server does not support TLS")
}

fn certificate_error(error: &tokio_postgres::Error) -> Option<&CertificateError> {
    let cause = error
        .source()?
        .downcast_ref::<std::io::Error>()?
        .get_ref()?;
    match cause.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(error) => Some(error),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_label() {
        assert!(name_matches("db.example.org", "DB.example.org"));
        assert!(name_matches("*.example.org", "db.example.org"));
        for host in [
            "example.org",
            ".example.org",
            "a.b.example.org",
            "db.example.com",
        ] {
            assert!(!name_matches("*.example.org", host), "{host}");
        }
        assert!(!name_matches("*", "localhost"));
    }
}
