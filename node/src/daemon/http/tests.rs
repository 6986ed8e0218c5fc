//! The admin API over a connection, on a node of its own. The node needs a UDP socket in any case, so the API has a
//! real one too.

mod asked;
mod counted;

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::daemon::config::Config;
use crate::error::Error;
use crate::function::state::PnCounter;
use crate::function::{Context, Function, Stream};
use crate::transport::ca;
use crate::wire::Token;

/// A function that adds each message up, and says what it came to.
fn sums() -> Function {
    Function::of::<PnCounter>("sums")
        .command("add", |sum, _: &mut Context, n: i64| {
            sum.increment(n);
            Ok::<_, String>(sum.get())
        })
        .command_async("hang", |_, _: &mut Context, ()| {
            Box::pin(std::future::pending::<Result<(), String>>())
        })
        .stream(
            "add_all",
            |mut stream: Stream<PnCounter, i64, i64>, by: i64| async move {
                while let Some(n) = stream.next().await? {
                    let sum: i64 = stream.call("sums", "a", "add", &(n * by)).await?;
                    stream.send(&sum).await?;
                }
                Ok::<_, Error>(())
            },
        )
        .into()
}

struct Api {
    directory: PathBuf,
    node: Node,
    server: Server,
    leaves: mpsc::Receiver<Asked>,
}

impl Api {
    /// A lone node with this `[http]` section.
    async fn start(name: &str, http: &str) -> Api {
        Api::start_impatient(name, http, WRITE_TIMEOUT).await
    }

