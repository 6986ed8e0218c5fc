//! Configuration files, good and bad.

use super::source::host_port;
use super::*;

const FILE: &str = "/etc/anabranch/node.toml";

fn parse(text: &str) -> Result<Config, Failure> {
    Config::parse(Path::new(FILE), text)
}

/// The text must be refused, and the message must be this.
#[track_caller]
fn refused(text: &str, message: &str) {
    let failure = parse(text).expect_err("it was taken");
    assert_eq!(failure.name(), "config");
    assert_eq!(failure.message(), format!("{FILE}:{message}"));
}

#[test]
fn the_commented_file_has_every_key_at_its_default() {
    let text = include_str!("../../../../config/node.toml");
    assert_eq!(parse(text), parse(""));
    // The keys there are come from the parser's own complaint about one that there is not.
    let table: toml::Table = text.parse().unwrap();
    for section in ["", "identity", "http", "function", "ingress", "limits"] {
        let unknown = if section.is_empty() {
            "zzz = 1".to_string()
        } else {
            format!("[{section}]\nzzz = 1")
        };
        let complaint = parse(&unknown).expect_err("zzz is no key").message().to_string();
        let (_, keys) = complaint.split_once("expected one of ").expect(&complaint);
        let keys: Vec<&str> = keys.split(", ").map(|key| key.trim_matches('`')).collect();
        assert!(keys.len() >= 3, "{complaint}");
        let written = if section.is_empty() {
            &table
        } else {
            table[section].as_table().unwrap()
        };
        for key in keys {
            assert!(
                written.contains_key(key),
                "config/node.toml lacks {key} in section {section:?}"
            );
        }
    }
    let said = text.replace("\n#", "");
    assert!(
        said.contains(&super::types()),
        "config/node.toml lacks one of {}",
        super::types()
    );
}

#[test]
fn paths_are_relative_to_the_file() {
    let config = parse("data = \"/var/lib/n1\"\n[identity]\nca = \"../ca.pem\"").unwrap();
    assert_eq!(config.data, Path::new("/var/lib/n1"));
    assert_eq!(config.identity.ca, Path::new("/etc/anabranch/../ca.pem"));
    assert_eq!(config.identity.key, Path::new("/etc/anabranch/node.key"));
}

#[test]
fn values_are_read() {
    let text = "listen = \"[::1]:5\"\nseeds = [\"a.example:7\", \"[::1]:8\"]\nkinds = { cart = \"orset\" }\n\
                members = [\"000000000000000000000000000000ff\"]\n[limits]\nkeys_max = 7\nkeys_kept = 7\n\
                [http]\norigins = [\"https://Ops.Example\"]";
    let config = parse(text).unwrap();
    assert_eq!(config.listen.to_string(), "[::1]:5");
    assert_eq!(config.seeds, ["a.example:7", "[::1]:8"]);
    assert_eq!(config.members, [NodeId(255)]);
    assert_eq!(config.kinds, BTreeMap::from([("cart".to_string(), Type::OrSet)]));
    assert_eq!(config.limits.keys_max, 7);
    assert_eq!((config.mtu, parse("mtu = 6550").unwrap().mtu), (1452, 6550));
    assert_eq!(config.http.origins, ["https://ops.example"]);
}

#[test]
fn complaints_name_the_line() {
    refused(
        "\nname = \"a\"\nlisten = 5",
        "3: invalid type: integer `5`, expected a string",
    );
    refused(
        "shards = 0",
        "1: shards is 0, it must be at least 1 and at most 16384",
    );
    refused(
        "mtu = 6551",
        "1: mtu is 6551, it must be at least 1200 and at most 6550",
    );
    refused(
        "\n\nshards = -1",
        "3: invalid value: integer `-1`, expected a whole number that is not negative",
    );
    refused(
        "seeds = [\"ok:1\",\n \"no port\"]",
        "2: seeds: \"no port\" is not HOST:PORT",
    );
    refused(
        "members = [\"ff\"]",
        "1: members: a node id is 32 lower-case hexadecimal digits",
    );
    refused(
        "listen = \"here\"",
        "1: listen = \"here\": invalid socket address syntax",
    );
    refused(
        "\nlisten = \"0.0.0.0:7411\"",
        "2: listening at every address of the machine (0.0.0.0:7411) needs `advertise`: where peers reach it",
    );
    refused(
        "[kinds]\na = \"orset\"\nb = \"queue\"",
        "3: \"queue\" is none of the types gcounter, pncounter, lwwregister, orset, gset, flag, mvregister, \
         vote, boundedcounter, ormap, countermap, registermap, multimap",
    );
    refused(
        "[kinds]\n\"anabranch:schedule\" = \"flag\"",
        "2: kind \"anabranch:schedule\" is one of Anabranch's own, whose types are not declared",
    );
    refused(
        "[limits]\nkeys_max = 0",
        "2: limits.keys_max is 0, it must be at least 1",
    );
    refused(
        &format!("seeds = [\n{}]", "\"a:1\",\n".repeat(65)),
        "66: seeds names 65, at most 64 are possible",
    );
    let name = "x".repeat(65);
    refused(
        &format!("name = \"{name}\""),
        "1: name must have at most 64 bytes, none a control character",
    );
    let failure = parse("log = \"anabranch=loud\"").expect_err("no such level");
    assert!(
        failure
            .message()
            .starts_with(&format!("{FILE}:1: log = \"anabranch=loud\": ")),
        "{failure}"
    );
}

