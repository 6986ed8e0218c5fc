//! From a QUIC connection to a link: certificate, hellos, admission.
//!
//! The dialler says hello first, and only while it has no other link to that peer; who accepts answers only when
//! it has admitted the connection. So the dialler's link is up exactly when the other side's was, and a stranger
//! never gets a byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anabranch_crdt::{Epoch, NodeId};
use quinn::{Connection, ConnectionError, Incoming, SendStream, WriteError};
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;

use crate::transport::Hello;
use crate::transport::admit::Offer;
use crate::transport::event::{CloseCode, Event, newer_epoch_in};
use crate::transport::frame::{Fault, Header, KIND_HELLO, Reader, encode, seal};
use crate::transport::hello::Refusal;
use crate::transport::identity::{Leaf, TLS_NAME};
use crate::transport::limits::HELLO_BYTES_MAX;
use crate::transport::link::{canonical, close, open_lane};
use crate::transport::net::Net;
use crate::wire::Lane;

/// What came of a dial.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Dialled {
    /// The link with this peer is up.
    Linked(NodeId),
    /// This peer answers there, and a link with it is up or about to be.
    Known(NodeId),
    /// This node itself answers there.
    Myself,
}

/// Why there is no link.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody answered, or the network broke: trying again may help.
    Unreachable(String),
    /// One of the two nodes does not want the other; told to both.
    Refused {
        peer: Option<NodeId>,
        code: Option<CloseCode>,
        why: String,
    },
    /// The peer says that it knows a newer epoch of this node. The other way round it is a refusal like any other: what is known
    /// here of the peer's epochs says nothing about this node's.
    Outdated { by: NodeId, newest: Epoch },
}

/// Dials an address and waits until the link is up.
pub(super) async fn dial(net: &Arc<Net>, address: SocketAddr) -> Result<Dialled, Failure> {
    let Some(endpoint) = net.endpoint() else {
        return Err(Failure::Unreachable("this node has closed its socket".into()));
    };
    let connecting = endpoint
        .connect_with(net.client.clone(), address, TLS_NAME)
        .map_err(|e| Failure::Unreachable(e.to_string()))?;
    let mut connection = None;
    let within = async {
        let connected = connecting.await.map_err(|e| failure(None, e))?;
        dialled(net, connection.insert(connected)).await
    };
    let outcome = timeout(net.limits.handshake_timeout, within).await;
    let outcome = outcome.unwrap_or_else(|_| Err(Failure::Unreachable("no answer in time".into())));
    if let (Err(error), Some(connection)) = (&outcome, &connection) {
        close_failed(connection, error);
    }
    if let Err(failure) = &outcome {
        tell(net, address, failure);
    }
    outcome
}

/// Says what became of a dial, as loud as somebody has to act on it.
fn tell(net: &Net, address: SocketAddr, failure: &Failure) {
    match failure {
        Failure::Outdated { by, newest } if *newest > net.epoch => {
            tracing::warn!(%address, peer = %by, %newest, "the peer knows a newer epoch of this node");
            net.emit(Event::Outdated {
                by: *by,
                newest: *newest,
            });
        }
        Failure::Outdated { by, newest } => {
            tracing::debug!(%address, peer = %by, %newest, "the peer speaks of an epoch that is over");
        }
        Failure::Refused { peer, code, why } if code.is_none_or(CloseCode::is_refusal) => {
            tracing::debug!(%address, peer = peer.map(tracing::field::display), why, "refused");
            net.emit(Event::Refused {
                peer: *peer,
                address,
                reason: why.clone(),
            });
        }
        Failure::Refused { why, .. } | Failure::Unreachable(why) => {
            tracing::debug!(%address, why, "dial failed")
        }
    }
}

