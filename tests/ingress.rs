//! The ingress as browsers and tools meet it: gRPC-web over HTTP/1.1, whose pages may call, reflection and health.

use std::io::{Read, Write};
use std::net::TcpStream;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use serde_json::{Value, json};

use super::support::grpc::{Answer, Grpc};
use super::support::http;
use super::support::kalix::{Dev, Installed, meeting, shop};
use super::support::process::{beneath, signal};
use super::support::temp::TempDir;
use super::support::wait_for;

const OK: i32 = 0;
const INVALID: i32 = 3;
const DEADLINE_EXCEEDED: i32 = 4;
const NOT_FOUND: i32 = 5;
const PERMISSION_DENIED: i32 = 7;
const RESOURCE_EXHAUSTED: i32 = 8;
const UNIMPLEMENTED: i32 = 12;

const ALLOWED: &str = "https://shop.example";
const FOREIGN: &str = "https://evil.example";

/// What tools have of the services that every node has, written down a second time.
const REFLECTION: &str = r#"
    service ServerReflection {
      rpc ServerReflectionInfo(stream ServerReflectionRequest) returns (stream ServerReflectionResponse);
    }
    message ServerReflectionRequest {
      oneof message_request {
        string file_by_filename = 3; string file_containing_symbol = 4; string list_services = 7;
      }
    }
    message ServerReflectionResponse {
      oneof message_response {
        FileDescriptorResponse file_descriptor_response = 4;
        ListServiceResponse list_services_response = 6;
        ErrorResponse error_response = 7;
      }
    }
    message FileDescriptorResponse { repeated bytes file_descriptor_proto = 1; }
    message ListServiceResponse { repeated ServiceResponse service = 1; }
    message ServiceResponse { string name = 1; }
    message ErrorResponse { int32 error_code = 1; string error_message = 2; }"#;
const HEALTH: &str = r#"
    message HealthCheckRequest { string service = 1; }
    message HealthCheckResponse {
      enum ServingStatus { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3; }
      ServingStatus status = 1;
    }
    service Health {
      rpc Check(HealthCheckRequest) returns (HealthCheckResponse);
      rpc Watch(HealthCheckRequest) returns (stream HealthCheckResponse);
    }"#;

/// The descriptors of the services that every node has.
pub fn own() -> DescriptorPool {
    let dir = TempDir::new("ingress-protos");
    let files = [
        ("v1.proto", "grpc.reflection.v1", REFLECTION),
        ("v1alpha.proto", "grpc.reflection.v1alpha", REFLECTION),
        ("health.proto", "grpc.health.v1", HEALTH),
    ];
    for (name, package, text) in files {
        dir.write(name, format!("syntax = \"proto3\"; package {package}; {text}"));
    }
    let mut compiler = protox::Compiler::new([dir.path()]).unwrap();
    compiler.include_imports(true);
    compiler.open_files(files.map(|(name, ..)| name)).unwrap();
    DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).unwrap()
}

/// A page's client: a request of its own for each call.
struct Web<'a> {
    at: String,
    pool: &'a DescriptorPool,
    is_text: bool,
    origin: Option<&'a str>,
}

