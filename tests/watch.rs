//! Watching an entity at one node while others change it.

use std::process::Command;

use serde_json::json;

use super::support::cluster::Cluster;
use super::support::face::entity_path;
use super::support::process::Process;
use super::support::{ANABRANCH, http};

#[test]
fn a_change_made_at_another_node_is_seen() {
    let cluster = Cluster::start("watch", 2);
    let (here, there) = (&cluster.nodes[0], &cluster.nodes[1]);
    let path = entity_path("watch", "cart", "a/b");
    let mut events = http::lines(&here.http, &path)
        .unwrap()
        .map(Result::unwrap)
        .filter(|line| !line.is_empty() && !line.starts_with("id: "));
    assert_eq!(events.next().unwrap(), "event: absent");
    assert_eq!(events.next().unwrap(), r#"data: {"kind":"cart","key":"a/b"}"#);
    let mut command = Command::new(ANABRANCH);
    command.args(["watch", "cart", "a/b", "--json", "--at", &here.http]);
    let mut watch = Process::start("watch", &mut command);
    watch.stderr.until("there is no cart/a/b yet");

    let add = |element: &str| {
        let op = json!({"kind": "cart", "key": "a/b", "op": "add", "elements": [element], "type": "orset"});
        there.updated(&json!({ "ops": [op] }));
    };
    add("pears");
    let pears = r#"{"kind":"cart","key":"a/b","value":["pears"]}"#;
    assert_eq!(events.next().unwrap(), format!("data: {pears}"));
    assert_eq!(watch.stdout.next().unwrap(), pears);
    // Changes that come close together may be seen as one, but the last one is seen.
    add("apples");
    add("kiwis");
    let last = r#"{"kind":"cart","key":"a/b","value":["apples","kiwis","pears"]}"#;
    assert!(events.any(|line| line == format!("data: {last}")));
    watch.stdout.until(last);

    // Emptied is not gone.
    there.run(["update", "cart", "a/b", "clear"]).done();
    watch.stdout.until(r#"{"kind":"cart","key":"a/b","value":[]}"#);
}
