//! An unmodified function on Kalix's SDK, in front of which nodes stand.

use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use serde_json::{Value, json};

use super::support::command::anabranch;
use super::support::grpc::Grpc;
use super::support::http;
use super::support::kalix::{Dev, Installed, shop};
use super::support::temp::TempDir;
use super::support::wait_for;

const UNKNOWN: i32 = 2;
const INVALID: i32 = 3;
const DEADLINE_EXCEEDED: i32 = 4;
const NOT_FOUND: i32 = 5;
const PERMISSION_DENIED: i32 = 7;
const FAILED_PRECONDITION: i32 = 9;
const UNIMPLEMENTED: i32 = 12;
const INTERNAL: i32 = 13;
const UNAVAILABLE: i32 = 14;
/// Less than whatever waits for something in vain would take.
const SOON: Duration = Duration::from_secs(30);

/// Waits until a query is answered so, by what other nodes did.
#[track_caller]
fn becomes(client: &mut Grpc, method: &str, message: &Value, expected: &Value) {
    wait_for(&format!("{method} {message} to be {expected}"), || {
        (client.call(method, message.clone()) == *expected).then_some(())
    });
}

fn items(items: &[(&str, i64)]) -> Value {
    let items = items
        .iter()
        .map(|(product, quantity)| json!({"product": product, "quantity": quantity}));
    json!({"items": items.collect::<Vec<_>>()})
}

fn entries(entries: &[(&str, &[&str])]) -> Value {
    let entries = entries
        .iter()
        .map(|(key, values)| json!({"key": key, "values": values}));
    json!({"entries": entries.collect::<Vec<_>>()})
}

#[test]
fn a_cart_is_changed_deleted_and_made_again_at_any_node() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("kalix-cart", shop, 3);
    let mut clients = dev.clients();
    let add =
        |product: &str, quantity: i64| json!({"cartId": "alice", "product": product, "quantity": quantity});
    assert_eq!(clients[0].call("Cart/Add", add("shoe", 2)), items(&[("shoe", 2)]));
    clients[1].call("Cart/Add", add("hat", 1));
    let cart = json!({"cartId": "alice"});
    for client in &mut clients {
        becomes(client, "Cart/Get", &cart, &items(&[("hat", 1), ("shoe", 2)]));
    }
    clients[2].call("Cart/Remove", json!({"cartId": "alice", "product": "shoe"}));
    for client in &mut clients {
        becomes(client, "Cart/Get", &cart, &items(&[("hat", 1)]));
    }
    clients[1].call("Cart/Delete", cart.clone());
    for client in &mut clients {
        becomes(client, "Cart/Get", &cart, &items(&[]));
    }
    clients[0].call("Cart/Add", add("sock", 4));
    for client in &mut clients {
        becomes(client, "Cart/Get", &cart, &items(&[("sock", 4)]));
    }
    // What a session has seen it sees at any node, however far that has come.
    let added = clients[0].ask("Cart/Add", &[add("sock", 1)]);
    let token = added.headers["anabranch-session"].clone();
    clients[2].headers.insert("anabranch-session".into(), token);
    assert_eq!(clients[2].call("Cart/Get", cart), items(&[("sock", 5)]));
}

