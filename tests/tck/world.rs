//! Two nodes of one cluster, a scripted function beside each, and callers: what the lines of a script do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tonic::Status;

use super::dialect::{ACTIONS, Dialect, Speaks, service};
use super::function::{Function, Next};
use super::notation::{Term, read, text};
use super::script::Case;
use crate::ingress::own;
use crate::support::calls::{Call, Calls, Came};
use crate::support::cluster::Cluster;
use crate::support::grpc::Grpc;
use crate::support::http::{self, Reply};
use crate::support::{PATIENCE, ports, wait_for};

/// By this header callers say what they have seen, and hear it.
const SESSION: &str = "anabranch-session";
/// How long a caller in a hurry waits.
const HURRY: &str = "2S";

/// Two nodes with a scripted function beside each, and their callers.
pub struct World {
    runtime: Runtime,
    dialect: Dialect,
    pub cluster: Cluster,
    functions: Vec<Function>,
    callers: Vec<Calls>,
    ingress: Vec<SocketAddr>,
    /// What callers have seen.
    seen: Option<String>,
    key: String,
    /// The service of lines that name none.
    service: &'static str,
    calls: BTreeMap<String, Call>,
    http: Option<JoinHandle<Reply>>,
}

/// Says where it was, if a line fails.
struct At<'a>(&'a Case, &'a str, &'a str, &'a str);

impl Drop for At<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let At(case, speaks, place, line) = self;
            eprintln!("in {:?} for {speaks}, at {place}: {line}", case.name);
        }
    }
}

impl World {
    pub fn start(speaks: Speaks) -> World {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let dialect = Dialect::of(speaks);
        let mut cluster = Cluster::prepare(&format!("tck-{}", speaks.name()), 2);
        let ingress: Vec<SocketAddr> = cluster.nodes.iter().map(|_| ports::take()).collect();
        let mut functions: Vec<Function> = ingress
            .iter()
            .map(|_| Function::start(&runtime, &dialect))
            .collect();
        for ((node, function), ingress) in cluster.nodes.iter().zip(&functions).zip(&ingress) {
            let address = function.scripted.address;
            let sections =
                format!("[function]\naddress = \"{address}\"\n[ingress]\nlisten = \"{ingress}\"\n[http]\n");
            node.configure("[http]\n", &sections);
        }
        cluster.start_all();
        for (node, function) in cluster.nodes.iter_mut().zip(&mut functions) {
            while function.question.is_none() {
                function.pump(&runtime, &dialect, "the question what it is");
            }
            node.process().stderr.until("discovered");
            node.wait_for_links(1);
        }
        let callers = ingress.iter().map(|ingress| Calls::connect(&runtime, *ingress));
        World {
            callers: callers.collect(),
            runtime,
            dialect,
            cluster,
            functions,
            ingress,
            seen: None,
            key: String::new(),
            service: "Model",
            calls: BTreeMap::new(),
            http: None,
        }
    }

    /// Runs a case: its entities' key is its own.
    pub fn run(&mut self, number: usize, case: &Case) {
        self.key = format!("case-{number}");
        self.service = service(&case.service).expect(&case.service);
        for (place, line) in &case.lines {
            let _at = At(case, self.dialect.speaks.name(), place, line);
            self.line(line);
        }
        let _at = At(case, self.dialect.speaks.name(), "its end", "");
        let open: Vec<&String> = self.calls.keys().collect();
        assert!(
            open.is_empty() && self.http.is_none(),
            "calls that nobody heard: {open:?}"
        );
        for function in &mut self.functions {
            let left_over = function.left_over(&self.dialect, &self.key);
            assert_eq!(left_over, None);
            assert!(function.reports.is_empty(), "{:?}", function.reports);
        }
    }

    fn line(&mut self, line: &str) {
        let (node, rest) = match line.strip_prefix("b ") {
            Some(rest) => (1, rest),
            None => (0, line),
        };
        let (first, behind) = split(rest);
        let (name, other) = first.split_once('@').unwrap_or((first, ""));
        if let Some(service) = service(name) {
            let key = self.key.clone();
            if !other.is_empty() {
                self.key = format!("{key}-{other}");
            }
            self.of_service(node, service, behind);
            self.key = key;
            return;
        }
        match first {
            "with" => self.service = service(behind).expect(behind),
            "call" => self.call("", node, self.service, behind, &[]),
            "hurried" => self.call("", node, self.service, behind, &hurry()),
            "answer" => self.answered("", behind),
            "fails" => self.failed("", behind),
            "unanswered" => self.unanswered(""),
            "open" => {
                let (name, what) = split(behind);
                self.call(name, node, self.service, what, &[]);
            }
            "send" => {
                let (name, what) = split(behind);
                self.send(name, what);
            }
            "done" => self.calls[behind].done(),
            "leave" => drop(self.calls.remove(behind).expect("a call")),
            "shows" => {
                let (name, what) = split(behind);
                self.shows(name, what);
            }
            "silent" => self.unanswered(behind),
            "over" => match split(behind) {
                (name, "") => assert_eq!(self.came(name), Came::Over(0, String::new())),
                (name, what) => self.failed(name, what),
            },
            "http" => self.http(node, behind),
            "status" => self.status(behind),
            "holds" => {
                let kind = self.service.to_lowercase();
                assert_eq!(
                    self.cluster.nodes[node].count(&kind, &self.key).to_string(),
                    behind
                );
            }
            "reported" => self.reported(node, behind),
            "asked" => self.asked(node, behind),
            "reflects" => super::proxy::reflects(self.ingress[node]),
            "cut" => self.cut(node),
            "down" => self.cluster.nodes[1].kill(),
            _ => self.of_service(node, self.service, rest),
        }
    }

