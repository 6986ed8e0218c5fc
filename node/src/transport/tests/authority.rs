//! Certificates, keys and the files they are in.

use std::path::Path;

use super::*;
use crate::transport::check_cluster;
use crate::transport::identity::{authority_uri, member_uri};

fn load(dir: &Path) -> Result<Identity, String> {
    Identity::load(&dir.join("ca.pem"), &dir.join("node.pem"), &dir.join("node.key"))
        .map_err(|e| e.to_string())
}

fn issue(bed: &Bed, node: u128, options: &ca::IssueOptions) -> PathBuf {
    let out = bed.dir.join(format!("n{node}"));
    ca::issue(&bed.dir.join("ca"), NodeId(node), &out, options).unwrap();
    out
}

#[test]
fn an_authority_is_never_overwritten() {
    let bed = Bed::new("shop");
    let ca_dir = bed.dir.join("ca");
    let before = std::fs::read(ca_dir.join("ca.key")).unwrap();
    let again = ca::init(&ca_dir, "shop").unwrap_err();
    assert!(
        matches!(&again, ca::CaError::Exists { path } if path.ends_with("ca.pem")),
        "{again}"
    );
    assert_eq!(std::fs::read(ca_dir.join("ca.key")).unwrap(), before);
    assert_eq!(
        std::fs::read_dir(&ca_dir).unwrap().count(),
        2,
        "nothing else is left"
    );
}

#[test]
fn a_key_that_is_not_the_authoritys_signs_nothing() {
    let (bed, other) = (Bed::new("shop"), Bed::new("shop"));
    let default = ca::IssueOptions::default();
    let out = issue(&bed, 1, &default);
    let before = std::fs::read(out.join("node.pem")).unwrap();
    let key = std::path::Path::new("ca/ca.key");
    std::fs::copy(other.dir.join(key), bed.dir.join(key)).unwrap();
    let refused = ca::issue(&bed.dir.join("ca"), NodeId(1), &out, &default).unwrap_err();
    assert!(refused.to_string().contains("ca.key"), "{refused}");
    assert_eq!(std::fs::read(out.join("node.pem")).unwrap(), before);
    load(&out).unwrap();
}

#[test]
fn a_key_that_was_replaced_before_its_certificate_locks_nobody_out() {
    let bed = Bed::new("shop");
    let default = ca::IssueOptions::default();
    let out = issue(&bed, 1, &default);
    let keys = || std::fs::read_to_string(out.join("node.key")).unwrap();
    let first = keys();
    // It ends between the two.
    let in_the_way = out.join("node.pem.new");
    std::fs::create_dir(&in_the_way).unwrap();
    let cut = ca::issue(&bed.dir.join("ca"), NodeId(1), &out, &default).unwrap_err();
    assert!(cut.to_string().contains("node.pem"), "{cut}");
    assert!(keys().ends_with(&first) && keys() != first);
    load(&out).unwrap();
    // And once the certificate is there, before the key alone is.
    std::fs::remove_dir(&in_the_way).unwrap();
    issue(&bed, 1, &default);
    load(&out).unwrap();
    let last = keys();
    assert_eq!(last.matches("BEGIN PRIVATE KEY").count(), 1);
    std::fs::write(out.join("node.key"), format!("{last}{first}")).unwrap();
    load(&out).unwrap();
    std::fs::write(out.join("node.key"), &first).unwrap();
    let error = load(&out).unwrap_err();
    assert!(error.contains("does not fit the certificate"), "{error}");
}

#[test]
fn an_authority_that_was_half_made_is_finished() {
    let bed = Bed::new("shop");
    let ca_dir = bed.dir.join("ca");
    let before = std::fs::read(ca_dir.join("ca.key")).unwrap();
    let a = bed.node(1, 1);
    std::fs::remove_file(ca_dir.join("ca.pem")).unwrap();
    ca::init(&ca_dir, "shop").unwrap();
    assert_eq!(std::fs::read(ca_dir.join("ca.key")).unwrap(), before);
    // Had it been whole and in use, it would be the same one still.
    let b = bed.node(2, 1);
    a.dial(&b);
    b.connected(a.id(), 1);

    std::fs::remove_file(ca_dir.join("ca.pem")).unwrap();
    std::fs::write(ca_dir.join("ca.key"), "no key").unwrap();
    let error = ca::init(&ca_dir, "shop").unwrap_err();
    assert!(
        matches!(&error, ca::CaError::Authority { path, .. } if path.ends_with("ca.key")),
        "{error}"
    );
    assert_eq!(std::fs::read(ca_dir.join("ca.key")).unwrap(), b"no key");
}

#[test]
fn of_two_that_make_an_authority_at_once_one_wins() {
    let bed = Bed::new("shop");
    let dir = bed.dir.join("contested");
    let made: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| ca::init(&dir, "shop"))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1, "{made:?}");
    ca::issue(&dir, NodeId(1), &bed.dir.join("n"), &ca::IssueOptions::default()).unwrap();
    load(&bed.dir.join("n")).unwrap();
}

