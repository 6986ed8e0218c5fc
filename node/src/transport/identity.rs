//! Who a node is: its certificate, its key, and the authority that both ends of a link trust.
//!
//! A certificate names its node in a URI, `anabranch://CLUSTER/node/ID`, and carries one fixed DNS name beside it,
//! so that rustls' own verifiers check chain and name and no verifier of ours is needed. The URI is checked after
//! the handshake, before a byte is sent.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anabranch_crdt::NodeId;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::transport::tls;

/// The one DNS name that every node's certificate carries and every dialler asks for.
pub const TLS_NAME: &str = "node.anabranch.internal";
/// The longest name of a cluster.
pub const CLUSTER_BYTES_MAX: usize = 64;
/// The largest certificate or key file that is read.
const PEM_BYTES_MAX: u64 = 256 << 10;

const SCHEME: &str = "anabranch://";

/// A node's certificate and key and its cluster's CA, checked against each other.
#[derive(Clone)]
pub struct Identity {
    cluster: String,
    cluster_id: String,
    node: NodeId,
    expires_ms: u64,
    pub(super) roots: Arc<RootCertStore>,
    pub(super) certified: Arc<CertifiedKey>,
}

/// Why certificate files cannot be used. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file could not be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {why}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
}

impl IdentityError {
    fn content(path: &Path, why: impl Into<String>) -> IdentityError {
        IdentityError::Content {
            path: path.to_owned(),
            why: why.into(),
        }
    }
}

impl Identity {
    /// Reads a node's certificate and key and the CA's certificate, and checks that they belong together.
    ///
    /// ```
    /// use anabranch::NodeId;
    /// use anabranch::transport::{Identity, ca};
    ///
    /// # let dir = std::env::temp_dir().join(format!("anabranch-doc-identity-{}", std::process::id()));
    /// # let _ = std::fs::remove_dir_all(&dir);
    /// ca::init(&dir.join("ca"), "shop")?;
    /// ca::issue(&dir.join("ca"), NodeId(7), &dir.join("node"), &ca::IssueOptions::default())?;
    /// let node = dir.join("node");
    /// let identity = Identity::load(&node.join("ca.pem"), &node.join("node.pem"), &node.join("node.key"))?;
    /// assert_eq!((identity.cluster(), identity.node()), ("shop", NodeId(7)));
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The file that cannot be read or does not fit the others, and what to do about it.
    pub fn load(ca: &Path, cert: &Path, key: &Path) -> Result<Identity, IdentityError> {
        let (roots, cluster_id) = read_roots(ca)?;
        let roots = Arc::new(roots);
        let chain = read_certificates(cert)?;
        let keys = read_keys(key)?;
        let leaf = Leaf::parse(&chain[0]).map_err(|why| IdentityError::content(cert, why))?;
        let (cluster, node) = leaf.member.ok_or_else(|| {
            let why = "no name of the form anabranch://CLUSTER/node/ID in it: issue it with `cert issue`";
            IdentityError::content(cert, why)
        })?;
        let provider = tls::provider();
        // More than one, where `cert issue` has ended between them and their certificate.
        let fits = |key| CertifiedKey::from_der(chain.clone(), key, &provider);
        let mut fitting = keys.into_iter().map(fits);
        let first = fitting
            .next()
            .unwrap_or_else(|| unreachable!("a file without a key is refused"));
        let certified = first.or_else(|e| fitting.find_map(Result::ok).ok_or(e));
        let certified = certified.map_err(|e| {
            let why = format!(
                "does not fit the certificate {} ({e}): issue both anew",
                cert.display()
            );
            IdentityError::content(key, why)
        })?;
        verify(&roots, &chain).map_err(|e| {
            let why = why_not_now(&e).unwrap_or_else(|| {
                format!(
                    "not valid under the CA {} ({e}): issue it anew with `cert issue`",
                    ca.display()
                )
            });
            IdentityError::content(cert, why)
        })?;
        Ok(Identity {
            cluster,
            cluster_id,
            node,
            expires_ms: leaf.expires_ms,
            roots,
            certified: Arc::new(certified),
        })
    }

    /// The cluster that the certificate names.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// What tells clusters of one name apart: the first 16 bytes of the SHA-256 of the CA's public key (its
    /// SubjectPublicKeyInfo), as 32 hexadecimal digits. Of several CAs in the file the first one counts.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The node that the certificate names.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// When the certificate ends, in milliseconds since 1970.
    pub fn expires_ms(&self) -> u64 {
        self.expires_ms
    }
}

impl fmt::Debug for Identity {
    /// Leaves the key out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("cluster", &self.cluster)
            .field("node", &self.node)
            .field("expires_ms", &self.expires_ms)
            .finish_non_exhaustive()
    }
}

