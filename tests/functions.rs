//! Functions beside their state: the cart, as its README section has it, on real nodes.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::support::cluster::Cluster;
use super::support::face::{Face, agreed};
use super::support::http::{self, Reply};
use super::support::process::Process;
use super::support::temp::TempDir;
use super::support::{exit, wait_for};

/// The example, built. `cargo test --workspace` has built it with the tests, of the same units, and there is nothing to
/// do; whoever asked for less waits for all that it takes.
pub fn example(name: &str) -> PathBuf {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--workspace", "--example", name]);
    let built = command.args(["--manifest-path", manifest]).output().unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    let tests = std::env::current_exe().unwrap();
    let built = tests
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples")
        .join(name);
    assert!(built.is_file(), "{} is not there", built.display());
    built
}

/// Calls by HTTP what needs no waiting for.
fn call(node: &Face, key: &str, method: &str, argument: &Value) -> Reply {
    call_of(node, "cart", key, method, argument)
}

fn call_of(node: &Face, kind: &str, key: &str, method: &str, argument: &Value) -> Reply {
    let path = format!("/v1/call/{kind}/{key}/{method}");
    http::post(&node.http, &path, &argument.to_string()).unwrap()
}

#[track_caller]
fn add(node: &Face, key: &str, product: &str, quantity: u32) -> u64 {
    let reply = call(
        node,
        key,
        "add",
        &json!({"product": product, "quantity": quantity}),
    );
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body.trim().parse().unwrap()
}

#[track_caller]
pub fn quantity(node: &Face, key: &str, product: &str) -> u64 {
    let reply = call(node, key, "show", &Value::Null);
    let contents: Value = serde_json::from_str(&reply.body).unwrap_or_else(|e| panic!("{e}: {reply:?}"));
    let lines = contents["lines"].as_array().unwrap();
    let line = lines.iter().find(|line| line["product"] == product);
    line.map_or(0, |line| line["quantity"].as_u64().unwrap())
}

