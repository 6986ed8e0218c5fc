//! The command line: what can be typed. What it does is in the module of the same name.

mod names;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anabranch_crdt::Type;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::api::TIMEOUT_MS_MAX;
use super::cluster_dir::NODES_MAX;
use super::config::types;
use super::exit::Failure;

/// The help of `--timeout` for `stream`, whose other arguments are those of `call`.
const STREAM_TIMEOUT: &str =
    "How long it may take to open, at most 10m; once open, it has no time limit [default: 10s]";

/// And for `leave`.
const LEAVE_TIMEOUT: &str = "How long the node may take to hand over what it has, at most 10m [default: 30s]";

/// Replicated state with functions beside it, on nodes that need no other service.
#[derive(Debug, Parser)]
#[command(name = "anabranch", version, propagate_version = true)]
#[command(after_long_help = super::exit::table())]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a development cluster on this machine; Ctrl-C ends it.
    Up(Up),
    /// Start a development cluster, with a process of your function beside each node.
    #[command(override_usage = "anabranch dev [OPTIONS] -- CMD [ARG]...")]
    Dev(Dev),
    /// Run one node.
    Node(NodeArgs),
    /// Internal: run a function's process until stdin closes.
    #[command(hide = true)]
    MindFunction(MindFunction),
    /// Change one entity.
    Update(Update),
    /// Delete an entity; concurrent changes by others survive.
    Delete(Delete),
    /// Call a function of one entity, and print its reply.
    Call(Call),
    /// Call a function at certain times.
    #[command(subcommand)]
    Schedule(Schedule),
    /// Open a stream: print a query's answer whenever it changes, or each reply of a streaming method.
    Stream(Stream),
    /// Print one entity's value.
    Get(Get),
    /// Print one entity's value now and whenever it changes.
    Watch(Entity),
    /// Print every entity, one line of canonical JSON each, sorted by kind, then key.
    Dump(Dump),
    /// Show a node, and its cluster as that node sees it.
    Status(Ask),
    /// Compare what the nodes hold: all replicas of all shards.
    Verify(Verify),
    /// Send a history of changes to a cluster and measure how it copes.
    Replay(Replay),
    /// Take a node out of its cluster for good: it hands over what it has and stops.
    #[command(mut_arg("timeout", |arg| arg.help(LEAVE_TIMEOUT)))]
    Leave(Ask),
    /// Make a cluster's certificate authority.
    #[command(subcommand)]
    Ca(Ca),
    /// Issue nodes' certificates.
    #[command(subcommand)]
    Cert(Cert),
}

impl Command {
    /// Whether it only looks, whatever becomes of it.
    pub fn changes_nothing(&self) -> bool {
        matches!(
            self,
            Command::Get(_)
                | Command::Watch(_)
                | Command::Dump(_)
                | Command::Status(_)
                | Command::Verify(_)
                | Command::Schedule(Schedule::Show(_) | Schedule::List(_))
        )
    }

    /// Whether it asks for JSON: its failure is JSON then, too.
    pub fn fails_in_json(&self) -> bool {
        let target = match self {
            Command::Node(args) => return args.json,
            Command::Up(args) => return args.json,
            Command::Dev(args) => return args.json,
            Command::Verify(args) => return args.json,
            Command::Replay(args) => return args.json,
            Command::Update(args) => &args.how.target,
            Command::Delete(args) => &args.how.target,
            Command::Call(args) => &args.target,
            Command::Stream(args) => &args.call.target,
            Command::Get(args) => &args.entity.target,
            Command::Watch(args) => &args.target,
            Command::Dump(args) => &args.target,
            Command::Status(args) | Command::Leave(args) => &args.target,
            Command::Schedule(Schedule::Set(args)) => &args.target,
            Command::Schedule(Schedule::Show(args) | Schedule::Cancel(args)) => &args.target,
            Command::Schedule(Schedule::List(target)) => target,
            _ => return false,
        };
        target.json
    }
}

/// Whether a line asks for JSON, though it may not be understood.
pub fn asks_for_json(line: &[OsString]) -> bool {
    let mut options = line.iter().take_while(|word| *word != "--");
    options.any(|word| word == "--json")
}

