//! The cluster's certificate authority, as files: `ca.pem` and `ca.key` in its directory, and `ca.pem`, `node.pem`
//! and `node.key` in each node's. Keys are readable by their owner alone (mode 0600).
//!
//! Not here: tokens and signing requests; who has `ca.key` issues.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anabranch_crdt::NodeId;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::transport::identity::{Leaf, TLS_NAME, authority_uri, check_cluster, member_uri};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long an authority is good for.
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// So much of a file of keys is kept beside a new one until that has its certificate.
const KEYS_BYTES_MAX: usize = 16 << 10;

/// Why an authority or a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file could not be read or written. Files written before it stay; running the same again is safe.
    #[error("{}: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// There is an authority already; it was left as it is.
    #[error("{} exists: this directory already holds a CA, and replacing it would lock all its nodes out", path.display())]
    Exists {
        /// What was found.
        path: PathBuf,
    },
    /// The authority's files are not what `init` writes.
    #[error("{}: {why}", path.display())]
    Authority {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The cluster cannot be called so.
    #[error("{0}")]
    Cluster(String),
    /// The certificate could not be made.
    #[error("the certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// How a node's certificate is made.
///
/// ```
/// use anabranch::transport::ca::IssueOptions;
///
/// assert_eq!(IssueOptions::default().validity.as_secs(), 365 * 24 * 3600);
/// ```
#[derive(Clone, Debug)]
pub struct IssueOptions {
    /// The cluster it names; the authority's own when absent.
    pub cluster: Option<String>,
    /// How long it is good for, from now on.
    pub validity: Duration,
    /// How far back it is dated, so that a peer whose clock is behind takes it.
    pub backdate: Duration,
}

impl Default for IssueOptions {
    fn default() -> IssueOptions {
        IssueOptions {
            cluster: None,
            validity: 365 * DAY,
            backdate: Duration::from_secs(3600),
        }
    }
}

/// Makes the authority of a new cluster: `ca.pem` and `ca.key` in `dir`, which is created if it is not there. A key that an
/// interrupted run has left without its certificate is used: it has signed nothing yet.
///
/// # Errors
/// [`CaError::Exists`] where there is a `ca.pem`: an authority is never overwritten. [`CaError::Authority`] where a file
/// called `ca.key` is no key.
pub fn init(dir: &Path, cluster: &str) -> Result<(), CaError> {
    check_cluster(cluster).map_err(CaError::Cluster)?;
    make_dir(dir)?;
    let (cert_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
    if cert_path.exists() {
        return Err(CaError::Exists { path: cert_path });
    }
    let key = authority_key(&key_path)?;
    let mut params = CertificateParams::default();
    // Two authorities of one name would make "unknown issuer" read "bad signature"; one of the same key is the same one.
    let tail: String = key
        .public_key_raw()
        .iter()
        .rev()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    params.distinguished_name = name(&format!("anabranch CA of {cluster}, {tail}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![SanType::URI(ia5(&authority_uri(cluster))?)];
    date(&mut params, AUTHORITY_VALIDITY, IssueOptions::default().backdate);
    let cert = params.self_signed(&key)?;
    if publish(&cert_path, cert.pem().as_bytes(), false)? {
        Ok(())
    } else {
        // Another run came first. Its certificate is of the same key.
        Err(CaError::Exists { path: cert_path })
    }
}

/// A new key, or the one that is there: of two runs at once, and after one that was interrupted, there is one key.
fn authority_key(path: &Path) -> Result<KeyPair, CaError> {
    let key = KeyPair::generate()?;
    if publish(path, key.serialize_pem().as_bytes(), true)? {
        return Ok(key);
    }
    KeyPair::from_pem(&read(path)?).map_err(|e| CaError::Authority {
        path: path.to_owned(),
        why: format!(
            "it is there without a ca.pem beside it, and is not a private key in PEM ({e}); move it away"
        ),
    })
}

/// Makes a node's certificate and key: `ca.pem`, `node.pem` and `node.key` in `out_dir`, which is created if it is
/// not there. Files of an earlier one are replaced, each in one step.
///
/// # Errors
/// Where the authority in `ca_dir` is missing or damaged, or a file cannot be written.
pub fn issue(ca_dir: &Path, node: NodeId, out_dir: &Path, options: &IssueOptions) -> Result<(), CaError> {
    let (ca_path, ca_key_path) = (ca_dir.join("ca.pem"), ca_dir.join("ca.key"));
    let ca_pem = read(&ca_path)?;
    let broken = |path: &Path, why: String| CaError::Authority {
        path: path.to_owned(),
        why,
    };
    let ca_key = KeyPair::from_pem(&read(&ca_key_path)?)
        .map_err(|e| broken(&ca_key_path, format!("not a private key in PEM ({e})")))?;
    let der = CertificateDer::from_pem_slice(ca_pem.as_bytes())
        .map_err(|e| broken(&ca_path, format!("not a certificate in PEM ({e})")))?;
    let leaf = Leaf::parse(&der).map_err(|why| broken(&ca_path, why))?;
    if leaf.public_key != ca_key.subject_public_key_info() {
        let ca = ca_path.display();
        let why =
            format!("not the key of {ca}: whatever it signed would be refused; put back the one that is");
        return Err(broken(&ca_key_path, why));
    }
    let authority = leaf.authority;
    let cluster = options.cluster.clone().or(authority).ok_or_else(|| {
        broken(
            &ca_path,
            "names no cluster: it was not made with `ca init`; name the cluster yourself".into(),
        )
    })?;
    check_cluster(&cluster).map_err(CaError::Cluster)?;
    let issuer = Issuer::from_ca_cert_pem(&ca_pem, ca_key).map_err(|e| broken(&ca_path, e.to_string()))?;

    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&format!("anabranch node {node}"));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.subject_alt_names = vec![
        SanType::URI(ia5(&member_uri(&cluster, node))?),
        SanType::DnsName(ia5(TLS_NAME)?),
    ];
    params.use_authority_key_identifier_extension = true;
    date(&mut params, options.validity, options.backdate);
    let cert = params.signed_by(&key, &issuer)?;

    make_dir(out_dir)?;
    replace(&out_dir.join("ca.pem"), ca_pem.as_bytes(), false)?;
    let (key_path, key) = (out_dir.join("node.key"), key.serialize_pem());
    // Whichever certificate is there whenever this ends, its key is, too: the node takes the one that fits.
    let before = fs::read_to_string(&key_path).unwrap_or_default();
    let is_kept = !before.is_empty() && before.len() <= KEYS_BYTES_MAX;
    let both = if is_kept {
        format!("{key}{before}")
    } else {
        key.clone()
    };
    replace(&key_path, both.as_bytes(), true)?;
    replace(&out_dir.join("node.pem"), cert.pem().as_bytes(), false)?;
    if is_kept {
        replace(&key_path, key.as_bytes(), true)?;
    }
    Ok(())
}

fn date(params: &mut CertificateParams, validity: Duration, backdate: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - backdate).into();
    params.not_after = (now + validity).into();
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn ia5(text: &str) -> Result<Ia5String, CaError> {
    Ok(Ia5String::try_from(text)?)
}

fn make_dir(dir: &Path) -> Result<(), CaError> {
    fs::create_dir_all(dir).map_err(|error| CaError::File {
        path: dir.to_owned(),
        error,
    })
}

fn read(path: &Path) -> Result<String, CaError> {
    fs::read_to_string(path).map_err(|error| CaError::File {
        path: path.to_owned(),
        error,
    })
}

/// Creates a file for its owner's eyes only; fails if it exists.
fn secret(path: &Path) -> Result<File, CaError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path).map_err(|error| CaError::File {
        path: path.to_owned(),
        error,
    })
}

fn write(file: &mut File, path: &Path, bytes: &[u8]) -> Result<(), CaError> {
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|error| CaError::File {
        path: path.to_owned(),
        error,
    })
}

