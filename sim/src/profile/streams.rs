//! The application of the profile `streams`: clients that add to items, and clients that follow them: by a query, by a method that
//! watches, and by one that passes on what another node shows; and clients that send messages and hear of each, or of all at the end.
//!
//! What must hold: who follows sees no more than was added, never less than before on one stream nor than his session, and in the end,
//! if his stream lives, all there is; what follows never ends well by itself; replies to messages come in order, and what is done once
//! all messages were said is done with all of them, or not at all. What has ended for one side has for the other: the world looks.

use std::collections::{BTreeMap, BTreeSet};

use anabranch::state::OrSet;
use anabranch::{Context, Error, ErrorKind, Function, NodeId, Stream};

use crate::app::{Answered, Application, Ask, Client, Cluster, Replied};

const ITEMS: &str = "items";
const KEYS: [&str; 2] = ["a", "b"];
/// Where sums go.
const SUMS: &str = "sums";
/// So many messages are sent at most.
const MESSAGES_MAX: u64 = 40;
/// What must happen: streams that said more than one thing, those that ended well, and those that were cut.
const MARKS: [&str; 6] = ["show", "watch", "relay", "echoes", "sums", "streams_cut"];

type Lines = OrSet<String>;

/// What a client has asked for.
#[derive(Clone, Debug)]
enum Asked {
    Add(String),
    /// One of the ways to follow, and what its session has added before.
    Follow {
        way: &'static str,
        must: BTreeSet<String>,
    },
    /// Each message is answered.
    Echo(Vec<u64>),
    /// All of them are, at the end; under a name.
    Sum(String, Vec<u64>),
}

/// A client's stream or other question that is not answered.
#[derive(Debug)]
struct Open {
    asked: Asked,
    key: &'static str,
    /// What its last reply said, where it follows.
    last: Option<BTreeSet<String>>,
    replies: usize,
}

/// Clients with streams, and what is known of each.
#[derive(Debug, Default)]
pub struct Streams {
    next: u64,
    open: BTreeMap<usize, Open>,
    /// By key, what anybody has begun to add.
    added: BTreeMap<&'static str, BTreeSet<String>>,
    /// By client and key, what its session has added.
    mine: BTreeMap<(usize, &'static str), BTreeSet<String>>,
    /// Sums by their names, and whether it is known that they are there.
    sums: BTreeMap<String, (u64, bool)>,
    /// Ids of nodes, once they are known.
    ids: Vec<u128>,
    marks: BTreeMap<&'static str, u64>,
}

fn lines(kind: &str) -> anabranch::FunctionBuilder<Lines> {
    Function::of::<Lines>(kind)
        .command("add", |lines: &mut Lines, _: &mut Context, token: String| {
            lines.add(&token);
            Ok::<_, String>(())
        })
        .query("show", |lines: &Lines, _, ()| Ok::<_, String>(sorted(lines)))
}

fn sorted(lines: &Lines) -> Vec<String> {
    let mut all = lines.elements();
    all.sort();
    all
}

async fn watch(mut stream: Stream<Lines, (), Vec<String>>) -> Result<(), Error> {
    loop {
        let shown = sorted(&*stream.state()?);
        stream.send(&shown).await?;
        stream.changed().await?;
    }
}

/// What another node shows.
async fn relay(mut stream: Stream<Lines, (), Vec<String>>, on: u128) -> Result<(), Error> {
    let (kind, key) = (stream.entity().kind().to_owned(), stream.key().to_owned());
    let mut other = stream.open(Some(NodeId(on)), &kind, &key, "show", &()).await?;
    while let Some(shown) = other.next::<Vec<String>>().await? {
        stream.send(&shown).await?;
    }
    Ok(())
}

async fn echo(mut stream: Stream<Lines, u64, u64>) -> Result<(), Error> {
    while let Some(n) = stream.next().await? {
        stream.send(&n).await?;
    }
    Ok(())
}

async fn sum(mut stream: Stream<Lines, u64, u64>, name: String) -> Result<(), Error> {
    let (kind, key) = (stream.entity().kind().to_owned(), stream.key().to_owned());
    let mut sum = 0;
    while let Some(n) = stream.next().await? {
        sum += n;
    }
    let _: () = stream.call(&kind, &key, "add", &format!("{name}={sum}")).await?;
    stream.send(&sum).await
}

/// At any node, perhaps of the function at any other, and perhaps for so long at most.
fn somewhere(client: &mut Client, ask: Ask, lasts_us_max: f64, ends_by_itself: f64) -> Ask {
    let ask = ask.at(client.any_node());
    let ask = if client.rng.chance(0.6) {
        ask.on(client.any_node())
    } else {
        ask
    };
    let lasts = client.rng.log_uniform(1e3, lasts_us_max) as u64;
    if client.rng.chance(ends_by_itself) {
        ask.lasting_us(lasts)
    } else {
        ask
    }
}

impl Streams {
    fn mark(&mut self, what: &'static str) {
        *self.marks.entry(what).or_default() += 1;
    }