#[test]
fn every_type_is_the_same_at_every_node() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("kalix-types", shop, 3);
    let mut clients = dev.clients();
    let id = json!({"id": "x"});
    let word = |word: &str| json!({"id": "x", "word": word});
    let entry = |key: &str, value: &str| json!({"id": "x", "key": key, "value": value});
    clients[0].call("Counter/Change", json!({"id": "x", "by": 5}));
    clients[1].call("Counter/Change", json!({"id": "x", "by": -7}));
    clients[0].call("WordSet/Add", word("to"));
    clients[1].call("WordSet/Add", word("be"));
    clients[2].call("Notes/Set", json!({"id": "x", "text": "remember"}));
    clients[0].call("Settings/Put", entry("colour", "red"));
    clients[1].call("Tags/Put", entry("fruit", "pear"));
    clients[2].call("Tags/Put", entry("fruit", "apple"));
    clients[0].call("Page/Visit", id.clone());
    clients[1].call("Page/Say", word("hello"));
    clients[2].call("Page/Title", json!({"id": "x", "text": "home"}));
    clients[2].call("Page/Visit", id.clone());
    let votes = clients[0].call("Poll/Get", id.clone());
    assert_eq!(votes, json!({"mine": false, "for": 0, "of": 3}));
    clients[0].call("Poll/Vote", json!({"id": "x", "yes": true}));
    clients[1].call("Poll/Vote", json!({"id": "x", "yes": false}));
    for (i, client) in clients.iter_mut().enumerate() {
        becomes(client, "Counter/Get", &id, &json!({"value": -2}));
        becomes(client, "WordSet/Get", &id, &json!({"words": ["be", "to"]}));
        becomes(client, "Notes/Get", &id, &json!({"text": "remember"}));
        becomes(client, "Settings/Get", &id, &entries(&[("colour", &["red"])]));
        becomes(
            client,
            "Tags/Get",
            &id,
            &entries(&[("fruit", &["apple", "pear"])]),
        );
        let page = entries(&[("title", &["home"]), ("visits", &["2"]), ("words", &["hello"])]);
        becomes(client, "Page/Get", &id, &page);
        becomes(
            client,
            "Poll/Get",
            &id,
            &json!({"mine": i == 0, "for": 1, "of": 3}),
        );
    }
    assert_eq!(
        clients[0].call("Desk/Double", json!({"value": 21})),
        json!({"value": 42})
    );
    let ordered = clients[1].call("Desk/Order", json!({"counter": "x", "by": 3}));
    assert_eq!(ordered, json!({"value": 1}));
}

#[test]
fn what_goes_wrong_is_told_and_leaves_no_trace() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("kalix-wrong", shop, 1);
    let mut client = dev.clients().remove(0);
    let id = json!({"id": "c"});
    let by = |by: i64| json!({"id": "c", "by": by});
    client.call("Counter/Change", by(1));
    let failed = client.fail("Counter/ChangeAndFail", by(1_000));
    assert_eq!(failed, (FAILED_PRECONDITION, "no".into()));
    assert_eq!(client.call("Counter/Get", id.clone()), json!({"value": 1}));
    let refused = client.fail("Counter/ChangeAndRefuse", by(1_000));
    assert_eq!(refused, (PERMISSION_DENIED, "no".into()));
    assert_eq!(client.call("Counter/Get", id.clone()), json!({"value": 1}));
    let (code, text) = client.fail("Counter/Crash", id.clone());
    assert_eq!(code, UNKNOWN);
    assert!(text.contains("boom"), "{text}");
    assert_eq!(client.call("Counter/Get", id.clone()), json!({"value": 1}));
    let cart = |quantity| json!({"cartId": "c", "product": "p", "quantity": quantity});
    let failed = client.fail("Cart/Add", cart(0));
    assert_eq!(failed, (INVALID, "a quantity is above 0, not 0".into()));
    let failed = client.fail("Cart/Remove", json!({"cartId": "c", "product": "p"}));
    assert_eq!(failed, (NOT_FOUND, "there is no p".into()));
    let (code, text) = client.fail("Counter/Get", json!({"id": ""}));
    assert_eq!(code, INVALID);
    assert!(text.contains("key"), "{text}");
    let nowhere = client.send("/anabranch.test.Nowhere/Get", Default::default(), None);
    assert_eq!(nowhere.code, UNIMPLEMENTED);
    let failed = client.fail("Desk/Fail", json!({}));
    assert_eq!(failed, (FAILED_PRECONDITION, "the desk is closed".into()));
    // A method that there is not, where there is the function.
    let at = dev.nodes[0]["http"].as_str().unwrap();
    for shape in ["call", "stream"] {
        let reply = http::post(at, &format!("/v1/{shape}/counter/c/Nope"), "null").unwrap();
        assert_eq!(reply.status, 404, "{reply:?}");
        let message = "the function of counter at this node has no such method (it has Change, ";
        assert!(reply.body.contains(message), "{reply:?}");
        assert!(!reply.body.contains("there is no function"), "{reply:?}");
    }
}

