//! Routes, requests and responses, of services written for each test.

use http::{Method, StatusCode};
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage};

use super::super::pool;
use super::super::problem::{Problem, Severity};
use super::super::protos;
use super::*;

const MESSAGES: &str = r#"
enum Color { RED = 0; GREEN = 1; }
message Address { string street = 1; int32 number = 2; Address next = 3; repeated string lines = 4; }
message In {
  string id = 1; int64 big = 2; bool flag = 3; bytes data = 4; Color color = 5; double d = 6;
  repeated int32 list = 7; map<string, string> map = 8; Address address = 9; optional uint32 maybe = 10;
  oneof which { string left = 11; int32 right = 12; }
  google.protobuf.Timestamp at = 13; google.protobuf.Duration for = 14; google.protobuf.FieldMask mask = 15;
  google.protobuf.BoolValue yes = 16; google.protobuf.Int64Value wrapped = 17; repeated Color colors = 18;
  google.protobuf.Struct struct = 19; string some_name = 20; float f = 21; google.api.HttpBody raw = 22;
  repeated google.protobuf.StringValue texts = 23; repeated Address addresses = 24;
  repeated google.protobuf.DoubleValue doubles = 25; google.protobuf.NullValue null = 26; google.protobuf.Any any = 27;
  repeated google.protobuf.Any anys = 28; oneof place { Address here = 29; Address there = 30; }
  google.protobuf.Value value = 31; optional google.protobuf.NullValue nil = 32;
}
message Out { string text = 1; int64 big_number = 2; Address address = 3; repeated string list = 4; google.api.HttpBody raw = 5; }
"#;

/// The descriptors of a service `S` with these methods.
fn descriptors(methods: &str) -> DescriptorPool {
    protos::pool(&format!(
        r#"syntax = "proto3";
        package p;
        import "google/api/annotations.proto"; import "google/api/httpbody.proto";
        import "google/protobuf/any.proto"; import "google/protobuf/duration.proto"; import "google/protobuf/empty.proto";
        import "google/protobuf/field_mask.proto";
        import "google/protobuf/struct.proto"; import "google/protobuf/timestamp.proto";
        import "google/protobuf/wrappers.proto";
        {MESSAGES}
        service S {{
        {methods}
        }}"#
    ))
}

fn rules(methods: &str) -> (Rules, Vec<Problem>) {
    Rules::new(descriptors(methods).services())
}

/// The rules of one method from In to Out, with this option.
fn one(option: &str) -> Rules {
    let (rules, problems) = rules(&format!(
        "rpc M(In) returns (Out) {{ option (google.api.http) = {{ {option} }}; }}"
    ));
    assert_eq!(problems, []);
    rules
}

/// The input message of a request, as JSON without defaults.
fn request(rules: &Rules, verb: Method, uri: &str, body: &str) -> Result<String, String> {
    let (path, query) = match uri.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (uri, None),
    };
    let found = rules.find(&verb, path).map_err(|e| e.to_string())?;
    let bytes = found.request(query, Some("application/json; charset=utf-8"), body.as_bytes());
    let bytes = bytes.map_err(|e| e.to_string())?;
    let message = DynamicMessage::decode(found.method().input(), bytes).unwrap();
    assert_eq!(message.descriptor(), found.method().input());
    Ok(serde_json::to_string(&message).unwrap())
}

#[track_caller]
fn refused(result: Result<String, String>, why: &str) {
    let error = result.unwrap_err();
    assert!(error.contains(why), "{error}");
}

