//! Whoever else may dial a node: with what certificate they like, saying what they like.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anabranch::transport::{ALPN, PROTOCOL_VERSION, TLS_NAME};
use anabranch::wire::Lane;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::PATIENCE;

/// What a dialler was given until the node closed the connection.
#[derive(Debug)]
pub struct Got {
    /// Bytes on any stream.
    pub bytes: usize,
    /// Frames that carry application bytes, counted by the QUIC library.
    pub frames: u64,
    /// How it ended.
    pub end: String,
}

/// Runs a dialler on a runtime of its own.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// How to dial as somebody who believes the CA in `ca` and shows the certificate in the directory `own`, if any.
pub fn dialler(ca: &Path, own: Option<&Path>) -> quinn::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut tls = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let certificate =
                CertificateDer::from_pem_slice(&fs::read(own.join("node.pem")).unwrap()).unwrap();
            let key = PrivateKeyDer::from_pem_file(own.join("node.key")).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    };
    tls.alpn_protocols = vec![ALPN.to_vec()];
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

/// A QUIC endpoint that only dials.
pub fn endpoint() -> quinn::Endpoint {
    quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap()
}

/// Dials, says `words` on a stream, and takes all there is until the node closes the connection.
pub fn dial(at: SocketAddr, config: quinn::ClientConfig, words: &[u8]) -> Got {
    block_on(async {
        match endpoint().connect_with(config, at, TLS_NAME).unwrap().await {
            Ok(connection) => tokio::time::timeout(PATIENCE, take_all(&connection, words))
                .await
                .unwrap(),
            Err(e) => Got {
                bytes: 0,
                frames: 0,
                end: e.to_string(),
            },
        }
    })
}

async fn take_all(connection: &quinn::Connection, words: &[u8]) -> Got {
    if let Ok(mut stream) = connection.open_uni().await {
        // The node may close before it has read them.
        let _ = stream.write_all(words).await;
    }
    let mut bytes = 0;
    let end = loop {
        tokio::select! {
            stream = connection.accept_uni() => if let Ok(mut stream) = stream {
                bytes += count(&mut stream).await;
            },
            stream = connection.accept_bi() => if let Ok((_, mut stream)) = stream {
                bytes += count(&mut stream).await;
            },
            end = connection.closed() => break end.to_string(),
        }
    };
    let received = connection.stats().frame_rx;
    Got {
        bytes,
        frames: received.stream + received.datagram,
        end,
    }
}

async fn count(stream: &mut quinn::RecvStream) -> usize {
    let mut bytes = 0;
    while let Ok(Some(chunk)) = stream.read_chunk(1 << 16, true).await {
        bytes += chunk.bytes.len();
    }
    bytes
}

/// What a node says first on its control lane: that it is this one, and that its clock shows this.
pub fn hello(node: u128, cluster: &str, wall_ms: u64) -> Vec<u8> {
    let (epoch, capabilities, shards) = (1_u64 << 40, 0_u64, 1_024_u32);
    let addresses: Vec<SocketAddr> = Vec::new();
    let mut body = PROTOCOL_VERSION.to_le_bytes().to_vec();
    body.extend(
        postcard::to_stdvec(&(node, epoch, cluster, capabilities, wall_ms, addresses, shards)).unwrap(),
    );
    let mut out = vec![Lane::Control.id()];
    out.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    // The kind of a hello, and no flags.
    out.extend([0xf0, 0]);
    out.extend(body);
    out
}
