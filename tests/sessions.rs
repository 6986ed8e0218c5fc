//! Sessions: what was written or read at one node is never missing at another; where it does not come, the node says so.

use serde_json::{Value, json};

use super::support::cluster::Cluster;
use super::support::face::{Face, agreed, entity_path};
use super::support::http::{self, Reply};
use super::support::temp::TempDir;
use super::support::{exit, wait_for};

#[test]
fn who_moves_to_another_node_reads_what_he_wrote() {
    let cluster = Cluster::start_relayed("session", 3);
    let [n1, n2, n3] = [0, 1, 2].map(|i| &*cluster.nodes[i]);
    let dir = TempDir::new("session-files");
    let file = dir.join("alice").display().to_string();
    let add = |node: &Face, element: &str| {
        let args = ["update", "cart", "alice", "add", element, "--type", "orset"];
        node.run(args.into_iter().chain(["--session", &file])).done();
    };
    let get = |node: &Face, timeout: &str| {
        node.run(["get", "cart", "alice", "--session", &file, "--timeout", timeout])
    };
    // As fast as commands go, round and round: never one element less.
    for (i, node) in [n1, n2, n3, n1, n2, n3].into_iter().enumerate() {
        add(node, &format!("e{i}"));
        let next = [n2, n3, n1][i % 3];
        assert_eq!(get(next, "20s").done().matches('e').count(), i + 1);
    }
    agreed(cluster.faces());

    cluster.network().cut_off(2);
    add(n1, "late");
    let behind = get(n3, "300ms");
    behind.failed(
        exit::STALE,
        &["nothing changed", "did not come within 300 ms", "another node"],
    );
    let update = [
        "update",
        "cart",
        "alice",
        "remove",
        "late",
        "--timeout",
        "300ms",
        "--session",
        &file,
    ];
    n3.run(update).failed(exit::STALE, &["nothing changed"]);
    assert!(get(n2, "20s").done().contains("late"));
    // Without a session it is as ever.
    assert!(!n3.run(["get", "cart", "alice"]).done().contains("late"));
    // Who waits is answered as soon as it has come.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| get(n3, "60s").done());
        wait_for("n3 has a request that waits", || is_waiting(n3).then_some(()));
        cluster.network().heal();
        assert!(waiting.join().unwrap().contains("late"));
    });
    // A deletion was seen, too.
    n2.run(["delete", "cart", "alice", "--session", &file]).done();
    get(n1, "20s").failed(exit::NO, &["there is no cart/alice"]);
    n1.run([
        "get",
        "cart",
        "alice",
        "--session",
        &dir.write("bad", "hm").display().to_string(),
    ])
    .failed(exit::INVALID, &["is no session's file"]);
}

#[test]
fn what_a_dump_showed_is_missing_nowhere() {
    let cluster = Cluster::start_relayed("session-dump", 3);
    let [n1, n2, n3] = [0, 1, 2].map(|i| &*cluster.nodes[i]);
    let dir = TempDir::new("session-dumps");
    let file = dir.join("bob").display().to_string();
    let dump = |node: &Face, timeout: &str| node.run(["dump", "--session", &file, "--timeout", timeout]);
    let get = |node: &Face, key: &str, timeout: &str| {
        node.run(["get", "seen", key, "--session", &file, "--timeout", timeout])
    };
    n1.run(["update", "seen", "gone", "enable", "--type", "flag"])
        .done();
    agreed(cluster.faces());
    cluster.network().cut_off(2);
    // Not by the session: it sees it in the dump alone, and that another is not there any more.
    n1.run(["update", "seen", "new", "enable"]).done();
    n1.run(["delete", "seen", "gone"]).done();
    let line = "{\"kind\":\"seen\",\"key\":\"new\",\"value\":true}\n";
    let shown = dump(n1, "20s").done();
    assert!(shown.ends_with(line) && !shown.contains("gone"), "{shown}");
    assert_eq!(shown, n1.dump(), "the lines are the same as ever");
    for key in ["new", "gone"] {
        get(n3, key, "300ms").failed(exit::STALE, &["did not come within 300 ms"]);
    }
    dump(n3, "300ms").failed(exit::STALE, &["did not come within 300 ms"]);
    assert!(n3.dump().contains("gone"), "without a session it is as ever");
    assert!(get(n2, "new", "20s").done().contains("true"));
    cluster.network().heal();
    get(n3, "gone", "60s").failed(exit::NO, &["there is no seen/gone"]);
    assert!(dump(n3, "60s").done().ends_with(line));
}

