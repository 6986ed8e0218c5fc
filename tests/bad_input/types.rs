//! Types: named where a kind is new, and never another one afterwards.

use serde_json::json;

use crate::support::cluster::Cluster;
use crate::support::exit;
use crate::support::face::agreed;

#[test]
fn a_new_kind_needs_a_type_and_keeps_it() {
    let mut cluster = Cluster::prepare("types", 2);
    for node in &cluster.nodes {
        node.configure("[http]", "[kinds]\ndeclared = \"lwwregister\"\n[http]");
    }
    cluster.start_all();
    let [n1, n2] = [0, 1].map(|i| (*cluster.nodes[i]).clone());
    n1.run(["update", "stock", "apples", "incr", "1"]).failed(
        exit::TYPE_REQUIRED,
        &["gcounter", "pncounter", "lwwregister", "orset"],
    );
    assert_eq!(n1.value("stock", "apples"), None);
    n1.run(["update", "stock", "apples", "incr", "1", "--type", "queue"])
        .failed(exit::USAGE, &["gcounter", "orset"]);
    n1.run(["update", "stock", "apples", "incr", "3", "--type", "pncounter"])
        .done();
    // From now on it is known, for every key.
    n1.run(["update", "stock", "apples", "incr", "-5"]).done();
    n1.run(["update", "stock", "pears", "incr", "-5"]).done();
    // A declared kind is known from the start.
    n1.run(["update", "declared", "a", "set", "v"]).done();
    agreed(cluster.faces());

    let before = n2.dump();
    for (args, said) in [
        (
            ["update", "stock", "apples", "add", "x", "--type", "orset"].as_slice(),
            "pncounter",
        ),
        (
            &["update", "stock", "apples", "create", "--type", "gcounter"],
            "pncounter",
        ),
        (
            &["update", "stock", "plums", "create", "--type", "orset"],
            "of a kind whose entities are each a pncounter, not an orset",
        ),
        (
            &["update", "declared", "b", "incr", "1", "--type", "gcounter"],
            "lwwregister",
        ),
    ] {
        n1.run(args).failed(exit::WRONG_TYPE, &[said]);
        n2.run(args).failed(exit::WRONG_TYPE, &[said]);
    }
    // Without a type it is an operation that the entity does not have.
    for op in [["add", "x"].as_slice(), &["set", "x"], &["clear"]] {
        let args = ["update", "stock", "apples"].iter().chain(op);
        n2.run(args).failed(
            exit::WRONG_TYPE,
            &["a pncounter does not take", "create and incr"],
        );
    }
    agreed(cluster.faces());
    assert_eq!(n1.dump(), before);
}

#[test]
fn operations_do_what_they_say() {
    let cluster = Cluster::start("operations", 1);
    let node = &cluster.nodes[0];
    let update = |text: &str| node.run(["update"].into_iter().chain(text.split(' ')));
    update("g a incr 2 --type gcounter").done();
    update("g a incr -1").failed(exit::INVALID, &["only grows", "nothing was changed"]);
    assert_eq!(node.value("g", "a"), Some(json!(2)));
    // Empty is not absent, and what is there is not created again.
    update("s a create --type orset").done();
    assert_eq!(node.value("s", "a"), Some(json!([])));
    update("s a add x y").done();
    assert!(update("s a create").done().contains("nothing to change"));
    assert!(update("s a remove z").done().contains("nothing to change"));
    update("s a remove x").done();
    assert_eq!(node.value("s", "a"), Some(json!(["y"])));
    update("s a clear").done();
    assert_eq!(node.value("s", "a"), Some(json!([])));
    // A clock of one's own: the highest wins, however late it comes.
    update("r a set first --clock 10 --type lwwregister").done();
    update("r a set second --clock 5").done();
    assert_eq!(node.value("r", "a"), Some(json!("first")));
    update("r a set third --clock 10").done();
    assert_eq!(node.value("r", "a"), Some(json!("third")));
    update("r b create").done();
    assert_eq!(node.value("r", "b"), Some(json!(null)));
    update("c a incr 9223372036854775807 --type pncounter").done();
    update("c a incr 9223372036854775807").done();
    let line = node.run(["get", "c", "a", "--json"]).done();
    assert!(line.contains("18446744073709551614"), "{line}");
}

