//! Functions that are found and cannot be served: who wrote them is told why.

use prost::Message;
use tokio::runtime::Runtime;

use super::support::PATIENCE;
use super::support::cluster::Cluster;
use super::support::ports;
use super::support::scripted::{Scripted, What};

const KALIX: [&str; 2] = [
    "/kalix.protocol.Discovery/Discover",
    "/kalix.protocol.Discovery/ReportError",
];
const CLOUDSTATE: [&str; 2] = [
    "/cloudstate.EntityDiscovery/discover",
    "/cloudstate.EntityDiscovery/reportError",
];

/// What a function says of itself, as far as it matters here.
#[derive(Clone, PartialEq, Message)]
struct Spec {
    #[prost(bytes = "vec", tag = "1")]
    descriptors: Vec<u8>,
    #[prost(message, tag = "3")]
    info: Option<Info>,
}

#[derive(Clone, PartialEq, Message)]
struct Info {
    #[prost(int32, tag = "6")]
    major: i32,
    #[prost(int32, tag = "7")]
    minor: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Report {
    #[prost(string, tag = "1")]
    message: String,
}

/// What a function's author is told where it says this of itself, which is asked once.
fn told(name: &str, [discover, report]: [&str; 2], spec: &Spec) -> String {
    let runtime = Runtime::new().unwrap();
    let (function, mut heard) = Scripted::start(&runtime, &[discover, report]);
    let mut cluster = Cluster::prepare(name, 1);
    let node = &mut cluster.nodes[0];
    let sections = format!(
        "[function]\naddress = \"{}\"\n[ingress]\nlisten = \"{}\"\n[http]\n",
        function.address,
        ports::take()
    );
    node.configure("[http]\n", &sections);
    node.start();
    let mut asked = 0;
    loop {
        let hearing = async { tokio::time::timeout(PATIENCE, heard.recv()).await };
        let heard = runtime.block_on(hearing).expect("nobody is told").unwrap();
        let What::Message(message) = heard.what else {
            continue;
        };
        if heard.path == discover {
            asked += 1;
            assert_eq!(asked, 1, "it says the same again");
            function.say(heard.call, spec.encode_to_vec());
            function.end(heard.call);
            continue;
        }
        function.say(heard.call, Vec::new());
        function.end(heard.call);
        node.process()
            .stderr
            .until("it is not served until it has been mended");
        return Report::decode(message).unwrap().message;
    }
}

fn of_version((major, minor): (i32, i32)) -> Spec {
    Spec {
        info: Some(Info { major, minor }),
        ..Spec::default()
    }
}

#[test]
fn the_author_of_a_function_of_another_version_was_told_nothing() {
    for (name, paths, version) in [
        ("discovery-2.0", KALIX, (2, 0)),
        ("discovery-0.7", KALIX, (0, 7)),
        ("discovery-0.1", CLOUDSTATE, (0, 1)),
        ("discovery-0.3", CLOUDSTATE, (0, 3)),
    ] {
        let text = told(name, paths, &of_version(version));
        let said = format!("the function speaks version {}.{} of ", version.0, version.1);
        assert!(text.starts_with(&said), "{text}");
    }
}

#[test]
fn a_function_with_too_many_descriptors_was_asked_again_and_again_and_its_author_told_nothing() {
    let spec = Spec {
        descriptors: vec![0; 30_000_000],
        ..Spec::default()
    };
    for (name, paths) in [("discovery-long", KALIX), ("discovery-long-early", CLOUDSTATE)] {
        let text = told(name, paths, &spec);
        assert!(
            text.contains("is too long") && text.contains("user-function.desc"),
            "{text}"
        );
    }
}