#[test]
fn a_vote_in_a_map_counts_those_that_are_there_at_every_node() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("kalix-nested-vote", shop, 2);
    let mut clients = dev.clients();
    let (id, ballot) = (json!({"id": "m"}), json!({"id": "m", "yes": true}));
    clients[0].call("Page/Visit", id.clone());
    clients[0].call("Page/Vote", ballot.clone());
    let page = |votes: &str| entries(&[("poll", &[votes]), ("visits", &["1"])]);
    for client in &mut clients {
        becomes(client, "Page/Get", &id, &page("1 of 2"));
    }
    clients[1].call("Page/Vote", ballot);
    for client in &mut clients {
        becomes(client, "Page/Get", &id, &page("2 of 2"));
    }
    // What was removed is made anew in the same command, as another type.
    let retyped = clients[0].call("Page/Retype", json!({"id": "m", "word": "w"}));
    assert_eq!(retyped, entries(&[("visits", &["w"])]));
    for client in &mut clients {
        becomes(client, "Page/Get", &id, &retyped);
    }
}

#[test]
fn what_an_action_throws_or_ends_on_is_heard() {
    let Some(shop) = shop() else { return };
    let mut dev = Dev::start("kalix-throws", shop, 1);
    let mut client = dev.clients().remove(0);
    let began = Instant::now();
    let thrown = client.fail("Desk/Throw", json!({}));
    assert_eq!(thrown, (UNKNOWN, "Error handling command".into()));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let rambled = client.fail("Desk/ChangeAndRamble", json!({"counter": "r", "by": 2}));
    assert_eq!(rambled.0, INTERNAL);
    assert!(
        !rambled.1.contains("nothing changed") && rambled.1.contains("elsewhere is not known"),
        "{rambled:?}"
    );
    assert_eq!(
        client.call("Counter/Get", json!({"id": "r"})),
        json!({"value": 2})
    );
    let (code, text) = client.fail("Desk/Exit", json!({}));
    assert_eq!(code, UNAVAILABLE, "{text}");
    assert!(text.contains("What it did elsewhere is not known"), "{text}");
    dev.process.stderr.until("it is started again");
    wait_for("the function", || {
        let answer = client.ask("Desk/Double", &[json!({"value": 1})]);
        (answer.code == 0).then_some(())
    });
    let counted = client.ask("Desk/CountAndExit", &[json!({})]);
    assert_eq!(
        (counted.code, counted.messages),
        (UNAVAILABLE, vec![json!({"value": 1})])
    );
    assert!(
        counted.message.contains("What it did elsewhere is not known"),
        "{}",
        counted.message
    );
}

