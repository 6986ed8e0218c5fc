//! config/anabranch.service.

use std::collections::BTreeMap;

use super::super::support::command::anabranch;
use super::{file, is_typed_rightly, stop_seconds};

/// Section and key to values, in order: some keys may stand several times.
fn unit() -> BTreeMap<String, Vec<String>> {
    let mut section = String::new();
    let mut unit = BTreeMap::<String, Vec<String>>::new();
    for line in file("config/anabranch.service").lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_string();
            continue;
        }
        let (key, value) = line
            .split_once('=')
            .unwrap_or_else(|| panic!("no KEY=VALUE: {line:?}"));
        assert!(key.chars().all(|c| c.is_ascii_alphanumeric()), "{line:?}");
        let key = format!("{section}.{key}");
        unit.entry(key).or_default().push(value.to_string());
    }
    unit
}

#[test]
fn the_unit_starts_the_program_and_gives_it_its_time() {
    let unit = unit();
    let one = |key: &str| match unit.get(key).map(Vec::as_slice) {
        Some([value]) => value.as_str(),
        other => panic!("{key} stands once: {other:?}"),
    };
    let several: Vec<_> = unit.iter().filter(|(_, values)| values.len() > 1).collect();
    assert!(
        several.iter().all(|(key, _)| *key == "Service.SystemCallFilter"),
        "{several:?}"
    );

    let words: Vec<&str> = one("Service.ExecStart").split(' ').collect();
    assert_eq!(words[0], "/usr/local/bin/anabranch");
    assert_eq!(words[1], "node");
    is_typed_rightly(&words[1..]);
    assert_eq!(one("Service.Type"), "exec");
    assert_eq!(one("Service.KillSignal"), "SIGTERM");
    assert_eq!(one("Service.Restart"), "on-failure");
    assert!(!["root", "0", ""].contains(&one("Service.User")));
    // What it may write is where the comment puts the data.
    assert_eq!(one("Service.ProtectSystem"), "strict");
    let directory = format!("data = \"/var/lib/{}/data\"", one("Service.StateDirectory"));
    assert!(file("config/anabranch.service").contains(&directory));

    let stop: u64 = one("Service.TimeoutStopSec").parse().unwrap();
    assert!(stop > stop_seconds(), "{stop} s, {} s", stop_seconds());
}

#[test]
fn the_unit_gives_up_where_a_restart_mends_nothing() {
    let unit = unit();
    let help = anabranch(["--help"]).done();
    let (_, table) = help.split_once("Exit codes:\n").unwrap();
    let codes: BTreeMap<&str, &str> = table
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .map(|(code, meaning)| (code, meaning.trim()))
        .collect();
    let said: Vec<&str> = unit["Service.RestartPreventExitStatus"][0]
        .split(' ')
        .map(|code| codes[code])
        .collect();
    let words = [
        "usage",
        "configuration",
        "certificates",
        "another node",
        "damaged",
        "newer",
    ];
    assert_eq!(said.len(), words.len());
    for (meaning, word) in said.iter().zip(words) {
        assert!(meaning.contains(word), "{meaning:?} is not about {word:?}");
    }
}
