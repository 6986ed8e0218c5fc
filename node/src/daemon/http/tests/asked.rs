//! How a request may say what it wants: what stands twice, or is none of the forms that are read, is refused, not ignored.

use super::*;

const UPDATE: &str = r#"{"op":"incr","by":1,"type":"gcounter"}"#;

impl Api {
    /// A request with these lines beside those that every one has.
    async fn with(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let length = body.len();
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        ))
        .await
    }
}

#[tokio::test]
async fn of_two_headers_of_ours_the_first_counted() {
    let api = Api::start("twice", "").await;
    let of = "/v1/entities/n/a";
    assert_eq!(api.post(of, UPDATE).await.0, 200);
    for name in [
        "anabranch-session",
        "anabranch-timeout-ms",
        "anabranch-idempotent",
        "last-event-id",
        "content-type",
    ] {
        let value = match name {
            "anabranch-timeout-ms" => "5",
            "anabranch-idempotent" => "true",
            "content-type" => "application/json",
            _ => "",
        };
        let once = format!("{name}: {value}\r\n");
        assert_eq!(api.with("GET", of, &once, "").await.0, 200, "{name}");
        let twice = once.repeat(2);
        for (method, path, body) in [
            ("GET", of, ""),
            ("POST", of, UPDATE),
            ("POST", "/v1/call/sums/a/add", "1"),
            ("GET", "/v1/watch/n/a", ""),
        ] {
            let refused = api.with(method, path, &twice, body).await;
            Api::refused(&refused, 400, "invalid");
            assert!(refused.1.contains(name), "{refused:?}");
        }
    }
    assert!(api.get(of).await.1.contains("\"value\":1"));
    api.stop().await;
}
