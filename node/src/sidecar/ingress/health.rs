//! `grpc.health.v1.Health`: whether what is served here has its function, for whoever spreads calls over the nodes.
//!
//! A service serves while its function is beside this node, asleep or well. Calls are answered without it as well, by a node that has it; but whoever
//! asks can send them there himself.
//!
//! Contract: the empty name is all that the function serves; what is no service is NOT_FOUND, and SERVICE_UNKNOWN to who watches.

use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response};
use prost::Message;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;
use tonic::body::Body;
use tonic::server::{Grpc, ServerStreamingService, UnaryService};
use tonic_prost::ProstCodec;

use super::OWN_REQUEST_BYTES_MAX;
use super::call::Caller;
use crate::sidecar::discovery::Serving;
use crate::sidecar::reflection::{HEALTH, SERVICES};

/// `HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct Question {
    #[prost(string, tag = "1")]
    service: String,
}

/// `HealthCheckResponse`.
#[derive(Clone, Copy, PartialEq, Message)]
struct Answer {
    #[prost(enumeration = "Health", tag = "1")]
    status: i32,
}

/// `ServingStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum Health {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

/// How a service is; none where there is no such service.
fn health(serving: &Serving, service: &str) -> Option<Health> {
    if service == HEALTH || SERVICES.contains(&service) {
        return Some(Health::Serving);
    }
    let discovered = serving.services.as_ref();
    let is_known = service.is_empty()
        || discovered.is_some_and(|services| services.iter().any(|known| known.name == service));
    let health = match serving.is_here && !serving.is_ill {
        true => Health::Serving,
        false => Health::NotServing,
    };
    is_known.then_some(health)
}

/// Answers a call of one of its methods.
pub(super) async fn answer(caller: &Arc<Caller>, method: &str, request: Request<Body>) -> Response<Body> {
    let codec = ProstCodec::<Answer, Question>::default();
    let mut grpc = Grpc::new(codec).max_decoding_message_size(OWN_REQUEST_BYTES_MAX);
    let (request, _held) = caller.bodies.message(request, OWN_REQUEST_BYTES_MAX);
    match method {
        "Check" => grpc.unary(Check(caller.serving()), request).await,
        "Watch" => grpc.server_streaming(Watch(caller.serving()), request).await,
        _ => Status::unimplemented(format!("{HEALTH} has no method {method:?}")).into_http(),
    }
}

struct Check(watch::Receiver<Serving>);

impl UnaryService<Question> for Check {
    type Response = Answer;
    type Future = Ready<Result<tonic::Response<Answer>, Status>>;

    fn call(&mut self, request: tonic::Request<Question>) -> Self::Future {
        let service = request.into_inner().service;
        let health = health(&self.0.borrow(), &service);
        let missing = || Status::not_found(format!("there is no service {service:?}"));
        ready(health.map(said).ok_or_else(missing).map(tonic::Response::new))
    }
}

fn said(health: Health) -> Answer {
    Answer {
        status: health.into(),
    }
}

struct Watch(watch::Receiver<Serving>);

type Answers = Pin<Box<dyn Stream<Item = Result<Answer, Status>> + Send>>;

impl ServerStreamingService<Question> for Watch {
    type Response = Answer;
    type ResponseStream = Answers;
    type Future = Ready<Result<tonic::Response<Answers>, Status>>;

    fn call(&mut self, request: tonic::Request<Question>) -> Self::Future {
        let answers = watched(self.0.clone(), request.into_inner().service);
        ready(Ok(tonic::Response::new(Box::pin(answers))))
    }
}

/// How a service is, and whenever that has changed; until this node stops.
fn watched(
    serving: watch::Receiver<Serving>,
    service: String,
) -> impl Stream<Item = Result<Answer, Status>> + Send {
    let mut before = None;
    WatchStream::new(serving).filter_map(move |serving| {
        let now = health(&serving, &service).unwrap_or(Health::ServiceUnknown);
        (before.replace(now) != Some(now)).then(|| Ok(said(now)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serving(is_here: bool) -> Serving {
        Serving {
            is_here,
            ..Serving::default()
        }
    }

    #[test]
    fn all_of_it_serves_while_the_function_is_here_and_its_own_always() {
        assert_eq!(health(&serving(false), ""), Some(Health::NotServing));
        assert_eq!(health(&serving(true), ""), Some(Health::Serving));
        for own in [HEALTH, SERVICES[0], SERVICES[1]] {
            assert_eq!(health(&serving(false), own), Some(Health::Serving));
        }
        assert_eq!(health(&serving(true), "one.S"), None);
        let ill = Serving {
            is_ill: true,
            ..serving(true)
        };
        assert_eq!(health(&ill, ""), Some(Health::NotServing));
        assert_eq!(health(&ill, HEALTH), Some(Health::Serving));
    }

    #[tokio::test]
    async fn who_watches_hears_of_changes_alone_and_of_the_end() {
        let (publish, published) = watch::channel(serving(false));
        let mut all = std::pin::pin!(watched(published.clone(), String::new()));
        let mut other = std::pin::pin!(watched(published, "one.S".to_owned()));
        let heard = |said: Option<Result<Answer, Status>>| said.map(|said| said.unwrap().status());
        assert_eq!(heard(all.next().await), Some(Health::NotServing));
        assert_eq!(heard(other.next().await), Some(Health::ServiceUnknown));
        publish.send_replace(serving(true));
        assert_eq!(heard(all.next().await), Some(Health::Serving));
        publish.send_replace(serving(true));
        drop(publish);
        assert_eq!(heard(all.next().await), None);
        assert_eq!(heard(other.next().await), None);
    }
}