#[test]
fn methods_without_an_option_are_posts_of_their_name() {
    let (rules, problems) = rules("rpc M(In) returns (Out); rpc N(In) returns (stream Out);");
    assert_eq!(problems, []);
    let body = r#"{"id":"a"}"#;
    assert_eq!(request(&rules, Method::POST, "/p.S/M", body).as_deref(), Ok(body));
    assert_eq!(request(&rules, Method::POST, "/p.S/N", "").as_deref(), Ok("{}"));
    let missing = rules.find(&Method::GET, "/p.S/M").unwrap_err();
    assert_eq!(missing.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(missing.allow().as_deref(), Some("POST"));
    let missing = rules.find(&Method::POST, "/p.S/m").unwrap_err();
    assert_eq!((missing.status(), missing.allow()), (StatusCode::NOT_FOUND, None));
    let missing = rules.find(&Method::POST, "/p.S/M%").unwrap_err();
    assert_eq!(missing.status(), StatusCode::BAD_REQUEST);
}

#[test]
fn an_option_that_nothing_describes_is_read_as_well() {
    let text = r#"syntax = "proto3"; package p; import "google/api/annotations.proto";
        message M { string id = 1; }
        service S { rpc Get(M) returns (M) { option (google.api.http).get = "/m/{id}"; } }"#;
    let set = protos::set(&[("a.proto", text)]);
    // The other files go, and the line that imports them is one of a file that is there.
    let import = b"\x1a\x1cgoogle/api/annotations.proto";
    let other = b"\x1a\x1cgoogle/protobuf/struct.proto";
    let at = set.windows(import.len()).position(|w| w == import).unwrap();
    let set = [&set[..at], other, &set[at + import.len()..]].concat();
    let pool = pool::pool(&set).unwrap();
    let file = pool.get_file_by_name("a.proto").unwrap();
    assert!(
        file.dependencies()
            .all(|f| f.name() == "google/protobuf/struct.proto")
    );
    let (rules, problems) = Rules::new(file.services());
    assert_eq!(problems, []);
    assert_eq!(
        request(&rules, Method::GET, "/m/x", "").as_deref(),
        Ok(r#"{"id":"x"}"#)
    );
}

#[test]
fn every_pattern_is_a_method_and_additional_bindings_are_routes() {
    let rules = one(
        r#"get: "/g/{id}" additional_bindings { put: "/p/{id}" body: "*" } additional_bindings { post: "/o/{id}" }
        additional_bindings { delete: "/d/{id}" } additional_bindings { patch: "/a/{id}" }
        additional_bindings { custom { kind: "*" path: "/c/{id}" } } additional_bindings { post: "/c/{id}:go" }
        additional_bindings { put: "/c/{id}" body: "address" }"#,
    );
    for (verb, path, is_there) in [
        (Method::GET, "/g/x", true),
        (Method::POST, "/g/x", false),
        (Method::PUT, "/p/x", true),
        (Method::POST, "/o/x", true),
        (Method::DELETE, "/d/x", true),
        (Method::PATCH, "/a/x", true),
        (Method::GET, "/c/x", true),
        (Method::OPTIONS, "/c/x", true),
    ] {
        let found = request(&rules, verb.clone(), path, "");
        assert_eq!(found.is_ok(), is_there, "{verb} {path}: {found:?}");
    }
    // The verb is known here, so that it is none of the id.
    assert_eq!(
        request(&rules, Method::POST, "/c/x:go", "").as_deref(),
        Ok(r#"{"id":"x"}"#)
    );
    assert_eq!(
        request(&rules, Method::GET, "/c/x:go", "").as_deref(),
        Ok(r#"{"id":"x:go"}"#)
    );
    // A route for the HTTP method comes before one for all.
    let put = request(&rules, Method::PUT, "/c/x", r#"{"number":1}"#);
    assert_eq!(put.as_deref(), Ok(r#"{"id":"x","address":{"number":1}}"#));
}

#[test]
fn the_route_that_says_most_is_taken_whatever_the_order() {
    let routes = [
        ("A", "/a/{id}"),
        ("B", "/a/b"),
        ("C", "/a/{id=**}"),
        ("D", "/{id=**}"),
        ("E", "/a/{id}/c"),
        ("F", "/a/b/{id}"),
        ("G", "/a/{id=**}:go"),
    ];
    let method = |(name, path): &(&str, &str)| {
        format!("rpc {name}(In) returns (Out) {{ option (google.api.http).get = \"{path}\"; }}\n")
    };
    let mut forward: Vec<String> = routes.iter().map(method).collect();
    for _ in 0..2 {
        forward.reverse();
        let (rules, problems) = rules(&forward.concat());
        assert_eq!(problems, []);
        for (path, name) in [
            ("/a/x", "A"),
            ("/a/b", "B"),
            ("/a", "C"),
            ("/a/x/y", "C"),
            ("/x", "D"),
            ("/", "D"),
            ("/a/x/c", "E"),
            ("/a/b/c", "F"),
            ("/a/b:go", "G"),
        ] {
            let found = rules.find(&Method::GET, path).unwrap();
            assert_eq!(found.method().name(), name, "{path}");
        }
    }
}

#[test]
fn what_is_wrong_with_an_option_is_told_with_its_place() {
    for (option, why) in [
        (r#"get: "v1""#, "begins with a slash"),
        (r#"body: "*""#, "has no pattern"),
        (r#"custom { kind: "a b" path: "/" }"#, "kind is an HTTP method"),
        (r#"custom { path: "/" }"#, "kind is an HTTP method"),
        (r#"get: "/{nothing}""#, "no field of p.In"),
        (r#"get: "/{address.nothing}""#, "no field of p.Address"),
        (r#"get: "/{id.street}""#, "of which id is no message"),
        (r#"get: "/{addresses.street}""#, "of which addresses is repeated"),
        (r#"get: "/{at.seconds}""#, "of which at is a message"),
        (r#"get: "/{list}""#, "of which list is repeated"),
        (r#"get: "/{map}""#, "of which map is a map"),
        (r#"get: "/{address}""#, "of which address is a message"),
        (r#"post: "/" body: "nothing""#, "the body \"nothing\""),
        (r#"post: "/{id}" body: "id""#, "both in its path and as its body"),
        (r#"get: "/" response_body: "nothing""#, "no field of p.Out"),
        (
            r#"get: "/x" additional_bindings { get: "/a" additional_bindings { get: "/b" } }"#,
            "beside one another",
        ),
    ] {
        let (_, problems) = rules(&format!(
            "rpc M(In) returns (Out) {{\n option (google.api.http) = {{ {option} }}; }}"
        ));
        let [problem] = &problems[..] else {
            panic!("{option}: {problems:?}");
        };
        assert_eq!(problem.severity, Severity::Error);
        assert!(problem.message.contains(why), "{problem}");
        assert!(
            problem.message.contains("google.api.http option of p.S/M"),
            "{problem}"
        );
        let location = problem.location.as_ref().unwrap();
        assert_eq!(location.file, "test.proto");
        assert!(location.path.starts_with(&[6, 0, 2, 0]), "{location:?}");
    }
    let many = r#"additional_bindings { get: "/a" }"#.repeat(50);
    let (_, problems) = rules(&format!(
        "rpc M(In) returns (Out) {{ option (google.api.http) = {{ get: \"/b\" {many} }}; }}"
    ));
    assert!(problems[0].message.contains("more than 50"), "{problems:?}");
}

#[test]
fn of_two_routes_that_are_the_same_the_earlier_stays() {
    let (rules, problems) = rules(
        r#"rpc A(In) returns (Out) { option (google.api.http) = { get: "/x/{id}" additional_bindings { post: "/x/{id}" } }; }
        rpc B(In) returns (Out) { option (google.api.http).get = "/x/{some_name=*}"; }
        rpc C(In) returns (Out) { option (google.api.http).put = "/x/{id}"; }"#,
    );
    assert_eq!(problems.len(), 1);
    let text = &problems[0].message;
    assert!(
        text.contains("p.S/B") && text.contains("GET /x/{id} of p.S/A"),
        "{text}"
    );
    assert_eq!(rules.find(&Method::GET, "/x/1").unwrap().method().name(), "A");
    let missing = rules.find(&Method::DELETE, "/x/1").unwrap_err();
    assert_eq!(missing.allow().as_deref(), Some("GET, HEAD, POST, PUT"));
    assert!(missing.to_string().contains("GET, HEAD, POST, PUT"), "{missing}");
}

#[test]
fn a_query_is_the_fields_it_names() {
    let rules = one(r#"get: "/in/{id}""#);
    for (query, json) in [
        ("", "{}"),
        ("&&", "{}"),
        ("big=-5", r#"{"big":"-5"}"#),
        ("flag=true", r#"{"flag":true}"#),
        ("flag=false", "{}"),
        ("maybe=0", r#"{"maybe":0}"#),
        ("data=_w", r#"{"data":"/w=="}"#),
        ("data=%2Fw%3D%3D", r#"{"data":"/w=="}"#),
        ("color=GREEN", r#"{"color":"GREEN"}"#),
        ("color=1", r#"{"color":"GREEN"}"#),
        ("colors=1&colors=RED", r#"{"colors":["GREEN","RED"]}"#),
        ("d=1e3", r#"{"d":1000.0}"#),
        ("d=-Infinity", r#"{"d":"-Infinity"}"#),
        ("f=0.5", r#"{"f":0.5}"#),
        ("list=3&list=1&list=2", r#"{"list":[3,1,2]}"#),
        (
            "address.street=a+b%26c&address.number=7",
            r#"{"address":{"street":"a b&c","number":7}}"#,
        ),
        (
            "address.next.next.lines=x&address.next.next.lines=",
            r#"{"address":{"next":{"next":{"lines":["x",""]}}}}"#,
        ),
        ("left", r#"{"left":""}"#),
        ("left=a=b", r#"{"left":"a=b"}"#),
        ("at=2026-11-29T09:31:59Z", r#"{"at":"2026-11-29T09:31:59Z"}"#),
        ("for=1.5s", r#"{"for":"1.500s"}"#),
        ("mask=a,bC.d", r#"{"mask":"a,bC.d"}"#),
        ("mask=a,b_c.d,,eF.g_hI", r#"{"mask":"a,bC.d,eF.gHI"}"#),
        ("mask=", r#"{"mask":""}"#),
        ("yes=true&wrapped=9", r#"{"yes":true,"wrapped":"9"}"#),
        ("texts=a&texts=b", r#"{"texts":["a","b"]}"#),
        ("some_name=x", r#"{"someName":"x"}"#),
        ("big=1e3", r#"{"big":"1000"}"#),
        ("null=0", "{}"),
        ("doubles=1e3", r#"{"doubles":[1000.0]}"#),
        ("someName=x", r#"{"someName":"x"}"#),
    ] {
        let found = request(
            &rules,
            Method::GET,
            &format!("/in/?{query}").replace("/in/?", "/in/i?"),
            "",
        );
        let expected = match json {
            "{}" => r#"{"id":"i"}"#.to_owned(),
            json => json.replacen('{', r#"{"id":"i","#, 1),
        };
        assert_eq!(found.as_deref(), Ok(&*expected), "{query}");
    }
}

#[test]
fn what_is_no_number_is_named_in_a_query_and_a_body() {
    let rules = one(r#"get: "/in/{id}" additional_bindings { post: "/in/{id}" body: "*" }"#);
    let get = rules.find(&Method::GET, "/in/i").unwrap();
    let query = "doubles=NaN&doubles=Infinity&doubles=-Infinity";
    let message = get.request(Some(query), None, b"").unwrap();
    let json = message_to_json(&get.method().input(), &message).unwrap();
    let json = String::from_utf8(json).unwrap();
    let named = r#""doubles":["NaN","Infinity","-Infinity"]"#;
    assert!(json.contains(named), "{json}");
    let post = rules.find(&Method::POST, "/in/i").unwrap();
    let body = format!("{{{named}}}");
    let same = post.request(None, Some("application/json"), body.as_bytes());
    assert_eq!(same, Ok(message));
}

#[test]
fn an_any_may_be_empty_in_a_body_and_in_a_part_of_it() {
    let rules = one(r#"post: "/in" body: "*" additional_bindings { put: "/anys" body: "anys" }"#);
    let post = rules.find(&Method::POST, "/in").unwrap();
    let message = post.request(None, Some("application/json"), br#"{"any":{},"anys":[{}]}"#);
    assert_eq!(message.as_deref(), Ok(&b"\xda\x01\0\xe2\x01\0"[..]));
    let put = rules.find(&Method::PUT, "/anys").unwrap();
    let message = put.request(None, Some("application/json"), b"[{},{}]");
    assert_eq!(message.as_deref(), Ok(&b"\xe2\x01\0\xe2\x01\0"[..]));
    let unknown = request(&rules, Method::POST, "/in", r#"{"any":{"@type":"x/p.Nothing"}}"#);
    refused(unknown, "of the type \"x/p.Nothing\"");
}

#[test]
fn what_a_query_cannot_say_is_told() {
    let rules = one(r#"get: "/in/{id}""#);
    for (query, why) in [
        (
            "nothing=1",
            "\"nothing\" in the query is unknown: p.In has no field",
        ),
        ("address.nothing=1", "p.Address has no field"),
        ("big.x=1", "\"big\" has no fields"),
        ("at.seconds=1", "\"at\" has no fields"),
        ("addresses.street=1", "\"addresses\" has no fields"),
        ("map.key=1", "\"map\" has no fields"),
        ("map=1", "is a map"),
        ("address=1", "name a field of it"),
        ("struct=1", "name a field of it"),
        ("big=x", "\"big\" in the query is \"x\""),
        ("big=1.5", "\"big\" in the query"),
        ("maybe=-1", "\"maybe\" in the query"),
        ("list=", "\"list\" in the query"),
        ("flag=1", "true or false"),
        ("yes=", "true or false"),
        ("color=BLUE", "unrecognized enum value"),
        ("d=1e999", "NaN, Infinity"),
        ("d=inf", "NaN, Infinity"),
        ("doubles=inf", "NaN, Infinity"),
        ("null=1", "expected null"),
        ("mask=a-b", "names of fields, with commas between"),
        ("mask=a..b", "names of fields, with commas between"),
        ("data=*", "base64"),
        ("at=today", "\"at\" in the query"),
        ("big=1&big=1", "given twice"),
        ("some_name=1&someName=1", "given twice"),
        ("left=1&right=2", "cannot both be given"),
        ("id=1", "is in the path already"),
        ("left=%f", "two hexadecimal digits"),
        ("left=%ff", "UTF-8"),
        ("=1", "is unknown"),
        ("a..b=1", "is unknown"),
    ] {
        refused(request(&rules, Method::GET, &format!("/in/i?{query}"), ""), why);
    }
    let many = "list=1&".repeat(1_001);
    refused(
        request(&rules, Method::GET, &format!("/in/i?{many}"), ""),
        "more than 1000",
    );
    refused(request(&rules, Method::GET, "/in/i", "{}"), "takes no body");
}

#[test]
fn a_body_is_the_message_and_the_path_is_put_on_top() {
    let rules = one(r#"post: "/in/{id}/{big}" body: "*""#);
    let found = request(
        &rules,
        Method::POST,
        "/in/a%20b/7",
        r#"{"id":"other","flag":true}"#,
    );
    assert_eq!(found.as_deref(), Ok(r#"{"id":"a b","big":"7","flag":true}"#));
    let found = request(&rules, Method::POST, "/in/a/7?", "");
    assert_eq!(found.as_deref(), Ok(r#"{"id":"a","big":"7"}"#));
    refused(request(&rules, Method::POST, "/in/a/x", ""), "big in the path");
    refused(
        request(&rules, Method::POST, "/in/a/1?flag=true", "{}"),
        "from its body",
    );
    refused(
        request(&rules, Method::POST, "/in/a/1", "{"),
        "the body is not the JSON of p.In",
    );
    refused(request(&rules, Method::POST, "/in/a/1", "{} x"), "trailing");
    refused(
        request(&rules, Method::POST, "/in/a/1", r#"{"nothing":1}"#),
        "'nothing'",
    );
    let deep = "{\"address\":{\"next\":".to_owned() + &"{\"next\":".repeat(100_000);
    refused(request(&rules, Method::POST, "/in/a/1", &deep), "recursion");
}

#[test]
fn of_a_oneof_one_is_given_wherever_it_is() {
    let rules = one(
        r#"get: "/l/{left}" additional_bindings { post: "/l/{left}" body: "*" } additional_bindings { put: "/l/{left}" body: "right" }
        additional_bindings { get: "/h/{here.next.street}" } additional_bindings { post: "/h/{here.street}" body: "*" }"#,
    );
    for (verb, uri, body, both) in [
        (Method::GET, "/l/x?right=0", "", "left in the path and \"right\""),
        (
            Method::POST,
            "/l/x",
            r#"{"right":1}"#,
            "left in the path and \"right\"",
        ),
        (Method::PUT, "/l/x", "1", "left in the path and \"right\""),
        (
            Method::GET,
            "/h/x?there.street=y",
            "",
            "here.next.street in the path and \"there\"",
        ),
        (
            Method::POST,
            "/h/x",
            r#"{"there":{}}"#,
            "here.street in the path and \"there\"",
        ),
    ] {
        refused(
            request(&rules, verb, uri, body),
            &format!("{both} cannot both be given"),
        );
    }
    // The same one is the path's.
    for (verb, uri, body, json) in [
        (
            Method::POST,
            "/l/x",
            r#"{"left":"y","right":null}"#,
            r#"{"left":"x"}"#,
        ),
        (Method::PUT, "/l/x", "", r#"{"left":"x"}"#),
        (
            Method::POST,
            "/h/x",
            r#"{"here":{"number":1}}"#,
            r#"{"here":{"street":"x","number":1}}"#,
        ),
    ] {
        assert_eq!(
            request(&rules, verb, uri, body).as_deref(),
            Ok(json),
            "{uri} {body}"
        );
    }
}

#[test]
fn a_body_is_a_field_and_the_query_the_others() {
    let rules = one(r#"post: "/in/{id}" body: "address""#);
    let found = request(&rules, Method::POST, "/in/a?big=1", r#"{"street":"s"}"#);
    assert_eq!(
        found.as_deref(),
        Ok(r#"{"id":"a","big":"1","address":{"street":"s"}}"#)
    );
    assert_eq!(
        request(&rules, Method::POST, "/in/a", "").as_deref(),
        Ok(r#"{"id":"a"}"#)
    );
    refused(
        request(&rules, Method::POST, "/in/a?address.number=1", "{}"),
        "is the body of the request",
    );
    refused(
        request(&rules, Method::POST, "/in/a", r#"{"id":"b"}"#),
        "the JSON of p.Address",
    );
    for (field, body, json) in [
        ("list", "[1,2]", r#"{"list":[1,2]}"#),
        ("map", r#"{"a":"b"}"#, r#"{"map":{"a":"b"}}"#),
        ("some_name", "\"x\"", r#"{"someName":"x"}"#),
        (
            "at",
            "\"2026-11-29T09:31:59Z\"",
            r#"{"at":"2026-11-29T09:31:59Z"}"#,
        ),
        (
            "addresses",
            r#"[{"number":1}]"#,
            r#"{"addresses":[{"number":1}]}"#,
        ),
    ] {
        let rules = one(&format!(r#"post: "/" body: "{field}""#));
        assert_eq!(request(&rules, Method::POST, "/", body).as_deref(), Ok(json));
        refused(
            request(&rules, Method::POST, "/", "{]"),
            "the body is not the JSON",
        );
    }
}

#[test]
fn a_field_as_body_is_not_there_where_it_is_null() {
    for (field, body, json) in [
        ("list", "null", "{}"),
        ("some_name", "null", "{}"),
        ("map", " null\n", "{}"),
        ("address", "null", "{}"),
        ("addresses", "null", "{}"),
        ("at", "null", "{}"),
        ("wrapped", "null", "{}"),
        ("any", "null", "{}"),
        ("struct", "null", "{}"),
        // Which are values of these.
        ("value", "null", r#"{"value":null}"#),
        ("nil", "null", r#"{"nil":null}"#),
        ("nil", "0", r#"{"nil":null}"#),
        ("nil", "\"NULL_VALUE\"", r#"{"nil":null}"#),
    ] {
        let rules = one(&format!(r#"post: "/{{id}}" body: "{field}""#));
        let expected = json.replacen('{', r#"{"id":"i","#, 1).replace(",}", "}");
        assert_eq!(request(&rules, Method::POST, "/i", body), Ok(expected), "{field}");
        refused(
            request(&rules, Method::POST, "/i", "nul"),
            "the body is not the JSON",
        );
    }
    let rules = one(r#"post: "/" body: "nil""#);
    refused(request(&rules, Method::POST, "/", "1"), "expected null");
}

#[test]
fn a_field_as_body_is_as_exact_as_in_its_message_and_one_value() {
    for (field, wrong, why) in [
        ("big", "9223372036854775808.0", "out of range"),
        ("list", "[2147483648.0]", "out of range"),
        ("wrapped", "-9223372036854775809", "no integer, or out of range"),
        ("d", "\"nan\"", "is no number"),
        ("list", "[1],\"flag\":true", "trailing"),
        ("id", "\"\",\"flag\":true", "trailing"),
        ("addresses", r#"[{"street":"","street":""}]"#, "given twice"),
        ("list", "[\"x\"]", "the field list: invalid digit found in string"),
    ] {
        let rules = one(&format!(r#"post: "/" body: "{field}""#));
        refused(request(&rules, Method::POST, "/", wrong), why);
    }
    let rules = one(r#"post: "/" body: "big""#);
    let exact = request(&rules, Method::POST, "/", "9007199254740993.0");
    assert_eq!(exact.as_deref(), Ok(r#"{"big":"9007199254740993"}"#));
}

#[test]
fn messages_whose_json_is_no_object_have_fields_in_path_query_and_body() {
    for (input, route, verb, uri, body, json) in [
        (
            "StringValue",
            r#"get: "/{value}""#,
            "GET",
            "/a%20b",
            "",
            r#""a b""#,
        ),
        ("StringValue", r#"get: "/""#, "GET", "/?value=x", "", r#""x""#),
        (
            "StringValue",
            r#"post: "/" body: "value""#,
            "POST",
            "/",
            r#""x""#,
            r#""x""#,
        ),
        (
            "StringValue",
            r#"post: "/" body: "value""#,
            "POST",
            "/",
            "null",
            r#""""#,
        ),
        (
            "StringValue",
            r#"post: "/{value}" body: "*""#,
            "POST",
            "/x",
            r#""y""#,
            r#""x""#,
        ),
        (
            "Int64Value",
            r#"get: "/{value}""#,
            "GET",
            "/-9223372036854775808",
            "",
            r#""-9223372036854775808""#,
        ),
        (
            "UInt64Value",
            r#"post: "/" body: "value""#,
            "POST",
            "/",
            "18446744073709551615.0",
            r#""18446744073709551615""#,
        ),
        ("Int32Value", r#"get: "/{value}""#, "GET", "/1e3", "", "1000"),
        ("BoolValue", r#"get: "/{value}""#, "GET", "/true", "", "true"),
        ("BytesValue", r#"get: "/{value}""#, "GET", "/_w", "", r#""/w==""#),
        ("DoubleValue", r#"get: "/""#, "GET", "/?value=1.5", "", "1.5"),
        (
            "FloatValue",
            r#"post: "/" body: "value""#,
            "POST",
            "/",
            "0.5",
            "0.5",
        ),
        (
            "Timestamp",
            r#"get: "/{seconds}""#,
            "GET",
            "/5?nanos=500000000",
            "",
            r#""1970-01-01T00:00:05.500Z""#,
        ),
        (
            "Duration",
            r#"post: "/" body: "seconds""#,
            "POST",
            "/?nanos=5",
            "7",
            r#""7.000000005s""#,
        ),
        (
            "FieldMask",
            r#"get: "/""#,
            "GET",
            "/?paths=a&paths=b_c",
            "",
            r#""a,bC""#,
        ),
        (
            "FieldMask",
            r#"post: "/" body: "paths""#,
            "POST",
            "/",
            r#"["a","b_c"]"#,
            r#""a,bC""#,
        ),
        (
            "Struct",
            r#"post: "/" body: "fields""#,
            "POST",
            "/",
            r#"{"a":[1.5,null]}"#,
            r#"{"a":[1.5,null]}"#,
        ),
        (
            "ListValue",
            r#"post: "/" body: "values""#,
            "POST",
            "/",
            r#"[true,"x"]"#,
            r#"[true,"x"]"#,
        ),
        ("Value", r#"get: "/{string_value}""#, "GET", "/x", "", r#""x""#),
        ("Value", r#"get: "/""#, "GET", "/?number_value=1.5", "", "1.5"),
        ("Value", r#"get: "/""#, "GET", "/?null_value=0", "", "null"),
        (
            "Value",
            r#"post: "/" body: "struct_value""#,
            "POST",
            "/",
            r#"{"a":true}"#,
            r#"{"a":true}"#,
        ),
        (
            "Value",
            r#"post: "/" body: "list_value""#,
            "POST",
            "/",
            "[true]",
            "[true]",
        ),
        (
            "Value",
            r#"post: "/" body: "null_value""#,
            "POST",
            "/",
            "null",
            "null",
        ),
        (
            "Any",
            r#"get: "/{type_url=**}""#,
            "GET",
            "/x/p.Address?value=CgFz",
            "",
            r#"{"@type":"x/p.Address","street":"s"}"#,
        ),
    ] {
        let (rules, problems) = rules(&format!(
            "rpc M(google.protobuf.{input}) returns (Out) {{ option (google.api.http) = {{ {route} }}; }}"
        ));
        assert_eq!(problems, [], "{input} {route}");
        let verb = Method::from_bytes(verb.as_bytes()).unwrap();
        let found = request(&rules, verb.clone(), uri, body);
        assert_eq!(found.as_deref(), Ok(json), "{input} {route}");
        // And what its example says can be asked; of an Any it names no type.
        if input == "Any" {
            continue;
        }
        let shown = &rules.routes()[0];
        let body = shown.example.as_deref().unwrap_or_default();
        let asked = request(&rules, verb, &shown.path, body);
        assert!(asked.is_ok(), "{shown:?}: {asked:?}");
    }
    for (input, route, why) in [
        ("Struct", r#"get: "/{fields}""#, "fields is a map"),
        ("FieldMask", r#"get: "/{paths}""#, "paths is repeated"),
        ("Value", r#"get: "/{struct_value}""#, "struct_value is a message"),
        ("Empty", r#"get: "/{value}""#, "no field of google.protobuf.Empty"),
    ] {
        let (_, problems) = rules(&format!(
            "rpc M(google.protobuf.{input}) returns (Out) {{ option (google.api.http) = {{ {route} }}; }}"
        ));
        assert!(
            problems.iter().any(|problem| problem.message.contains(why)),
            "{input}: {problems:?}"
        );
    }
    let (rules, _) = rules(
        r#"rpc M(google.protobuf.Int64Value) returns (Out) { option (google.api.http) = { get: "/{value}"
        additional_bindings { post: "/" body: "value" } }; }"#,
    );
    refused(
        request(&rules, Method::GET, "/x", ""),
        "value in the path is \"x\"",
    );
    refused(
        request(&rules, Method::POST, "/", "1.5"),
        "expected integer value",
    );
    refused(
        request(&rules, Method::POST, "/", r#"{"value":1}"#),
        "the body is not the JSON of the field value",
    );
}

#[test]
fn json_is_said_to_be_json() {
    let rules = one(r#"post: "/" body: "*" additional_bindings { put: "/" body: "list" }"#);
    for verb in [Method::POST, Method::PUT] {
        let found = rules.find(&verb, "/").unwrap();
        let body: &[u8] = if verb == Method::POST { b"{}" } else { b"[]" };
        for (content_type, is_json) in [
            (Some("application/json"), true),
            (Some("Application/JSON ; charset=utf-8"), true),
            (Some("text/plain"), false),
            (Some("application/jsonp"), false),
            (Some("application/x-www-form-urlencoded"), false),
            (None, false),
        ] {
            let read = found.request(None, content_type, body);
            assert_eq!(read.is_ok(), is_json, "{content_type:?}: {read:?}");
            assert!(found.request(None, content_type, b"").is_ok());
        }
    }
}

#[test]
fn a_body_that_is_no_json_is_taken_as_it_is() {
    let (rules, problems) = rules(
        r#"rpc A(google.api.HttpBody) returns (google.api.HttpBody) { option (google.api.http) = { post: "/a" body: "*" }; }
        rpc B(In) returns (Out) { option (google.api.http) = { post: "/b/{id}" body: "raw" response_body: "raw" }; }"#,
    );
    assert_eq!(problems, []);
    let raw = rules.find(&Method::POST, "/a").unwrap();
    let message = raw.request(None, Some("image/png"), b"\x89PNG").unwrap();
    assert_eq!(&message[..], b"\x0a\x09image/png\x12\x04\x89PNG");
    let response = raw.response(&message).unwrap();
    assert_eq!(
        (response.content_type.as_str(), &response.body[..]),
        ("image/png", &b"\x89PNG"[..])
    );
    assert!(raw.is_raw());
    assert_eq!(&raw.json_line(&message).unwrap()[..], b"\x89PNG");
    assert!(raw.event(&message).is_err());
    assert_eq!(
        &raw.event(b"\x12\x05a\r\nb\n").unwrap()[..],
        b"data: a\ndata: b\ndata: \n\n"
    );
    assert_eq!(
        raw.response(b"").unwrap().content_type,
        "application/octet-stream"
    );
    assert!(
        raw.response(b"\x0a\x03a\nb")
            .unwrap_err()
            .to_string()
            .contains("content type")
    );
    let field = rules.find(&Method::POST, "/b/i").unwrap();
    let message = field.request(None, None, b"x").unwrap();
    assert_eq!(&message[..], b"\x0a\x01i\xb2\x01\x03\x12\x01x");
    let response = field.response(b"\x2a\x06\x0a\x01t\x12\x01y").unwrap();
    assert_eq!(
        (response.content_type.as_str(), &response.body[..]),
        ("t", &b"y"[..])
    );
}

#[test]
fn responses_have_their_defaults() {
    let rules = one(
        r#"get: "/" additional_bindings { get: "/text" response_body: "text" }
        additional_bindings { get: "/address" response_body: "address" } additional_bindings { get: "/list" response_body: "list" }
        additional_bindings { get: "/big" response_body: "big_number" }"#,
    );
    let message = b"\x0a\x02a\n\x10\x07\x22\x01x\x22\x00";
    for (path, json, empty) in [
        (
            "/",
            r#"{"text":"a\n","bigNumber":"7","list":["x",""]}"#,
            r#"{"text":"","bigNumber":"0","list":[]}"#,
        ),
        ("/text", r#""a\n""#, "\"\""),
        ("/big", "\"7\"", "\"0\""),
        ("/list", r#"["x",""]"#, "[]"),
        // It is not there: one that is has all its members.
        ("/address", "null", "null"),
    ] {
        let found = rules.find(&Method::GET, path).unwrap();
        assert!(!found.is_raw());
        let response = found.response(message).unwrap();
        assert_eq!(response.content_type, "application/json");
        assert_eq!(response.body, json, "{path}");
        assert_eq!(found.response(b"").unwrap().body, empty, "{path}");
        assert_eq!(found.json_line(message).unwrap(), format!("{json}\n"));
        assert_eq!(found.event(message).unwrap(), format!("data: {json}\n\n"));
        let error = found.response(b"\x0a").unwrap_err().to_string();
        assert!(error.contains("cannot be passed on"), "{error}");
    }
    let found = rules.find(&Method::GET, "/address").unwrap();
    let response = found.response(b"\x1a\x00").unwrap();
    assert_eq!(response.body, r#"{"street":"","number":0,"lines":[]}"#);
}

#[test]
fn variables_are_fields_within_fields_and_enums_as_well() {
    let rules = one(
        r#"get: "/n/{address.next.number}/{color}" additional_bindings { patch: "/a/{address.street=a/*}" body: "address" }
        additional_bindings { put: "/w/{address.number}" body: "*" }"#,
    );
    let got = request(&rules, Method::GET, "/n/7/GREEN?address.street=x", "");
    assert_eq!(
        got.as_deref(),
        Ok(r#"{"color":"GREEN","address":{"street":"x","next":{"number":7}}}"#)
    );
    let by_number = request(&rules, Method::GET, "/n/7/1", "");
    assert_eq!(
        by_number.as_deref(),
        Ok(r#"{"color":"GREEN","address":{"next":{"number":7}}}"#)
    );
    refused(request(&rules, Method::GET, "/n/7/BLUE", ""), "color in the path");
    refused(
        request(&rules, Method::GET, "/n/x/1", ""),
        "address.next.number in the path",
    );
    let twice = request(&rules, Method::GET, "/n/7/1?address.next.number=8", "");
    refused(twice, "is in the path already");
    // What the path says stands whatever the body does.
    let body = r#"{"street":"b","number":1}"#;
    let patched = request(&rules, Method::PATCH, "/a/a/c", body);
    assert_eq!(
        patched.as_deref(),
        Ok(r#"{"address":{"street":"a/c","number":1}}"#)
    );
    let put = request(&rules, Method::PUT, "/w/3", r#"{"address":{"street":"b"}}"#);
    assert_eq!(put.as_deref(), Ok(r#"{"address":{"street":"b","number":3}}"#));
}

#[test]
fn a_head_is_asked_for_by_its_own_route_or_that_of_a_get() {
    let rules = one(
        r#"get: "/a/{id}" additional_bindings { custom { kind: "HEAD" path: "/{left}/b" } }
        additional_bindings { post: "/p" } additional_bindings { custom { kind: "LOCK" path: "/p" } }"#,
    );
    let head = |path| request(&rules, Method::HEAD, path, "");
    assert_eq!(head("/a/x").as_deref(), Ok(r#"{"id":"x"}"#));
    assert_eq!(head("/a/b").as_deref(), Ok(r#"{"left":"a"}"#));
    let missing = rules.find(&Method::HEAD, "/p").unwrap_err();
    assert_eq!(missing.allow().as_deref(), Some("LOCK, POST"));
    let missing = rules.find(&Method::PUT, "/a/x").unwrap_err();
    assert_eq!(missing.allow().as_deref(), Some("GET, HEAD"));
    let lock = Method::from_bytes(b"LOCK").unwrap();
    assert_eq!(request(&rules, lock, "/p", "").as_deref(), Ok("{}"));
}

#[test]
fn what_takes_a_stream_is_no_route_and_its_option_has_no_effect() {
    let (rules, problems) = rules(
        r#"rpc M(stream In) returns (Out) { option (google.api.http) = { post: "/m" body: "*" }; }
        rpc N(stream In) returns (Out);"#,
    );
    let [problem] = &problems[..] else {
        panic!("{problems:?}");
    };
    assert_eq!(problem.severity, Severity::Warning);
    assert!(
        problem.message.contains("option of p.S/M has no effect"),
        "{problem}"
    );
    assert_eq!(rules.routes(), []);
    assert!(rules.find(&Method::POST, "/m").is_err());
    // Whoever asks by its name hears why not.
    assert!(rules.find(&Method::POST, "/p.S/M").is_ok());
}

#[test]
fn a_body_in_another_form_is_told_from_a_wrong_one() {
    let rules = one(r#"post: "/" body: "*""#);
    let found = rules.find(&Method::POST, "/").unwrap();
    let status = |content_type, body: &str| match found.request(None, content_type, body.as_bytes()) {
        Ok(_) => 200,
        Err(error) => error.status().as_u16(),
    };
    for (content_type, is) in [
        (Some("application/json"), 200),
        (Some("Application/JSON;Charset=UTF-8"), 200),
        (Some("application/json; x=y; charset=\"utf-8\""), 200),
        (Some("application/json; charset=iso-8859-1"), 415),
        (Some("application/json;charset=utf-16"), 415),
        (Some("text/json"), 415),
        (None, 415),
    ] {
        assert_eq!(status(content_type, "{}"), is, "{content_type:?}");
    }
    assert_eq!(status(Some("application/json"), "{"), 400);
    assert_eq!(
        status(Some("application/json"), r#"{"someName":"","some_name":""}"#),
        400
    );
}

#[test]
fn routes_are_shown_with_an_example() {
    let (rules, _) = rules(
        r#"rpc Put(Address) returns (Out) { option (google.api.http) = { put: "/address/{street}" body: "*"
          additional_bindings { post: "/lines/{street=**}" body: "lines" } }; }
        rpc Odd(In) returns (Out) { option (google.api.http).get = "/odd/a%20b/{id=x/*/**}:go%2F"; }
        rpc Typed(In) returns (Out) { option (google.api.http).get = "/typed/{color}/{flag}/{data}/{d}/{big}/*"; }
        rpc Get(In) returns (Out) { option (google.api.http).get = "/in/{id}"; }
        rpc Any(Address) returns (Out) { option (google.api.http) = { custom { kind: "*" path: "/any" } }; }
        rpc Plain(Address) returns (Out);"#,
    );
    let routes = rules.routes();
    let shown: Vec<String> = routes
        .iter()
        .map(|r| format!("{} {} {} {}", r.verb, r.template, r.rpc, r.has_body))
        .collect();
    assert_eq!(
        shown,
        [
            "* /any p.S/Any false",
            "GET /in/{id} p.S/Get false",
            "GET /odd/a%20b/{id=x/*/**}:go%2F p.S/Odd false",
            "POST /p.S/Plain p.S/Plain true",
            "PUT /address/{street} p.S/Put true",
            "POST /lines/{street=**} p.S/Put true",
            "GET /typed/{color}/{flag}/{data}/{d}/{big}/* p.S/Typed false",
        ]
    );
    for route in &routes {
        let verb = Method::from_bytes(route.verb.as_bytes()).unwrap_or(Method::GET);
        let body = route.example.as_deref().unwrap_or_default();
        let asked = request(&rules, verb, &route.path, body);
        assert!(asked.is_ok(), "{route:?}: {asked:?}");
    }
    assert_eq!(routes[1].example, None);
    assert_eq!(routes[5].example.as_deref(), Some("[\"text\"]"));
    let example = routes[4].example.as_deref().unwrap();
    assert!(example.starts_with(r#"{"lines":["text"],"next":{"#), "{example}");
    assert!(request(&rules, Method::PUT, "/address/x", example).is_ok());
}

#[test]
fn whatever_the_bytes_there_is_an_answer() {
    use proptest::prelude::*;
    let (rules, _) = rules(
        r#"rpc A(In) returns (In) { option (google.api.http) = { post: "/{id}" body: "*" }; }
        rpc B(In) returns (Out) { option (google.api.http) = { get: "/{id}" response_body: "address" }; }"#,
    );
    proptest!(|(bytes in proptest::collection::vec(any::<u8>(), 0..100), query in "[a-z.=&%0-9]{0,30}")| {
        let a = rules.find(&Method::POST, "/x").unwrap();
        let _ = a.request(None, Some("application/json"), &bytes);
        let _ = a.response(&bytes);
        let b = rules.find(&Method::GET, "/x").unwrap();
        let _ = b.request(Some(&query), None, b"");
        let _ = b.response(&bytes);
    });
}
