//! Certificate roots: the system's, and files of the configuration.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::RegistryError;

/// What the TLS of one server needs beyond the client's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct TlsOptions {
    /// PEM files of further authorities.
    pub(super) ca_files: Vec<PathBuf>,
    /// What identifies this machine.
    pub(super) client: Option<ClientPair>,
    /// Believe whatever certificate the server shows.
    pub(super) skip_verify: bool,
}

/// A client's certificate and its key, PEM; both may be in one file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientPair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl TlsOptions {
    /// When its files were written.
    pub(super) fn written(&self) -> Vec<Option<SystemTime>> {
        let pair = self.client.iter().flat_map(|c| [&c.certificate, &c.key]);
        let modified = |path: &PathBuf| path.metadata().and_then(|m| m.modified()).ok();
        self.ca_files.iter().chain(pair).map(modified).collect()
    }
}

/// TLS for connections to registries: system roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` are
/// honoured) and the certificates of `ca_files`, HTTP/2 before HTTP/1.1.
///
/// A machine without system roots is no error: it can still reach hosts of `ca_files`.
///
/// # Errors
/// `Setup` when one of the files cannot be read or does not hold what it should.
pub(super) fn client_config(
    ca_files: &[PathBuf],
    options: &TlsOptions,
) -> Result<rustls::ClientConfig, RegistryError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "cannot read some of the system's certificate roots");
    }
    roots.add_parsable_certificates(system.certs);
    for file in ca_files.iter().chain(&options.ca_files) {
        for certificate in certificates("CA file", file)? {
            roots
                .add(certificate)
                .map_err(|error| unusable("CA file", file, error.to_string()))?;
        }
    }
    with_roots(roots, options)
}

fn unusable(what: &str, file: &std::path::Path, reason: String) -> RegistryError {
    RegistryError::Setup {
        reason: format!("{what} {}: {reason}", file.display()),
    }
}

/// The certificates of a PEM file, at least one.
fn certificates(
    what: &str,
    file: &std::path::Path,
) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(what, file, error.to_string()))?;
    match certificates.is_empty() {
        true => Err(unusable(what, file, "no PEM certificate in it".to_owned())),
        false => Ok(certificates),
    }
}

/// TLS for a client that only speaks plain HTTP. It trusts nobody, and costs no reading of
/// the system's roots, which takes longer than a whole request to a registry on this machine.
pub(super) fn unused_config() -> Result<rustls::ClientConfig, RegistryError> {
    with_roots(RootCertStore::empty(), &TlsOptions::default())
}

fn with_roots(
    roots: RootCertStore,
    options: &TlsOptions,
) -> Result<rustls::ClientConfig, RegistryError> {
    // The provider is named here and not installed for the process: a library that sets
    // process-wide state would decide for its callers.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let setup = |error: rustls::Error| RegistryError::Setup {
        reason: format!("TLS: {error}"),
    };
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(setup)?;
    let builder = match options.skip_verify {
        true => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Believing(provider))),
        false => builder.with_root_certificates(roots),
    };
    let mut config = match &options.client {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = certificates("client certificate", &pair.certificate)?;
            let key = PrivateKeyDer::from_pem_file(&pair.key)
                .map_err(|error| unusable("client key", &pair.key, error.to_string()))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                unusable("client certificate", &pair.certificate, error.to_string())
            })?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Believes every certificate: `skip_verify` of a server's own settings. Content is checked by
/// its digest all the same.
#[derive(Debug)]
struct Believing(Arc<CryptoProvider>);

impl ServerCertVerifier for Believing {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_must_hold_a_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty.pem");
        std::fs::write(&empty, "nothing\n").unwrap();
        for file in [empty, dir.path().join("absent.pem")] {
            let error =
                client_config(std::slice::from_ref(&file), &TlsOptions::default()).unwrap_err();
            assert!(
                error.to_string().contains(&file.display().to_string()),
                "{error}"
            );
        }
        assert!(client_config(&[], &TlsOptions::default()).is_ok());
    }
}
