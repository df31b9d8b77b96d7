//! TLS: whom to trust.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fred::rustls::crypto::ring;
use fred::rustls::pki_types::CertificateDer;
use fred::rustls::pki_types::pem::PemObject;
use fred::rustls::{ClientConfig, RootCertStore};
use fred::rustls_native_certs::load_native_certs;
use fred::types::config::{TlsConfig, TlsConnector};

use crate::classify::{Failure, Trouble};

/// What TLS is to be used with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    Off,
    /// Trusts who the system trusts.
    System,
    /// Trusts who these certificates have signed, and nobody else.
    Authority(PathBuf),
}

impl Tls {
    /// As fred wants it. Reads files.
    pub(crate) fn to_config(&self) -> Result<Option<TlsConfig>, Failure> {
        let roots = match self {
            Self::Off => return Ok(None),
            Self::System => system_roots()?,
            Self::Authority(path) => roots_of(path)?,
        };
        // Named, and not the process's default: another crate may bring a second provider, and then there is none.
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(format!("TLS cannot be used: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Some(TlsConnector::from(config).into()))
    }
}

fn system_roots() -> Result<RootCertStore, Failure> {
    let found = load_native_certs();
    let mut roots = RootCertStore::empty();
    // One certificate that cannot be read makes the others no worse.
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        return Err(refused(format!("the system has no trusted certificates: {:?}", found.errors)));
    }
    Ok(roots)
}

fn roots_of(path: &Path) -> Result<RootCertStore, Failure> {
    let bad = |error: String| refused(format!("{} has no usable certificates: {error}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))? {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() { Err(bad("the file has none".into())) } else { Ok(roots) }
}

fn refused(text: String) -> Failure {
    Failure::new(Trouble::Refused, text)
}
