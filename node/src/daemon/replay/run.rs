//! A replay from its first question to its report.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::super::agreement;
use super::super::api::{AnswerBody, StatusBody};
use super::super::cli::{OnBadLine, Replay};
use super::super::client::Client;
use super::super::config::BODY_BYTES_DEFAULT;
use super::super::exit::Failure;
use super::super::output::{self, plural};
use super::dealer::{Deal, Dealer};
use super::event::{Translator, idempotency_key};
use super::history::{self, BadLine, Contents, Event, History, Line};
use super::markers;
use super::node::{Node, Parcel};
use super::progress::Progress;
use super::report::{Agreement, Tally, Wire};

/// Lines read before events are sent again.
const LINES_A_TURN: usize = 256;
/// Bad lines that are told one by one; after that they are only counted.
const BAD_LINES_TOLD: u64 = 20;

/// Replays a history and prints the report.
pub async fn run(args: &Replay) -> Result<(), Failure> {
    // Before the first event nothing changes: what marks a run is remembered, and is no entity.
    replay(args).await.map_err(|failure| failure.or_changed(false))
}

async fn replay(args: &Replay) -> Result<(), Failure> {
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
    let outcome = match end {
        Ok(()) => {
            progress.phase("waiting for the nodes to agree");
            finish(&client, &sending, seconds, &before).await
        }
        Err(failure) => Err(failure),
    };
    progress.clear();
    // Of several requests: whatever the last one says of itself.
    outcome.map_err(|failure| failure.changed(sending.released > 0))
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
        let of = |address: &str, status: &StatusBody| agreement::Of {
            address: address.to_string(),
            cluster: status.cluster.clone(),
            cluster_id: status.cluster_id.clone(),
        };
        for (other, address_there) in statuses.iter().zip(&args.to) {
            of(address_there, other).same(&of(address, &status))?;
        }
        if let Some(i) = statuses.iter().position(|other| other.id == status.id) {
            let same = format!("{} and {address} are the same node, {}", args.to[i], status.node);
            return Err(Failure::usage(format!("{same}: name each node once in --to")));
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
    /// A line that is no event: all before it is still sent.
    Bad(Bad),
    /// A line that a node refused: nothing more is sent, what is under way is waited for. The first one, should there be
    /// several.
    Refused(Bad),
}

/// A line that is not done, and the failure that it is.
struct Bad {
    line: u64,
    name: String,
    why: String,
}

/// An event that waits or is under way.
struct Job {
    line: u64,
    ops: u64,
    parcel: Parcel,
}

struct Sending<'a> {
    args: &'a Replay,
    contents: Contents,
    progress: &'a Progress,
    history: History,
    translator: Translator,
    dealer: Dealer<Job>,
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
            self.deal();
            if self.is_over() {
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
            Some(End::Bad(bad)) => Err(self.stopped(
                &bad,
                "nothing of this line was applied, the events before it were",
            )),
            Some(End::Refused(bad)) => Err(self.stopped(
                &bad,
                &format!(
                    "nothing of this line was applied, and nothing later of its author. Other authors' events before it \
                     may be missing and some after it may have been applied ({} were acknowledged in all); each author's \
                     order holds",
                    plural(self.tally.events, "event")
                ),
            )),
            Some(End::File) | None => self.check_unchanged(),
        }
    }

    fn stopped(&self, bad: &Bad, now: &str) -> Failure {
        let (file, Bad { line, name, why }) = (self.args.file.display(), bad);
        let message = format!("{file}:{line}: {why}; {now}. --on-bad-line skip goes on with the next one");
        Failure::new(name, message)
    }

    fn is_over(&self) -> bool {
        match self.end {
            None => false,
            Some(End::Refused(_)) => self.under_way.is_empty(),
            Some(End::File | End::Bad(_)) => self.dealer.is_idle(),
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
                }) => self.release(number, &event)?,
                Some(Line { event: Err(bad), .. }) => self.on_bad_line(bad),
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

    fn release(&mut self, line: u64, event: &Event) -> Result<(), Failure> {
        self.released += 1;
        let ops = self.translator.operations(event);
        let count = ops.len() as u64;
        let key = idempotency_key(&self.contents, line, &self.args.run);
        let node = self.dealer.node_of(&event.author);
        let parcel = self.nodes[node].parcel(ops, key)?;
        let bytes = parcel.len();
        if bytes > BODY_BYTES_DEFAULT {
            let why = format!(
                "its update takes {bytes} bytes on the way to a node (names that need escapes take more), at most \
                 {BODY_BYTES_DEFAULT}"
            );
            self.on_bad_line(BadLine { line, why });
            return Ok(());
        }
        self.translator.accept(event);
        let job = Job {
            line,
            ops: count,
            parcel,
        };
        self.dealer.take(&event.author, bytes, job);
        Ok(())
    }

    /// Sends what may be sent now. After a refusal nothing is: it would be applied behind what is missing.
    fn deal(&mut self) {
        while !matches!(self.end, Some(End::Refused(_)))
            && let Some(Deal { node, author, item }) = self.dealer.deal()
        {
            let node = Arc::clone(&self.nodes[node]);
            self.under_way.spawn(async move {
                let Job { line, ops, parcel } = item;
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
                self.on_refused(sent.line, &failure);
            }
            Err(failure) => {
                let failure = failure.at(format_args!("{}:{}", self.args.file.display(), sent.line));
                // Why it ends is said already; this is what else happened on the way.
                if !matches!(self.end, Some(End::Refused(_))) {
                    return Err(failure);
                }
                self.progress.note(failure.message());
            }
        }
        self.progress.advance();
        self.dealer.done(sent.author);
        Ok(())
    }

    fn on_refused(&mut self, line: u64, failure: &Failure) {
        let why = failure.message().to_string();
        if self.args.on_bad_line == OnBadLine::Skip {
            return self.skip(&BadLine { line, why });
        }
        if matches!(&self.end, Some(End::Refused(first)) if first.line < line) {
            return;
        }
        let name = failure.name().to_string();
        self.end = Some(End::Refused(Bad { line, name, why }));
    }

    fn on_bad_line(&mut self, bad: BadLine) {
        if self.args.on_bad_line == OnBadLine::Skip {
            return self.skip(&bad);
        }
        let BadLine { line, why } = bad;
        let name = "history".to_string();
        self.end = Some(End::Bad(Bad { line, name, why }));
    }

    fn skip(&mut self, bad: &BadLine) {
        self.tally.bad_lines += 1;
        if self.tally.bad_lines <= BAD_LINES_TOLD {
            self.progress.note(&format!(
                "{}:{}: {}; skipped, nothing of it was applied",
                self.args.file.display(),
                bad.line,
                bad.why
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

/// Waits for agreement and prints the report, whatever can still be learnt of the nodes.
async fn finish(
    client: &Client,
    sending: &Sending<'_>,
    seconds: Duration,
    before: &[StatusBody],
) -> Result<(), Failure> {
    let args = sending.args;
    let start = Instant::now();
    let look = agreement::within(client, &args.to, args.wait).await;
    let agreement = match &look {
        Ok(look) if look.differences.is_empty() => Agreement::After(start.elapsed()),
        Ok(_) => Agreement::No,
        Err(_) => Agreement::Unknown,
    };
    let (wire, silent) = wire(&sending.nodes, before).await?;
    let report = sending.tally.report(seconds, agreement, wire);
    sending.progress.clear();
    if args.json {
        output::object(&report)?;
    } else {
        output::line(&report.for_people())?;
    }
    let sent = "every event was sent and acknowledged, only";
    let look = look.map_err(|failure| failure.at(format_args!("{sent} the nodes could not be compared")))?;
    if let Some(failure) = silent {
        return Err(failure.at(format_args!(
            "{sent} not all nodes told how much they sent each other"
        )));
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

/// What the nodes sent each other, and why one of them could not say, if one could not.
async fn wire(nodes: &[Arc<Node>], before: &[StatusBody]) -> Result<(Wire, Option<Failure>), Failure> {
    let mut asking = JoinSet::new();
    for (node, before) in nodes.iter().cloned().zip(before.to_vec()) {
        asking.spawn(async move {
            let after = node.status().await?;
            Ok::<_, Failure>(Wire::between(&before, &after))
        });
    }
    let (mut wire, mut silent) = (Wire::default(), None);
    while let Some(answer) = asking.join_next().await {
        match answer.map_err(|e| Failure::new("internal", e.to_string()))? {
            Ok(more) => wire = wire.and(more),
            Err(failure) => {
                wire.incomplete = true;
                silent.get_or_insert(failure);
            }
        }
    }
    Ok((wire, silent))
}
