//! A replay from its first question to its report.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::super::agreement;
use super::super::api::{AnswerBody, StatusBody};
use super::super::cli::{OnBadLine, Replay};
use super::super::client::Client;
use super::super::exit::Failure;
use super::super::output;
use super::dealer::{Deal, Dealer};
use super::event::{Translator, idempotency_key};
use super::history::{self, BadLine, Contents, Event, History, Line};
use super::markers;
use super::node::{Node, Parcel};
use super::progress::Progress;
use super::report::{Tally, Wire};

/// Lines read before events are sent again.
const LINES_A_TURN: usize = 256;
/// What an operation weighs in memory, about; it bounds what waits.
const OPERATION_BYTES: usize = 256;
/// Bad lines that are told one by one; after that they are only counted.
const BAD_LINES_TOLD: u64 = 20;

/// Replays a history and prints the report.
pub async fn run(args: &Replay) -> Result<(), Failure> {
    let contents = history::survey(&args.file)?;
    let client = Client::from_environment()?;
    let progress = Progress::new(contents.lines);
    let (nodes, before) = meet(&client, args, &progress).await?;
    let run = markers::Run {
        contents: &contents,
        name: &args.run,
        nodes: &nodes,
    };
    run.begin().await?;
    let mut sending = Sending {
        args,
        contents,
        progress: &progress,
        history: History::open(&args.file)?,
        translator: Translator::new(),
        dealer: Dealer::new(nodes.len()),
        nodes,
        under_way: JoinSet::new(),
        tally: Tally::new(),
        started: Instant::now(),
        released: 0,
        end: None,
    };
    let end = sending.run().await;
    let seconds = sending.started.elapsed();
    progress.phase("waiting for the nodes to agree");
    let outcome = match end {
        Ok(()) => finish(&client, &sending, seconds, &before).await,
        Err(failure) => Err(failure),
    };
    progress.clear();
    outcome
}

/// Asks all nodes who they are. They must be different nodes of one cluster.
async fn meet(
    client: &Client,
    args: &Replay,
    progress: &Progress,
) -> Result<(Vec<Arc<Node>>, Vec<StatusBody>), Failure> {
    let mut nodes = Vec::new();
    let mut statuses: Vec<StatusBody> = Vec::new();
    for address in &args.to {
        let (node, status) = Node::meet(client, address, args.wait, progress).await?;
        if let Some(i) = statuses.iter().position(|other| other.id == status.id) {
            let same = format!("{} and {address} are the same node, {}", args.to[i], status.node);
            return Err(Failure::usage(format!("{same}: name each node once in --to")));
        }
        if let Some(i) = statuses.iter().position(|other| other.cluster != status.cluster) {
            return Err(Failure::usage(format!(
                "{} and {address} are nodes of different clusters",
                args.to[i]
            )));
        }
        nodes.push(Arc::new(node));
        statuses.push(status);
    }
    Ok((nodes, statuses))
}

/// Why no more lines are read.
enum End {
    /// The file's end.
    File,
    /// A bad line.
    Bad(Failure),
}

struct Sending<'a> {
    args: &'a Replay,
    contents: Contents,
    progress: &'a Progress,
    history: History,
    translator: Translator,
    dealer: Dealer<(u64, Parcel)>,
    nodes: Vec<Arc<Node>>,
    under_way: JoinSet<Sent>,
    tally: Tally,
    started: Instant,
    /// Events read so far: what `--rate` counts.
    released: u64,
    end: Option<End>,
}

/// One event's way to its answer.
struct Sent {
    author: usize,
    line: u64,
    ops: u64,
    took: Duration,
    result: Result<AnswerBody, Failure>,
}

