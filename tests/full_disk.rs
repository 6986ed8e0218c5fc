//! A disk that is full: an error to whoever writes there and nothing else.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::support::cluster::Cluster;
use super::support::exit;
use super::support::face::agreed;
use super::support::namespace::{Place, enter, mount_tmpfs};
use super::support::wait_for;

/// The disk of the node that runs out of it.
const DISK_BYTES: u64 = 6 << 20;
/// Bytes of one element: a few of them use up what the log holds in reserve.
const ELEMENT_BYTES: usize = 16 << 10;
/// More writes than fit.
const WRITES_MAX: usize = 2_000;

#[test]
fn a_full_disk_is_an_error_to_the_writer_and_nothing_else() {
    if let Place::Over = enter("full_disk::a_full_disk_is_an_error_to_the_writer_and_nothing_else") {
        return;
    }
    let mut cluster = Cluster::prepare("full-disk", 2);
    let disk = cluster.dir.join("disk");
    mount_tmpfs(&disk, DISK_BYTES);
    cluster.nodes[1].configure("data = \"data\"", &format!("data = {:?}", disk.join("data")));
    cluster.start_all();
    let [n1, n2] = [0, 1].map(|i| (*cluster.nodes[i]).clone());
    let mut acknowledged = Vec::new();
    for number in 0..10 {
        n2.updated(&write(number));
        acknowledged.push(number);
    }
    agreed(cluster.faces());

    fill(&disk.join("filler"));
    let refused = (10..WRITES_MAX).find_map(|number| {
        let reply = n2.update(&write(number)).unwrap();
        if reply.status == 200 {
            acknowledged.push(number);
            return None;
        }
        Some((number, reply))
    });
    let (refused, reply) = refused.expect("the disk never filled up");
    let error: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(
        (reply.status, &error["error"]),
        (507, &json!("disk_full")),
        "{error}"
    );
    assert_eq!(error["retry"], true, "{error}");
    n2.run(["update", "other", "o", "add", "x", "--type", "orset"])
        .failed(exit::DISK_FULL, &["space"]);

    // It says so, goes on being read, and the other one does not mind.
    let status = n2.status();
    assert_eq!(status["store"], "full", "{status}");
    assert!(
        status["store_reason"]
            .as_str()
            .is_some_and(|reason| !reason.is_empty()),
        "{status}"
    );
    let said = n2.run(["status"]).done();
    assert!(said.contains("takes no writes: see its store"), "{said}");
    // Whoever looks where to write to is sent elsewhere.
    assert!(!n2.is_ready());
    assert!(elements(&n2.value("set", "s")).len() >= acknowledged.len());
    assert!(!n2.dump().is_empty());
    for number in 0..10 {
        n1.increment("count", "a", number);
    }
    assert_eq!(n1.count("count", "a"), 45);

    // Once there is space, the same write is done under its key, once.
    fs::remove_file(disk.join("filler")).unwrap();
    wait_for("a write after space was freed", || {
        (n2.update(&write(refused)).unwrap().status == 200).then_some(())
    });
    acknowledged.push(refused);
    assert!(n2.is_ready());
    n2.increment("count", "a", 5);
    agreed(cluster.faces());
    assert_eq!(n2.status()["store"], "ok");
    assert_eq!(
        n2.count("writes", "all"),
        elements(&n2.value("set", "s")).len() as u64
    );

    // What was acknowledged is on the disk, not only in memory. On a full one a node starts all the same, and again.
    fill(&disk.join("filler"));
    for _ in 0..2 {
        cluster.nodes[1].kill();
        cluster.nodes[1].start_ready();
        let there = elements(&n2.value("set", "s"));
        assert!(
            acknowledged
                .iter()
                .all(|number| there.contains(&element(*number)))
        );
    }
    let refused = (WRITES_MAX..2 * WRITES_MAX).find(|number| {
        let status = n2.update(&write(*number)).unwrap().status;
        if status == 200 {
            acknowledged.push(*number);
        }
        status == 507
    });
    assert!(refused.is_some(), "there was room for all of it");
    assert_eq!(n2.status()["store"], "full");
    assert_eq!(n2.count("count", "a"), 50);
    fs::remove_file(disk.join("filler")).unwrap();
    wait_for("a write after space was freed again", || {
        (n2.update(&write(refused?)).unwrap().status == 200).then_some(())
    });
    acknowledged.extend(refused);
    cluster.nodes[1].kill();
    cluster.nodes[1].start_ready();
    agreed(cluster.faces());
    let there = elements(&cluster.nodes[1].value("set", "s"));
    for number in acknowledged {
        assert!(there.contains(&element(number)), "{number} was acknowledged");
    }
    assert_eq!(cluster.nodes[1].count("count", "a"), 50);
}

/// An element and its count, in one update.
fn write(number: usize) -> Value {
    json!({"idempotency_key": format!("write {number}"), "ops": [
        {"kind": "set", "key": "s", "op": "add", "elements": [element(number)], "type": "orset"},
        {"kind": "writes", "key": "all", "op": "incr", "by": 1, "type": "gcounter"},
    ]})
}

fn element(number: usize) -> String {
    format!("{number:0ELEMENT_BYTES$}")
}

fn elements(value: &Option<Value>) -> Vec<String> {
    let elements = value.as_ref().unwrap().as_array().unwrap();
    elements
        .iter()
        .map(|element| element.as_str().unwrap().to_string())
        .collect()
}

/// Writes until nothing more fits.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for block in [64 << 10, 4 << 10, 1] {
        while file.write(&vec![1; block]).is_ok_and(|written| written > 0) {}
    }
}
