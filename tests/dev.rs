//! `dev`: a function's process beside each node, and that nothing of it is left, whatever ends what.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::support::command::{anabranch, anabranch_in};
use super::support::dev::Dev;
use super::support::face::Face;
use super::support::kalix::{self, meeting};
use super::support::ports;
use super::support::process::{Process, is_running, signal};
use super::support::temp::TempDir;
use super::support::up::Up;
use super::support::{ANABRANCH, exit, http, wait_for};

/// Prints what it was given and serves its port, with a child in its group that ends only when it is killed.
const FUNCTION: &str = "import os,socket,subprocess
child=subprocess.Popen(['sh','-c','trap \"\" TERM; echo deaf >&2; while :; do sleep 1000; done'])
s=socket.create_server((os.environ['HOST'],int(os.environ['PORT'])))
print('serving',os.environ['HOST'],os.environ['PORT'],os.getpid(),child.pid,os.getcwd(),flush=True)
while True: s.accept()[0].close()
";

/// A function as it has said of itself.
struct Serving {
    node: String,
    host: String,
    port: u16,
    pid: u32,
    child: u32,
    directory: PathBuf,
}

/// Waits for the next function that says that it serves.
fn serving(dev: &mut Process) -> Serving {
    let line = dev.stderr.until(" | serving ");
    let (node, said) = line.split_once(" | serving ").unwrap();
    let words: Vec<&str> = said.split(' ').collect();
    Serving {
        node: node.to_string(),
        host: words[0].to_string(),
        port: words[1].parse().unwrap(),
        pid: words[2].parse().unwrap(),
        child: words[3].parse().unwrap(),
        directory: words[4].into(),
    }
}

fn servings(dev: &mut Process, count: usize) -> Vec<Serving> {
    let mut all: Vec<Serving> = (0..count).map(|_| serving(dev)).collect();
    all.sort_by(|a, b| a.node.cmp(&b.node));
    all
}

/// Waits until nothing of it runs.
#[track_caller]
fn gone(serving: &Serving) {
    for pid in [serving.pid, serving.child] {
        wait_for("the end of the function and its child", || {
            (!is_running(pid)).then_some(())
        });
    }
}

#[test]
fn a_function_runs_beside_each_node_and_all_of_it_ends_in_order() {
    let dir = TempDir::new("dev-order");
    let mut dev = Dev::start(&dir, 2, &["python3", "-c", FUNCTION]);
    let functions = servings(&mut dev.process, 2);
    for (function, node) in functions.iter().zip(dev.nodes()) {
        assert_eq!(
            (function.node.as_str(), function.host.as_str()),
            (node.name.as_str(), "127.0.0.1")
        );
        assert_eq!(function.directory, dir.path());
        assert_eq!(Some(function.port), node.function);
        assert!(is_running(function.child));
        // The node's own log is where `up` has it, with nothing of the function in it.
        node.face.wait_until_ready();
        let log = fs::read_to_string(node.face.config.with_file_name("node.log")).unwrap();
        assert!(log.contains("started") && !log.contains("serving"), "{log}");
        assert!(
            std::net::TcpStream::connect(node.ingress.unwrap()).is_ok(),
            "nobody listens at the ingress"
        );
    }
    let pids: Vec<u64> = dev
        .nodes()
        .iter()
        .map(|node| node.face.status()["pid"].as_u64().unwrap())
        .collect();
    dev.process.terminate();
    let ended = dev.process.wait();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended}");
    functions
        .iter()
        .for_each(|function| assert!(!is_running(function.pid) && !is_running(function.child)));
    assert!(pids.iter().all(|pid| !is_running(u32::try_from(*pid).unwrap())));
}

#[test]
fn a_function_that_is_killed_is_started_again_at_its_port() {
    let dir = TempDir::new("dev-crash");
    let mut dev = Dev::start(&dir, 1, &["python3", "-c", FUNCTION]);
    let first = serving(&mut dev.process);
    signal(first.pid, "KILL");
    let said = dev.process.stderr.until("started again");
    assert!(said.starts_with("n1 | ") && said.contains("signal: 9"), "{said}");
    let second = serving(&mut dev.process);
    assert_eq!(first.port, second.port);
    gone(&first);
    assert!(is_running(second.pid));
    dev.process.terminate();
    dev.process.wait();
    gone(&second);
}

