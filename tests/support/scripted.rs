//! A function in the test's own process: a gRPC server that says nothing by itself. What it hears is put in order for the test,
//! and what it says is what the test says.
//!
//! Not here: what any of it means. Contract: nothing that was heard is lost; a path that it does not have is UNIMPLEMENTED.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tonic::server::{Grpc, StreamingService};
use tonic::{Status, Streaming};

use super::raw::Raw;

/// Something that came, in a call of this number.
#[derive(Debug)]
pub struct Heard {
    pub call: u64,
    pub path: String,
    pub what: What,
}

/// What came.
#[derive(Debug, PartialEq)]
pub enum What {
    Message(Bytes),
    /// Nothing more comes.
    End,
    /// Nobody hears any more what is said.
    Gone,
}

/// The function; it ends with its owner.
pub struct Scripted {
    pub address: SocketAddr,
    open: Arc<Open>,
    cuts: watch::Sender<()>,
}

type Said = Result<Bytes, Status>;

/// Calls that something can be said in.
struct Open {
    paths: Vec<String>,
    heard: mpsc::UnboundedSender<Heard>,
    calls: Mutex<(u64, BTreeMap<u64, mpsc::UnboundedSender<Said>>)>,
}

impl Scripted {
    /// One that has these paths.
    pub fn start(runtime: &Runtime, paths: &[&str]) -> (Scripted, mpsc::UnboundedReceiver<Heard>) {
        let (heard, hearing) = mpsc::unbounded_channel();
        let open = Arc::new(Open {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            heard,
            calls: Mutex::default(),
        });
        let listening = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = runtime.block_on(listening).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Arc::clone(&open);
        let (cuts, cut) = watch::channel(());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let open = Arc::clone(&serving);
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let open = Arc::clone(&open);
                    async move {
                        let path = request.uri().path().to_owned();
                        if !open.paths.contains(&path) {
                            return Ok::<_, Status>(Status::unimplemented(path).into_http());
                        }
                        Ok(Grpc::new(Raw).streaming(Call { open, path }, request).await)
                    }
                });
                let mut connection = Builder::new(TokioExecutor::new());
                // A test may have many calls at a time, none of which ends.
                connection.max_concurrent_streams(1_000);
                let connection = connection.serve_connection(TokioIo::new(stream), service);
                let mut cut = cut.clone();
                cut.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = connection => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        let scripted = Scripted { address, open, cuts };
        (scripted, hearing)
    }

    /// Ends its connections, as its process's end would.
    pub fn cut(&self) {
        self.cuts.send_replace(());
    }

    /// Ends a call with a status.
    pub fn fail(&self, call: u64, status: Status) {
        if let Some(sender) = self.open.calls.lock().unwrap().1.remove(&call) {
            let _ = sender.send(Err(status));
        }
    }

    /// Says something in a call.
    pub fn say(&self, call: u64, message: Vec<u8>) {
        let calls = self.open.calls.lock().unwrap();
        // Whom nobody hears any more says it all the same.
        if let Some(sender) = calls.1.get(&call) {
            let _ = sender.send(Ok(message.into()));
        }
    }

    /// Says no more in a call.
    pub fn end(&self, call: u64) {
        self.open.calls.lock().unwrap().1.remove(&call);
    }
}

/// A call that has begun.
#[derive(Clone)]
struct Call {
    open: Arc<Open>,
    path: String,
}

impl StreamingService<Bytes> for Call {
    type Response = Bytes;
    type ResponseStream = Saying;
    type Future = std::future::Ready<Result<tonic::Response<Saying>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let (sender, said) = mpsc::unbounded_channel();
        let number = {
            let mut calls = self.open.calls.lock().unwrap();
            calls.0 += 1;
            let number = calls.0;
            calls.1.insert(number, sender);
            number
        };
        let (open, path) = (Arc::clone(&self.open), self.path.clone());
        let hear = move |what| {
            let heard = Heard {
                call: number,
                path: path.clone(),
                what,
            };
            // A test that is over hears nothing.
            let _ = open.heard.send(heard);
        };
        let gone = hear.clone();
        let mut incoming = request.into_inner();
        tokio::spawn(async move {
            loop {
                match incoming.message().await {
                    Ok(Some(message)) => hear(What::Message(message)),
                    Ok(None) => return hear(What::End),
                    // Who breaks off has not said all.
                    Err(_) => return,
                }
            }
        });
        let gone = Box::new(move || gone(What::Gone));
        std::future::ready(Ok(tonic::Response::new(Saying { said, gone })))
    }
}

/// What is said in a call.
struct Saying {
    said: mpsc::UnboundedReceiver<Said>,
    gone: Box<dyn Fn() + Send>,
}

impl Drop for Saying {
    fn drop(&mut self) {
        (self.gone)();
    }
}

impl Stream for Saying {
    type Item = Said;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Said>> {
        self.said.poll_recv(cx)
    }
}
