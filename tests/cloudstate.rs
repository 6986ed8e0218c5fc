//! An unmodified function on the first of Cloudstate's SDKs, in front of which nodes stand.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::grpc::Grpc;
use super::support::http;
use super::support::kalix::{Dev, meeting};
use super::support::wait_for;

const UNKNOWN: i32 = 2;
const INTERNAL: i32 = 13;
const UNAVAILABLE: i32 = 14;
/// Less than what would take ten times as long as a function may take to end.
const SOON: Duration = Duration::from_secs(30);

/// Waits until a query is answered so, by what other nodes did.
#[track_caller]
fn becomes(client: &mut Grpc, method: &str, message: &Value, expected: &Value) {
    wait_for(&format!("{method} {message} to be {expected}"), || {
        (client.call(method, message.clone()) == *expected).then_some(())
    });
}

fn by(by: i64) -> Value {
    json!({"id": "x", "by": by})
}

fn word(word: &str) -> Value {
    json!({"id": "x", "word": word})
}

fn words(words: &[&str]) -> Value {
    json!({"words": words})
}

fn value(value: i64) -> Value {
    json!({"value": value})
}

fn attendance(mine: bool, there: i32, of: i32) -> Value {
    json!({"mine": mine, "for": there, "of": of})
}

#[test]
fn every_type_is_the_same_at_every_node() {
    let Some(meeting) = meeting() else { return };
    let dev = Dev::start("cloudstate-types", meeting, 3);
    let mut clients = dev.clients();
    let id = json!({"id": "x"});
    clients[0].call("Visits/Come", by(5));
    clients[1].call("Visits/Come", by(2));
    clients[0].call("Score/Change", by(5));
    clients[2].call("Score/Change", by(-7));
    clients[0].call("Guests/Add", word("ann"));
    clients[1].call("Guests/Add", word("bob"));
    clients[0].call("Topics/Add", word("tea"));
    clients[1].call("Topics/Add", word("rain"));
    clients[2].call("Title/Set", word("weekly"));
    clients[1].call("Door/Open", id.clone());
    clients[0].call("Minutes/Say", word("tea:hot"));
    clients[0].call("Minutes/Say", word("tea:black"));
    // What it shows of all before, it has been shown: its sets, its map, and the counter within.
    let said = words(&["all:2", "tea:black", "tea:hot"]);
    for client in &mut clients {
        becomes(client, "Minutes/Get", &id, &said);
    }
    clients[1].call("Minutes/Say", word("rain:wet"));
    clients[2].call("Minutes/Forget", word("tea"));
    for client in &mut clients {
        becomes(client, "Visits/Get", &id, &value(7));
        becomes(client, "Score/Get", &id, &value(-2));
        becomes(client, "Guests/Get", &id, &words(&["ann", "bob"]));
        becomes(client, "Topics/Get", &id, &words(&["rain", "tea"]));
        becomes(client, "Title/Get", &id, &json!({"text": "weekly"}));
        becomes(client, "Door/Get", &id, &json!({"on": true}));
        becomes(client, "Minutes/Get", &id, &words(&["all:3", "rain:wet"]));
    }
    clients[0].call("Topics/Remove", word("tea"));
    clients[2].call("Topics/Add", word("sun"));
    for client in &mut clients {
        becomes(client, "Topics/Get", &id, &words(&["rain", "sun"]));
    }
    clients[1].call("Topics/Clear", id.clone());
    for client in &mut clients {
        becomes(client, "Topics/Get", &id, &words(&[]));
    }
}

