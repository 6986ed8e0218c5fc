//! What becomes of entities of unmodified functions, on Kalix's SDK and on the first of Cloudstate's, when the network is cut, when
//! functions end, and when nodes are killed.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::cluster::Cluster;
use super::support::grpc::Grpc;
use super::support::http;
use super::support::kalix::{Installed, meeting, shop};
use super::support::{ports, wait_for};

const UNKNOWN: i32 = 2;
const NOT_FOUND: i32 = 5;
const FAILED_PRECONDITION: i32 = 9;
const INTERNAL: i32 = 13;
const UNAVAILABLE: i32 = 14;

/// Nodes behind relays, each with the function beside it.
struct Served {
    cluster: Cluster,
    ingress: Vec<SocketAddr>,
    function: &'static Installed,
}

impl Served {
    fn start(name: &str, function: &'static Installed, nodes: usize, more: &str) -> Served {
        let mut cluster = Cluster::prepare_relayed(name, nodes);
        let ingress: Vec<SocketAddr> = (0..nodes).map(|_| ports::take()).collect();
        for (node, ingress) in cluster.nodes.iter().zip(&ingress) {
            let sections = format!(
                "[function]\ncommand = [\"npm\", \"start\", \"--silent\"]\ndirectory = {:?}\n{more}\n\
                 [ingress]\nlisten = \"{ingress}\"\n[http]\n",
                function.dir
            );
            node.configure("[http]\n", &sections);
        }
        cluster.start_all();
        Served {
            cluster,
            ingress,
            function,
        }
    }

    /// A client of a node, once its function has been found (again).
    fn client(&mut self, node: usize) -> Grpc {
        let log = &mut self.cluster.nodes[node].process().stderr;
        log.until("discovered");
        Grpc::connect(self.ingress[node], &self.function.pool)
    }
}

#[track_caller]
fn becomes(client: &mut Grpc, method: &str, message: &Value, expected: &Value) {
    wait_for(&format!("{method} to be {expected}"), || {
        let answer = client.ask(method, std::slice::from_ref(message));
        (answer.messages.first() == Some(expected)).then_some(())
    });
}

/// Every node.
const ALL: &[usize] = &[0, 1, 2];

