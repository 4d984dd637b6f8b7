//! TLS before a port that has none.

use std::net::Ipv4Addr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;

use crate::servers::certificates;

/// Takes connections of TLS, by the certificates of [`certificates`], and passes on what is in them. Dropped, it ends.
pub struct Tls {
    pub port: u16,
    _runtime: Runtime,
}

impl Tls {
    /// Before that port. Clients may have to have a certificate, too.
    pub fn start(upstream: u16, asks_clients: bool) -> Tls {
        Tls::start_at(Ipv4Addr::LOCALHOST, upstream, asks_clients)
    }

    /// The same at another address of this machine, which the certificate doesn't have.
    pub fn start_at(address: Ipv4Addr, upstream: u16, asks_clients: bool) -> Tls {
        let acceptor = TlsAcceptor::from(Arc::new(config(asks_clients)));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_io().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind((address, 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut client = acceptor.accept(client).await?;
                    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).await?;
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Tls { port, _runtime: runtime }
    }
}

fn config(asks_clients: bool) -> ServerConfig {
    let files = certificates();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match asks_clients {
        false => builder.with_no_client_auth(),
        true => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(&files.ca).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = CertificateDer::pem_file_iter(&files.server).unwrap().map(Result::unwrap).collect();
    builder.with_single_cert(chain, PrivateKeyDer::from_pem_file(&files.server_key).unwrap()).unwrap()
}
