//! How connections are encrypted and paced: the rustls and quinn configurations of a node.
//!
//! TLS 1.3 alone, X25519MLKEM768 first, both sides with certificates, no tickets and no early data: each connection
//! is judged by the certificates as they are.

use std::sync::Arc;

use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{IdleTimeout, MtuDiscoveryConfig, VarInt};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;

use crate::transport::identity::Identity;
use crate::transport::limits::{
    INCOMING_BYTES_MAX, INCOMING_MAX, LINK_WINDOW_BYTES, Limits, SEND_WINDOW_BYTES, STREAM_WINDOW_BYTES,
    STREAMS_MAX,
};
use crate::wire::Lane;

/// What both sides must speak.
pub const ALPN: &[u8] = b"anabranch/1";

/// aws-lc-rs with the post-quantum hybrid offered first.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519];
    Arc::new(CryptoProvider {
        kx_groups,
        ..aws_lc_rs::default_provider()
    })
}

/// What a connection that comes in is met with.
pub(super) fn server(identity: &Identity, limits: &Limits) -> Result<quinn::ServerConfig, String> {
    let verifier = WebPkiClientVerifier::builder_with_provider(identity.roots.clone(), provider())
        .build()
        .map_err(|e| e.to_string())?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| e.to_string())?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified.clone())));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    tls.max_early_data_size = 0;
    let crypto = QuicServerConfig::try_from(tls).map_err(|e| e.to_string())?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(pacing(limits)?))
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES_MAX / INCOMING_MAX as u64)
        .incoming_buffer_size_total(INCOMING_BYTES_MAX);
    Ok(config)
}

/// What this node dials with.
pub(super) fn client(identity: &Identity, limits: &Limits) -> Result<quinn::ClientConfig, String> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| e.to_string())?
        .with_root_certificates(identity.roots.clone())
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified.clone())));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = Resumption::disabled();
    tls.enable_early_data = false;
    let crypto = QuicClientConfig::try_from(tls).map_err(|e| e.to_string())?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(pacing(limits)?));
    Ok(config)
}

fn pacing(limits: &Limits) -> Result<quinn::TransportConfig, String> {
    let idle = IdleTimeout::try_from(limits.idle_timeout).map_err(|e| e.to_string())?;
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(limits.mtu_bytes);
    let mut config = quinn::TransportConfig::default();
    config
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(limits.keep_alive()))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(LINK_WINDOW_BYTES))
        .send_window(u64::from(SEND_WINDOW_BYTES))
        .max_concurrent_uni_streams(VarInt::from_u32(Lane::COUNT as u32))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .datagram_receive_buffer_size(None)
        .mtu_discovery_config(Some(discovery))
        .congestion_controller_factory(Arc::new(CubicConfig::default()))
        .enable_segmentation_offload(true);
    Ok(config)
}