    /// Its function's connections end, and it is found again.
    fn cut(&mut self, node: usize) {
        let function = &mut self.functions[node];
        function.question = None;
        function.scripted.cut();
        while function.question.is_none() {
            function.pump(&self.runtime, &self.dialect, "the question what it is");
        }
        let mut client = Grpc::connect(self.ingress[node], &own());
        let question = json!({"service": ""});
        wait_for("the function", || {
            let health = client.call("grpc.health.v1.Health/Check", question.clone());
            (health == json!({"status": "SERVING"})).then_some(())
        });
    }

    /// A line about the function.
    fn of_service(&mut self, node: usize, service: &'static str, line: &str) {
        let (verb, rest) = split(line);
        match verb {
            "hears" => {
                for term in read(rest) {
                    self.hears(node, service, &term);
                }
            }
            "says" => self.says(node, service, rest),
            "call" => self.call("", node, service, rest, &[]),
            "hurried" => self.call("", node, service, rest, &hurry()),
            "fails" => self.failed("", rest),
            "breaks" => {
                let (code, text) = split(rest);
                let status = Status::new(code.parse::<i32>().unwrap().into(), text);
                self.functions[node].fail(service, &self.key, status);
            }
            "stops" => self.functions[node].end(service, &self.key),
            "run" => self.exchange(node, service, rest),
            "sleeps" => self.sleeps(node, service),
            other => panic!("{other:?} is no line"),
        }
    }

    // Calls.

