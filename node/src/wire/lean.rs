//! Places in values, front-coded: each as what it adds to the one before it.
//!
//! Contract: unpacking what was packed gives the same places. A place leans on the last one of its entity in the same
//! interval, or on the last of any entity if that has none: the neighbours of a list, and the same fields of many
//! maps, cost their difference. Whole steps are shared and not copied, and at most [`SHARED_MAX`] bytes of what
//! follows are, so that what is read is bounded by a fixed multiple of the bytes that were there.

use std::collections::BTreeMap;

use anabranch_crdt::DEPTH_MAX;
use bytes::Bytes;

use crate::wire::interval::{Interval, WirePath, WireStep};

/// How many bytes of a key or an element may be those of the one before.
const SHARED_MAX: usize = 255;

/// Lets every place lean on the one before it, where that is shorter.
pub(super) fn pack(interval: &mut Interval) {
    let packed = rewrite(interval, |path, before| {
        let whole = path.clone();
        if let Some(lean) = before.and_then(|before| lean(path, before)) {
            *path = lean;
        }
        Ok(whole)
    });
    debug_assert_eq!(packed, Ok(()), "nothing refuses to be packed");
}

/// Gives every place back what it leans on.
pub(super) fn unpack(interval: &mut Interval) -> Result<(), &'static str> {
    rewrite(interval, |path, before| {
        if let WirePath::Near { .. } | WirePath::Lean { .. } = path {
            let before = before.ok_or("the first place of an interval leans on none")?;
            *path = whole(std::mem::replace(path, WirePath::Root), before)?;
        }
        Ok(path.clone())
    })
}

/// Visits the places in the order they stand, each with the one it may lean on; `visit` says what that will be for
/// the next: the place as a whole.
fn rewrite(
    interval: &mut Interval,
    mut visit: impl FnMut(&mut WirePath, Option<&WirePath>) -> Result<WirePath, &'static str>,
) -> Result<(), &'static str> {
    let mut lasts: BTreeMap<u32, WirePath> = BTreeMap::new();
    let mut last_entity = None;
    for slot in interval.runs.iter_mut().flat_map(|run| &mut run.slots) {
        let put = slot.put.iter_mut().map(|put| &mut put.path);
        let killed = slot.kills.iter_mut().filter_map(|kill| kill.path.as_mut());
        for path in put.chain(killed) {
            let before = lasts.get(&slot.entity);
            let before = before.or_else(|| lasts.get(&last_entity?));
            let whole = visit(path, before)?;
            // The root has nothing to share, and what the entity had stays good.
            if whole != WirePath::Root {
                lasts.insert(slot.entity, whole);
                last_entity = Some(slot.entity);
            }
        }
    }
    Ok(())
}

/// `path` as what it adds to `before`, if that saves anything.
fn lean(path: &WirePath, before: &WirePath) -> Option<WirePath> {
    let ((steps, element), (steps_before, element_before)) = (parts(path), parts(before));
    let same = steps.iter().zip(steps_before).take_while(|(a, b)| a == b).count();
    let saved: usize = steps[..same].iter().map(|step| 2 + step.key.len()).sum();
    let shared = match (
        name(steps, element, same),
        name(steps_before, element_before, same),
    ) {
        (Some(next), Some(before)) => next.iter().zip(before).take_while(|(a, b)| a == b).count(),
        _ => 0,
    };
    let shared = shared.min(SHARED_MAX);
    if let (WirePath::Element(element), 2..) = (path, shared) {
        return Some(WirePath::Near {
            shared: shared as u8,
            rest: element.slice(shared..),
        });
    }
    // Leaning takes two bytes, for how far.
    if steps.is_empty() || saved + shared <= 2 {
        return None;
    }
    let mut rest = steps[same..].to_vec();
    let mut element = element.cloned();
    if let Some(next) = rest.first_mut().map(|step| &mut step.key).or(element.as_mut()) {
        *next = next.slice(shared..);
    }
    Some(WirePath::Lean {
        steps: same as u8,
        shared: shared as u8,
        rest,
        element,
    })
}

/// What stands where `lean` leans on `before`.
fn whole(lean: WirePath, before: &WirePath) -> Result<WirePath, &'static str> {
    let (before, element_before) = parts(before);
    let shares = |name: Option<&Bytes>, shared: u8, rest: &Bytes| match name {
        _ if shared == 0 => Ok(rest.clone()),
        Some(name) if name.len() >= usize::from(shared) => {
            Ok([&name[..usize::from(shared)], rest].concat().into())
        }
        _ => Err("a place shares more bytes than there were"),
    };
    let (steps, shared, mut rest, mut element) = match lean {
        WirePath::Near { shared, rest } => {
            return Ok(WirePath::Element(shares(
                name(before, element_before, 0),
                shared,
                &rest,
            )?));
        }
        WirePath::Lean {
            steps,
            shared,
            rest,
            element,
        } => (usize::from(steps), shared, rest, element),
        whole => return Ok(whole),
    };
    if !(1..=DEPTH_MAX).contains(&(steps + rest.len())) {
        return Err("a place not in a map, or deeper than one may be");
    }
    let mut all = before
        .get(..steps)
        .ok_or("a place shares more steps than there were")?
        .to_vec();
    match rest.first_mut().map(|step| &mut step.key).or(element.as_mut()) {
        Some(next) => *next = shares(name(before, element_before, steps), shared, next)?,
        None if shared > 0 => return Err("a place shares bytes and has none"),
        None => {}
    }
    all.append(&mut rest);
    Ok(WirePath::Child { steps: all, element })
}

