//! TLS at the ingress: what it shows of itself, and the beginning of a connection.
//!
//! TLS 1.3 alone; a browser and a client of gRPC choose HTTP/2 or HTTP/1.1 as they begin. Clients show no certificate.
//!
//! Contract: files that do not fit together are refused before anything is served, by name. Files that are others later are shown
//! to whoever connects then, once they fit together; until then what was read last is. Whether it is valid now is not asked here:
//! whoever runs the node is told of that (`daemon`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::error::{Error, ErrorKind};
use crate::transport::{Validity, provider, read_certificates, read_key};

/// What is spoken within, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A connection that begins has the files looked at, and so has whoever asks how long they are valid, but not more often than this.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A certificate, its key, and how they are used.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ServerConfig>,
    renewed: Arc<Renewed>,
}

/// A connection, encrypted.
pub(super) type Encrypted = TlsStream<TcpStream>;

impl Tls {
    /// By two files in PEM: a certificate, with those that it is issued by behind it, and its private key.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: the file that cannot be read, is none of these, or does not fit the other.
    pub fn load(certificate: &Path, key: &Path) -> Result<Tls, Error> {
        let files = Files {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        };
        let stamps = files.stamps();
        let (certified, validity) = files.read()?;
        let shown = Shown {
            certified,
            validity,
            stamps,
            looked: Instant::now(),
        };
        let renewed = Arc::new(Renewed {
            files,
            shown: Mutex::new(shown),
        });
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| invalid(e.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(renewed.clone());
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Tls {
            config: Arc::new(config),
            renewed,
        })
    }

    /// From when until when the certificate is valid that is shown now.
    pub fn validity(&self) -> Validity {
        self.renewed.now().validity
    }

    /// Where the certificate is read from.
    pub fn certificate(&self) -> &Path {
        &self.renewed.files.certificate
    }

    /// Begins with a connection.
    ///
    /// # Errors
    /// That took too long, or he speaks something else.
    pub(super) async fn begin(
        &self,
        stream: TcpStream,
        deadline: tokio::time::Instant,
    ) -> io::Result<Encrypted> {
        let accepting = TlsAcceptor::from(Arc::clone(&self.config)).accept(stream);
        timeout_at(deadline, accepting).await?
    }
}

/// Where a certificate and its key are.
#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// By what a file is recognised as another than before: when it was written, and its length.
type Stamp = Option<(SystemTime, u64)>;

impl Files {
    fn read(&self) -> Result<(Arc<CertifiedKey>, Validity), Error> {
        let chain = read_certificates(&self.certificate).map_err(|e| invalid(e.to_string()))?;
        let private = read_key(&self.key).map_err(|e| invalid(e.to_string()))?;
        let validity = Validity::of(&chain[0])
            .map_err(|why| invalid(format!("{}: {why}", self.certificate.display())))?;
        let certified = CertifiedKey::from_der(chain, private, &provider()).map_err(|e| {
            let (key, certificate) = (self.key.display(), self.certificate.display());
            invalid(format!("{key}: does not fit the certificate {certificate} ({e})"))
        })?;
        Ok((Arc::new(certified), validity))
    }

    fn stamps(&self) -> [Stamp; 2] {
        [&self.certificate, &self.key].map(|path| {
            let about = fs::metadata(path).ok()?;
            Some((about.modified().ok()?, about.len()))
        })
    }
}

/// What is shown to whoever connects: the files as they are, if they fit together.
#[derive(Debug)]
struct Renewed {
    files: Files,
    shown: Mutex<Shown>,
}

#[derive(Debug)]
struct Shown {
    certified: Arc<CertifiedKey>,
    validity: Validity,
    /// The files' when they were read last.
    stamps: [Stamp; 2],
    looked: Instant,
}

impl Renewed {
    /// What is shown now: the files are looked at.
    fn now(&self) -> MutexGuard<'_, Shown> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.looked.elapsed() >= LOOK_INTERVAL {
            shown.looked = Instant::now();
            let stamps = self.files.stamps();
            if stamps != shown.stamps {
                // Also where it fails: it is read again once the files are others again.
                shown.stamps = stamps;
                match self.files.read() {
                    Ok((certified, validity)) => {
                        tracing::info!(certificate = %self.files.certificate.display(), "the ingress has a new certificate");
                        (shown.certified, shown.validity) = (certified, validity);
                    }
                    Err(error) => tracing::error!("the ingress keeps the certificate that it has: {error}"),
                }
            }
        }
        shown
    }
}

impl ResolvesServerCert for Renewed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.now().certified))
    }
}

fn invalid(why: String) -> Error {
    Error::new(ErrorKind::Invalid, why)
}