#[test]
fn a_mistyped_level_does_not_silence_the_log() {
    for good in [
        "warn",
        "INFO",
        "off",
        "info,anabranch=debug",
        "anabranch::driver=trace",
        "info,quinn=off",
    ] {
        assert_eq!(parse(&format!("log = {good:?}")).unwrap().log, good);
    }
    assert_eq!(parse("log = \"\"").unwrap().log, "info");
    refused(
        "\nlog = \"inof\"",
        "2: log = \"inof\": \"inof\" is no level (off, error, warn, info, debug, trace); for a module's say inof=LEVEL",
    );
    for bad in [
        "anabranch",
        "info,anabranch",
        "info anabranch=debug",
        "anabranch=loud",
    ] {
        assert!(parse(&format!("log = {bad:?}")).is_err(), "{bad}");
    }
}

#[test]
fn unknown_and_repeated_keys_are_refused() {
    let failure = parse("name = \"a\"\nlissen = \"x\"").expect_err("unknown");
    assert!(
        failure
            .message()
            .starts_with(&format!("{FILE}:2: unknown member `lissen`, expected one of")),
        "{failure}"
    );
    let failure = parse("[http]\n\ntokn = \"x\"").expect_err("unknown");
    assert!(
        failure
            .message()
            .starts_with(&format!("{FILE}:3: unknown member `tokn`")),
        "{failure}"
    );
    refused("name = \"a\"\nname = \"b\"", "2: duplicate key");
    let failure = parse("name = \"a\"\nname b").expect_err("syntax");
    assert!(failure.message().starts_with(&format!("{FILE}:2: ")), "{failure}");
}

#[test]
fn a_section_is_written_once_and_a_node_has_one_function() {
    let services = "a node has one function's process, which may have any number of services";
    let one = "[function]\naddress = \"a:1\"\n";
    refused(
        &format!("{one}{one}"),
        &format!("3: [function] stands here a second time: {services}"),
    );
    let several = one.replace("[function]", " [[ function ]] # cart");
    refused(
        &format!("name = \"a\"\n{several}{several}"),
        &format!("2: [function] is written as one of several: {services}"),
    );
    refused(
        "[[http]]\nlisten = \"127.0.0.1:1\"",
        "1: [http] is written as one of several: there is one of it",
    );
    refused(
        "[http]\n[limits]\n[http]",
        "3: [http] stands here a second time: there is one of it",
    );
    // One that there is not is named.
    let failure = parse("[[functions]]\naddress = \"a:1\"").expect_err("unknown");
    assert!(
        failure
            .message()
            .starts_with(&format!("{FILE}:1: unknown member `functions`")),
        "{failure}"
    );
}

