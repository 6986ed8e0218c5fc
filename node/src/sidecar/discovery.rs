//! Looking for a function until it is found, and again when it is gone.
//!
//! Contract: what is published can be served; a function that cannot be is told why, once, and asked again when it comes back.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use super::author::Author;
use super::awake::Awake;
use super::connection::{Connection, was_cut};
use super::dialect::{self, Asked, Dialect, Unasked};
use super::function::Discovered;
use super::problem::{Class, Problem};
use super::proto::discovery::Spec;
use super::pulse;
use super::services::{Service, Services};
use super::transcode::Route;
use super::{EntityTerms, Place, Process, Served, told};
use crate::driver::Expected;
use crate::node::Node;

/// How long to wait before the function is looked for again; doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(25);
/// How long to wait at most.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// A function that has not said for so long what it is will not.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait before what does not say what it is is asked again; doubled each time.
const AGAIN_MIN: Duration = Duration::from_secs(1);
/// How long to wait for that at most.
const AGAIN_MAX: Duration = Duration::from_secs(10);
/// After so long in vain somebody may want to know.
const NOTED_AFTER: Duration = Duration::from_secs(10);

/// What the names of methods begin with that take something away.
const HARMFUL: [&str; 8] = [
    "clear", "delete", "destroy", "drop", "exit", "purge", "remove", "reset",
];

/// A place that is no function's should say so soon.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether a function is there: it is asked what it will be asked again, by whoever has this ingress.
pub async fn is_function(address: SocketAddr, dev: bool, ingress: SocketAddr) -> bool {
    let asked = asked(dev, ingress);
    let asking = async {
        let connection = Connection::open(address).await.ok()?;
        match dialect::ask(&connection, &asked).await {
            Err(Unasked::Unsaid(_)) => None,
            // It is one, though it may be none that can be served.
            Ok(_) | Err(Unasked::Refused(..)) => Some(()),
        }
    };
    let asked = tokio::time::timeout(PROBE_TIMEOUT, asking).await;
    asked.is_ok_and(|found| found.is_some())
}

fn asked(dev: bool, ingress: SocketAddr) -> Asked {
    Asked {
        dev,
        ingress: Some((ingress.ip().to_string(), ingress.port())),
    }
}

/// What is served.
#[derive(Clone, Debug, Default)]
pub(super) struct Serving {
    /// The services, once they were discovered.
    pub services: Option<Served>,
    /// Whether their function is here now.
    pub is_here: bool,
    /// Whether it is here, awake, and does not say that it is well.
    pub is_ill: bool,
    /// Whether what was there last cannot be served, as its author was told.
    pub is_refused: bool,
    /// Who wrote it, once it was discovered.
    pub author: Option<Author>,
}

impl Serving {
    /// How many services there are.
    pub fn count(&self) -> usize {
        self.services
            .as_ref()
            .map_or(0, |services| services.iter().count())
    }

    /// For people: the services, their routes, and a line to try one with.
    pub fn describe(&self, scheme: &str, ingress: SocketAddr) -> Vec<String> {
        let Some(services) = &self.services else {
            return Vec::new();
        };
        let routes = services.rules.routes();
        let mut lines = vec![format!("{ingress} serves over gRPC, and over HTTP with JSON:")];
        for service in services.iter() {
            let what = match service.is_action {
                true => "an action".to_owned(),
                false => format!("entities of kind {:?}", service.kind),
            };
            lines.push(format!("  {}, {what}", service.name));
            let own = format!("{}/", service.name);
            let routes = routes.iter().filter(|route| route.rpc.starts_with(&own));
            lines.extend(routes.map(|route| format!("    {} {}", route.verb, route.template)));
        }
        let offered: Vec<Route> = routes
            .into_iter()
            .filter(|route| !is_fed(services, route))
            .collect();
        lines.extend(try_this(&offered, scheme, ingress));
        lines
    }
}

/// Whether a route is one that nobody is meant to call.
fn is_fed(services: &Services, route: &Route) -> bool {
    let method = route.rpc.rsplit_once('/');
    let found = method.and_then(|(service, method)| services.find(service, method).ok());
    found.is_some_and(|(_, method)| method.is_fed())
}