#[test]
fn what_goes_wrong_is_told_and_leaves_no_trace() {
    let Some(meeting) = meeting() else { return };
    let dev = Dev::start("cloudstate-wrong", meeting, 1);
    let mut client = dev.clients().remove(0);
    let id = json!({"id": "x"});
    client.call("Score/Change", by(12));
    assert_eq!(
        client.fail("Score/ChangeAndFail", by(1_000)),
        (UNKNOWN, "no".into())
    );
    // This SDK never says that a life of it has ended, and nobody waits for that.
    let began = Instant::now();
    for _ in 0..10 {
        assert_eq!(client.call("Score/Get", id.clone()), value(12));
        client.fail("Score/ChangeAndFail", by(1_000));
    }
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    // What it could not be shown again it is refused, and nothing that comes after.
    client.call("Minutes/Say", word("tea:hot"));
    let (code, text) = client.fail("Minutes/Head", word("w"));
    assert_eq!(code, INTERNAL, "{text}");
    assert!(text.contains("a register in a map"), "{text}");
    assert_eq!(
        client.call("Minutes/Get", id.clone()),
        words(&["all:1", "tea:hot"])
    );
    let (code, text) = client.fail("Score/Crash", id.clone());
    assert_eq!(code, UNKNOWN);
    assert!(text.contains("boom"), "{text}");
    assert_eq!(client.call("Score/Change", by(1)), value(13));
    client.call("Score/Delete", id.clone());
    assert_eq!(client.call("Score/Get", id.clone()), value(0));
    assert_eq!(client.call("Score/Change", by(4)), value(4));
    // Over HTTP, by its rules.
    let ingress = dev.ingress(0).to_string();
    assert_eq!(http::get(&ingress, "/scores/x").unwrap().body, r#"{"value":"4"}"#);
}

#[test]
fn effects_and_forwards_reach_other_entities() {
    let Some(meeting) = meeting() else { return };
    let dev = Dev::start("cloudstate-effects", meeting, 1);
    let mut client = dev.clients().remove(0);
    let id = json!({"id": "x"});
    assert_eq!(client.call("Score/ChangeBoth", by(3)), value(3));
    assert_eq!(client.call("Visits/Get", id.clone()), value(3));
    assert_eq!(client.call("Score/AskVisits", id), value(3));
}

#[test]
fn an_entity_goes_on_answering_as_it_changes_wherever_that_is_done() {
    let Some(meeting) = meeting() else { return };
    let dev = Dev::start("cloudstate-watch", meeting, 2);
    let [mut one, mut two] = <[Grpc; 2]>::try_from(dev.clients()).ok().unwrap();
    let id = json!({"id": "x"});
    let mut others = dev.clients();
    let mut watched = others[0].open("Score/Watch", &id);
    assert_eq!(watched.next(), Ok(value(0)));
    one.call("Score/Change", by(5));
    watched.becomes(&value(5));
    two.call("Score/Change", by(2));
    watched.becomes(&value(7));
    // Its function says when that is enough.
    let mut clients = dev.clients();
    let mut until = clients[0].open("Score/WatchUntil", &by(10));
    one.call("Score/Change", by(1));
    assert_eq!(until.next(), Ok(value(8)));
    two.call("Score/Change", by(2));
    assert_eq!(until.next(), Ok(value(10)));
    assert_eq!(until.next(), Err((0, String::new())));
    // One who leaves, of which its function says nothing, keeps nobody waiting, nor ends what others watch.
    let mut clients = dev.clients();
    let mut leaves = clients[0].open("Score/Watch", &id);
    assert_eq!(leaves.next(), Ok(value(10)));
    drop(leaves);
    assert_eq!(one.call("Score/Change", by(1)), value(11));
    watched.becomes(&value(11));
}

#[test]
fn who_listens_is_there_and_who_leaves_is_not() {
    let Some(meeting) = meeting() else { return };
    let dev = Dev::start("cloudstate-presence", meeting, 2);
    let id = json!({"id": "x"});
    let [mut one, mut two] = <[Grpc; 2]>::try_from(dev.clients()).ok().unwrap();
    let mut clients = dev.clients();
    let [here, there] = &mut clients[..] else {
        unreachable!()
    };
    let mut stays = here.open("Presence/Stay", &id);
    stays.becomes(&attendance(true, 1, 2));
    let leaves = there.open("Presence/Stay", &id);
    stays.becomes(&attendance(true, 2, 2));
    becomes(&mut two, "Presence/Get", &id, &attendance(true, 2, 2));
    drop(leaves);
    stays.becomes(&attendance(true, 1, 2));
    becomes(&mut two, "Presence/Get", &id, &attendance(false, 1, 2));
    becomes(&mut one, "Presence/Get", &id, &attendance(true, 1, 2));
}

#[test]
fn a_stream_ends_with_its_function_and_is_opened_again() {
    let Some(meeting) = meeting() else { return };
    let dev = Dev::start("cloudstate-end", meeting, 1);
    let id = json!({"id": "x"});
    let mut client = dev.clients().remove(0);
    client.call("Score/Change", by(2));
    let mut clients = dev.clients();
    let mut watched = clients[0].open("Score/Watch", &id);
    watched.becomes(&value(2));
    // A life of it that has failed is not gone on with.
    client.fail("Score/Crash", id.clone());
    let (code, text) = watched.next().unwrap_err();
    assert_eq!(code, UNAVAILABLE, "{text}");
    assert!(text.contains("open it again"), "{text}");
    let mut clients = dev.clients();
    clients[0].open("Score/Watch", &id).becomes(&value(2));
    // One that fails as it goes on says why.
    let mut failing = clients[0].open("Score/WatchUntil", &by(10));
    client.call("Score/Change", by(1));
    assert_eq!(failing.next(), Ok(value(3)));
    dev.clients()[0].fail("Score/Crash", id.clone());
    assert_eq!(failing.next().unwrap_err().0, UNAVAILABLE);
    let mut failing = clients[0].open("Score/WatchUntil", &by(10));
    client.call("Score/Change", by(1));
    assert_eq!(failing.next(), Ok(value(4)));
    let _ = client.ask("Score/Change", &[by(-10)]);
    let (code, text) = failing.next().unwrap_err();
    assert_eq!(code, UNKNOWN, "{text}");
    assert!(text.contains("below 0"), "{text}");
}

#[test]
fn functions_without_state_answer_once_and_in_streams() {
    let Some(meeting) = meeting() else { return };
    let dev = Dev::start("cloudstate-calculator", meeting, 1);
    let mut client = dev.clients().remove(0);
    assert_eq!(client.call("Calculator/Double", value(21)), value(42));
    let until = client.ask("Calculator/Until", &[value(3)]);
    assert_eq!(
        (until.code, until.messages),
        (0, vec![value(1), value(2), value(3)])
    );
    let doubled = client.ask("Calculator/Doubled", &[value(4), value(5), value(0)]);
    assert_eq!((doubled.code, doubled.messages), (0, vec![value(8), value(10)]));
}