    /// The same, with another patience for readers that take nothing.
    async fn start_impatient(name: &str, http: &str, write_timeout: Duration) -> Api {
        let directory = std::env::temp_dir().join(format!("anabranch-http-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        ca::init(&directory.join("ca"), "test").unwrap();
        ca::issue(
            &directory.join("ca"),
            crate::NodeId(7),
            &directory,
            &ca::IssueOptions::default(),
        )
        .unwrap();
        let node = Node::builder()
            .directory(directory.join("data"))
            .identity_files(
                directory.join("ca.pem"),
                directory.join("node.pem"),
                directory.join("node.key"),
            )
            .listen((Ipv4Addr::LOCALHOST, 0).into())
            .function(sums())
            .shards(4)
            .start()
            .await
            .unwrap();
        node.ready().await;
        // It has said that it has functions: nothing changes by itself from here on.
        let hosts = crate::EntityId::new("anabranch:trigger", "nodes").unwrap();
        let mut hosts = node.watch(&hosts);
        while hosts.next().await.unwrap().is_none() {}
        let config = Config::parse(&directory.join("node.toml"), &format!("[http]\n{http}")).unwrap();
        let (leave, leaves) = mpsc::channel(1);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let app = App {
            write_timeout,
            ..App::new(node.clone(), "c1", 2_000, &config.http, 0.0, leave)
        };
        let server = Server::start(listener, Arc::new(app)).unwrap();
        Api {
            directory,
            node,
            server,
            leaves,
        }
    }

    /// Sends bytes on a connection of their own, and returns the status code and the body of the answer.
    async fn raw(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.server.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
        (head[9..12].parse().unwrap(), body.to_string())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.raw(&format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        ))
        .await
    }

    async fn post(&self, path: &str, body: &str) -> (u16, String) {
        let length = body.len();
        self.raw(&format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await
    }

    /// An answer that must be an error of this name.
    #[track_caller]
    fn refused((status, body): &(u16, String), expected: u16, name: &str) {
        assert_eq!(*status, expected, "{body}");
        let error: serde_json::Value = serde_json::from_str(body).expect(body);
        assert_eq!(error["error"], name, "{body}");
        assert!(
            error["message"].is_string() && error["retry"].is_boolean() && error["changed"].is_boolean(),
            "{body}"
        );
    }

    async fn stop(self) {
        self.server.stop(Duration::from_secs(5)).await;
        self.node.shutdown().await.unwrap();
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

fn json(body: &str) -> serde_json::Value {
    serde_json::from_str(body).expect(body)
}

#[tokio::test]
async fn entities_are_written_and_read_under_any_name() {
    let api = Api::start("entities", "").await;
    Api::refused(
        &api.get("/v1/entities/lines/src%2Flib.rs").await,
        404,
        "not_found",
    );
    let body = r#"{"op":"incr","by":-5,"type":"pncounter"}"#;
    assert_eq!(api.post("/v1/entities/lines/src%2Flib.rs", body).await.0, 200);
    let read = api.get("/v1/entities/lines/src%2Flib.rs").await;
    assert_eq!(
        read,
        (
            200,
            "{\"kind\":\"lines\",\"key\":\"src/lib.rs\",\"value\":-5}\n".to_string()
        )
    );
    let batch = r#"{"ops":[{"kind":"a/b","key":"%2F é","op":"add","type":"orset","elements":["x",{"base64":"/w=="}]},
                    {"kind":"lines","key":"src/lib.rs","op":"incr","by":7}],"idempotency_key":"k1"}"#;
    let first = json(&api.post("/v1/updates", batch).await.1);
    assert_eq!(
        (&first["repeated"], &first["confirmed"]),
        (&false.into(), &1.into())
    );
    assert_eq!(first["directory"], api.node.directory_id().to_string());
    let again = json(&api.post("/v1/updates", batch).await.1);
    assert_eq!(again["repeated"], true);
    let read = api.get("/v1/entities/a%2Fb/%252F%20%C3%A9").await.1;
    assert_eq!(
        read,
        "{\"kind\":\"a/b\",\"key\":\"%2F é\",\"value\":[\"x\",{\"base64\":\"/w==\"}]}\n"
    );
    let dump = api.get("/v1/dump").await.1;
    assert!(
        dump.contains("{\"kind\":\"lines\",\"key\":\"src/lib.rs\",\"value\":2}\n"),
        "{dump}"
    );
    api.stop().await;
}

#[tokio::test]
async fn errors_have_one_form_and_fitting_codes() {
    let api = Api::start("errors", "body_bytes_max = 2000").await;
    api.post("/v1/entities/n/a", r#"{"op":"incr","by":1,"type":"gcounter"}"#)
        .await;
    Api::refused(
        &api.post(
            "/v1/entities/n/a",
            r#"{"op":"add","elements":["x"],"type":"orset"}"#,
        )
        .await,
        409,
        "wrong_type",
    );
    Api::refused(
        &api.post("/v1/entities/new/a", r#"{"op":"incr","by":1}"#).await,
        400,
        "type_required",
    );
    Api::refused(
        &api.post("/v1/entities/n/a", r#"{"op":"incr","by":-1}"#).await,
        400,
        "invalid",
    );
    Api::refused(&api.post("/v1/entities/n/a", "{").await, 400, "invalid");
    Api::refused(
        &api.post("/v1/entities/n/a", &" ".repeat(2_001)).await,
        413,
        "invalid",
    );
    Api::refused(&api.get("/v1/entities/n/a/b").await, 400, "invalid");
    Api::refused(&api.get("/v1/entities/n/%2").await, 400, "invalid");
    Api::refused(&api.get("/v1/entities/n/").await, 400, "invalid");
    Api::refused(&api.get("/v1/nothing").await, 404, "no_route");
    Api::refused(&api.get("/v1/updates").await, 405, "no_method");
    let foreign = r#"{"op":"incr","by":1,"directory":"0"}"#;
    Api::refused(
        &api.post("/v1/entities/n/a", foreign).await,
        409,
        "directory_changed",
    );
    assert_eq!(
        api.get("/v1/entities/n/a").await.1,
        "{\"kind\":\"n\",\"key\":\"a\",\"value\":1}\n"
    );
    Api::refused(
        &api.raw("GET /v1/dump HTTP/1.1\r\nhost: evil\r\nconnection: close\r\n\r\n")
            .await,
        403,
        "forbidden",
    );
    api.stop().await;
}

#[tokio::test]
async fn a_dump_names_what_a_session_has_seen_with_it() {
    let api = Api::start("dumped", "").await;
    for key in ["a", "b"] {
        let set = format!("/v1/entities/n/{key}");
        let body = r#"{"op":"incr","by":1,"type":"gcounter"}"#;
        assert_eq!(api.post(&set, body).await.0, 200);
    }
    let dumped = async |path: &str, headers: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
        let mut stream = TcpStream::connect(api.server.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
        let header = |line: &str| line.strip_prefix("anabranch-session: ").map(str::to_owned);
        let token = head.lines().find_map(header);
        (token.map(|text| text.parse::<Token>().unwrap()), body.to_owned())
    };
    for path in ["/v1/dump", "/v1/dump?kind=n"] {
        // It is long: who has no use for it does not get it.
        assert_eq!(dumped(path, "").await.0, None);
        let (token, body) = dumped(path, "anabranch-session: \r\n").await;
        let token = token.expect("a dump has a token");
        assert!(
            body.contains("{\"kind\":\"n\",\"key\":\"a\",\"value\":1}\n"),
            "{body}"
        );
        // All that is here was seen, the absence of everything else among it.
        let mut whole = token.clone();
        for (_, read) in ["a", "b", "none"].map(|key| {
            let id = crate::EntityId::new("n", key).unwrap();
            api.node.read_with_token(&id)
        }) {
            whole.join(&read);
        }
        assert_eq!(whole, token);
        // The session's dump has all of it, and what it had seen besides.
        let with = format!("anabranch-session: {token}\r\n");
        assert_eq!(dumped(path, &with).await.0, Some(token));
    }
    // What this node has not seen it waits for, and says.
    let mut ahead = Token::default();
    let nobody = crate::ReplicaId::new(crate::NodeId(9), crate::Epoch(1));
    ahead.insert(crate::wire::ShardId(0), nobody, 1);
    let with = format!("anabranch-session: {ahead}\r\nanabranch-timeout-ms: 1\r\n");
    let (token, body) = dumped("/v1/dump?kind=n", &with).await;
    assert!(token.is_none() && json(&body)["error"] == "stale", "{body}");
    api.stop().await;
}

#[tokio::test]
async fn metrics_say_how_large_the_state_of_a_function_is() {
    let api = Api::start("sizes", "").await;
    let bytes = async || {
        let (status, metrics) = api.get("/metrics").await;
        assert_eq!(status, 200, "{metrics}");
        let line = "\nanabranch_function_state_bytes{kind=\"sums\"} ";
        let (_, value) = metrics.split_once(line).expect(&metrics);
        value.lines().next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(bytes().await, 0);
    assert_eq!(api.post("/v1/call/sums/a/add", "5").await.0, 200);
    let one = bytes().await;
    assert!(one > 0);
    assert_eq!(bytes().await, one, "nothing has changed");
    let long = "k".repeat(500);
    assert_eq!(api.post(&format!("/v1/call/sums/{long}/add"), "5").await.0, 200);
    assert_eq!(bytes().await, 2 * one + 499, "keys count");
    let delete = "DELETE /v1/entities/sums/a HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert_eq!(api.raw(delete).await.0, 200);
    assert_eq!(bytes().await, one + 499);
    assert_eq!(api.node.state_bytes()["sums"], one + 499);
    api.stop().await;
}

#[tokio::test]
async fn a_token_guards_all_but_the_probes() {
    let mut api = Api::start(
        "token",
        "token = \"0123456789abcdef\"\norigins = [\"https://ops.example\"]",
    )
    .await;
    Api::refused(&api.get("/v1/status").await, 401, "unauthorized");
    Api::refused(&api.post("/v1/leave", "").await, 401, "unauthorized");
    assert_eq!(api.get("/readyz").await.0, 200);
    assert_eq!(
        json(&api.get("/healthz").await.1)["id"],
        api.node.id().to_string()
    );
    let with = "authorization: Bearer 0123456789abcdef\r\nhost: localhost\r\nconnection: close\r\n";
    let status = api.raw(&format!("GET /v1/status HTTP/1.1\r\n{with}\r\n")).await;
    assert_eq!(
        (status.0, json(&status.1)["cluster"].clone()),
        (200, "test".into())
    );
    let metrics = api.raw(&format!("GET /metrics HTTP/1.1\r\n{with}\r\n")).await.1;
    assert!(metrics.contains("\nanabranch_ready 1\n"), "{metrics}");
    // Each says what it is: a number that is new wants a row in the table of `metrics`.
    let forgotten: Vec<&str> = metrics
        .lines()
        .filter(|line| line.ends_with(" Counted since this start."))
        .collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
    let preflight = "OPTIONS /v1/status HTTP/1.1\r\nhost: localhost\r\norigin: https://ops.example\r\nconnection: close\r\n\r\n";
    assert_eq!(api.raw(preflight).await.0, 204);
    assert!(api.leaves.try_recv().is_err());
    let leave =
        format!("POST /v1/leave HTTP/1.1\r\n{with}anabranch-timeout-ms: 1234\r\ncontent-length: 0\r\n\r\n");
    let mut leaves = std::mem::replace(&mut api.leaves, mpsc::channel(1).1);
    let left = LeaveBody {
        id: api.node.id().to_string(),
        peers: 2,
        handed_over: false,
        warning: Some("w".to_string()),
    };
    let sent = left.clone();
    let leaving = async move {
        let asked: Asked = leaves.recv().await.unwrap();
        assert_eq!(asked.within, Duration::from_millis(1_234));
        asked.answer.send(sent).unwrap();
    };
    let (answer, ()) = tokio::join!(api.raw(&leave), leaving);
    assert_eq!(answer.0, 200);
    assert_eq!(serde_json::from_str::<LeaveBody>(&answer.1).unwrap(), left);
    // Nobody is there any more to do it.
    Api::refused(&api.raw(&leave).await, 503, "stopping");
    api.stop().await;
}

#[tokio::test]
async fn a_watch_sends_the_value_and_then_its_changes() {
    let api = Api::start("watch", "").await;
    let mut stream = TcpStream::connect(api.server.address()).await.unwrap();
    stream
        .write_all(b"GET /v1/watch/n/a HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    for (awaited, by) in [
        ("event: absent\ndata: {\"kind\":\"n\",\"key\":\"a\"}\nid: ", 4),
        ("\"value\":4}\nid: ", 5),
        ("\"value\":9}\nid: ", 0),
    ] {
        while !seen.contains(awaited) {
            let read = stream.read(&mut buffer).await.unwrap();
            assert_ne!(read, 0, "{seen}");
            seen.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
        let body = format!(r#"{{"op":"incr","by":{by},"type":"pncounter"}}"#);
        assert_eq!(api.post("/v1/entities/n/a", &body).await.0, 200);
    }
    api.stop().await;
}

#[tokio::test]
async fn what_two_nodes_hold_is_compared_by_carrying_it() {
    let api = Api::start("verify", "").await;
    let empty = api.get("/v1/shards").await.1;
    assert_eq!(json(&api.post("/v1/verify", &empty).await.1)["agree"], true);
    api.post("/v1/entities/n/a", r#"{"op":"incr","by":1,"type":"gcounter"}"#)
        .await;
    let verdict = json(&api.post("/v1/verify", &empty).await.1);
    assert_eq!(verdict["agree"], false);
    assert!(
        verdict["differences"][0].as_str().unwrap().contains("lacks"),
        "{verdict}"
    );
    let own = api.get("/v1/shards").await.1;
    let damaged = own.replacen("\"fingerprint\":\"", "\"fingerprint\":\"x", 1);
    let verdict = json(&api.post("/v1/verify", &damaged).await.1);
    assert!(
        verdict["differences"][0].as_str().unwrap().contains("DAMAGE"),
        "{verdict}"
    );
    api.stop().await;
}

impl Api {
    /// Asks and reads nothing of the answer.
    async fn ask(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.server.address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }
}

/// Reads until `awaited` has come.
async fn until(stream: &mut TcpStream, awaited: &str) {
    let (mut seen, mut buffer) = (String::new(), [0; 4096]);
    while !seen.contains(awaited) {
        let read = stream.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

#[tokio::test]
async fn watchers_leave_room_for_everybody_else() {
    let api = Api::start(
        "watchers",
        "connections_max = 16\nwatches_max = 10\ndumps_max = 2",
    )
    .await;
    let mut watchers = Vec::new();
    for _ in 0..10 {
        let mut watcher = api.ask("/v1/watch/n/a").await;
        until(&mut watcher, "event: absent").await;
        watchers.push(watcher);
    }
    Api::refused(&api.get("/v1/watch/n/a").await, 503, "overloaded");
    assert_eq!(api.get("/healthz").await.0, 200);
    assert_eq!(api.get("/v1/dump").await.0, 200);
    let body = r#"{"op":"incr","by":1,"type":"gcounter"}"#;
    assert_eq!(api.post("/v1/entities/n/a", body).await.0, 200);
    for watcher in &mut watchers {
        until(watcher, "\"value\":1}").await;
    }
    // Those that go give their places back, at the latest when they are written to.
    drop(watchers);
    for tried in 0.. {
        assert!(tried < 1_000, "no place came back");
        api.post("/v1/entities/n/a", body).await;
        let mut next = api.ask("/v1/watch/n/a").await;
        let mut head = [0; 12];
        next.read_exact(&mut head).await.unwrap();
        if head.ends_with(b"200") {
            break;
        }
    }
    api.stop().await;
}

#[tokio::test]
async fn whoever_asks_nothing_makes_room() {
    let api = Api::start("idle", "connections_max = 16").await;
    let mut idle = Vec::new();
    // Some have sent nothing, some the beginning of something, some have had an answer.
    for i in 0..60 {
        let mut stream = TcpStream::connect(api.server.address()).await.unwrap();
        match i % 3 {
            0 => {}
            1 => stream.write_all(b"GET /v1/st").await.unwrap(),
            // It may have been cut off before it was heard.
            _ => drop(
                stream
                    .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
                    .await,
            ),
        }
        idle.push(stream);
    }
    for _ in 0..20 {
        assert_eq!(api.get("/healthz").await.0, 200);
    }
    api.stop().await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_given_up() {
    let http = "connections_max = 16\ndumps_max = 1";
    let api = Api::start_impatient("stalled", http, Duration::from_millis(100)).await;
    // More than the sockets' buffers hold.
    let value = "x".repeat(250_000);
    for key in 0..64 {
        let body = format!(r#"{{"op":"set","value":"{value}","type":"lwwregister"}}"#);
        assert_eq!(api.post(&format!("/v1/entities/page/{key}"), &body).await.0, 200);
    }
    let mut stalled = api.ask("/v1/dump").await;
    until(&mut stalled, "200").await;
    Api::refused(&api.get("/v1/dump").await, 503, "overloaded");
    // Its place comes back without its doing anything.
    let again = async {
        loop {
            let dump = api.get("/v1/dump").await;
            if dump.0 == 200 {
                return dump.1.len();
            }
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(60), again).await;
    let whole = again.expect("its place does not come back");
    assert!(whole > 64 * value.len());
    let mut rest = Vec::new();
    // What was under way arrives, or not even that; the whole does not.
    let _ = stalled.read_to_end(&mut rest).await;
    assert!(rest.len() < whole, "{} of {whole} bytes", rest.len());
    api.stop().await;
}

#[tokio::test]
async fn a_call_whose_client_has_gone_is_waited_for_by_nobody() {
    let api = Api::start("hung-up", "").await;
    let waiting = async |n: u64| {
        let is_so = async {
            while api.node.status().counters["commands_waiting"] != n {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), is_so).await;
        waited.expect("the call goes on without its client");
    };
    let mut client = TcpStream::connect(api.server.address()).await.unwrap();
    let request = "POST /v1/call/sums/a/hang HTTP/1.1\r\nhost: localhost\r\nanabranch-timeout-ms: 600000\r\n\
                   content-length: 4\r\n\r\nnull";
    client.write_all(request.as_bytes()).await.unwrap();
    waiting(1).await;
    drop(client);
    waiting(0).await;
    // The entity is free for the next.
    assert_eq!(api.post("/v1/call/sums/a/add", "5").await.0, 200);
    api.stop().await;
}

#[tokio::test]
async fn lines_of_a_body_are_messages_of_a_stream() {
    let api = Api::start("stream", "").await;
    let post = async |content_type: &str, body: &str| {
        let length = body.len();
        api.raw(&format!(
            "POST /v1/stream/sums/a/add_all HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await
    };
    const LINES: &str = "application/x-ndjson";
    let events = |answer: (u16, String)| {
        assert_eq!(answer.0, 200, "{}", answer.1);
        // Without the sizes of the chunks.
        let lines = answer.1.lines().filter(|line| line.contains(": "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let all = events(post(LINES, "2\n1\n\n 2 \r\n3").await);
    assert_eq!(all[..4], ["data: 2", "data: 6", "data: 12", "event: end"]);
    assert!(all[4].starts_with("data: {\"session\":\""), "{all:?}");
    // Without messages it is the argument alone.
    assert_eq!(events(post("application/json", "2").await)[0], "event: end");
    let wrong = events(post(LINES, "2\n4\n\"x\"\n5\n").await);
    assert_eq!(wrong[..2], ["data: 20", "event: error"]);
    assert!(
        wrong[2].contains("no message") || wrong[2].contains("not what the method takes"),
        "{wrong:?}"
    );
    let wrong = events(post(LINES, "\"x\"\n4\n").await);
    assert!(wrong[1].contains("\"invalid\""), "{wrong:?}");
    Api::refused(&post(LINES, &"9".repeat(1 << 20)).await, 400, "invalid");
    let streams = || api.node.status().counters["streams_open"];
    assert_eq!(streams(), 0);
    // A body that goes on while the answer does, and breaks off: the stream ends with it.
    let mut stream = TcpStream::connect(api.server.address()).await.unwrap();
    let head = "POST /v1/stream/sums/a/add_all HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n\
                transfer-encoding: chunked\r\n\r\n2\r\n1\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut seen = String::new();
    for n in 1..=3 {
        stream
            .write_all(format!("2\r\n{n}\n\r\n").as_bytes())
            .await
            .unwrap();
        let sum = 20 + n * (n + 1) / 2;
        while !seen.contains(&format!("data: {sum}\n")) {
            let mut bytes = [0; 1024];
            let read = stream.read(&mut bytes).await.unwrap();
            assert!(read > 0, "{seen}");
            seen.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
    }
    assert_eq!(streams(), 1);
    drop(stream);
    while streams() > 0 {
        tokio::task::yield_now().await;
    }
    api.stop().await;
}