/// From when until when a certificate is valid, milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From then on.
    pub from_ms: u64,
    /// When it ends.
    pub until_ms: u64,
}

impl Validity {
    /// Of a certificate that is valid already.
    pub fn until(until_ms: u64) -> Validity {
        Validity { from_ms: 0, until_ms }
    }

    /// A certificate's own. Those that it is issued by may end sooner, which says little: clients know others of the same name.
    ///
    /// # Errors
    /// It is no certificate.
    pub fn of(der: &CertificateDer<'_>) -> Result<Validity, String> {
        let (_, cert) = X509Certificate::from_der(der).map_err(|e| format!("not a certificate ({e})"))?;
        Ok(Validity::read(&cert))
    }

    fn read(cert: &X509Certificate<'_>) -> Validity {
        let ms = |time: ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0).saturating_mul(1000);
        Validity {
            from_ms: ms(cert.validity().not_before),
            until_ms: ms(cert.validity().not_after),
        }
    }
}

/// What we read from a certificate.
pub(super) struct Leaf {
    /// Cluster and node, if it is a node's.
    pub(super) member: Option<(String, NodeId)>,
    /// The cluster, if it is an authority's.
    pub(super) authority: Option<String>,
    /// Its SubjectPublicKeyInfo, in DER.
    pub(super) public_key: Vec<u8>,
    expires_ms: u64,
}

impl Leaf {
    pub(super) fn parse(der: &CertificateDer<'_>) -> Result<Leaf, String> {
        let (_, cert) = X509Certificate::from_der(der).map_err(|e| format!("not a certificate ({e})"))?;
        let names = cert
            .subject_alternative_name()
            .map_err(|e| format!("unreadable names ({e})"))?;
        let uris: Vec<&str> = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| {
                if let GeneralName::URI(uri) = name {
                    Some(*uri)
                } else {
                    None
                }
            })
            .collect();
        // Two of our names in one certificate would make its holder two nodes.
        let member = match uris[..] {
            [uri] => parse_member(uri),
            _ => None,
        };
        let authority = match uris[..] {
            [uri] => parse_authority(uri),
            _ => None,
        };
        Ok(Leaf {
            member,
            authority,
            public_key: cert.public_key().raw.to_vec(),
            expires_ms: Validity::read(&cert).until_ms,
        })
    }
}

/// The URI that names a node in its certificate.
pub(super) fn member_uri(cluster: &str, node: NodeId) -> String {
    format!("{SCHEME}{cluster}/node/{node}")
}

/// The URI that names a cluster in its authority's certificate.
pub(super) fn authority_uri(cluster: &str) -> String {
    format!("{SCHEME}{cluster}/ca")
}

fn parse_member(uri: &str) -> Option<(String, NodeId)> {
    let (cluster, node) = uri.strip_prefix(SCHEME)?.split_once("/node/")?;
    check_cluster(cluster).ok()?;
    // One spelling per id: `from_str` alone might take others.
    let node: NodeId = node.parse().ok().filter(|id: &NodeId| id.to_string() == node)?;
    Some((cluster.to_owned(), node))
}

fn parse_authority(uri: &str) -> Option<String> {
    let cluster = uri.strip_prefix(SCHEME)?.strip_suffix("/ca")?;
    check_cluster(cluster).ok()?;
    Some(cluster.to_owned())
}

/// Whether a cluster may be called so: it stands in URIs and file names.
///
/// ```
/// use anabranch::transport::check_cluster;
///
/// assert!(check_cluster("shop-eu.1").is_ok());
/// assert!(check_cluster("shop/eu").is_err());
/// ```
///
/// # Errors
/// What a cluster's name must look like.
pub fn check_cluster(cluster: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    if cluster.is_empty() || cluster.len() > CLUSTER_BYTES_MAX || !cluster.bytes().all(plain) {
        return Err(format!(
            "{cluster:?} cannot name a cluster: 1 to {CLUSTER_BYTES_MAX} lower-case letters, digits, '-', '_', '.'"
        ));
    }
    Ok(())
}

fn read_pem(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let read = |error| IdentityError::Read {
        path: path.to_owned(),
        error,
    };
    let bytes = fs::metadata(path).map_err(read)?.len();
    if bytes > PEM_BYTES_MAX {
        return Err(IdentityError::content(
            path,
            format!("{bytes} bytes are too many for a PEM file"),
        ));
    }
    fs::read(path).map_err(read)
}

/// A private key in a file of its own.
pub(crate) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    read_keys(path).map(|mut keys| keys.swap_remove(0))
}

