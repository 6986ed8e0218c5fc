//! What a message may be: what of it reaches a function over gRPC and HTTP, and what is refused before its SDK ends on it.

use std::collections::BTreeMap;

use serde_json::json;

use super::support::http;
use super::support::kalix::{Dev, shop};

const INVALID: i32 = 3;
const RESOURCE_EXHAUSTED: i32 = 8;
const INTERNAL: i32 = 13;
/// `message_bytes_max`, and the largest reply.
const MESSAGE_BYTES_MAX: usize = 768 << 10;
/// Of a message whose one field is a long text, what is no text.
const AROUND_BYTES: usize = 4;

#[test]
fn a_message_without_what_it_must_have_does_not_end_its_functions_process() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("messages-required", shop, 1);
    let mut client = dev.clients().remove(0);
    let at = dev.ingress(0).to_string();
    let post = |json: &str| {
        let headers = [("content-type", "application/json")];
        let reply = http::request(&at, "POST", "/anabranch.test.Desk/Keep", &headers, json).unwrap();
        (reply.status, reply.body)
    };
    let whole = json!({"id": "a", "below": {"id": "b"}, "part": {"name": "c"}});
    let kept = json!({"text": "a string"});
    assert_eq!(client.call("Desk/Keep", whole.clone()), kept);
    assert_eq!(post(&whole.to_string()).0, 200);
    // While an SDK that has ended is started again nothing is answered.
    let path = "/anabranch.test.Desk/Keep";
    for (bytes, what) in [
        (&b""[..], "id of anabranch.test.Old is required"),
        (b"\x0a\x01a\x12\x00", "id of anabranch.test.Old is required"),
        (
            b"\x0a\x01a\x1b\x20\x01\x1c",
            "name of anabranch.test.Old.Part is written as something else",
        ),
    ] {
        let framed = [&[0, 0, 0, 0, bytes.len() as u8], bytes].concat();
        let answer = client.send(path, framed.into(), None);
        assert_eq!(answer.code, INVALID, "{answer:?}");
        assert!(answer.message.contains(what), "{answer:?}");
        assert_eq!(client.call("Desk/Keep", whole.clone()), kept);
    }
    for lacking in ["{}", r#"{"id":"a","below":{}}"#] {
        let (status, said) = post(lacking);
        assert_eq!(status, 400, "{said}");
        assert!(said.contains("id of anabranch.test.Old is required"), "{said}");
        assert_eq!(client.call("Desk/Keep", whole.clone()), kept);
    }
}

#[test]
fn a_message_as_long_as_it_may_be_arrives_whatever_is_said_beside_it() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("messages-long", shop, 1);
    let mut client = dev.clients().remove(0);
    let at = dev.ingress(0).to_string();
    let longest = MESSAGE_BYTES_MAX - AROUND_BYTES;
    let text = |bytes: usize| json!({"text": "x".repeat(bytes)});
    let header = "x".repeat(7 << 10);
    client.headers = BTreeMap::from([("x-much".to_owned(), header.clone())]);
    let measured = client.call("Desk/Measure", text(longest));
    assert_eq!(measured, json!({"value": longest}));
    let (code, said) = client.fail("Desk/Measure", text(longest + 1));
    assert_eq!(code, RESOURCE_EXHAUSTED, "{said}");
    assert!(said.contains("more than 786432 bytes"), "{said}");
    let post = |bytes: usize| {
        let headers = [("content-type", "application/json"), ("x-much", &*header)];
        let path = "/anabranch.test.Desk/Measure";
        let reply = http::request(&at, "POST", path, &headers, &text(bytes).to_string()).unwrap();
        (reply.status, reply.body)
    };
    assert_eq!(post(longest), (200, format!("{{\"value\":\"{longest}\"}}")));
    let (status, said) = post(longest + 1);
    assert_eq!(status, 413, "{said}");
    assert!(said.contains("more than 786432 bytes"), "{said}");
    // The same of a reply.
    let filled = client.call("Desk/Fill", json!({"value": longest}));
    assert_eq!(filled["text"].as_str().map(str::len), Some(longest));
    let (code, said) = client.fail("Desk/Fill", json!({"value": longest + 1}));
    assert_eq!(code, INTERNAL, "{said}");
    assert!(said.contains("has 786433 bytes, at most 786432"), "{said}");
    // And of one of a stream, which has no headers but a name.
    let echoed = client.ask("Desk/EchoText", &[text(longest), text(1)]);
    let lengths = echoed
        .messages
        .iter()
        .map(|message| message["text"].as_str().map(str::len));
    assert_eq!(lengths.collect::<Vec<_>>(), [Some(longest), Some(1)]);
}

