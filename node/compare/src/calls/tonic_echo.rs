//! gRPC: a unary call of tonic's, its service written out as its generator would.

use std::convert::Infallible;
use std::future::Ready;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use bytes::Bytes;
use http::uri::PathAndQuery;
use tonic::body::Body;
use tonic::client::Grpc as Client;
use tonic::server::{Grpc as Server, NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower_service::Service;

use super::Far;
use crate::measure::{Rate, Threads, one_by_one_async, tasks};
use crate::ours::SAID;

const PATH: &str = "/compare.Echo/Echo";

#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(bytes = "bytes", tag = "1")]
    body: Bytes,
}

#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "compare.Echo";
}

impl UnaryService<Message> for Echo {
    type Response = Message;
    type Future = Ready<Result<Response<Message>, Status>>;

    fn call(&mut self, request: Request<Message>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner())))
    }
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            assert_eq!(request.uri().path(), PATH);
            let mut server = Server::new(ProstCodec::default());
            Ok(server.unary(Echo, request).await)
        })
    }
}

/// Serves it.
pub fn far(threads: Threads) -> JoinHandle<()> {
    std::thread::spawn(move || {
        threads.runtime().block_on(async {
            let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).unwrap();
            let incoming = incoming.with_nodelay(Some(true));
            println!("{}", incoming.local_addr().unwrap());
            let router = tonic::transport::Server::builder().add_service(Echo);
            router.serve_with_incoming(incoming).await.unwrap();
        });
    })
}

async fn connect(far: &Far) -> Client<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", far.address)).unwrap();
    Client::new(endpoint.tcp_nodelay(true).connect().await.unwrap())
}

async fn call(client: &mut Client<Channel>, said: Bytes) {
    client.ready().await.unwrap();
    let request = Request::new(Message { body: said.clone() });
    let path = PathAndQuery::from_static(PATH);
    let reply = client.unary(request, path, ProstCodec::<Message, Message>::default());
    assert_eq!(reply.await.unwrap().into_inner().body, said);
}

/// One at a time.
pub fn p50(far: &Far) -> f64 {
    Threads::One.runtime().block_on(async {
        let mut client = connect(far).await;
        let said = Bytes::copy_from_slice(SAID.as_flattened());
        one_by_one_async(async || call(&mut client, said.clone()).await).await
    })
}

/// 64 at once on one connection.
pub fn rate(threads: Threads, far: &Far) -> Rate {
    let runtime = threads.runtime();
    let client = runtime.block_on(connect(far));
    tasks(&runtime, &[far.id()], |_| {
        let (client, said) = (client.clone(), Bytes::copy_from_slice(SAID.as_flattened()));
        move || {
            let (mut client, said) = (client.clone(), said.clone());
            async move { call(&mut client, said).await }
        }
    })
}