/// Wrong usage in the parser's words, for programs: what is wrong, without how it is right.
pub fn misused(wrong: &clap::Error) -> Failure {
    if wrong.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::usage("a command is missing: --help says which there are");
    }
    let text = wrong.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let what = text.split("\n\nUsage:").next().unwrap_or(text);
    let what = what.split("\n\nFor more information").next().unwrap_or(what);
    Failure::usage(what.trim())
}

/// `up`.
#[derive(Debug, Args)]
pub struct Up {
    /// How many nodes, at most 32.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=NODES_MAX as i64))]
    pub nodes: u16,
    /// Where their data goes.
    #[arg(long, value_name = "DIR", default_value = super::cluster_dir::DIR_DEFAULT)]
    pub dir: PathBuf,
    /// Print one JSON object per node and nothing else on stdout; an error is one, too, the last line on stderr.
    #[arg(long)]
    pub json: bool,
}

/// `dev`.
#[derive(Debug, Args)]
pub struct Dev {
    /// How many nodes, at most 32; each has its own process of the function, and its own port for callers.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=NODES_MAX as i64))]
    pub nodes: u16,
    /// Where their data goes.
    #[arg(long, value_name = "DIR", default_value = super::cluster_dir::DIR_DEFAULT)]
    pub dir: PathBuf,
    /// Print one JSON object per node and nothing else on stdout; an error is one, too, the last line on stderr.
    #[arg(long)]
    pub json: bool,
    /// An origin whose web pages may call the function, such as http://localhost:5173, or * for any; may be repeated.
    #[arg(long = "origin", value_name = "ORIGIN", value_parser = super::config::any_origin)]
    pub origins: Vec<String>,
    /// The command that starts the function, such as -- npm start: run in this directory; it is to listen at $HOST:$PORT
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// `mind-function`.
#[derive(Debug, Args)]
pub struct MindFunction {
    /// The command.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<std::ffi::OsString>,
}

/// `node`.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The node's configuration; config/node.toml in the sources has every key.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Print one JSON object once the node is ready; an error is one, too, the last line on stderr.
    #[arg(long)]
    pub json: bool,
    /// Stop when stdin ends: how the children of `up` end with it, whatever ends it.
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
    /// Say on stdout what `dev` wants to hear, one JSON object a line.
    #[arg(long, hide = true)]
    pub for_dev: bool,
}

/// Which node is asked.
#[derive(Debug, Args)]
pub struct Target {
    /// The node's admin address; default: the first node running under --dir.
    #[arg(long, value_name = "HOST:PORT", value_parser = address, global = true)]
    pub at: Option<String>,
    /// The directory of an `up` cluster [default: .anabranch]
    #[arg(long, value_name = "DIR", global = true)]
    pub dir: Option<PathBuf>,
    /// Print JSON, also for an error (on stderr)
    #[arg(long, global = true)]
    pub json: bool,
}

/// `status` and `leave`.
#[derive(Debug, Args)]
pub struct Ask {
    /// Which node.
    #[command(flatten)]
    pub target: Target,
    /// How long the node may take to answer, at most 10m [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = level_timeout)]
    pub timeout: Option<Duration>,
}

/// What a read must not be older than.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReadLevel {
    /// What this node has
    Local,
    /// What a majority of the nodes has on disk
    Majority,
}

/// `call`.
#[derive(Debug, Args)]
pub struct Call {
    /// The entity's kind, which determines the function.
    #[arg(allow_hyphen_values = true)]
    pub kind: String,
    /// The entity's key.
    #[arg(allow_hyphen_values = true)]
    pub key: String,
    /// Which of the function's methods.
    pub method: String,
    /// Its argument, as JSON [default: null]
    #[arg(allow_hyphen_values = true)]
    pub argument: Option<String>,
    /// Session file: the node must have everything recorded in it; what this command sees is added
    #[arg(long, value_name = "FILE")]
    pub session: Option<PathBuf>,
    /// How long the whole call may take, at most 10m [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = level_timeout)]
    pub timeout: Option<Duration>,
    /// The call may run more than once: if a node does not answer, try the next
    #[arg(long)]
    pub idempotent: bool,
    /// Which node.
    #[command(flatten)]
    pub target: Target,
}

/// `schedule`.
#[derive(Debug, Subcommand)]
pub enum Schedule {
    /// Create or replace a schedule
    Set(ScheduleSet),
    /// Show a schedule
    Show(ScheduleName),
    /// Delete a schedule
    Cancel(ScheduleName),
    /// List all schedules
    List(Target),
}

