//! A plain gRPC client: frames of its own over HTTP/2, messages as JSON by the descriptors.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use super::PATIENCE;

/// A client of one ingress.
pub struct Grpc {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    pool: DescriptorPool,
    /// Whom it says it calls.
    pub origin: String,
    /// Sent with every call.
    pub headers: BTreeMap<String, String>,
}

/// What a call was answered.
#[derive(Debug)]
pub struct Answer {
    pub messages: Vec<Value>,
    pub code: i32,
    pub message: String,
    pub headers: BTreeMap<String, String>,
}

impl Grpc {
    pub fn connect(address: SocketAddr, pool: &DescriptorPool) -> Grpc {
        let runtime = runtime();
        let sender = runtime.block_on(async { begin(TcpStream::connect(address).await.unwrap()).await });
        Grpc {
            runtime,
            sender,
            pool: pool.clone(),
            origin: format!("http://{address}"),
            headers: BTreeMap::new(),
        }
    }

    /// The same over TLS, to whoever has this name.
    pub fn connect_tls(
        address: SocketAddr,
        pool: &DescriptorPool,
        config: Arc<rustls::ClientConfig>,
        name: &'static str,
    ) -> Grpc {
        let runtime = runtime();
        let sender = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.unwrap();
            let connecting = TlsConnector::from(config).connect(name.try_into().unwrap(), stream);
            let stream = connecting.await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            begin(stream).await
        });
        Grpc {
            runtime,
            sender,
            pool: pool.clone(),
            origin: format!("https://{name}"),
            headers: BTreeMap::new(),
        }
    }

    /// Calls `Service/Method` of the tests' package and takes its one reply.
    #[track_caller]
    pub fn call(&mut self, method: &str, message: Value) -> Value {
        let mut answer = self.ask(method, std::slice::from_ref(&message));
        assert_eq!(answer.code, 0, "{method} {message}: {answer:?}");
        assert_eq!(answer.messages.len(), 1, "{method} {message}: {answer:?}");
        answer.messages.remove(0)
    }

    /// The same where it is to fail: the code and the text.
    #[track_caller]
    pub fn fail(&mut self, method: &str, message: Value) -> (i32, String) {
        let answer = self.ask(method, std::slice::from_ref(&message));
        assert_ne!(answer.code, 0, "{method} {message}: {answer:?}");
        (answer.code, answer.message)
    }

    /// Sends these messages and takes everything that comes.
    pub fn ask(&mut self, method: &str, messages: &[Value]) -> Answer {
        let (path, descriptor) = self.method(method);
        let mut body = BytesMut::new();
        for message in messages {
            frame(&mut body, &encode(descriptor.input(), message));
        }
        self.send(&path, body.freeze(), Some(descriptor.output()))
    }

    /// Sends one message and takes what comes when it comes.
    pub fn open(&mut self, method: &str, message: &Value) -> GrpcStream<'_> {
        let (path, descriptor) = self.method(method);
        let mut body = BytesMut::new();
        frame(&mut body, &encode(descriptor.input(), message));
        let request = self.request(&path, body.freeze());
        let sender = &mut self.sender;
        let response = self.runtime.block_on(async {
            sender.ready().await.unwrap();
            sender.send_request(request).await.unwrap()
        });
        GrpcStream {
            runtime: &self.runtime,
            headers: texts(response.headers()),
            body: response.into_body(),
            came: BytesMut::new(),
            output: descriptor.output(),
        }
    }

    fn method(&self, method: &str) -> (String, MethodDescriptor) {
        let method = match method.contains('.') {
            true => method.to_owned(),
            false => format!("anabranch.test.{method}"),
        };
        let (service, name) = method.split_once('/').unwrap();
        let service = self.pool.get_service_by_name(service).expect(service);
        let descriptor = service
            .methods()
            .find(|method| method.name() == name)
            .expect(name);
        (format!("/{method}"), descriptor)
    }

    fn request(&self, path: &str, body: Bytes) -> http::Request<Full<Bytes>> {
        let mut request = http::Request::post(format!("{}{path}", self.origin))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(body)).unwrap()
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, path: &str, body: Bytes, output: Option<MessageDescriptor>) -> Answer {
        let request = self.request(path, body);
        let sender = &mut self.sender;
        self.runtime.block_on(async {
            sender.ready().await.unwrap();
            let response = sender.send_request(request).await.unwrap();
            let mut headers = texts(response.headers());
            let body = response.into_body().collect().await.unwrap();
            if let Some(trailers) = body.trailers() {
                headers.extend(texts(trailers));
            }
            let mut bytes = body.to_bytes();
            let mut messages = Vec::new();
            while bytes.has_remaining() {
                assert_eq!(bytes.get_u8(), 0, "not compressed");
                let length = bytes.get_u32() as usize;
                messages.push(decode(output.clone().unwrap(), bytes.split_to(length)));
            }
            let text = headers.get("grpc-message").cloned().unwrap_or_default();
            Answer {
                messages,
                code: headers["grpc-status"].parse().unwrap(),
                message: unescape(&text),
                headers,
            }
        })
    }
}