#[test]
fn what_may_be_anything_is_passed_on_as_what_it_is() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("kalix-any", shop, 1);
    let mut client = dev.clients().remove(0);
    // A message with fields of the same types as those of what may be anything.
    let shape = shop.pool.get_message_by_name("anabranch.test.Word");
    let answer = client.send(
        "/anabranch.test.Desk/Anything",
        Bytes::from_static(&[0, 0, 0, 0, 2, 8, 7]),
        shape,
    );
    assert_eq!(answer.code, 0, "{}", answer.message);
    assert_eq!(answer.messages[0]["id"], "json.kalix.io/thing");
    let thing = answer.messages[0]["word"].as_str().unwrap();
    assert!(thing.ends_with(r#"{"type":"thing","value":7}"#), "{thing}");
    let over_http = http::get(&dev.ingress(0).to_string(), "/anything/7").unwrap();
    assert_eq!(over_http.status, 200, "{}", over_http.body);
    assert_eq!(over_http.body, r#"{"type":"thing","value":7}"#);
}

#[test]
fn functions_call_one_another_and_hear_what_they_asked_for() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("kalix-calls", shop, 1);
    let mut client = dev.clients().remove(0);
    let (id, other) = (json!({"id": "c"}), json!({"id": "d"}));
    let both = json!({"id": "c", "other": "d", "by": 10});
    assert_eq!(
        client.call("Counter/ChangeOther", both.clone()),
        json!({"value": 0})
    );
    assert_eq!(client.call("Counter/Get", other.clone()), json!({"value": 10}));
    assert_eq!(client.call("Counter/Forward", both), json!({"value": 20}));
    assert_eq!(client.call("Counter/Get", id.clone()), json!({"value": 1}));
    let effect = client.call("Desk/Effect", json!({"counter": "d", "by": 1}));
    assert_eq!(effect, json!({"value": 1}));
    assert_eq!(client.call("Counter/Get", other), json!({"value": 21}));
    // What an action wants done is done although it fails, and its own failure is what its caller hears.
    let failed = client.fail("Desk/EffectAndFail", json!({"counter": "e", "by": 5}));
    assert_eq!(failed, (FAILED_PRECONDITION, "too late".into()));
    assert_eq!(
        client.call("Counter/Get", json!({"id": "e"})),
        json!({"value": 5})
    );
    client.headers.insert("x-heard".into(), "yes".into());
    client.headers.insert("x-unheard".into(), "no".into());
    let answer = client.ask("Counter/Headers", std::slice::from_ref(&id));
    assert_eq!(answer.messages, [json!({"text": "yes"})]);
    assert_eq!(answer.headers["x-said"], "well");
}

#[test]
fn a_function_that_does_not_answer_or_ends_takes_nothing_with_it() {
    let Some(shop) = shop() else { return };
    let mut dev = Dev::start("kalix-ends", shop, 1);
    let mut client = dev.clients().remove(0);
    let id = json!({"id": "c"});
    client.call("Counter/Change", json!({"id": "c", "by": 2}));
    client.headers.insert("grpc-timeout".into(), "200m".into());
    assert_eq!(client.fail("Counter/Hang", id.clone()).0, DEADLINE_EXCEEDED);
    client.headers.remove("grpc-timeout");
    assert_eq!(client.call("Counter/Get", id.clone()), json!({"value": 2}));
    assert_eq!(client.fail("Counter/Exit", id.clone()).0, UNAVAILABLE);
    dev.process.stderr.until("it is started again");
    wait_for("the function", || {
        let answer = client.ask("Counter/Get", std::slice::from_ref(&id));
        (answer.code == 0).then(|| assert_eq!(answer.messages, [json!({"value": 2})]))
    });
}

/// Ends the function, and waits until it is there again.
fn exit(client: &mut Grpc, id: &Value) {
    assert_eq!(client.fail("Counter/Exit", id.clone()).0, UNAVAILABLE);
    wait_for("the function", || {
        let answer = client.ask("Counter/Get", std::slice::from_ref(id));
        (answer.code == 0).then_some(())
    });
}

/// Ends it so often on a command of this entity that it is not given that again.
fn is_parked(client: &mut Grpc, id: &Value) {
    for _ in 0..3 {
        exit(client, id);
    }
    let (code, text) = client.fail("Counter/Exit", id.clone());
    assert_eq!(code, FAILED_PRECONDITION);
    assert!(text.contains("parked") && text.contains("3 times"), "{text}");
}

#[test]
fn a_command_stayed_parked_after_its_function_was_mended() {
    let Some(shop) = shop() else { return };
    let dir = TempDir::new("kalix-mended-function");
    for entry in fs::read_dir(&shop.dir).unwrap() {
        let entry = entry.unwrap();
        std::os::unix::fs::symlink(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let installed = Box::new(Installed {
        dir: dir.path().to_owned(),
        pool: shop.pool.clone(),
    });
    let dev = Dev::start("kalix-mended", Box::leak(installed), 1);
    let mut client = dev.clients().remove(0);
    let (id, other) = (json!({"id": "p"}), json!({"id": "q"}));
    is_parked(&mut client, &id);
    // One that is the same has to wait.
    exit(&mut client, &other);
    assert_eq!(client.fail("Counter/Exit", id.clone()).0, FAILED_PRECONDITION);
    // Another has one file more.
    let file = prost_types::FileDescriptorProto {
        name: Some("mended.proto".to_owned()),
        ..Default::default()
    };
    let more = prost_types::FileDescriptorSet { file: vec![file] }.encode_to_vec();
    let set = dir.path().join("user-function.desc");
    let before = fs::read(&set).unwrap();
    fs::remove_file(&set).unwrap();
    fs::write(&set, [before, more].concat()).unwrap();
    exit(&mut client, &other);
    exit(&mut client, &id);
}

#[test]
fn a_command_on_which_the_function_ends_three_times_is_parked() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("kalix-parked", shop, 1);
    let mut client = dev.clients().remove(0);
    let (id, other) = (json!({"id": "p"}), json!({"id": "q"}));
    is_parked(&mut client, &id);
    // Everything else goes on, of this entity and of others.
    assert_eq!(
        client.call("Counter/Change", json!({"id": "p", "by": 1})),
        json!({"value": 1})
    );
    assert_eq!(client.call("Counter/Get", other), json!({"value": 0}));
}

#[test]
fn a_command_on_which_the_function_ends_is_taken_to_no_other_nodes() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("kalix-suspect", shop, 2);
    let mut clients = dev.clients();
    let id = json!({"id": "s"});
    let mut ends = 0;
    let refused = wait_for("the command to be refused", || {
        let (code, text) = clients[0].fail("Counter/Exit", id.clone());
        if code != UNAVAILABLE {
            return Some((code, text));
        }
        ends += usize::from(text.contains("its answer is lost"));
        None
    });
    assert_eq!((refused.0, ends), (FAILED_PRECONDITION, 3), "{refused:?}");
    // The other node's has not ended, and there it is as good as any.
    let starts = |node: usize| {
        let at = dev.nodes[node]["http"].as_str().unwrap();
        let metrics = http::get(at, "/metrics").unwrap().body;
        let mut lines = metrics.lines();
        let starts = lines.find_map(|line| line.strip_prefix("anabranch_function_process_starts_total "));
        starts.unwrap().parse::<usize>().unwrap()
    };
    assert!(
        starts(0) >= 3 && starts(1) == 1,
        "{} and {}",
        starts(0),
        starts(1)
    );
    assert_eq!(clients[1].call("Counter/Get", id), json!({"value": 0}));
}

#[test]
fn a_caller_of_an_action_who_gives_up_takes_nothing_with_him() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("kalix-gives-up", shop, 1);
    let mut client = dev.clients().remove(0);
    let number = |value: u32| json!({ "value": value });
    client.call("Desk/Double", number(1));
    client.headers.insert("grpc-timeout".into(), "100m".into());
    for _ in 0..3 {
        assert_eq!(client.fail("Desk/Late", number(400)).0, DEADLINE_EXCEEDED);
        let answer = client.ask("Desk/SumLate", &[number(300), number(100)]);
        assert_eq!(answer.code, DEADLINE_EXCEEDED, "{answer:?}");
    }
    client.headers.remove("grpc-timeout");
    // This comes after all those answers, from the same process.
    assert_eq!(client.call("Desk/Late", number(500)), number(500));
}

