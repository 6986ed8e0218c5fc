//! What an operation must do, given what its issuer shows: how many dots, what each puts and kills.
//!
//! Written from the types' published semantics, as naively as they read.

use std::collections::BTreeSet;

use super::ledger::{Ledger, OriginIx};
use super::shadow::Row;
use super::{Action, DotAt, ENABLED, ElementIx, Kind, Place, Stands};

/// One dot to be issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// What it puts, and where.
    pub put: Option<(Place, Stands)>,
    /// What it kills.
    pub kills: Vec<(Place, DotAt)>,
    /// What it adds to a counter.
    pub counts: i64,
}

/// What is needed to say what an operation means.
#[derive(Clone, Copy, Debug)]
pub struct Meaning<'a> {
    /// The entity's type.
    pub kind: Kind,
    /// Who issues it.
    pub me: OriginIx,
    /// The clock a register's default mode chose: the model cannot know a hybrid clock's mind.
    pub clock: u64,
    /// Knows the ids of origins, which decide between equal clocks.
    pub ledger: &'a Ledger,
    /// The sequence of the operation's first dot.
    pub seq: u64,
    /// From which earlier epoch of its node on what they held of bounded counters is its own.
    pub inherits: Option<u64>,
}

/// The dots an operation consumes. None: it changes nothing.
pub fn predict(meaning: &Meaning<'_>, row: Option<&Row>, action: &Action) -> Vec<Draft> {
    let empty = Row::default();
    let row = row.unwrap_or(&empty);
    match action {
        Action::Delete => delete(row),
        Action::Create if row.exists() => Vec::new(),
        Action::Create if meaning.kind == Kind::Bounded => vec![settle(meaning, row, 0)],
        Action::Create => match meaning.kind {
            Kind::GCounter | Kind::PnCounter => vec![put(Stands::Count { plus: 0, minus: 0 }, Vec::new())],
            _ => vec![put(Stands::Mark, Vec::new())],
        },
        Action::Increment(0) if meaning.kind == Kind::Bounded && row.exists() => Vec::new(),
        Action::Increment(by) if meaning.kind == Kind::Bounded => vec![settle(meaning, row, *by)],
        Action::Increment(by) => increment(meaning, row, *by),
        Action::Transfer { amount, to } => transfer(meaning, row, *amount, *to),
        Action::IncrementIn(key, by) => increment_in(meaning, row, *key, *by),
        Action::AddIn(key, elements) => add(row, Some(*key), elements),
        Action::RemoveIn(key, elements) => remove_in(row, *key, elements),
        Action::SetIn(key, value) => set_in(meaning, row, *key, *value),
        Action::Add(elements) if meaning.kind == Kind::GSet => {
            let is_new =
                |element: &&ElementIx| !row.live.keys().any(|(at, _)| *at == Place::Element(**element));
            let new: Vec<ElementIx> = elements.iter().filter(is_new).copied().collect();
            add(row, None, &new)
        }
        Action::Add(elements) => add(row, None, elements),
        Action::Remove(elements) => remove(row, |element| elements.contains(&element)),
        Action::Clear => remove(row, |_| true),
        Action::Set { value, clock } => set(meaning, row, *value, *clock),
        Action::SetAbove { value, least } => {
            let clocks = row.live.values().filter_map(|stands| match stands {
                Stands::Register { clock, .. } => Some(clock.saturating_add(1)),
                _ => None,
            });
            let clock = clocks.max().unwrap_or(0).max(*least);
            set(meaning, row, *value, Some(clock))
        }
        Action::SetFirst(value) => set(meaning, row, *value, Some(meaning.clock)),
        Action::Write(value) => vec![put(Stands::Value(*value), row.live.keys().copied().collect())],
        Action::Enable => add(row, None, &[ENABLED]),
        Action::Disable => remove(row, |_| true),
        Action::Vote(yes) => vec![put(Stands::Ballot(*yes), superseded_ballots(meaning, row))],
    }
}

/// How many transfers from one replica to another may wait to be taken up.
const TRANSFERS_MAX: usize = 64;