#[test]
fn nothing_is_left_when_dev_is_killed() {
    let dir = TempDir::new("dev-killed");
    let mut dev = Dev::start(&dir, 2, &["python3", "-c", FUNCTION]);
    let functions = servings(&mut dev.process, 2);
    dev.process.kill();
    functions.iter().for_each(gone);
    // What it has left in the way goes by itself: the next one waits for it.
    let mut dev = Dev::start(&dir, 2, &["python3", "-c", FUNCTION]);
    let again = servings(&mut dev.process, 2);
    let ports = |all: &[Serving]| all.iter().map(|one| one.port).collect::<Vec<_>>();
    assert_eq!(ports(&again), ports(&functions));
}

#[test]
fn nothing_is_left_when_a_node_is_killed_and_by_hand_it_serves_the_same() {
    let dir = TempDir::new("dev-node-killed");
    let mut dev = Dev::start(&dir, 2, &["python3", "-c", FUNCTION]);
    let functions = servings(&mut dev.process, 2);
    let node = dev.nodes()[1].clone();
    node.face.wait_until_ready();
    signal(
        u32::try_from(node.face.status()["pid"].as_u64().unwrap()).unwrap(),
        "KILL",
    );
    let typed = dev.process.stderr.until("To start it again: ");
    let typed = typed.rsplit("To start it again: ").next().unwrap().to_string();
    gone(&functions[1]);
    assert!(is_running(functions[0].pid) && is_running(functions[0].child));

    // From another directory, too.
    let mut by_hand = Process::start(
        "n2",
        Command::new("sh")
            .args(["-c", &format!("exec {typed}")])
            .current_dir("/"),
    );
    let ready = by_hand.stdout.next().unwrap();
    assert!(
        ready.ends_with(&format!(", ingress {}", node.ingress.unwrap())),
        "{ready}"
    );
    let again = serving(&mut by_hand);
    assert_eq!((again.node.as_str(), again.port), ("n2", functions[1].port));
    assert_eq!(again.directory, dir.path());
    by_hand.terminate();
    by_hand.wait();
    gone(&again);
    assert!(is_running(functions[0].pid));
}

#[test]
fn a_function_that_ends_at_once_is_tried_again_ever_more_slowly() {
    let dir = TempDir::new("dev-backoff");
    let mut dev = Dev::start(
        &dir,
        1,
        &["sh", "-c", "echo out; echo err >&2; printf no-end; exit 3"],
    );
    for wait in ["250 ms", "500 ms", "1000 ms"] {
        // Each of its two outputs keeps its order.
        let mut said: Vec<String> = (0..3).map(|_| dev.process.stderr.until("n1 | ")).collect();
        said.sort_by_key(|line| line == "n1 | err");
        assert_eq!(said, ["n1 | out", "n1 | no-end", "n1 | err"]);
        let said = dev.process.stderr.until("n1 | ");
        assert!(said.contains("exit status: 3") && said.contains(wait), "{said}");
    }
    dev.process.terminate();
    assert_eq!(dev.process.wait().code, Some(0));
}

#[test]
fn what_cannot_be_started_is_told_at_once() {
    let dir = TempDir::new("dev-usage");
    let made = dir.join("cluster");
    let path = made.to_str().unwrap();
    anabranch(["dev", "--dir", path]).failed(exit::USAGE, &["anabranch dev -- npm start"]);
    anabranch(["dev", "--dir", path, "--"]).failed(exit::USAGE, &["anabranch dev -- npm start"]);
    anabranch(["dev", "--dir", path, "npm", "start"])
        .failed(exit::USAGE, &["anabranch dev [OPTIONS] -- CMD"]);
    anabranch(["dev", "--dir", path, "--", "no-such-command"])
        .failed(exit::USAGE, &["\"no-such-command\"", "PATH"]);
    let file = dir.write("plain.sh", "echo");
    anabranch_in(dir.path(), ["dev", "--dir", path, "--", "./plain.sh"]).failed(
        exit::USAGE,
        &[file.parent().unwrap().to_str().unwrap(), "not executable"],
    );
    assert!(!made.exists(), "nothing was to be made");
    // It is there, but what would run it is not.
    let script = dir.write("odd.sh", "#!/no/such/shell\n");
    Command::new("chmod").arg("+x").arg(&script).status().unwrap();
    anabranch_in(dir.path(), ["dev", "--dir", path, "--", "./odd.sh"])
        .failed(exit::CONFIG, &["./odd.sh", "No such file", "n1 did not start"]);
}