#[test]
fn who_has_no_time_is_told_that_nothing_changed_of_an_action_as_of_an_entity() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("kalix-no-time", shop, 1);
    let mut client = dev.clients().remove(0);
    let at = dev.ingress(0).to_string();
    let headers = [
        ("content-type", "application/json"),
        ("anabranch-timeout-ms", "0"),
    ];
    client.headers.insert("grpc-timeout".to_owned(), "0m".to_owned());
    for (method, message) in [
        ("Desk/Order", json!({"counter": "t", "by": 1})),
        ("Counter/Change", json!({"id": "t", "by": 1})),
    ] {
        let path = format!("/anabranch.test.{method}");
        let path = if method == "Counter/Change" {
            "/counters/t"
        } else {
            &path
        };
        let reply = http::request(&at, "POST", path, &headers, &message.to_string()).unwrap();
        assert_eq!(reply.status, 504, "{reply:?}");
        let (code, text) = client.fail(method, message);
        assert_eq!(code, DEADLINE_EXCEEDED, "{text}");
        for said in [&reply.body, &text] {
            let why = "nothing changed: the deadline passed before the function of ";
            assert!(said.starts_with(why), "{method}: {said}");
        }
    }
    client.headers.clear();
    let counter = client.call("Counter/Get", json!({"id": "t"}));
    assert_eq!(counter["value"], json!(0));
}

