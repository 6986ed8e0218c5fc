//! KIND and KEY of `update`, which may be called like one of its operations.
//!
//! Contract: the first two words behind `update` that are no options, nor options' values, are names, whatever else they could be;
//! behind `--` every word is one. Where there are not two, the line is what the parser makes of it: `update help` is help.

use std::ffi::{OsStr, OsString};

use clap::{CommandFactory, Parser};

use super::{Cli, Command};

/// Stand in the names' place while the rest is parsed: the parser takes a word that is called like a subcommand for that. They are
/// what an error calls the two, too.
const PLACES: [&str; 2] = ["KIND", "KEY"];

impl Cli {
    /// What a line says, its first word being the program.
    ///
    /// # Errors
    /// Wrong usage, in the parser's own words; help and the version, too.
    pub fn read(line: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Cli, clap::Error> {
        let mut line: Vec<OsString> = line.into_iter().map(Into::into).collect();
        let names = set_aside(&mut line);
        let mut cli = Cli::try_parse_from(line)?;
        if let (Command::Update(update), Some([kind, key])) = (&mut cli.command, names) {
            (update.kind, update.key) = (kind, key);
        }
        Ok(cli)
    }
}

/// Takes the names out of a line of `update`.
fn set_aside(line: &mut Vec<OsString>) -> Option<[String; 2]> {
    const UPDATE: &str = "update";
    if line.get(1).is_none_or(|word| word != UPDATE) {
        return None;
    }
    let mut cli = Cli::command();
    cli.build();
    let [kind, key] = places(line, cli.find_subcommand(UPDATE)?)?;
    let text = |at: usize| line.get(at)?.to_str().map(str::to_owned);
    // The parser says what is wrong with one that is no text.
    let names = [text(kind)?, text(key)?];
    for (at, place) in [kind, key].into_iter().zip(PLACES) {
        if let Some(word) = line.get_mut(at) {
            *word = place.into();
        }
    }
    // It would say that no word behind it is an operation.
    if let Some(end) = line.iter().take(key).position(|word| word == "--") {
        line.remove(end);
    }
    Some(names)
}

/// Where the first two names of a line are.
fn places(line: &[OsString], update: &clap::Command) -> Option<[usize; 2]> {
    let mut found = Vec::new();
    let mut words = line.iter().enumerate().skip(2);
    let mut all_are_names = false;
    while let Some((at, word)) = words.next() {
        match option(update, word) {
            _ if all_are_names => found.push(at),
            _ if word == "--" => all_are_names = true,
            None => found.push(at),
            Some(Takes::Nothing) => {}
            Some(Takes::TheNext) => drop(words.next()),
        }
        if let [kind, key] = found[..] {
            return Some([kind, key]);
        }
    }
    None
}

/// What an option takes of the words behind it.
enum Takes {
    Nothing,
    TheNext,
}

/// The option that a word is, if there is one: other words may begin with a hyphen, too.
fn option(update: &clap::Command, word: &OsStr) -> Option<Takes> {
    let word = word.to_str()?;
    let (name, has_value) = match word.split_once('=') {
        Some((name, _)) => (name, true),
        None => (word, false),
    };
    let is_it = |arg: &&clap::Arg| match (name.strip_prefix("--"), name.strip_prefix('-')) {
        (Some(long), _) => arg.get_long() == Some(long),
        (None, Some(short)) => arg.get_short().is_some_and(|c| short.chars().eq([c])),
        (None, None) => false,
    };
    let arg = update.get_arguments().find(is_it)?;
    Some(match arg.get_action().takes_values() && !has_value {
        true => Takes::TheNext,
        false => Takes::Nothing,
    })
}
