//! A caller with many calls at a time, each of which may say and hear several messages, one after the other as a test wants.
//!
//! Not here: what any of it means; clients that call once (`grpc`).

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::Stream;
use tonic::Status;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataMap;

use super::raw::Raw;

/// A caller of one ingress.
#[derive(Clone)]
pub struct Calls {
    sender: SendRequest<Body>,
    origin: http::Uri,
}

/// What came of a call.
#[derive(Debug, PartialEq)]
pub enum Came {
    Headers(Vec<(String, String)>),
    Message(Bytes),
    /// It is over: the code and the text.
    Over(i32, String),
}

/// A call under way. Dropped, it is cancelled.
pub struct Call {
    says: mpsc::UnboundedSender<Option<Bytes>>,
    pub came: mpsc::UnboundedReceiver<Came>,
    task: AbortHandle,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Call {
    /// Says more.
    pub fn say(&self, message: Vec<u8>) {
        let _ = self.says.send(Some(message.into()));
    }

    /// It has said all.
    pub fn done(&self) {
        let _ = self.says.send(None);
    }
}

impl Calls {
    pub fn connect(runtime: &Runtime, address: SocketAddr) -> Calls {
        let sender = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let beginning = handshake(TokioExecutor::new(), TokioIo::new(stream));
            let (sender, driving) = beginning.await.unwrap();
            tokio::spawn(driving);
            sender
        });
        Calls {
            sender,
            origin: format!("http://{address}").parse().unwrap(),
        }
    }

    /// Begins a call.
    pub fn begin(&self, runtime: &Runtime, path: &str, headers: &[(&'static str, String)]) -> Call {
        let (says, saying) = mpsc::unbounded_channel();
        let (sender, came) = mpsc::unbounded_channel();
        let saying = Saying {
            saying,
            is_over: false,
        };
        let mut request = tonic::Request::new(saying);
        for (name, value) in headers {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        let mut grpc = Grpc::with_origin(self.clone(), self.origin.clone());
        let path: PathAndQuery = path.parse().unwrap();
        let task = runtime.spawn(async move {
            // Whoever has dropped the call hears nothing of it.
            let tell = |came| drop(sender.send(came));
            let over = |status: tonic::Status| Came::Over(status.code() as i32, status.message().to_owned());
            grpc.ready().await.unwrap();
            let mut response = match grpc.streaming(request, path, Breaking).await {
                Ok(response) => response,
                Err(status) => return tell(over(status)),
            };
            tell(Came::Headers(texts(response.metadata())));
            loop {
                match response.get_mut().message().await {
                    Ok(Some(message)) => tell(Came::Message(message)),
                    Ok(None) => break,
                    Err(status) => return tell(over(status)),
                }
            }
            if let Ok(Some(trailers)) = response.get_mut().trailers().await {
                tell(Came::Headers(texts(&trailers)));
            }
            tell(Came::Over(0, String::new()));
        });
        Call {
            says,
            came,
            task: task.abort_handle(),
        }
    }
}

fn texts(metadata: &MetadataMap) -> Vec<(String, String)> {
    let headers = metadata.as_ref().iter();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    headers
        .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
        .collect()
}

impl tower_service::Service<http::Request<Body>> for Calls {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(task)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}

/// What a caller says. Who goes before he has said that this is all breaks off.
struct Saying {
    saying: mpsc::UnboundedReceiver<Option<Bytes>>,
    is_over: bool,
}

impl Stream for Saying {
    type Item = Option<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Option<Bytes>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let next = ready!(self.saying.poll_recv(cx));
        self.is_over = !matches!(next, Some(Some(_)));
        Poll::Ready(match next {
            Some(Some(message)) => Some(Some(message)),
            Some(None) => None,
            None => Some(None),
        })
    }
}

/// Bytes; nothing in place of some resets the stream.
#[derive(Clone, Copy)]
struct Breaking;

impl Codec for Breaking {
    type Encode = Option<Bytes>;
    type Decode = Bytes;
    type Encoder = Breaking;
    type Decoder = Raw;

    fn encoder(&mut self) -> Breaking {
        Breaking
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Breaking {
    type Item = Option<Bytes>;
    type Error = Status;

    fn encode(&mut self, item: Option<Bytes>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let item = item.ok_or_else(|| Status::cancelled("its caller has gone"))?;
        Raw.encode(item, to)
    }
}