/// Whether an operation must be refused for what its issuer holds of a bounded counter.
pub fn is_refused(meaning: &Meaning<'_>, row: Option<&Row>, action: &Action) -> bool {
    let me = meaning.ledger.origin_id(meaning.me);
    let held = row.map_or(0, |row| {
        holdings(meaning, row).map(|(_, amount)| i128::from(amount)).sum()
    });
    match action {
        Action::Increment(by) if meaning.kind == Kind::Bounded => *by < 0 && held + i128::from(*by) < 0,
        Action::Transfer { amount, to } if *to != me && *amount > 0 => {
            let of_mine = |(at, stands): (&(Place, DotAt), &Stands)| {
                at.1.origin == meaning.me && matches!(stands, Stands::Rights { to: Some(t), .. } if t == to)
            };
            let waiting = row.map_or(0, |row| row.live.iter().filter(|entry| of_mine(*entry)).count());
            held < i128::from(*amount) || waiting >= TRANSFERS_MAX
        }
        _ => false,
    }
}

/// What the issuer holds of a bounded counter: what it put for itself, what others put for it, and the same of epochs whose heir
/// it is.
fn holdings<'a>(meaning: &'a Meaning<'_>, row: &'a Row) -> impl Iterator<Item = ((Place, DotAt), u64)> + 'a {
    let me = meaning.ledger.origin_id(meaning.me);
    let first = meaning.inherits.unwrap_or(me.1);
    row.live.iter().filter_map(move |(at, stands)| {
        let Stands::Rights { amount, to } = *stands else {
            return None;
        };
        let (node, epoch) = to.unwrap_or_else(|| meaning.ledger.origin_id(at.1.origin));
        (node == me.0 && (first..=me.1).contains(&epoch)).then_some((*at, amount))
    })
}

/// All that the issuer holds, in one, and so much more or less.
fn settle(meaning: &Meaning<'_>, row: &Row, change: i64) -> Draft {
    let held: i128 = holdings(meaning, row).map(|(_, amount)| i128::from(amount)).sum();
    let amount = (held + i128::from(change)).max(0) as u64;
    let kills = holdings(meaning, row).map(|(at, _)| at).collect();
    Draft {
        counts: change,
        ..put(Stands::Rights { amount, to: None }, kills)
    }
}

/// Less for the issuer, and a share for another.
fn transfer(meaning: &Meaning<'_>, row: &Row, amount: u64, to: (u128, u64)) -> Vec<Draft> {
    if amount == 0 || to == meaning.ledger.origin_id(meaning.me) {
        return Vec::new();
    }
    let rest = Draft {
        counts: 0,
        ..settle(meaning, row, -(amount as i64))
    };
    let to = Some(to);
    vec![rest, put(Stands::Rights { amount, to }, Vec::new())]
}

fn put(stands: Stands, kills: Vec<(Place, DotAt)>) -> Draft {
    Draft {
        put: Some((Place::Root, stands)),
        kills,
        counts: 0,
    }
}

/// One live dot a replica; nothing for adding 0 to what exists. The totals are for the row to say: see [`Row::must`].
fn increment(meaning: &Meaning<'_>, row: &Row, by: i64) -> Vec<Draft> {
    if by == 0 && row.exists() {
        return Vec::new();
    }
    let mine = row.live.keys().filter(|(_, dot)| dot.origin == meaning.me);
    let kills = mine.copied().collect();
    vec![Draft {
        counts: by,
        ..put(Stands::Count { plus: 0, minus: 0 }, kills)
    }]
}

/// The same under a key; whatever says no more than that the map exists goes too.
fn increment_in(meaning: &Meaning<'_>, row: &Row, key: ElementIx, by: i64) -> Vec<Draft> {
    let place = Place::Child(key);
    if by == 0 && row.live.keys().any(|(at, _)| *at == place) {
        return Vec::new();
    }
    let goes = |(at, dot): &&(Place, DotAt)| *at == Place::Root || (*at == place && dot.origin == meaning.me);
    let kills = row.live.keys().filter(goes).copied().collect();
    vec![Draft {
        put: Some((place, Stands::Count { plus: 0, minus: 0 })),
        kills,
        counts: by,
    }]
}

/// Everything seen under the key is superseded, and whatever says no more than that the map exists.
fn set_in(meaning: &Meaning<'_>, row: &Row, key: ElementIx, value: u64) -> Vec<Draft> {
    let write = Stands::Register {
        clock: meaning.clock,
        custom: false,
        value,
    };
    vec![Draft {
        put: Some((Place::Child(key), write)),
        kills: live_in(row, |at| *at == Place::Root || *at == Place::Child(key)),
        counts: 0,
    }]
}

