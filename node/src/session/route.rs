//! Whom a call is taken to where its function may be at several nodes, and after which errors somebody else is asked.
//!
//! Not here: who carries it (`driver::route`; in the simulator, its world). Contract: each node is asked once. The next one is asked
//! where the one before has not run it; where that one may have, only if the call may run twice. What is answered in the end says
//! that something may have run, if it may anywhere.

use anabranch_crdt::{NodeId, planted};

use crate::error::{Changed, Error, ErrorKind};
use crate::session::Call;
use crate::terms::Time;

/// A call on its way from node to node.
#[derive(Debug)]
pub struct Route {
    nodes: Vec<NodeId>,
    /// How many of them were asked.
    asked: usize,
    is_idempotent: bool,
    deadline: Time,
    last: Option<Error>,
}

impl Route {
    /// Of these nodes, in this order, until this time.
    pub fn new(nodes: Vec<NodeId>, call: &Call, deadline: Time) -> Route {
        Route {
            nodes,
            asked: 0,
            is_idempotent: call.is_idempotent,
            deadline,
            last: None,
        }
    }

    /// Who is asked next, and how long that may take, milliseconds; nobody where all were asked, or the time is over.
    pub fn next(&mut self, now: Time) -> Option<(NodeId, u64)> {
        let left_ms = now.ms_until(self.deadline);
        if left_ms == 0 && self.last.is_some() {
            return None;
        }
        let node = *self.nodes.get(self.asked)?;
        // One that hangs must leave the others some of it.
        let share = if self.is_idempotent {
            self.nodes.len() - self.asked
        } else {
            1
        };
        self.asked += 1;
        Some((node, left_ms / share as u64))
    }

    /// Who was asked has answered. Returns what the caller hears; nothing where somebody else is to be asked.
    pub fn heard<T>(&mut self, result: Result<T, Error>) -> Option<Result<T, Error>> {
        match result {
            Err(error) if goes_on(&error, self.is_idempotent) => {
                let before = self.last.take().filter(|last| weight(last) > weight(&error));
                self.last = before.or(Some(error));
                None
            }
            ended => Some(ended.map_err(|error| self.say(error))),
        }
    }

    /// That nothing has changed is only true of the node that says so last, where an earlier one may have run it. A function's own
    /// word is an answer all the same.
    fn say(&mut self, error: Error) -> Error {
        let is_all = error.changed_state() || error.kind() == ErrorKind::Refused;
        let before = self.last.take().filter(|last| !is_all && weight(last) > 1);
        before.unwrap_or(error)
    }

    /// What there is to say where nobody else is asked. `here` are the methods of this node's function, if it has one.
    pub fn over(self, call: &Call, here: Option<Vec<String>>) -> Error {
        nobody(call, self.nodes.len(), self.last, here)
    }
}

/// Which of several nodes is asked for a stream next. A stream has changed nothing before it began: so any may be, after any error
/// that says so.
#[derive(Debug)]
pub struct Opening {
    nodes: std::vec::IntoIter<NodeId>,
    asked: usize,
    last: Option<Error>,
}

impl Opening {
    /// One that is with nobody yet.
    pub fn new(nodes: Vec<NodeId>) -> Opening {
        Opening {
            asked: nodes.len(),
            nodes: nodes.into_iter(),
            last: None,
        }
    }

    /// Who is asked next; none where everybody was.
    pub fn next_node(&mut self) -> Option<NodeId> {
        self.nodes.next()
    }

    /// What was heard, unless another node is to be asked then.
    pub fn heard<T>(&mut self, opened: Result<T, Error>) -> Option<Result<T, Error>> {
        match opened {
            Err(error) if goes_on(&error, true) => {
                self.last = Some(error);
                None
            }
            opened => Some(opened),
        }
    }

    /// Everybody was asked. `here`: the methods of the function at this node, if it has one of this kind.
    pub fn over(self, call: &Call, here: Option<Vec<String>>) -> Error {
        nobody(call, self.asked, self.last, here)
    }
}

/// What to say where everybody was asked, so many nodes, and this came of it at last.
fn nobody(call: &Call, nodes: usize, last: Option<Error>, here: Option<Vec<String>>) -> Error {
    match last {
        Some(error) if error.kind() != ErrorKind::NoFunction => error,
        last => {
            let asked = match nodes {
                0 => "and no other node is linked".to_owned(),
                n => format!("nor at the {n} nodes that it is linked with"),
            };
            let kind = call.entity.kind();
            let here = match here {
                Some(methods) => format!(
                    "the function of {kind} at this node has no such method (it has {})",
                    methods.join(", ")
                ),
                None => format!("there is no function of {kind} at this node"),
            };
            let last = last.map(|error| format!("; the last of them says: {}", error.message()));
            let message = format!(
                "nothing changed: {call}: {here}, {asked}{}",
                last.unwrap_or_default()
            );
            Error::new(ErrorKind::NoFunction, message)
        }
    }
}

/// Which of several errors there is to say: the one after which most may have happened.
fn weight(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::NoFunction => 0,
        ErrorKind::Lost => planted!("may_have_run_forgotten", 1, 3),
        ErrorKind::Unanswered => planted!("may_have_run_forgotten", 1, 4),
        // It has run.
        _ if has_left_nothing(error) => 2,
        _ => 1,
    }
}

