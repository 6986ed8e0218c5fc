//! A bare quinn connection of one stream, to measure a node beside.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Whom the certificate is for.
const NAME: &str = "bench";

/// A server's and its client's configuration.
pub fn configurations() -> (quinn::ServerConfig, quinn::ClientConfig) {
    let key = rcgen::generate_simple_self_signed(vec![NAME.into()]).unwrap();
    let cert = CertificateDer::from(key.cert.der().to_vec());
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.clone()], private)
        .unwrap();
    let server = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server).unwrap()));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert).unwrap();
    let client = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).unwrap()));
    (server, client)
}

/// A connection and its stream.
type Connected = (Connection, (SendStream, RecvStream));

/// The server's side of the next connection, whose address it tells.
pub async fn accepted(server: quinn::ServerConfig, tell: &Sender<SocketAddr>) -> Connected {
    let endpoint = Endpoint::server(server, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    tell.send(endpoint.local_addr().unwrap()).unwrap();
    let connection = endpoint.accept().await.unwrap().await.unwrap();
    let stream = connection.accept_bi().await.unwrap();
    (connection, stream)
}

/// The client's side of one.
pub async fn connected(client: quinn::ClientConfig, server: SocketAddr) -> Connected {
    let mut endpoint = Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    endpoint.set_default_client_config(client);
    let connection = endpoint.connect(server, NAME).unwrap().await.unwrap();
    let stream = connection.open_bi().await.unwrap();
    (connection, stream)
}

/// On a runtime of its own.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
