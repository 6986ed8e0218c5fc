//! The least that QUIC costs: one stream of quinn's, and who sends back what comes.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::Semaphore;

use super::Far;
use crate::measure::{IN_FLIGHT, Rate, Threads, one_by_one_async, polled};
use crate::ours::SAID;

const NAME: &str = "compare";
const ANYWHERE: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
/// More than 64 that are under way.
const CHUNK_BYTES_MAX: usize = 16 << 10;

/// Echoes each connection's first stream. Its certificate is left in the directory.
pub fn far(dir: &Path) -> JoinHandle<()> {
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        Threads::One.runtime().block_on(async {
            let endpoint = Endpoint::server(server(&dir), SocketAddr::from(ANYWHERE)).unwrap();
            println!("{}", endpoint.local_addr().unwrap());
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(async move { echo(incoming.await.unwrap()).await });
            }
        });
    })
}

async fn echo(connection: Connection) {
    let (mut send, mut receive) = connection.accept_bi().await.unwrap();
    while let Ok(Some(chunk)) = receive.read_chunk(CHUNK_BYTES_MAX, true).await {
        send.write_chunk(chunk.bytes).await.unwrap();
    }
}

fn server(dir: &Path) -> quinn::ServerConfig {
    let own = rcgen::generate_simple_self_signed(vec![NAME.into()]).unwrap();
    fs::write(dir.join("cert.der"), own.cert.der()).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    let tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()))
}

fn client(dir: &Path) -> quinn::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    let cert = fs::read(dir.join("cert.der")).unwrap();
    roots.add(CertificateDer::from(cert)).unwrap();
    let tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

async fn connect(dir: &Path, far: &Far) -> (Endpoint, SendStream, RecvStream) {
    let mut endpoint = Endpoint::client(SocketAddr::from(ANYWHERE)).unwrap();
    endpoint.set_default_client_config(client(dir));
    let connecting = endpoint.connect(far.address.parse().unwrap(), NAME).unwrap();
    let (send, receive) = connecting.await.unwrap().open_bi().await.unwrap();
    (endpoint, send, receive)
}

/// One at a time.
pub fn p50(dir: &Path, far: &Far) -> f64 {
    Threads::One.runtime().block_on(async {
        let (_endpoint, mut send, mut receive) = connect(dir, far).await;
        let mut heard = SAID;
        one_by_one_async(async || {
            send.write_all(SAID.as_flattened()).await.unwrap();
            receive.read_exact(heard.as_flattened_mut()).await.unwrap();
            assert_eq!(heard, SAID);
        })
        .await
    })
}

/// 64 under way on the one stream.
pub fn rate(dir: &Path, far: &Far) -> Rate {
    polled(&Threads::One.runtime(), &[far.id()], async |load| {
        let (_endpoint, mut send, mut receive) = connect(dir, far).await;
        let free = Arc::new(Semaphore::new(IN_FLIGHT));
        let (told, heard_by) = (Arc::clone(&load), Arc::clone(&free));
        let hearing = tokio::spawn(async move {
            let mut heard = SAID;
            while receive.read_exact(heard.as_flattened_mut()).await.is_ok() {
                heard_by.add_permits(1);
                told.add(0, 1);
            }
        });
        while load.goes_on() {
            free.acquire().await.unwrap().forget();
            send.write_all(SAID.as_flattened()).await.unwrap();
        }
        send.finish().unwrap();
        hearing.await.unwrap();
    })
}