/// Which schedule.
#[derive(Debug, Args)]
pub struct ScheduleName {
    /// Its name.
    pub name: String,
    /// Which node.
    #[command(flatten)]
    pub target: Target,
}

/// `schedule set`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("when").required(true)))]
pub struct ScheduleSet {
    /// Its name; a schedule of this name is replaced.
    pub name: String,
    /// The kind of the entity whose function is called.
    pub kind: String,
    /// Its key.
    pub key: String,
    /// Which of the function's methods.
    pub method: String,
    /// Its argument, as JSON [default: null]
    #[arg(allow_hyphen_values = true)]
    pub argument: Option<String>,
    /// At the times of a cron expression, in UTC: "0 3 * * mon-fri", "@daily"
    #[arg(long, value_name = "CRON", group = "when")]
    pub cron: Option<String>,
    /// Repeatedly, with this interval, at least 1s
    #[arg(long, value_name = "TIME", group = "when", value_parser = any_duration)]
    pub every: Option<Duration>,
    /// Once, after this time
    #[arg(long = "in", value_name = "TIME", group = "when", value_parser = any_duration)]
    pub after: Option<Duration>,
    /// What to do about times at which no call could be made
    #[arg(long, value_name = "HOW", default_value = "once")]
    pub missed: MissedTimes,
    /// How long each call may take, at most 10m [default: 1m]
    #[arg(long, value_name = "TIME", value_parser = level_timeout)]
    pub timeout: Option<Duration>,
    /// Which node.
    #[command(flatten)]
    pub target: Target,
}

/// See [`Missed`](crate::Missed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MissedTimes {
    /// Make one call, for the latest
    Once,
    /// Make each call, one after the other
    All,
    /// Make none that is more than a minute late
    Skip,
}

/// `stream`.
#[derive(Debug, Args)]
#[command(mut_arg("timeout", |arg| arg.help(STREAM_TIMEOUT)))]
pub struct Stream {
    /// What.
    #[command(flatten)]
    pub call: Call,
    /// Send each line of standard input, one JSON value, to the function as a message
    #[arg(long)]
    pub messages: bool,
}

/// `get`.
#[derive(Debug, Args)]
pub struct Get {
    /// What.
    #[command(flatten)]
    pub entity: Entity,
    /// Session file: the node must have everything recorded in it; what this command sees is added
    #[arg(long, value_name = "FILE")]
    pub session: Option<PathBuf>,
    /// What the value must not be older than
    #[arg(long, value_name = "LEVEL", default_value = "local")]
    pub level: ReadLevel,
    /// How long it may take, including the wait for the session and for a majority, at most 10m [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = level_timeout)]
    pub timeout: Option<Duration>,
}

/// `dump`.
#[derive(Debug, Args)]
pub struct Dump {
    /// Which node.
    #[command(flatten)]
    pub target: Target,
    /// Session file: the node must have everything recorded in it; what this command sees is added
    #[arg(long, value_name = "FILE")]
    pub session: Option<PathBuf>,
    /// How long it may take to begin, including the wait for the session, at most 10m [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = level_timeout)]
    pub timeout: Option<Duration>,
}

/// `watch`, and what `get` reads.
#[derive(Debug, Args)]
pub struct Entity {
    /// The entity's kind.
    #[arg(allow_hyphen_values = true)]
    pub kind: String,
    /// The entity's key.
    #[arg(allow_hyphen_values = true)]
    pub key: String,
    /// Which node.
    #[command(flatten)]
    pub target: Target,
}

/// `update`.
#[derive(Debug, Args)]
pub struct Update {
    /// The entity's kind.
    #[arg(allow_hyphen_values = true)]
    pub kind: String,
    /// The entity's key.
    #[arg(allow_hyphen_values = true)]
    pub key: String,
    /// The change.
    #[command(subcommand)]
    pub op: Op,
    /// Change the map's child KEY instead of the map; for a child within a child repeat it, outermost first. TYPE:KEY if the
    /// child is new and the map holds several types; :KEY for a key that looks like TYPE:KEY.
    #[arg(long = "in", value_name = "STEP", value_parser = step, global = true)]
    pub within: Vec<Step>,
    /// How.
    #[command(flatten)]
    pub how: How,
}