/// Whether it says that the function has run, and that nothing came of it.
fn has_left_nothing(error: &Error) -> bool {
    error.changed() == Changed::Undone
}

/// Whether another node may be asked after this.
pub(crate) fn goes_on(error: &Error, is_idempotent: bool) -> bool {
    match error.kind() {
        // It has begun, or has had the time that it was given.
        ErrorKind::Lost | ErrorKind::Unanswered | ErrorKind::Expired | ErrorKind::Stale => {
            planted!("once_asked_again", true, is_idempotent)
        }
        _ => error.has_not_begun() || is_idempotent && has_left_nothing(error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::payload::{Encoding, Payload};
    use crate::wire::EntityId;
    use ErrorKind::{DiskFull, Expired, Lost, NoFunction, Overloaded, Refused, Unanswered};

    fn call() -> Call {
        let nothing = Payload::of(Encoding::Postcard, &()).unwrap();
        Call::new(EntityId::new("k", "x").unwrap(), "m", nothing)
    }

    /// Which nodes are asked, each of which fails so, and what is said in the end.
    fn check(call: &Call, fails: &[ErrorKind], asked: usize, says: ErrorKind) {
        let nodes = (0..fails.len() as u128).map(NodeId).collect();
        let mut route = Route::new(nodes, call, Time(0).after_ms(1_000));
        let mut ended = None;
        let mut count = 0;
        while ended.is_none()
            && let Some((node, _)) = route.next(Time(0))
        {
            count += 1;
            ended = route.heard::<()>(Err(Error::new(fails[node.0 as usize], "it failed")));
        }
        let error = ended.map_or_else(|| route.over(call, None), |ended| ended.unwrap_err());
        assert_eq!((count, error.kind()), (asked, says), "{fails:?}");
    }

    #[test]
    fn a_call_that_may_run_once_goes_on_only_where_it_has_not_begun() {
        let once = call();
        check(&once, &[NoFunction, Overloaded, NoFunction], 3, Overloaded);
        for open in [Lost, Unanswered, Expired] {
            check(&once, &[NoFunction, open, NoFunction], 2, open);
        }
        check(&once, &[Refused, NoFunction], 1, Refused);
        check(&once, &[], 0, NoFunction);
    }

    #[test]
    fn what_may_have_happened_most_is_what_there_is_to_say() {
        let again = call().idempotent();
        check(&again, &[Unanswered, Lost, NoFunction], 3, Unanswered);
        check(&again, &[Lost, Unanswered, Overloaded], 3, Unanswered);
        check(&again, &[Lost, Overloaded, NoFunction], 3, Lost);
        // It is here, and was not given it in time: that others have none is no news.
        check(&again, &[Expired, NoFunction, NoFunction], 3, Expired);
        check(&again, &[Unanswered, DiskFull, NoFunction], 2, Unanswered);
        check(&again, &[Overloaded, DiskFull, NoFunction], 2, DiskFull);
        check(&again, &[Lost, Refused, NoFunction], 2, Refused);
    }

    #[test]
    fn that_one_has_run_is_said_though_the_next_has_not() {
        let again = call().idempotent();
        let mut route = Route::new(vec![NodeId(1), NodeId(2)], &again, Time(0).after_ms(1_000));
        let has_run = super::super::refused_alone(Error::new(Overloaded, "no room"));
        route.next(Time(0));
        assert!(route.heard::<()>(Err(has_run.clone())).is_none());
        route.next(Time(0));
        let unlinked = Error::new(ErrorKind::Unreachable, "nothing changed: there is no link");
        let ended = route.heard::<()>(Err(unlinked));
        let said = ended.map_or_else(|| route.over(&again, None), |ended| ended.unwrap_err());
        assert_eq!(said, has_run);
    }

    #[test]
    fn a_method_that_is_missing_is_told_apart_from_a_function_that_is() {
        let said = |here| nobody(&call(), 0, None, here).message().to_owned();
        assert_eq!(
            said(Some(vec!["a".to_owned(), "b".to_owned()])),
            "nothing changed: m of k/x: the function of k at this node has no such method (it has a, b), and no other node is linked"
        );
        assert_eq!(
            said(None),
            "nothing changed: m of k/x: there is no function of k at this node, and no other node is linked"
        );
    }

    #[test]
    fn one_that_hangs_leaves_the_others_some_of_the_time() {
        let nodes = || vec![NodeId(1), NodeId(2)];
        let deadline = Time(0).after_ms(1_000);
        let mut again = Route::new(nodes(), &call().idempotent(), deadline);
        assert_eq!(again.next(Time(0)), Some((NodeId(1), 500)));
        assert!(again.heard::<()>(Err(Error::new(Lost, "it hangs"))).is_none());
        assert_eq!(again.next(Time(0).after_ms(500)), Some((NodeId(2), 500)));
        let mut once = Route::new(nodes(), &call(), deadline);
        assert_eq!(once.next(Time(0)), Some((NodeId(1), 1_000)));
        assert!(
            once.heard::<()>(Err(Error::new(NoFunction, "not here")))
                .is_none()
        );
        assert_eq!(once.next(deadline), None);
    }
}