impl Web<'_> {
    fn method(&self, method: &str) -> MethodDescriptor {
        let (service, name) = method.split_once('/').unwrap();
        let service = self.pool.get_service_by_name(service).unwrap();
        service.methods().find(|method| method.name() == name).unwrap()
    }

    fn content_type(&self) -> &'static str {
        match self.is_text {
            true => "application/grpc-web-text+proto",
            false => "application/grpc-web+proto",
        }
    }

    /// Sends bytes: the head, and the body to be read.
    fn open(&self, path: &str, body: &[u8]) -> (u16, String, http::Body) {
        let mut headers = vec![("content-type", self.content_type()), ("x-grpc-web", "1")];
        if self.is_text {
            headers.push(("accept", self.content_type()));
        }
        headers.extend(self.origin.map(|origin| ("origin", origin)));
        http::open(&self.at, "POST", path, &headers, body).unwrap()
    }

    fn encode(&self, method: &str, messages: &[Value]) -> Vec<u8> {
        let mut frames = Vec::new();
        for message in messages {
            let message = DynamicMessage::deserialize(self.method(method).input(), message).unwrap();
            let message = message.encode_to_vec();
            frames.push(0);
            frames.extend((message.len() as u32).to_be_bytes());
            frames.extend(message);
        }
        match self.is_text {
            true => base64(&frames).into_bytes(),
            false => frames,
        }
    }

    /// Calls a method and reads everything: the status of HTTP, the headers, and what the frames say.
    fn call(&self, method: &str, message: &Value) -> (u16, String, Answer) {
        self.ask(method, std::slice::from_ref(message))
    }

    fn ask(&self, method: &str, messages: &[Value]) -> (u16, String, Answer) {
        let body = self.encode(method, messages);
        let (status, headers, mut rest) = self.open(&format!("/{method}"), &body);
        let mut bytes = Vec::new();
        rest.read_to_end(&mut bytes).unwrap();
        if status == 200 {
            let content_type = format!("content-type: {}\n", self.content_type());
            assert!(headers.contains(&content_type), "{headers}");
        }
        if self.is_text {
            bytes = unbase64(&bytes);
        }
        let answer = self.answer(method, &headers, &bytes);
        (status, headers, answer)
    }

    /// Frames of messages, then one of trailers; or nothing, and what they would say is in the headers.
    fn answer(&self, method: &str, headers: &str, mut bytes: &[u8]) -> Answer {
        let mut messages = Vec::new();
        let mut trailers = headers.to_owned();
        while let Some((flag, body)) = frame(&mut bytes) {
            match flag {
                0 => messages.push(self.decode(method, body)),
                _ => {
                    assert_eq!(
                        (flag, bytes.len()),
                        (0x80, 0),
                        "trailers are last, and uncompressed"
                    );
                    trailers = String::from_utf8(body.to_vec()).unwrap();
                }
            }
        }
        let value = |name: &str| {
            let line = trailers.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().replace("%20", " "))
        };
        Answer {
            messages,
            code: value("grpc-status:").expect(&trailers).parse().unwrap(),
            message: value("grpc-message:").unwrap_or_default(),
            headers: Default::default(),
        }
    }

    fn decode(&self, method: &str, body: &[u8]) -> Value {
        let message = DynamicMessage::decode(self.method(method).output(), body).unwrap();
        serde_json::to_value(message).unwrap()
    }
}

/// Takes the next frame: its flag and what it carries.
fn frame<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (head, rest) = bytes.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
    let (body, rest) = rest.split_at(length);
    *bytes = rest;
    Some((head[0], body))
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    anabranch::base64::encode(&mut text, bytes);
    text
}

/// Of parts that were each encoded for themselves, as a server may send them.
fn unbase64(bytes: &[u8]) -> Vec<u8> {
    let part = |part: &[u8]| anabranch::base64::decode(std::str::from_utf8(part).unwrap()).unwrap();
    bytes.chunks(4).flat_map(part).collect()
}

#[test]
fn browsers_call_over_http_1_in_binary_and_in_text() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("ingress-web", shop, 1);
    for is_text in [false, true] {
        let web = Web {
            at: dev.ingress(0).to_string(),
            pool: &shop.pool,
            is_text,
            origin: None,
        };
        let id = format!("bob-{is_text}");
        let add = json!({"cartId": id, "product": "boot", "quantity": 3});
        let (_, headers, answer) = web.call("anabranch.test.Cart/Add", &add);
        assert_eq!((answer.code, answer.message.as_str()), (OK, ""));
        let boots = json!({"items": [{"product": "boot", "quantity": "3"}]});
        assert_eq!(answer.messages, [boots]);
        assert!(headers.contains("anabranch-session:"), "{headers}");
        let missing = json!({"cartId": id, "product": "sock"});
        let (status, _, answer) = web.call("anabranch.test.Cart/Remove", &missing);
        assert_eq!(status, 200);
        assert_eq!(
            (answer.code, answer.message.as_str()),
            (NOT_FOUND, "there is no sock")
        );
        assert!(answer.messages.is_empty());
        let numbers = |numbers: &[i64]| -> Vec<Value> {
            let number = |n: &i64| json!({"value": n.to_string()});
            numbers.iter().map(number).collect()
        };
        for (method, given, taken) in [
            ("Count", &[3][..], &[1, 2, 3][..]),
            ("Sum", &[1, 2, 4], &[7]),
            ("Echo", &[5, 6], &[5, 6]),
        ] {
            let (_, _, answer) = web.ask(&format!("anabranch.test.Desk/{method}"), &numbers(given));
            assert_eq!((answer.code, answer.messages), (OK, numbers(taken)), "{method}");
        }
        if is_text {
            let (_, headers, _) = web.open("/anabranch.test.Cart/Get", b"!!!!");
            let invalid = format!("grpc-status: {INVALID}\n");
            assert!(headers.contains(&invalid), "{headers}");
        }
        let (_, headers, _) = web.open("/anabranch.test.Nowhere/Get", b"");
        assert!(
            headers.contains(&format!("grpc-status: {UNIMPLEMENTED}\n")),
            "{headers}"
        );
    }
    let at = dev.ingress(0).to_string();
    let ask = |method: &str, content_type: &str| {
        let headers = [("content-type", content_type)];
        http::request(&at, method, "/anabranch.test.Cart/Get", &headers, "")
            .unwrap()
            .status
    };
    assert_eq!(ask("POST", "application/grpc-web+json"), 415);
    assert_eq!(ask("GET", "application/grpc-web"), 405);
}

