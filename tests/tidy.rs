//! The rules of the code base that a machine can check: layers import only downwards, files and functions stay small,
//! nothing below the driver reads a clock, draws randomness or iterates a hash map, and the daemon as users build it has
//! no planted bugs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of code in a file, without tests, comments and blank lines.
const FILE_LINES_MAX: usize = 500;
/// Lines in a function, signature and braces included.
const FUNCTION_LINES_MAX: usize = 70;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(dir: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(&root().join(dir), &mut found);
    assert!(!found.is_empty(), "no sources in {dir}: has it moved?");
    found.sort();
    found
}

fn collect(dir: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

fn is_test(name: &str) -> bool {
    name.ends_with("/tests.rs")
        || name.contains("/tests/")
        || name.starts_with("tests/")
        || name.contains("crdt-core/src/laws")
}

fn production() -> Vec<(String, String)> {
    let dirs = ["crdt-core/src", "crdt-core/laws/src", "node/src", "sim/src"];
    dirs.iter()
        .flat_map(|d| sources(d))
        .filter(|(name, _)| !is_test(name))
        .collect()
}

/// Whether a line of code has this, and not only as the end of another name.
fn names(code: &str, what: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(what)
        .any(|(at, _)| !code[..at].ends_with(is_name))
}

fn report(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

/// From the top: what a layer of `node/src` may import. Neighbours never import each other.
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    let wire = vec!["wire", "error", "payload", "terms", "trace", "view"];
    let with = |more: &[&'static str]| wire.iter().chain(more).copied().collect::<Vec<_>>();
    let driver = with(&[
        "engine",
        "session",
        "function",
        "trigger",
        "store",
        "transport",
        "membership",
        "json",
        "driver",
    ]);
    let face: Vec<&str> = driver.iter().chain(&["node", "entity"]).copied().collect();
    BTreeMap::from([
        ("wire", wire.clone()),
        ("payload", Vec::new()),
        ("error", vec!["payload"]),
        ("terms", vec!["error"]),
        ("trace", Vec::new()),
        ("view", vec!["wire"]),
        ("engine", with(&["engine"])),
        ("session", with(&["session"])),
        ("function", with(&["session", "function"])),
        (
            "trigger",
            with(&["engine", "session", "function", "json", "trigger"]),
        ),
        ("store", with(&["store"])),
        ("transport", with(&["transport"])),
        ("membership", with(&["membership"])),
        ("driver", driver),
        ("node", face.clone()),
        ("entity", face.clone()),
        ("json", with(&[])),
        ("browser", Vec::new()),
        (
            "sidecar",
            face.iter().chain(&["browser", "sidecar"]).copied().collect(),
        ),
        (
            "daemon",
            face.iter()
                .chain(&["browser", "json", "sidecar", "daemon"])
                .copied()
                .collect(),
        ),
    ])
}

#[test]
fn layers_import_only_downwards() {
    let allowed = allowed();
    let layers: Vec<&str> = allowed.keys().copied().collect();
    let mut wrong = Vec::new();
    for (name, text) in sources("node/src").into_iter().filter(|(name, _)| !is_test(name)) {
        let layer = name
            .trim_start_matches("node/src/")
            .split(['/', '.'])
            .next()
            .unwrap()
            .to_owned();
        let Some(may) = allowed.get(layer.as_str()) else {
            continue;
        };
        for (i, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            for (at, _) in code.match_indices("crate::") {
                let target: String = code[at + 7..]
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if layers.contains(&target.as_str()) && target != layer && !may.contains(&target.as_str()) {
                    wrong.push(format!("{name}:{}: {layer} imports {target}", i + 1));
                }
            }
        }
    }
    report("imports that point up or sideways", &wrong);
}

#[test]
fn files_are_small_and_have_a_front_page() {
    let mut wrong = Vec::new();
    for (name, text) in production() {
        if !text.starts_with("//!") {
            wrong.push(format!("{name}: no front page: it must begin with //!"));
        }
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or("");
        let lines = code
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty() && !l.starts_with("//"))
            .count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{name}: {lines} lines of code, at most {FILE_LINES_MAX}"));
        }
    }
    report("files", &wrong);
}

#[test]
fn functions_are_small() {
    let mut wrong = Vec::new();
    for (name, text) in production() {
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let head = line.trim_start();
            let is_fn = head.split_once("fn ").is_some_and(|(before, _)| {
                before.split_whitespace().all(|w| {
                    ["const", "async", "unsafe", "extern"].contains(&w)
                        || w.starts_with("pub")
                        || w.starts_with("crate")
                })
            });
            if !is_fn || head.ends_with([';', '}']) {
                continue;
            }
            // rustfmt puts a function's closing brace under its first letter.
            let end = lines[i..]
                .iter()
                .position(|l| l.len() == indent + 1 && l.trim_start() == "}");
            let length = end.map_or(1, |e| e + 1);
            if length > FUNCTION_LINES_MAX {
                wrong.push(format!(
                    "{name}:{}: {length} lines, at most {FUNCTION_LINES_MAX}",
                    i + 1
                ));
            }
        }
    }
    report("functions", &wrong);
}

#[test]
fn nothing_below_the_driver_reads_a_clock_or_draws_randomness() {
    const BANNED: [&str; 8] = [
        "Instant::now",
        "SystemTime::now",
        "thread_rng",
        "rand::",
        "HashMap",
        "HashSet",
        "RandomState",
        "thread::sleep",
    ];
    let mut wrong = Vec::new();
    for dir in [
        "crdt-core/src",
        "node/src/wire",
        "node/src/engine",
        "node/src/session",
        "node/src/trigger",
        "node/src/store",
        "sim/src",
    ] {
        for (name, text) in sources(dir).into_iter().filter(|(name, _)| !is_test(name)) {
            // The simulator's command line measures real speed; nothing it prints goes back into a run.
            if name.starts_with("sim/src/cli") || name == "sim/src/main.rs" {
                continue;
            }
            for (i, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or("");
                // Its order is hidden there: rows are walked by their names.
                let is_hidden = |banned: &str| name == "node/src/engine/rows.rs" && banned == "HashMap";
                for banned in BANNED.iter().filter(|b| names(code, b) && !is_hidden(b)) {
                    wrong.push(format!("{name}:{}: {banned}", i + 1));
                }
            }
        }
    }
    report("clocks, chance or hash order below the driver", &wrong);
}

#[test]
fn the_top_level_is_what_it_should_be() {
    let expected = [
        "ARCHITECTURE.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "config",
        "crdt-core",
        "node",
        "sim",
        "tests",
    ];
    let mut found: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn the_daemon_has_no_planted_bugs() {
    let binary = fs::read(env!("CARGO_BIN_EXE_anabranch")).unwrap();
    for name in ["ANABRANCH_PLANTED", "ack_before_sync", "trim_on_send"] {
        let found = binary.windows(name.len()).any(|w| w == name.as_bytes());
        assert!(!found, "the binary contains {name:?}");
    }
}