    fn call(
        &mut self,
        name: &str,
        node: usize,
        service: &str,
        what: &str,
        headers: &[(&'static str, String)],
    ) {
        let (path, words) = match split(what) {
            (path, words) if path.contains('/') => (path.to_owned(), words),
            _ => (format!("{service}/{}", method(service)), what),
        };
        let seen = self.seen.iter().map(|seen| (SESSION, seen.clone()));
        let headers: Vec<_> = seen.chain(headers.iter().cloned()).collect();
        let call = self.callers[node].begin(&self.runtime, &format!("/tck.{path}"), &headers);
        let before = self.calls.insert(name.to_owned(), call);
        assert!(before.is_none(), "a call of that name is under way");
        let is_fed = ["Work/In", "Work/Both"].contains(&path.as_str());
        if !is_fed {
            self.send(name, words);
            self.calls[name].done();
        }
    }

    fn send(&mut self, name: &str, words: &str) {
        let request = json!({"id": self.key, "text": text(&read(words))});
        let message = self.dialect.payload("Request", request);
        self.calls[name].say(message);
    }

    /// What comes of a call next.
    fn came(&mut self, name: &str) -> Came {
        let call = self
            .calls
            .get_mut(name)
            .unwrap_or_else(|| panic!("there is no call {name:?}"));
        loop {
            let coming = async { tokio::time::timeout(PATIENCE, call.came.recv()).await };
            let came = self
                .runtime
                .block_on(coming)
                .expect("a call goes on")
                .expect("a call goes on");
            match came {
                Came::Headers(headers) => {
                    let seen = headers.into_iter().find(|(name, _)| name == SESSION);
                    self.seen = seen.map(|(_, seen)| seen).or(self.seen.take());
                }
                Came::Over(..) => {
                    self.calls.remove(name);
                    return came;
                }
                came => return came,
            }
        }
    }

    fn shows(&mut self, name: &str, words: &str) {
        let response = json!({"text": text(&read(words))});
        let expected = self.dialect.payload("Response", response);
        let came = self.came(name);
        assert_eq!(came, Came::Message(expected.into()), "and not {words:?}");
    }

    fn answered(&mut self, name: &str, words: &str) {
        self.shows(name, words);
        assert_eq!(self.came(name), Came::Over(0, String::new()));
    }

    fn failed(&mut self, name: &str, what: &str) {
        let (code, words) = split(what);
        let Came::Over(is, why) = self.came(name) else {
            panic!("it is answered, and does not fail");
        };
        assert_eq!(is.to_string(), code, "{why}");
        // `..` stands for our own words, which may change.
        match words.strip_suffix("..") {
            Some(part) => assert!(why.contains(part), "{why}"),
            None => assert_eq!(why, words),
        }
    }

    fn unanswered(&mut self, name: &str) {
        let call = self.calls.get_mut(name).expect("a call");
        while let Ok(came) = call.came.try_recv() {
            assert!(matches!(came, Came::Headers(_)), "too soon: {came:?}");
        }
    }

    // Over HTTP.

    fn http(&mut self, node: usize, what: &str) {
        let (path, body) = split(what);
        let (at, path) = (self.ingress[node].to_string(), path.replace("KEY", &self.key));
        let (body, seen) = (body.replace("KEY", &self.key), self.seen.clone());
        self.http = Some(std::thread::spawn(move || {
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(seen.iter().map(|seen| (SESSION, seen.as_str())));
            http::request(&at, "POST", &path, &headers, &body).unwrap()
        }));
    }

    fn status(&mut self, what: &str) {
        let (status, body) = split(what);
        let reply = self.http.take().expect("a request").join().unwrap();
        assert_eq!(
            (reply.status.to_string().as_str(), reply.body.as_str()),
            (status, body)
        );
        let mut fields = reply.headers.lines().filter_map(|line| line.split_once(": "));
        let seen = fields.find(|(name, _)| *name == SESSION);
        self.seen = seen.map(|(_, seen)| seen.to_owned()).or(self.seen.take());
    }

    // The function.

    fn hears(&mut self, node: usize, service: &'static str, term: &Term) {
        let is_action = ACTIONS.contains(&service);
        let expected: Vec<Next> = match term.word.as_str() {
            "end" => vec![Next::End],
            "gone" => vec![Next::Said(json!("gone"))],
            _ if is_action => {
                let told = self.dialect.told_action(service, &self.key, term);
                told.iter()
                    .map(|value| self.canonical("ActionCommand", value))
                    .collect()
            }
            _ => {
                let told = self.dialect.told(service, &self.key, term);
                told.iter()
                    .map(|value| self.canonical("StreamIn", value))
                    .collect()
            }
        };
        for expected in expected {
            let wanted = format!("{expected:?}");
            let is_end = term.word == "gone";
            let function = &mut self.functions[node];
            let next = function.next(&self.runtime, &self.dialect, service, &self.key, &wanted, is_end);
            // Who gives a stream up ends what he says and resets it: HTTP/2 may say either first.
            if is_end && next == Next::End {
                continue;
            }
            assert_eq!(
                next, expected,
                "{service} is told this, and not what it should be"
            );
        }
    }

    fn canonical(&self, message: &str, value: &Value) -> Next {
        Next::Said(self.dialect.canonical(message, value))
    }

    fn says(&mut self, node: usize, service: &str, what: &str) {
        self.functions[node].say(&self.dialect, service, &self.key, &read(what));
    }

    /// A command and its answer; the function may have to be told of its entity before.
    fn exchange(&mut self, node: usize, service: &'static str, line: &str) {
        let (command, said) = line
            .split_once(": ")
            .expect("a command, a colon, and what is said to it");
        let (words, init): (Vec<Term>, Vec<Term>) = read(command)
            .into_iter()
            .partition(|term| !["init", "whole", "delta"].contains(&term.word.as_str()));
        let words = text(&words);
        self.call("", node, service, &words, &[]);
        for term in &init {
            self.hears(node, service, term);
        }
        let command = read(&format!("command({words})"));
        self.hears(node, service, &command[0]);
        self.says(node, service, said);
        let reply = read(said).into_iter().find(|term| term.word == "reply");
        self.answered("", &text(&reply.expect("a reply").within));
    }

    /// Passivated: where discovery has no word for that, it begins anew since it failed.
    fn sleeps(&mut self, node: usize, service: &'static str) {
        if self.dialect.speaks == Speaks::Early {
            self.call("", node, service, "again", &[]);
            self.hears(node, service, &read("command(again)")[0]);
            self.says(node, service, "fail(again)");
            self.failed("", "2 again");
        }
        self.hears(node, service, &read("end")[0]);
    }

    /// Its author is told that it did something wrong.
    fn reported(&mut self, node: usize, what: &str) {
        let function = &mut self.functions[node];
        while function.reports.is_empty() {
            function.pump(&self.runtime, &self.dialect, what);
        }
        let report = function.reports.remove(0);
        assert!(report.contains(what), "{report}");
    }

    fn asked(&mut self, node: usize, what: &str) {
        let question = self.functions[node].question.as_ref().expect("it was asked");
        let version = format!("{} {}", number(&question["major"]), number(&question["minor"]));
        assert_eq!(version, what, "{question}");
        let mut types: Vec<&str> = question["types"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let mut expected = self.dialect.speaks.types().to_vec();
        // A node does not know yet which version of it is there.
        if self.dialect.speaks != Speaks::Kalix {
            expected = [Speaks::Cloudstate.types(), Speaks::Early.types()].concat();
        }
        types.sort_unstable();
        expected.sort_unstable();
        expected.dedup();
        assert_eq!(types, expected);
        assert_eq!(question["proxyName"], "anabranch");
    }
}

/// The method of a service that lines mean that name none.
fn method(service: &str) -> &'static str {
    match service {
        "Work" => "Unary",
        "Other" => "Call",
        _ => "Process",
    }
}

fn hurry() -> [(&'static str, String); 1] {
    [("grpc-timeout", HURRY.to_owned())]
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

/// The first word, and the rest.
fn split(line: &str) -> (&str, &str) {
    line.split_once(' ').unwrap_or((line, ""))
}
