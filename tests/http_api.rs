//! The admin API as a caller with nothing but a socket meets it: names in paths, whom it believes, what it refuses.

use serde_json::{Value, json};

use super::support::cluster::Cluster;
use super::support::face::{agreed, entity_path};
use super::support::{exit, http, wait_for};

/// What clients show, where a node wants it.
const TOKEN: &str = "0123456789abcdef-secret";

#[test]
fn names_in_paths_are_percent_encoded() {
    let cluster = Cluster::start("http-names", 1);
    let node = &cluster.nodes[0];
    for (kind, key) in [
        ("cart", "a/b"),
        ("Körbe/alle", "?x=1&y#z;%2F+ \"\\ 漢\n"),
        ("..", "."),
        ("cart", "/"),
        ("cart", "\u{10ffff}"),
    ] {
        let body = json!({"op": "add", "elements": [key], "type": "orset"}).to_string();
        let reply = http::post(&node.http, &entity_path("entities", kind, key), &body).unwrap();
        assert_eq!(reply.status, 200, "{kind} {key}: {reply:?}");
        assert_eq!(node.value(kind, key), Some(json!([key])), "{kind} {key}");
        let line = node.run(["get", "--json", kind, key]).done();
        assert_eq!(
            serde_json::from_str::<Value>(&line).unwrap(),
            json!({"kind": kind, "key": key, "value": [key]})
        );
    }
    // What is not encoded stands for itself; a plus is no space.
    let plain = http::post(&node.http, "/v1/entities/cart/a+b&c=d", r#"{"op":"create"}"#).unwrap();
    assert_eq!(
        (plain.status, node.value("cart", "a+b&c=d")),
        (200, Some(json!([])))
    );
    for (path, said) in [
        ("/v1/entities/cart/a/b", "%2F"),
        ("/v1/entities/cart/%", "hexadecimal"),
        ("/v1/entities/cart/%zz", "hexadecimal"),
        ("/v1/entities/cart/%ff", "UTF-8"),
        ("/v1/entities//a", "kind"),
    ] {
        assert_refused(&http::get(&node.http, path).unwrap(), 400, "invalid", said);
    }
    let long = format!("/v1/entities/cart/{}", "a".repeat(1_025));
    assert_refused(&http::get(&node.http, &long).unwrap(), 400, "invalid", "1024");
    let absent = http::get(&node.http, "/v1/entities/cart/nobody").unwrap();
    assert_refused(&absent, 404, "not_found", "cart/nobody");
    node.run(["get", "cart", "nobody"])
        .failed(exit::NO, &["cart/nobody"]);
}

#[test]
fn a_page_of_another_site_is_refused() {
    let cluster = Cluster::start("http-origin", 1);
    let at = cluster.nodes[0].http.as_str();
    let with = |headers: &[(&str, &str)]| {
        let body = r#"{"ops":[{"kind":"count","key":"a","op":"incr","by":1,"type":"gcounter"}]}"#;
        http::request(at, "POST", "/v1/updates", headers, body).unwrap()
    };
    let own = format!("http://{at}");
    let port = at.split(':').nth(1).unwrap();
    let localhost = format!("localhost:{port}");
    assert_eq!(with(&[]).status, 200);
    assert_eq!(with(&[("Origin", &own)]).status, 200);
    assert_eq!(with(&[("Host", &localhost)]).status, 200);
    for headers in [
        [("Origin", "http://evil.example")].as_slice(),
        &[("Origin", "null")],
        &[("Origin", "http://127.0.0.1:1")],
        &[("Host", "evil.example")],
        &[("Host", "localhost.evil.example")],
        &[("Host", "")],
        &[("Host", "evil.example"), ("Origin", "http://evil.example")],
    ] {
        assert_refused(&with(headers), 403, "forbidden", "");
    }
    // Not even whether it is well.
    for path in [
        "/v1/status",
        "/v1/dump",
        "/metrics",
        "/v1/watch/count/a",
        "/readyz",
    ] {
        let reply = http::request(at, "GET", path, &[("Host", "evil.example")], "").unwrap();
        assert_refused(&reply, 403, "forbidden", "evil.example");
    }
    assert_eq!(cluster.nodes[0].count("count", "a"), 3);
}

#[test]
fn a_page_of_a_configured_origin_sends_and_reads_all_that_there_is() {
    let mut cluster = Cluster::prepare("http-page", 1);
    cluster.nodes[0].configure("[http]", "[http]\norigins = [\"https://ops.example\"]");
    cluster.nodes[0].start_ready();
    let node = &cluster.nodes[0];
    node.increment("count", "a", 1);
    let ask = |method: &str, more: &[(&str, &str)]| {
        let headers = [&[("Origin", "https://ops.example")], more].concat();
        http::request(&node.http, method, "/v1/entities/count/a", &headers, "").unwrap()
    };
    let names = |reply: &http::Reply, header: &str| -> Vec<String> {
        let line = reply.headers.lines().find_map(|line| line.strip_prefix(header));
        let line = line.unwrap_or_else(|| panic!("{header} is missing: {reply:?}"));
        let names = line.split(',').map(|name| name.trim().to_owned());
        names.collect()
    };
    let wanted = "anabranch-session, anabranch-timeout-ms";
    let question = [
        ("Access-Control-Request-Method", "DELETE"),
        ("Access-Control-Request-Headers", wanted),
    ];
    let may = ask("OPTIONS", &question);
    assert_eq!((may.status, may.body.as_str()), (204, ""), "{may:?}");
    assert_eq!(
        names(&may, "access-control-allow-origin:"),
        ["https://ops.example"]
    );
    assert_eq!(
        names(&may, "access-control-allow-methods:"),
        ["GET", "POST", "DELETE"]
    );
    let headers = names(&may, "access-control-allow-headers:");
    for name in [
        "authorization",
        "content-type",
        "anabranch-session",
        "anabranch-timeout-ms",
        "anabranch-idempotent",
        "last-event-id",
        "traceparent",
    ] {
        assert!(headers.iter().any(|header| header == name), "{name}: {headers:?}");
    }
    // What the page may not read of an answer is as good as not said.
    let read = ask("GET", &[]);
    assert_eq!(read.status, 200, "{read:?}");
    assert!(read.headers.contains("anabranch-session:"), "{read:?}");
    let exposed = names(&read, "access-control-expose-headers:");
    assert!(exposed.iter().any(|name| name == "anabranch-session"), "{read:?}");
    assert_eq!(ask("DELETE", &[]).status, 200);
    cluster.nodes[0].stop();
}

#[test]
fn a_token_is_wanted_where_one_is_configured() {
    let mut cluster = Cluster::prepare("http-token", 1);
    cluster.nodes[0].configure("[http]", &format!("[http]\ntoken = \"{TOKEN}\""));
    cluster.nodes[0].start_ready();
    let at = cluster.nodes[0].http.clone();
    let with = |token: &str| http::request(&at, "GET", "/v1/dump", &[("Authorization", token)], "").unwrap();
    for scheme in ["Bearer", "bearer", "BEARER"] {
        assert_eq!(with(&format!("{scheme} {TOKEN}")).status, 200, "{scheme}");
    }
    assert_refused(&with("Bearer 0123456789abcdef"), 401, "unauthorized", "token");
    assert_refused(&with(TOKEN), 401, "unauthorized", "token");
    assert_refused(
        &http::get(&at, "/v1/status").unwrap(),
        401,
        "unauthorized",
        "ANABRANCH_TOKEN",
    );
    // Whether it is ready may be asked by whoever runs it.
    assert_eq!(http::get(&at, "/readyz").unwrap().status, 200);
    cluster.nodes[0]
        .run(["status"])
        .failed(exit::UNAUTHORIZED, &["ANABRANCH_TOKEN"]);
    cluster.nodes[0].stop();
}

#[test]
fn what_is_wrong_with_a_request_is_said_and_nothing_is_done() {
    let cluster = Cluster::start("http-requests", 1);
    let node = &cluster.nodes[0];
    node.increment("count", "a", 1);
    let op = |text: &str| format!(r#"{{"ops":[{{"kind":"count","key":"a","op":"incr","by":1}},{text}]}}"#);
    for (body, status, error, said) in [
        (String::new(), 400, "invalid", ""),
        ("{".into(), 400, "invalid", ""),
        ("[]".into(), 400, "invalid", ""),
        (r#"{"ops":[]}"#.into(), 400, "invalid", "at least one"),
        (
            op(r#"{"kind":"count","key":"a","op":"incr"}"#),
            400,
            "invalid",
            "operation 2",
        ),
        (
            op(r#"{"kind":"count","key":"a","op":"incr","by":1.5}"#),
            400,
            "invalid",
            "",
        ),
        (
            op(r#"{"kind":"count","key":"a","op":"incr","buy":1}"#),
            400,
            "invalid",
            "buy",
        ),
        (
            op(r#"{"kind":"","key":"a","op":"incr","by":1}"#),
            400,
            "invalid",
            "operation 2",
        ),
        (
            op(r#"{"kind":"count","key":"a","op":"add","elements":["x"]}"#),
            409,
            "wrong_type",
            "pncounter",
        ),
        (
            op(r#"{"kind":"count","key":"a","op":"create","type":"orset"}"#),
            409,
            "wrong_type",
            "pncounter",
        ),
        (
            op(r#"{"kind":"cart","key":"a","op":"add","elements":["x"]}"#),
            400,
            "type_required",
            "orset",
        ),
        (
            op(r#"{"kind":"cart","key":"a","op":"create","type":"queue"}"#),
            400,
            "invalid",
            "orset",
        ),
    ] {
        assert_refused(
            &http::post(&node.http, "/v1/updates", &body).unwrap(),
            status,
            error,
            said,
        );
    }
    // Not what was sent, however long it is, only what is wrong with it.
    let long = format!(r#"{{"ops":"{}"}}"#, "x".repeat(1 << 20));
    let reply = http::post(&node.http, "/v1/updates", &long).unwrap();
    assert_refused(&reply, 400, "invalid", "string");
    assert!(reply.body.len() < 2_000, "{} bytes of answer", reply.body.len());
    let reply = http::request(&node.http, "PATCH", "/v1/entities/count/a", &[], "").unwrap();
    assert_refused(&reply, 405, "no_method", "PATCH");
    assert_refused(&http::get(&node.http, "/v2").unwrap(), 404, "no_route", "/v2");
    let read = http::get(&node.http, "/v1/entities/count/a?level=some").unwrap();
    assert_refused(&read, 400, "invalid", "level=majority");
    let read = http::get(&node.http, "/v1/entities/count/a?level=majority").unwrap();
    assert_eq!(
        (read.status, read.headers.contains("anabranch-session")),
        (200, true)
    );
    for (query, said) in [
        ("kind=", "a kind"),
        ("kind=count&kind=cart", "kind=KIND"),
        ("kind=count&", "kind=KIND"),
        ("sort=count", "kind=KIND"),
    ] {
        let dump = http::get(&node.http, &format!("/v1/dump?{query}")).unwrap();
        assert_refused(&dump, 400, "invalid", said);
    }
    let dump = http::get(&node.http, "/v1/dump?kind=count").unwrap();
    assert_eq!((dump.status, dump.body), (200, node.dump()));
    // A batch is done whole or not at all: not one of those first operations was.
    assert_eq!(node.count("count", "a"), 1);
    assert_eq!(node.value("cart", "a"), None);
}

#[test]
fn a_deletion_does_what_it_is_asked_or_says_that_it_does_not() {
    let mut cluster = Cluster::start("http-deletions", 2);
    cluster.nodes[0].increment("count", "a", 1);
    agreed(cluster.faces());
    cluster.nodes[1].kill();
    let node = &*cluster.nodes[0];
    let asks = |method: &str, query: &str, body: &str| {
        let path = format!("/v1/entities/count/a{query}");
        http::request(&node.http, method, &path, &[], body).unwrap()
    };
    let increment = r#"{"op":"incr","by":1}"#;
    assert_refused(&asks("DELETE", "?level=all", ""), 400, "invalid", "level=all");
    assert_refused(
        &asks("POST", "?level=all", increment),
        400,
        "invalid",
        "level=all",
    );
    assert_refused(&asks("DELETE", "", "garbage"), 400, "invalid", "");
    assert_refused(&asks("DELETE", "", r#"{"lvl":"all"}"#), 400, "invalid", "lvl");
    assert_refused(
        &asks("DELETE", "", r#"{"level":"most"}"#),
        400,
        "invalid",
        "majority",
    );
    // Nobody is there to confirm it: the deletion stays, and its answer says so.
    assert_eq!(node.count("count", "a"), 1);
    let unconfirmed = asks("DELETE", "", r#"{"level":"2","timeout_ms":50}"#);
    assert_eq!(unconfirmed.status, 504, "{}", unconfirmed.body);
    assert!(unconfirmed.body.contains("unconfirmed"), "{}", unconfirmed.body);
    // It is in, and so in its session.
    let has_session = unconfirmed.headers.contains("anabranch-session: ");
    assert!(has_session, "{}", unconfirmed.headers);
    assert_eq!(node.value("count", "a"), None);
    node.increment("count", "a", 1);
    let done = asks("DELETE", "", r#"{"level":"local","idempotency_key":"once"}"#);
    assert!(
        done.status == 200 && done.body.contains(r#""confirmed":1"#),
        "{}",
        done.body
    );
    node.increment("count", "a", 1);
    let again = asks("DELETE", "", r#"{"level":"local","idempotency_key":"once"}"#);
    assert!(again.body.contains(r#""repeated":true"#), "{}", again.body);
    assert_eq!(node.count("count", "a"), 1);
    assert_eq!(asks("DELETE", "", "").status, 200);
    assert_eq!(node.value("count", "a"), None);
}

#[test]
fn what_is_anabranchs_own_is_not_written_from_outside() {
    let cluster = Cluster::start("http-own", 1);
    let node = &*cluster.nodes[0];
    let path = entity_path("entities", "anabranch:schedule", "x");
    let asks = |method: &str, body: &str| http::request(&node.http, method, &path, &[], body).unwrap();
    let set = r#"{"op":"set","value":"x","type":"lwwregister"}"#;
    assert_refused(&asks("POST", set), 400, "invalid", "Anabranch's own");
    assert_refused(&asks("DELETE", ""), 400, "invalid", "Anabranch's own");
    // One of several, behind one that would be right.
    let op = |kind: &str| json!({"kind": kind, "key": "x", "op": "enable", "type": "flag"});
    let batch = json!({"ops": [op("flag"), op("anabranch:deleted")]});
    assert_refused(&node.update(&batch).unwrap(), 400, "invalid", "anabranch:deleted");
    assert_eq!(node.value("flag", "x"), None);
    node.run([
        "update",
        "anabranch:trigger",
        "nodes",
        "set",
        "x",
        "--type",
        "lwwregister",
    ])
    .failed(exit::INVALID, &["nothing changed", "anabranch:trigger"]);
    node.run(["delete", "anabranch:trigger", "nodes"])
        .failed(exit::INVALID, &["nothing changed"]);
    // It can be read: there is none.
    assert_eq!(asks("GET", "").status, 404);
    assert_eq!(node.dump(), "");
}

#[test]
fn a_body_has_a_limit() {
    let mut cluster = Cluster::prepare("http-limit", 1);
    cluster.nodes[0].configure("[http]", "[http]\nbody_bytes_max = 65536");
    cluster.nodes[0].start_ready();
    let node = &cluster.nodes[0];
    let body =
        |bytes: usize| json!({"op": "set", "type": "lwwregister", "value": "x".repeat(bytes)}).to_string();
    let path = entity_path("entities", "page", "a");
    assert_eq!(http::post(&node.http, &path, &body(60_000)).unwrap().status, 200);
    // It may be told, and the connection closed, before the whole body is sent.
    if let Ok(reply) = http::post(&node.http, &path, &body(70_000)) {
        assert_refused(&reply, 413, "invalid", "body_bytes_max");
    }
    assert_eq!(node.value("page", "a").unwrap().as_str().unwrap().len(), 60_000);
}

#[test]
fn what_the_commands_show_is_there_for_any_client() {
    let cluster = Cluster::start("http-reads", 2);
    let (n1, n2) = (&cluster.nodes[0], &cluster.nodes[1]);
    let level = json!({"ops": [{"kind": "count", "key": "a", "op": "incr", "by": 2, "type": "gcounter"}], "level": "all"});
    assert_eq!(n1.updated(&level)["confirmed"], 2);
    let dump = agreed(cluster.faces());
    assert_eq!(http::get(&n2.http, "/v1/dump").unwrap().body, dump);
    for (path, content_type) in [
        ("/v1/status", "application/json"),
        ("/v1/entities/count/a", "application/json"),
        ("/v1/dump", "application/x-ndjson"),
        ("/metrics", "text/plain"),
    ] {
        let headers = http::get(&n1.http, path).unwrap().headers;
        assert!(
            headers.contains(&format!("content-type: {content_type}")),
            "{path}: {headers}"
        );
    }
    // What a dump has shown is much: it is said to those who ask for it.
    let session = |headers: &[(&str, &str)]| {
        let reply = http::request(&n1.http, "GET", "/v1/dump", headers, "").unwrap();
        assert_eq!(reply.body, dump);
        reply.headers.contains("anabranch-session: ")
    };
    assert!(!session(&[]));
    assert!(session(&[("anabranch-session", "")]));
    let shards = http::get(&n2.http, "/v1/shards").unwrap().body;
    let verified = http::post(&n1.http, "/v1/verify", &shards).unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&verified.body).unwrap()["agree"],
        true,
        "{verified:?}"
    );
    assert_eq!(http::get(&n1.http, "/healthz").unwrap().status, 200);
    let metrics = http::get(&n1.http, "/metrics").unwrap();
    assert!(
        metrics.body.contains("\nanabranch_entities 1\n"),
        "{}",
        metrics.body
    );
    // Gossip comes in its own time.
    let status = wait_for("gossip", || {
        Some(n1.status()).filter(|status| status["members"][0]["hint"] == "up")
    });
    assert_eq!(status["members"][0]["name"], "n2", "{status}");
    assert_eq!(
        status["members"][0]["id"].as_str(),
        Some(n2.status_text("id").as_str()),
        "{status}"
    );
}

#[test]
fn a_stream_of_what_is_no_function_is_refused_as_a_call_of_it_is() {
    let cluster = Cluster::start("http-no-function", 1);
    let at = cluster.nodes[0].http.as_str();
    for reply in [
        http::post(at, "/v1/call/cart/a/show", ""),
        http::post(at, "/v1/stream/cart/a/show", ""),
        http::get(at, "/v1/stream/cart/a/show"),
    ] {
        assert_refused(&reply.unwrap(), 404, "no_function", "no function of cart");
    }
}

#[track_caller]
fn assert_refused(reply: &http::Reply, status: u16, error: &str, said: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    let body: Value = serde_json::from_str(&reply.body).unwrap_or_else(|e| panic!("{e}: {reply:?}"));
    assert_eq!(
        (&body["error"], &body["changed"]),
        (&json!(error), &json!(false)),
        "{body}"
    );
    assert!(
        body["message"].as_str().unwrap().contains(said),
        "{said:?} is missing in {body}"
    );
}