async fn dialled(net: &Arc<Net>, connection: &Connection) -> Result<Dialled, Failure> {
    let peer = certified(net, connection)?;
    if peer == net.me {
        close(connection, CloseCode::Myself, "this node dialled itself");
        return Ok(Dialled::Myself);
    }
    let Some(_asking) = Asking::new(net, peer) else {
        close(
            connection,
            CloseCode::Duplicate,
            "a link between these two nodes is up",
        );
        return Ok(Dialled::Known(peer));
    };
    let control_out = say_hello(net, connection)
        .await
        .map_err(|e| failure(Some(peer), e))?;
    let (hello, control_in) = hear_hello(net, connection, peer).await?;
    let offer = Offer {
        epoch: hello.epoch,
        dialler: net.me,
    };
    match net.admit(offer, hello, connection) {
        Ok(link) => net.run(link, Some(control_out), control_in),
        // The peer's own connection came first.
        Err(refusal) if refusal.code == CloseCode::Duplicate => {
            close(connection, refusal.code, &refusal.why);
            return Ok(Dialled::Known(peer));
        }
        Err(refusal) => return Err(refused(Some(peer), refusal)),
    }
    Ok(Dialled::Linked(peer))
}

/// Meets one incoming connection.
pub(super) async fn accept(net: Arc<Net>, incoming: Incoming) {
    let address = canonical(incoming.remote_address());
    let mut connection = None;
    let within = async {
        let connecting = incoming.accept().map_err(|e| failure(None, e))?;
        let connected = connecting.await.map_err(|e| failure(None, e))?;
        accepted(&net, connection.insert(connected)).await
    };
    let outcome = timeout(net.limits.handshake_timeout, within).await;
    let outcome = outcome.unwrap_or_else(|_| Err(Failure::Unreachable("no hello in time".into())));
    let Err(error) = outcome else { return };
    if let Some(connection) = &connection {
        close_failed(connection, &error);
    }
    net.counters.connections_refused.fetch_add(1, Ordering::Relaxed);
    // Only who holds a certificate of our CA gets our attention; anybody can knock.
    match error {
        Failure::Refused {
            peer,
            code: Some(code),
            why,
        } if code.is_refusal() => {
            tracing::debug!(%address, peer = peer.map(tracing::field::display), why, "refused");
            net.emit(Event::Refused {
                peer,
                address,
                reason: why,
            });
        }
        error => tracing::debug!(%address, ?error, "no link came of an incoming connection"),
    }
}

async fn accepted(net: &Arc<Net>, connection: &Connection) -> Result<(), Failure> {
    let peer = certified(net, connection)?;
    if peer == net.me {
        return Err(refused(
            Some(peer),
            Refusal::new(CloseCode::Myself, "this node dialled itself"),
        ));
    }
    let (hello, control_in) = hear_hello(net, connection, peer).await?;
    let offer = Offer {
        epoch: hello.epoch,
        dialler: peer,
    };
    let link = net
        .admit(offer, hello, connection)
        .map_err(|refusal| refused(Some(peer), refusal))?;
    net.run(link, None, control_in);
    Ok(())
}

/// The node that the peer's certificate names, if it is one of this cluster.
fn certified(net: &Net, connection: &Connection) -> Result<NodeId, Failure> {
    let stranger = |why: String| refused(None, Refusal::new(CloseCode::WrongCluster, why));
    let chain = connection
        .peer_identity()
        .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let Some(leaf) = chain.as_ref().and_then(|chain| chain.first()) else {
        return Err(stranger("no certificate".into()));
    };
    let Some((cluster, node)) = Leaf::parse(leaf).map_err(stranger)?.member else {
        return Err(stranger("the certificate names no node of a cluster".into()));
    };
    if cluster != net.hello.cluster {
        return Err(stranger("the certificate is of another cluster".into()));
    }
    Ok(node)
}

