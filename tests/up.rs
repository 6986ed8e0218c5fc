//! `up`: what it prints, what it leaves behind, and how it ends.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use super::support::cluster::Cluster;
use super::support::command::{anabranch, anabranch_in};
use super::support::face::{addresses, agreed, assert_same};
use super::support::process::{Process, is_running, signal};
use super::support::temp::TempDir;
use super::support::up::{self, Up};
use super::support::{ANABRANCH, exit, history, ports, wait_for};

#[test]
fn it_prints_one_object_a_node_ends_in_order_and_resumes() {
    let dir = TempDir::new("up-resume");
    let mut up = Up::start(dir.path(), 3);
    up.nodes[2].face.increment("count", "a", 7);
    let dump = agreed(up.faces());
    let (pids, faces): (Vec<u32>, Vec<_>) = up.nodes.iter().map(|node| (node.pid, node.face.clone())).unzip();
    let identities = |up: &Up| -> Vec<_> {
        let of = |node: &up::Node| (node.face.status_text("id"), node.face.status_text("directory"));
        up.nodes.iter().map(of).collect()
    };
    let before = identities(&up);
    // Below the ephemeral range: no client's own port can be one of them.
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or("32768 60999".into());
    let first: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
    for face in &faces {
        for address in [&face.quic, &face.http] {
            assert!(
                address.parse::<std::net::SocketAddr>().unwrap().port() < first,
                "{address}"
            );
        }
    }

    up.process.terminate();
    let ended = up.process.wait();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert_eq!(
        ended.stdout.lines().count(),
        3,
        "one object a node and nothing else: {}",
        ended.stdout
    );
    assert!(pids.iter().all(|pid| !is_running(*pid)), "{pids:?}");

    let mut up = Up::start(dir.path(), 3);
    assert_eq!(identities(&up), before);
    for (node, face) in up.nodes.iter().zip(&faces) {
        assert_eq!(
            (&node.face.quic, &node.face.http, &node.face.config),
            (&face.quic, &face.http, &face.config)
        );
        assert_same(&node.face.dump(), &dump, &face.name);
    }
    // Ctrl-C is the other way to end it.
    signal(up.process.pid(), "INT");
    up.process.wait().done();
    assert!(up.nodes.iter().all(|node| !is_running(node.pid)));
}

#[test]
fn its_nodes_end_with_it_even_when_it_is_killed() {
    let dir = TempDir::new("up-killed");
    let mut up = Up::start(dir.path(), 2);
    up.nodes[0].face.increment("count", "a", 1);
    up.process.kill();
    for node in &up.nodes {
        wait_for("the end of the node", || (!is_running(node.pid)).then_some(()));
    }
    // They ended in order: nothing is in the way of the next one.
    let up = Up::start(dir.path(), 2);
    assert_eq!(up.nodes[0].face.count("count", "a"), 1);
}

#[test]
fn a_node_that_dies_is_reported_and_started_again_by_whoever_likes() {
    let events = history::read(&history::real(), 600);
    let dir = TempDir::new("up-child");
    let file = dir.write("history.jsonl", history::write(&events));
    let mut up = Up::start(&dir.join("cluster"), 3);
    let (n1, n2) = (up.nodes[0].face.clone(), up.nodes[1].face.clone());
    let mut replay = Command::new(ANABRANCH);
    replay
        .arg("replay")
        .arg(&file)
        .args(["--to", &addresses(up.faces()), "--rate", "300", "--json"]);
    let mut replay = Process::start("replay", &mut replay);
    wait_for("some commits", || {
        (n1.count("commits", "all") >= 100).then_some(())
    });
    signal(up.nodes[1].pid, "KILL");

    // It says who, how, the last words, and what to type.
    let line = up.process.stderr.until("n2 has ended");
    assert!(line.contains("signal: 9"), "{line}");
    up.process.stderr.until("n2: ");
    let hint = up.process.stderr.until("To start it again: ");
    let typed = hint.rsplit("To start it again: ").next().unwrap();
    assert!(
        typed.ends_with(&format!("node --config {}", n2.config.display())),
        "{hint}"
    );

    // Started by hand it ignores stdin, and outlives the shell that started it.
    let log = dir.join("n2.log");
    let script = format!("{typed} >{} 2>&1 </dev/null & echo $!", log.display());
    let mut shell = Process::start("sh", Command::new("sh").args(["-c", &script]));
    let pid: u32 = shell.wait().done().trim().parse().unwrap();
    let by_hand = KilledOnDrop(pid);
    n2.wait_until_ready();
    assert_eq!(n2.status()["pid"], pid);
    let report: serde_json::Value = serde_json::from_str(&replay.wait().done()).unwrap();
    assert_eq!(report["events"], events.len(), "{report}");
    assert_same(
        &agreed(up.faces()),
        &history::truth(&events),
        "after the node came back",
    );
    assert!(is_running(pid), "it ended with the shell");

    // `up` had nothing to do with it any more.
    up.process.terminate();
    up.process.wait();
    assert!(is_running(pid), "it ended with `up`");
    assert!(n2.is_ready());
    // Its ports are remembered, so the next `up` says who has them.
    let again = Process::start("up", &mut up::command(&dir.join("cluster"), 3)).wait();
    again.failed(exit::ADDRESS_IN_USE, &["n2", "Stop the process"]);
    drop(by_hand);
}

