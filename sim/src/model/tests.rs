use super::*;

/// A little world of replicas over one entity, for the model alone.
struct World {
    ledger: Ledger,
    entity: EntityIx,
    replicas: Vec<Shadow>,
    clock: u64,
}

impl World {
    fn new(kind: Kind, replicas: usize) -> World {
        let mut ledger = Ledger::new(1);
        for node in 0..replicas {
            ledger.origin(node as u128, 1);
        }
        let entity = ledger.add_entity(kind, 0);
        World {
            ledger,
            entity,
            replicas: vec![Shadow::default(); replicas],
            clock: 10,
        }
    }

    fn act(&mut self, replica: usize, action: &Action) -> usize {
        let me = replica as OriginIx;
        let upto = self.ledger.head(0, me);
        self.clock += 1;
        let kind = self.ledger.entity(self.entity).kind;
        let meaning = Meaning {
            kind,
            me,
            clock: self.clock,
            ledger: &self.ledger,
            seq: upto + 1,
            inherits: None,
        };
        let drafts = predict(&meaning, self.replicas[replica].row(self.entity), action);
        let count = drafts.len();
        for (i, draft) in drafts.into_iter().enumerate() {
            let dot = DotAt {
                origin: me,
                seq: upto + 1 + i as u64,
            };
            let Draft { put, kills, counts } = draft;
            let record = DotRecord {
                entity: self.entity,
                put,
                kills,
                killers: vec![],
                commit_end: i + 1 == count,
                counts,
            };
            self.ledger.issue(0, dot, record);
            self.replicas[replica].issue(&self.ledger, 0, dot).unwrap();
        }
        count
    }

    fn bring(&mut self, from: usize, to: usize) {
        let mut vv = self.replicas[to].vv().clone();
        raise(&mut vv, &self.replicas[from].vv().clone());
        self.replicas[to].advance(&self.ledger, 0, &vv, u64::MAX).unwrap();
    }

    fn shown(&self, replica: usize) -> Option<Shown> {
        let kind = self.ledger.entity(self.entity).kind;
        self.replicas[replica]
            .row(self.entity)
            .filter(|row| row.exists())
            .map(|row| row.shown(&self.ledger, kind))
    }
}

#[test]
fn a_concurrent_add_survives_a_removal_and_an_observed_one_does_not() {
    let mut w = World::new(Kind::Set, 2);
    w.act(0, &Action::Add(vec![1, 2]));
    w.bring(0, 1);
    assert_eq!(w.act(0, &Action::Add(vec![1])), 1);
    assert_eq!(w.act(1, &Action::Clear), 1);
    w.bring(0, 1);
    w.bring(1, 0);
    assert_eq!(w.shown(0), Some(Shown::Elements(vec![1])));
    assert_eq!(w.shown(0), w.shown(1));
    assert_eq!(w.act(0, &Action::Remove(vec![9])), 0);
    assert_eq!(w.act(0, &Action::Remove(vec![1])), 1);
    assert_eq!(w.shown(0), Some(Shown::Elements(vec![])));
    assert_eq!(w.act(0, &Action::Clear), 0);
}

#[test]
fn counters_sum_and_exist_once_created() {
    let mut w = World::new(Kind::PnCounter, 2);
    assert_eq!(w.shown(0), None);
    assert_eq!(w.act(0, &Action::Increment(0)), 1);
    assert_eq!(w.act(0, &Action::Increment(0)), 0);
    w.act(0, &Action::Increment(5));
    w.act(1, &Action::Increment(-7));
    w.bring(0, 1);
    assert_eq!(w.shown(1), Some(Shown::Count(-2)));
    assert_eq!(w.replicas[1].live(), 2);
}

#[test]
fn a_register_keeps_a_loser_that_was_not_observed() {
    let mut w = World::new(Kind::Register, 3);
    w.act(
        0,
        &Action::Set {
            value: 1,
            clock: Some(3),
        },
    );
    w.act(
        1,
        &Action::Set {
            value: 2,
            clock: Some(1),
        },
    );
    w.bring(0, 1);
    assert_eq!(w.shown(1), Some(Shown::Register(Some(1))));
    assert_eq!(w.replicas[1].live(), 2);
    w.bring(1, 2);
    assert_eq!(
        w.act(
            2,
            &Action::Set {
                value: 3,
                clock: Some(0)
            }
        ),
        0,
        "two of those it saw are above it"
    );
    assert_eq!(
        w.act(
            2,
            &Action::Set {
                value: 3,
                clock: Some(2)
            }
        ),
        1
    );
    assert_eq!(w.replicas[2].live(), 2, "the winner and the new loser");
    w.act(
        2,
        &Action::Set {
            value: 4,
            clock: None,
        },
    );
    assert_eq!(w.replicas[2].live(), 1);
    assert_eq!(w.shown(2), Some(Shown::Register(Some(4))));
}

