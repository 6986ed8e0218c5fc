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

#[tokio::test]
async fn what_a_body_was_said_to_be_was_ignored() {
    let api = Api::start("media", "").await;
    let of = "/v1/entities/n/a";
    for said in [
        "content-encoding: gzip\r\n",
        "content-encoding: identity\r\ncontent-encoding: br\r\n",
        "content-type: application/json; charset=iso-8859-1\r\n",
        "content-type: application/json;charset=\"UTF-16\"\r\n",
    ] {
        for (method, path) in [
            ("POST", of),
            ("DELETE", of),
            ("POST", "/v1/updates"),
            ("POST", "/v1/call/sums/a/add"),
        ] {
            Api::refused(&api.with(method, path, said, UPDATE).await, 415, "invalid");
        }
    }
    for said in [
        "content-encoding: identity\r\n",
        "content-type: application/json; charset=UTF-8\r\n",
        "content-type: application/x-www-form-urlencoded\r\n",
        "",
    ] {
        let answer = api.with("POST", of, said, UPDATE).await;
        assert_eq!(answer.0, 200, "{said}: {answer:?}");
    }
    api.stop().await;
}

#[tokio::test]
async fn minus_zero_is_a_whole_number_and_an_empty_query_asks_for_nothing() {
    let api = Api::start("zero", "").await;
    let of = "/v1/entities/n/a";
    assert_eq!(api.post(of, UPDATE).await.0, 200);
    for (path, body) in [
        (of, r#"{"op":"incr","by":-0,"timeout_ms":-0}"#),
        (
            "/v1/updates",
            r#"{"ops":[{"kind":"n","key":"a","op":"incr","by":-0}],"timeout_ms":-0}"#,
        ),
        (
            "/v1/entities/r/a",
            r#"{"op":"set","value":"x","clock":-0,"type":"lwwregister"}"#,
        ),
    ] {
        let answer = api.post(path, body).await;
        assert_eq!(answer.0, 200, "{body}: {answer:?}");
    }
    for body in [
        r#"{"op":"incr","by":0.0}"#,
        r#"{"op":"incr","by":"0"}"#,
        r#"{"op":"incr","by":9223372036854775808}"#,
    ] {
        let refused = api.post(of, body).await;
        Api::refused(&refused, 400, "invalid");
        assert!(refused.1.contains("expected a whole number"), "{refused:?}");
    }
    for path in ["/v1/entities/n/a?", "/v1/dump?", "/v1/entities/n/a?level=local"] {
        assert_eq!(api.get(path).await.0, 200, "{path}");
    }
    assert_eq!(api.post("/v1/entities/n/a?", UPDATE).await.0, 200);
    Api::refused(&api.get("/v1/entities/n/a?level=").await, 400, "invalid");
    api.stop().await;
}