/// What is alive in places that go.
fn live_in(row: &Row, goes: impl Fn(&Place) -> bool) -> Vec<(Place, DotAt)> {
    row.live.keys().filter(|(at, _)| goes(at)).copied().collect()
}

/// One dot an element, ascending, of the set or of the one under this key; the first also takes the presence marks away, of
/// the set and of the map around it.
fn add(row: &Row, key: Option<ElementIx>, elements: &[ElementIx]) -> Vec<Draft> {
    let place = |element| key.map_or(Place::Element(element), |key| Place::Member(key, element));
    let is_mark = |at: &Place| *at == Place::Root || key.is_some_and(|key| *at == Place::Child(key));
    let elements: BTreeSet<ElementIx> = elements.iter().copied().collect();
    let places = elements.into_iter().map(place).enumerate();
    places
        .map(|(n, place)| Draft {
            put: Some((place, Stands::Mark)),
            kills: live_in(row, |at| *at == place || (n == 0 && is_mark(at))),
            counts: 0,
        })
        .collect()
}

/// One dot for everything; nothing stays of it.
fn delete(row: &Row) -> Vec<Draft> {
    if !row.exists() {
        return Vec::new();
    }
    vec![Draft {
        put: None,
        kills: live_in(row, |_| true),
        counts: 0,
    }]
}

/// One dot for all that goes. It stays as a presence mark also when elements remain: others may be removing those.
fn remove(row: &Row, which: impl Fn(ElementIx) -> bool) -> Vec<Draft> {
    remove_at(
        row,
        Place::Root,
        |at| matches!(at, Place::Element(at) | Place::Child(at) | Place::Member(at, _) if which(*at)),
    )
}

/// The same in the set under a key.
fn remove_in(row: &Row, key: ElementIx, elements: &[ElementIx]) -> Vec<Draft> {
    remove_at(
        row,
        Place::Child(key),
        |at| matches!(at, Place::Member(of, element) if *of == key && elements.contains(element)),
    )
}

/// The mark stays in this place, and takes those there and at the root away.
fn remove_at(row: &Row, mark: Place, goes: impl Fn(&Place) -> bool) -> Vec<Draft> {
    if live_in(row, &goes).is_empty() {
        return Vec::new();
    }
    vec![Draft {
        put: Some((mark, Stands::Mark)),
        kills: live_in(row, |at| *at == Place::Root || *at == mark || goes(at)),
        counts: 0,
    }]
}

/// A node's own ballots, of whichever epoch, and what says no more than that there is a vote.
fn superseded_ballots(meaning: &Meaning<'_>, row: &Row) -> Vec<(Place, DotAt)> {
    let node = |origin| meaning.ledger.origin_id(origin).0;
    let goes = |dot: &DotAt, stands: &Stands| *stands == Stands::Mark || node(dot.origin) == node(meaning.me);
    let live = row.live.iter().filter(|((_, dot), stands)| goes(dot, stands));
    live.map(|(at, _)| *at).collect()
}

/// In default mode everything seen is superseded; with a clock of the caller's, what is below it, and a write that
/// two others beat is none.
fn set(meaning: &Meaning<'_>, row: &Row, value: u64, clock: Option<u64>) -> Vec<Draft> {
    let new = (
        clock.unwrap_or(meaning.clock),
        meaning.ledger.origin_id(meaning.me),
        meaning.seq,
    );
    let is_above = |dot: DotAt, stands: &Stands| match stands {
        Stands::Register { clock: c, .. } if clock.is_some() => {
            (*c, meaning.ledger.origin_id(dot.origin), dot.seq) > new
        }
        _ => false,
    };
    let (above, below): (Vec<_>, Vec<_>) = row
        .live
        .iter()
        .partition(|((_, dot), stands)| is_above(*dot, stands));
    if above.len() >= 2 {
        return Vec::new();
    }
    let kills = below.into_iter().map(|(at, _)| *at).collect();
    vec![put(
        Stands::Register {
            clock: new.0,
            custom: clock.is_some(),
            value,
        },
        kills,
    )]
}