#[test]
fn a_directory_fits_one_up_and_one_number_of_nodes() {
    let dir = TempDir::new("up-directory");
    let path = dir.path().to_str().unwrap();
    let mut up = Up::start(dir.path(), 2);
    anabranch(["up", "--nodes", "2", "--dir", path]).failed(exit::IN_USE, &[path, "in use"]);
    anabranch(["up", "--nodes", "3", "--dir", path]).failed(exit::IN_USE, &[path, "in use"]);
    up.process.terminate();
    up.process.wait().done();
    anabranch(["up", "--nodes", "3", "--dir", path]).failed(exit::USAGE, &[path, "2 nodes", "--nodes 2"]);
    let taken = TcpListener::bind(&up.nodes[1].face.http).unwrap();
    let failed = anabranch(["up", "--nodes", "2", "--dir", path]);
    failed.failed(exit::ADDRESS_IN_USE, &[&up.nodes[1].face.http, "n2"]);
    drop(taken);
    let odd = dir.join("a\nb");
    anabranch(["up", "--nodes", "1", "--dir", odd.to_str().unwrap()])
        .failed(exit::USAGE, &["control characters"]);
    assert!(!odd.exists());
    let file = dir.write("a-file", "in the way");
    anabranch(["up", "--nodes", "1", "--dir", file.to_str().unwrap()]).failed(exit::IO, &["a-file"]);
}

#[test]
fn people_are_told_what_to_type_next_and_it_works() {
    let dir = TempDir::new("up-people");
    let mut command = Command::new(ANABRANCH);
    command.args(["up", "--nodes", "2"]).current_dir(dir.path());
    let mut up = Process::start("up", &mut command);
    let is_ready = |name: &str, line: &str| {
        let rest = line.strip_prefix(name)?.strip_prefix(" is ready: process ")?;
        Some(rest.contains("QUIC 127.0.0.1:") && rest.contains("HTTP 127.0.0.1:"))
    };
    let first = [up.stdout.next().unwrap(), up.stdout.next().unwrap()];
    for name in ["n1", "n2"] {
        assert!(
            first.iter().any(|line| is_ready(name, line) == Some(true)),
            "{first:?}"
        );
    }
    let data = up.stdout.until("The cluster is up");
    assert!(data.contains(dir.join(".anabranch").to_str().unwrap()), "{data}");
    let mut outputs = Vec::new();
    while let Some(line) = up.stdout.next().filter(|line| line.starts_with("  ")) {
        let typed: Vec<&str> = line.split_whitespace().skip(1).collect();
        outputs.push(anabranch_in(dir.path(), typed).done());
    }
    assert!(outputs.len() >= 3, "{outputs:?}");
    assert_eq!(outputs[1], "apples\npears\n");
    assert!(outputs[2].contains("takes writes"), "{}", outputs[2]);
    let agree = anabranch_in(dir.path(), ["verify"]).done();
    assert!(agree.contains("2 nodes agree"), "{agree}");
    assert_eq!(
        anabranch_in(dir.path(), ["dump"]).done(),
        "{\"kind\":\"wishes\",\"key\":\"alice\",\"value\":[\"apples\",\"pears\"]}\n"
    );
    up.terminate();
    up.wait();
}

