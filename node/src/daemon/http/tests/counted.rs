//! What `/metrics` says of requests is what was asked, and how it was answered.

use super::*;

impl Api {
    /// The value of a series.
    async fn counted(&self, series: &str) -> u64 {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200);
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.unwrap_or_else(|| panic!("no {series} in {text}"))
            .trim()
            .parse()
            .unwrap()
    }

    async fn requests(&self, operation: &str, status: &str) -> u64 {
        let series =
            format!("anabranch_http_requests_total{{operation=\"{operation}\",status=\"{status}\"}}");
        self.counted(&series).await
    }
}

#[tokio::test]
async fn plain_updates_and_reads_were_in_no_metric() {
    let api = Api::start("counted", "").await;
    let of = "/v1/entities/n/a";
    let update = r#"{"op":"incr","by":1,"type":"gcounter"}"#;
    for _ in 0..5 {
        assert_eq!(api.post(of, update).await.0, 200);
    }
    for _ in 0..4 {
        assert_eq!(api.get(of).await.0, 200);
    }
    assert_eq!(api.get("/v1/entities/n/none").await.0, 404);
    assert_eq!(api.post(of, "{}").await.0, 400);
    let batch = r#"{"ops":[{"kind":"n","key":"a","op":"incr","by":1}]}"#;
    assert_eq!(api.post("/v1/updates", batch).await.0, 200);
    assert_eq!(api.get("/nowhere").await.0, 404);
    assert_eq!(api.get("/readyz/writes").await.0, 200);
    assert_eq!(api.post("/v1/call/sums/a/add", "1").await.0, 200);
    // Whoever is not let in was answered, too.
    let foreign = "GET /v1/dump HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    assert_eq!(api.raw(foreign).await.0, 403);
    for (operation, status, count) in [
        ("update", "2xx", 6),
        ("update", "4xx", 1),
        ("update", "5xx", 0),
        ("read", "2xx", 4),
        ("read", "4xx", 1),
        ("call", "2xx", 1),
        ("probe", "2xx", 1),
        ("dump", "2xx", 0),
        ("dump", "4xx", 1),
        ("other", "4xx", 1),
    ] {
        assert_eq!(
            api.requests(operation, status).await,
            count,
            "{operation} {status}"
        );
    }
    assert_eq!(api.counted("anabranch_http_watches_open ").await, 0);
    let mut watchers = Vec::new();
    for _ in 0..3 {
        let mut watcher = api.ask("/v1/watch/n/a").await;
        until(&mut watcher, "data: ").await;
        watchers.push(watcher);
    }
    assert_eq!(api.counted("anabranch_http_watches_open ").await, 3);
    assert_eq!(api.requests("watch", "2xx").await, 3);
    api.stop().await;
}
