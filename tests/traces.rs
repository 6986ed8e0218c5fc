//! Traces: from a request through another node to a function's commit, as a collector gets them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use prost::Message;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use super::functions::example;
use super::support::cluster::Cluster;
use super::support::face::agreed;
use super::support::grpc::Grpc;
use super::support::kalix::shop;
use super::support::{PATIENCE, http, ports, wait_for};

/// Takes what nodes send, and hands each part on.
fn collector() -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, parts) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let sender = sender.clone();
            std::thread::spawn(move || take(stream.unwrap(), &sender));
        }
    });
    (format!("http://{address}"), parts)
}

fn take(stream: TcpStream, parts: &Sender<Value>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        let lower = head.to_ascii_lowercase();
        let length = lower
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.unwrap().parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        for resource in body["resourceSpans"].as_array().unwrap() {
            for scope in resource["scopeSpans"].as_array().unwrap() {
                for span in scope["spans"].as_array().unwrap() {
                    // The test may have all that it wanted.
                    let _ = parts.send(span.clone());
                }
            }
        }
        reader
            .get_mut()
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            .unwrap();
    }
}

#[test]
fn a_trace_goes_through_nodes_to_the_function_and_its_commit() {
    let (address, parts) = collector();
    let cluster = Cluster::prepare("traces", 2).with_program(&example("quota"));
    for node in &cluster.nodes {
        node.configure(
            "[http]",
            &format!("[trace]\ncollector = \"{address}\"\nsample = 0.0\n\n[http]"),
        );
    }
    let cluster = cluster.started();
    let [n1, n2] = [0, 1].map(|i| &*cluster.nodes[i]);
    let deposited = http::post(&n1.http, "/v1/call/quota/api/deposit", "1000").unwrap();
    assert_eq!(deposited.status, 200, "{deposited:?}");
    let begun = deposited
        .headers
        .lines()
        .find_map(|line| line.strip_prefix("traceresponse: "));
    assert!(
        begun.unwrap().ends_with("-00"),
        "none that begins here is recorded: {begun:?}"
    );
    agreed(cluster.faces());
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let header = format!("00-{id}-00f067aa0ba902b7-01");
    // The second node asks the first for half of what it has.
    let refilled = wait_for("a refill", || {
        let headers = [
            ("traceparent", header.as_str()),
            ("Content-Type", "application/json"),
        ];
        let reply = http::request(
            &n2.http,
            "POST",
            "/v1/call/quota-mover/api/refill",
            &headers,
            "null",
        )
        .unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        (reply.body.trim() == "500").then_some(reply)
    });
    let answered = refilled.headers.lines();
    let mut answered = answered.filter_map(|line| line.strip_prefix("traceresponse: "));
    let answered = answered.next().unwrap().to_owned();
    let mut by_span: BTreeMap<String, Value> = BTreeMap::new();
    let wanted: BTreeSet<&str> = [
        "http refill",
        "call refill",
        "ask hand_over",
        "answer hand_over",
        "call hand_over",
    ]
    .into();
    let text = |part: &Value, field: &str| part[field].as_str().unwrap().to_owned();
    loop {
        let names: BTreeSet<String> = by_span.values().map(|part| text(part, "name")).collect();
        let has_commit = names.iter().any(|name| name.starts_with("commit"));
        if has_commit && wanted.iter().all(|name| names.contains(*name)) {
            break;
        }
        let part = parts
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|e| panic!("{e} after {names:?}"));
        assert_eq!(part["traceId"], json!(id), "nothing else is recorded: {part}");
        by_span.insert(text(&part, "spanId"), part);
    }
    // From the commit at the other node back to the request.
    let commit = by_span
        .values()
        .find(|part| text(part, "name").starts_with("commit"))
        .unwrap();
    let mut way = vec![text(commit, "name")];
    let mut at = commit.clone();
    while let Some(parent) = by_span.get(&text(&at, "parentSpanId")) {
        let time = |part: &Value, field: &str| text(part, field).parse::<u64>().unwrap();
        assert!(time(parent, "startTimeUnixNano") <= time(&at, "endTimeUnixNano"));
        way.push(text(parent, "name"));
        at = parent.clone();
    }
    assert_eq!(
        way[1..],
        [
            "call hand_over",
            "answer hand_over",
            "ask hand_over",
            "call refill",
            "http refill"
        ],
        "{way:?}"
    );
    assert_eq!(text(&at, "parentSpanId"), "00f067aa0ba902b7");
    assert_eq!(answered, format!("00-{id}-{}-01", text(&at, "spanId")));
    // What fails says so.
    let headers = [
        ("traceparent", header.as_str()),
        ("Content-Type", "application/json"),
    ];
    let refused = http::request(&n1.http, "POST", "/v1/call/quota/api/take", &headers, "\"x\"").unwrap();
    assert_eq!(refused.status, 400, "{refused:?}");
    loop {
        let part = parts.recv_timeout(PATIENCE).unwrap();
        if text(&part, "name") == "http take" {
            assert_eq!(part["status"]["code"], 2, "{part}");
            return;
        }
    }
}