/// Commands that are started at once.
const AT_ONCE: usize = 24;

#[test]
fn commands_that_run_at_once_lose_nothing_of_what_their_session_has_seen() {
    let cluster = Cluster::start_relayed("session-at-once", 3);
    let [n1, n3] = [0, 2].map(|i| &*cluster.nodes[i]);
    let dir = TempDir::new("sessions-at-once");
    let file = dir.join("me").display().to_string();
    agreed(cluster.faces());
    cluster.network().cut_off(2);
    std::thread::scope(|scope| {
        for i in 0..AT_ONCE {
            let (file, key) = (&file, format!("k{i}"));
            let command = [
                "update",
                "race",
                &key,
                "incr",
                "1",
                "--type",
                "gcounter",
                "--session",
                file,
            ];
            let command = command.map(str::to_owned);
            scope.spawn(move || n1.run(command).done());
        }
    });
    for i in 0..AT_ONCE {
        let key = format!("k{i}");
        n3.run(["get", "race", &key, "--session", &file, "--timeout", "50ms"])
            .failed(exit::STALE, &["nothing changed"]);
    }
}

#[test]
fn a_session_that_cannot_be_kept_is_said_before_anything_is_changed() {
    let cluster = Cluster::start("session-kept", 1);
    let node = &*cluster.nodes[0];
    let dir = TempDir::new("sessions-kept");
    let update = |file: &std::path::Path| {
        let command = [
            "update",
            "hits",
            "k",
            "incr",
            "1",
            "--type",
            "gcounter",
            "--session",
        ];
        node.run(command.into_iter().chain([&*file.display().to_string()]))
    };
    std::fs::create_dir(dir.join("directory")).unwrap();
    for file in [dir.join("nowhere/me"), dir.join("directory")] {
        update(&file).failed(exit::IO, &["nothing changed", &file.display().to_string()]);
    }
    let other = dir.write("other.txt", "of somebody else");
    let device = dir.join("device");
    std::os::unix::fs::symlink("/dev/null", &device).unwrap();
    for file in [other, device] {
        update(&file).failed(exit::INVALID, &["nothing changed", "is no session's file"]);
    }
    // Nor is anything left beside what is none of ours.
    for file in ["directory.lock", "other.txt.lock", "device.lock"] {
        assert!(!dir.join(file).exists(), "{file}");
    }
    assert_eq!(node.value("hits", "k"), None);
    update(&dir.join("me")).done();
    assert_eq!(node.count("hits", "k"), 1);
    // One that is empty begins, and a link leads to the same as what it is of.
    let empty = dir.write("empty", "\n");
    update(&empty).done();
    let link = dir.join("link");
    std::os::unix::fs::symlink(&empty, &link).unwrap();
    let before = std::fs::read(&empty).unwrap();
    update(&link).done();
    assert!(link.is_symlink());
    assert_ne!(std::fs::read(&empty).unwrap(), before);
}

#[test]
fn a_session_that_is_lost_after_the_change_says_that_it_was_made() {
    let cluster = Cluster::start_relayed("session-lost", 3);
    let [n1, n3] = [0, 2].map(|i| &*cluster.nodes[i]);
    let dir = TempDir::new("sessions-lost");
    std::fs::create_dir(dir.join("away")).unwrap();
    let file = dir.join("away/me").display().to_string();
    let increment = |node: &Face| {
        let command = [
            "update",
            "hits",
            "k",
            "incr",
            "1",
            "--type",
            "gcounter",
            "--timeout",
            "60s",
        ];
        node.run(command.into_iter().chain(["--session", &file]))
    };
    agreed(cluster.faces());
    cluster.network().cut_off(2);
    increment(n1).done();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| increment(n3));
        wait_for("n3 has a request that waits", || is_waiting(n3).then_some(()));
        std::fs::remove_dir_all(dir.join("away")).unwrap();
        cluster.network().heal();
        let said = ["the change was made", "cannot be written"];
        waiting.join().unwrap().failed(exit::IO, &said);
    });
    assert_eq!(n3.count("hits", "k"), 2);
}