/// What is said at one node by a page, by JSON and by gRPC is seen at each by all of them.
fn is_heard_everywhere(name: &str, function: &'static Installed, set: &str) {
    let dev = Dev::start(name, function, 3);
    let at = |node: usize| dev.ingress(node).to_string();
    let web = |node: usize, is_text: bool| Web {
        at: at(node),
        pool: &function.pool,
        is_text,
        origin: None,
    };
    let method = |name: &str| format!("anabranch.test.{set}/{name}");
    let said = |word: &str| json!({"id": "x", "word": word});
    let json_call = |node: usize, name: &str, body: &Value, more: &[(&str, &str)]| {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(more);
        let path = format!("/{}", method(name));
        let reply = http::request(&at(node), "POST", &path, &headers, &body.to_string()).unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        reply
    };
    let mut clients = dev.clients();
    let (_, headers, answer) = web(0, false).call(&method("Add"), &said("binary"));
    assert_eq!(answer.code, OK, "{answer:?}");
    let token = headers
        .lines()
        .find_map(|line| line.strip_prefix("anabranch-session: "))
        .unwrap();
    // Whoever brings along what was seen there sees it at once.
    let id = json!({"id": "x"});
    clients[1]
        .headers
        .insert("anabranch-session".into(), token.into());
    assert_eq!(
        clients[1].call(&method("Get"), id.clone()),
        json!({"words": ["binary"]})
    );
    let read = json_call(2, "Get", &id, &[("anabranch-session", token)]);
    assert_eq!(read.body, r#"{"words":["binary"]}"#);
    // And the others do soon.
    assert_eq!(web(1, true).call(&method("Add"), &said("text")).2.code, OK);
    json_call(2, "Add", &said("json"), &[]);
    clients[0].call(&method("Add"), said("plain"));
    let all = json!({"words": ["binary", "json", "plain", "text"]});
    for (node, client) in clients.iter_mut().enumerate() {
        wait_for("all of it", || {
            (client.call(&method("Get"), id.clone()) == all).then_some(())
        });
        assert_eq!(json_call(node, "Get", &id, &[]).body, all.to_string());
        for is_text in [false, true] {
            let (_, _, answer) = web(node, is_text).call(&method("Get"), &id);
            assert_eq!(
                (answer.code, &answer.messages[..]),
                (OK, std::slice::from_ref(&all))
            );
        }
    }
}

#[test]
fn what_a_page_says_at_one_node_is_read_at_others_however_they_are_asked() {
    let Some(shop) = shop() else { return };
    is_heard_everywhere("ingress-nodes", shop, "WordSet");
}

#[test]
fn so_is_what_it_says_to_a_function_of_the_first_sdk() {
    let Some(meeting) = meeting() else { return };
    is_heard_everywhere("ingress-meeting", meeting, "Topics");
}

#[test]
fn pages_call_from_configured_origins_alone() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start_with("ingress-origins", shop, 1, &["--origin", ALLOWED]);
    let at = dev.ingress(0).to_string();
    let preflight = |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type,x-grpc-web"),
        ];
        http::request(&at, "OPTIONS", "/anabranch.test.Cart/Add", &headers, "").unwrap()
    };
    let answer = preflight(ALLOWED);
    assert_eq!(answer.status, 204);
    for header in [
        "access-control-allow-origin: https://shop.example\n",
        "access-control-allow-methods: POST\n",
        "access-control-allow-headers: content-type,x-grpc-web\n",
        "vary: Origin\n",
    ] {
        assert!(answer.headers.contains(header), "{answer:?}");
    }
    let refused = preflight(FOREIGN);
    assert_eq!(refused.status, 403);
    assert!(!refused.headers.contains("access-control-"), "{refused:?}");

    let add = json!({"cartId": "o", "product": "boot", "quantity": 1});
    let web = |origin| Web {
        at: at.clone(),
        pool: &shop.pool,
        is_text: false,
        origin: Some(origin),
    };
    let (_, headers, answer) = web(ALLOWED).call("anabranch.test.Cart/Add", &add);
    assert_eq!(answer.code, OK);
    assert!(
        headers.contains("access-control-allow-origin: https://shop.example\n"),
        "{headers}"
    );
    let exposed =
        "access-control-expose-headers: grpc-status, grpc-message, anabranch-session, traceresponse\n";
    assert!(headers.contains(exposed), "{headers}");
    // A foreign page's calls do nothing, whichever way they come.
    let (status, headers, answer) = web(FOREIGN).call("anabranch.test.Cart/Add", &add);
    assert_eq!((status, answer.code), (403, PERMISSION_DENIED));
    assert!(answer.message.contains("ingress.origins"), "{answer:?}");
    assert!(!headers.contains("access-control-"), "{headers}");
    let json = |origin: &str| {
        let headers = [("content-type", "application/json"), ("origin", origin)];
        let body = r#"{"product": "boot", "quantity": 1}"#;
        http::request(&at, "POST", "/carts/o/items", &headers, body).unwrap()
    };
    assert_eq!(json(FOREIGN).status, 403);
    let mut client = dev.clients().remove(0);
    client.headers.insert("origin".into(), FOREIGN.into());
    assert_eq!(client.fail("Cart/Add", add).0, PERMISSION_DENIED);
    client.headers.clear();
    let cart = client.call("Cart/Get", json!({"cartId": "o"}));
    assert_eq!(cart, json!({"items": [{"product": "boot", "quantity": 1}]}));
    let answer = json(ALLOWED);
    assert_eq!(answer.status, 200);
    assert!(
        answer.headers.contains("access-control-allow-origin:"),
        "{answer:?}"
    );
    assert_eq!(json(&format!("http://{at}")).status, 200);

    // What a function says beside its reply is for the page, too.
    let headers = [("origin", ALLOWED)];
    let answer = http::request(&at, "GET", "/long/1", &headers, "").unwrap();
    let exposed = "access-control-expose-headers: grpc-status, grpc-message, anabranch-session, traceresponse, x-long, \
                   x-short\n";
    assert!(answer.headers.contains(exposed), "{answer:?}");

    // A page that has its own name point here is of one origin with it: its browser names no origin where it looks.
    let look = |host: &str| http::request(&at, "GET", "/carts/o", &[("host", host)], "").unwrap();
    let refused = look("evil.example:80");
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("evil.example:80"), "{refused:?}");
    for host in ["shop.example", "localhost"] {
        assert_eq!(look(host).status, 200, "{host}");
    }
    client.origin = "http://cart.internal".into();
    client.call("Cart/Get", json!({"cartId": "o"}));
}