#[test]
fn an_actions_message_on_which_the_function_ends_is_kept_from_it() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("kalix-action-parked", shop, 1);
    let mut client = dev.clients().remove(0);
    let number = |value: u32| json!({ "value": value });
    // The SDK ends its process where it cannot read one.
    let at = dev.ingress(0).to_string();
    let headers = [("content-type", "application/grpc-web+proto")];
    for cut in ["\0\0\0\0\x02\x0a\x09", "\0\0\0\0\x03\x0a\x01\x01"] {
        let path = "/anabranch.test.Desk/Double";
        let reply = http::request(&at, "POST", path, &headers, cut).unwrap();
        let said = format!("{}{}", reply.headers, reply.body).replace(' ', "");
        assert!(said.contains("grpc-status:3"), "{said}");
    }
    for _ in 0..3 {
        assert_eq!(client.fail("Desk/Exit", number(1)).0, UNAVAILABLE);
        wait_for("the function", || {
            let answer = client.ask("Desk/Double", &[number(1)]);
            (answer.code == 0).then_some(())
        });
    }
    let (code, text) = client.fail("Desk/Exit", number(1));
    assert_eq!(code, FAILED_PRECONDITION);
    assert!(text.contains("parked") && text.contains("3 times"), "{text}");
    assert_eq!(client.call("Desk/Double", number(2)), number(4));
}

