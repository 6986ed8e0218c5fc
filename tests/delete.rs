//! Deleting an entity: what the deleter saw is gone everywhere and stays gone, what others did meanwhile stays.

use serde_json::{Value, json};

use super::support::cluster::Cluster;
use super::support::face::{Face, agreed, entity_path};
use super::support::{exit, http};

fn delete(node: &Face, kind: &str, key: &str) -> String {
    node.run(["delete", kind, key]).done()
}

#[test]
fn a_deleted_entity_stays_deleted_and_can_be_made_again() {
    let mut cluster = Cluster::start("delete", 3);
    let [n1, n2] = [0, 1].map(|i| &*cluster.nodes[i]);
    assert!(delete(n1, "cart", "nobody's").contains("nothing to change"));
    n1.run([
        "update", "cart", "alice", "add", "apple", "pear", "--type", "orset",
    ])
    .done();
    n1.increment("visits", "alice", 5);
    agreed(cluster.faces());

    assert!(delete(n2, "cart", "alice").contains("done"));
    let keyed = ["delete", "visits", "alice", "--key", "once", "--level", "all"];
    assert!(n2.run(keyed).done().contains("confirmed by 3 copies"));
    assert!(n2.run(keyed).done().contains("done before under this key"));
    assert_eq!(agreed(cluster.faces()), "");
    n1.run(["get", "cart", "alice"]).failed(exit::NO, &["cart/alice"]);

    // Also after every node was killed; and what is made anew knows nothing of what was.
    for node in &mut cluster.nodes {
        node.kill();
    }
    cluster.start_all();
    cluster.faces().for_each(Face::wait_until_ready);
    assert_eq!(agreed(cluster.faces()), "");
    let n3 = &*cluster.nodes[2];
    n3.increment("visits", "alice", 2);
    n3.run(["update", "cart", "alice", "create", "--type", "orset"])
        .done();
    let dump = agreed(cluster.faces());
    let lines: Vec<Value> = dump
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let line = |kind, value| json!({"kind": kind, "key": "alice", "value": value});
    assert_eq!(lines, [line("cart", json!([])), line("visits", json!(2))]);
}

#[test]
fn a_deletion_across_a_partition_leaves_what_it_has_not_seen() {
    let cluster = Cluster::start_relayed("delete-apart", 3);
    let [n1, n2, n3] = [0, 1, 2].map(|i| &*cluster.nodes[i]);
    n1.increment("visits", "alice", 5);
    n1.run(["update", "cart", "alice", "add", "apple", "--type", "orset"])
        .done();
    agreed(cluster.faces());
    cluster.network().cut_off(2);
    delete(n1, "visits", "alice");
    delete(n2, "visits", "alice");
    delete(n1, "cart", "alice");
    n3.increment("visits", "alice", 2);
    n3.run(["update", "cart", "alice", "add", "pear"]).done();
    assert_eq!(n3.count("visits", "alice"), 7);
    n3.wait_for_links(0);
    cluster.network().heal();
    agreed(cluster.faces());
    assert_eq!(n1.count("visits", "alice"), 2);
    assert_eq!(n1.value("cart", "alice"), Some(json!(["pear"])));
}

#[test]
fn the_http_method_deletes() {
    let cluster = Cluster::start("delete-http", 1);
    let node = &cluster.nodes[0];
    let path = entity_path("entities", "cart", "a/b");
    let body = r#"{"op":"add","elements":["apple"],"type":"orset"}"#;
    assert_eq!(http::post(&node.http, &path, body).unwrap().status, 200);
    let dots = || {
        let reply = http::request(&node.http, "DELETE", &path, &[], "").unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        serde_json::from_str::<Value>(&reply.body).unwrap()["dots"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!([dots(), dots()], [1, 0], "the second time nothing is there");
    assert_eq!(http::get(&node.http, &path).unwrap().status, 404);
    // In a batch it is an operation like others, with what comes before and after it.
    let batch = json!({"ops": [
        {"kind": "cart", "key": "c", "op": "add", "elements": ["fig"], "type": "orset"},
        {"kind": "cart", "key": "c", "op": "delete"},
        {"kind": "cart", "key": "c", "op": "create", "type": "orset"},
    ]});
    node.updated(&batch);
    assert_eq!(node.value("cart", "c"), Some(json!([])));
    let inside = r#"{"op":"delete","in":[{"key":"x","type":"orset"}],"type":"ormap"}"#;
    let reply = http::post(&node.http, "/v1/entities/profile/p", inside).unwrap();
    assert_eq!(reply.status, 409, "a child is removed, not deleted: {reply:?}");
}
