//! What was typed.

use super::mutants::Mutants;
use super::replay::Replay;
use super::search::{Search, Span};
use crate::plan::SECOND;
use crate::profile::Profile;
use crate::queue::Micros;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Look for seeds that fail.
    Run(Search),
    /// Tell one.
    Replay(Replay),
    /// Check the simulator, with these seeds.
    Doctor(std::ops::Range<u64>),
    /// Check that planted bugs are found.
    Mutants(Mutants),
    /// Say how it is used.
    Help,
}

/// Understands the arguments, without the program's name.
///
/// ```
/// use anabranch_sim::cli::{Command, parse};
/// let args = ["replay", "17", "--trace"].map(String::from);
/// assert!(matches!(parse(&args), Ok(Command::Replay(replay)) if replay.seed == 17 && replay.trace));
/// assert!(parse(&["run".to_owned(), "--sedes".to_owned()]).is_err());
/// ```
pub fn parse(args: &[String]) -> Result<Command, String> {
    if args.iter().any(|word| word == "--help" || word == "-h") {
        return Ok(Command::Help);
    }
    let mut words = Words(args.iter());
    match words.next() {
        Some("run") => parse_run(&mut words),
        Some("replay") => parse_replay(&mut words),
        Some("doctor") => parse_doctor(&mut words),
        Some("mutants") => parse_mutants(&mut words),
        Some("help") => Ok(Command::Help),
        Some(other) => Err(format!("there is no command {other:?}")),
        None => Err("a command is missing".to_owned()),
    }
}

/// What is still to be understood.
struct Words<'a>(std::slice::Iter<'a, String>);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        self.0.next().map(String::as_str)
    }
}

fn number<T: std::str::FromStr>(flag: &str, words: &mut Words<'_>) -> Result<T, String> {
    let word = words.next().ok_or_else(|| format!("{flag} wants a number"))?;
    word.parse()
        .map_err(|_| format!("{flag} wants a number, not {word:?}"))
}

fn range(words: &mut Words<'_>) -> Result<std::ops::Range<u64>, String> {
    let word = words.next().ok_or("--seeds wants A..B")?;
    let (a, b) = word
        .split_once("..")
        .ok_or_else(|| format!("--seeds wants A..B, not {word:?}"))?;
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) if a < b => Ok(a..b),
        _ => Err(format!("--seeds wants A..B with A below B, not {word:?}")),
    }
}

fn nodes(words: &mut Words<'_>) -> Result<usize, String> {
    match number("--nodes", words)? {
        n @ 2..=64 => Ok(n),
        n => Err(format!("--nodes wants 2 to 64, not {n}")),
    }
}

fn profile(words: &mut Words<'_>) -> Result<Profile, String> {
    let word = words.next().ok_or("--profile wants a name")?;
    let found = Profile::ALL.into_iter().find(|profile| profile.name() == word);
    found.ok_or_else(|| format!("there is no profile {word:?}: swarm, triggers, retries, streams"))
}

fn parse_run(words: &mut Words<'_>) -> Result<Command, String> {
    let mut search = Search::default();
    while let Some(word) = words.next() {
        match word {
            "--seeds" => search.span = Span::Seeds(range(words)?),
            "--minutes" => search.span = Span::Minutes(number(word, words)?),
            "-j" => search.jobs = number(word, words)?,
            "--nodes" => search.nodes = Some(nodes(words)?),
            "--profile" => search.profile = profile(words)?,
            "--keep-going" => search.keep_going = true,
            "--json" => search.json = true,
            other => return Err(format!("run does not know {other:?}")),
        }
    }
    if search.jobs == 0 {
        return Err("-j wants at least 1".to_owned());
    }
    Ok(Command::Run(search))
}

fn parse_replay(words: &mut Words<'_>) -> Result<Command, String> {
    let mut replay = Replay {
        seed: number("replay", words)?,
        trace: false,
        until: Micros::MAX,
        nodes: None,
        profile: Profile::default(),
    };
    while let Some(word) = words.next() {
        match word {
            "--trace" => replay.trace = true,
            "--until" => {
                let seconds: f64 = number(word, words)?;
                replay.until = (seconds * SECOND as f64) as Micros;
            }
            "--nodes" => replay.nodes = Some(nodes(words)?),
            "--profile" => replay.profile = profile(words)?,
            other => return Err(format!("replay does not know {other:?}")),
        }
    }
    Ok(Command::Replay(replay))
}

fn parse_doctor(words: &mut Words<'_>) -> Result<Command, String> {
    let mut seeds = 1..21;
    while let Some(word) = words.next() {
        match word {
            "--seeds" => seeds = range(words)?,
            other => return Err(format!("doctor does not know {other:?}")),
        }
    }
    Ok(Command::Doctor(seeds))
}

fn parse_mutants(words: &mut Words<'_>) -> Result<Command, String> {
    let mut mutants = Mutants::default();
    while let Some(word) = words.next() {
        match word {
            "--only" => mutants.only = Some(words.next().ok_or("--only wants a name")?.to_owned()),
            "--seeds" => mutants.seeds = Some(number(word, words)?),
            other => return Err(format!("mutants does not know {other:?}")),
        }
    }
    Ok(Command::Mutants(mutants))
}