#[test]
fn a_collector_is_a_host_and_a_port() {
    let collector =
        |text: &str| parse(&format!("[trace]\ncollector = {text:?}")).map(|config| config.trace.collector);
    for (written, at) in [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318"),
        // As it stands in a collector's manual: the whole address.
        ("http://127.0.0.1:4318/v1/traces", "http://127.0.0.1:4318"),
        ("http://127.0.0.1:4318/v1/traces/", "http://127.0.0.1:4318"),
        ("http://[::1]:4318/v1/traces", "http://[::1]:4318"),
        ("http://collector", "http://collector"),
        ("http://gate:80/otlp", "http://gate:80/otlp"),
        ("http://gate:80/otlp/v1/traces", "http://gate:80/otlp"),
    ] {
        assert_eq!(collector(written).unwrap().as_deref(), Some(at), "{written}");
    }
    assert_eq!(collector("").unwrap(), None);
    for wrong in [
        "127.0.0.1:4318",
        "https://a:4318",
        "grpc://a:4317",
        "http://",
        "http:///v1/traces",
        "http://a b",
        "http://a:",
        "http://a:99999",
    ] {
        refused(
            &format!("[trace]\ncollector = {wrong:?}"),
            &format!("2: trace.collector = {wrong:?} is not http://HOST:PORT of a collector"),
        );
    }
    for wrong in ["http://a:1?x=1", "http://me:secret@a:1", "http://a:1/#x"] {
        refused(
            &format!("[trace]\ncollector = {wrong:?}"),
            &format!(
                "2: trace.collector = {wrong:?} has more than http://HOST:PORT of a collector, which is all that is wanted"
            ),
        );
    }
}

#[test]
fn beyond_loopback_the_admin_api_wants_a_token() {
    let listen = "[http]\nlisten = \"0.0.0.0:80\"\n";
    refused(
        listen,
        "2: http.listen is 0.0.0.0:80: beyond loopback the admin API wants http.token, a bearer token",
    );
    let config = parse(&format!("{listen}token = \"0123456789abcdef\"")).unwrap();
    assert_eq!(format!("{:?}", config.http.token), "Some((secret))");
    refused(
        "[http]\ntoken = \"short\"",
        "2: http.token must have at least 16 bytes, or be empty for none",
    );
}

#[test]
fn who_reads_for_long_leaves_connections_to_others() {
    let small = parse("[http]\nconnections_max = 16").unwrap().http;
    assert_eq!((small.watches_max, small.dumps_max), (8, 4));
    refused(
        "[http]\nconnections_max = 15",
        "2: http.connections_max is 15, it must be at least 16 and at most 65536",
    );
    refused(
        "[http]\nconnections_max = 20\nwatches_max = 15",
        "3: http.watches_max (15) and http.dumps_max (5) must leave at least 4 of http.connections_max (20) to other \
         requests",
    );
}

