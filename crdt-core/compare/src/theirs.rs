//! The other sides. Where a library leaves a choice, it is the one that costs it least: actors and elements are numbers of
//! 64 bits, not the longer ids and bytes of ours.

pub mod crdts {
    use std::hint::black_box;

    use crdts::{CmRDT, CvRDT, LWWReg, Map, Orswot, PNCounter};

    use crate::cost::MANY;
    use crate::measured;
    use crate::ours::{key, number};

    pub type Set = Orswot<u64, u64>;

    pub fn set(elements: u32, replicas: u64) -> Set {
        let mut set = Set::new();
        for n in 0..elements {
            let op = set.add(number(n), set.read_ctx().derive_add_ctx(u64::from(n) % replicas));
            set.apply(op);
        }
        set
    }

    pub fn add(replicas: u64) {
        let mut set = set(10_000, replicas);
        measured(|| {
            for n in 0..MANY {
                let op = set.add(number(20_000 + n), set.read_ctx().derive_add_ctx(0));
                set.apply(op.clone());
                black_box(op);
            }
        });
    }

    pub fn remove(replicas: u64) {
        let mut set = set(10_000, replicas);
        measured(|| {
            for n in 0..MANY {
                let member = number(n * 90);
                let op = set.rm(member, set.contains(&member).derive_rm_ctx());
                set.apply(op.clone());
                black_box(op);
            }
        });
    }

    pub fn contains() {
        let set = set(10_000, 3);
        measured(|| {
            for n in 0..MANY {
                black_box(set.contains(&number(n * 190)).val);
            }
        });
    }

    pub fn merge() {
        let mut a = set(10_000, 3);
        let mut b = a.clone();
        for n in 0..5 {
            a.apply(a.add(number(20_000 + n), a.read_ctx().derive_add_ctx(0)));
            b.apply(b.add(number(30_000 + n), b.read_ctx().derive_add_ctx(1)));
        }
        measured(|| a.merge(b));
    }

    pub fn ops_into(elements: u32) {
        let mut set = set(elements, 3);
        let mut other = set.clone();
        let ops: Vec<_> = (0..10)
            .map(|n| {
                let op = other.add(number(2_000_000 + n), other.read_ctx().derive_add_ctx(1));
                other.apply(op.clone());
                op
            })
            .collect();
        measured(|| {
            for op in ops {
                set.apply(op);
            }
        });
    }

    pub fn counter(replicas: u64) -> PNCounter<u64> {
        let mut counter = PNCounter::new();
        for actor in 0..replicas {
            counter.apply(counter.inc_many(actor, 5));
        }
        counter
    }

    pub fn increment(replicas: u64) {
        let mut counter = counter(replicas);
        measured(|| {
            for _ in 0..MANY {
                let op = counter.inc(0);
                counter.apply(op.clone());
                black_box(op);
            }
        });
    }

    pub fn merge_counters(replicas: u64) {
        let mut a = counter(replicas);
        let mut b = a.clone();
        a.apply(a.inc(0));
        b.apply(b.inc(1));
        measured(|| a.merge(b));
    }

    type Nested = Map<String, Map<String, Orswot<u64, u64>, u64>, u64>;

    fn update(map: &mut Nested, outer: u32, n: u32, actor: u64) {
        let key_of = |n| String::from_utf8_lossy(&key(n)).into_owned();
        let (outer, inner) = (key_of(outer), key_of(n % 10));
        let ctx = map.read_ctx().derive_add_ctx(actor);
        let op = map.update(outer, ctx, |map, ctx| {
            map.update(inner, ctx, |set, ctx| set.add(number(n), ctx))
        });
        map.apply(op.clone());
        black_box(op);
    }

    pub fn nested() {
        let mut map = Nested::new();
        for n in 0..1_000 {
            update(&mut map, n % 100, n, 0);
        }
        measured(|| {
            for n in 0..MANY {
                update(&mut map, n, 5_000 + n, 1);
            }
        });
    }

    pub fn write() {
        let mut register = LWWReg {
            val: number(0),
            marker: 0_u64,
        };
        measured(|| {
            for n in 1..=MANY {
                let write = LWWReg {
                    val: number(n),
                    marker: u64::from(n),
                };
                register.merge(write.clone());
                black_box(write);
            }
        });
    }
}

pub mod dson {
    use std::hint::black_box;

    use dson::crdts::mvreg::MvRegValue;
    use dson::{CausalDotStore, Identifier, OrMap};

    use crate::cost::MANY;
    use crate::measured;
    use crate::ours::{key, number};

    type Store = CausalDotStore<OrMap<String>>;