#[test]
fn bodies_under_way_are_bounded_together() {
    /// Less than there is room for, by less than what is asked with.
    const HELD: [usize; 23] = [2_900_000; 23];
    const ASKED: usize = 600_000;
    const ROOM: usize = 64 << 20;
    let left = ROOM - HELD.iter().sum::<usize>();
    assert!((1..ASKED).contains(&left), "{left}");
    let Some(shop) = shop() else { return };
    let dev = Dev::start("ingress-bodies", shop, 1);
    let at = dev.ingress(0).to_string();
    let hold = |bytes: usize| {
        let mut stream = TcpStream::connect(&at).unwrap();
        let head = format!(
            "POST /anabranch.test.Counter/Get HTTP/1.1\r\nHost: {at}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            bytes + 1
        );
        stream.write_all(head.as_bytes()).unwrap();
        // Where it is refused not all of it is taken.
        let _ = stream.write_all(&vec![b' '; bytes]);
        stream.set_nonblocking(true).unwrap();
        stream
    };
    let ask = |spaces: usize| {
        let body = format!(r#"{{"id": "b"{}}}"#, " ".repeat(spaces));
        http::post(&at, "/anabranch.test.Counter/Get", &body).ok()
    };
    let mut client = dev.clients().remove(0);
    client.call("Counter/Change", json!({"id": "b", "by": 1}));
    let mut held = HELD.map(hold);
    let refused = wait_for("refusals", || {
        // While they are being read, what is asked may take their room.
        for stream in &mut held {
            if stream.peek(&mut [0]).is_ok() {
                *stream = hold(HELD[0]);
            }
        }
        let json = ask(ASKED).filter(|answer| answer.status != 200)?;
        // Where there is room for it yet, it is no key.
        let (code, text) = client.fail("Counter/Get", json!({"id": "x".repeat(ASKED)}));
        assert!([RESOURCE_EXHAUSTED, INVALID].contains(&code), "{code}: {text}");
        (code == RESOURCE_EXHAUSTED).then_some((json, text))
    });
    let (json, grpc) = refused;
    assert_eq!(json.status, 429);
    assert!(json.body.starts_with("nothing changed"), "{json:?}");
    assert_eq!(json.body, grpc);
    // There is room for what is small.
    let id = json!({"id": "b"});
    assert_eq!(client.call("Counter/Get", id), json!({"value": 1}));
    drop(held);
    let answer = wait_for("the room", || ask(HELD[0]).filter(|answer| answer.status == 200));
    assert_eq!(answer.body, r#"{"value":"1"}"#);
}

#[test]
fn tools_find_out_what_is_served() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("ingress-reflection", shop, 1);
    let mut client = Grpc::connect(dev.ingress(0), &own());
    for version in ["v1", "v1alpha"] {
        let method = format!("grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let asked = [
            json!({"listServices": ""}),
            json!({"fileContainingSymbol": "anabranch.test.Cart.Add"}),
            json!({"fileByFilename": "nowhere.proto"}),
        ];
        let answer = client.ask(&method, &asked);
        assert_eq!((answer.code, answer.messages.len()), (OK, 3), "{answer:?}");
        let services = answer.messages[0]["listServicesResponse"]["service"]
            .as_array()
            .unwrap();
        let names: Vec<&str> = services
            .iter()
            .map(|service| service["name"].as_str().unwrap())
            .collect();
        assert!(names.is_sorted(), "{names:?}");
        for name in [
            "anabranch.test.Cart",
            "anabranch.test.Desk",
            "grpc.health.v1.Health",
        ] {
            assert!(names.contains(&name), "{names:?}");
        }
        let files = answer.messages[1]["fileDescriptorResponse"]["fileDescriptorProto"]
            .as_array()
            .unwrap();
        let decode = |file: &Value| anabranch::base64::decode(file.as_str().unwrap()).unwrap();
        let decode = |file: &Value| prost_types::FileDescriptorProto::decode(&decode(file)[..]).unwrap();
        let set = prost_types::FileDescriptorSet {
            file: files.iter().map(decode).collect(),
        };
        // All that it takes to call it.
        let described = DescriptorPool::from_file_descriptor_set(set).unwrap();
        let cart = described.get_service_by_name("anabranch.test.Cart").unwrap();
        assert!(cart.methods().any(|method| method.name() == "Add"));
        let code = &answer.messages[2]["errorResponse"]["errorCode"];
        assert_eq!(code, &json!(NOT_FOUND));
    }
    let long = json!({"fileByFilename": "x".repeat(1 << 20)});
    let answer = client.ask(
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        &[long],
    );
    assert_ne!(answer.code, OK, "a name of a mebibyte");
    let unknown = client.send(
        "/grpc.reflection.v1.ServerReflection/Other",
        Default::default(),
        None,
    );
    assert_eq!(unknown.code, UNIMPLEMENTED);
}

#[test]
fn who_spreads_calls_hears_whether_the_function_is_there() {
    let Some(shop) = shop() else { return };
    let mut dev = Dev::start("ingress-health", shop, 1);
    let own = own();
    let mut client = Grpc::connect(dev.ingress(0), &own);
    let is = |health: &str| json!({"status": health});
    let all = json!({"service": ""});
    wait_for("the function", || {
        (client.call("grpc.health.v1.Health/Check", all.clone()) == is("SERVING")).then_some(())
    });
    for service in [
        "anabranch.test.Cart",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ] {
        let health = client.call("grpc.health.v1.Health/Check", json!({"service": service}));
        assert_eq!(health, is("SERVING"), "{service}");
    }
    let (code, text) = client.fail(
        "grpc.health.v1.Health/Check",
        json!({"service": "anabranch.test.Nowhere"}),
    );
    assert_eq!(code, NOT_FOUND);
    assert!(text.contains("anabranch.test.Nowhere"), "{text}");

    let web = Web {
        at: dev.ingress(0).to_string(),
        pool: &own,
        is_text: false,
        origin: None,
    };
    let watch = "grpc.health.v1.Health/Watch";
    let question = web.encode(watch, &[json!({"service": "anabranch.test.Cart"})]);
    let (_, _, mut stream) = web.open(&format!("/{watch}"), &question);
    let mut next = || {
        let mut head = [0; 5];
        stream.read_exact(&mut head).unwrap();
        let mut body = vec![0; u32::from_be_bytes(head[1..].try_into().unwrap()) as usize];
        stream.read_exact(&mut body).unwrap();
        match head[0] {
            0 => web.decode(watch, &body),
            _ => Value::String(String::from_utf8(body).unwrap()),
        }
    };
    assert_eq!(next(), is("SERVING"));
    let mut caller = dev.clients().remove(0);
    caller.fail("Counter/Exit", json!({"id": "c"}));
    assert_eq!(next(), is("NOT_SERVING"));
    dev.process.stderr.until("it is started again");
    assert_eq!(next(), is("SERVING"));
    // One that is there and says nothing is not well; what it is asked is tried all the same.
    let beneath = beneath(dev.process.pid());
    let function = beneath.iter().find(|(_, line)| line.starts_with("node index.js"));
    let (function, _) = function.unwrap_or_else(|| panic!("{beneath:?}"));
    signal(*function, "STOP");
    assert_eq!(next(), is("NOT_SERVING"));
    dev.process.stderr.until("the function is not well");
    caller.headers.insert("grpc-timeout".into(), "50m".into());
    let (code, text) = caller.fail("Counter/Get", json!({"id": "c"}));
    assert_eq!(code, DEADLINE_EXCEEDED, "{text}");
    signal(*function, "CONT");
    assert_eq!(next(), is("SERVING"));
    // Who watches does not hold up the end.
    dev.process.terminate();
    assert_eq!(next(), is("NOT_SERVING"));
    assert_eq!(next(), json!("grpc-status:0\r\n"));
}

#[test]
fn what_is_too_long_for_headers_is_cut_and_the_code_arrives() {
    /// What clients on gRPC's C core take.
    const HEADERS: usize = 8 << 10;
    let Some(shop) = shop() else { return };
    let mut dev = Dev::start("ingress-long", shop, 1);
    let at = dev.ingress(0).to_string();
    let mut client = dev.clients().remove(0);
    let bytes = |headers: &[(&str, &str)]| {
        headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + 32)
            .sum::<usize>()
    };
    for length in [1_000, 10_000, 100_000] {
        let failed = client.ask("Desk/Long", &[json!({"value": -length})]);
        assert_eq!(failed.code, NOT_FOUND);
        let is_whole = failed.message == "é".repeat(length as usize);
        let is_cut = failed.message.starts_with("éé") && failed.message.ends_with("é ... (cut)");
        assert!(
            if length > 1_000 {
                is_cut
            } else {
                is_cut != is_whole
            },
            "{}",
            failed.message
        );
        assert!(6 * failed.message.chars().count() < HEADERS);
        let web = Web {
            at: at.clone(),
            pool: &shop.pool,
            is_text: false,
            origin: None,
        };
        let (_, _, answer) = web.call("anabranch.test.Desk/Long", &json!({"value": -length}));
        assert_eq!(answer.code, NOT_FOUND);
        assert!(answer.message.len() < HEADERS);
        // A body may be as long as it is.
        let reply = http::get(&at, &format!("/long/-{length}")).unwrap();
        assert_eq!((reply.status, reply.body), (404, "é".repeat(length as usize)));
    }
    dev.process
        .stderr
        .until("Desk.Long fails with a text that is too long");
    // What is said beside a reply is left out where it does not fit, and the rest is said.
    for length in [100, 20_000] {
        let answer = client.ask("Desk/Long", &[json!({"value": length})]);
        assert_eq!(
            (answer.code, &answer.messages[..]),
            (OK, &[json!({"value": 1})][..])
        );
        assert_eq!(answer.headers.contains_key("x-long"), length == 100);
        assert_eq!(answer.headers["x-short"], "well");
        assert!(answer.headers.contains_key("anabranch-session"));
        let headers: Vec<_> = answer
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert!(bytes(&headers) < HEADERS);
        let reply = http::get(&at, &format!("/long/{length}")).unwrap();
        assert_eq!(reply.status, 200);
        assert_eq!(reply.headers.contains("x-long:"), length == 100);
        assert!(reply.headers.contains("x-short: well\n"), "{}", reply.headers);
    }
    dev.process.stderr.until("x-long is left out");
}