#[test]
fn every_other_type_does_what_it_says() {
    let cluster = Cluster::start("other-types", 1);
    let node = &cluster.nodes[0];
    let update = |text: &str| node.run(["update"].into_iter().chain(text.split(' ')));
    update("gs a add y x --type gset").done();
    assert!(update("gs a add x").done().contains("nothing to change"));
    update("gs a remove x").failed(exit::WRONG_TYPE, &["a gset does not take remove"]);
    assert_eq!(node.value("gs", "a"), Some(json!(["x", "y"])));
    update("f a create --type flag").done();
    assert_eq!(node.value("f", "a"), Some(json!(false)));
    update("f a enable").done();
    assert_eq!(node.value("f", "a"), Some(json!(true)));
    update("f a disable").done();
    assert!(update("f a disable").done().contains("nothing to change"));
    update("m a set v --type mvregister").done();
    update("m a set w --clock 3").failed(exit::INVALID, &["takes no clock"]);
    assert_eq!(node.value("m", "a"), Some(json!(["v"])));
    update("v a vote yes --type vote").done();
    let line = node.run(["get", "v", "a", "--json"]).done();
    assert!(line.contains("\":true}"), "{line}");
    // A register's other clocks.
    update("r a set first --reverse --type lwwregister").done();
    update("r a set second --reverse").done();
    assert_eq!(node.value("r", "a"), Some(json!("first")));
    update("r b set x --auto-increment 4").done();
    update("r b set y --auto-increment 4").done();
    assert_eq!(node.value("r", "b"), Some(json!("y")));
    update("r b set z --auto-increment 4 --clock 9").failed(exit::USAGE, &["--clock"]);
}

#[test]
fn maps_nest_and_forget_what_was_removed() {
    let mut cluster = Cluster::start("maps", 2);
    let [n1, n2] = [0, 1].map(|i| (*cluster.nodes[i]).clone());
    let update = |text: &str| n1.run(["update"].into_iter().chain(text.split(' ')));
    update("basket a incr 2 --in apples --type countermap --level all").done();
    update("basket a incr -5 --in pears --level all").done();
    assert_eq!(n2.value("basket", "a"), Some(json!({"apples": 2, "pears": -5})));
    n2.run(["update", "basket", "a", "remove", "apples", "--level", "all"])
        .done();
    assert!(
        update("basket a remove apples")
            .done()
            .contains("nothing to change")
    );
    update("basket a incr 3 --in apples").done();
    assert_eq!(n1.value("basket", "a"), Some(json!({"apples": 3, "pears": -5})));
    update("basket a add x --in orset:plums").failed(exit::WRONG_TYPE, &["a countermap holds no orset"]);

    update("profile a add admin --in ormap:work --in orset:roles --type ormap").done();
    update("profile a incr 1 --in work --in pncounter:visits").done();
    let nested = json!({"work": {"roles": ["admin"], "visits": 1}});
    assert_eq!(n1.value("profile", "a"), Some(nested.clone()));
    update("profile a incr 1 --in work --in roles")
        .failed(exit::WRONG_TYPE, &["an orset does not take incr"]);
    update("profile a incr 1 --in work --in new").failed(exit::TYPE_REQUIRED, &["new is new; name its type"]);
    update("profile a incr 1 --in gset:work").failed(exit::WRONG_TYPE, &["work is an ormap, not a gset"]);
    let deep = "--in ormap:k ".repeat(9);
    update(&format!("profile a clear {}", deep.trim_end())).failed(exit::INVALID, &["at most 8"]);
    assert_eq!(n1.value("profile", "a"), Some(nested));

    // All of it survives a crash, and the other's.
    agreed(cluster.faces());
    let before = n1.dump();
    for node in &mut cluster.nodes {
        node.kill();
    }
    cluster.start_all();
    agreed(cluster.faces());
    assert_eq!(n2.dump(), before);
}

#[test]
fn a_declaration_that_contradicts_the_data_is_refused_at_the_start() {
    let mut cluster = Cluster::prepare("contradicted", 2);
    cluster.nodes[1].configure(
        "[http]",
        "[kinds]\nother = \"orset\"\ncart = \"gcounter\"\n[http]",
    );
    cluster.start_all();
    let add = ["update", "cart", "a", "add", "x", "--type", "orset"];
    cluster.nodes[0].run(add).done();
    // There it came from elsewhere: it is kept, and said once.
    let said = cluster.nodes[1].process().stderr.until("kind \"cart\"");
    assert!(
        said.contains("declared as gcounter") && said.contains("orset"),
        "{said}"
    );
    agreed(cluster.faces());
    cluster.nodes[1].stop();

    // To start with what would refuse every write to it is a mistake with a line.
    let node = &cluster.nodes[1];
    let place = format!("{}:10: ", node.config.display());
    let said = [place.as_str(), "kind \"cart\"", "declared as gcounter", "orset"];
    node.run_to_end().failed(exit::CONFIG, &said);
    node.configure("cart = \"gcounter\"", "cart = \"orset\"");
    cluster.nodes[1].start_ready();
    assert_eq!(cluster.nodes[1].value("cart", "a"), Some(json!(["x"])));
}
