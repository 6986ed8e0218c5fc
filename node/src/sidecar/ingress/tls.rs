//! TLS at the ingress: what it shows of itself, and the beginning of a connection.
//!
//! TLS 1.3 alone; a browser and a client of gRPC choose HTTP/2 or HTTP/1.1 as they begin. Clients show no certificate.
//!
//! Contract: files that do not fit together are refused before anything is served, by name.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::error::{Error, ErrorKind};
use crate::transport::{provider, read_certificates, read_key};

/// What is spoken within, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A certificate, its key, and how they are used.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ServerConfig>);

/// A connection, encrypted.
pub(super) type Encrypted = BufReader<TlsStream<TcpStream>>;

impl Tls {
    /// By two files in PEM: a certificate, with those that it is issued by behind it, and its private key.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: the file that cannot be read, is none of these, or does not fit the other.
    pub fn load(certificate: &Path, key: &Path) -> Result<Tls, Error> {
        let invalid = |why: String| Error::new(ErrorKind::Invalid, why);
        let chain = read_certificates(certificate).map_err(|e| invalid(e.to_string()))?;
        let private = read_key(key).map_err(|e| invalid(e.to_string()))?;
        let provider = provider();
        let certified = CertifiedKey::from_der(chain, private, &provider).map_err(|e| {
            let (key, certificate) = (key.display(), certificate.display());
            invalid(format!("{key}: does not fit the certificate {certificate} ({e})"))
        })?;
        let certified: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(certified));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| invalid(e.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(certified);
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Tls(Arc::new(config)))
    }

    /// Begins with a connection; returns once its client says something within it.
    ///
    /// # Errors
    /// That took too long, or he speaks something else.
    pub(super) async fn begin(&self, stream: TcpStream, within: Duration) -> io::Result<Encrypted> {
        let beginning = async {
            let encrypted = TlsAcceptor::from(Arc::clone(&self.0)).accept(stream).await?;
            let mut encrypted = BufReader::new(encrypted);
            encrypted.fill_buf().await?;
            Ok(encrypted)
        };
        timeout(within, beginning).await?
    }
}