    fn text(n: u32) -> String {
        String::from_utf8_lossy(&key(n)).into_owned()
    }

    fn update(store: &mut Store, outer: u32, n: u32, by: Identifier) {
        let mut tx = store.transact(by);
        tx.in_map(text(outer), |tx| {
            tx.in_map(text(n % 10), |tx| {
                tx.write_register(number(n).to_string(), MvRegValue::Bool(true));
            });
        });
        drop(black_box(tx.commit()));
    }

    pub fn nested() {
        dson::enable_determinism();
        let mut store = Store::default();
        for n in 0..1_000 {
            update(&mut store, n % 100, n, Identifier::new(1, 0));
        }
        measured(|| {
            for n in 0..MANY {
                update(&mut store, n, 5_000 + n, Identifier::new(2, 0));
            }
        });
    }

    pub fn write() {
        dson::enable_determinism();
        let mut store = Store::default();
        let by = Identifier::new(1, 0);
        measured(|| {
            for n in 0..MANY {
                let mut tx = store.transact(by);
                tx.write_register("v", MvRegValue::U64(number(n)));
                drop(black_box(tx.commit()));
            }
        });
    }
}

pub mod automerge {
    use std::hint::black_box;

    use automerge::transaction::Transactable;
    use automerge::{AutoCommit, ObjType, ROOT, ReadDoc, ScalarValue};

    use crate::cost::MANY;
    use crate::measured;
    use crate::ours::{key, number};

    fn text(n: u32) -> String {
        String::from_utf8_lossy(&key(n)).into_owned()
    }

    fn update(doc: &mut AutoCommit, outer: u32, n: u32) {
        let mut at = ROOT;
        for key in [text(outer), text(n % 10)] {
            at = match doc.get(&at, key.as_str()).expect("a map") {
                Some((_, id)) => id,
                None => doc.put_object(&at, key.as_str(), ObjType::Map).expect("a map"),
            };
        }
        doc.put(&at, number(n).to_string(), true).expect("a map");
        black_box(doc.save_incremental());
    }

    pub fn nested() {
        let mut doc = AutoCommit::new();
        for n in 0..1_000 {
            update(&mut doc, n % 100, n);
        }
        measured(|| {
            for n in 0..MANY {
                update(&mut doc, n, 5_000 + n);
            }
        });
    }

    pub fn increment() {
        let mut doc = AutoCommit::new();
        doc.put(ROOT, "n", ScalarValue::counter(5)).expect("a map");
        black_box(doc.save_incremental());
        measured(|| {
            for _ in 0..MANY {
                doc.increment(ROOT, "n", 1).expect("a counter");
                black_box(doc.save_incremental());
            }
        });
    }

    pub fn write() {
        let mut doc = AutoCommit::new();
        measured(|| {
            for n in 0..MANY {
                doc.put(ROOT, "v", number(n)).expect("a map");
                black_box(doc.save_incremental());
            }
        });
    }
}

pub mod loro {
    use std::hint::black_box;

    use loro::{ExportMode, LoroDoc};

    use crate::cost::MANY;
    use crate::measured;
    use crate::ours::{key, number};

    fn text(n: u32) -> String {
        String::from_utf8_lossy(&key(n)).into_owned()
    }

    /// What changed since then, as it would be sent.
    fn shipped(doc: &LoroDoc, change: impl FnOnce()) {
        let before = doc.oplog_vv();
        change();
        doc.commit();
        black_box(doc.export(ExportMode::updates(&before)).expect("an export"));
    }

    fn update(doc: &LoroDoc, outer: u32, n: u32) {
        shipped(doc, || {
            let map = doc.get_map("root");
            let map = map.ensure_mergeable_map(&text(outer)).expect("a map");
            let map = map.ensure_mergeable_map(&text(n % 10)).expect("a map");
            map.insert(&number(n).to_string(), true).expect("a map");
        });
    }

    pub fn nested() {
        let doc = LoroDoc::new();
        for n in 0..1_000 {
            update(&doc, n % 100, n);
        }
        measured(|| {
            for n in 0..MANY {
                update(&doc, n, 5_000 + n);
            }
        });
    }

    pub fn increment() {
        let doc = LoroDoc::new();
        let counter = doc.get_counter("n");
        counter.increment(5.0).expect("a counter");
        measured(|| {
            for _ in 0..MANY {
                shipped(&doc, || counter.increment(1.0).expect("a counter"));
            }
        });
    }

    pub fn write() {
        let doc = LoroDoc::new();
        let map = doc.get_map("root");
        measured(|| {
            for n in 0..MANY {
                shipped(&doc, || map.insert("v", number(n) as i64).expect("a map"));
            }
        });
    }
}
