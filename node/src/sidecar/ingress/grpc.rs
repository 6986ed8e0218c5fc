//! Calls over gRPC: bytes in, bytes out, by the descriptors of what is served.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::server::{StreamingService, UnaryService};

use super::bodies::Held;
use super::call::{Caller, Terms, session};
use super::streams::Begun;
use crate::driver::spans::Place;
use crate::sidecar::proto::common::{MetadataEntry, MetadataValue};
use crate::sidecar::services::{Method, Service};
use crate::sidecar::trace_context;
use crate::sidecar::untouched::Untouched;

/// A deadline farther off is as good as none.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Answers a request, with a status where nothing better can be said.
pub(super) async fn answer(caller: &Arc<Caller>, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path();
    let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
        return Status::unimplemented(format!("{path:?} is not /package.Service/Method")).into_http();
    };
    let services = match caller.services() {
        Ok(services) => services,
        Err(status) => return status.into_http(),
    };
    let (service, method) = match services.find(service, method) {
        Ok(found) => found,
        Err(error) => return Status::unimplemented(error.message()).into_http(),
    };
    let mut grpc = tonic::server::Grpc::new(Untouched)
        .max_decoding_message_size(caller.message_bytes_max)
        .max_encoding_message_size(usize::MAX);
    let (request, held) = match method.descriptor.is_client_streaming() {
        true => (caller.bodies.messages(request, caller.message_bytes_max), None),
        false => {
            let (request, held) = caller.bodies.message(request, caller.message_bytes_max);
            (request, Some(held))
        }
    };
    let place = caller.place_in_trace(request.headers());
    let called = Called {
        caller: Arc::clone(caller),
        place,
        service: Arc::clone(service),
        method: method.descriptor.name().to_owned(),
        _held: held,
    };
    let response = match method.is_streamed() {
        true => grpc.streaming(called, request).await,
        false => grpc.unary(called, request).await,
    };
    trace_context::with_trace(response, place)
}

/// A method that is called.
#[derive(Clone)]
struct Called {
    caller: Arc<Caller>,
    place: Place,
    service: Arc<Service>,
    method: String,
    /// Its message's place, until it is answered.
    _held: Option<Held>,
}

impl Called {
    /// The method, and what the headers say.
    fn begin(&self, metadata: &MetadataMap) -> Result<(&Method, Terms), Status> {
        let method = self.service.methods.get(&self.method);
        let method = method.ok_or_else(|| Status::unimplemented(self.method.clone()))?;
        Ok((method, terms(metadata, &self.service, self.place)?))
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<tonic::Response<Bytes>, Status>> + Send>>;

impl UnaryService<Bytes> for Called {
    type Response = Bytes;
    type Future = Answering;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Answering {
        let called = self.clone();
        Box::pin(async move {
            let (method, terms) = called.begin(request.metadata())?;
            let Called { caller, service, .. } = &called;
            let answer = caller.call(service, method, request.into_inner(), terms).await?;
            let mut response = tonic::Response::new(answer.message);
            let said = caller.said(method, &answer.metadata, Some(&answer.session));
            *response.metadata_mut() = MetadataMap::from_headers(said);
            Ok(response)
        })
    }
}

type Opening = Pin<Box<dyn Future<Output = Result<tonic::Response<Begun>, Status>> + Send>>;

impl StreamingService<Bytes> for Called {
    type Response = Bytes;
    type ResponseStream = Begun;
    type Future = Opening;

    fn call(&mut self, request: tonic::Request<tonic::Streaming<Bytes>>) -> Opening {
        let called = self.clone();
        Box::pin(async move {
            let (method, terms) = called.begin(request.metadata())?;
            let Called { caller, service, .. } = &called;
            let mut incoming = request.into_inner();
            let takes = method.descriptor.is_client_streaming();
            let first = match takes {
                true => Bytes::new(),
                false => {
                    let first = incoming.message().await?;
                    first.ok_or_else(|| Status::invalid_argument("nothing changed: there is no message"))?
                }
            };
            let incoming = takes.then_some(incoming);
            let mut begun = caller.stream(service, method, first, incoming, terms).await?;
            let said = caller.said(method, &std::mem::take(&mut begun.metadata), None);
            let mut response = tonic::Response::new(begun);
            *response.metadata_mut() = MetadataMap::from_headers(said);
            Ok(response)
        })
    }
}

/// What a request's headers say.
fn terms(metadata: &MetadataMap, service: &Service, place: Place) -> Result<Terms, Status> {
    let invalid = |what: String| Status::invalid_argument(format!("nothing changed: {what}"));
    let timeout = metadata.get("grpc-timeout").map(|value| {
        let timeout = value.to_str().ok().and_then(timeout);
        timeout.ok_or_else(|| invalid(format!("grpc-timeout: {value:?} is none")))
    });
    Ok(Terms {
        metadata: heard(metadata, service),
        session: session(metadata.as_ref())?,
        timeout: timeout.transpose()?,
        place,
    })
}

/// The headers that a service wants to hear of.
fn heard(metadata: &MetadataMap, service: &Service) -> Vec<MetadataEntry> {
    let entry = |entry: KeyAndValueRef<'_>| {
        let (key, value) = match entry {
            KeyAndValueRef::Ascii(key, value) => {
                (key.as_str(), MetadataValue::Text(value.to_str().ok()?.to_owned()))
            }
            KeyAndValueRef::Binary(key, value) => {
                (key.as_str(), MetadataValue::Bytes(value.to_bytes().ok()?))
            }
        };
        service.hears(key).then(|| MetadataEntry {
            key: key.to_owned(),
            value: Some(value),
        })
    };
    match service.hears_any() {
        true => metadata.iter().filter_map(entry).collect(),
        false => Vec::new(),
    }
}

/// A time as gRPC writes it: up to eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let digits = &text[..text.len() - unit.len_utf8()];
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    let timeout = match unit {
        'H' => Duration::from_secs(number * 3_600),
        'M' => Duration::from_secs(number * 60),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    };
    Some(timeout.min(TIMEOUT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_up_to_eight_digits_and_a_unit() {
        assert_eq!(timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(timeout("99999999n"), Some(Duration::from_nanos(99_999_999)));
        assert_eq!(timeout("99999999H"), Some(TIMEOUT_MAX));
        for wrong in ["", "S", "5", "5s", "123456789m", "-1S", "+1S", "5é"] {
            assert_eq!(timeout(wrong), None, "{wrong:?}");
        }
    }
}