#[test]
fn nothing_in_a_cart_is_lost_or_doubled_whatever_happens_to_nodes_and_links() {
    let mut cluster = Cluster::prepare_relayed("cart", 3)
        .with_program(&example("cart"))
        .started();
    let mut added = [0u64; 2];
    let products = ["umbrella", "boots"];
    let round = |cluster: &Cluster, nodes: &[usize], added: &mut [u64; 2]| {
        for i in 0..30 {
            let node = &cluster.nodes[nodes[i % nodes.len()]];
            add(node, "alice", products[i % 2], 1);
            added[i % 2] += 1;
        }
    };
    round(&cluster, &[0, 1, 2], &mut added);
    cluster.network().cut_off(2);
    round(&cluster, &[0, 1, 2], &mut added);
    // What was answered is on the disk of the node that answered.
    cluster.nodes[2].kill();
    round(&cluster, &[0, 1], &mut added);
    cluster.nodes[1].kill();
    cluster.network().heal();
    cluster.start_all();
    agreed(cluster.faces());
    for node in cluster.faces() {
        let here = products.map(|product| quantity(node, "alice", product));
        assert_eq!(here, added, "{}", node.name);
    }
    // A removal takes what its node has seen, and leaves what it has not.
    cluster.network().cut_off(2);
    let [n1, n2, n3] = [0, 1, 2].map(|i| &*cluster.nodes[i]);
    assert_eq!(call(n1, "alice", "remove", &json!("boots")).status, 200);
    add(n3, "alice", "boots", 4);
    // Its order is to be on the disks of a majority: here it cannot be.
    let checkout = ["call", "cart", "bob", "checkout", "--timeout", "1s"];
    add(n3, "bob", "hat", 1);
    n3.run(checkout).failed(exit::UNCONFIRMED, &["1 of 2"]);
    cluster.network().heal();
    agreed(cluster.faces());
    assert_eq!(quantity(n2, "alice", "boots"), 4);
    assert_eq!(quantity(n2, "alice", "umbrella"), added[0]);
    assert_eq!(n2.value("cart", "bob"), None);
    let order = n1.run(["call", "cart", "alice", "checkout"]).done();
    assert!(order.contains(r#"{"product":"boots","quantity":4}"#), "{order}");
    wait_for("the cart is gone everywhere", || {
        n2.value("cart", "alice").is_none().then_some(())
    });
}

#[test]
fn a_session_reads_its_own_cart_at_every_node() {
    let cluster = Cluster::prepare_relayed("cart-session", 3)
        .with_program(&example("cart"))
        .started();
    let [n1, n2, n3] = [0, 1, 2].map(|i| &*cluster.nodes[i]);
    let dir = TempDir::new("cart-session-files");
    let file = dir.join("alice").display().to_string();
    let run = |node: &Face, args: &[&str]| {
        let call = ["call", "cart", "alice"].into_iter().chain(args.iter().copied());
        node.run(call.chain(["--session", &file, "--timeout", "20s"]))
    };
    let hat = r#"{"product": "hat", "quantity": 1}"#;
    for (i, node) in [n1, n2, n3, n1, n2, n3].into_iter().enumerate() {
        assert_eq!(run(node, &["add", hat]).done(), format!("{}\n", i + 1));
        let next = [n2, n3, n1][i % 3];
        assert!(
            run(next, &["show"])
                .done()
                .contains(&format!("\"quantity\":{}", i + 1))
        );
    }
    cluster.network().cut_off(2);
    run(n1, &["add", hat]).done();
    let behind = [
        "call",
        "cart",
        "alice",
        "add",
        hat,
        "--session",
        &file,
        "--timeout",
        "300ms",
    ];
    n3.run(behind).failed(exit::STALE, &["nothing changed"]);
}

#[test]
fn what_is_wrong_with_a_call_is_said_and_nothing_is_done() {
    let cluster = Cluster::prepare("cart-wrong", 1)
        .with_program(&example("cart"))
        .started();
    let node = &*cluster.nodes[0];
    let post = |path: &str, body: &str| http::post(&node.http, path, body).unwrap();
    let refused = |reply: &Reply, status: u16, error: &str| {
        let body: Value = serde_json::from_str(&reply.body).unwrap_or_else(|e| panic!("{e}: {reply:?}"));
        assert_eq!(
            (reply.status, body["error"].as_str()),
            (status, Some(error)),
            "{reply:?}"
        );
        assert_eq!(body["changed"], false, "{reply:?}");
        body
    };
    let add = "/v1/call/cart/a/add";
    refused(&post(add, ""), 400, "invalid");
    refused(&post(add, "{"), 400, "invalid");
    refused(&post(add, r#"{"product": "hat"}"#), 400, "invalid");
    refused(&post(add, &"[".repeat(100_000)), 400, "invalid");
    refused(&post("/v1/call/cart/a/steal", "null"), 404, "no_function");
    refused(&post("/v1/call/count/a/add", "1"), 404, "no_function");
    refused(&post("/v1/call/cart/a", "1"), 400, "invalid");
    refused(&post("/v1/call/cart//add", "1"), 400, "invalid");
    let body = refused(&post(add, r#"{"product": "hat", "quantity": 0}"#), 422, "refused");
    assert_eq!(body["details"], json!({"NothingToAdd": {"product": "hat"}}));
    assert_eq!(body["message"], "there is nothing to add of hat");
    let metrics = http::get(&node.http, "/metrics").unwrap().body;
    let count = |name: &str| {
        let line = format!("anabranch_function_{name}{{kind=\"cart\",method=\"add\"}} ");
        let value = metrics
            .lines()
            .find_map(|found| found.strip_prefix(line.as_str()));
        value
            .unwrap_or_else(|| panic!("{line} is not in\n{metrics}"))
            .parse::<f64>()
            .unwrap()
    };
    assert_eq!((count("seconds_count"), count("errors_total")), (5.0, 5.0));
    // By the command line the same, with exit codes.
    let run = |args: &[&str]| node.run(["call", "cart", "a"].iter().chain(args));
    run(&["add", "hat"]).failed(exit::USAGE, &["no JSON"]);
    run(&["add", r#"{"product": "hat", "quantity": 0}"#]).failed(exit::REFUSED, &["nothing to add of hat"]);
    run(&["steal"]).failed(exit::NO_FUNCTION, &["steal", "checkout"]);
    assert_eq!(node.value("cart", "a"), None);
    // What a cart cannot read of what was written past its function it says, and does not guess.
    let note = json!({"kind": "cart", "key": "a", "op": "set", "in": [{"key": "note", "type": "lwwregister"}], "value": {"base64": "/w=="}});
    node.updated(&json!({ "ops": [note] }));
    refused(&post("/v1/call/cart/a/show", ""), 422, "refused");
}

#[test]
fn a_cart_is_filled_and_followed_by_the_command_line() {
    let cluster = Cluster::prepare("cart-streams", 2)
        .with_program(&example("cart"))
        .started();
    let [n1, n2] = [0, 1].map(|i| &*cluster.nodes[i]);
    let start = |node: &Face, args: &[&str]| {
        let mut command = Command::new(example("cart"));
        command
            .args(["stream", "cart", "alice"])
            .args(args)
            .args(["--at", &node.http]);
        command.stdin(Stdio::piped());
        Process::start_with_stdin(format!("{args:?}"), &mut command)
    };
    let mut shown = start(n2, &["show"]);
    shown.stdout.until(r#""lines":[]"#);
    let mut fill = start(n1, &["fill", "--messages"]);
    for (i, product) in ["hat", "boots", "hat"].into_iter().enumerate() {
        writeln!(fill.stdin(), r#"{{"product": "{product}", "quantity": 2}}"#).unwrap();
        assert_eq!(fill.stdout.next().unwrap(), if i == 2 { "4" } else { "2" });
        shown.stdout.until(&format!(
            r#""product":"{product}","quantity":{}"#,
            if i == 2 { 4 } else { 2 }
        ));
    }
    fill.close_stdin();
    assert_eq!(fill.wait().code, Some(0));
    // What it refuses is the end of it.
    let mut fill = start(n1, &["fill", "--messages"]);
    writeln!(fill.stdin(), r#"{{"product": "hat", "quantity": 0}}"#).unwrap();
    let ended = fill.wait();
    assert_eq!(ended.code, Some(exit::REFUSED), "{}", ended.stderr);
    assert!(ended.stderr.contains("nothing to add of hat"), "{}", ended.stderr);
    // What cannot be read is no end of what is sent.
    let mut fill = start(n1, &["fill", "--messages"]);
    fill.stdin().write_all(b"{\"product\": \"\xff\"}\n").unwrap();
    let ended = fill.wait();
    assert!(
        ended.code != Some(0) && ended.stderr.contains("UTF-8"),
        "{}",
        ended.stderr
    );
    let wait = |streams: u64| {
        wait_for("the streams that are open", || {
            let metrics = http::get(&n1.http, "/metrics").unwrap().body;
            metrics
                .contains(&format!("anabranch_streams_open {streams}\n"))
                .then_some(())
        });
    };
    wait(0);
    assert_eq!(quantity(n1, "alice", "hat"), 4);
}

/// Takes one unit at a node; whether there was one.
#[track_caller]
fn take(node: &Face) -> bool {
    let reply = call_of(node, "quota", "api", "take", &json!(1));
    assert_eq!(reply.status, 200, "{reply:?}");
    match serde_json::from_str::<Value>(&reply.body).unwrap() {
        Value::String(taken) if taken == "taken" => true,
        denied => {
            assert!(denied["denied"]["here"] == 0, "{denied}");
            false
        }
    }
}

#[test]
fn a_quota_is_taken_to_the_last_unit_and_never_beyond() {
    const ALL: usize = 300;
    let cluster = Cluster::prepare_relayed("quota", 3)
        .with_program(&example("quota"))
        .started();
    let nodes = [0, 1, 2].map(|i| &*cluster.nodes[i]);
    assert_eq!(
        call_of(nodes[0], "quota", "api", "deposit", &json!(ALL)).status,
        200
    );
    agreed(cluster.faces());
    // Others have none yet, and it comes to them, though nobody waits for it.
    let mut taken = 0;
    for node in nodes {
        wait_for("its first unit", || take(node).then_some(()));
        taken += 1;
    }
    // Cut off, a node goes on with what it holds, and then says that it has none.
    cluster.network().cut_off(2);
    nodes[2].wait_for_links(0);
    let mut alone = 0;
    while take(nodes[2]) {
        alone += 1;
    }
    taken += alone;
    assert!(alone > 0 && taken < ALL, "{alone} of {ALL}");
    for node in &nodes[..2] {
        for _ in 0..20 {
            taken += usize::from(take(node));
        }
    }
    cluster.network().heal();
    // Together they find every last one.
    wait_for("the last unit", || {
        taken += nodes.iter().filter(|node| take(node)).count();
        (taken >= ALL).then_some(())
    });
    agreed(cluster.faces());
    assert_eq!(taken, ALL);
    assert!(nodes.iter().all(|node| !take(node)));
    let left = call_of(nodes[1], "quota", "api", "left", &Value::Null).body;
    assert_eq!(left.trim(), r#"{"here":0,"in_all":0}"#);
}