/// `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// The entity's kind.
    #[arg(allow_hyphen_values = true)]
    pub kind: String,
    /// The entity's key.
    #[arg(allow_hyphen_values = true)]
    pub key: String,
    /// How.
    #[command(flatten)]
    pub how: How,
}

/// What `update` and `delete` may say besides.
#[derive(Debug, Args)]
pub struct How {
    /// The entity's type, needed if its kind is new and not declared in the configuration.
    #[arg(long = "type", value_name = "TYPE", value_parser = entity_type, global = true)]
    pub ty: Option<Type>,
    /// How many copies must confirm: local, 1 to 255, majority, all; on disk, or with -applied in memory [default: local]
    #[arg(long, value_name = "LEVEL", value_parser = level, global = true)]
    pub level: Option<String>,
    /// An idempotency key, 1 to 64 bytes: a repeat at the same node changes nothing.
    #[arg(long = "key", value_name = "KEY", id = "idempotency", global = true)]
    pub idempotency_key: Option<String>,
    /// Session file: the node must have everything recorded in it; what this command does is added
    #[arg(long, value_name = "FILE", global = true)]
    pub session: Option<PathBuf>,
    /// How long it may take, including the wait for the level and for the session, at most 10m [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = level_timeout, global = true)]
    pub timeout: Option<Duration>,
    /// Which node.
    #[command(flatten)]
    pub target: Target,
}

/// A step into a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The child's type, if it is named.
    pub ty: Option<Type>,
    /// Its key.
    pub key: String,
}

fn step(text: &str) -> Result<Step, String> {
    let whole = |key: &str| Step {
        ty: None,
        key: key.to_string(),
    };
    let Some((head, key)) = text.split_once(':') else {
        return Ok(whole(text));
    };
    Ok(match (head.is_empty(), head.parse()) {
        (true, _) => whole(key),
        (false, Ok(ty)) => Step {
            ty: Some(ty),
            key: key.to_string(),
        },
        (false, Err(_)) => whole(text),
    })
}

/// A change.
#[derive(Debug, Subcommand)]
pub enum Op {
    /// Add N to a counter. N may be negative for a pncounter, and for a boundedcounter up to what this node holds.
    Incr {
        /// By how much.
        #[arg(allow_negative_numbers = true, value_name = "N", value_parser = step_of_counter)]
        by: i64,
    },
    /// Add elements to a set.
    Add {
        /// The elements, each at most 64 KiB; after `--` they may begin with a hyphen.
        #[arg(required = true, allow_negative_numbers = true, value_name = "E")]
        elements: Vec<String>,
    },
    /// Remove elements from a set, or keys from a map.
    Remove {
        /// The elements or keys, each at most 64 KiB; after `--` they may begin with a hyphen.
        #[arg(required = true, allow_negative_numbers = true, value_name = "E")]
        elements: Vec<String>,
    },
    /// Empty a set or map.
    Clear,
    /// Set a register.
    Set {
        /// The value, at most 256 KiB.
        #[arg(allow_hyphen_values = true, value_name = "V")]
        value: String,
        /// Your own clock for the value: the highest wins, however late it arrives.
        #[arg(long, value_name = "N")]
        clock: Option<u64>,
        /// The same, but at least one above the clock of the current value.
        #[arg(long, value_name = "N", conflicts_with = "clock")]
        auto_increment: Option<u64>,
        /// The first writer wins.
        #[arg(long, conflicts_with_all = ["clock", "auto_increment"])]
        reverse: bool,
    },
    /// Create the entity, empty; no effect if it exists.
    Create,
    /// Enable a flag.
    Enable,
    /// Disable a flag.
    Disable,
    /// Cast the node's ballot in a vote.
    Vote {
        /// The node's ballot.
        ballot: Ballot,
    },
    /// Hand units of a boundedcounter that this node holds over to another node.
    Transfer {
        /// How many units.
        #[arg(value_name = "N")]
        amount: u64,
        /// The other node's name or id, as `status` shows them.
        #[arg(value_name = "NODE")]
        to: String,
    },
}

/// What a ballot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ballot {
    /// Yes.
    Yes,
    /// No.
    No,
}

/// `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// The nodes' admin addresses; default: all nodes under --dir.
    #[arg(value_name = "ADDR", value_parser = address)]
    pub addresses: Vec<String>,
    /// How long the nodes may take to answer and to agree, at least 2s
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    pub within: Duration,
    /// The directory of an `up` cluster [default: .anabranch]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Print one JSON object, also for an error (on stderr).
    #[arg(long)]
    pub json: bool,
}

