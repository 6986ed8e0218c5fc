//! What the README tells people to type exists.

use std::collections::BTreeSet;
use std::path::Path;

use super::support::command::anabranch;

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

fn readme() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap()
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
