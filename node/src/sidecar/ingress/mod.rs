//! The ingress: where a function's callers come in, over gRPC, gRPC-web, or HTTP with JSON, at one port.
//!
//! Not here: what a call does (`driver`). Contract: connections, messages and their bytes in memory are bounded; what is asked of a function that is not
//! here goes to the nearest node where it is. A browser's foreign page is refused, whichever way and by whatever name it asks.

mod bodies;
mod call;
mod count;
mod fits;
mod grpc;
mod health;
mod json;
mod origins;
mod prompt;
mod reflect;
mod rest;
mod shown;
mod streams;
mod tls;
mod web;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tonic::body::Body;

use self::call::Caller;
pub use self::count::Requests;
use self::origins::Origins;
use self::prompt::Prompt;
pub use self::tls::Tls;
use super::discovery::Serving;
use super::reflection::{HEALTH, SERVICES};
use super::{Config, told};
use crate::node::Node;

/// How long calls under way may take to end once the node stops.
const DRAIN: Duration = Duration::from_secs(10);
/// How long a connection may take to say what it speaks, and then how long a request's head may.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A caller that is not heard of for so long is gone.
const ALIVE_EVERY: Duration = Duration::from_secs(30);
/// After a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Calls on one connection at a time.
const STREAMS_MAX: u32 = 256;
/// Bytes of a request to the services that every node has: a name, and little else.
const OWN_REQUEST_BYTES_MAX: usize = 4 * 1024;

/// A running ingress.
#[derive(Debug)]
pub(super) struct Ingress {
    address: SocketAddr,
    scheme: &'static str,
    requests: Arc<Requests>,
    accepting: JoinHandle<JoinSet<()>>,
}