#[test]
fn what_is_printed_can_be_typed_also_with_spaces_in_it() {
    let dir = TempDir::new("up-spaces");
    let path = dir.join("my data & more");
    let mut up = Command::new(ANABRANCH);
    up.args(["up", "--nodes", "1", "--dir"]).arg(&path);
    let mut up = Process::start("up", &mut up);
    up.stdout.until("The cluster is up");
    let mut typed = Vec::new();
    while let Some(line) = up.stdout.next().filter(|line| line.starts_with("  ")) {
        typed.push(line);
    }
    for line in &typed {
        let ended = Process::start("sh", Command::new("sh").args(["-c", line])).wait();
        assert_eq!(ended.code, Some(0), "{line}: {ended}");
    }
    assert!(typed.len() >= 3, "{typed:?}");
    up.terminate();
    up.wait().done();
}

#[test]
fn nodes_that_do_not_start_are_reported_with_their_last_words() {
    let dir = TempDir::new("up-broken");
    let mut up = Up::start(dir.path(), 2);
    up.process.terminate();
    up.process.wait().done();
    let config = &up.nodes[1].face.config;
    let text = fs::read_to_string(config).unwrap();
    fs::write(config, format!("nonsense = 1\n{text}")).unwrap();
    let mut again = Process::start("up", &mut up::command(dir.path(), 2));
    again.stderr.until("n2 did not start");
    again.stderr.until("nonsense");
    // The other one goes on.
    let ready = again.stdout.next().unwrap();
    assert!(ready.contains("\"n1\""), "{ready}");
    up.nodes[0].face.increment("count", "a", 1);
    again.terminate();
    again.wait();

    // With none left there is nothing to stay for, and the first one's reason is the reason.
    let config = &up.nodes[0].face.config;
    let text = fs::read_to_string(config).unwrap();
    fs::write(config, format!("nonsense = 1\n{text}")).unwrap();
    Process::start("up", &mut up::command(dir.path(), 2))
        .wait()
        .failed(exit::CONFIG, &["n1 did not start", "n2 did not start"]);
}

#[test]
fn a_node_started_by_hand_does_not_look_at_its_stdin() {
    let mut cluster = Cluster::prepare("stdin", 1);
    let face = (*cluster.nodes[0]).clone();
    let mut command = Command::new(ANABRANCH);
    command
        .args(["node", "--json", "--config"])
        .arg(&face.config)
        .stdin(Stdio::piped());
    let mut node = Process::start_with_stdin("n1", &mut command);
    node.stdout.next().unwrap();
    node.stdin().write_all(b"quit\n").unwrap();
    node.close_stdin();
    face.increment("count", "a", 1);
    // Told to end, it ends in order, and what it took is there the next time.
    node.terminate();
    let ended = node.wait();
    assert!(ended.stderr.contains("stopping: SIGTERM"), "{ended}");
    assert_eq!(
        (ended.code, ended.stdout.lines().count()),
        (Some(0), 1),
        "{ended}"
    );
    cluster.nodes[0].start_ready();
    assert_eq!(face.count("count", "a"), 1);
}

#[test]
fn nobody_reading_its_stdout_does_not_end_the_cluster() {
    for (name, redirect) in [("closed", "| head -n 1"), ("full", ">/dev/full")] {
        let dir = TempDir::new(&format!("up-stdout-{name}"));
        let path = dir.path().to_str().unwrap();
        let script = format!("{ANABRANCH} up --json --nodes 3 --dir {path} {redirect}");
        let mut shell = Process::start("sh", Command::new("sh").args(["-c", &script]));
        shell.stderr.until("the cluster goes on");
        // All three are there and agree, whoever reads what.
        let agree = wait_for("three nodes", || {
            let verify = anabranch(["verify", "--dir", path, "--within", "30s"]);
            (verify.code == Some(0)).then_some(verify.stdout)
        });
        assert!(agree.contains("3 nodes agree"), "{agree}");
        let up = up_in(path);
        assert!(is_running(up));
        let said = shell.stderr.text();
        assert_eq!(said.matches("the cluster goes on").count(), 1, "{said}");
        signal(up, "TERM");
        wait_for("its end", || (!is_running(up)).then_some(()));
        shell.wait();
        anabranch(["verify", "--dir", path, "--within", "0s"]).failed(exit::UNREACHABLE, &[]);
    }
}

