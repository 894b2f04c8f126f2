//! The HTTP client for DICOMweb nodes.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::PacsError;
use crate::config::PacsSettings;

/// Builds the client: TLS 1.2 and 1.3 by rustls and ring, trusting the system's certificates and
/// the configured ones. A system without certificates can still use plain HTTP.
///
/// # Errors
/// When a configured certificate cannot be read.
pub fn client(settings: &PacsSettings) -> Result<reqwest::Client, PacsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // reqwest looks here when it is asked for a client without a configuration of its own.
    let _ = rustls::crypto::CryptoProvider::install_default((*provider).clone());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &settings.ca_certificates {
        add_configured(&mut roots, path)?;
    }
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(settings.connect_timeout())
        // A node that moved is a matter for the configuration; credentials never follow.
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("seer/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|source| PacsError::Http { node: "(any)".into(), source })
}

fn add_configured(roots: &mut RootCertStore, path: &Path) -> Result<(), PacsError> {
    let failed = |why: String| PacsError::Certificates { path: path.display().to_string(), why };
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
    let mut count = 0;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        roots.add(certificate).map_err(|error| failed(error.to_string()))?;
        count += 1;
    }
    match count {
        0 => Err(failed("it holds no certificate".into())),
        _ => Ok(()),
    }
}