/// `replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// The history: one JSON event a line.
    pub file: PathBuf,
    /// The nodes' admin addresses; the history's authors are assigned to them in turn.
    #[arg(long, value_name = "ADDR,ADDR,...", required = true, value_delimiter = ',', value_parser = address)]
    pub to: Vec<String>,
    /// Send at most this many events a second.
    #[arg(long, value_name = "EVENTS_PER_S", value_parser = rate)]
    pub rate: Option<f64>,
    /// The run's name: a file that was sent before counts again only under a new name.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub run: String,
    /// How long to wait for a node that is away, and at the end for the nodes to agree.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    pub wait: Duration,
    /// What to do about a line that is not an event.
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = OnBadLine::Stop)]
    pub on_bad_line: OnBadLine,
    /// Print one JSON object at the end, also for an error (on stderr).
    #[arg(long)]
    pub json: bool,
}

/// What to do about a line that is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnBadLine {
    /// Send every event before it, then end with an error.
    Stop,
    /// Report it and go on with the next one.
    Skip,
}

/// `ca`.
#[derive(Debug, Subcommand)]
pub enum Ca {
    /// Make the certificate authority of a new cluster.
    Init {
        /// Where to put its certificate and key.
        #[arg(long, value_name = "DIR", default_value = "ca")]
        dir: PathBuf,
        /// The cluster's name: lower-case letters, digits, '-', '_', '.'.
        #[arg(long, value_name = "NAME", value_parser = cluster)]
        cluster: String,
    },
}

/// `cert`.
#[derive(Debug, Subcommand)]
pub enum Cert {
    /// Issue a node's certificate and key.
    Issue {
        /// The directory of the certificate authority.
        #[arg(long, value_name = "DIR", default_value = "ca")]
        ca: PathBuf,
        /// Where to put ca.pem, node.pem, node.key and a first node.toml.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// The node's id, 32 hexadecimal digits; default: with --force that of the existing certificate, otherwise a new one.
        #[arg(long, value_name = "ID")]
        node: Option<anabranch_crdt::NodeId>,
        /// Replace the identity that is already in --out.
        #[arg(long)]
        force: bool,
        /// Days until the certificate expires, at most 3650.
        #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=3650))]
        days: u16,
    },
}

fn cluster(text: &str) -> Result<String, String> {
    crate::transport::check_cluster(text).map(|()| text.to_string())
}

fn entity_type(text: &str) -> Result<Type, String> {
    text.parse().map_err(|_| format!("the types are {}", types()))
}

/// What a counter is moved by at a time.
fn step_of_counter(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| {
        format!(
            "it is not a whole number from {} to {}, which is how far one update moves a counter",
            i64::MIN,
            i64::MAX
        )
    })
}

fn level(text: &str) -> Result<String, String> {
    text.parse::<crate::engine::Level>()
        .map(|level| level.to_string())
        .map_err(|e| e.to_string())
}