/// What a function is asked while the network is cut and processes end: by its names of a set and a counter, and of all that it has
/// besides.
struct Story {
    name: &'static str,
    function: &'static Installed,
    set: &'static str,
    counter: &'static str,
    /// What a command that fails is answered.
    refusal: i32,
    /// Said at a node, while all are linked.
    together: Vec<(usize, &'static str, Value)>,
    /// Said while the third is cut off.
    apart: Vec<(usize, &'static str, Value)>,
    /// What is to be seen at nodes once they are linked again.
    seen: Vec<(&'static [usize], &'static str, Value, Value)>,
}

impl Story {
    /// From its beginning to where all nodes agree once more.
    fn tell(self) {
        let mut served = Served::start(self.name, self.function, 3, "");
        let mut clients: Vec<Grpc> = ALL.iter().map(|node| served.client(*node)).collect();
        let id = json!({"id": "f"});
        let by = |by: i64| json!({"id": "f", "by": by});
        let word = |word: &str| json!({"id": "f", "word": word});
        let of_set = |method: &str| format!("{}/{method}", self.set);
        let of_counter = |method: &str| format!("{}/{method}", self.counter);
        for (i, client) in clients.iter_mut().enumerate() {
            client.call(&of_set("Add"), word(&format!("w{i}")));
            client.call(&of_counter("Change"), by(1));
        }
        for (node, method, message) in &self.together {
            clients[*node].call(method, message.clone());
        }
        let three = json!({"words": ["w0", "w1", "w2"]});
        for client in &mut clients {
            becomes(client, &of_set("Get"), &id, &three);
            becomes(client, &of_counter("Get"), &id, &json!({"value": 3}));
        }

        served.cluster.network().cut_off(2);
        // A clear removes what its function has seen; an add that it has not seen stays.
        assert_eq!(
            clients[2].call(&of_set("Clear"), id.clone()),
            json!({"words": []})
        );
        clients[0].call(&of_set("Add"), word("late"));
        clients[2].call(&of_counter("Change"), by(10));
        let failed = clients[2].ask(&of_counter("ChangeAndFail"), &[by(1_000)]);
        assert_eq!(failed.code, self.refusal);
        clients[0].call(&of_counter("Change"), by(100));
        for (node, method, message) in &self.apart {
            clients[*node].call(method, message.clone());
        }
        // The function at the second node ends in the middle of a command.
        let (code, text) = clients[1].fail(&of_counter("Exit"), id.clone());
        assert_eq!(code, UNAVAILABLE, "{text}");
        clients[1] = served.client(1);
        clients[1].call(&of_counter("Change"), by(20));
        served.cluster.network().heal();
        for client in &mut clients {
            becomes(client, &of_counter("Get"), &id, &json!({"value": 133}));
        }
        self.is_seen(&mut clients);

        // What was acknowledged by a node that is killed there and then is there when it comes back, everywhere.
        clients[0].call(&of_counter("Change"), by(1_000));
        served.cluster.nodes[0].kill();
        clients[1].call(&of_counter("Change"), by(10_000));
        served.cluster.nodes[0].start_ready();
        clients[0] = served.client(0);
        for client in &mut clients {
            becomes(client, &of_counter("Get"), &id, &json!({"value": 11_133}));
        }
        self.is_seen(&mut clients);
    }

    fn is_seen(&self, clients: &mut [Grpc]) {
        let (get, late) = (format!("{}/Get", self.set), json!({"words": ["late"]}));
        for client in &mut *clients {
            becomes(client, &get, &json!({"id": "f"}), &late);
        }
        for (nodes, method, message, expected) in &self.seen {
            for node in *nodes {
                becomes(&mut clients[*node], method, message, expected);
            }
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_a_partition_a_functions_end_or_a_nodes() {
    let Some(function) = shop() else { return };
    let add = |product: &str| json!({"cartId": "f", "product": product, "quantity": 1});
    let left = json!({"items": [{"product": "hat", "quantity": 1}, {"product": "shoe", "quantity": 1}]});
    let story = Story {
        name: "kalix-faults",
        function,
        set: "WordSet",
        counter: "Counter",
        refusal: FAILED_PRECONDITION,
        together: ALL.iter().map(|node| (*node, "Cart/Add", add("shoe"))).collect(),
        apart: vec![
            (2, "Cart/Remove", json!({"cartId": "f", "product": "shoe"})),
            (1, "Cart/Add", add("shoe")),
            (1, "Cart/Add", add("hat")),
        ],
        seen: vec![
            (ALL, "Cart/Get", json!({"cartId": "f"}), left),
            (
                ALL,
                "Poll/Get",
                json!({"id": "f"}),
                json!({"mine": false, "for": 0, "of": 3}),
            ),
        ],
    };
    story.tell();
}

#[test]
fn nothing_acknowledged_is_lost_of_any_type_of_the_first_sdk() {
    let Some(function) = meeting() else { return };
    let (id, by) = (json!({"id": "f"}), |by: i64| json!({"id": "f", "by": by}));
    let word = |word: &str| json!({"id": "f", "word": word});
    let attendance = |mine: bool| json!({"mine": mine, "for": 1, "of": 3});
    let story = Story {
        name: "cloudstate-faults",
        function,
        set: "Topics",
        counter: "Score",
        refusal: UNKNOWN,
        together: vec![
            (0, "Visits/Come", by(1)),
            (1, "Guests/Add", word("ann")),
            (2, "Minutes/Say", word("tea:hot")),
            (1, "Title/Set", word("weekly")),
        ],
        apart: vec![
            (2, "Title/Set", word("earlier")),
            (2, "Visits/Come", by(10)),
            (0, "Visits/Come", by(100)),
            (2, "Guests/Add", word("bob")),
            (1, "Guests/Add", word("cid")),
            (2, "Door/Open", id.clone()),
            (2, "Minutes/Forget", word("tea")),
            (1, "Minutes/Say", word("tea:black")),
            (2, "Presence/Join", id.clone()),
            (0, "Title/Set", word("later")),
        ],
        seen: vec![
            (ALL, "Visits/Get", id.clone(), json!({"value": 111})),
            (
                ALL,
                "Guests/Get",
                id.clone(),
                json!({"words": ["ann", "bob", "cid"]}),
            ),
            (ALL, "Title/Get", id.clone(), json!({"text": "later"})),
            (ALL, "Door/Get", id.clone(), json!({"on": true})),
            (
                ALL,
                "Minutes/Get",
                id.clone(),
                json!({"words": ["all:2", "tea:black"]}),
            ),
            (&[0, 1], "Presence/Get", id.clone(), attendance(false)),
            (&[2], "Presence/Get", id.clone(), attendance(true)),
        ],
    };
    story.tell();
}

/// Calls each, and waits until its function has been stopped before the next.
fn wakes_for_each(name: &str, function: &'static Installed, calls: &[(&str, Value, Value)]) {
    let mut served = Served::start(name, function, 1, "idle_stop_ms = 100");
    let mut client = served.client(0);
    for (method, message, expected) in calls {
        assert_eq!(client.call(method, message.clone()), *expected);
        served.cluster.nodes[0].process().stderr.until("it sleeps");
    }
    let metrics = http::get(&served.cluster.nodes[0].http, "/metrics").unwrap().body;
    let starts = metrics
        .lines()
        .find_map(|line| line.strip_prefix("anabranch_function_process_starts_total "));
    assert!(
        starts.unwrap().parse::<usize>().unwrap() >= calls.len(),
        "{starts:?}"
    );
}

#[test]
fn a_function_that_nobody_uses_is_stopped_and_started_by_the_next_command() {
    let Some(shop) = shop() else { return };
    let by_one = json!({"id": "s", "by": 1});
    let calls = [
        ("Counter/Change", by_one.clone(), json!({"value": 1})),
        ("Counter/Change", by_one, json!({"value": 2})),
        ("Desk/Double", json!({"value": 3}), json!({"value": 6})),
    ];
    wakes_for_each("kalix-sleeps", shop, &calls);
}

#[test]
fn one_of_the_first_sdk_is_stopped_and_started_as_well() {
    let Some(meeting) = meeting() else { return };
    // Its entities are awake for half a minute, as that protocol has no word for it.
    let double = ("Calculator/Double", json!({"value": 3}), json!({"value": 6}));
    wakes_for_each("cloudstate-sleeps", meeting, &[double.clone(), double]);
}

#[test]
fn an_entity_that_was_awake_kept_a_process_running_that_nobody_called() {
    let Some(meeting) = meeting() else { return };
    let mut served = Served::start("cloudstate-idle", meeting, 1, "idle_stop_ms = 1500");
    let mut client = served.client(0);
    let id = json!({"id": "i"});
    for value in 1..3 {
        client.call("Score/Change", json!({"id": "i", "by": 1}));
        let called = Instant::now();
        served.cluster.nodes[0].process().stderr.until("it sleeps");
        let took = called.elapsed();
        assert!(took >= Duration::from_millis(500), "{took:?}");
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert_eq!(client.call("Score/Get", id.clone()), json!({"value": value}));
        served.cluster.nodes[0].process().stderr.until("it sleeps");
    }
}

/// Deletes a counter, by the name that the function has for it.
fn deletes_for_good(name: &str, function: &'static Installed, counter: &str) {
    let mut served = Served::start(name, function, 2, "deletion = \"permanent\"");
    let mut clients = [served.client(0), served.client(1)];
    let [change, get] = ["Change", "Get"].map(|method| format!("{counter}/{method}"));
    let (one, by) = (json!({"id": "alice"}), json!({"id": "alice", "by": 1}));
    clients[0].call(&change, by.clone());
    becomes(&mut clients[1], &get, &one, &json!({"value": 1}));
    clients[0].call(&format!("{counter}/Delete"), one.clone());
    let (code, text) = clients[0].fail(&change, by.clone());
    assert_eq!(code, NOT_FOUND, "{text}");
    assert!(text.contains("not made again"), "{text}");
    wait_for("the other node to know", || {
        let answer = clients[1].ask(&get, std::slice::from_ref(&one));
        (answer.code == NOT_FOUND).then_some(())
    });
    // Another is another, and a node that comes back remembers.
    clients[1].call(&change, json!({"id": "alice/2", "by": 2}));
    served.cluster.nodes[0].kill();
    served.cluster.nodes[0].start();
    let mut client = served.client(0);
    assert_eq!(client.fail(&change, by).0, NOT_FOUND);
}

#[test]
fn where_failures_are_trusted_streams_of_the_entity_go_on() {
    let Some(meeting) = meeting() else { return };
    let mut served = Served::start("cloudstate-trusted", meeting, 1, "trust_failures = true");
    let (id, by) = (json!({"id": "x"}), |by: i32| json!({"id": "x", "by": by}));
    let mut client = served.client(0);
    client.call("Score/Change", by(2));
    let mut watching = Grpc::connect(served.ingress[0], &served.function.pool);
    let mut watched = watching.open("Score/Watch", &id);
    watched.becomes(&json!({"value": 2}));
    for _ in 0..3 {
        assert_eq!(client.fail("Score/Refuse", id.clone()).1, "not today");
    }
    client.call("Score/Change", by(3));
    watched.becomes(&json!({"value": 5}));
}

#[test]
fn what_is_deleted_for_good_is_not_made_again_anywhere() {
    let Some(shop) = shop() else { return };
    deletes_for_good("kalix-permanent", shop, "Counter");
}

#[test]
fn nor_is_it_of_the_first_sdk() {
    let Some(meeting) = meeting() else { return };
    deletes_for_good("cloudstate-permanent", meeting, "Score");
}

/// The SDK's server counts what it has not written of an answer that was broken off against all that comes after it, for ever.
#[test]
fn an_answer_that_is_too_long_ends_no_other_ones() {
    let Some(shop) = shop() else { return };
    let mut served = Served::start("kalix-too-long", shop, 1, "");
    let mut client = served.client(0);
    let by = |by: i32| json!({"id": "x", "by": by});
    client.call("Counter/Change", by(1));
    for _ in 0..3 {
        let (code, text) = client.fail("Desk/Long", json!({"value": -7_000_000}));
        assert_eq!(code, INTERNAL, "{text}");
        for n in 1..40 {
            assert_eq!(client.call("Desk/Long", json!({"value": 1})), json!({"value": 1}));
            let entity = json!({"id": format!("y{n}"), "by": 1});
            client.call("Counter/Change", entity);
        }
        client.call("Counter/Change", by(1));
    }
    assert_eq!(
        client.call("Counter/Get", json!({"id": "x"})),
        json!({"value": 4})
    );
}

/// What a caller does not read stays at the function, and takes nobody else's room on the way to it.
#[test]
fn callers_that_do_not_read_hold_up_nobody() {
    let Some(shop) = shop() else { return };
    let mut served = Served::start("kalix-unread", shop, 1, "");
    let address = served.ingress[0];
    let mut client = served.client(0);
    let mut unread = Vec::new();
    for n in 1..=8 {
        let mut caller = TcpStream::connect(address).unwrap();
        let head = "GET /count/200000 HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n";
        caller.write_all(head.as_bytes()).unwrap();
        // It has begun.
        caller.read_exact(&mut [0; 12]).unwrap();
        unread.push(caller);
        let by = json!({"id": "x", "by": 1});
        assert_eq!(client.call("Counter/Change", by), json!({"value": n}));
        client.call("Counter/Change", json!({"id": format!("new{n}"), "by": 1}));
    }
}
