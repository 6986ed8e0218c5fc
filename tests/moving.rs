//! Nodes that come back elsewhere, nodes found by name, nodes that leave.

use serde_json::json;

use super::support::cluster::Cluster;
use super::support::face::agreed;
use super::support::process::{Process, signal};
use super::support::{exit, http, ports, wait_for};

#[test]
fn a_node_that_comes_back_at_another_address_is_recognised() {
    let mut cluster = Cluster::start("moving", 3);
    cluster.nodes[1].increment("count", "a", 1);
    agreed(cluster.faces());
    let before = cluster.nodes[1].status();
    cluster.nodes[1].kill();
    // The others look for it where it was: it must find them.
    let (from, to) = (cluster.nodes[1].quic.clone(), ports::take().to_string());
    cluster.nodes[1].move_to(&to);
    cluster.nodes[0].increment("count", "a", 10);
    cluster.nodes[1].start_ready();
    let after = cluster.nodes[1].status();
    assert_eq!(
        (&after["id"], &after["directory"]),
        (&before["id"], &before["directory"])
    );
    cluster.nodes[1].increment("count", "a", 100);
    agreed(cluster.faces());
    let known = |node: usize| {
        let members = cluster.nodes[node].status()["members"]
            .as_array()
            .unwrap()
            .clone();
        assert_eq!(members.len(), 2, "it is no new member: {members:?}");
        members
            .into_iter()
            .find(|member| member["id"] == before["id"])
            .unwrap()["addresses"]
            .clone()
    };
    for node in [0, 2] {
        wait_for("its new address", || (known(node) == json!([to])).then_some(()));
    }
    // Now the others come back, and find it where it is although their configuration says where it was.
    for node in [0, 2] {
        cluster.nodes[node].kill();
    }
    cluster.start_all();
    agreed(cluster.faces());
    assert_ne!(from, to);
    assert_eq!(cluster.nodes[2].count("count", "a"), 111);
}

#[test]
fn seeds_may_be_names_and_gossip_finds_the_rest() {
    let mut cluster = Cluster::prepare("names", 3);
    let port = |i: usize| cluster.nodes[i].quic.rsplit(':').next().unwrap().to_string();
    // A chain: each knows the one before it, by name, and nothing else.
    for i in 0..3 {
        let text = std::fs::read_to_string(&cluster.nodes[i].config).unwrap();
        let kept = text
            .lines()
            .filter(|line| !line.starts_with("seeds") && !line.starts_with("members"));
        let seed = if i == 0 {
            String::new()
        } else {
            format!("\"localhost:{}\"", port(i - 1))
        };
        let text = kept
            .collect::<Vec<_>>()
            .join("\n")
            .replace("[http]", &format!("seeds = [{seed}]\n[http]"));
        std::fs::write(&cluster.nodes[i].config, text).unwrap();
    }
    cluster.start_all();
    for node in cluster.faces() {
        node.wait_for_links(2);
        node.increment("count", "a", 1);
    }
    agreed(cluster.faces());
    assert_eq!(cluster.nodes[0].count("count", "a"), 3);
}

#[test]
fn nodes_find_each_other_again_when_their_only_seed_is_gone() {
    let mut cluster = Cluster::start("no-seed-left", 3);
    for node in cluster.faces() {
        node.wait_for_links(2);
    }
    cluster.nodes[0].kill();
    for i in [1, 2] {
        cluster.nodes[i].kill();
        let text = std::fs::read_to_string(&cluster.nodes[i].config).unwrap();
        let seeds = text.lines().find(|line| line.starts_with("seeds")).unwrap();
        let only = format!("seeds = [{:?}]", cluster.nodes[0].quic);
        std::fs::write(&cluster.nodes[i].config, text.replace(seeds, &only)).unwrap();
    }
    for i in [1, 2] {
        cluster.nodes[i].start_ready();
    }
    cluster.nodes[1].wait_for_links(1);
    cluster.nodes[2].wait_for_links(1);
}

#[test]
fn a_node_outlives_its_terminal_and_says_that_it_reads_nothing_again() {
    let mut cluster = Cluster::start("hangup", 1);
    let process = cluster.nodes[0].process();
    signal(process.pid(), "HUP");
    process.stderr.until("SIGHUP");
    signal(process.pid(), "HUP");
    process.stderr.until("SIGHUP");
    cluster.nodes[0].increment("count", "a", 1);
    cluster.nodes[0].stop();
}

/// It may be one of several that were to be one cluster.
#[test]
fn a_new_node_whose_only_seed_is_itself_says_that_it_begins_a_cluster() {
    let mut cluster = Cluster::prepare("own-seed", 1);
    let own = cluster.nodes[0].quic.clone();
    cluster.nodes[0].configure("seeds = []", &format!("seeds = [{own:?}]"));
    cluster.nodes[0].start_ready();
    let said = cluster.nodes[0]
        .process()
        .stderr
        .until("begins a cluster of its own");
    assert!(said.contains("WARN") && said.contains(&own), "{said}");
    // Once it has begun there is nothing to decide any more.
    cluster.nodes[0].kill();
    cluster.nodes[0].start_ready();
    let process = cluster.nodes[0].process();
    process.terminate();
    let ended = process.wait();
    assert!(!ended.stderr.contains("a cluster of its own"), "{ended}");
}

