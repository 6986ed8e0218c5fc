//! How many requests came to the ingress, by what they speak and how they were answered.

use std::sync::atomic::{AtomicU64, Ordering};

use http::Response;
use tonic::Code;

use super::Protocol;
use crate::sidecar::status::http_status;

/// What is spoken, as the metrics name it.
const PROTOCOLS: [&str; 3] = ["grpc", "grpc_web", "json"];
/// How a request was answered: done, refused as its caller's fault, or failed as somebody else's.
const OUTCOMES: [&str; 3] = ["ok", "refused", "failed"];

/// Requests that were answered; of a stream, how it began.
#[derive(Debug, Default)]
pub struct Requests([[AtomicU64; OUTCOMES.len()]; PROTOCOLS.len()]);

impl Requests {
    pub(super) fn note<B>(&self, protocol: Protocol, response: &Response<B>) {
        let protocol = match protocol {
            Protocol::Grpc => 0,
            Protocol::Web => 1,
            Protocol::Json => 2,
        };
        self.0[protocol][outcome(response)].fetch_add(1, Ordering::Relaxed);
    }

    /// Each protocol and outcome, with how many there were.
    pub fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
        let mut all = Vec::new();
        for (protocol, counts) in PROTOCOLS.into_iter().zip(&self.0) {
            for (outcome, count) in OUTCOMES.into_iter().zip(counts) {
                all.push((protocol, outcome, count.load(Ordering::Relaxed)));
            }
        }
        all
    }
}

/// By the head of an answer. gRPC has its code there where nothing was replied before it.
fn outcome<B>(response: &Response<B>) -> usize {
    let code = response.headers().get("grpc-status");
    let status = match code {
        Some(code) => http_status(Code::from_bytes(code.as_bytes())),
        None => response.status(),
    };
    match status {
        _ if status.is_client_error() => 1,
        _ if status.is_server_error() => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_a_failure_by_its_status_or_its_code() {
        let requests = Requests::default();
        for (status, code, expected) in [
            (200, None, "ok"),
            (204, None, "ok"),
            (200, Some("0"), "ok"),
            (200, Some("5"), "refused"),
            (200, Some("14"), "failed"),
            (403, None, "refused"),
            (503, None, "failed"),
        ] {
            let mut response = Response::builder().status(status);
            if let Some(code) = code {
                response = response.header("grpc-status", code);
            }
            let before = requests.all();
            requests.note(Protocol::Web, &response.body(()).unwrap());
            let after = requests.all();
            let mut grown = before
                .iter()
                .zip(&after)
                .filter(|(before, after)| before != after);
            let (_, (protocol, outcome, _)) = grown.next().unwrap();
            assert_eq!((*protocol, *outcome), ("grpc_web", expected), "{status} {code:?}");
            assert_eq!(grown.next(), None);
        }
    }
}
