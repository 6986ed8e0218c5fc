//! The configuration file: an unknown key, a bad value and a missing file are errors that name the line.

use crate::support::cluster::Cluster;
use crate::support::command::anabranch;
use crate::support::exit;

#[test]
fn the_line_of_what_is_wrong_is_named() {
    let cluster = Cluster::prepare("bad-config", 1);
    let node = &cluster.nodes[0];
    let good = std::fs::read_to_string(&node.config).unwrap();
    let lines = good.lines().count();
    // Line 1 is the node's name; whatever is appended stands in the section [http].
    for (from, to, line, said) in [
        ("name = \"n1\"", "nam = \"n1\"", 1, "nam"),
        ("name = \"n1\"", "name = 1", 1, "string"),
        ("name = \"n1\"", "name = \"n1", 1, ""),
        ("name = \"n1\"", "# a comment\nshards = 0", 2, "at least 1"),
        ("name = \"n1\"", "shards = -1", 1, ""),
        ("name = \"n1\"", "snapshot_bytes = 1", 1, "65536"),
        ("name = \"n1\"", "log = \"loud=very\"", 1, "log"),
        ("name = \"n1\"", "name = \"n1\"\nname = \"n2\"", 2, "duplicate"),
        ("cluster = \"", "cluster = \"\\n", 2, "control"),
        ("listen = \"127", "listen = \"nowhere:127", 4, "listen"),
        ("advertise = [\"", "advertise = [\"no port\", \"", 5, "HOST:PORT"),
        ("seeds = [", "seeds = [\"a:b:c\"", 6, "HOST:PORT"),
        ("members = [", "members = [\"n1\", ", 7, ""),
        ("[http]", "[htpt]", 8, "htpt"),
        ("[http]", "[http]\ntoken = \"short\"", 9, "16 bytes"),
        ("[http]", "[http]\nport = 80", 9, "port"),
        ("[http]", "[http]\norigins = [\"everywhere\"]", 9, "everywhere"),
        (
            "[http]",
            "[kinds]\ncart = \"list\"\n[http]",
            9,
            "gcounter, pncounter, lwwregister, orset",
        ),
        ("[http]", "[limits]\nupdate_ops_max = 0\n[http]", 9, "at least 1"),
        ("[http]", "[limits]\nbatches = 5\n[http]", 9, "batches"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        std::fs::write(&node.config, bad).unwrap();
        let place = format!("{}:{line}: ", node.config.display());
        node.run_to_end().failed(exit::CONFIG, &[&place, said]);
    }
    assert_eq!(lines, 9, "the lines above are counted in a file of this form");
    // Nothing was started, so nothing was made.
    assert!(!node.data().exists());
}

#[test]
fn beyond_loopback_more_is_wanted() {
    let cluster = Cluster::prepare("bad-listen", 1);
    let node = &cluster.nodes[0];
    let good = std::fs::read_to_string(&node.config).unwrap();
    let http = good.replacen(
        &format!("listen = \"{}\"", node.http),
        "listen = \"0.0.0.0:1\"",
        1,
    );
    assert_ne!(http, good);
    std::fs::write(&node.config, http).unwrap();
    node.run_to_end()
        .failed(exit::CONFIG, &["node.toml:9: ", "token"]);
    let quic = good.replacen(
        &format!("listen = \"{}\"\nadvertise", node.quic),
        "listen = \"0.0.0.0:1\"\n#",
        1,
    );
    assert_ne!(quic, good);
    std::fs::write(&node.config, quic).unwrap();
    node.run_to_end()
        .failed(exit::CONFIG, &["node.toml:4: ", "advertise"]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let cluster = Cluster::prepare("no-config", 1);
    let missing = cluster.dir.join("nothing.toml");
    let path = missing.to_str().unwrap();
    anabranch(["node", "--config", path]).failed(exit::CONFIG, &[path, "No such file"]);
    let directory = cluster.dir.path().to_str().unwrap();
    anabranch(["node", "--config", directory]).failed(exit::CONFIG, &[directory, "directory"]);
    let binary = cluster.dir.write("binary.toml", b"name = \"\xff\"");
    anabranch(["node", "--config", binary.to_str().unwrap()]).failed(exit::CONFIG, &["binary.toml", "UTF-8"]);
}