#[test]
fn a_missing_certificate_is_named_with_its_line_and_the_way_out() {
    let dir = std::env::temp_dir().join(format!("anabranch-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("node.toml");
    std::fs::write(dir.join("ca.pem"), "").unwrap();
    std::fs::write(
        &file,
        "[http]\n\n[identity]\nkey = \"a.key\"\ncertificate = \"b.pem\"\n",
    )
    .unwrap();
    let failure = Config::load(&file)
        .unwrap()
        .check_files()
        .expect_err("there is no b.pem");
    let message = failure.message();
    assert!(
        message.starts_with(&format!(
            "{}:5: identity.certificate: there is no file",
            file.display()
        )),
        "{message}"
    );
    // Another CA would be another cluster.
    let again = message.contains("anabranch cert issue") && message.contains("--force");
    assert!(again && !message.contains("ca init"), "{message}");
    std::fs::remove_file(dir.join("ca.pem")).unwrap();
    let none = Config::load(&file)
        .unwrap()
        .check_files()
        .expect_err("there is nothing");
    let message = none.message();
    assert!(
        message.contains("anabranch ca init") && message.contains("anabranch cert issue"),
        "{message}"
    );
    std::fs::remove_dir_all(&dir).unwrap();
    let failure = Config::load(&file).expect_err("gone");
    assert!(
        failure
            .message()
            .starts_with(&format!("cannot read {}", file.display())),
        "{failure}"
    );
}

#[test]
fn values_that_cannot_work_are_refused_where_they_stand() {
    for key in ["data = \"\"", "[identity]\nca = \"\"", "[identity]\nkey = \"\""] {
        let failure = parse(key).expect_err(key);
        assert!(failure.message().contains("must not be empty"), "{failure}");
    }
    for token in ["0123456789abcde f", "0123456789abcdef\\n", "0123456789abcdéf"] {
        refused(
            &format!("[http]\ntoken = \"{token}\""),
            "2: http.token must be visible ASCII characters without spaces",
        );
    }
    refused(
        "[http]\nhosts = [\"db.internal:80\"]",
        "2: http.hosts: \"db.internal:80\" is not a host's name without a port, such as db.internal",
    );
    assert_eq!(
        parse("[http]\nhosts = [\"DB.internal\", \"::1\"]")
            .unwrap()
            .http
            .hosts,
        ["db.internal", "::1"]
    );
    refused(
        "[limits]\nkeys_max = 10",
        "2: limits.keys_max is 10, it must be at least limits.keys_kept (1000000)",
    );
    refused(
        "[limits]\ndigest_every_ms = 9",
        "2: limits.digest_every_ms is 9, it must be at least 10 and at most 3600000",
    );
    refused(
        "[limits]\nupdate_ops_max = 1048577",
        "2: limits.update_ops_max is 1048577, it must be at least 1 and at most 1048576",
    );
}

#[test]
fn a_file_that_is_no_text_is_named_with_the_place() {
    let dir = std::env::temp_dir().join(format!("anabranch-binary-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("node.toml");
    std::fs::write(&file, b"# \xc3\xa9\nname = \"a\xff\"").unwrap();
    let message = Config::load(&file).expect_err("no text").message().to_string();
    assert_eq!(
        message,
        format!("{}:2: not UTF-8 at byte 15 of the file", file.display())
    );
    std::fs::remove_dir_all(&dir).unwrap();
    let endless = Config::load(Path::new("/dev/zero")).expect_err("no end");
    assert!(endless.message().contains("more than 1048576 bytes"), "{endless}");
}

#[test]
fn addresses_are_host_and_port() {
    assert_eq!(host_port("node-1.example:7411"), Some(("node-1.example", 7411)));
    assert_eq!(host_port("[::1]:80"), Some(("::1", 80)));
    for bad in [
        "",
        "a",
        "a:",
        ":1",
        "a:0",
        "a:70000",
        "a:+1",
        "::1:80",
        "http://a:1",
        "[::1:80",
        "[x]:1",
        "a b:1",
    ] {
        assert_eq!(host_port(bad), None, "{bad}");
    }
}

const BOTH: &str = "[ingress]\nlisten = \"0.0.0.0:9000\"\n[function]\n";

#[test]
fn a_function_is_at_an_address_or_started_by_a_command() {
    let function = |text: &str| parse(&format!("{BOTH}{text}")).unwrap().function.unwrap();
    let at = function("address = \"[::1]:8080\"");
    assert_eq!(at.at, FunctionAt::Address("[::1]:8080".to_string()));
    assert_eq!(at.place.to_string(), format!("{FILE}:4"));
    assert_eq!(at.ingress.listen.to_string(), "0.0.0.0:9000");
    assert_eq!(at.ingress.place.to_string(), format!("{FILE}:2"));
    assert_eq!(
        (at.ingress.message_bytes_max, at.ingress.connections_max),
        (786_432, 1024)
    );
    assert!(at.ingress.origins.is_empty());
    assert_eq!(at.ingress.tls, None);
    assert_eq!(at.terms, function::Terms::default());
    let permanent = function("address = \"a:1\"\ndeletion = \"permanent\"");
    assert_eq!(permanent.terms.deletion, Deletion::Permanent);
    assert!(!permanent.terms.trust_failures);
    let trusted = function("address = \"a:1\"\ntrust_failures = true");
    assert!(trusted.terms.trust_failures);
    let started = |text: &str| match function(text).at {
        FunctionAt::Command(command) => command,
        other => panic!("{other:?}"),
    };
    let command = started("command = [\"npm\", \"start\"]");
    assert_eq!(command.command, ["npm", "start"]);
    assert_eq!((command.port, command.idle_stop), (None, None));
    assert_eq!(command.directory, Path::new("/etc/anabranch/."));
    let command = started("command = [\"x\"]\ndirectory = \"/srv\"\nport = 8080\nidle_stop_ms = 60000");
    assert_eq!(command.directory, Path::new("/srv"));
    assert_eq!(
        (command.port, command.idle_stop),
        (Some(8080), Some(std::time::Duration::from_secs(60)))
    );
    let open = "[ingress]\nlisten = \"[::1]:9\"\norigins = [\"https://Shop.Example\", \"*\"]\n[function]\naddress = \"a:1\"";
    let origins = parse(open).unwrap().function.unwrap().ingress.origins;
    assert_eq!(origins, ["https://shop.example", "*"]);
    assert_eq!(parse("").unwrap().function, None);
}

#[test]
fn a_function_that_cannot_be_is_refused_where_it_stands() {
    let wrong = |text: &str, message: &str| refused(&format!("{BOTH}{text}"), message);
    wrong(
        "command = [\"x\"]\naddress = \"a:1\"",
        "5: function.address is for a function that runs already, function.command for one that the node starts: one of them",
    );
    wrong(
        "address = \"a:1\"\ndeletion = \"soft\"",
        "5: function.deletion = \"soft\": it is \"observed\" or \"permanent\"",
    );
    wrong(
        "address = \"nowhere\"",
        "4: function.address = \"nowhere\" is not HOST:PORT",
    );
    wrong(
        "command = [\n\"x\",\n\"a\\u0000\"]",
        "6: function.command: \"a\\0\" has a zero byte",
    );
    wrong(
        "command = [\"x\"]\nport = 65536",
        "5: function.port is 65536, it must be at least 0 and at most 65535",
    );
    wrong(
        "address = \"a:1\"\nport = 1",
        "5: function.port is for a function that the node starts: function.command",
    );
    wrong(
        "idle_stop_ms = 1",
        "4: function.idle_stop_ms is for a function that the node starts: function.command",
    );
    wrong(
        "command = [\"x\"]\ndirectory = \"\"",
        "5: function.directory must not be empty",
    );
    refused(
        BOTH,
        "2: ingress.listen needs a function to serve: function.address or function.command",
    );
    refused(
        "[function]\naddress = \"a:1\"",
        "2: a function needs ingress.listen, where its callers come: HOST:PORT",
    );
    refused(
        "[ingress]\nlisten = \"here\"",
        "2: ingress.listen = \"here\": invalid socket address syntax",
    );
    refused(
        "[ingress]\nmessage_bytes_max = 786433",
        "2: ingress.message_bytes_max is 786433, it must be at least 1024 and at most 786432",
    );
    refused(
        "[ingress]\nconnections_max = 0",
        "2: ingress.connections_max is 0, it must be at least 1 and at most 65536",
    );
    refused(
        "[ingress]\norigins = [\n\"https://a.example\",\n\"b.example\"]",
        "4: ingress.origins: \"b.example\" is not an origin such as https://ops.example.org",
    );
    refused(
        "[ingress]\ncertificate = \"shop.pem\"",
        "2: ingress.certificate needs ingress.key, its private key in PEM",
    );
    refused(
        "[ingress]\ncertificate = \"\"\nkey = \"shop.key\"",
        "3: ingress.key needs ingress.certificate, its certificate in PEM",
    );
}

#[test]
fn one_other_file_may_be_included_for_the_function() {
    let dir = std::env::temp_dir().join(format!("anabranch-include-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (file, other) = (dir.join("node.toml"), dir.join("function.toml"));
    let parse = |text: &str| Config::parse(&file, text);
    let include = "include = \"function.toml\"\n";
    let failed = |text: &str| parse(text).expect_err("it was taken").message().to_string();
    let missing = failed(include);
    assert!(
        missing.starts_with(&format!(
            "{}:1: include: cannot read {}",
            file.display(),
            other.display()
        )),
        "{missing}"
    );

    std::fs::write(
        &other,
        "\n[function]\naddress = \"a:1\"\n[ingress]\nlisten = \"127.0.0.1:9\"",
    )
    .unwrap();
    let function = parse(include).unwrap().function.unwrap();
    assert_eq!(function.place.to_string(), format!("{}:3", other.display()));
    assert_eq!(
        function.ingress.place.to_string(),
        format!("{}:5", other.display())
    );
    let both = failed(&format!("{include}[function]\nport = 0"));
    let said = format!(
        "{}:3: [function] stands here and at {}:3",
        file.display(),
        other.display()
    );
    assert!(both.starts_with(&said), "{both}");

    std::fs::write(&other, "# nothing").unwrap();
    assert_eq!(parse(include).unwrap().function, None);
    std::fs::write(&other, "\nname = \"a\"").unwrap();
    let unknown = failed(include);
    assert!(
        unknown.starts_with(&format!("{}:2: unknown member `name`", other.display())),
        "{unknown}"
    );
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_command_that_is_not_there_is_named_with_its_line() {
    let failed = |text: &str| {
        let config = parse(&format!("{BOTH}{text}")).unwrap();
        config
            .check_files()
            .expect_err("it was taken")
            .message()
            .to_string()
    };
    let message = failed("command = [\"no-such-command\"]\ndirectory = \"/\"");
    assert!(
        message.starts_with(&format!(
            "{FILE}:4: function.command: there is no command \"no-such-command\""
        )),
        "{message}"
    );
    let message = failed("command = [\"sh\"]\ndirectory = \"/no/such\"");
    assert_eq!(
        message,
        format!("{FILE}:4: function.directory: there is no directory /no/such")
    );
}