/// Makes a whole file where there is none; false where there is one, which stays as it is.
fn publish(path: &Path, bytes: &[u8], is_secret: bool) -> Result<bool, CaError> {
    let failed = |error| CaError::File {
        path: path.to_owned(),
        error,
    };
    let temporary = write_beside(
        path,
        &format!(".{:016x}", rand::random::<u64>()),
        bytes,
        is_secret,
    )?;
    // A link, unlike a rename, never replaces.
    let linked = fs::hard_link(&temporary, path);
    let made = match &linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        // A file system without links: two runs at once are not told apart there.
        Err(_) if path.exists() => Ok(false),
        Err(_) => fs::rename(&temporary, path).map(|()| true).map_err(failed),
    };
    // Gone already if it was renamed.
    let _ = fs::remove_file(&temporary);
    made
}

/// Puts a whole file in place of what is there: readers see the old one or the new one.
fn replace(path: &Path, bytes: &[u8], is_secret: bool) -> Result<(), CaError> {
    let temporary = write_beside(path, ".new", bytes, is_secret)?;
    fs::rename(&temporary, path).map_err(|error| CaError::File {
        path: path.to_owned(),
        error,
    })
}

/// Writes a file beside the one it is to become.
fn write_beside(path: &Path, ending: &str, bytes: &[u8], is_secret: bool) -> Result<PathBuf, CaError> {
    let failed = |error| CaError::File {
        path: path.to_owned(),
        error,
    };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(ending);
    let temporary = PathBuf::from(temporary);
    // Left over from a run that was killed; nobody reads it.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file = if is_secret {
        secret(&temporary)?
    } else {
        File::create_new(&temporary).map_err(failed)?
    };
    write(&mut file, &temporary, bytes)?;
    Ok(temporary)
}