#[cfg(unix)]
#[test]
fn keys_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let bed = Bed::new("shop");
    let node = issue(&bed, 1, &ca::IssueOptions::default());
    for key in [bed.dir.join("ca/ca.key"), node.join("node.key")] {
        assert_eq!(
            std::fs::metadata(&key).unwrap().permissions().mode() & 0o777,
            0o600,
            "{}",
            key.display()
        );
    }
    let files: Vec<_> = std::fs::read_dir(&node)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(files.len(), 3, "{files:?}");
}

#[test]
fn an_identity_is_what_its_certificate_says() {
    let bed = Bed::new("shop-1.eu");
    let node = issue(&bed, 0xbeef, &ca::IssueOptions::default());
    let identity = load(&node).unwrap();
    assert_eq!(
        (identity.cluster(), identity.node()),
        ("shop-1.eu", NodeId(0xbeef))
    );
    let days = (identity.expires_ms() - crate::transport::hello::wall_ms()) / 86_400_000;
    assert!((364..=365).contains(&days), "{days}");
    // Nodes of one authority have one cluster, and another authority's of the same name another.
    let sibling = load(&issue(&bed, 0xcafe, &ca::IssueOptions::default())).unwrap();
    assert_eq!(sibling.cluster_id(), identity.cluster_id());
    assert!(
        identity.cluster_id().len() == 32 && identity.cluster_id().bytes().all(|b| b.is_ascii_hexdigit()),
        "{}",
        identity.cluster_id()
    );
    let namesake = Bed::new("shop-1.eu");
    let stranger = load(&issue(&namesake, 0xbeef, &ca::IssueOptions::default())).unwrap();
    assert_ne!(stranger.cluster_id(), identity.cluster_id());
    // The key never shows.
    let shown = format!("{identity:?}");
    assert!(
        shown.contains("shop-1.eu") && !shown.to_lowercase().contains("key"),
        "{shown}"
    );
    // Issued anew at the same place: the old files are replaced.
    let other = load(&issue(&bed, 0xbeef, &ca::IssueOptions::default())).unwrap();
    assert_eq!(other.node(), identity.node());
}

#[test]
fn files_that_do_not_belong_together_are_named() {
    let bed = Bed::new("shop");
    let (one, two) = (
        issue(&bed, 1, &ca::IssueOptions::default()),
        issue(&bed, 2, &ca::IssueOptions::default()),
    );
    std::fs::copy(two.join("node.key"), one.join("node.key")).unwrap();
    let why = load(&one).unwrap_err();
    assert!(why.contains("node.key") && why.contains("does not fit"), "{why}");

    let other = Bed::new("shop");
    std::fs::copy(other.dir.join("ca/ca.pem"), two.join("ca.pem")).unwrap();
    let why = load(&two).unwrap_err();
    assert!(
        why.contains("node.pem") && why.contains("not valid under the CA"),
        "{why}"
    );

    std::fs::write(one.join("node.pem"), "not this").unwrap();
    assert!(load(&one).unwrap_err().contains("node.pem"));
    std::fs::remove_file(one.join("ca.pem")).unwrap();
    assert!(load(&one).unwrap_err().contains("ca.pem"));
    // The authority's own certificate names no node.
    std::fs::copy(bed.dir.join("ca/ca.pem"), one.join("ca.pem")).unwrap();
    std::fs::copy(bed.dir.join("ca/ca.pem"), one.join("node.pem")).unwrap();
    assert!(load(&one).unwrap_err().contains("anabranch://CLUSTER/node/ID"));
}

#[test]
fn a_certificate_out_of_date_is_not_loaded() {
    let bed = Bed::new("shop");
    let node = issue(&bed, 1, &ca::IssueOptions::default());
    let read = |path: &str| std::fs::read_to_string(bed.dir.join(path)).unwrap();
    let ca_key = rcgen::KeyPair::from_pem(&read("ca/ca.key")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("ca/ca.pem"), ca_key).unwrap();
    let mut params = rcgen::CertificateParams::new([crate::transport::TLS_NAME.to_owned()]).unwrap();
    params.subject_alt_names.push(rcgen::SanType::URI(
        member_uri("shop", NodeId(1)).try_into().unwrap(),
    ));
    let now = std::time::SystemTime::now();
    params.not_before = (now - Duration::from_secs(7200)).into();
    params.not_after = (now - Duration::from_secs(3600)).into();
    let key = rcgen::KeyPair::from_pem(&read("n1/node.key")).unwrap();
    std::fs::write(
        node.join("node.pem"),
        params.signed_by(&key, &issuer).unwrap().pem(),
    )
    .unwrap();
    let why = load(&node).unwrap_err();
    assert!(why.contains("expired") && why.contains("cert issue"), "{why}");
}

#[test]
fn names_are_checked() {
    let bad = ["", "Shop", "a/b", "a b", "ümlaut", &"x".repeat(65)];
    for cluster in bad {
        assert!(check_cluster(cluster).is_err(), "{cluster:?}");
    }
    assert!(check_cluster(&"x".repeat(64)).is_ok());
    assert_eq!(
        member_uri("shop", NodeId(0xab)),
        "anabranch://shop/node/000000000000000000000000000000ab"
    );
    assert_eq!(authority_uri("shop"), "anabranch://shop/ca");
}
