//! The ingress over TLS: what it shows, what is spoken within, and which files it does not take.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prost_reflect::DescriptorPool;
use rcgen::{CertificateParams, CertifiedKey, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use super::ingress::own;
use super::support::cluster::Cluster;
use super::support::grpc::Grpc;
use super::support::{exit, http, ports, wait_for};

/// The name in the certificate, and what asks by it.
const NAME: &str = "shop.internal";
/// A key with the passphrase "x", as PKCS#8 has it, and as OpenSSL wrote such before.
pub const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAhQn1Gh7ne6VAICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEECvlW8TpX9ku2Pvj7arI9CAEgZDE
fXhJamlpwmyW9/LnhAwvMAMb1mB0J3hqTGDACdYKTgAEeshu8LZuUD4Q+GFbyiWp
bVbEeKPn6M/fbOBGI286zC9YTqk9S/iEpcupToUDgoeuWVp9v6xmd1/l7ra73E0R
KlnQkIinGsBl+X4Hu77+UDQqyP8O5SNpvajmHGjBwOVjk+pa+ra7PfIDYRvkRoc=
-----END ENCRYPTED PRIVATE KEY-----
";
const ENCRYPTED_OF_OLD: &str = "-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,2F7162983E4898C8B9E9BC293C5938BD

Ib1TXHWau1S0PBCE2TfO1wbdKFqSopnQ6mv34H0mDD3obqLfPm++EOb+ClEMwx5R
AbOFiSFjxsOHEvxgYroxazo0pYMJ95nNkFQPF3TvuqJjIJO3gJKmzgp+z3zpeLbq
2RfzKWCm4VinTziLLM+Ndv4YHDXqZY123qaDZcvhobk=
-----END EC PRIVATE KEY-----
";
const NOT_SERVING: &str = "NOT_SERVING";

/// A node with an ingress, in front of a function that never comes.
struct Encrypted {
    cluster: Cluster,
    ingress: SocketAddr,
    certificate: CertificateDer<'static>,
}

fn prepare(name: &str) -> Encrypted {
    prepare_with(name, made())
}

/// A certificate for about ever, and its key.
fn made() -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap()
}

/// One that is valid so many days from now on until so many days from now.
fn made_for(days: std::ops::Range<i64>) -> CertifiedKey<KeyPair> {
    let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
    let in_days = |days: i64| {
        let away = Duration::from_secs(days.unsigned_abs() * 24 * 3_600);
        let now = SystemTime::now();
        if days < 0 { now - away } else { now + away }
    };
    params.not_before = in_days(days.start).into();
    params.not_after = in_days(days.end).into();
    let signing_key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&signing_key).unwrap();
    CertifiedKey { cert, signing_key }
}

/// Puts one where the ingress reads it: its key first, which does not fit what is there until the certificate is, too.
fn write(cluster: &Cluster, made: &CertifiedKey<KeyPair>) {
    cluster.dir.write("n1/shop.key", made.signing_key.serialize_pem());
    cluster.dir.write("n1/shop.pem", made.cert.pem());
}

fn prepare_with(name: &str, made: CertifiedKey<KeyPair>) -> Encrypted {
    let cluster = Cluster::prepare(name, 1);
    let ingress = ports::take();
    write(&cluster, &made);
    let sections = format!(
        "[function]\naddress = \"{}\"\n[ingress]\nlisten = \"{ingress}\"\ncertificate = \"shop.pem\"\nkey = \"shop.key\"\n\
         [http]\n",
        ports::take()
    );
    cluster.nodes[0].configure("[http]\n", &sections);
    Encrypted {
        cluster,
        ingress,
        certificate: made.cert.der().clone(),
    }
}

impl Encrypted {
    /// A client that speaks this within.
    fn client(&self, protocol: &[u8]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }

    /// Asks over HTTP/1.1 and reads everything.
    fn ask(&self, headers: &str) -> String {
        self.try_ask(headers).unwrap()
    }

