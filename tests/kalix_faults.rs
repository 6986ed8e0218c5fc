//! What becomes of an unmodified function's entities when the network is cut, when functions end, and when nodes are killed.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::support::cluster::Cluster;
use super::support::grpc::Grpc;
use super::support::http;
use super::support::kalix::{Installed, shop};
use super::support::{ports, wait_for};

const NOT_FOUND: i32 = 5;
const UNAVAILABLE: i32 = 14;

/// Nodes behind relays, each with the function beside it.
struct Served {
    cluster: Cluster,
    ingress: Vec<SocketAddr>,
    shop: &'static Installed,
}

impl Served {
    fn start(name: &str, shop: &'static Installed, nodes: usize, more: &str) -> Served {
        let mut cluster = Cluster::prepare_relayed(name, nodes);
        let ingress: Vec<SocketAddr> = (0..nodes).map(|_| ports::take()).collect();
        for (node, ingress) in cluster.nodes.iter().zip(&ingress) {
            let sections = format!(
                "[function]\ncommand = [\"npm\", \"start\", \"--silent\"]\ndirectory = {:?}\n{more}\n\
                 [ingress]\nlisten = \"{ingress}\"\n[http]\n",
                shop.dir
            );
            node.configure("[http]\n", &sections);
        }
        cluster.start_all();
        Served {
            cluster,
            ingress,
            shop,
        }
    }

    /// A client of a node, once its function has been found (again).
    fn client(&mut self, node: usize) -> Grpc {
        let log = &mut self.cluster.nodes[node].process().stderr;
        log.until("discovered");
        Grpc::connect(self.ingress[node], &self.shop.pool)
    }
}

#[track_caller]
fn becomes(client: &mut Grpc, method: &str, message: &Value, expected: &Value) {
    wait_for(&format!("{method} to be {expected}"), || {
        let answer = client.ask(method, std::slice::from_ref(message));
        (answer.messages.first() == Some(expected)).then_some(())
    });
}

#[test]
fn nothing_acknowledged_is_lost_by_a_partition_a_functions_end_or_a_nodes() {
    let Some(shop) = shop() else { return };
    let mut served = Served::start("kalix-faults", shop, 3, "");
    let mut clients: Vec<Grpc> = (0..3).map(|node| served.client(node)).collect();
    let (id, cart) = (json!({"id": "f"}), json!({"cartId": "f"}));
    let by = |by: i64| json!({"id": "f", "by": by});
    let word = |word: &str| json!({"id": "f", "word": word});
    let add = |product: &str| json!({"cartId": "f", "product": product, "quantity": 1});
    for (i, client) in clients.iter_mut().enumerate() {
        client.call("WordSet/Add", word(&format!("w{i}")));
        client.call("Counter/Change", by(1));
        client.call("Cart/Add", add("shoe"));
    }
    let three = json!({"words": ["w0", "w1", "w2"]});
    for client in &mut clients {
        becomes(client, "WordSet/Get", &id, &three);
        becomes(client, "Counter/Get", &id, &json!({"value": 3}));
    }

    served.cluster.network().cut_off(2);
    // A clear removes what its function has seen; an add that it has not seen stays.
    assert_eq!(clients[2].call("WordSet/Clear", id.clone()), json!({"words": []}));
    clients[0].call("WordSet/Add", word("late"));
    clients[2].call("Counter/Change", by(10));
    assert_eq!(clients[2].ask("Counter/ChangeAndFail", &[by(1_000)]).code, 9);
    clients[0].call("Counter/Change", by(100));
    clients[2].call("Cart/Remove", json!({"cartId": "f", "product": "shoe"}));
    clients[1].call("Cart/Add", add("shoe"));
    clients[1].call("Cart/Add", add("hat"));
    // The function at the second node ends in the middle of a command.
    assert_eq!(clients[1].fail("Counter/Exit", id.clone()).0, UNAVAILABLE);
    clients[1] = served.client(1);
    clients[1].call("Counter/Change", by(20));
    served.cluster.network().heal();
    for client in &mut clients {
        becomes(client, "WordSet/Get", &id, &json!({"words": ["late"]}));
        becomes(client, "Counter/Get", &id, &json!({"value": 133}));
        let left = json!({"items": [{"product": "hat", "quantity": 1}, {"product": "shoe", "quantity": 1}]});
        becomes(client, "Cart/Get", &cart, &left);
    }

    // What was acknowledged by a node that is killed there and then is there when it comes back, everywhere.
    clients[0].call("Counter/Change", by(1_000));
    served.cluster.nodes[0].kill();
    clients[1].call("Counter/Change", by(10_000));
    served.cluster.nodes[0].start_ready();
    clients[0] = served.client(0);
    for client in &mut clients {
        becomes(client, "Counter/Get", &id, &json!({"value": 11_133}));
    }
    let polled = json!({"mine": false, "for": 0, "of": 3});
    becomes(&mut clients[2], "Poll/Get", &id, &polled);
}

#[test]
fn a_function_that_nobody_uses_is_stopped_and_started_by_the_next_command() {
    let Some(shop) = shop() else { return };
    let mut served = Served::start("kalix-sleeps", shop, 1, "idle_stop_ms = 100");
    let mut client = served.client(0);
    for count in 1..3 {
        let changed = client.call("Counter/Change", json!({"id": "s", "by": 1}));
        assert_eq!(changed, json!({"value": count}));
        let log = &mut served.cluster.nodes[0].process().stderr;
        log.until("it sleeps");
    }
    assert_eq!(
        client.call("Counter/Get", json!({"id": "s"})),
        json!({"value": 2})
    );
    assert_eq!(
        client.call("Desk/Double", json!({"value": 3})),
        json!({"value": 6})
    );
    let metrics = http::get(&served.cluster.nodes[0].http, "/metrics").unwrap().body;
    let starts = metrics
        .lines()
        .find_map(|line| line.strip_prefix("anabranch_function_process_starts_total "));
    assert!(starts.unwrap().parse::<u32>().unwrap() >= 3, "{starts:?}");
}

#[test]
fn what_is_deleted_for_good_is_not_made_again_anywhere() {
    let Some(shop) = shop() else { return };
    let mut served = Served::start("kalix-permanent", shop, 2, "deletion = \"permanent\"");
    let mut clients = [served.client(0), served.client(1)];
    let add = json!({"cartId": "alice", "product": "shoe", "quantity": 1});
    let cart = json!({"cartId": "alice"});
    clients[0].call("Cart/Add", add.clone());
    becomes(
        &mut clients[1],
        "Cart/Get",
        &cart,
        &json!({"items": [{"product": "shoe", "quantity": 1}]}),
    );
    clients[0].call("Cart/Delete", cart.clone());
    let (code, text) = clients[0].fail("Cart/Add", add.clone());
    assert_eq!(code, NOT_FOUND, "{text}");
    assert!(text.contains("not made again"), "{text}");
    wait_for("the other node to know", || {
        let answer = clients[1].ask("Cart/Get", std::slice::from_ref(&cart));
        (answer.code == NOT_FOUND).then_some(())
    });
    // Another is another, and a node that comes back remembers.
    let other = json!({"cartId": "alice/2", "product": "hat", "quantity": 2});
    clients[1].call("Cart/Add", other);
    served.cluster.nodes[0].kill();
    served.cluster.nodes[0].start();
    let mut client = served.client(0);
    assert_eq!(client.fail("Cart/Add", add).0, NOT_FOUND);
}