    fn follow(&mut self, client: &mut Client, key: &'static str) -> (Asked, Ask) {
        let on = client.any_node();
        let relays = self.ids.get(on).filter(|_| client.rng.chance(0.2)).copied();
        let (way, ask) = match relays {
            Some(other) => ("relay", Ask::stream(ITEMS, key, "relay", &other)),
            None if client.rng.chance(0.4) => ("watch", Ask::stream(ITEMS, key, "watch", &())),
            None => ("show", Ask::stream(ITEMS, key, "show", &())),
        };
        let ask = somewhere(client, ask, 3e7, 0.7);
        let in_session = way != "relay" && client.rng.chance(0.5);
        let must = match in_session {
            true => self.mine.get(&(client.ix, key)).cloned().unwrap_or_default(),
            false => BTreeSet::new(),
        };
        let ask = if in_session { ask.in_session() } else { ask };
        (Asked::Follow { way, must }, ask.within_ms(3_000))
    }

    fn send(&mut self, client: &mut Client, key: &'static str) -> (Asked, Ask) {
        let messages = client.rng.below(MESSAGES_MAX);
        let messages: Vec<u64> = (0..messages).map(|_| client.rng.below(1_000)).collect();
        self.next += 1;
        let name = format!("sum {}", self.next);
        let (asked, ask) = if client.rng.chance(0.5) {
            (
                Asked::Echo(messages.clone()),
                Ask::stream(ITEMS, key, "echo", &()),
            )
        } else {
            self.sums.insert(name.clone(), (messages.iter().sum(), false));
            let ask = Ask::stream(SUMS, "all", "sum", &name);
            (Asked::Sum(name, messages.clone()), ask)
        };
        (asked, somewhere(client, ask.sending(&messages), 1e7, 0.4))
    }

    fn add(&mut self, client: &mut Client, key: &'static str) -> (Asked, Ask) {
        self.next += 1;
        let token = format!("{:04}", self.next);
        self.added.entry(key).or_default().insert(token.clone());
        let ask = Ask::of(ITEMS, key, "add", &token).at(client.any_node());
        let ask = if client.rng.chance(0.3) {
            self.mine.retain(|(of, _), _| *of != client.ix);
            ask.in_new_session()
        } else {
            ask.in_session()
        };
        (Asked::Add(token), ask)
    }

    /// Whether sums that are there are whole.
    fn check_sums(&self, shown: &[String]) -> Result<BTreeSet<String>, String> {
        let mut there = BTreeSet::new();
        for line in shown {
            let (name, sum) = line.split_once('=').unwrap_or((line, ""));
            match self.sums.get(name) {
                Some((whole, _)) if whole.to_string() == sum => there.insert(name.to_owned()),
                known => return Err(format!("{line} is there, and of {name} is known {known:?}")),
            };
        }
        Ok(there)
    }
}

impl Application for Streams {
    fn functions(&self) -> Vec<Function> {
        let items = lines(ITEMS)
            .stream("watch", |stream, ()| watch(stream))
            .stream("relay", relay)
            .stream("echo", |stream, ()| echo(stream));
        vec![items.into(), lines(SUMS).stream("sum", sum).into()]
    }

    fn next(&mut self, client: &mut Client) -> Option<Ask> {
        let key = *client.rng.pick(&KEYS);
        // Some only add, so that there is something to follow however many follow for ever.
        let (asked, ask) = match client.rng.below(10) {
            _ if client.ix < 2 => self.add(client, key),
            0..4 => self.add(client, key),
            4..8 => self.follow(client, key),
            _ => self.send(client, key),
        };
        let open = Open {
            asked,
            key,
            last: None,
            replies: 0,
        };
        self.open.insert(client.ix, open);
        Some(ask)
    }

    fn on_reply(&mut self, replied: &Replied) -> Result<(), String> {
        let Some(open) = self.open.get_mut(&replied.client) else {
            return Err(format!("a reply that nobody waits for: {replied:?}"));
        };
        open.replies += 1;
        match &open.asked {
            Asked::Follow { must, .. } => {
                let shown: BTreeSet<String> = replied.reply::<Vec<String>>().into_iter().collect();
                let added = self.added.get(open.key);
                if let Some(strange) = shown
                    .iter()
                    .find(|token| added.is_none_or(|all| !all.contains(*token)))
                {
                    return Err(format!("{strange} is shown in {}, and nobody added it", open.key));
                }
                let before = open.last.as_ref().unwrap_or(must);
                if !before.is_subset(&shown) {
                    return Err(format!("{} goes back from {before:?} to {shown:?}", replied.ask));
                }
                open.last = Some(shown);
            }
            Asked::Echo(messages) => {
                let (said, heard) = (messages.get(open.replies - 1), replied.reply::<u64>());
                if said != Some(&heard) {
                    return Err(format!(
                        "{heard} is answered to {said:?}, message {}",
                        open.replies
                    ));
                }
            }
            Asked::Sum(name, messages) => {
                let (whole, heard) = (messages.iter().sum::<u64>(), replied.reply::<u64>());
                if whole != heard || open.replies > 1 {
                    return Err(format!("{name} is {whole}, and {heard} was answered"));
                }
                if let Some((_, is_there)) = self.sums.get_mut(name) {
                    *is_there = true;
                }
            }
            Asked::Add(_) => return Err(format!("a reply to what is no stream: {replied:?}")),
        }
        Ok(())
    }