    fn try_ask(&self, headers: &str) -> io::Result<String> {
        let name = ServerName::try_from(NAME).unwrap();
        let connection = ClientConnection::new(self.client(b"http/1.1"), name).unwrap();
        let stream = TcpStream::connect(self.ingress)?;
        let mut stream = StreamOwned::new(connection, stream);
        let request = format!("GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n{headers}\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        Ok(answer)
    }
}

#[test]
fn callers_come_over_tls_in_either_protocol() {
    let mut at = prepare("tls");
    at.cluster.start_all();
    let pool: DescriptorPool = own();
    let mut client = Grpc::connect_tls(at.ingress, &pool, at.client(b"h2"), NAME);
    let health = client.call("grpc.health.v1.Health/Check", json!({"service": ""}));
    assert_eq!(health, json!({"status": NOT_SERVING}));
    let probe = "k-network-probe: queue";
    let answer = at.ask(probe);
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nqueue"),
        "{answer}"
    );
    // A page of this name is one of the ingress: the certificate says so.
    for (origin, status) in [
        (format!("https://{NAME}"), "200"),
        (format!("http://{NAME}"), "403"),
    ] {
        let answer = at.ask(&format!("{probe}\r\norigin: {origin}"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    let plain = http::request(
        &at.ingress.to_string(),
        "GET",
        "/",
        &[("k-network-probe", "queue")],
        "",
    );
    assert!(plain.is_err(), "{plain:?}");
}

#[test]
fn a_renewed_certificate_is_shown_to_whoever_connects_then() {
    let mut at = prepare("tls-renewed");
    at.cluster.start_all();
    let probe = "k-network-probe: queue";
    at.ask(probe);
    let renewed = made();
    // Between the two files they do not fit: what was shown before is.
    at.cluster
        .dir
        .write("n1/shop.key", renewed.signing_key.serialize_pem());
    let kept = "the ingress keeps the certificate that it has";
    wait_for("the node to say that it keeps what it has", || {
        at.ask(probe);
        let said = at.cluster.nodes[0].process().stderr.text();
        said.contains(kept).then_some(())
    });
    at.ask(probe);
    at.cluster.dir.write("n1/shop.pem", renewed.cert.pem());
    at.certificate = renewed.cert.der().clone();
    wait_for("the new certificate", || at.try_ask(probe).ok());
}

/// What is known of the certificate at the ingress: in the status, of a program and for people, and its end by `/metrics`.
fn known(at: &Encrypted) -> (Value, String, Option<u64>) {
    let node = &at.cluster.nodes[0];
    let said = node.run(["status"]).done();
    let metrics = http::get(&node.http, "/metrics").unwrap().body;
    let name = "\nanabranch_ingress_certificate_expiry_timestamp_seconds ";
    let ends = metrics.split_once(name).map(|(_, rest)| {
        let line = rest.lines().next().unwrap();
        line.parse().unwrap()
    });
    (node.status()["ingress_certificate"].clone(), said, ends)
}

#[test]
fn a_certificate_that_ends_soon_is_spoken_of_as_the_nodes_is() {
    let mut at = prepare_with("tls-ends", made_for(-1..3));
    at.cluster.start_all();
    let said = at.cluster.nodes[0]
        .process()
        .stderr
        .until("the ingress's certificate ends");
    assert!(
        said.contains("WARN") && said.contains("in 2 days") && said.contains("n1/shop.pem"),
        "{said}"
    );
    let (status, people, ends) = known(&at);
    assert!(people.contains("ingress certificate  ends 2"), "{people}");
    assert_eq!(ends, status["expires_ms"].as_u64().map(|ms| ms / 1_000));
    let life = status["expires_ms"].as_u64().unwrap() - status["valid_from_ms"].as_u64().unwrap();
    assert_eq!(life, 4 * 24 * 3_600 * 1_000);

    // A file that is over or early takes the place of one that is valid, since it is what there is: not without a word.
    for (days, words) in [
        (-3..-1, "the ingress's certificate ended 2"),
        (1..90, "the ingress's certificate is not valid before 2"),
    ] {
        let renewed = made_for(days);
        write(&at.cluster, &renewed);
        // Nobody has connected.
        let said = at.cluster.nodes[0].process().stderr.until(words);
        assert!(said.contains("ERROR"), "{said}");
        let (_, people, _) = known(&at);
        assert!(
            people.contains(words.trim_start_matches("the ingress's certificate ")),
            "{people}"
        );
    }
    // Of one that is good for long there is nothing to say, but to programs.
    let renewed = made();
    write(&at.cluster, &renewed);
    wait_for("the new certificate", || {
        let (_, people, ends) = known(&at);
        let is_quiet = !people.contains("certificate");
        (is_quiet && ends.is_some_and(|ends| ends > 60_000_000_000)).then_some(())
    });
}

#[test]
fn one_that_has_ended_is_spoken_of_at_the_start() {
    let mut at = prepare_with("tls-over", made_for(-9..-2));
    at.cluster.start_all();
    let said = at.cluster.nodes[0]
        .process()
        .stderr
        .until("the ingress's certificate ended");
    assert!(
        said.contains("ERROR") && said.contains("callers refuse it"),
        "{said}"
    );
}

#[test]
fn files_that_do_not_fit_are_refused_at_the_start_by_name() {
    let at = prepare("tls-files");
    let node = &at.cluster.nodes[0];
    let good = std::fs::read_to_string(&node.config).unwrap();
    let line = 1 + good
        .lines()
        .position(|line| line.starts_with("certificate"))
        .unwrap();
    let place = format!("{}:{line}: ", node.config.display());
    let other = rcgen::KeyPair::generate().unwrap();
    at.cluster.dir.write("n1/other.key", other.serialize_pem());
    at.cluster.dir.write("n1/empty.pem", "");
    at.cluster.dir.write("n1/locked.key", ENCRYPTED);
    at.cluster.dir.write("n1/locked-of-old.key", ENCRYPTED_OF_OLD);
    for (from, to, file) in [
        ("shop.pem", "nowhere.pem", "nowhere.pem"),
        ("shop.pem", "empty.pem", "empty.pem"),
        ("shop.pem", "shop.key", "shop.key"),
        ("shop.key", "shop.pem", "shop.pem"),
        (
            "shop.key",
            "locked.key",
            "locked.key: the private key is encrypted",
        ),
        ("shop.key", "locked-of-old.key", "openssl pkey -in "),
        ("shop.key", "other.key", "other.key: does not fit the certificate"),
    ] {
        std::fs::write(
            &node.config,
            good.replacen(&format!("\"{from}\""), &format!("\"{to}\""), 1),
        )
        .unwrap();
        node.run_to_end().failed(exit::CONFIG, &[&place, file]);
    }
    // Nothing was started, so nothing was made.
    assert!(!node.data().exists());
}
