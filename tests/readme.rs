//! What the README and the HTTP API's reference tell people to type exists, and the README's links lead somewhere.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::support::cluster::Cluster;
use super::support::command::{anabranch, anabranch_in};
use super::support::process::Process;
use super::support::temp::TempDir;
use super::support::{ANABRANCH, http, ports};

#[test]
fn the_commands_and_options_in_the_readme_exist() {
    let commands = commands(&readme());
    assert!(commands.len() >= 5, "hardly anything to type: {commands:?}");
    for words in commands {
        let (command, help) = help(&words);
        let options = words
            .iter()
            .filter(|word| word.starts_with("--") && word.len() > 2);
        for option in options {
            let name = option.split('=').next().unwrap_or(option);
            assert!(help.contains(name), "{command} has no {name}: {words:?}");
        }
    }
}

#[test]
fn the_paths_in_the_documents_exist() {
    let cluster = Cluster::start("readme-paths", 1);
    let text = readme() + &document("node/HTTP.md");
    let paths: BTreeSet<&str> = text
        .match_indices("PORT/")
        .map(|(at, _)| {
            let path = &text[at + "PORT".len()..];
            let end = path.find([' ', ';', '\n', '`']).unwrap_or(path.len());
            &path[..end]
        })
        .collect();
    assert!(paths.len() >= 9, "{paths:?}");
    for path in paths {
        let reply = http::request(&cluster.nodes[0].http, "PUT", path, &[], "").unwrap();
        assert_eq!(reply.status, 405, "{path}: {reply:?}");
    }
}

#[test]
fn the_links_in_the_readme_lead_somewhere() {
    let readme = readme();
    let links = links(&readme);
    assert!(links.len() >= 8, "{links:?}");
    for (file, heading) in links {
        let text = match file.is_empty() {
            true => readme.clone(),
            false => document(&file),
        };
        assert!(
            heading.is_empty() || headings(&text).contains(&heading),
            "{file}#{heading}"
        );
    }
}

#[test]
fn the_exit_codes_in_the_readme_are_those_of_the_program() {
    let help = anabranch(["--help"]).done();
    let printed: Vec<String> = help
        .lines()
        .skip_while(|line| *line != "Exit codes:")
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let readme = readme();
    let rows = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    let written: Vec<String> = rows
        .filter(|(code, _)| code.parse::<u8>().is_ok())
        .map(|(code, meaning)| format!("{code} {meaning}"))
        .collect();
    assert!(written.len() > 20, "{written:?}");
    assert_eq!(written, printed);
}

#[test]
fn a_cluster_of_ones_own_machines_is_made_as_it_is_written() {
    let readme = readme();
    let (_, section) = readme.split_once("## A cluster of your own machines").unwrap();
    let block = section.split("```").nth(1).unwrap();
    let lines: Vec<&str> = block
        .lines()
        .skip(1)
        .filter_map(|line| line.split('#').next())
        .collect();
    let words = |line: &str, from: &str, to: &str| -> Vec<String> {
        let words = line.split_whitespace().skip(1);
        words.map(|word| word.replace(from, to)).collect()
    };
    let [init, issue, node] = lines[..] else {
        panic!("three commands: {lines:?}");
    };
    assert!(lines.iter().all(|line| line.starts_with("anabranch ")));

    let dir = TempDir::new("own-machines");
    anabranch_in(dir.path(), words(init, "", "")).done();
    anabranch_in(dir.path(), words(issue, "", "")).done();
    anabranch_in(dir.path(), words(issue, "node-1", "node-2")).done();
    // Two machines have the same ports, one machine has not.
    let ports: [u16; 4] = std::array::from_fn(|_| ports::take().port());
    let edit = |name: &str, edits: &[(&str, String)]| {
        let path = dir.join(name).join("node.toml");
        let mut text = std::fs::read_to_string(&path).unwrap();
        for (from, to) in edits {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            text = text.replace(from, to);
        }
        std::fs::write(path, text).unwrap();
    };
    let listen = |port: u16| format!("127.0.0.1:{port}");
    let at = |i: usize| {
        [
            ("127.0.0.1:7411", listen(ports[i])),
            ("127.0.0.1:7412", listen(ports[i + 1])),
        ]
    };
    edit("node-1", &at(0));
    // The seed is a name, as it would be among machines.
    let seed = ("seeds = []", format!("seeds = [\"localhost:{}\"]", ports[0]));
    edit("node-2", &[at(2).as_slice(), &[seed]].concat());

    let start = |name: &str| {
        let mut command = Command::new(ANABRANCH);
        command.args(words(node, "node-1", name)).current_dir(dir.path());
        let mut process = Process::start(name, &mut command);
        process.stdout.until("is ready");
        process
    };
    let mut nodes = [start("node-1"), start("node-2")];
    let [one, two] = [listen(ports[1]), listen(ports[3])];
    let update = [
        "update", "cart", "alice", "add", "fig", "--type", "orset", "--level", "2", "--at", &one,
    ];
    anabranch(update).done();
    assert_eq!(anabranch(["get", "cart", "alice", "--at", &two]).done(), "fig\n");
    assert!(anabranch(["verify", &one, &two]).done().contains("2 nodes agree"));
    assert!(dir.join("node-2/data/meta").exists());
    for process in &mut nodes {
        process.terminate();
        process.wait().done();
    }
}

fn readme() -> String {
    document("README.md")
}

/// The text of this file of the repository.
fn document(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join(path)).unwrap()
}

/// Where the links of a text lead that are to files of the repository or to headings, as (file, heading).
fn links(text: &str) -> Vec<(String, String)> {
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target);
    targets
        .map(|target| target.split_once('#').unwrap_or((target, "")))
        .map(|(file, heading)| (file.to_string(), heading.to_string()))
        .collect()
}

/// What headings are called in links to them.
fn headings(text: &str) -> Vec<String> {
    let titles = text
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let name = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' => Some(c),
        _ => None,
    };
    titles
        .map(|title| title.chars().filter_map(name).collect())
        .collect()
}

/// The command that these words begin with, and its help.
fn help(words: &[String]) -> (String, String) {
    let nested = matches!(words.first().map(String::as_str), Some("ca" | "cert"));
    let command = &words[..words.len().min(if nested { 2 } else { 1 })];
    let help = anabranch(command.iter().map(String::as_str).chain(["--help"])).done();
    (command.join(" "), help)
}

/// What stands behind the program's name in the code blocks.
fn commands(text: &str) -> BTreeSet<Vec<String>> {
    let mut commands = BTreeSet::new();
    let mut in_code = false;
    let joined = text.replace("\\\n", " ");
    for line in joined.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        let line = line.trim().trim_start_matches("$ ");
        let typed = [
            "anabranch ",
            "cargo run --release -- ",
            "./target/release/anabranch ",
            "target/release/anabranch ",
        ]
        .iter()
        .find_map(|program| line.strip_prefix(program));
        if let Some(typed) = typed.filter(|_| in_code) {
            let typed = typed.split(" #").next().unwrap_or(typed);
            let end = typed.find(['|', '>', '&', ';']).unwrap_or(typed.len());
            commands.insert(typed[..end].split_whitespace().map(str::to_string).collect());
        }
    }
    commands
}
