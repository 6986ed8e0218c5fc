//! What a replica must show: the operations its version vector covers, and what follows from them.

use std::collections::{BTreeMap, BTreeSet};

use super::ledger::{DotRecord, Ledger, OriginIx};
use super::predict::Draft;
use super::{DotAt, ElementIx, EntityIx, Kind, Place, Shown, Stands, Vv, covers};

/// How a vector breaks the rules by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It covers a dot that nobody issued.
    NeverIssued(DotAt),
    /// It ends inside an update.
    TornCommit(DotAt),
    /// It covers an operation but not what that killed.
    KilledUncovered {
        /// The operation.
        killer: DotAt,
        /// What it killed.
        killed: DotAt,
    },
}

/// What covering more did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The entities that an operation now covered was about.
    pub touched: BTreeSet<EntityIx>,
    /// Those of them in which dots came alive or died.
    pub changed: BTreeSet<EntityIx>,
    /// The largest clock that a hybrid clock chose: among the puts that came alive, and among all that are covered now.
    pub stamps: Stamps,
}

/// Clocks of register writes in default mode, as far ahead of a wall clock as a hybrid clock still follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// The largest that must have been seen.
    pub least: u64,
    /// The largest that may have been seen.
    pub most: u64,
}

/// What authors' increments counted for before a step, where the step has to do with them.
#[derive(Debug, Default)]
struct Counted(BTreeMap<(EntityIx, Place, OriginIx), (u64, u64)>);

impl Counted {
    fn note(&mut self, entity: EntityIx, row: &Row, place: Place, origin: OriginIx) {
        let counted = self.0.entry((entity, place, origin));
        counted.or_insert_with(|| row.counted(place, origin));
    }

    /// The entities in which they count for something else now.
    fn changed<'a>(&'a self, rows: &'a BTreeMap<EntityIx, Row>) -> impl Iterator<Item = EntityIx> + 'a {
        self.0
            .iter()
            .filter(|((entity, place, origin), before)| rows[entity].counted(*place, *origin) != **before)
            .map(|((entity, ..), _)| *entity)
    }
}

/// One entity as some replica must have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The dots alive.
    pub live: BTreeMap<(Place, DotAt), Stands>,
    /// Of counters, by place and author: the covered increments, and up to which of them covered removals had seen.
    increments: BTreeMap<(Place, OriginIx), BTreeMap<u64, i64>>,
    removed: BTreeMap<(Place, OriginIx), u64>,
}

/// One shard as some replica must have it.
#[derive(Clone, Debug, Default)]
pub struct Shadow {
    vv: Vv,
    rows: BTreeMap<EntityIx, Row>,
    live: u64,
}

impl Shadow {
    /// What it covers.
    pub fn vv(&self) -> &Vv {
        &self.vv
    }

    /// One entity's row, if any operation on it is covered.
    pub fn row(&self, entity: EntityIx) -> Option<&Row> {
        self.rows.get(&entity)
    }

    /// How many dots are alive.
    pub fn live(&self) -> u64 {
        self.live
    }

    /// Every row, by entity.
    pub fn rows(&self) -> impl Iterator<Item = (EntityIx, &Row)> {
        self.rows.iter().map(|(&entity, row)| (entity, row))
    }

    /// Goes on to cover `to`; it must cover all that is covered. Stamps beyond `follow` a hybrid clock does not follow.
    pub fn advance(&mut self, ledger: &Ledger, shard: u32, to: &[u64], follow: u64) -> Result<News, Broken> {
        let mut from = std::mem::replace(&mut self.vv, to.to_vec());
        if ledger.is_blind() {
            return Ok(News::default());
        }
        from.resize(to.len(), 0);
        let (mut news, mut counted) = (News::default(), Counted::default());
        for (origin, (&from, &to)) in from.iter().zip(to).enumerate() {
            let origin = origin as OriginIx;
            for seq in from + 1..=to {
                let dot = DotAt { origin, seq };
                let record = ledger.dot(shard, dot).ok_or(Broken::NeverIssued(dot))?;
                if seq == to && !record.commit_end {
                    return Err(Broken::TornCommit(dot));
                }
                let lives = self.cover(ledger, shard, dot, record, &mut news.changed, &mut counted)?;
                news.touched.insert(record.entity);
                if let Some((_, Stands::Register { clock, custom, .. })) = record.put
                    && !custom
                    && clock <= follow
                {
                    news.stamps.most = news.stamps.most.max(clock);
                    news.stamps.least = news.stamps.least.max(if lives { clock } else { 0 });
                }
            }
        }
        news.changed.extend(counted.changed(&self.rows));
        Ok(news)
    }

