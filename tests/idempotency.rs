//! Idempotency keys: a repeat at the same node changes nothing and is answered the same, across a restart too.

use serde_json::{Value, json};

use super::support::cluster::Cluster;
use super::support::exit;
use super::support::face::agreed;

#[test]
fn a_key_is_remembered_across_a_crash_of_its_node() {
    let mut cluster = Cluster::start("idempotency", 2);
    let batch = json!({"idempotency_key": "order 17", "ops": [
        {"kind": "stock", "key": "apples", "op": "incr", "by": -5, "type": "pncounter"},
        {"kind": "cart", "key": "alice", "op": "add", "elements": ["apples"], "type": "orset"},
    ]});
    let first = cluster.nodes[0].updated(&batch);
    assert_eq!(first["repeated"], false, "{first}");
    let again = |answer: &Value| {
        (
            answer["repeated"].clone(),
            answer["directory"].clone(),
            answer["dots"].clone(),
        )
    };
    let wanted = (json!(true), first["directory"].clone(), first["dots"].clone());
    assert_eq!(again(&cluster.nodes[0].updated(&batch)), wanted);

    cluster.nodes[0].kill();
    cluster.nodes[0].start_ready();
    assert_eq!(again(&cluster.nodes[0].updated(&batch)), wanted);
    assert_eq!(cluster.nodes[0].value("stock", "apples"), Some(json!(-5)));

    // Another update under the same key is a mistake of the caller's, and changes nothing.
    let node = &cluster.nodes[0];
    node.run(["update", "stock", "apples", "incr", "1", "--key", "order 17"])
        .failed(exit::KEY_REUSED, &["different update", "nothing changed"]);
    assert_eq!(node.value("stock", "apples"), Some(json!(-5)));
    let said = node
        .run(["update", "stock", "pears", "incr", "2", "--key", "order 18"])
        .done();
    assert!(said.contains("done"), "{said}");
    let said = node
        .run(["update", "stock", "pears", "incr", "2", "--key", "order 18"])
        .done();
    assert!(said.contains("nothing changed again"), "{said}");

    // Whether the type is named or not, it is the same update.
    let typed = node.run([
        "update",
        "stock",
        "pears",
        "incr",
        "2",
        "--key",
        "order 18",
        "--type",
        "pncounter",
    ]);
    assert!(typed.done().contains("nothing changed again"));
    let new = ["update", "basket", "bob", "add", "figs", "--key", "order 19"];
    node.run(new.iter().chain(&["--type", "orset"])).done();
    assert!(node.run(new).done().contains("nothing changed again"));
    node.run(new.iter().chain(&["--type", "gcounter"]))
        .failed(exit::KEY_REUSED, &["different update"]);

    // The key does not travel: at another node it is a new update.
    agreed(cluster.faces());
    assert_eq!(cluster.nodes[1].updated(&batch)["repeated"], false);
    agreed(cluster.faces());
    assert_eq!(cluster.nodes[0].value("stock", "apples"), Some(json!(-10)));
    assert_eq!(cluster.nodes[0].value("stock", "pears"), Some(json!(2)));
}
