//! Whether a node says that it is ready, by what callers hear of it.

use serde_json::Value;
use tokio::runtime::Runtime;

use super::dialect::{Dialect, Speaks};
use super::function::Function;
use crate::support::cluster::Cluster;
use crate::support::{http, ports};

#[test]
fn a_node_said_that_it_is_ready_while_its_ingress_refused_every_call() {
    let runtime = Runtime::new().unwrap();
    let dialect = Dialect::of(Speaks::Kalix);
    let mut function = Function::start(&runtime, &dialect);
    let mut cluster = Cluster::prepare("tck-ready", 1);
    let node = &mut cluster.nodes[0];
    let (address, ingress) = (function.scripted.address, ports::take());
    let sections =
        format!("[function]\naddress = \"{address}\"\n[ingress]\nlisten = \"{ingress}\"\n[http]\n");
    node.configure("[http]\n", &sections);
    node.start_ready();
    let at = node.http.clone();
    let ready = |path: &str, status: u16| -> Value {
        let reply = http::get(&at, path).unwrap();
        assert_eq!(reply.status, status, "{path}: {reply:?}");
        serde_json::from_str(&reply.body).unwrap()
    };
    // The function has not said what it is: whoever has nothing to do with it is served all the same.
    for path in ["/readyz", "/readyz/function"] {
        let body = ready(path, 503);
        let reason = body["reason"].as_str().unwrap();
        assert!(reason.contains("no function was discovered yet"), "{body}");
        assert_eq!(body["ready"], false, "{body}");
    }
    assert_eq!(ready("/readyz/writes", 200)["ready"], true);
    node.increment("hits", "a", 1);
    assert_eq!(http::get(&ingress.to_string(), "/nowhere").unwrap().status, 503);

    while function.question.is_none() {
        function.pump(&runtime, &dialect, "the question what it is");
    }
    node.process().stderr.until("discovered");
    for path in ["/readyz", "/readyz/function", "/readyz/writes"] {
        let body = ready(path, 200);
        assert!(body["ready"] == true && body.get("reason").is_none(), "{body}");
    }
    assert_eq!(http::get(&ingress.to_string(), "/nowhere").unwrap().status, 404);

    // What was refused for want of a function is told from what it does not have.
    let metrics = http::get(&at, "/metrics").unwrap().body;
    for (outcome, count) in [("ok", 0), ("refused", 1), ("failed", 1)] {
        let series =
            format!("anabranch_ingress_requests_total{{protocol=\"json\",outcome=\"{outcome}\"}} {count}\n");
        assert!(metrics.contains(&series), "{series}{metrics}");
    }

    // Away, its callers are passed on to another node's: that is no reason to go elsewhere.
    function.scripted.cut();
    node.process().stderr.until("looking for it");
    ready("/readyz", 200);
}