    /// Takes in one dot of the issuer's own, just written down, before its update is complete.
    pub fn issue(&mut self, ledger: &Ledger, shard: u32, dot: DotAt) -> Result<(), Broken> {
        super::raise_to(&mut self.vv, dot);
        let record = ledger.dot(shard, dot).ok_or(Broken::NeverIssued(dot))?;
        self.cover(
            ledger,
            shard,
            dot,
            record,
            &mut BTreeSet::new(),
            &mut Counted::default(),
        )
        .map(|_| ())
    }

    /// Says whether the dot's put has come alive.
    fn cover(
        &mut self,
        ledger: &Ledger,
        shard: u32,
        dot: DotAt,
        record: &DotRecord,
        changed: &mut BTreeSet<EntityIx>,
        before: &mut Counted,
    ) -> Result<bool, Broken> {
        let mut lives = false;
        let row = self.rows.entry(record.entity).or_default();
        for &(place, killed) in &record.kills {
            if !covers(&self.vv, killed) {
                return Err(Broken::KilledUncovered { killer: dot, killed });
            }
            let is_count = |record: &DotRecord| matches!(record.put, Some((_, Stands::Count { .. })));
            if ledger.dot(shard, killed).is_some_and(is_count) && record.put.is_none_or(|(at, _)| at != place)
            {
                before.note(record.entity, row, place, killed.origin);
                let upto = row.removed.entry((place, killed.origin)).or_default();
                *upto = killed.seq.max(*upto);
            }
            if row.live.remove(&(place, killed)).is_some() {
                self.live -= 1;
                changed.insert(record.entity);
            }
        }
        if let Some((place, stands)) = record.put
            && !record.killers.iter().any(|&killer| covers(&self.vv, killer))
        {
            row.live.insert((place, dot), stands);
            self.live += 1;
            changed.insert(record.entity);
            lives = true;
        }
        if let Some((place, Stands::Count { .. })) = record.put {
            before.note(record.entity, row, place, dot.origin);
            let increments = row.increments.entry((place, dot.origin)).or_default();
            increments.insert(dot.seq, record.counts);
        }
        debug_assert!(
            ledger.entity(record.entity).shard == shard,
            "an entity in two shards"
        );
        Ok(lives)
    }
}

impl Row {
    /// Whether the entity exists.
    pub fn exists(&self) -> bool {
        !self.live.is_empty()
    }

    /// What the entity shows, by its type's definition: a sum, the elements added and neither removed nor added
    /// anew by who had seen that, the largest of the writes that no other superseded.
    pub fn shown(&self, ledger: &Ledger, kind: Kind) -> Shown {
        match kind {
            Kind::GCounter | Kind::PnCounter => Shown::Count(self.sum(Place::Root)),
            Kind::Bounded => Shown::Count(self.rights()),
            Kind::Set | Kind::GSet => {
                let mut elements: Vec<ElementIx> =
                    self.live.keys().filter_map(|(at, _)| element(at)).collect();
                elements.dedup();
                Shown::Elements(elements)
            }
            Kind::Flag => Shown::Flag(self.live.keys().any(|(at, _)| element(at).is_some())),
            Kind::MvRegister => {
                let values = self.live.values().filter_map(|stands| match stands {
                    Stands::Value(value) => Some(*value),
                    _ => None,
                });
                Shown::Values(values.collect::<BTreeSet<_>>().into_iter().collect())
            }
            Kind::Vote => Shown::Ballots(self.ballots(ledger)),
            Kind::OrMap | Kind::CounterMap | Kind::RegisterMap | Kind::MultiMap => {
                Shown::Map(self.children(ledger, kind))
            }
            Kind::Register => Shown::Register(self.last_write(ledger, Place::Root)),
        }
    }
}

impl Row {
    /// Takes in what would be issued next, which the ledger does not have.
    pub fn try_out(&mut self, origin: OriginIx, draft: Draft) {
        for at in &draft.kills {
            self.live.remove(at);
        }
        let last = self.live.keys().map(|(_, dot)| dot.seq).max().unwrap_or(0);
        let dot = DotAt {
            origin,
            seq: last + 1,
        };
        self.live
            .extend(draft.put.map(|(place, stands)| ((place, dot), stands)));
    }

    /// The same for operations whose first dot is known; of a counter the issuer's last increment stands for all.
    pub fn see(&mut self, first: DotAt, drafts: &[Draft]) {
        for (i, draft) in drafts.iter().enumerate() {
            for at in &draft.kills {
                self.live.remove(at);
            }
            let Some((place, stands)) = draft.put else {
                continue;
            };
            if matches!(stands, Stands::Count { .. }) {
                self.live
                    .retain(|(at, dot), _| *at != place || dot.origin != first.origin);
            }
            let dot = DotAt {
                seq: first.seq + i as u64,
                ..first
            };
            self.live.insert((place, dot), stands);
        }
    }