/// An answer that is still coming. Dropped, it is cancelled.
pub struct GrpcStream<'a> {
    runtime: &'a Runtime,
    headers: BTreeMap<String, String>,
    body: Incoming,
    came: BytesMut,
    output: MessageDescriptor,
}

impl GrpcStream<'_> {
    /// Its next message; after the last one, how it ended: the code and the text.
    pub fn next(&mut self) -> Result<Value, (i32, String)> {
        loop {
            if let Some(mut head) = self.came.get(1..5) {
                let length = head.get_u32() as usize;
                if self.came.len() >= 5 + length {
                    self.came.advance(5);
                    return Ok(decode(self.output.clone(), self.came.split_to(length).freeze()));
                }
            }
            let body = &mut self.body;
            let frame = self
                .runtime
                .block_on(async { tokio::time::timeout(PATIENCE, body.frame()).await });
            match frame.expect("the stream goes on").map(Result::unwrap) {
                Some(frame) => match frame.into_data() {
                    Ok(data) => self.came.extend_from_slice(&data),
                    Err(frame) => self.headers.extend(texts(&frame.into_trailers().unwrap())),
                },
                None => {
                    let code = self.headers["grpc-status"].parse().unwrap();
                    let text = self.headers.get("grpc-message").cloned().unwrap_or_default();
                    return Err((code, unescape(&text)));
                }
            }
        }
    }

    /// Takes messages until there is this one.
    #[track_caller]
    pub fn becomes(&mut self, expected: &Value) {
        let mut last = Value::Null;
        while last != *expected {
            last = match self.next() {
                Ok(message) => message,
                Err(end) => panic!("it ended with {end:?} after {last}, and not with {expected}"),
            };
        }
    }
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

async fn begin<S>(stream: S) -> SendRequest<Full<Bytes>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let beginning = handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, driving) = beginning.await.unwrap();
    tokio::spawn(driving);
    sender
}

fn texts(headers: &http::HeaderMap) -> BTreeMap<String, String> {
    let text = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (
            name.to_string(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        )
    };
    headers.iter().map(text).collect()
}

fn frame(body: &mut BytesMut, message: &[u8]) {
    body.put_u8(0);
    body.put_u32(message.len() as u32);
    body.put_slice(message);
}

fn encode(of: MessageDescriptor, message: &Value) -> Vec<u8> {
    DynamicMessage::deserialize(of, message).unwrap().encode_to_vec()
}

fn decode(of: MessageDescriptor, message: Bytes) -> Value {
    let message = DynamicMessage::decode(of, message).unwrap();
    let options = SerializeOptions::new()
        .skip_default_fields(false)
        .stringify_64_bit_integers(false);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .unwrap()
}

/// `%20` and the like.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        match (first, others.get(..2)) {
            (b'%', Some(hex)) => {
                let hex = std::str::from_utf8(hex).unwrap();
                bytes.push(u8::from_str_radix(hex, 16).unwrap());
                rest = &others[2..];
            }
            _ => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}