fn address(text: &str) -> Result<String, String> {
    match super::config::host_port(text) {
        Some(_) => Ok(text.to_string()),
        None => Err("it is not HOST:PORT".to_string()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= 0.001 => Ok(rate),
        _ => Err("it is not a number of events a second, at least 0.001".to_string()),
    }
}

fn level_timeout(text: &str) -> Result<Duration, String> {
    let max = Duration::from_millis(TIMEOUT_MS_MAX);
    match duration(text)? {
        timeout if timeout > max => Err(format!("at most {} s are waited", max.as_secs())),
        timeout => Ok(timeout),
    }
}

/// Nobody waits longer for what he has asked for.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3_600);

/// A time that somebody waits: with its unit, at most a day.
fn duration(text: &str) -> Result<Duration, String> {
    match any_duration(text)? {
        time if time > WAIT_MAX => Err("it is more than a day".to_string()),
        time => Ok(time),
    }
}

/// A time with its unit: 500ms, 5s, 2m, 48h; a bare number is seconds.
fn any_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit_ms = match &text[digits..] {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("it is not a time such as 500ms, 5s, 2m or 48h".to_string()),
    };
    let number: u64 = text[..digits]
        .parse()
        .map_err(|_| "it is not a time such as 500ms, 5s, 2m or 48h".to_string())?;
    match number.checked_mul(unit_ms) {
        Some(ms) => Ok(Duration::from_millis(ms)),
        None => Err("it is more than can be told".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Command, String> {
        let words = std::iter::once("anabranch").chain(line.split(' '));
        Cli::read(words).map(|cli| cli.command).map_err(|e| e.to_string())
    }

    #[track_caller]
    fn update(line: &str) -> Update {
        match parse(line).unwrap() {
            Command::Update(update) => update,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_stand_before_or_behind_the_operation() {
        for line in [
            "update cart alice --type orset --at h:1 --json add a b",
            "update cart alice add a b --type orset --at h:1 --json",
            "update --type orset cart alice --json add a --at h:1 b",
        ] {
            let update = update(line);
            assert_eq!(
                (update.kind.as_str(), update.key.as_str(), update.how.ty),
                ("cart", "alice", Some(Type::OrSet))
            );
            assert_eq!(
                (update.how.target.at.as_deref(), update.how.target.json),
                (Some("h:1"), true)
            );
            assert!(matches!(update.op, Op::Add { elements } if elements == ["a", "b"]));
        }
    }

    #[test]
    fn numbers_may_be_negative() {
        assert!(matches!(
            update("update k a incr -5 --type pncounter").op,
            Op::Incr { by: -5 }
        ));
        assert!(matches!(
            update("update k a --key i1 incr -5").op,
            Op::Incr { by: -5 }
        ));
        let steps = |ty: Option<Type>, key: &str| {
            vec![Step {
                ty,
                key: key.to_string(),
            }]
        };
        assert_eq!(
            update("update k a enable --in flag:x").within,
            steps(Some(Type::Flag), "x")
        );
        assert_eq!(update("update k a enable --in x:y").within, steps(None, "x:y"));
        assert_eq!(
            update("update k a enable --in :flag:x").within,
            steps(None, "flag:x")
        );
        assert_eq!(update("update k a --in x --in y clear").within.len(), 2);
        assert!(
            matches!(update("update k a set -5 --clock 7").op, Op::Set { value, clock: Some(7), .. } if value == "-5")
        );
        assert!(matches!(update("update k a set -- --x").op, Op::Set { value, .. } if value == "--x"));
        assert!(
            matches!(update("update k a add -1 -- -x").op, Op::Add { elements } if elements == ["-1", "-x"])
        );
        assert_eq!(
            update("update k a --key i1 create")
                .how
                .idempotency_key
                .as_deref(),
            Some("i1")
        );
    }

    #[test]
    fn names_may_begin_with_a_hyphen() {
        for line in [
            "get -k -dash",
            "get --json -k -dash",
            "get -- -k -dash",
            "watch -k -dash --at h:1",
        ] {
            let (Ok(Command::Get(Get { entity, .. })) | Ok(Command::Watch(entity))) = parse(line) else {
                panic!("{line}")
            };
            assert_eq!(
                (entity.kind.as_str(), entity.key.as_str()),
                ("-k", "-dash"),
                "{line}"
            );
        }
        for line in [
            "update -k -dash add x",
            "update --type orset -k -dash --json add x --level all",
            "update -k -dash set -x --clock 7",
            "update -k -dash incr -5",
        ] {
            let update = update(line);
            assert_eq!(
                (update.kind.as_str(), update.key.as_str()),
                ("-k", "-dash"),
                "{line}"
            );
        }
        assert!(matches!(update("update k a set -x").op, Op::Set { value, .. } if value == "-x"));
        assert!(
            matches!(update("update k - add -- -x --json").op, Op::Add { elements } if elements == ["-x", "--json"])
        );
        // A mistyped option is not taken for a name where that leaves too much.
        assert!(parse("update k a --levle all add x").is_err());
        assert!(matches!(parse("get k -- --json"), Ok(Command::Get(get)) if get.entity.key == "--json"));
    }

    #[test]
    fn an_entity_called_like_an_operation_can_be_updated() {
        let names = [
            "set", "add", "remove", "clear", "create", "enable", "disable", "vote", "incr", "transfer",
            "help", "update", "KIND", "-h.", "--type.",
        ];
        let others = names.iter().cycle().skip(1);
        for (kind, key) in names.iter().zip(&names).chain(names.iter().zip(others)) {
            for line in [
                format!("update {kind} {key} add apple --type orset"),
                format!("update --type orset {kind} --json {key} add apple"),
                format!("update {kind} --type=orset {key} add apple --level all"),
                format!("update --type orset -- {kind} {key} add apple"),
                format!("update --type orset {kind} -- {key} add apple"),
            ] {
                let update = update(&line);
                assert_eq!(
                    (update.kind.as_str(), update.key.as_str()),
                    (*kind, *key),
                    "{line}"
                );
                assert_eq!(update.how.ty, Some(Type::OrSet), "{line}");
                assert!(
                    matches!(update.op, Op::Add { elements } if elements == ["apple"]),
                    "{line}"
                );
            }
        }
        // An operation's own words are its own, and so is an option's value.
        assert!(matches!(update("update set set set add").op, Op::Set { value, .. } if value == "add"));
        let update = update("update --in add --key incr set clear create");
        assert_eq!((update.kind.as_str(), update.key.as_str()), ("set", "clear"));
        assert_eq!(
            (&*update.within[0].key, update.how.idempotency_key.as_deref()),
            ("add", Some("incr"))
        );
        assert!(parse("update -- set --json create").is_ok_and(
            |command| matches!(command, Command::Update(update) if update.key == "--json" && !update.how.target.json)
        ));
    }

    #[test]
    fn help_is_help_wherever_it_was() {
        for line in ["update --help", "update -h", "update help", "help update"] {
            assert!(parse(line).unwrap_err().contains("Add N to a counter"), "{line}");
        }
        for line in [
            "update k a --help",
            "update help help --help",
            "update --json k a help",
        ] {
            assert!(parse(line).unwrap_err().contains("Add N to a counter"), "{line}");
        }
        for line in [
            "update k a set --help",
            "update set set set --help",
            "update k a help set",
            "help update set",
        ] {
            assert!(parse(line).unwrap_err().contains("--auto-increment"), "{line}");
        }
        assert!(
            parse("update k set")
                .unwrap_err()
                .contains("requires a subcommand")
        );
        assert!(parse("update k set apple").unwrap_err().contains("apple"));
    }

    #[test]
    fn nonsense_is_refused_with_what_there_is() {
        assert!(
            parse("update k a incr 1 --type queue")
                .unwrap_err()
                .contains("gcounter, pncounter, lwwregister, orset")
        );
        for by in ["1.5", "9223372036854775808", "-9223372036854775809", "x"] {
            let said = parse(&format!("update k a incr {by}")).unwrap_err();
            assert!(said.contains("to 9223372036854775807"), "{said}");
        }
        assert!(parse("update k a add").is_err());
        assert!(
            parse("update k a incr 1 --level most")
                .unwrap_err()
                .contains("majority")
        );
        assert!(parse("update k a incr 1 --timeout 10m").is_ok());
        assert!(
            parse("update k a incr 1 --timeout 601s")
                .unwrap_err()
                .contains("600 s")
        );
        assert!(parse("get k a --at nowhere").unwrap_err().contains("HOST:PORT"));
        assert!(parse("up --nodes 0").is_err());
        assert!(parse("replay f --to").is_err());
        assert!(parse("verify a:1 --within soon").unwrap_err().contains("500ms"));
        assert!(parse("replay f --to a:1 --rate -1").is_err());
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("5"), Ok(Duration::from_secs(5)));
        for bad in ["", "s", "-5s", "5 s", "1d", "25h", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        // A schedule is not waited for.
        assert_eq!(any_duration("48h"), Ok(Duration::from_secs(48 * 3_600)));
        assert!(parse("schedule set s k a m --in 25h").is_ok());
        assert!(parse("schedule set s k a m --every 8760h").is_ok());
        for bad in ["", "h", "1d", "99999999999999999999s", "5124095576030432h"] {
            assert!(any_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn replay_takes_its_addresses_in_one_word() {
        let Command::Replay(replay) = parse("replay f --to a:1,b:2 --rate 100 --on-bad-line skip").unwrap()
        else {
            panic!()
        };
        assert_eq!(replay.to, ["a:1", "b:2"]);
        assert_eq!(
            (replay.rate, replay.on_bad_line, replay.wait),
            (Some(100.0), OnBadLine::Skip, Duration::from_secs(60))
        );
    }
}