/// The private keys in a file: one at least.
fn read_keys(path: &Path) -> Result<Vec<PrivateKeyDer<'static>>, IdentityError> {
    let pem = read_pem(path)?;
    let keys = PrivateKeyDer::pem_slice_iter(&pem).map_while(Result::ok);
    let keys: Vec<_> = keys.collect();
    if !keys.is_empty() {
        return Ok(keys);
    }
    let key = PrivateKeyDer::from_pem_slice(&pem).map(|key| vec![key]);
    key.map_err(|e| {
        let why = match is_encrypted(&pem) {
            true => format!(
                "the private key is encrypted, and nobody is there to type its passphrase when a node starts: decrypt it with \
                 `openssl pkey -in {} -out PLAIN.key`, let the node alone read that (chmod 600), and name it instead",
                path.display()
            ),
            false => format!("not a private key in PEM ({e})"),
        };
        IdentityError::content(path, why)
    })
}

/// Whether that is why there is no key to be found in it: PKCS#8 says so in its label, what OpenSSL wrote before in a header.
fn is_encrypted(pem: &[u8]) -> bool {
    let has = |what: &[u8]| pem.windows(what.len()).any(|bytes| bytes == what);
    has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED")
}

/// The certificates in a file: one at least.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let pem = read_pem(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates =
        certificates.map_err(|e| IdentityError::content(path, format!("not a certificate in PEM ({e})")))?;
    if certificates.is_empty() {
        return Err(IdentityError::content(path, "no certificate in it"));
    }
    Ok(certificates)
}

/// The node that a certificate names, valid or not.
#[cfg(feature = "daemon")]
pub(crate) fn named_in(path: &Path) -> Result<NodeId, IdentityError> {
    let chain = read_certificates(path)?;
    let leaf = Leaf::parse(&chain[0]).map_err(|why| IdentityError::content(path, why))?;
    let none = || IdentityError::content(path, "it names no node");
    leaf.member.map(|(_, node)| node).ok_or_else(none)
}

/// The authorities in a file, and what tells the first one from any other.
fn read_roots(path: &Path) -> Result<(RootCertStore, String), IdentityError> {
    let mut roots = RootCertStore::empty();
    let certificates = read_certificates(path)?;
    let id = key_id(&certificates[0]).map_err(|why| IdentityError::content(path, why))?;
    for certificate in certificates {
        let added = roots.add(certificate);
        added.map_err(|e| IdentityError::content(path, format!("not usable as a CA ({e})")))?;
    }
    Ok((roots, id))
}

/// See [`Identity::cluster_id`].
fn key_id(der: &CertificateDer<'_>) -> Result<String, String> {
    const BYTES: usize = 16;
    let (_, cert) = X509Certificate::from_der(der).map_err(|e| format!("not a certificate ({e})"))?;
    let suite = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let Some(suite) = suite.tls13() else {
        unreachable!("a suite of TLS 1.3");
    };
    let hash = suite.common.hash_provider.hash(cert.public_key().raw);
    Ok(hash.as_ref()[..BYTES]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect())
}

/// Where a certificate is not valid at this time: what the clock says, and what to do. One that is not valid yet was hardly
/// made in the future: there the clock comes first.
fn why_not_now(error: &rustls::Error) -> Option<String> {
    let shown = |time: &UnixTime| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        ASN1Time::from_timestamp(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
    };
    match error {
        rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => {
            let (now, from) = (shown(time), shown(not_before));
            Some(format!(
                "this machine's clock says {now}, and the certificate is valid from {from} on: set the clock; if it is \
                 right, issue the certificate anew with `cert issue`"
            ))
        }
        rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => {
            let (now, end) = (shown(time), shown(not_after));
            Some(format!(
                "the certificate expired on {end}, and this machine's clock says {now}: issue it anew with `cert issue`, or \
                 set the clock if that is wrong"
            ))
        }
        _ => None,
    }
}

/// What a dialler will check of this certificate, checked before anyone dials.
fn verify(roots: &Arc<RootCertStore>, chain: &[CertificateDer<'static>]) -> Result<(), rustls::Error> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), tls::provider())
        .build()
        .map_err(|e| rustls::Error::General(e.to_string()))?;
    let name = ServerName::try_from(TLS_NAME).map_err(|e| rustls::Error::General(e.to_string()))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(now);
    verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], now)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_clock_that_is_behind_is_named_before_the_certificate_is_blamed() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let why = |error| why_not_now(&rustls::Error::InvalidCertificate(error)).unwrap();
        let early = why(CertificateError::NotValidYetContext {
            time: at(1_000_000_000),
            not_before: at(1_750_000_000),
        });
        assert!(
            early.starts_with("this machine's clock says Sep  9") && early.contains("2025"),
            "{early}"
        );
        let late = why(CertificateError::ExpiredContext {
            time: at(1_750_000_000),
            not_after: at(1_000_000_000),
        });
        assert!(late.starts_with("the certificate expired on Sep  9"), "{late}");
        assert_eq!(
            why_not_now(&rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer
            )),
            None
        );
    }
}