#[test]
fn a_vector_that_ends_in_an_update_or_above_the_ledger_is_broken() {
    let mut w = World::new(Kind::Set, 2);
    w.act(0, &Action::Add(vec![1, 2]));
    let mut torn = Shadow::default();
    assert_eq!(
        torn.advance(&w.ledger, 0, &[1], u64::MAX),
        Err(Broken::TornCommit(DotAt { origin: 0, seq: 1 }))
    );
    let mut above = Shadow::default();
    assert_eq!(
        above.advance(&w.ledger, 0, &[3], u64::MAX),
        Err(Broken::NeverIssued(DotAt { origin: 0, seq: 3 }))
    );
    w.bring(0, 1);
    w.act(1, &Action::Clear);
    let mut headless = Shadow::default();
    let broken = headless.advance(&w.ledger, 0, &[0, 1], u64::MAX);
    assert!(
        matches!(broken, Err(Broken::KilledUncovered { .. })),
        "{broken:?}"
    );
}

#[test]
fn a_shadow_does_not_depend_on_its_way() {
    let mut rng = crate::rng::Rng::stream(5, "model", 0, 0);
    for kind in Kind::ALL {
        let mut w = World::new(kind, 3);
        for _ in 0..300 {
            let replica = rng.below(3) as usize;
            let action = match (kind, rng.below(6)) {
                (_, 0) => Action::Create,
                (Kind::Set, 1) => Action::Clear,
                (Kind::Set, 2) => Action::Remove(vec![rng.below(4) as u32, rng.below(4) as u32]),
                (Kind::Set, _) => Action::Add(vec![rng.below(4) as u32]),
                (Kind::GSet, _) => Action::Add(vec![rng.below(9) as u32]),
                (Kind::CounterMap, 1) => Action::Remove(vec![rng.below(3) as u32]),
                (Kind::CounterMap, n) => Action::IncrementIn(rng.below(3) as u32, n as i64 - 3),
                (Kind::RegisterMap, n) => Action::SetIn(rng.below(3) as u32, n),
                (Kind::MultiMap | Kind::OrMap, 1) => Action::Remove(vec![rng.below(3) as u32]),
                (Kind::MultiMap | Kind::OrMap, 2) => Action::RemoveIn(1, vec![rng.below(3) as u32]),
                (Kind::MultiMap | Kind::OrMap, n) => Action::AddIn(1, vec![n as u32, rng.below(3) as u32]),
                (Kind::Flag, 1) => Action::Disable,
                (Kind::Flag, _) => Action::Enable,
                (Kind::MvRegister, n) => Action::Write(n),
                (Kind::Vote, n) => Action::Vote(n % 2 == 0),
                (Kind::Bounded, n) => Action::Increment(n as i64),
                (Kind::Register, 5) => Action::SetAbove {
                    value: 5,
                    least: rng.below(20),
                },
                (Kind::Register, n) => Action::Set {
                    value: n,
                    clock: (n < 3).then(|| rng.below(20)),
                },
                (Kind::GCounter, n) => Action::Increment(n as i64),
                (Kind::PnCounter, n) => Action::Increment(3 - n as i64),
            };
            w.act(replica, &action);
            if rng.chance(0.5) {
                w.bring(rng.below(3) as usize, rng.below(3) as usize);
            }
            let slow = &w.replicas[replica];
            let mut fast = Shadow::default();
            fast.advance(&w.ledger, 0, slow.vv(), u64::MAX).unwrap();
            let (a, b) = (slow.row(w.entity), fast.row(w.entity));
            assert_eq!(a.map(|r| &r.live), b.map(|r| &r.live), "{kind:?} {action:?}");
            assert_eq!(
                a.map(|r| r.shown(&w.ledger, kind)),
                b.map(|r| r.shown(&w.ledger, kind)),
                "{kind:?} {action:?}"
            );
        }
    }
}