fn try_this(routes: &[Route], scheme: &str, ingress: SocketAddr) -> Option<String> {
    let ranked = routes.iter().filter_map(|route| Some((rank(route)?, route)));
    let (_, route) = ranked.min_by_key(|(rank, _)| *rank)?;
    let verb = verb(route);
    let url = format!("{scheme}://{ingress}{}", route.path);
    // To a shell, what a query begins with is a pattern, and what is between its parameters the end of a command.
    let url = if url.contains('?') {
        format!("'{url}'")
    } else {
        url
    };
    let body = match &route.example {
        Some(example) => {
            let example = example.replace('\'', "'\\''");
            format!(" -H 'content-type: application/json' -d '{example}'")
        }
        None => String::new(),
    };
    Some(format!("Try: curl -X {verb} {url}{body}"))
}

/// The HTTP method to try a route with.
fn verb(route: &Route) -> &str {
    match (route.verb.as_str(), route.has_body) {
        ("*", true) => "POST",
        ("*", false) => "GET",
        (verb, _) => verb,
    }
}

/// How good a route is to be tried by somebody who does not know it, the best first; none where it may do harm.
fn rank(route: &Route) -> Option<u8> {
    let (_, method) = route.rpc.rsplit_once('/')?;
    let begins = |name: &&str| {
        method
            .get(..name.len())
            .is_some_and(|is| is.eq_ignore_ascii_case(name))
    };
    if route.verb == "DELETE" || HARMFUL.iter().any(begins) {
        return None;
    }
    Some(match (verb(route), route.is_streamed || route.is_any) {
        ("GET", false) => 0,
        ("HEAD" | "OPTIONS", _) => return None,
        (_, false) => 1,
        (_, true) => 2,
    })
}

/// What has not said what it is.
struct Unsaid {
    connection: Connection,
    /// Whether it is about to end, or to begin, and will say another thing.
    is_to_be: bool,
}

/// Waits before it is asked again; what follows it there is asked sooner.
async fn rest(connection: &Connection, pause: Duration) {
    sleep(AGAIN_MIN).await;
    tokio::select! {
        () = sleep(pause.saturating_sub(AGAIN_MIN)) => {}
        () = connection.ended() => {}
    }
}

/// What it takes to look for a function.
pub(super) struct Discovering {
    pub node: Node,
    pub function: Place,
    pub dev: bool,
    pub terms: EntityTerms,
    pub idle_stop: Option<Duration>,
    pub ingress: SocketAddr,
    pub remarks: mpsc::Sender<String>,
    /// What was said last.
    pub last: Mutex<String>,
    /// Held until something is known of what there is, the first time: until then it may be what a caller wants.
    pub expected: Mutex<Option<Expected>>,
    pub publish: watch::Sender<Serving>,
    pub stopped: watch::Receiver<bool>,
}

impl Discovering {
    /// Until it is told to stop.
    pub async fn run(self) {
        let mut stopped = self.stopped.clone();
        let mut pause = AGAIN_MIN;
        while !*stopped.borrow() {
            let unsaid = tokio::select! {
                connection = self.connect() => self.serve(connection).await,
                () = told(&mut stopped) => return,
            };
            let Some(Unsaid { connection, is_to_be }) = unsaid else {
                pause = AGAIN_MIN;
                continue;
            };
            tokio::select! {
                () = rest(&connection, pause) => {}
                () = told(&mut stopped) => return,
            }
            pause = if is_to_be {
                AGAIN_MIN
            } else {
                (pause * 2).min(AGAIN_MAX)
            };
        }
    }