#[test]
fn a_stream_that_fails_says_so_after_all_that_it_said_before() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("ingress-falter", shop, 1);
    let at = dev.ingress(0).to_string();
    // Before it has said anything it is a call that fails.
    for accept in ["*/*", "text/event-stream"] {
        let reply = http::request(&at, "GET", "/falter/0", &[("accept", accept)], "").unwrap();
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (403, "it falters"),
            "{accept}"
        );
    }
    let error = r#"{"error":{"code":7,"message":"it falters","status":"PERMISSION_DENIED"}}"#;
    for _ in 0..20 {
        let reply = http::get(&at, "/falter/2").unwrap();
        let lines = format!("{{\"value\":\"1\"}}\n{{\"value\":\"2\"}}\n{error}\n");
        assert_eq!((reply.status, reply.body), (203, lines));
        assert!(reply.headers.contains("x-first: yes\n"), "{}", reply.headers);
        let reply = http::request(&at, "GET", "/falter/1", &[("accept", "text/event-stream")], "").unwrap();
        let events = format!("data: {{\"value\":\"1\"}}\n\nevent: error\ndata: {error}\n\n");
        assert_eq!(reply.body, events);
    }
    // Over gRPC what is said beside the first reply is headers, too.
    let mut client = dev.clients().remove(0);
    let answer = client.ask("Desk/Falter", &[json!({"value": 2})]);
    assert_eq!((answer.code, answer.messages.len()), (PERMISSION_DENIED, 2));
    assert_eq!(answer.headers["x-first"], "yes");
    let web = Web {
        at: at.clone(),
        pool: &shop.pool,
        is_text: false,
        origin: None,
    };
    let (_, headers, answer) = web.call("anabranch.test.Desk/Falter", &json!({"value": 2}));
    assert_eq!((answer.code, answer.messages.len()), (PERMISSION_DENIED, 2));
    assert!(headers.contains("x-first: yes\n"), "{headers}");
    // Who looks on while the function ends goes on once it is there again, or hears that it has ended: none is cut off.
    let mut lines = http::lines(&at, "/counters/f/watch").unwrap().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), r#"{"value":"0"}"#);
    client.fail("Counter/Exit", json!({"id": "f"}));
    wait_for("the function", || {
        let answer = client.ask("Counter/Change", &[json!({"id": "f", "by": 1})]);
        assert!(!answer.message.contains("of this kind"), "it is away: {answer:?}");
        (answer.code == OK).then_some(())
    });
    let next = lines.next().unwrap();
    if next != r#"{"value":"1"}"# {
        assert!(next.contains(r#""status":"UNAVAILABLE""#), "{next}");
        assert_eq!(lines.next(), None);
    }
}