/// The span that a test's requests say they come from.
const ASKS: &str = "00f067aa0ba902b7";

/// What a request says that is part of this trace.
fn traceparent(trace: u128) -> String {
    format!("00-{trace:032x}-{ASKS}-01")
}

/// The names of the parts of a trace from the one whose name begins so up to the request, once all of them have come.
fn way(parts: &Receiver<Value>, come: &mut Vec<Value>, trace: u128, from: &str) -> Vec<String> {
    let id = format!("{trace:032x}");
    loop {
        let mut of_trace = come.iter().filter(|part| part["traceId"] == id.as_str());
        let first = of_trace.find(|part| part["name"].as_str().unwrap().starts_with(from));
        let (mut way, mut at) = (Vec::new(), first);
        while let Some(part) = at {
            way.push(part["name"].as_str().unwrap().to_owned());
            let parent = part["parentSpanId"].as_str().unwrap();
            if parent == ASKS {
                return way;
            }
            at = come.iter().find(|part| part["spanId"] == parent);
        }
        let part = parts.recv_timeout(PATIENCE);
        come.push(part.unwrap_or_else(|e| panic!("{e} after {come:?}, on the way {way:?} of {trace}")));
    }
}

/// What one says that is this part of a trace.
fn part_of(come: &[Value], trace: u128, name: &str) -> String {
    let id = format!("{trace:032x}");
    let mut parts = come.iter();
    let part = parts.find(|part| part["traceId"] == id.as_str() && part["name"] == name);
    let span = part.and_then(|part| part["spanId"].as_str());
    format!(
        "00-{id}-{}-01",
        span.unwrap_or_else(|| panic!("no {name}: {come:?}"))
    )
}

#[test]
fn a_trace_that_begins_at_a_node_begins_with_a_part_of_its_own() {
    let (address, parts) = collector();
    let cluster = Cluster::prepare("traces-begun", 1).with_program(&example("quota"));
    let sections = format!("[trace]\ncollector = \"{address}\"\nsample = 1.0\n\n[http]");
    cluster.nodes[0].configure("[http]", &sections);
    let cluster = cluster.started();
    let deposited = http::post(&cluster.nodes[0].http, "/v1/call/quota/api/deposit", "1000").unwrap();
    assert_eq!(deposited.status, 200, "{deposited:?}");
    loop {
        let part = parts.recv_timeout(PATIENCE).unwrap();
        if part["name"] == "http deposit" {
            assert_eq!(part["parentSpanId"], "", "{part}");
            let [trace, span] = ["traceId", "spanId"].map(|id| part[id].as_str().unwrap());
            let answered = format!("traceresponse: 00-{trace}-{span}-01\n");
            assert!(deposited.headers.contains(&answered), "{deposited:?}");
            return;
        }
    }
}