    /// For whoever started the function, and for the log; once, where it is the same again.
    fn remark(&self, remark: String) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == remark {
            return;
        }
        let function = self.function.address();
        tracing::warn!(function, "{remark}");
        // Nobody may be listening, or too slowly: the log has it.
        let _ = self.remarks.try_send(format!("{function}: {remark}"));
        *last = remark;
    }

    /// What is wrong with it has changed. Commands are tried all the same.
    fn feels(&self, ill: Option<String>) {
        self.publish.send_modify(|serving| serving.is_ill = ill.is_some());
        match ill {
            Some(what) => self.remark(format!("the function is not well: {what}")),
            None => {
                tracing::info!(function = self.function.address(), "the function is well again");
                // It may become the same again.
                self.last.lock().unwrap_or_else(PoisonError::into_inner).clear();
            }
        }
    }

    async fn connect(&self) -> Connection {
        let (began, mut is_noted, mut pause) = (Instant::now(), false, RETRY_MIN);
        loop {
            match self.try_connect().await {
                Ok(connection) => return connection,
                Err(why) if !is_noted && began.elapsed() >= NOTED_AFTER => {
                    is_noted = true;
                    self.remark(format!("no function is there yet: {why}; still looking"));
                }
                Err(_) => {}
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    async fn try_connect(&self) -> Result<Connection, String> {
        let addresses = tokio::net::lookup_host(self.function.address())
            .await
            .map_err(|e| e.to_string())?;
        let mut last = "it has no address".to_owned();
        for address in addresses {
            match Connection::open(address).await {
                Ok(connection) => return Ok(connection),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    fn asked(&self) -> Asked {
        asked(self.dev, self.ingress)
    }

    /// Asks what is there, and serves it until it is gone; or gives it back, to be asked again.
    async fn serve(&self, connection: Connection) -> Option<Unsaid> {
        let asked = self.asked();
        let mut stopped = self.stopped.clone();
        let spec = tokio::select! {
            spec = tokio::time::timeout(ASK_TIMEOUT, dialect::ask(&connection, &asked)) => spec,
            () = told(&mut stopped) => return None,
        };
        let (dialect, spec) = match spec {
            Ok(Ok(found)) => found,
            Ok(Err(Unasked::Unsaid(status))) => {
                self.remark_unsaid(&status);
                let is_to_be = status.code() == Code::Unavailable || was_cut(&status);
                return Some(Unsaid { connection, is_to_be });
            }
            Ok(Err(Unasked::Refused(dialect, problem))) => {
                self.refuse(dialect, &connection, &[*problem]).await;
                return None;
            }
            Err(_) => {
                let seconds = ASK_TIMEOUT.as_secs();
                self.remark(format!(
                    "what is there has not said in {seconds} s what it is; still asking"
                ));
                return None;
            }
        };
        match Services::of(dialect, &spec).and_then(|found| self.check(found)) {
            Err(problems) => self.refuse(dialect, &connection, &problems).await,
            Ok((services, problems)) => {
                for problem in &problems {
                    match problem.class {
                        // Nothing is wrong with it by itself: whoever has the node may know what that is.
                        Class::Stored => self.tell(dialect, &connection, problem).await,
                        _ => dialect::report(dialect, &connection, problem).await,
                    }
                }
                self.serve_these(Arc::new(services), connection, &spec).await;
            }
        }
        None
    }

    /// What is there cannot be served: it would say the same again, for as long as it is there.
    async fn refuse(&self, dialect: Dialect, connection: &Connection, problems: &[Problem]) {
        self.publish.send_modify(|serving| serving.is_refused = true);
        self.is_known();
        for problem in problems {
            self.tell(dialect, connection, problem).await;
        }
        self.remark("it is not served until it has been mended and started again".to_owned());
        self.until_gone(connection).await;
    }

    /// What is there has not said what it is.
    fn remark_unsaid(&self, status: &Status) {
        let why = status.message();
        match status.code() {
            // It is about to end, or to begin.
            Code::Unavailable => {}
            _ if was_cut(status) => self.remark(format!(
                "no function is there yet: what was there has ended before it said what it is ({why}); still looking"
            )),
            _ => self.remark(format!(
                "what is there does not say what it is ({why}): start a function on one of Kalix's SDKs, of protocol 1.1, or on one \
                 of Cloudstate's"
            )),
        }
    }

    /// Tells its author of a problem, and whoever started it.
    async fn tell(&self, dialect: Dialect, connection: &Connection, problem: &Problem) {
        dialect::report(dialect, connection, problem).await;
        // What is printed by a process whose output is shown beside this was said.
        let is_shown = dialect == Dialect::Kalix && matches!(self.function, Place::Process(_));
        if !is_shown {
            self.remark(problem.to_string());
        }
    }

    /// Functions in Rust of the same kind would be called in place of these; and what is stored may be of another type than these have.
    fn check(
        &self,
        (services, mut problems): (Services, Vec<Problem>),
    ) -> Result<(Services, Vec<Problem>), Vec<Problem>> {
        let unlike = |service: &Arc<Service>| service.unlike(&self.node.kind_types(&service.kind));
        problems.extend(services.iter().filter_map(unlike));
        let taken = |kind: &str| self.node.functions().any(|function| function.kind() == kind);
        let found = services.iter().find(|service| taken(&service.kind)).cloned();
        match found {
            None => Ok((services, problems)),
            Some(service) => Err(vec![Problem::nowhere(format!(
                "{}: this node has a function in Rust of kind {:?}",
                service.name, service.kind
            ))]),
        }
    }

    /// Something is known of what there is.
    fn is_known(&self) {
        let expected = self.expected.lock();
        drop(expected.unwrap_or_else(PoisonError::into_inner).take());
    }

    async fn serve_these(&self, services: Served, connection: Connection, spec: &Spec) {
        let dialect = services.dialect;
        let (node, me) = (self.node.clone(), self.node.id());
        let live = Box::new(move || node.live_nodes());
        let awake = Awake::new(connection.clone());
        let discovered = Discovered::new(Arc::clone(&services), self.terms, Arc::clone(&awake), me, live);
        let functions = discovered.functions();
        drop(discovered);
        self.node.serve_foreign(functions.clone());
        self.is_known();
        self.publish.send_replace(Serving {
            services: Some(services),
            is_here: true,
            is_ill: false,
            is_refused: false,
            author: Some(Author::new(dialect, Arc::clone(&awake))),
        });
        let left = self.while_it_is_the_same(&awake, connection, dialect, spec).await;
        self.publish.send_modify(|serving| serving.is_here = false);
        self.node.serve_foreign_no_more(&functions);
        awake.over();
        match left {
            Some(connection) if *self.stopped.borrow() => dialect::farewell(dialect, &connection).await,
            _ if *self.stopped.borrow() => {}
            _ => self.remark("the function is gone, or another one; looking for it".to_owned()),
        }
    }

    /// Until it is gone, or another one, or it is time to stop; it may sleep meanwhile. Gives back what it is reached by.
    async fn while_it_is_the_same(
        &self,
        awake: &Arc<Awake>,
        mut connection: Connection,
        dialect: Dialect,
        spec: &Spec,
    ) -> Option<Connection> {
        let mut stopped = self.stopped.clone();
        loop {
            let asleep = async {
                match self.idle_stop {
                    Some(idle) => awake.idle(idle).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = connection.ended() => return None,
                () = told(&mut stopped) => return Some(connection),
                never = pulse::follow(&connection, |ill| self.feels(ill)) => match never {},
                () = asleep => {}
            }
            // The next one begins anew.
            self.publish.send_modify(|serving| serving.is_ill = false);
            dialect::farewell(dialect, &connection).await;
            drop(connection);
            let Place::Process(process) = &self.function else {
                return None;
            };
            process.sleep().await;
            tracing::info!(
                function = self.function.address(),
                "nobody uses the function: it sleeps"
            );
            tokio::select! {
                () = awake.wanted() => {}
                () = told(&mut stopped) => return None,
            }
            let woken = tokio::select! {
                woken = self.wake(&**process) => woken,
                () = told(&mut stopped) => return None,
            };
            let (there, (speaks, is)) = woken?;
            if speaks != dialect || is.proto != spec.proto || is.components != spec.components {
                return None;
            }
            connection = there.clone();
            awake.woken(there);
        }
    }

    /// Starts it and asks what it is.
    async fn wake(&self, process: &dyn Process) -> Option<(Connection, (Dialect, Spec))> {
        let began = Instant::now();
        if let Err(error) = process.wake().await {
            tracing::error!(function = self.function.address(), %error, "the function does not wake up");
            return None;
        }
        let connection = self.connect().await;
        let asked = self.asked();
        let asking = dialect::ask(&connection, &asked);
        let found = tokio::time::timeout(ASK_TIMEOUT, asking).await.ok()?.ok()?;
        let ms = began.elapsed().as_millis();
        tracing::info!(function = self.function.address(), ms, "the function was woken");
        Some((connection, found))
    }

    async fn until_gone(&self, connection: &Connection) {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            () = connection.ended() => {}
            () = told(&mut stopped) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::proto::discovery::{ACTIONS, Component};
    use super::super::protos;
    use super::super::transcode::Rules;
    use super::*;

    /// The line of a service with these methods.
    fn line(methods: &str) -> Option<String> {
        let pool = protos::pool(&format!(
            r#"syntax = "proto3"; package p; import "google/api/annotations.proto"; import "google/protobuf/any.proto";
            import "kalix/annotations.proto";
            message K {{ oneof o {{ string other = 1; string k = 2 [(kalix.field).entity_key = true]; }}
              int32 n = 3 [(kalix.field).entity_key = true]; M m = 4; }}
            message M {{ string id = 1; string note = 2; }}
            service S {{ {methods} }}"#
        ));
        let (rules, _) = Rules::new(pool.services());
        try_this(&rules.routes(), "http", SocketAddr::from(([127, 0, 0, 1], 9)))
    }

    #[test]
    fn what_is_to_be_delivered_is_not_offered_to_be_tried() {
        let text = r#"syntax = "proto3"; import "kalix/annotations.proto"; message M {}
            service S {
              rpc A(M) returns (M) { option (kalix.method).eventing.in.topic = "orders"; }
              rpc B(M) returns (M);
            }"#;
        let action = Component {
            component_type: ACTIONS.to_owned(),
            service_name: "S".to_owned(),
            settings: None,
        };
        let spec = Spec {
            proto: protos::set(&[("test.proto", text)]).into(),
            components: vec![action],
            ..Spec::default()
        };
        let (services, problems) = Services::of(Dialect::Kalix, &spec).unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        let serving = Serving {
            services: Some(Arc::new(services)),
            ..Serving::default()
        };
        let lines = serving.describe("http", SocketAddr::from(([127, 0, 0, 1], 9)));
        // It is served all the same, as the warning says.
        assert_eq!(lines[2..4], ["    POST /S/A", "    POST /S/B"]);
        assert!(
            lines[4].starts_with("Try: curl -X POST http://127.0.0.1:9/S/B"),
            "{lines:?}"
        );
    }

    #[test]
    fn what_is_offered_to_be_tried_works_and_does_no_harm() {
        let add = "rpc Add(M) returns (M);";
        let added = r#"curl -X POST http://127.0.0.1:9/p.S/Add -H 'content-type: application/json' -d '{"id":"text","note":"text"}'"#;
        let harmful = r#"rpc All(stream M) returns (M) { option (google.api.http) = { post: "/all" body: "*" }; }
            rpc DeleteAll(M) returns (M); rpc Away(M) returns (M) { option (google.api.http).delete = "/{id}"; }"#;
        assert_eq!(line(harmful), None);
        assert_eq!(line(&format!("{harmful} {add}")), Some(format!("Try: {added}")));
        let get = r#"rpc Get(M) returns (M) { option (google.api.http).get = "/{id}/notes"; }"#;
        assert_eq!(
            line(&format!("{harmful} {add} {get}")).as_deref(),
            Some("Try: curl -X GET http://127.0.0.1:9/1/notes")
        );
        for (option, is) in [
            (r#"get: "/ent""#, "GET 'http://127.0.0.1:9/ent?k=1&n=1'"),
            (r#"get: "/ent/{k}""#, "GET 'http://127.0.0.1:9/ent/1?n=1'"),
            (r#"get: "/ent/{n}/{k}""#, "GET http://127.0.0.1:9/ent/1/1"),
            (
                r#"post: "/e" body: "m""#,
                r#"POST 'http://127.0.0.1:9/e?k=1&n=1' BODY'{"id":"text","note":"text"}'"#,
            ),
            (
                r#"post: "/e/{n}" body: "k""#,
                r#"POST http://127.0.0.1:9/e/1 BODY'"text"'"#,
            ),
            (
                r#"post: "/e/{k}" body: "*""#,
                r#"POST http://127.0.0.1:9/e/1 BODY'{"m":{"id":"text","note":"text"},"n":1}'"#,
            ),
            (
                r#"post: "/e" body: "*""#,
                r#"POST http://127.0.0.1:9/e BODY'{"k":"text","m":{"id":"text","note":"text"},"n":1}'"#,
            ),
        ] {
            let keyed = line(&format!(
                "rpc Get(K) returns (M) {{ option (google.api.http) = {{ {option} }}; }}"
            ));
            let is = is.replace("BODY", "-H 'content-type: application/json' -d ");
            assert_eq!(keyed, Some(format!("Try: curl -X {is}")), "{option}");
        }
        let any =
            r#"rpc Any(M) returns (M) { option (google.api.http) = { custom { kind: "*" path: "/any" } }; }"#;
        assert_eq!(
            line(any).as_deref(),
            Some("Try: curl -X GET http://127.0.0.1:9/any")
        );
        let watch = r#"rpc Watch(M) returns (stream M) { option (google.api.http).get = "/watch"; }"#;
        assert_eq!(
            line(watch).as_deref(),
            Some("Try: curl -X GET http://127.0.0.1:9/watch")
        );
        assert_eq!(line(&format!("{watch} {add}")), Some(format!("Try: {added}")));
        let odd = r#"rpc Odd(M) returns (google.protobuf.Any) { option (google.api.http).get = "/odd"; }"#;
        assert_eq!(line(&format!("{odd} {add}")), Some(format!("Try: {added}")));
    }
}