impl Sending<'_> {
    /// Sends every event, and returns when all are acknowledged.
    async fn run(&mut self) -> Result<(), Failure> {
        loop {
            self.read()?;
            while let Some(deal) = self.dealer.deal() {
                self.send(deal);
            }
            if self.end.is_some() && self.dealer.is_idle() {
                break;
            }
            let release = self.next_release();
            let sent = tokio::select! {
                Some(sent) = self.under_way.join_next() => Some(sent),
                () = until(release) => None,
            };
            match sent {
                Some(Ok(sent)) => self.on_sent(sent)?,
                Some(Err(e)) => return Err(Failure::new("internal", e.to_string())),
                None => {}
            }
        }
        match self.end.take() {
            Some(End::Bad(failure)) => Err(failure),
            Some(End::File) | None => self.check_unchanged(),
        }
    }

    /// Reads events while there is room for them and the rate allows.
    fn read(&mut self) -> Result<(), Failure> {
        for _ in 0..LINES_A_TURN {
            let due = self
                .next_release()
                .is_some_and(|release| release <= Instant::now());
            if !due {
                break;
            }
            match self.history.next()? {
                Some(Line {
                    number,
                    event: Ok(event),
                }) => self.release(number, &event),
                Some(Line { event: Err(bad), .. }) => self.on_bad_line(&bad, "history"),
                None => self.end = Some(End::File),
            }
        }
        Ok(())
    }

    /// When the next event may be read; `None` while there is no room for it, or none left.
    fn next_release(&self) -> Option<Instant> {
        if self.end.is_some() || !self.dealer.has_room() {
            return None;
        }
        let after = self.args.rate.map_or(0.0, |rate| self.released as f64 / rate);
        // Beyond what a duration holds: never within anybody's life.
        Duration::try_from_secs_f64(after)
            .ok()
            .map(|after| self.started + after)
    }

    fn release(&mut self, line: u64, event: &Event) {
        self.released += 1;
        let ops = self.translator.operations(event);
        let key = idempotency_key(&self.contents, line, &self.args.run);
        self.dealer.take(
            &event.author,
            ops.len() * OPERATION_BYTES,
            (line, Parcel { ops, key }),
        );
    }

    fn send(&mut self, deal: Deal<(u64, Parcel)>) {
        let Deal { node, author, item } = deal;
        let (line, parcel) = item;
        let node = Arc::clone(&self.nodes[node]);
        self.under_way.spawn(async move {
            let ops = parcel.ops.len() as u64;
            let start = Instant::now();
            let result = node.send(parcel).await;
            Sent {
                author,
                line,
                ops,
                took: start.elapsed(),
                result,
            }
        });
    }

    fn on_sent(&mut self, sent: Sent) -> Result<(), Failure> {
        match sent.result {
            Ok(answer) => {
                self.tally.events += 1;
                self.tally.updates += sent.ops;
                self.tally.repeated += u64::from(answer.repeated);
                self.tally.latency.record(sent.took);
            }
            // A node took a look at the line and refused it whole: no more than a bad line.
            Err(failure) if matches!(failure.name(), "invalid" | "wrong_type") => {
                let bad = BadLine {
                    line: sent.line,
                    why: failure.message().to_string(),
                };
                self.on_bad_line(&bad, failure.name());
            }
            Err(failure) => {
                let place = format!("{}:{}", self.args.file.display(), sent.line);
                return Err(failure.at(place));
            }
        }
        self.progress.advance();
        self.dealer.done(sent.author);
        Ok(())
    }

    fn on_bad_line(&mut self, bad: &BadLine, name: &str) {
        let file = self.args.file.display();
        if self.args.on_bad_line == OnBadLine::Stop {
            let message = format!(
                "{file}:{}: {}; nothing of this line was applied, the events before it were. --on-bad-line skip goes on \
                 with the next one",
                bad.line, bad.why
            );
            self.end = Some(End::Bad(Failure::new(name, message)));
            return;
        }
        self.tally.bad_lines += 1;
        if self.tally.bad_lines <= BAD_LINES_TOLD {
            self.progress.note(&format!(
                "{file}:{}: {}; skipped, nothing of it was applied",
                bad.line, bad.why
            ));
        } else if self.tally.bad_lines == BAD_LINES_TOLD + 1 {
            self.progress
                .note("more bad lines are skipped without a word and counted in the report");
        }
    }

    fn check_unchanged(&self) -> Result<(), Failure> {
        if self.history.digest() == self.contents.digest {
            return Ok(());
        }
        let file = self.args.file.display();
        Err(Failure::new(
            "io",
            format!(
                "{file} was changed while it was replayed: what was sent is a mixture of both, under the first one's keys"
            ),
        ))
    }
}

async fn until(release: Option<Instant>) {
    match release {
        Some(release) => sleep_until(release).await,
        None => std::future::pending().await,
    }
}

/// Waits for agreement and prints the report.
async fn finish(
    client: &Client,
    sending: &Sending<'_>,
    seconds: Duration,
    before: &[StatusBody],
) -> Result<(), Failure> {
    let args = sending.args;
    let start = Instant::now();
    let look = agreement::within(client, &args.to, args.wait).await?;
    let agreed = look.differences.is_empty().then(|| start.elapsed());
    let mut wire = Wire::default();
    for (node, before) in sending.nodes.iter().zip(before) {
        wire = wire.and(Wire::between(before, &node.status().await?));
    }
    let report = sending.tally.report(seconds, agreed, wire);
    sending.progress.clear();
    if args.json {
        output::object(&report)?;
    } else {
        output::line(&report.for_people())?;
    }
    match look.differences.first() {
        None => Ok(()),
        Some(first) => {
            let addresses: Vec<&str> = sending.nodes.iter().map(|node| node.address()).collect();
            let what = format!(
                "the nodes {} do not agree after {:?}: {first}",
                addresses.join(", "),
                args.wait
            );
            Err(Failure::new("no", what))
        }
    }
}
