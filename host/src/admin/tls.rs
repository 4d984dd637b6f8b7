//! The server's certificate, which is read again when its files change.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::config::ServerTls;
use crate::secret::{Stamp, stamp};

/// Files are looked at this often at most.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What accepts TLS, with the certificate that is there now.
pub struct Tls {
    files: ServerTls,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    acceptor: TlsAcceptor,
    stamps: Vec<Option<Stamp>>,
    looked: Instant,
}

impl Tls {
    /// With these files, which must be there.
    pub fn new(files: &ServerTls) -> Result<Self> {
        let stamps = stamps(files);
        let acceptor = load(files).context("the admin server's certificate")?;
        Ok(Tls { files: files.clone(), loaded: Mutex::new(Loaded { acceptor, stamps, looked: Instant::now() }) })
    }

    /// With the certificate of now. One that can't be used is told of, and the one before is kept.
    pub fn acceptor(&self) -> TlsAcceptor {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.looked.elapsed() > LOOK_EVERY {
            loaded.looked = Instant::now();
            let stamps = stamps(&self.files);
            if stamps != loaded.stamps {
                loaded.stamps = stamps;
                match load(&self.files) {
                    Ok(acceptor) => loaded.acceptor = acceptor,
                    Err(error) => {
                        tracing::error!("the admin server's certificate has changed and cannot be used: {error:#}")
                    }
                }
            }
        }
        loaded.acceptor.clone()
    }
}

fn stamps(files: &ServerTls) -> Vec<Option<Stamp>> {
    [&files.cert, &files.key].into_iter().chain(&files.client_ca).map(|path| stamp(path).ok()).collect()
}

fn load(files: &ServerTls) -> Result<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificates = certificates(&files.cert)?;
    let read = PrivateKeyDer::from_pem_file(&files.key);
    let key = read.with_context(|| format!("reading the key {}", files.key.display()))?;
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in self::certificates(ca)? {
                roots.add(certificate).with_context(|| format!("client_ca {}", ca.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(certificates, key).context("the certificate and its key")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>> {
    let describe = || format!("reading the certificate {}", path.display());
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).with_context(describe)?.collect::<Result<_, _>>().with_context(describe)?;
    ensure!(!found.is_empty(), "there is no certificate in {}", path.display());
    Ok(found)
}
