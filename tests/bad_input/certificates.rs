//! Certificates that are missing, damaged, or do not fit together.

use std::fs;

use crate::support::cluster::{Cluster, node_id};
use crate::support::command::{anabranch, make_authority};
use crate::support::{exit, http};
use crate::tls::ENCRYPTED;

#[test]
fn a_missing_certificate_is_an_error_with_the_commands_that_make_one() {
    let cluster = Cluster::prepare("no-certificate", 1);
    let node = &cluster.nodes[0];
    node.configure("[http]", "[identity]\ncertificate = \"nobody.pem\"\n[http]");
    let place = format!("{}:9: ", node.config.display());
    // Its cluster is there: another CA would be another cluster.
    let said = [&*place, "nobody.pem", "anabranch cert issue --ca", "--force"];
    let ended = node.run_to_end();
    assert!(!ended.stderr.contains("ca init"), "{ended}");
    ended.failed(exit::IDENTITY, &said);
    fs::remove_file(node.config.with_file_name("ca.pem")).unwrap();
    let said = ["ca.pem", "anabranch ca init --dir", "anabranch cert issue --ca"];
    node.run_to_end().failed(exit::IDENTITY, &said);
}

#[test]
fn certificates_that_do_not_fit_together_are_refused() {
    let cluster = Cluster::prepare("bad-certificate", 2);
    let node = &cluster.nodes[0];
    let home = node.config.parent().unwrap();
    let other = cluster.nodes[1].config.parent().unwrap();
    let swap = |name: &str, from: &std::path::Path| {
        let own = fs::read(home.join(name)).unwrap();
        fs::copy(from, home.join(name)).unwrap();
        let ended = node.run_to_end();
        fs::write(home.join(name), own).unwrap();
        ended
    };
    swap("node.key", &other.join("node.key")).failed(exit::IDENTITY, &["node.key", "does not fit"]);
    let garbage = cluster.dir.write(
        "garbage.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    swap("node.pem", &garbage).failed(exit::IDENTITY, &["node.pem"]);
    swap("node.key", &garbage).failed(exit::IDENTITY, &["node.key"]);
    let locked = cluster.dir.write("locked.key", ENCRYPTED);
    let said = ["node.key: the private key is encrypted", "openssl pkey -in"];
    swap("node.key", &locked).failed(exit::IDENTITY, &said);
    let ca = cluster.dir.join("other-ca");
    make_authority(&ca, "bad-certificate");
    swap("ca.pem", &ca.join("ca.pem")).failed(exit::IDENTITY, &["not valid under the CA"]);
    node.configure("cluster = \"bad-certificate\"", "cluster = \"another\"");
    node.run_to_end()
        .failed(exit::IDENTITY, &["another", "bad-certificate"]);
    assert!(!node.data().exists());
}

#[test]
fn an_authority_is_made_once() {
    let cluster = Cluster::prepare("ca-twice", 1);
    let ca = cluster.dir.join("ca");
    let key = fs::read(ca.join("ca.key")).unwrap();
    let path = ca.to_str().unwrap();
    anabranch(["ca", "init", "--dir", path, "--cluster", "ca-twice"])
        .failed(exit::IDENTITY, &["ca.pem", "already holds a CA"]);
    assert_eq!(fs::read(ca.join("ca.key")).unwrap(), key);
    let other = cluster.dir.join("other");
    anabranch([
        "ca",
        "init",
        "--dir",
        other.to_str().unwrap(),
        "--cluster",
        "Not A Name",
    ])
    .failed(exit::USAGE, &["Not A Name", "lower-case"]);
    anabranch(["ca", "init", "--cluster", ""]).failed(exit::USAGE, &["lower-case"]);
    let nowhere = cluster.dir.join("nowhere");
    let (from, to) = (nowhere.to_str().unwrap(), other.to_str().unwrap());
    anabranch(["cert", "issue", "--ca", from, "--out", to])
        .failed(exit::IDENTITY, &["nowhere/ca.pem", "anabranch ca init --dir"]);
    assert!(!other.exists());
    #[cfg(unix)]
    for secret in [
        ca.join("ca.key"),
        cluster.nodes[0].config.with_file_name("node.key"),
    ] {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(
            fs::metadata(&secret).unwrap().permissions().mode() & 0o777,
            0o600,
            "{}",
            secret.display()
        );
    }
}

#[test]
fn an_identity_is_not_replaced_by_accident() {
    let cluster = Cluster::prepare("cert-twice", 1);
    let ca = cluster.dir.join("ca");
    let home = cluster.nodes[0].config.parent().unwrap();
    let files = || ["ca.pem", "node.pem", "node.key"].map(|name| fs::read(home.join(name)).unwrap());
    let before = files();
    let issue = [
        "cert",
        "issue",
        "--ca",
        ca.to_str().unwrap(),
        "--out",
        home.to_str().unwrap(),
    ];
    let said = ["node.key", "holds an identity", "--force"];
    anabranch(issue).failed(exit::IDENTITY, &said);
    assert!(files() == before);
    let config = home.join("node.toml");
    let edited = fs::read(&config).unwrap();
    let said = anabranch(issue.iter().chain(&["--force"])).done();
    assert!(files()[1..] != before[1..]);
    // It stays the node that it was, and its configuration, too.
    assert!(said.contains(&format!("Node {:032x}: ", node_id(0))), "{said}");
    assert!(
        said.contains("stays as it is") && !said.contains("default"),
        "{said}"
    );
    assert!(fs::read(&config).unwrap() == edited);
    fs::rename(home.join("node.pem"), home.join("away.pem")).unwrap();
    let before = fs::read(home.join("node.key")).unwrap();
    anabranch(issue.iter().chain(&["--force"])).failed(exit::IDENTITY, &["node.key", "--node ID"]);
    fs::write(home.join("node.pem"), "nothing of the kind").unwrap();
    anabranch(issue.iter().chain(&["--force"])).failed(exit::IDENTITY, &["node.pem", "--node ID"]);
    assert!(fs::read(home.join("node.key")).unwrap() == before);

    // Nor does a node's key get beside that of the CA.
    let there = format!("{}/../ca", home.display());
    let beside = ["cert", "issue", "--ca", issue[3], "--out", &there, "--force"];
    anabranch(beside).failed(exit::USAGE, &["the CA's own directory", "ca.key"]);
    assert!(!ca.join("node.key").exists());

    // The CA of another cluster beside no node's certificate is in the way too; one's own is not.
    let other = cluster.dir.join("other");
    make_authority(&other, "another");
    let out = cluster.dir.join("out");
    fs::create_dir(&out).unwrap();
    fs::copy(other.join("ca.pem"), out.join("ca.pem")).unwrap();
    let issue = [
        "cert",
        "issue",
        "--ca",
        ca.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ];
    anabranch(issue).failed(exit::IDENTITY, &["out/ca.pem", "--force"]);
    fs::copy(ca.join("ca.pem"), out.join("ca.pem")).unwrap();
    anabranch(issue).done();
}

#[test]
fn a_certificate_that_ends_soon_is_spoken_of() {
    let mut cluster = Cluster::prepare("cert-ends", 2);
    let (ca, home) = (cluster.dir.join("ca"), cluster.nodes[0].config.parent().unwrap());
    let (ca, home) = (ca.to_str().unwrap(), home.to_str().unwrap());
    let id = format!("{:032x}", node_id(0));
    let issue = [
        "cert", "issue", "--ca", ca, "--out", home, "--node", &id, "--force",
    ];
    anabranch(issue.iter().chain(&["--days", "7"])).done();
    cluster.start_all();
    let line = cluster.nodes[0]
        .process()
        .stderr
        .until("this node's certificate ends");
    assert!(line.contains("WARN") && line.contains("in 6 days"), "{line}");
    let said = |i: usize| cluster.nodes[i].run(["status"]).done();
    assert!(said(0).contains("certificate  ends 2"), "{}", said(0));
    // Of one that is good for a year there is nothing to say, but to programs.
    assert!(!said(1).contains("certificate"), "{}", said(1));
    for node in cluster.faces() {
        let ends_ms = node.status()["certificate_expires_ms"].as_u64().unwrap();
        let metrics = http::get(&node.http, "/metrics").unwrap().body;
        let line = format!(
            "\nanabranch_certificate_expiry_timestamp_seconds {}\n",
            ends_ms / 1_000
        );
        assert!(metrics.contains(&line), "{metrics}");
    }
    let log = cluster.nodes[1].process().stderr.text();
    assert!(!log.contains("certificate"), "{log}");
}

#[cfg(unix)]
#[test]
fn a_key_that_everybody_can_read_is_warned_of_once() {
    use std::os::unix::fs::PermissionsExt;
    let mut cluster = Cluster::prepare("open-key", 2);
    let key = cluster.nodes[0].config.with_file_name("node.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    cluster.start_all();
    cluster.nodes[0]
        .process()
        .stderr
        .until("node.key can be read by everybody");
    let mut said = |i: usize| {
        let log = cluster.nodes[i].process().stderr.text();
        log.matches("can be read by everybody").count()
    };
    assert_eq!((said(0), said(1)), (1, 0));
}
