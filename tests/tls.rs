//! The ingress over TLS: what it shows, what is spoken within, and which files it does not take.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use prost_reflect::DescriptorPool;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

use super::ingress::own;
use super::support::cluster::Cluster;
use super::support::grpc::Grpc;
use super::support::{exit, http, ports, wait_for};

/// The name in the certificate, and what asks by it.
const NAME: &str = "shop.internal";
const NOT_SERVING: &str = "NOT_SERVING";

/// A node with an ingress, in front of a function that never comes.
struct Encrypted {
    cluster: Cluster,
    ingress: SocketAddr,
    certificate: CertificateDer<'static>,
}

fn prepare(name: &str) -> Encrypted {
    let cluster = Cluster::prepare(name, 1);
    let ingress = ports::take();
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    cluster.dir.write("n1/shop.pem", made.cert.pem());
    cluster.dir.write("n1/shop.key", made.signing_key.serialize_pem());
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
    let renewed = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
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
    for (from, to, file) in [
        ("shop.pem", "nowhere.pem", "nowhere.pem"),
        ("shop.pem", "empty.pem", "empty.pem"),
        ("shop.pem", "shop.key", "shop.key"),
        ("shop.key", "shop.pem", "shop.pem"),
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
