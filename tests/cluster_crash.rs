//! All nodes killed at the same moment, under load: what was acknowledged durable is there when they are back.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::json;

use super::support::cluster::Cluster;
use super::support::face::{Face, agreed};
use super::support::wait_for;

/// Threads that write to each node.
const WRITERS: usize = 2;
/// Acknowledgements after which everything is killed.
const ACKNOWLEDGED_MIN: usize = 300;

#[test]
fn nothing_acknowledged_is_missing_after_all_nodes_were_killed_at_once() {
    let mut cluster = Cluster::start("cluster-crash", 3);
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicUsize::new(0));
    let faces: Vec<Face> = cluster.faces().cloned().collect();
    let elements: Vec<String> = thread::scope(|scope| {
        let write = |face, writer| {
            let (stop, acknowledged) = (&stop, &acknowledged);
            move || write(face, writer, stop, acknowledged)
        };
        let writers: Vec<_> = (0..WRITERS)
            .flat_map(|writer| faces.iter().map(move |face| (face, writer)))
            .map(|(face, writer)| scope.spawn(write(face, writer)))
            .collect();
        wait_for("acknowledgements", || {
            (acknowledged.load(Ordering::SeqCst) >= ACKNOWLEDGED_MIN).then_some(())
        });
        cluster.nodes.iter_mut().for_each(|node| node.kill());
        stop.store(true, Ordering::SeqCst);
        writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect()
    });
    assert!(elements.len() >= ACKNOWLEDGED_MIN);

    cluster.start_all();
    agreed(cluster.faces());
    for node in cluster.faces() {
        let value = node.value("writes", "all").unwrap();
        let there: Vec<&str> = value
            .as_array()
            .unwrap()
            .iter()
            .map(|element| element.as_str().unwrap())
            .collect();
        for element in &elements {
            assert!(
                there.contains(&element.as_str()),
                "{element} was acknowledged and is not at {}",
                node.name
            );
        }
        // One update is one record: both of its operations are there, or neither.
        assert_eq!(node.count("count", "all"), there.len() as u64, "{}", node.name);
    }
}

#[test]
fn a_node_that_is_told_to_end_hands_over_what_it_acknowledged() {
    let mut cluster = Cluster::start("handing-over", 3);
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicUsize::new(0));
    let face = (*cluster.nodes[1]).clone();
    let elements = thread::scope(|scope| {
        let writer = scope.spawn(|| write(&face, 0, &stop, &acknowledged));
        wait_for("acknowledgements", || {
            (acknowledged.load(Ordering::SeqCst) >= 50).then_some(())
        });
        cluster.nodes[1].stop();
        writer.join().unwrap()
    });
    // The others have it without asking the one that is gone.
    let others = || [0, 2].map(|i| &*cluster.nodes[i]).into_iter();
    agreed(others());
    for node in others() {
        let value = node.value("writes", "all").unwrap();
        for element in &elements {
            assert!(
                value.as_array().unwrap().contains(&json!(element)),
                "{element} is not at {}",
                node.name
            );
        }
    }
}

/// Writes until the node is gone; returns what was acknowledged.
fn write(face: &Face, writer: usize, stop: &AtomicBool, acknowledged: &AtomicUsize) -> Vec<String> {
    let mut done = Vec::new();
    for number in 0.. {
        let element = format!("{}-{writer}-{number}", face.name);
        let batch = json!({"ops": [
            {"kind": "writes", "key": "all", "op": "add", "elements": [element], "type": "orset"},
            {"kind": "count", "key": "all", "op": "incr", "by": 1, "type": "gcounter"},
        ]});
        match face.update(&batch) {
            Ok(reply) if reply.status == 503 => break,
            Ok(reply) => assert_eq!(reply.status, 200, "{reply:?}"),
            // It was killed; whether this one was taken is not known.
            Err(_) => break,
        }
        done.push(element);
        acknowledged.fetch_add(1, Ordering::SeqCst);
        if stop.load(Ordering::SeqCst) {
            break;
        }
    }
    done
}

/// Seats that each node has to begin with.
const SEATS: u64 = 400;

#[test]
fn no_seat_is_taken_twice_nor_lost_though_all_nodes_are_killed() {
    let mut cluster = Cluster::start("seats", 3);
    let seat = |by: i64| {
        let op = json!({"kind": "seats", "key": "all", "op": "incr", "by": by, "type": "boundedcounter"});
        json!({ "ops": [op] })
    };
    for node in cluster.faces() {
        assert_eq!(node.update(&seat(SEATS as i64)).unwrap().status, 200);
    }
    agreed(cluster.faces());
    let (taken, unknown) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // Takes what there is to take; until its node is gone, if it is.
    let take = |face: &Face| {
        while let Ok(reply) = face.update(&seat(-1)).inspect_err(|_| {
            unknown.fetch_add(1, Ordering::SeqCst);
        }) {
            match reply.status {
                200 => taken.fetch_add(1, Ordering::SeqCst),
                409 | 503 => break,
                _ => panic!("{reply:?}"),
            };
        }
    };
    let faces: Vec<Face> = cluster.faces().cloned().collect();
    thread::scope(|scope| {
        for face in &faces {
            scope.spawn(|| take(face));
        }
        wait_for("seats to be taken", || {
            (taken.load(Ordering::SeqCst) >= 60).then_some(())
        });
        cluster.nodes.iter_mut().for_each(|node| node.kill());
    });
    let seats = 3 * SEATS as usize;
    assert!(taken.load(Ordering::SeqCst) < seats, "none was left to be held");
    cluster.start_all();
    // What a node held before it was killed it can take away again.
    wait_for("all seats to be taken", || {
        cluster.faces().for_each(take);
        cluster
            .faces()
            .all(|node| node.count("seats", "all") == 0)
            .then_some(())
    });
    let (taken, unknown) = (taken.into_inner(), unknown.into_inner());
    assert!(
        (taken..=taken + unknown).contains(&seats),
        "of {seats} seats {taken} were taken, and perhaps {unknown} more"
    );
}