#[test]
fn an_empty_session_header_begins_a_session_over_grpc_and_http() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("messages-session", shop, 1);
    let mut client = dev.clients().remove(0);
    let at = dev.ingress(0).to_string();
    client.headers = BTreeMap::from([("anabranch-session".to_owned(), String::new())]);
    let answer = client.ask("Counter/Change", &[json!({"id": "c", "by": 1})]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let session = answer.headers["anabranch-session"].clone();
    assert!(!session.is_empty());
    for begun in ["", &*session] {
        let headers = [("content-type", "application/json"), ("anabranch-session", begun)];
        let body = r#"{"id":"c","by":"1"}"#;
        let reply = http::request(&at, "POST", "/counters/c", &headers, body).unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(reply.headers.contains("anabranch-session: "), "{reply:?}");
    }
    client.headers = BTreeMap::from([("anabranch-session".to_owned(), "none".to_owned())]);
    assert_eq!(client.fail("Counter/Get", json!({"id": "c"})).0, INVALID);
}

#[test]
fn bytes_in_headers_are_the_same_over_grpc_and_http() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("messages-bytes", shop, 1);
    let mut client = dev.clients().remove(0);
    let at = dev.ingress(0).to_string();
    let get = |value: &str| http::request(&at, "GET", "/bytes/1", &[("x-b-bin", value)], "").unwrap();
    for (value, hex) in [
        ("AP8", "00ff"),
        ("AP8=", "00ff"),
        ("", ""),
        ("AP8=,AQ", "00ff 01"),
        ("AQ, Ag", "01 02"),
    ] {
        let reply = get(value);
        assert_eq!(
            (reply.status, &*reply.body),
            (200, &*json!({ "text": hex }).to_string()),
            "{value}"
        );
        assert!(reply.headers.contains("x-raw-bin: AP8\n"), "{reply:?}");
    }
    client.headers = BTreeMap::from([("x-b-bin".to_owned(), "AP8".to_owned())]);
    let answer = client.ask("Desk/Bytes", &[json!({"value": 1})]);
    assert_eq!(answer.messages, [json!({"text": "00ff"})]);
    assert_eq!(answer.headers["x-raw-bin"], "AP8");
    for wrong in ["A", "AP8==", "A*", "AQ, A"] {
        let reply = get(wrong);
        assert_eq!(reply.status, 400, "{reply:?}");
        assert!(reply.body.contains("x-b-bin"), "{reply:?}");
    }
}

#[test]
fn an_integer_that_a_function_has_no_room_for_does_not_reach_it_as_another() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("messages-integers", shop, 1);
    let at = dev.ingress(0).to_string();
    let by = |by: &str| {
        let headers = [("content-type", "application/json")];
        let reply = http::request(&at, "POST", "/counters/c", &headers, &format!("{{\"by\":{by}}}"));
        let reply = reply.unwrap();
        (reply.status, reply.body)
    };
    for wrong in [
        "9223372036854775808.0",
        "9.223372036854775808e18",
        "-9223372036854775809",
        "1.5",
    ] {
        let (status, said) = by(wrong);
        assert_eq!(status, 400, "{wrong}: {said}");
        assert!(said.contains("nothing changed"), "{wrong}: {said}");
    }
    let is = |value: &str| (200, format!("{{\"value\":\"{value}\"}}"));
    assert_eq!(by("1e3"), is("1000"));
    assert_eq!(by("8007199254739993.0"), is("8007199254740993"));
}