#[test]
fn its_directory_is_resumed_by_it_and_by_up() {
    let dir = TempDir::new("dev-resume");
    let mut dev = Dev::start(&dir, 1, &["python3", "-c", FUNCTION]);
    let first = serving(&mut dev.process);
    let node = dev.nodes()[0].clone();
    node.face.wait_until_ready();
    node.face.increment("count", "a", 3);
    dev.process.terminate();
    dev.process.wait();

    let mut up = Up::start(&dir.join("cluster"), 1);
    assert_eq!(up.nodes[0].face.count("count", "a"), 3);
    assert_eq!(
        (&up.nodes[0].face.quic, &up.nodes[0].face.http),
        (&node.face.quic, &node.face.http)
    );
    // Its ports are not taken by anybody.
    assert!(std::net::TcpListener::bind(node.ingress.unwrap()).is_ok());
    assert!(std::net::TcpListener::bind(("127.0.0.1", first.port)).is_ok());
    up.process.terminate();
    up.process.wait().done();

    let mut dev = Dev::start(&dir, 1, &["python3", "-uc", FUNCTION]);
    let again = serving(&mut dev.process);
    assert_eq!(again.port, first.port);
    assert_eq!(dev.nodes()[0].ingress, node.ingress);
    anabranch(["dev", "--dir", dir.join("cluster").to_str().unwrap(), "--", "sh"])
        .failed(exit::IN_USE, &["in use"]);
    dev.process.terminate();
    dev.process.wait();
    // What holds one of its ports is named.
    let taken = std::net::TcpListener::bind(node.ingress.unwrap()).unwrap();
    anabranch(["dev", "--dir", dir.join("cluster").to_str().unwrap(), "--", "sh"]).failed(
        exit::ADDRESS_IN_USE,
        &[&node.ingress.unwrap().to_string(), "ingress", "n1"],
    );
    drop(taken);
}

#[test]
fn a_node_of_ones_own_runs_what_it_is_configured_to() {
    let dir = TempDir::new("dev-node");
    let mut up = Up::start(&dir.join("cluster"), 1);
    let face = up.nodes[0].face.clone();
    up.process.terminate();
    up.process.wait().done();
    let config = fs::read_to_string(&face.config).unwrap();
    let ingress = ports::take();
    let with = |function: &str| {
        let text = format!("{config}\n[ingress]\nlisten = \"{ingress}\"\n[function]\n{function}\n");
        fs::write(&face.config, text).unwrap();
    };
    let run = |face: &Face| {
        let mut command = Command::new(ANABRANCH);
        command.args(["node", "--json", "--config"]).arg(&face.config);
        Process::start("n1", &mut command)
    };
    with("command = [\"no-such-command\"]");
    let line = fs::read_to_string(&face.config).unwrap().lines().count();
    run(&face)
        .wait()
        .failed(exit::CONFIG, &[&format!("node.toml:{line}: "), "no-such-command"]);

    dir.write("cluster/n1/app/function.py", FUNCTION);
    with("command = [\"python3\", \"function.py\"]\ndirectory = \"app\"");
    let taken = std::net::TcpListener::bind(ingress).unwrap();
    run(&face).wait().failed(
        exit::ADDRESS_IN_USE,
        &["ingress.listen", &ingress.to_string(), "node.toml:"],
    );
    drop(taken);
    let mut node = run(&face);
    let ready: serde_json::Value = serde_json::from_str(&node.stdout.next().unwrap()).unwrap();
    assert_eq!(ready["ingress"], ingress.to_string());
    let function = serving(&mut node);
    assert_eq!(
        (function.node.as_str(), function.directory.as_path()),
        ("n1", dir.join("cluster/n1/app").as_path())
    );
    assert!(http::get(&face.http, "/readyz").is_ok());
    node.terminate();
    assert_eq!(node.wait().code, Some(0));
    gone(&function);
}