#[test]
fn json_over_http_is_understood_by_the_routes_of_the_descriptors() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("kalix-json", shop, 1);
    let at = dev.ingress(0).to_string();
    let ask = |method: &str, path: &str, body: &str| {
        let headers: &[(&str, &str)] = match body {
            "" => &[],
            _ => &[("content-type", "application/json")],
        };
        let reply = http::request(&at, method, path, headers, body).unwrap();
        (reply.status, reply.body)
    };
    let ok = |body: &str| (200, body.to_owned());
    let boots = r#"{"items":[{"product":"boot","quantity":"3"}]}"#;
    let posted = ask(
        "POST",
        "/carts/bob/items",
        r#"{"product": "boot", "quantity": "3"}"#,
    );
    assert_eq!(posted, ok(boots));
    assert_eq!(ask("GET", "/carts/bob", ""), ok(boots));
    let items = ask("GET", "/carts/bob/items", "");
    assert_eq!(items, ok(r#"[{"product":"boot","quantity":"3"}]"#));
    assert_eq!(ask("GET", "/double/21", ""), ok(r#"{"value":"42"}"#));
    let plain = ask("POST", "/anabranch.test.WordSet/Add", r#"{"id":"n","word":"x"}"#);
    assert_eq!(plain, ok(r#"{"words":["x"]}"#));
    let refused = ask("DELETE", "/carts/bob/items/sock", "");
    assert_eq!(refused, (404, "there is no sock".into()));
    assert_eq!(ask("DELETE", "/carts/bob/items/boot", ""), ok(r#"{"items":[]}"#));
    assert_eq!(ask("GET", "/nowhere", "").0, 404);
    assert_eq!(ask("POST", "/carts/bob/items", "{").0, 400);
    assert_eq!(ask("PUT", "/carts/bob", "").0, 405);
}

#[test]
fn streams_of_every_shape_go_through_at_any_node() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("kalix-streams", shop, 1);
    let mut client = dev.clients().remove(0);
    let numbers = |numbers: &[i64]| numbers.iter().map(|n| json!({"value": n})).collect::<Vec<_>>();
    let counted = client.ask("Desk/Count", &numbers(&[3]));
    assert_eq!((counted.code, counted.messages), (0, numbers(&[1, 2, 3])));
    let sum = client.ask("Desk/Sum", &numbers(&[1, 2, 4]));
    assert_eq!((sum.code, sum.messages), (0, numbers(&[7])));
    let echoed = client.ask("Desk/Echo", &numbers(&[5, 6]));
    assert_eq!((echoed.code, echoed.messages), (0, numbers(&[5, 6])));
    let nothing = client.ask("Desk/Echo", &[]);
    assert_eq!((nothing.code, nothing.messages), (0, numbers(&[])));
    let at = dev.ingress(0).to_string();
    let lines = http::lines(&at, "/count/2").unwrap().map(Result::unwrap);
    assert_eq!(
        lines.collect::<Vec<_>>(),
        [r#"{"value":"1"}"#, r#"{"value":"2"}"#]
    );
    // What becomes of an entity, as events and as lines.
    client.call("Counter/Change", json!({"id": "w", "by": 1}));
    let accept = [("accept", "text/event-stream")];
    let mut events = http::lines_with(&at, "/counters/w/watch", &accept)
        .unwrap()
        .map(Result::unwrap);
    let mut lines = http::lines(&at, "/counters/w/watch").unwrap().map(Result::unwrap);
    for value in 1..4 {
        let shown = format!(r#"{{"value":"{value}"}}"#);
        assert_eq!(events.next(), Some(format!("data: {shown}")));
        assert_eq!(events.next(), Some(String::new()));
        assert_eq!(lines.next(), Some(shown));
        client.call("Counter/Change", json!({"id": "w", "by": 1}));
    }
    // More look on than an entity takes commands at a time, and none is refused.
    let watch = |_| http::lines(&at, "/counters/w/watch").unwrap().map(Result::unwrap);
    let mut many: Vec<_> = (0..150).map(watch).collect();
    for value in 4..6 {
        for lines in &mut many {
            assert_eq!(lines.next(), Some(format!(r#"{{"value":"{value}"}}"#)));
        }
        client.call("Counter/Change", json!({"id": "w", "by": 1}));
    }
}

#[test]
fn who_follows_an_entity_waits_for_its_function_to_be_back() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("kalix-follow", shop, 2);
    let mut clients = dev.clients();
    let change = json!({"id": "w", "by": 1});
    clients[0].call("Counter/Change", change.clone());
    let at = dev.ingress(0).to_string();
    let mut lines = http::lines(&at, "/counters/w/watch").unwrap().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some(r#"{"value":"1"}"#));
    // It ends for another entity's sake, and what is followed changes before it is back.
    assert_eq!(
        clients[0].fail("Counter/Exit", json!({"id": "other"})).0,
        UNAVAILABLE
    );
    becomes(
        &mut clients[1],
        "Counter/Get",
        &json!({"id": "w"}),
        &json!({"value": 1}),
    );
    clients[1].call("Counter/Change", change);
    assert_eq!(lines.next().as_deref(), Some(r#"{"value":"2"}"#));
}

#[test]
fn commands_that_wait_while_the_function_ends_are_not_blamed_for_it() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("kalix-queue", shop, 1);
    let mut clients: Vec<Grpc> = (0..6).map(|_| dev.clients().remove(0)).collect();
    let mut last = clients.pop().unwrap();
    last.call("Counter/Change", json!({"id": "h", "by": 1}));
    let at = dev.nodes[0]["http"].as_str().unwrap();
    let waiting = |count: usize| {
        wait_for("the commands", || {
            let metrics = http::get(at, "/metrics").unwrap().body;
            let line = format!("anabranch_commands_waiting {count}");
            metrics.lines().any(|is| is == line).then_some(())
        });
    };
    // One hangs, and others wait behind it, when the process ends for another entity's sake.
    let mut asking = Vec::new();
    for (i, mut client) in clients.into_iter().enumerate() {
        let method = if i == 0 { "Counter/Hang" } else { "Counter/Get" };
        asking.push(std::thread::spawn(move || {
            client.ask(method, &[json!({"id": "h"})])
        }));
        waiting(i + 1);
    }
    assert_eq!(last.fail("Counter/Exit", json!({"id": "other"})).0, UNAVAILABLE);
    for answer in asking {
        let answer = answer.join().unwrap();
        assert!([0, UNAVAILABLE].contains(&answer.code), "{answer:?}");
    }
    wait_for("the function", || {
        let answer = last.ask("Counter/Get", &[json!({"id": "h"})]);
        assert!(!answer.message.contains("parked"), "{answer:?}");
        (answer.code == 0).then(|| assert_eq!(answer.messages, [json!({"value": 1})]))
    });
}

#[test]
fn a_schedule_calls_it_and_is_seen_at_every_node() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("kalix-scheduled", shop, 2);
    let at = |node: usize| dev.nodes[node]["http"].as_str().unwrap();
    let schedule = |node: usize, args: &[&str]| {
        let args = ["schedule"].into_iter().chain(args.iter().copied());
        anabranch(args.chain(["--at", at(node)])).done()
    };
    let by = r#"{"id": "ticks", "by": 1}"#;
    schedule(
        0,
        &["set", "tick", "counter", "ticks", "Change", by, "--every", "1s"],
    );
    let mut clients = dev.clients();
    let mut value = |node: usize| {
        let shown = clients[node].call("Counter/Get", json!({"id": "ticks"}));
        shown["value"].as_i64().unwrap_or(0)
    };
    wait_for("two calls", || (value(1) >= 2).then_some(()));
    assert!(schedule(1, &["list"]).contains("tick"));
    schedule(1, &["cancel", "tick"]);
    assert!(!schedule(1, &["list"]).contains("tick"));
}

#[test]
fn what_is_called_is_counted_by_kind_and_method() {
    let Some(shop) = shop() else { return };
    let dev = Dev::start("kalix-counted", shop, 1);
    let mut client = dev.clients().remove(0);
    let at = dev.nodes[0]["http"].as_str().unwrap();
    let by = json!({"id": "n", "by": 1});
    client.call("Counter/Change", by.clone());
    // What was counted stays when the function is started again.
    assert_eq!(client.fail("Counter/Exit", json!({"id": "n"})).0, UNAVAILABLE);
    wait_for("the function", || {
        (client.ask("Counter/Change", std::slice::from_ref(&by)).code == 0).then_some(())
    });
    client.fail("Counter/ChangeAndFail", by);
    client.call("Desk/Double", json!({"value": 2}));
    assert_eq!(client.ask("Desk/Count", &[json!({"value": 2})]).messages.len(), 2);
    let counted = |name: &str, labels: &str| -> f64 {
        let metrics = http::get(at, "/metrics").unwrap().body;
        let sample = format!("anabranch_function_{name}{{{labels}}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&sample));
        value
            .unwrap_or_else(|| panic!("no {sample}in {metrics}"))
            .parse()
            .unwrap()
    };
    let change = r#"kind="counter",method="Change""#;
    let calls = counted("seconds_count", change);
    // Those that came while it was away have failed.
    assert_eq!(calls - counted("errors_total", change), 2.0);
    assert_eq!(
        counted("seconds_bucket", &format!(r#"{change},le="+Inf""#)),
        calls
    );
    assert!(counted("seconds_sum", change) > 0.0);
    let fails = r#"kind="counter",method="ChangeAndFail""#;
    assert_eq!(
        (counted("seconds_count", fails), counted("errors_total", fails)),
        (1.0, 1.0)
    );
    let exits = r#"kind="counter",method="Exit""#;
    assert_eq!(counted("errors_total", exits), 1.0);
    let desk = |method: &str| format!(r#"kind="anabranch.test.Desk",method="{method}""#);
    assert_eq!(counted("seconds_count", &desk("Double")), 1.0);
    assert_eq!(counted("seconds_count", &desk("Sum")), 0.0);
    wait_for("the stream's end", || {
        (counted("streams_total", &format!(r#"{},ended="ok""#, desk("Count"))) == 1.0).then_some(())
    });
}