impl Ingress {
    /// Serves on this listener from now on.
    pub fn start(
        listener: TcpListener,
        node: Node,
        config: &Config,
        serving: watch::Receiver<Serving>,
        stopped: watch::Receiver<bool>,
    ) -> io::Result<Ingress> {
        let address = listener.local_addr()?;
        let door = Arc::new(Door {
            caller: Arc::new(Caller::new(
                node,
                config.message_bytes_max,
                config.sample,
                serving,
            )),
            origins: Origins::new(config.origins.clone(), address.ip(), config.tls.is_some()),
            tls: config.tls.clone(),
            requests: Arc::default(),
        });
        let requests = Arc::clone(&door.requests);
        let scheme = door.origins.scheme();
        let places = Arc::new(Semaphore::new(config.connections_max));
        let accepting = tokio::spawn(accept(listener, door, places, stopped));
        Ok(Ingress {
            address,
            scheme,
            requests,
            accepting,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How its addresses begin.
    pub fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// What was asked here.
    pub fn requests(&self) -> Arc<Requests> {
        Arc::clone(&self.requests)
    }

    /// Gives the calls under way some time to end; it was told to stop before.
    pub async fn stop(self) {
        if let Ok(mut connections) = self.accepting.await {
            let all = async { while connections.join_next().await.is_some() {} };
            // What is still under way then is dropped with the set.
            let _ = tokio::time::timeout(DRAIN, all).await;
        }
    }
}

/// What every request goes through.
#[derive(Debug)]
struct Door {
    caller: Arc<Caller>,
    origins: Origins,
    tls: Option<Tls>,
    requests: Arc<Requests>,
}

async fn accept(
    listener: TcpListener,
    door: Arc<Door>,
    places: Arc<Semaphore>,
    mut stopped: watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut connections = JoinSet::new();
    loop {
        // Nobody is taken without a place.
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = told(&mut stopped) => return connections,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let serving = serve(stream, Arc::clone(&door), stopped.clone());
                connections.spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the ingress");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, door: Arc<Door>, mut stopped: watch::Receiver<bool>) {
    // Small answers must not wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let deadline = Instant::now() + HEAD_TIMEOUT;
    let tls = door.tls.clone();
    let service = hyper::service::service_fn(move |request| answer(Arc::clone(&door), request));
    let Some(tls) = tls else {
        return converse(stream, deadline, service, stopped).await;
    };
    let begun = tokio::select! {
        begun = tls.begin(stream, deadline) => begun,
        () = told(&mut stopped) => return,
    };
    match begun {
        Ok(stream) => converse(stream, deadline, service, stopped).await,
        Err(error) => tracing::debug!(%error, "a connection to the ingress did not begin"),
    }
}

/// Answers what comes over a connection, if it says by then which protocol it speaks.
async fn converse<S, A>(stream: S, deadline: Instant, service: A, mut stopped: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    A::Future: Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(ALIVE_EVERY);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    let stream = TokioIo::new(Prompt::new(stream, deadline));
    let mut connection = std::pin::pin!(builder.serve_connection(stream, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the ingress ended early");
    }
}

/// How a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Grpc,
    Web,
    Json,
}

impl Protocol {
    fn of<B>(request: &Request<B>) -> Protocol {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let media_type = media_type(content_type.unwrap_or_default()).to_ascii_lowercase();
        match media_type.as_str() {
            web if web.starts_with("application/grpc-web") => Protocol::Web,
            grpc if grpc.starts_with("application/grpc") => Protocol::Grpc,
            _ => Protocol::Json,
        }
    }
}

/// A media type without its parameters.
fn media_type(text: &str) -> &str {
    text.split(';').next().unwrap_or_default().trim()
}

/// A response that is there at once.
fn respond(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(body.into())));
    *response.status_mut() = status;
    response
}

/// The same of a content type.
fn respond_as(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = respond(status, body);
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

async fn answer(door: Arc<Door>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let protocol = Protocol::of(&request);
    if protocol == Protocol::Grpc && is_call(&request).is_ok() {
        // Its clients know that an answer may come before they have said all, and some go on until they have it.
        return Ok(counted(&door, protocol, request.map(Body::new)).await);
    }
    let (head, body) = request.into_parts();
    let (body, rest) = rest::lend(body);
    // Who waits to be invited sends nothing once he is answered.
    let is_sent = !head.headers.contains_key(header::EXPECT);
    let response = counted(&door, protocol, Request::from_parts(head, Body::new(body))).await;
    if let (Some(more), true) = (rest.read().await, is_sent) {
        tokio::spawn(rest::read_on(more));
    }
    Ok(response)
}

/// Answers a request, and counts it.
async fn counted(door: &Door, protocol: Protocol, request: Request<Body>) -> Response<Body> {
    let response = admitted(door, protocol, request).await;
    door.requests.note(protocol, &response);
    response
}

/// Answers whoever may call, and refuses others.
async fn admitted(door: &Door, protocol: Protocol, request: Request<Body>) -> Response<Body> {
    let origin = match door.origins.admit(&request, protocol) {
        Ok(origin) => origin,
        Err(status) => {
            let accept = request.headers().get(header::ACCEPT);
            let accept = accept.and_then(|value| value.to_str().ok());
            return origins::refusal(protocol, status, accept);
        }
    };
    if let Some(response) = origin
        .as_ref()
        .and_then(|origin| origins::preflight(&request, origin))
    {
        return response;
    }
    let mut response = match protocol {
        Protocol::Grpc => match is_call(&request) {
            Ok(()) => native(&door.caller, request).await,
            Err(refusal) => *refusal,
        },
        Protocol::Web => web::answer(&door.caller, request).await,
        Protocol::Json => json::answer(&door.caller, request).await,
    };
    if let Some(origin) = origin {
        origins::open(response.headers_mut(), origin);
    }
    response
}

/// Whether a request of gRPC's content type can be a call of gRPC; what it is answered otherwise, and nothing is called. The code comes
/// behind an answer, which HTTP/1 tells nobody.
fn is_call<B>(request: &Request<B>) -> Result<(), Box<Response<Body>>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if request.version() != Version::HTTP_2 {
        let text = "gRPC needs HTTP/2: over HTTP/1.1 take application/grpc-web, or application/json";
        let status = StatusCode::HTTP_VERSION_NOT_SUPPORTED;
        return Err(Box::new(respond_as(status, TEXT, text)));
    }
    if request.method() != Method::POST {
        let mut refusal = respond_as(StatusCode::METHOD_NOT_ALLOWED, TEXT, "a call over gRPC is a POST");
        let allow = HeaderValue::from_static("POST");
        refusal.headers_mut().insert(header::ALLOW, allow);
        return Err(Box::new(refusal));
    }
    Ok(())
}

/// Answers over gRPC: what every node has, and what the function serves.
async fn native(caller: &Arc<Caller>, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let response = match path.strip_prefix('/').and_then(|path| path.split_once('/')) {
        Some((HEALTH, method)) => health::answer(caller, method, request).await,
        Some((service, method)) if SERVICES.contains(&service) => {
            reflect::answer(caller, method, request).await
        }
        _ => grpc::answer(caller, request).await,
    };
    let caller = Arc::clone(caller);
    fits::described(response, move || {
        caller.tell_author(
            &path,
            "fails with a text that is too long for clients of gRPC: it is cut",
        );
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What becomes of a connection that says this and waits.
    async fn said(words: &[u8], deadline: Instant) -> Vec<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(words).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper::service::service_fn(|_| async {
            // An answer that is all there is.
            let mut response = respond(StatusCode::OK, "here");
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
            Ok::<_, Infallible>(response)
        });
        let (_running, stopped) = watch::channel(false);
        let mut heard = Vec::new();
        let hearing = client.read_to_end(&mut heard);
        // It ends by itself: nothing here makes it.
        let ((), read) = tokio::join!(converse(stream, deadline, service, stopped), hearing);
        // What nobody reads may be told as a reset.
        let _ = read;
        heard
    }

    #[tokio::test]
    async fn whoever_did_not_say_what_it_speaks_kept_its_place() {
        let soon = || Instant::now() + Duration::from_millis(20);
        for words in ["", "P", "PRI", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
            assert_eq!(said(words.as_bytes(), soon()).await, b"", "{words:?}");
        }
        // Who has said it has the time of what it speaks, though the other is over.
        let past = Instant::now();
        for words in ["GET / HTTP/1.1\r\n\r\n", "PUT / HTTP/1.1\r\n\r\n"] {
            let heard = said(words.as_bytes(), past).await;
            assert!(heard.starts_with(b"HTTP/1.1 200"), "{words:?}");
        }
    }

    #[test]
    fn what_is_no_call_of_grpc_was_called_and_answered_without_a_code() {
        let of = |version, method| {
            let request = Request::builder().version(version).method(method);
            let refused = is_call(&request.body(()).unwrap()).map_err(|refusal| refusal.status().as_u16());
            refused.err()
        };
        assert_eq!(of(Version::HTTP_2, Method::POST), None);
        assert_eq!(of(Version::HTTP_2, Method::GET), Some(405));
        assert_eq!(of(Version::HTTP_11, Method::POST), Some(505));
        assert_eq!(of(Version::HTTP_10, Method::GET), Some(505));
    }

    #[test]
    fn requests_speak_by_their_content_type() {
        let of = |content_type: &str| {
            let request = Request::builder().header("content-type", content_type);
            Protocol::of(&request.body(()).unwrap())
        };
        for grpc in [
            "application/grpc",
            "application/grpc+proto",
            "Application/GRPC; a=b",
        ] {
            assert_eq!(of(grpc), Protocol::Grpc, "{grpc}");
        }
        for web in [
            "application/grpc-web",
            "application/grpc-web-text+proto",
            "application/grpc-web+json",
        ] {
            assert_eq!(of(web), Protocol::Web, "{web}");
        }
        for json in ["application/json", "", "text/plain; application/grpc"] {
            assert_eq!(of(json), Protocol::Json, "{json}");
        }
        assert_eq!(Protocol::of(&Request::new(())), Protocol::Json);
    }
}