#[test]
fn a_call_by_the_ingress_takes_part_in_its_trace_in_every_shape() {
    let Some(shop) = shop() else { return };
    let (collects, parts) = collector();
    let mut cluster = Cluster::prepare("traces-ingress", 1);
    let ingress = ports::take();
    let sections = format!(
        "[trace]\ncollector = \"{collects}\"\nsample = 0.0\n[function]\ncommand = [\"npm\", \"start\", \"--silent\"]\n\
         directory = {:?}\n[ingress]\nlisten = \"{ingress}\"\n[http]\n",
        shop.dir
    );
    cluster.nodes[0].configure("[http]\n", &sections);
    cluster.start_all();
    cluster.nodes[0].process().stderr.until("discovered");
    let (mut client, at, mut come) = (
        Grpc::connect(ingress, &shop.pool),
        ingress.to_string(),
        Vec::new(),
    );
    let change = json!({"id": "c", "by": "1"});
    let begun = client.ask("Counter/Change", std::slice::from_ref(&change));
    assert!(
        begun.headers["traceresponse"].ends_with("-00"),
        "none that begins here is recorded: {begun:?}"
    );
    // gRPC.
    client.headers.insert("traceparent".into(), traceparent(1));
    let changed = client.ask("Counter/Change", std::slice::from_ref(&change));
    let commit = way(&parts, &mut come, 1, "commit");
    assert_eq!(commit[1..], ["call Change", "http Change"], "{commit:?}");
    assert_eq!(changed.headers["traceresponse"], part_of(&come, 1, "http Change"));
    // JSON over HTTP, and gRPC as browsers speak it.
    let (two, three) = (traceparent(2), traceparent(3));
    let headers = [
        ("traceparent", two.as_str()),
        ("content-type", "application/json"),
    ];
    let changed = http::request(&at, "POST", "/counters/c", &headers, r#"{"by": "1"}"#).unwrap();
    let commit = way(&parts, &mut come, 2, "commit");
    assert_eq!(commit[1..], ["call Change", "http Change"], "{commit:?}");
    let own = part_of(&come, 2, "http Change");
    assert!(
        changed.headers.contains(&format!("traceresponse: {own}\n")),
        "{changed:?}"
    );
    let input = shop.pool.get_message_by_name("anabranch.test.Change").unwrap();
    let message = DynamicMessage::deserialize(input, &change)
        .unwrap()
        .encode_to_vec();
    let frame = [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()], &*message].concat();
    let headers = [
        ("traceparent", three.as_str()),
        ("content-type", "application/grpc-web+proto"),
    ];
    let (status, said, _) =
        http::open(&at, "POST", "/anabranch.test.Counter/Change", &headers, &frame).unwrap();
    let commit = way(&parts, &mut come, 3, "commit");
    assert_eq!(commit[1..], ["call Change", "http Change"], "{commit:?}");
    let own = part_of(&come, 3, "http Change");
    assert!(
        status == 200 && said.contains(&format!("traceresponse: {own}\n")),
        "{said}"
    );
    // Streams, of what has no entities and of what has some.
    client.headers.insert("traceparent".into(), traceparent(4));
    assert_eq!(client.ask("Desk/Sum", &[json!({"value": "2"})]).code, 0);
    let streamed = way(&parts, &mut come, 4, "stream");
    assert_eq!(streamed, ["stream Sum", "http Sum"]);
    let five = traceparent(5);
    let watched = http::lines_with(&at, "/counters/c/watch", &[("traceparent", &five)])
        .unwrap()
        .next();
    assert_eq!(watched.unwrap().unwrap(), r#"{"value":"4"}"#);
    assert_eq!(
        way(&parts, &mut come, 5, "stream"),
        ["stream Watch", "http Watch"]
    );
    // What is refused before a method is found is part of its trace, too.
    for (trace, verb, path, media, status, why) in [
        (
            8,
            "GET",
            "/nowhere?x=1",
            "",
            404,
            "/nowhere: there is nothing at this path",
        ),
        (
            9,
            "PUT",
            "/counters/c",
            "",
            405,
            "/counters/c: this path does not take this HTTP method, but POST",
        ),
        (
            10,
            "POST",
            "/counters/c",
            "gzip",
            415,
            "/counters/c: nothing changed: the content encoding",
        ),
    ] {
        let asked = traceparent(trace);
        let headers = [("traceparent", asked.as_str()), ("content-encoding", media)];
        let headers = &headers[..if media.is_empty() { 1 } else { 2 }];
        let refused = http::request(&at, verb, path, headers, "").unwrap();
        assert_eq!(refused.status, status, "{refused:?}");
        let name = format!("http {verb}");
        assert_eq!(way(&parts, &mut come, trace, &name), [&*name]);
        let own = part_of(&come, trace, &name);
        assert!(
            refused.headers.contains(&format!("traceresponse: {own}\n")),
            "{refused:?}"
        );
        let id = format!("{trace:032x}");
        let part = come.iter().find(|part| part["traceId"] == id.as_str()).unwrap();
        let said = part["status"]["message"].as_str().unwrap();
        assert!(said.starts_with(why), "{part}");
    }
    // The function is told of its own part, if it wants to hear.
    client.headers.insert("traceparent".into(), traceparent(7));
    let heard = client.ask("Counter/Headers", &[json!({"id": "c"})]);
    assert_eq!(
        way(&parts, &mut come, 7, "call"),
        ["call Headers", "http Headers"]
    );
    let own = part_of(&come, 7, "call Headers");
    assert_eq!(heard.messages, [json!({"text": own})]);
    // What fails says so.
    client.headers.insert("traceparent".into(), traceparent(6));
    assert_ne!(client.ask("Counter/ChangeAndFail", &[change]).code, 0);
    assert_eq!(way(&parts, &mut come, 6, "http"), ["http ChangeAndFail"]);
    let failed = come.iter().find(|part| part["name"] == "http ChangeAndFail");
    assert_eq!(failed.unwrap()["status"]["code"], 2, "{failed:?}");
    let of_these = |part: &Value| part["traceId"].as_str() < Some("0000000000000000000000000000000b");
    assert!(come.iter().all(of_these), "nothing else is recorded: {come:?}");
}