#[test]
fn what_http_asks_besides_is_answered_as_http_has_it() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("ingress-http", shop, 1);
    let at = dev.ingress(0).to_string();
    let mut client = dev.clients().remove(0);
    client.call(
        "Cart/Add",
        json!({"cartId": "h", "product": "boot", "quantity": 1}),
    );
    // The head of what may be got.
    let got = http::get(&at, "/carts/h").unwrap();
    let (status, headers, mut body) = http::open(&at, "HEAD", "/carts/h", &[], b"").unwrap();
    assert_eq!(status, 200);
    let length = format!("content-length: {}\n", got.body.len());
    assert!(headers.contains(&length), "{headers}");
    assert!(headers.contains("content-type: application/json\n"), "{headers}");
    assert!(body.read(&mut [0]).is_err(), "there is no body");
    let head = |path: &str| http::open(&at, "HEAD", path, &[], b"").unwrap();
    assert_eq!(head("/carts/h/watch").0, 404);
    let (status, headers, _) = head("/counters/h/watch");
    assert_eq!(status, 200);
    assert!(
        headers.contains("content-type: application/x-ndjson\n"),
        "{headers}"
    );
    // Nobody knows how long it would be.
    assert!(!headers.contains("content-length"), "{headers}");
    let (status, headers, _) = head("/counters/h");
    assert_eq!(status, 405);
    assert!(headers.contains("allow: POST\n"), "{headers}");
    // Bodies in another form.
    let post = |headers: &[(&str, &str)], body: &str| {
        let reply = http::request(&at, "POST", "/counters/h", headers, body).unwrap();
        (reply.status, reply.body)
    };
    let json = ("content-type", "application/json");
    let (status, text) = post(&[("content-type", "application/json; charset=iso-8859-1")], "{}");
    assert_eq!(status, 415);
    assert!(text.contains("charset") && text.contains("iso-8859-1"), "{text}");
    let (status, text) = post(&[json, ("content-encoding", "gzip")], "{}");
    assert_eq!(status, 415);
    assert!(text.contains("content encoding"), "{text}");
    assert_eq!(post(&[json, ("content-encoding", "identity")], "{}").0, 200);
    let (status, text) = post(&[json], r#"{"by": 1, "by": 2}"#);
    assert_eq!(status, 400);
    assert!(text.contains("given twice"), "{text}");
    // What is too large, and how that is said.
    let long = "x".repeat(900_000);
    let large = |method: &str| {
        http::post(
            &at,
            &format!("/anabranch.test.{method}"),
            &json!({"id": "h", "word": long}).to_string(),
        )
    };
    assert_eq!(large("WordSet/Add").unwrap().status, 413);
    let (code, text) = client.fail("WordSet/Add", json!({"id": "h", "word": long}));
    assert_eq!(code, RESOURCE_EXHAUSTED);
    assert!(
        text.starts_with("nothing changed: the message has more than"),
        "{text}"
    );
    // What is too large by its own word is not begun with, so that nobody is invited to send it.
    for (content_type, length, said) in [
        ("application/json", 3_145_729, "HTTP/1.1 413 "),
        ("application/grpc-web+proto", 786_438, "HTTP/1.1 200 "),
    ] {
        let mut stream = TcpStream::connect(&at).unwrap();
        let head = format!(
            "POST /anabranch.test.WordSet/Add HTTP/1.1\r\nHost: {at}\r\nContent-Type: {content_type}\r\n\
             Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(said) && !answer.contains(" 100 "), "{answer}");
        let exhausted = format!("grpc-status: {RESOURCE_EXHAUSTED}\r\n");
        assert!(
            content_type.ends_with("json") || answer.contains(&exhausted),
            "{answer}"
        );
    }
    // What is no call of gRPC is not taken for one, and a body that is none is not one that broke off.
    for (head, said) in [
        (
            "POST Content-Type: application/grpc\r\nContent-Length: 5\r\n\r\n\0\0\0\0\0",
            "505",
        ),
        (
            "POST Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n",
            "400",
        ),
    ] {
        let (verb, rest) = head.split_once(' ').unwrap();
        let text = format!(
            "{verb} /anabranch.test.WordSet/Add HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n{rest}"
        );
        let mut stream = TcpStream::connect(&at).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {said} ")), "{answer}");
    }
    // Who sends all of it unasked hears of it all the same, and may go on.
    let huge = "x".repeat(20_000_000);
    for (path, status) in [("/anabranch.test.WordSet/Add", 413), ("/nowhere", 404)] {
        assert_eq!(http::post(&at, path, &huge).unwrap().status, status);
    }
    // What takes a stream is found by its name only, and refused.
    assert_eq!(
        http::post(&at, "/anabranch.test.Desk/Sum", "{}").unwrap().status,
        501
    );
}

#[test]
fn a_request_is_refused_once_its_small_body_is_there() {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let Some(shop) = shop() else { return };
    let dev = Dev::start("ingress-refused", shop, 1);
    let at = dev.ingress(0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(at).await.unwrap();
        let beginning = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, driving) = beginning.await.unwrap();
        tokio::spawn(driving);
        for path in ["/nowhere", "/carts/x/items"] {
            let (mut body, sent) = http_body_util::channel::Channel::<bytes::Bytes>::new(1);
            let request = ::http::Request::post(format!("http://{at}{path}"));
            let request = request
                .header("content-type", "application/json")
                .header("content-encoding", "gzip");
            let answering = sender.send_request(request.body(sent).unwrap());
            let mut answering = std::pin::pin!(answering);
            let soon = tokio::time::timeout(std::time::Duration::from_millis(100), &mut answering).await;
            assert!(soon.is_err(), "it is answered while it is being sent");
            body.send_data(bytes::Bytes::from_static(b"{}")).await.unwrap();
            drop(body);
            let status = answering.await.unwrap().status();
            assert!([404, 415].contains(&status.as_u16()), "{status}");
        }
    });
}