    fn on_answer(&mut self, answered: &Answered, cluster: &Cluster<'_>) -> Result<(), String> {
        if self.ids.is_empty() {
            self.ids = (0..cluster.nodes()).map(|node| cluster.node_id(node).0).collect();
        }
        let Some(open) = self.open.remove(&answered.client) else {
            return Err(format!("an answer that nobody waits for: {answered:?}"));
        };
        let is_cut = answered.is_error(ErrorKind::Unanswered) && open.replies > 0;
        match (&open.asked, &answered.result) {
            (Asked::Add(token), Ok(_)) => {
                let mine = self.mine.entry((answered.client, open.key)).or_default();
                mine.insert(token.clone());
            }
            (Asked::Follow { way, .. }, Ok(_)) => {
                return Err(format!(
                    "what follows by {way} has ended well: {:?}",
                    answered.ask
                ));
            }
            (Asked::Echo(messages), Ok(_)) if open.replies != messages.len() => {
                let (heard, said) = (open.replies, messages.len());
                return Err(format!(
                    "{heard} of {said} messages were answered, and that was all"
                ));
            }
            (Asked::Sum(name, _), Ok(_)) if open.replies != 1 => {
                return Err(format!("{name} has ended well without a reply"));
            }
            (Asked::Echo(_), Ok(_)) => self.mark("echoes"),
            (Asked::Sum(..), Ok(_)) => self.mark("sums"),
            // What another function ends with is what this one fails with; and an engine may have no room for a sum.
            (Asked::Follow { way: "relay", .. } | Asked::Sum(..) | Asked::Add(_), Err(_)) => {}
            (asked, Err(error))
                if matches!(
                    error.kind(),
                    ErrorKind::Refused
                        | ErrorKind::Invalid
                        | ErrorKind::Internal
                        | ErrorKind::Lost
                        | ErrorKind::NoFunction
                ) =>
            {
                return Err(format!("{asked:?} has failed: {error}"));
            }
            _ => {}
        }
        match &open.asked {
            Asked::Follow { way, .. } if open.replies > 1 => self.mark(way),
            _ => {}
        }
        if is_cut {
            self.mark("streams_cut");
        }
        Ok(())
    }

    fn awaits(&mut self, cluster: &Cluster<'_>) -> Option<String> {
        for (client, open) in self
            .open
            .iter()
            .filter(|(client, _)| cluster.has_stream(**client))
        {
            match &open.asked {
                Asked::Follow { way, .. } => {
                    let shown: Vec<String> = cluster.query(0, ITEMS, open.key, "show", &()).ok()?;
                    let shown: BTreeSet<String> = shown.into_iter().collect();
                    if open.last.as_ref() != Some(&shown) {
                        return Some(format!(
                            "client {client} has not seen all of {} by {way}",
                            open.key
                        ));
                    }
                }
                asked => return Some(format!("client {client} has not heard the end of {asked:?}")),
            }
        }
        None
    }

    fn marks(&self) -> BTreeMap<&'static str, u64> {
        let mut marks: BTreeMap<_, _> = MARKS.into_iter().map(|name| (name, 0)).collect();
        marks.extend(&self.marks);
        marks
    }

    fn at_rest(&mut self, cluster: &Cluster<'_>) -> Result<(), String> {
        for node in 0..cluster.nodes() {
            for key in KEYS {
                let _: Vec<String> = cluster.query(node, ITEMS, key, "show", &())?;
            }
            let shown: Vec<String> = cluster.query(node, SUMS, "all", "show", &())?;
            let there = self.check_sums(&shown)?;
            let lost = self
                .sums
                .iter()
                .find(|(name, (_, is_there))| *is_there && !there.contains(*name));
            if let Some(lost) = lost {
                return Err(format!("node {node} does not show {lost:?}"));
            }
        }
        let streams = (0..cluster.nodes())
            .map(|node| cluster.streams(node))
            .sum::<usize>();
        match streams {
            0 => Ok(()),
            some => Err(format!("{some} streams are open that nobody has")),
        }
    }
}
