//! The stream of gRPC's reflection, over what is served at the moment.
//!
//! Not here: what is answered (`sidecar::reflection`). Contract: answers come in the order of their requests, each made only once
//! the one before was taken; a stream that asks nothing for [`IDLE`] is ended, and so is one at a node that stops.

use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready as done};
use std::time::Duration;

use http::{Request, Response};
use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::body::Body;
use tonic::server::{Grpc, StreamingService};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::OWN_REQUEST_BYTES_MAX;
use super::call::Caller;
use crate::sidecar::Served;
use crate::sidecar::discovery::Serving;
use crate::sidecar::reflection::{Reflection, Request as Question, Response as Answer};

/// How long a stream may ask nothing.
const IDLE: Duration = Duration::from_secs(60);

/// Answers a call of its method.
pub(super) async fn answer(caller: &Arc<Caller>, method: &str, request: Request<Body>) -> Response<Body> {
    if method != "ServerReflectionInfo" {
        return Status::unimplemented(format!("reflection has no method {method:?}")).into_http();
    }
    let codec = ProstCodec::<Answer, Question>::default();
    let mut grpc = Grpc::new(codec).max_decoding_message_size(OWN_REQUEST_BYTES_MAX);
    let request = caller.bodies.messages(request, OWN_REQUEST_BYTES_MAX);
    grpc.streaming(Info(caller.serving()), request).await
}

struct Info(watch::Receiver<Serving>);

impl StreamingService<Question> for Info {
    type Response = Answer;
    type ResponseStream = Answers<Streaming<Question>>;
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<Question>>) -> Self::Future {
        let answers = Answers::new(self.0.clone(), request.into_inner(), IDLE);
        ready(Ok(tonic::Response::new(answers)))
    }
}

/// Requests, answered as they are taken.
struct Answers<S> {
    questions: S,
    serving: watch::Receiver<Serving>,
    /// What is told of, and by which services.
    known: (Option<Served>, Reflection),
    idle: Duration,
    /// Why no further request is waited for, once that is so.
    over: Pin<Box<dyn Future<Output = Status> + Send>>,
}

impl<S> Answers<S> {
    fn new(serving: watch::Receiver<Serving>, questions: S, idle: Duration) -> Answers<S> {
        let services = serving.borrow().services.clone();
        Answers {
            questions,
            known: (services.clone(), reflection(services.as_ref())),
            over: Box::pin(over(serving.clone(), idle)),
            serving,
            idle,
        }
    }

    fn answer(&mut self, question: Question) -> Answer {
        let now = self.serving.borrow().services.clone();
        let is_same = match (&self.known.0, &now) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (before, now) => before.is_none() && now.is_none(),
        };
        if !is_same {
            self.known = (now.clone(), reflection(now.as_ref()));
        }
        self.over = Box::pin(over(self.serving.clone(), self.idle));
        self.known.1.answer(question)
    }
}

impl<S: Stream<Item = Result<Question, Status>> + Unpin> Stream for Answers<S> {
    type Item = Result<Answer, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        match Pin::new(&mut this.questions).poll_next(cx) {
            Poll::Ready(Some(Ok(question))) => Poll::Ready(Some(Ok(this.answer(question)))),
            Poll::Ready(Some(Err(status))) => Poll::Ready(Some(Err(status))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let why = done!(this.over.as_mut().poll(cx));
                Poll::Ready(Some(Err(why)))
            }
        }
    }
}

fn reflection(services: Option<&Served>) -> Reflection {
    let pool = services.map(|services| services.pool.clone());
    let services = services.into_iter().flat_map(|services| services.iter());
    Reflection::new(pool, services.map(|service| service.name.clone()))
}

async fn over(mut serving: watch::Receiver<Serving>, idle: Duration) -> Status {
    tokio::select! {
        () = tokio::time::sleep(idle) => {
            Status::deadline_exceeded(format!("nothing was asked for {} s; open another stream", idle.as_secs()))
        }
        // It ends with whoever looks for the function.
        _ = serving.wait_for(|_| false) => Status::unavailable("this node stops"),
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::{StreamExt, wrappers::ReceiverStream};
    use tonic::Code;

    use super::*;
    use crate::sidecar::reflection::{Answer as Said, Ask};

    type Questions = tokio::sync::mpsc::Sender<Result<Question, Status>>;
    type Asked = Answers<ReceiverStream<Result<Question, Status>>>;

    fn stream(idle: Duration) -> (watch::Sender<Serving>, Questions, Asked) {
        let (publish, serving) = watch::channel(Serving::default());
        let (ask, asked) = tokio::sync::mpsc::channel(1);
        (
            publish,
            ask,
            Answers::new(serving, ReceiverStream::new(asked), idle),
        )
    }

    #[tokio::test]
    async fn what_is_asked_is_answered_before_anything_was_discovered() {
        let (_publish, ask, mut answers) = stream(IDLE);
        let question = Question {
            host: String::new(),
            ask: Some(Ask::ListServices(String::new())),
        };
        ask.send(Ok(question)).await.unwrap();
        let answer = answers.next().await.unwrap().unwrap().answer;
        let Some(Said::Services(services)) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(services.service.len(), 3);
        drop(ask);
        assert!(answers.next().await.is_none());
    }

    #[tokio::test]
    async fn a_stream_that_asks_nothing_is_ended_and_so_is_one_at_the_end() {
        let (_publish, _ask, mut answers) = stream(Duration::from_millis(1));
        let idle = answers.next().await.unwrap().unwrap_err();
        assert_eq!(idle.code(), Code::DeadlineExceeded);
        let (publish, _ask, mut answers) = stream(IDLE);
        drop(publish);
        let stops = answers.next().await.unwrap().unwrap_err();
        assert_eq!(stops.code(), Code::Unavailable);
    }
}