#[test]
fn a_node_that_leaves_says_so() {
    let mut cluster = Cluster::start("leaving", 3);
    for node in cluster.faces() {
        node.wait_for_links(2);
    }
    cluster.nodes[2].increment("count", "a", 5);
    let said = cluster.nodes[2].run(["leave"]).done();
    assert!(
        said.contains("has left: 2 other nodes have all that it had"),
        "{said}"
    );
    let process: &mut Process = cluster.nodes[2].process();
    let ended = process.wait();
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.contains("stopping: asked to leave"), "{ended}");
    let id = format!("{:032x}", super::support::cluster::node_id(2));
    for node in &cluster.nodes[..2] {
        let left = || {
            let members = node.status()["members"].as_array().unwrap().clone();
            members
                .iter()
                .any(|member| member["id"] == id.as_str() && member["hint"] == "left")
        };
        wait_for("that it left", || left().then_some(()));
        // What counts links that are down does not count it.
        let metrics = http::get(&node.http, "/metrics").unwrap().body;
        let connected =
            |peer: &str| metrics.contains(&format!("anabranch_peer_connected{{peer=\"{peer}\"}}"));
        let peers = [0, 1].map(|i| format!("{:032x}", super::support::cluster::node_id(i)));
        assert!(
            peers.iter().any(|peer| connected(peer)) && !connected(&id),
            "{metrics}"
        );
        // It handed over what it had before it left.
        assert_eq!(node.count("count", "a"), 5);
    }
    agreed(cluster.nodes[..2].iter().map(|node| &**node));
    let gone = cluster.nodes[2].http.clone();
    cluster.nodes[2]
        .run(["status"])
        .failed(exit::UNREACHABLE, &[&gone]);
}

#[test]
fn a_node_that_leaves_waits_until_a_dead_peer_is_known_to_be_gone() {
    let mut cluster = Cluster::start("leaving-late", 3);
    for node in cluster.faces() {
        node.wait_for_links(2);
    }
    cluster.nodes[0].kill();
    cluster.nodes[2].increment("count", "a", 5);
    let said = cluster.nodes[2].run(["leave", "--timeout", "60s"]).done();
    assert!(said.contains("has left"), "{said}");
    assert_eq!(cluster.nodes[1].count("count", "a"), 5);
}

#[test]
fn a_node_that_is_told_to_stop_while_it_leaves_stops_and_says_what_was_not_confirmed() {
    for signal_name in ["TERM", "INT"] {
        let mut cluster = Cluster::start("leaving-told", 3);
        for node in cluster.faces() {
            node.wait_for_links(2);
        }
        // Its link is there for the ten seconds that the others take to find out.
        cluster.nodes[0].kill();
        cluster.nodes[2].increment("count", "a", 5);
        let asking = std::thread::spawn({
            let face = (*cluster.nodes[2]).clone();
            move || face.run(["leave", "--timeout", "10m"])
        });
        let process = cluster.nodes[2].process();
        process.stderr.until("stopping: asked to leave");
        signal(process.pid(), signal_name);
        let ended = process.wait();
        let left = asking.join().unwrap();
        for ended in [&ended, &left] {
            assert_eq!(ended.code, Some(exit::UNCONFIRMED), "{ended}");
            let lacking = format!("{:032x}", super::support::cluster::node_id(0));
            assert!(ended.stderr.contains(&lacking), "{ended}");
            assert!(ended.stderr.contains("may be on its disk alone"), "{ended}");
        }
        let heard = format!("SIG{signal_name} while it leaves");
        assert!(ended.stderr.contains(&heard), "{ended}");
    }
}

#[test]
fn a_node_whose_leaving_nobody_can_have_heard_says_so() {
    let mut cluster = Cluster::start_relayed("leaving-unheard", 3);
    cluster.nodes[2].wait_for_links(2);
    // Cut off, and not known to be yet.
    cluster.network().cut_off(2);
    let left = cluster.nodes[2].run(["leave"]);
    assert_eq!(left.code, Some(exit::UNCONFIRMED), "{left}");
    assert!(left.stderr.contains("no other node has confirmed"), "{left}");
    cluster.nodes[2].process().wait();
    cluster.nodes[2].kill();
    cluster.network().heal();
    // As it was said: started again it leaves for good.
    cluster.nodes[2].start_ready();
    cluster.nodes[2].wait_for_links(2);
    cluster.nodes[2].run(["leave"]).done();
}

#[test]
fn a_node_that_leaves_with_nobody_there_says_what_that_means() {
    let mut cluster = Cluster::start("leaving-alone", 2);
    cluster.nodes[0].wait_for_links(1);
    cluster.nodes[1].kill();
    cluster.nodes[0].wait_for_links(0);
    cluster.nodes[0].increment("count", "a", 5);
    let data = cluster.nodes[0].data().to_str().unwrap().to_string();
    let left = cluster.nodes[0].run(["leave", "--json"]);
    assert_eq!(left.code, Some(exit::UNCONFIRMED), "{left}");
    assert!(
        left.stderr.contains("no other node was connected") || left.stderr.contains("no peer was connected"),
        "{left}"
    );
    let said: serde_json::Value = serde_json::from_str(&left.stdout).unwrap();
    assert_eq!(
        (&said["peers"], &said["handed_over"]),
        (&0.into(), &false.into()),
        "{said}"
    );
    let ended = cluster.nodes[0].process().wait();
    assert!(ended.code.is_some(), "{ended}");
    // It is as it was said: what it had is there, and it hands over once it is started again.
    assert!(std::path::Path::new(&data).join("meta").exists());
}