/// The process of the `up` in a directory: the one whose lock it is.
fn up_in(dir: &str) -> u32 {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_up = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
        words.get(1) == Some(&&b"up"[..]) && words.contains(&dir.as_bytes())
    };
    pids.find(is_up).expect("it runs")
}

#[test]
fn it_waits_for_the_nodes_of_one_that_was_killed() {
    let dir = TempDir::new("up-killed-again");
    let mut up = Up::start(dir.path(), 3);
    up.nodes[2].face.increment("count", "a", 1);
    // Again and again at once: what is left of the one before is about to go.
    for _ in 0..3 {
        up.process.kill();
        up = Up::start(dir.path(), 3);
    }
    assert_eq!(up.nodes[2].face.count("count", "a"), 1);
}

#[test]
fn a_node_whose_address_was_changed_is_found_where_it_is() {
    let dir = TempDir::new("up-moved");
    let mut up = Up::start(dir.path(), 1);
    let face = up.nodes[0].face.clone();
    up.process.terminate();
    up.process.wait().done();
    let moved = ports::take().to_string();
    let text = fs::read_to_string(&face.config).unwrap();
    fs::write(&face.config, text.replace(&face.http, &moved)).unwrap();
    let mut up = Up::start(dir.path(), 1);
    assert_eq!(up.nodes[0].face.http, moved);
    let path = dir.path().to_str().unwrap();
    anabranch([
        "update", "count", "a", "incr", "1", "--type", "gcounter", "--dir", path,
    ])
    .done();
    let status = anabranch(["status", "--dir", path]).done();
    assert!(status.contains(&moved), "{status}");
    up.process.terminate();
    up.process.wait().done();

    // What a newer version keeps is not for this one.
    let file = dir.write("cluster.json", r#"{"format":2}"#);
    let file = file.to_str().unwrap();
    for args in [["up", "--nodes", "1"].as_slice(), &["status"], &["verify"]] {
        anabranch(args.iter().chain(&["--dir", path])).failed(exit::NEWER_FORMAT, &[file, "newer version"]);
    }
    // Without it, what is there is nobody's to give another identity.
    fs::remove_file(file).unwrap();
    let key = dir.join("n1/node.key");
    let before = fs::read(&key).unwrap();
    anabranch(["up", "--nodes", "1", "--dir", path])
        .failed(exit::CONFIG, &["cluster.json is missing", "nothing was changed"]);
    assert_eq!(fs::read(&key).unwrap(), before);
}

#[test]
fn verify_compares_those_that_have_not_left() {
    let dir = TempDir::new("up-left");
    let mut up = Up::start(dir.path(), 3);
    up.nodes[2].face.increment("count", "a", 1);
    agreed(up.faces());
    up.nodes[2].face.run(["leave"]).done();
    // To start it again would undo what was asked for.
    up.process.stderr.until("n3 has left the cluster");
    let said = up.process.stderr.text();
    assert!(
        !said.contains("n3 has ended") && !said.contains("To start it again"),
        "{said}"
    );
    let verify = |more: &[&str]| {
        let args = ["verify", "--dir", dir.path().to_str().unwrap()];
        anabranch(args.iter().chain(more))
    };
    let ended = verify(&[]);
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(ended.stdout.contains("2 nodes agree"), "{ended}");
    assert!(ended.stderr.contains("n3 has left the cluster"), "{ended}");
    let said: serde_json::Value = serde_json::from_str(&verify(&["--json"]).done()).unwrap();
    assert_eq!(
        (&said["nodes"], &said["left"][0]),
        (&2.into(), &"n3".into()),
        "{said}"
    );
    // One that is simply dead is missing.
    signal(up.nodes[1].pid, "KILL");
    wait_for("its end", || (!is_running(up.nodes[1].pid)).then_some(()));
    verify(&["--within", "0s"]).failed(exit::UNREACHABLE, &[&up.nodes[1].face.http]);
}

/// A process that is nobody's child.
struct KilledOnDrop(u32);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        signal(self.0, "KILL");
    }
}
