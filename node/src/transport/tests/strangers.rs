//! Who is not of the cluster gets nothing past the handshake, whichever side dials.

use super::*;
use crate::transport::{ALPN, TLS_NAME, tls};

/// What a stranger was given: bytes on any stream, and how its connection ended.
struct Got {
    bytes: usize,
    end: String,
}

/// Reads all there is until the connection ends; opens a stream of its own and knocks.
async fn take_all(connection: quinn::Connection) -> Got {
    if let Ok(mut stream) = connection.open_uni().await {
        let _ = stream.write_all(&[0, 1, 2, 3]).await;
    }
    let mut bytes = 0;
    let end = loop {
        tokio::select! {
            stream = connection.accept_uni() => if let Ok(mut stream) = stream {
                bytes += stream.read_to_end(1 << 20).await.map_or(0, |read| read.len());
            },
            stream = connection.accept_bi() => if let Ok((_, mut stream)) = stream {
                bytes += stream.read_to_end(1 << 20).await.map_or(0, |read| read.len());
            },
            error = connection.closed() => break error.to_string(),
        }
    };
    Got { bytes, end }
}

fn client_config(tls: rustls::ClientConfig) -> quinn::ClientConfig {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    quinn::ClientConfig::new(Arc::new(crypto))
}

/// Dials the node as somebody.
fn knock(at: SocketAddr, config: quinn::ClientConfig) -> Got {
    block_on(async {
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        match endpoint.connect_with(config, at, TLS_NAME).unwrap().await {
            // In TLS 1.3 the dialler is done before the other side has judged it.
            Ok(connection) => tokio::time::timeout(PATIENCE, take_all(connection))
                .await
                .unwrap(),
            Err(error) => Got {
                bytes: 0,
                end: error.to_string(),
            },
        }
    })
}

/// A member is linked with throughout; the stranger ends with `end` and nothing.
#[track_caller]
fn check(bed: &Bed, config: quinn::ClientConfig, end: &str) {
    let (a, b) = pair(bed);
    let got = knock(a.address(), config);
    assert_eq!(got.bytes, 0);
    assert!(got.end.contains(end), "{}", got.end);
    assert!(
        !got.end.contains("shop"),
        "a stranger learns the cluster's name: {}",
        got.end
    );
    assert_eq!(b.send(a.id(), 10, Lane::Push, b"still here"), Sent::Queued);
    assert_eq!(&a.frame(Lane::Push)[..], b"still here");
    assert_eq!(a.transport.links().len(), 1);
}

#[test]
fn without_a_certificate() {
    let bed = Bed::new("shop");
    let mut tls = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(bed.identity(1).roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    check(&bed, client_config(tls), "certificate");
}

#[test]
fn with_a_certificate_of_another_authority() {
    let (bed, other) = (Bed::new("shop"), Bed::new("shop"));
    let mut theirs = other.identity(3);
    // It trusts this cluster, which does not trust it.
    theirs.roots = bed.identity(1).roots;
    check(
        &bed,
        tls::client(&theirs, &Limits::default()).unwrap(),
        "UnknownIssuer",
    );
}

#[test]
fn with_a_certificate_of_another_cluster_of_the_same_authority() {
    let bed = Bed::new("shop");
    let options = ca::IssueOptions {
        cluster: Some("bank".into()),
        ..ca::IssueOptions::default()
    };
    let theirs = bed.identity_as(3, &options);
    check(
        &bed,
        tls::client(&theirs, &Limits::default()).unwrap(),
        "another cluster",
    );
}

#[test]
fn without_our_protocol_name() {
    let bed = Bed::new("shop");
    let identity = bed.identity(3);
    let mut tls = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(identity.roots.clone())
        .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity.certified)));
    tls.alpn_protocols = vec![b"h3".to_vec()];
    check(&bed, client_config(tls), "known protocol");
}

/// A node dials a stranger that plays a node.
fn dialled_by_a_node(bed: &Bed, theirs: &Identity) -> (Got, String) {
    let node = bed.node(1, 1);
    let got = block_on(async {
        let config = tls::server(theirs, &Limits::default()).unwrap();
        let endpoint = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        node.transport
            .set_seeds(vec![endpoint.local_addr().unwrap().to_string()]);
        let incoming = tokio::time::timeout(PATIENCE, endpoint.accept())
            .await
            .unwrap()
            .unwrap();
        match incoming.accept().unwrap().await {
            Ok(connection) => tokio::time::timeout(PATIENCE, take_all(connection))
                .await
                .unwrap(),
            Err(error) => Got {
                bytes: 0,
                end: error.to_string(),
            },
        }
    });
    (got, node.refused())
}

#[test]
fn a_node_that_dials_a_stranger_tells_it_nothing() {
    let (bed, other) = (Bed::new("shop"), Bed::new("shop"));
    let mut theirs = other.identity(3);
    theirs.roots = bed.identity(1).roots;
    let (got, refused) = dialled_by_a_node(&bed, &theirs);
    assert_eq!(got.bytes, 0);
    assert!(refused.contains("not valid here"), "{refused}");
}

#[test]
fn a_node_that_dials_another_cluster_tells_it_nothing() {
    let bed = Bed::new("shop");
    let options = ca::IssueOptions {
        cluster: Some("bank".into()),
        ..ca::IssueOptions::default()
    };
    let (got, refused) = dialled_by_a_node(&bed, &bed.identity_as(3, &options));
    assert_eq!(got.bytes, 0);
    assert!(got.end.contains("another cluster"), "{}", got.end);
    assert!(refused.contains("another cluster"), "{refused}");
}