    /// What must stand at a live dot.
    pub fn must(&self, place: Place, dot: DotAt, stands: Stands) -> Stands {
        match (place, stands) {
            (_, Stands::Count { .. }) => {
                let (plus, minus) = self.counted(place, dot.origin);
                Stands::Count { plus, minus }
            }
            _ => stands,
        }
    }

    /// What counts of an author's increments in a place: those that no covered removal had seen.
    fn counted(&self, place: Place, origin: OriginIx) -> (u64, u64) {
        let removed = self.removed.get(&(place, origin)).copied().unwrap_or(0);
        let all = self.increments.get(&(place, origin)).into_iter();
        let left = all.flat_map(|all| all.range(removed + 1..));
        left.fold((0, 0), |(plus, minus), (_, by)| match *by {
            by if by < 0 => (plus, minus + by.unsigned_abs()),
            by => (plus + by.unsigned_abs(), minus),
        })
    }

    /// A counter: the sum of all authors' increments that count.
    fn sum(&self, place: Place) -> i128 {
        let authors = self.increments.keys().filter(|(at, _)| *at == place);
        let counted = authors.map(|(_, origin)| self.counted(place, *origin));
        counted.fold(0, |sum, (plus, minus)| sum + i128::from(plus) - i128::from(minus))
    }

    /// All that anybody may take away of a bounded counter.
    fn rights(&self) -> i128 {
        let amounts = self.live.values().map(|stands| match stands {
            Stands::Rights { amount, .. } => i128::from(*amount),
            _ => 0,
        });
        amounts.sum()
    }

    /// The children that exist.
    fn children(&self, ledger: &Ledger, kind: Kind) -> Vec<(ElementIx, Shown)> {
        let keys = self.live.keys().filter_map(|(at, _)| match at {
            Place::Child(key) | Place::Member(key, _) => Some(*key),
            _ => None,
        });
        let keys: BTreeSet<ElementIx> = keys.collect();
        let members = |key| {
            let all = self.live.keys().filter_map(move |(at, _)| match at {
                Place::Member(of, element) if *of == key => Some(*element),
                _ => None,
            });
            all.collect::<BTreeSet<_>>().into_iter().collect()
        };
        let shown = |key| match kind.child(key) {
            Kind::Register => Shown::Register(self.last_write(ledger, Place::Child(key))),
            Kind::Set => Shown::Elements(members(key)),
            _ => Shown::Count(self.sum(Place::Child(key))),
        };
        keys.into_iter().map(|key| (key, shown(key))).collect()
    }

    /// The largest of the writes in force at a place.
    fn last_write(&self, ledger: &Ledger, place: Place) -> Option<u64> {
        let writes = self.live.iter().filter_map(|((at, dot), stands)| match stands {
            Stands::Register { clock, value, .. } if *at == place => {
                Some((*clock, ledger.origin_id(dot.origin), dot.seq, *value))
            }
            _ => None,
        });
        writes.max().map(|(_, _, _, value)| value)
    }

    /// Each node's ballot: the one of its latest epoch.
    fn ballots(&self, ledger: &Ledger) -> Vec<(u128, bool)> {
        let mut last: BTreeMap<u128, (u64, u64, bool)> = BTreeMap::new();
        for ((_, dot), stands) in &self.live {
            let Stands::Ballot(yes) = *stands else { continue };
            let (node, epoch) = ledger.origin_id(dot.origin);
            let ballot = (epoch, dot.seq, yes);
            let latest = last.entry(node).or_insert(ballot);
            *latest = ballot.max(*latest);
        }
        let of_node = |(node, (_, _, yes))| (node, yes);
        last.into_iter().map(of_node).collect()
    }
}

fn element(at: &Place) -> Option<ElementIx> {
    match at {
        Place::Element(element) => Some(*element),
        _ => None,
    }
}

/// Says a dot by its origin's place in the ledger.
impl std::fmt::Display for DotAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "o{}:{}", self.origin, self.seq)
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Broken::NeverIssued(dot) => write!(f, "it covers {dot}, which nobody issued"),
            Broken::TornCommit(dot) => write!(f, "it ends at {dot}, in the middle of an update"),
            Broken::KilledUncovered { killer, killed } => {
                write!(f, "it covers {killer} but not {killed}, which that killed")
            }
        }
    }
}
