//! Whether a function that is awake is well: it is asked again and again, and must answer soon.
//!
//! Not here: what comes of it (`discovery`). Contract: a function that knows no such question is well, and asking is no use of a
//! function, so that it falls asleep all the same.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tonic::Code;

use super::connection::Connection;
use super::proto::discovery::Empty;

const HEALTH_CHECK: &str = "/kalix.protocol.Discovery/HealthCheck";
/// From an answer to the next question.
const EVERY: Duration = Duration::from_secs(5);
/// A function that has not answered for so long is not well.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Asks for ever, and says what is wrong whenever that has changed: nothing, from the start.
pub async fn follow(connection: &Connection, changed: impl FnMut(Option<String>)) -> Infallible {
    follow_at(connection, EVERY, ANSWER_TIMEOUT, changed).await
}

async fn follow_at(
    connection: &Connection,
    every: Duration,
    within: Duration,
    mut changed: impl FnMut(Option<String>),
) -> Infallible {
    let mut is_ill = false;
    loop {
        sleep(every).await;
        let asking = connection.ask::<_, Empty>(HEALTH_CHECK, Empty {});
        let ill = match timeout(within, asking).await {
            Ok(Ok(_)) => None,
            Ok(Err(status)) if status.code() == Code::Unimplemented => None,
            Ok(Err(status)) => Some(format!("it answers {:?}: {}", status.code(), status.message())),
            Err(_) => Some(format!("it does not answer within {} s", within.as_secs())),
        };
        if ill.is_some() != is_ill {
            is_ill = !is_ill;
            changed(ill);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Request, Response};
    use http_body_util::StreamBody;
    use hyper::body::{Frame, Incoming};
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tonic::Status;

    use super::*;

    /// A function that answers so, one question after the other; nothing where there is none.
    async fn function(answers: Vec<Option<Code>>) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Arc::new(Mutex::new(answers.into_iter()));
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = service_fn(move |request: Request<Incoming>| {
                assert_eq!(request.uri().path(), HEALTH_CHECK);
                let answer = answers.lock().unwrap().next().flatten();
                async move {
                    match answer {
                        // Empty is no bytes.
                        Some(Code::Ok) => Ok(empty()),
                        Some(code) => Ok(Status::new(code, "").into_http()),
                        None => std::future::pending::<Result<_, hyper::Error>>().await,
                    }
                }
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            server.serve_connection(TokioIo::new(stream), answer).await
        });
        Connection::open(address).await.unwrap()
    }

    fn empty() -> Response<tonic::body::Body> {
        let message = Frame::data(Bytes::from_static(&[0; 5]));
        let mut status = HeaderMap::new();
        status.insert("grpc-status", HeaderValue::from_static("0"));
        let frames = [Ok::<_, Status>(message), Ok(Frame::trailers(status))];
        let body = StreamBody::new(tokio_stream::iter(frames));
        let mut response = Response::new(tonic::body::Body::new(body));
        let content_type = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert("content-type", content_type);
        response
    }

    #[tokio::test]
    async fn a_function_is_ill_until_it_answers_again() {
        let connection = function(vec![
            Some(Code::Unimplemented),
            Some(Code::Ok),
            Some(Code::Internal),
            Some(Code::Unavailable),
            Some(Code::Ok),
            None,
            Some(Code::Unimplemented),
        ])
        .await;
        let (say, mut said) = mpsc::unbounded_channel();
        let within = Duration::from_secs(1);
        let asking = follow_at(&connection, Duration::ZERO, within, |ill| say.send(ill).unwrap());
        let hearing = async {
            let mut heard = Vec::new();
            while heard.len() < 5 {
                heard.push(said.recv().await.unwrap().is_some());
            }
            heard
        };
        tokio::select! {
            never = asking => match never {},
            heard = hearing => assert_eq!(heard, [true, false, true, false, true]),
        }
    }
}