/// A whole place's steps and its element; no other is ever leant on.
fn parts(path: &WirePath) -> (&[WireStep], Option<&Bytes>) {
    match path {
        WirePath::Element(element) => (&[], Some(element)),
        WirePath::Child { steps, element } => (steps, element.as_ref()),
        WirePath::Root | WirePath::Near { .. } | WirePath::Lean { .. } => (&[], None),
    }
}

/// The key or the element that comes after `at` steps.
fn name<'a>(steps: &'a [WireStep], element: Option<&'a Bytes>, at: usize) -> Option<&'a Bytes> {
    match steps.get(at) {
        Some(step) => Some(&step.key),
        None if at == steps.len() => element,
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Run, WireKill, WirePayload, WirePut, WireSlot};

    fn interval(paths: Vec<(u32, WirePath)>) -> Interval {
        let kill = |path| WireKill {
            path: Some(path),
            replica: 0,
            seq: 1,
            reset: None,
        };
        let slot = |(i, (entity, path)): (usize, (u32, WirePath))| WireSlot {
            entity,
            put: (i % 2 == 0).then(|| WirePut {
                path: path.clone(),
                payload: WirePayload::Present,
            }),
            kills: if i % 2 == 0 { vec![] } else { vec![kill(path)] },
            more: false,
        };
        Interval {
            runs: vec![Run {
                replica: 0,
                first: 2,
                slots: paths.into_iter().enumerate().map(slot).collect(),
            }],
            ..Interval::default()
        }
    }

    fn child(keys: &[&str], element: Option<&str>) -> WirePath {
        let step = |key: &&str| WireStep {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ty: 8,
        };
        WirePath::Child {
            steps: keys.iter().map(step).collect(),
            element: element.map(|e| Bytes::copy_from_slice(e.as_bytes())),
        }
    }

    fn element(e: &str) -> WirePath {
        WirePath::Element(Bytes::copy_from_slice(e.as_bytes()))
    }

    fn size(interval: &Interval) -> usize {
        postcard::to_allocvec(interval).unwrap().len()
    }

    #[test]
    fn neighbours_cost_their_difference() {
        let file = |i| (0, element(&format!("src/connection/streams/{i:03}.rs")));
        let whole = interval((0..100).map(file).collect());
        let mut packed = whole.clone();
        pack(&mut packed);
        assert_eq!(size(&whole) - size(&packed), 99 * 24 + 90 - 99);
        unpack(&mut packed).unwrap();
        assert_eq!(packed, whole);
    }

    #[test]
    fn a_field_of_many_maps_is_written_once() {
        let cart = |i| (i, child(&["items", "quantity"], None));
        let whole = interval((0..100).map(cart).collect());
        let mut packed = whole.clone();
        pack(&mut packed);
        assert!(size(&whole) - size(&packed) > 99 * 14);
        unpack(&mut packed).unwrap();
        assert_eq!(packed, whole);
    }

    #[test]
    fn what_a_place_cannot_lean_on_is_refused() {
        let lean = |steps, shared, rest: &[&str], element: Option<&str>| {
            let WirePath::Child { steps: rest, element } = child(rest, element) else {
                unreachable!("a child is one");
            };
            WirePath::Lean {
                steps,
                shared,
                rest,
                element,
            }
        };
        let good = child(&["a", "bcd"], Some("ef"));
        let refused = |lean: WirePath| unpack(&mut interval(vec![(0, good.clone()), (0, lean)])).is_err();
        assert!(!refused(lean(2, 2, &[], Some(""))) && !refused(lean(1, 3, &["x"], None)));
        assert!(refused(lean(3, 0, &[], None)), "more steps than there were");
        assert!(refused(lean(2, 3, &[], Some(""))), "more bytes than there were");
        assert!(refused(lean(2, 1, &[], None)), "bytes for no name");
        assert!(refused(lean(2, 0, &["x"; 7], None)), "deeper than a map may be");
        assert!(refused(lean(0, 0, &[], Some("e"))), "an element of no map");
        let near = |shared| WirePath::Near {
            shared,
            rest: Bytes::new(),
        };
        assert!(
            !refused(near(1)) && refused(near(2)),
            "more bytes than there were"
        );
        for alone in [lean(0, 0, &["x"], None), near(0)] {
            assert!(unpack(&mut interval(vec![(0, alone.clone())])).is_err());
            assert!(unpack(&mut interval(vec![(0, WirePath::Root), (0, alone)])).is_err());
        }
    }

    fn any_path() -> impl Strategy<Value = WirePath> {
        let name = || proptest::sample::select(vec!["", "a", "aa", "abc", "abcdef", "abcdeg"]);
        (prop::collection::vec(name(), 0..4), proptest::option::of(name())).prop_map(|(keys, e)| {
            match (keys.is_empty(), e) {
                (true, None) => WirePath::Root,
                (true, Some(e)) => element(e),
                (false, e) => child(&keys, e),
            }
        })
    }

    proptest! {
        #[test]
        fn places_lead_back_and_never_cost_more(paths in prop::collection::vec((0u32..3, any_path()), 0..30)) {
            let whole = interval(paths);
            let mut packed = whole.clone();
            pack(&mut packed);
            prop_assert!(size(&packed) <= size(&whole));
            unpack(&mut packed).unwrap();
            prop_assert_eq!(packed, whole);
        }
    }
}