/// The command by itself: a minder, as a node starts it.
#[test]
fn a_minder_ends_as_its_command_does_and_ends_it_with_its_stdin() {
    let mind = |script: &str| {
        let mut command = Command::new(ANABRANCH);
        command
            .args(["mind-function", "--", "sh", "-c", script])
            .stdin(std::process::Stdio::piped());
        Process::start_with_stdin("minder", &mut command)
    };
    assert_eq!(mind("exit 7").wait().code, Some(7));
    assert_eq!(mind("kill -9 $$").wait().code, Some(137));
    let mut minder = mind("sleep 1000 & echo $!; wait");
    let child: u32 = minder.stdout.next().unwrap().parse().unwrap();
    assert!(is_running(child));
    minder.close_stdin();
    assert_eq!(minder.wait().code, Some(143));
    assert!(!is_running(child));
    // A child that outlives its parent ends with the group.
    let mut minder = mind("sleep 1000 & echo $!");
    let child: u32 = minder.stdout.next().unwrap().parse().unwrap();
    assert_eq!(minder.wait().code, Some(0));
    assert!(!is_running(child));
    let missing = Path::new("/no/such/command");
    let ended = Process::start(
        "minder",
        Command::new(ANABRANCH).args(["mind-function", "--"]).arg(missing),
    )
    .wait();
    assert_eq!(ended.code, Some(127), "{ended}");
}

#[test]
fn what_is_no_function_is_named_to_whoever_started_it() {
    let dir = TempDir::new("dev-stranger");
    let server = "exec python3 -m http.server $PORT --bind $HOST";
    let mut dev = Dev::start(&dir, 1, &["sh", "-c", server]);
    let remark = dev.process.stderr.until("does not say what it is");
    assert!(remark.starts_with("n1 | (127.0.0.1:"), "{remark}");
}

#[test]
fn what_ends_before_it_says_what_it_is_is_not_taken_for_a_stranger() {
    let dir = TempDir::new("dev-ends");
    let function = "import os,socket,struct\ns=socket.socket(); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)
s.bind((os.environ['HOST'],int(os.environ['PORT']))); s.listen()
while True:
 c=s.accept()[0]; c.recv(1000); c.setsockopt(socket.SOL_SOCKET,socket.SO_LINGER,struct.pack('ii',1,0)); c.close()";
    let mut dev = Dev::start(&dir, 1, &["python3", "-c", function]);
    let remark = dev.process.stderr.until("what it is");
    assert!(remark.contains("no function is there yet"), "{remark}");
}

/// As samples do that are of before PORT was asked for.
#[test]
fn a_function_that_listens_where_it_likes_is_found_there() {
    let Some(meeting) = meeting() else { return };
    let port = ports::take().port();
    let command = format!("HOST=0.0.0.0 PORT={port} exec npm start --silent");
    let mut dev = kalix::Dev::start_by("dev-elsewhere", meeting, 1, &[], &["sh", "-c", &command]);
    let said = dev.process.stderr.until("was found at");
    assert!(
        said.starts_with("n1 | ") && said.contains(&format!("127.0.0.1:{port}:")),
        "{said}"
    );
    let mut client = dev.clients().remove(0);
    let by = json!({"id": "x", "by": 2});
    assert_eq!(client.call("Score/Change", by), json!({"value": 2}));
    // And again when it has been started again.
    client.fail("Score/Exit", json!({"id": "x"}));
    dev.process.stderr.until("was found at");
    wait_for("the function", || {
        let answer = client.ask("Score/Get", &[json!({"id": "x"})]);
        (answer.messages == [json!({"value": 2})]).then_some(())
    });
}

#[test]
fn functions_that_share_a_port_are_told_so_and_none_is_taken_for_another() {
    let dir = TempDir::new("dev-insists");
    let port = ports::take().port();
    // It goes on without its port, as some do, and would share it.
    let function = format!(
        "import socket\ns=socket.socket(); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEPORT,1)
s.bind(('127.0.0.1',{port})); s.listen()\nwhile True: s.accept()[0].close()"
    );
    let mut dev = Dev::start(&dir, 2, &["python3", "-c", &function]);
    for _ in 0..2 {
        let said = dev.process.stderr.until("has not opened its port");
        let both = format!("it listens at 127.0.0.1:{port}, and so does another process");
        assert!(said.contains("HOST and PORT") && said.contains(&both), "{said}");
    }
}
