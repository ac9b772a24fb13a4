//! TLS: what certificates and keys are served, and the records of one connection. Bytes in, bytes out; no sockets.
//!
//! ```text
//!   tls-* directives ──> Context::load ──> Context            one for all cores, replaced whole when CONFIG SET names a tls-* directive
//!                                             │
//!                            a connection ──> Stream          on the core that serves it, for as long as it lives
//!   socket ──> ciphertext ──> Stream::take ──> plaintext ──> dispatcher
//!   socket <── ciphertext <── Stream::put  <── plaintext <── replies
//! ```
//!
//! rustls does the protocol (1.2 and 1.3), `ring` the arithmetic. Both are driven over byte buffers, so that the event loop's receives
//! and sends are those of plain connections.
//!
//! Invariants:
//! - a [`Context`] is whole or does not exist: its certificate belongs to its key, its authorities could be read, its suites are known;
//! - a [`Stream`] keeps nothing between two calls that its peer could make grow: plaintext is handed on before more ciphertext is
//!   taken in, and what is put in comes out encrypted in the same call. What rustls keeps is one record or one handshake message;
//! - a connection keeps the context it began with; a reload concerns those that come after it.
//!
//! Absent on purpose: files of other formats than PEM, TLS 1.0 and 1.1, renegotiation, finite-field Diffie-Hellman, early data,
//! revocation lists (rustls has none of the first five, and Redis has no setting for the last), outgoing connections.

mod material;
mod resumption;
mod stream;
mod subject;
mod suites;

pub use stream::{Stream, TlsFault};
pub use subject::common_name;

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};

use crate::config::{Config, TlsAuthClients, TlsClientUser};
use material::Identity;
use resumption::Resumption;

/// Everything that the TLS side of a new connection is made from. See the module.
#[derive(Clone, Debug)]
pub struct Context {
    config: Arc<ServerConfig>,
    /// Whether the certificate of a client names its user.
    pub client_user: TlsClientUser,
}

impl Context {
    /// Reads what the settings name. Also gives what an operator should hear about it. `clock_ns` is a monotonic clock, for the age of
    /// sessions that may be resumed.
    pub fn load(settings: &Config, clock_ns: fn() -> u64) -> Result<(Context, Vec<String>), TlsError> {
        let mut remarks = Vec::new();
        let versions = suites::versions(&settings.tls_protocols.to_string(), &mut remarks)?;
        let suites = suites::chosen(&settings.tls_ciphers.to_string(), &settings.tls_ciphersuites.to_string())?;
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites = suites;
        let provider = Arc::new(provider);

        let identity = Identity::load(settings, &provider, &mut remarks)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|error| TlsError::Refused(error.to_string()))?;
        let builder = match settings.tls_auth_clients {
            TlsAuthClients::No => builder.with_no_client_auth(),
            wanted => {
                let authorities = Arc::new(material::authorities(settings, &mut remarks)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider);
                let verifier = match wanted {
                    TlsAuthClients::Optional => verifier.allow_unauthenticated(),
                    _ => verifier,
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|e| TlsError::Refused(e.to_string()))?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(identity));
        config.ignore_client_order = settings.tls_prefer_server_ciphers;
        if settings.tls_session_caching {
            let sessions_max = usize::try_from(settings.tls_session_cache_size).unwrap_or(0);
            let seconds = u64::try_from(settings.tls_session_cache_timeout).unwrap_or(0);
            config.session_storage = Arc::new(Resumption::new(sessions_max, seconds, clock_ns));
        } else {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok((Context { config: Arc::new(config), client_user: settings.tls_auth_clients_user }, remarks))
    }
}

/// Why TLS cannot be served with these settings. Where Redis has words for it in its log, these are they.
#[derive(Debug)]
pub enum TlsError {
    /// No certificate is named.
    NoCertificate,
    /// No key is named.
    NoKey,
    /// Clients are to show certificates, and nobody is named who may sign them.
    NoAuthorities,
    /// The certificate cannot be used.
    Certificate {
        /// The file, as configured.
        file: String,
        /// Why not.
        reason: String,
    },
    /// The key cannot be used.
    Key {
        /// The file, as configured.
        file: String,
        /// Why not.
        reason: String,
    },
    /// The authorities cannot be read.
    Authorities {
        /// The file or folder, as configured.
        file: String,
        /// Why not.
        reason: String,
    },
    /// `tls-protocols` names none that can be served, or something else.
    Protocols(String),
    /// A suite that is not there.
    Suite {
        /// `tls-ciphers` or `tls-ciphersuites`.
        directive: &'static str,
        /// What it says.
        name: String,
    },
    /// No suite is left.
    NoSuite {
        /// `tls-ciphers` or `tls-ciphersuites`.
        directive: &'static str,
    },
    /// rustls takes each part, and not all of them together.
    Refused(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::NoCertificate => f.write_str("No tls-cert-file configured!"),
            TlsError::NoKey => f.write_str("No tls-key-file configured!"),
            TlsError::NoAuthorities => f.write_str(
                "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-cluster, tls-replication or \
                 tls-auth-clients are enabled!",
            ),
            TlsError::Certificate { file, reason } => write!(f, "Failed to load certificate: {file}: {reason}"),
            TlsError::Key { file, reason } => write!(f, "Failed to load private key: {file}: {reason}"),
            TlsError::Authorities { file, reason } => {
                write!(f, "Failed to configure CA certificate(s) file/directory: {file}: {reason}")
            }
            TlsError::Protocols(reason) => write!(f, "Invalid tls-protocols specified: {reason}"),
            TlsError::Suite { directive, name } => {
                write!(f, "Failed to configure ciphers: {directive} names '{name}', which is not there; there are: ")?;
                f.write_str(&suites::names(directive).join(" "))
            }
            TlsError::NoSuite { directive } => {
                write!(f, "Failed to configure ciphers: {directive} leaves none of those that are there: ")?;
                f.write_str(&suites::names(directive).join(" "))
            }
            TlsError::Refused(reason) => write!(f, "Failed to configure TLS: {reason}"),
        }
    }
}

impl std::error::Error for TlsError {}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
