//! Certificate roots: the system's, and files of the configuration.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::error::RegistryError;

/// TLS for connections to registries: system roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` are
/// honoured) and the certificates of `ca_files`, HTTP/2 before HTTP/1.1.
///
/// A machine without system roots is no error: it can still reach hosts of `ca_files`.
///
/// # Errors
/// `Setup` when one of `ca_files` cannot be read or holds no certificate.
pub(super) fn client_config(ca_files: &[PathBuf]) -> Result<rustls::ClientConfig, RegistryError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "cannot read some of the system's certificate roots");
    }
    roots.add_parsable_certificates(system.certs);
    for file in ca_files {
        let setup = |reason: String| RegistryError::Setup {
            reason: format!("CA file {}: {reason}", file.display()),
        };
        let certificates = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| setup(error.to_string()))?;
        if certificates.is_empty() {
            return Err(setup("no PEM certificate in it".to_owned()));
        }
        for certificate in certificates {
            roots
                .add(certificate)
                .map_err(|error| setup(error.to_string()))?;
        }
    }
    with_roots(roots)
}

/// TLS for a client that only speaks plain HTTP. It trusts nobody, and costs no reading of
/// the system's roots, which takes longer than a whole request to a registry on this machine.
pub(super) fn unused_config() -> Result<rustls::ClientConfig, RegistryError> {
    with_roots(RootCertStore::empty())
}

fn with_roots(roots: RootCertStore) -> Result<rustls::ClientConfig, RegistryError> {
    // The provider is named here and not installed for the process: a library that sets
    // process-wide state would decide for its callers.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| RegistryError::Setup {
            reason: format!("TLS: {error}"),
        })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
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
            let error = client_config(std::slice::from_ref(&file)).unwrap_err();
            assert!(
                error.to_string().contains(&file.display().to_string()),
                "{error}"
            );
        }
        assert!(client_config(&[]).is_ok());
    }
}