fn is_waiting(node: &Face) -> bool {
    let metrics = http::get(&node.http, "/metrics").unwrap().body;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("anabranch_requests_waiting_for_session "));
    line.is_some_and(|line| !line.ends_with(" 0"))
}

#[test]
fn the_session_header_carries_what_was_seen() {
    let cluster = Cluster::start("session-http", 2);
    let [n1, n2] = [0, 1].map(|i| &*cluster.nodes[i]);
    let path = entity_path("entities", "count", "a");
    let asks = |node: &Face, method: &str, headers: &[(&str, &str)], body: &str| {
        http::request(&node.http, method, &path, headers, body).unwrap()
    };
    let seen = |reply: &Reply| {
        let line = reply
            .headers
            .lines()
            .find_map(|line| line.strip_prefix("anabranch-session: "));
        line.map(str::to_owned).unwrap()
    };
    let mut token = seen(&asks(n1, "GET", &[], ""));
    for i in 1..=20 {
        let body = r#"{"op":"incr","by":1,"type":"gcounter"}"#;
        let (here, there) = if i % 2 == 0 { (n1, n2) } else { (n2, n1) };
        token = seen(&asks(here, "POST", &[("anabranch-session", &token)], body));
        let reply = asks(there, "GET", &[("anabranch-session", &token)], "");
        let line: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(line["value"], json!(i));
        token = seen(&reply);
    }
    for (name, value) in [
        ("anabranch-session", "nonsense"),
        ("anabranch-timeout-ms", "-1"),
        ("anabranch-timeout-ms", "99999999999"),
    ] {
        let reply = asks(n1, "GET", &[(name, value)], "");
        assert_eq!(reply.status, 400, "{reply:?}");
        assert!(reply.body.contains(name), "{reply:?}");
    }
    // Of another cluster, or made up: nobody ever has that.
    let strange = "AQEBAAEAAQABBQ==";
    let reply = asks(
        n1,
        "GET",
        &[("anabranch-session", strange), ("anabranch-timeout-ms", "50")],
        "",
    );
    assert!([400, 503].contains(&reply.status), "{reply:?}");
}

#[test]
fn a_watch_that_goes_on_elsewhere_shows_nothing_older() {
    let cluster = Cluster::start_relayed("session-watch", 2);
    let [n1, n2] = [0, 1].map(|i| &*cluster.nodes[i]);
    n1.increment("count", "a", 1);
    agreed(cluster.faces());
    cluster.network().cut_off(1);
    n1.increment("count", "a", 1);
    let mut lines = http::lines(&n1.http, "/v1/watch/count/a").unwrap();
    assert!(lines.next().unwrap().unwrap().contains("\"value\":2"));
    let id = lines.next().unwrap().unwrap();
    let id = id.strip_prefix("id: ").unwrap_or_else(|| panic!("{id}"));
    let watch = |id: &str, timeout: &str| {
        let headers = [("Last-Event-ID", id), ("anabranch-timeout-ms", timeout)];
        http::request(&n2.http, "GET", "/v1/watch/count/a", &headers, "").unwrap()
    };
    let behind = watch(id, "300");
    assert!(
        behind.status == 503 && behind.body.contains("\"stale\""),
        "{behind:?}"
    );
    assert_eq!(watch("7", "300").status, 400);
    cluster.network().heal();
    let headers = [("Last-Event-ID", id), ("anabranch-timeout-ms", "60000")];
    let mut lines = http::lines_with(&n2.http, "/v1/watch/count/a", &headers).unwrap();
    assert!(lines.next().unwrap().unwrap().contains("\"value\":2"));
}