async fn say_hello(net: &Net, connection: &Connection) -> Result<SendStream, ConnectionError> {
    let mut chunks = Vec::new();
    encode(vec![seal(KIND_HELLO, &net.hello_now().encode())], &mut chunks);
    let said = async {
        let mut stream = open_lane(connection, Lane::Control).await?;
        stream.write_all_chunks(&mut chunks).await?;
        Ok(stream)
    };
    match said.await {
        Ok(stream) => Ok(stream),
        Err(WriteError::ConnectionLost(error)) => Err(error),
        // The peer stopped the stream: it will close the connection, and say why.
        Err(_) => Err(connection.closed().await),
    }
}

async fn hear_hello(net: &Net, connection: &Connection, peer: NodeId) -> Result<(Hello, Reader), Failure> {
    let broken = |why: &str| refused(Some(peer), Refusal::new(CloseCode::Protocol, why));
    let stream = connection
        .accept_uni()
        .await
        .map_err(|e| failure(Some(peer), e))?;
    let mut reader = Reader::new(stream);
    let read = async {
        let lane = reader.lane_id().await?;
        let header = reader.header().await?;
        let is_hello = |header: &Header| header.kind == KIND_HELLO && header.body_bytes <= HELLO_BYTES_MAX;
        let Some(header) = header.filter(|header| lane == Lane::Control.id() && is_hello(header)) else {
            return Err(Fault::Protocol("the first frame is no hello".into()));
        };
        reader.body(header).await
    };
    let body = match read.await {
        Ok(body) => body,
        Err(Fault::Protocol(why)) => return Err(broken(&why)),
        Err(Fault::Ended) => return Err(failure(Some(peer), connection.closed().await)),
    };
    let hello = Hello::decode(&body).map_err(|refusal| refused(Some(peer), refusal))?;
    net.hello
        .judge(&hello, peer)
        .map_err(|refusal| refused(Some(peer), refusal))?;
    Ok((hello, reader))
}

/// The right to say hello to a peer on a connection we dialled; given back when dropped.
struct Asking<'a> {
    net: &'a Net,
    peer: NodeId,
}

impl Asking<'_> {
    fn new(net: &Net, peer: NodeId) -> Option<Asking<'_>> {
        let may_ask = net.table().ask(peer);
        // Not `then_some`: an `Asking` that is made and dropped would give back another one's right.
        may_ask.then(|| Asking { net, peer })
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.net.table().asked(self.peer);
    }
}

fn close_failed(connection: &Connection, failure: &Failure) {
    match failure {
        Failure::Refused {
            code: Some(code),
            why,
            ..
        } => close(connection, *code, why),
        _ => close(connection, CloseCode::Timeout, "the link did not come up"),
    }
}

fn refused(peer: Option<NodeId>, refusal: Refusal) -> Failure {
    Failure::Refused {
        peer,
        code: Some(refusal.code),
        why: refusal.why,
    }
}

/// What a connection that ended before it was a link says.
fn failure(peer: Option<NodeId>, error: ConnectionError) -> Failure {
    let code_is = |code: quinn::TransportErrorCode| (0x100..0x200).contains(&u64::from(code));
    match &error {
        ConnectionError::ApplicationClosed(closed) => {
            let why = format!("the peer says: {}", String::from_utf8_lossy(&closed.reason));
            match CloseCode::from_wire(closed.error_code.into_inner()) {
                Some(CloseCode::NewerEpoch)
                    if let (Some(by), Some(newest)) = (peer, newer_epoch_in(&why)) =>
                {
                    Failure::Outdated { by, newest }
                }
                code @ Some(_) => Failure::Refused { peer, code, why },
                None => Failure::Unreachable(why),
            }
        }
        // TLS alerts: somebody's certificate did not please.
        ConnectionError::ConnectionClosed(closed) if code_is(closed.error_code) => Failure::Refused {
            peer,
            code: None,
            why: format!("the peer refused our certificate: {error}"),
        },
        ConnectionError::TransportError(inner) if code_is(inner.code) => Failure::Refused {
            peer,
            code: None,
            why: format!("the peer's certificate is not valid here: {error}"),
        },
        _ => Failure::Unreachable(error.to_string()),
    }
}
