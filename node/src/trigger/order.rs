//! What is to be called when: what somebody orders, and the plan that is kept of it.

use std::fmt;
use std::hash::Hasher;
use std::time::Duration;

use anabranch_crdt::planted;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use siphasher::sip::SipHasher13;

use super::cron::Cron;
use crate::error::{Error, ErrorKind};
use crate::payload::{Encoding, PAYLOAD_BYTES_MAX, Payload};
use crate::session::Call;
use crate::terms::millis;
use crate::wire::EntityId;

/// A schedule's argument is at most so long, as JSON.
pub const ARGUMENT_BYTES_MAX: usize = 64 << 10;
/// What is called may take so long, unless the order says otherwise.
const TIMEOUT_MS_DEFAULT: u64 = 60_000;
/// And at most so long.
const TIMEOUT_MS_MAX: u64 = 600_000;
/// What happens every so often does so at most this often.
pub const EVERY_MS_MIN: u64 = 1_000;
/// Late by no more than this is not missed.
const MISSED_MS: u64 = 60_000;
/// Clocks of nodes that are well are not further apart than this.
const APART_MS_MAX: u64 = 60_000;

/// What to do about times at which no call could be made: no node was running, or none could call the function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// Make one call, for the latest of them.
    #[default]
    Once,
    /// Make a call for each of them, one after the other.
    All,
    /// Skip any that is more than a minute late.
    Skip,
}

/// When, in one of four ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// By a [`Cron`] expression, in UTC.
    Cron(String),
    /// Every so many milliseconds from when it was ordered, at least [`EVERY_MS_MIN`].
    EveryMs(u64),
    /// Once, so many milliseconds after it was ordered.
    AfterMs(u64),
    /// Once, at this time in milliseconds since 1970.
    AtMs(u64),
}

/// JSON inside of something else: itself where that is JSON, its text elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(pub String);

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return self.0.serialize(serializer);
        }
        let value: serde_json::Value = serde_json::from_str(&self.0).map_err(S::Error::custom)?;
        value.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        if deserializer.is_human_readable() {
            let value = serde_json::Value::deserialize(deserializer)?;
            return Ok(Json(value.to_string()));
        }
        let text = String::deserialize(deserializer)?;
        let check = serde_json::from_str::<serde::de::IgnoredAny>(&text);
        check.map_err(D::Error::custom)?;
        Ok(Json(text))
    }
}

fn null() -> Json {
    Json("null".into())
}

/// A function to be called at certain times. Each call is named by the schedule and its time: see
/// [`Context::call_id`](crate::Context::call_id).
///
/// Each call is made at least once: it is repeated until it is answered. A refusal is an answer, with one exception: where the
/// function refuses with the [`Error`] of a call of its own that may be retried, or whose outcome is not known, the call is repeated
/// as if nobody had answered.
///
/// ```
/// use anabranch::{Missed, Order, When};
///
/// let order = Order::new(When::Cron("0 3 * * *".into()), "backup", "db", "run", &"full")?;
/// assert_eq!(order.missed(Missed::Skip).missed, Missed::Skip);
/// # Ok::<(), anabranch::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// When.
    pub when: When,
    /// The kind of the entity whose function is called.
    pub kind: String,
    /// Its key.
    pub key: String,
    /// Which method.
    pub method: String,
    /// Its argument.
    #[serde(default = "null")]
    pub argument: Json,
    /// What becomes of missed times.
    #[serde(default)]
    pub missed: Missed,
    /// How long each call may take, milliseconds; a minute by default, at most ten.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

impl Order {
    /// An order of a method of an entity's function.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: what the function of schedules would refuse. The argument cannot be written as JSON, or is too long;
    /// there is no such time, or too many; no entity has such a name.
    pub fn new<A: Serialize + ?Sized>(
        when: When,
        kind: &str,
        key: &str,
        method: &str,
        argument: &A,
    ) -> Result<Order, Error> {
        let argument = serde_json::to_string(argument);
        let argument = argument.map_err(|e| Error::new(ErrorKind::Invalid, e.to_string()))?;
        let order = Order {
            when,
            kind: kind.into(),
            key: key.into(),
            method: method.into(),
            argument: Json(argument),
            missed: Missed::default(),
            timeout_ms: None,
        };
        match order.check() {
            Ok(()) => Ok(order),
            Err(why) => Err(Error::new(ErrorKind::Invalid, why.0)),
        }
    }

    /// Whether it can be followed: what the function of schedules would refuse otherwise.
    pub(crate) fn check(&self) -> Result<(), OrderError> {
        let plan = Plan {
            order: self.clone(),
            since_ms: 0,
        };
        Schedule::new(plan).map(|_| ())
    }

    /// The same with another policy for missed times.
    #[must_use]
    pub fn missed(self, missed: Missed) -> Order {
        Order { missed, ..self }
    }

    /// The same with another time for each call: from a millisecond to ten minutes, or the function of schedules refuses it.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Order {
        Order {
            timeout_ms: Some(millis(timeout)),
            ..self
        }
    }
}

/// What is wrong with an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub struct OrderError(pub String);

/// An order that was taken: what is kept of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub order: Order,
    /// When it was taken, milliseconds since 1970.
    pub since_ms: u64,
}

/// A time of a plan: what is done of one order is not done of another under the same name, whenever each was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// [`Plan::id`].
    pub plan: u64,
    /// Milliseconds since 1970.
    pub ms: u64,
}

impl Plan {
    /// What tells it from the others under its name: a hash of the bytes that it is kept as.
    fn id(&self) -> u64 {
        let Ok(bytes) = postcard::to_extend(self, Vec::new()) else {
            unreachable!("texts and numbers can be written");
        };
        let mut hasher = SipHasher13::new_with_keys(0, 0);
        hasher.write(&bytes);
        hasher.finish()
    }
}

/// When a plan's times are, read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Times {
    Cron(Cron),
    Every { from: u64, ms: u64 },
    At(u64),
}

/// A plan that can be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    id: u64,
    plan: Plan,
    times: Times,
    call: Call,
}

/// The last time that is done (0 for none), as far as a node whose clock says `now` goes by it. What is much later than now was called
/// for by a clock that was ahead: times that come are none of those that went, or a clock that was wrong for a moment would silence
/// a schedule until everybody's has come to where that one was.
pub(crate) fn believed(done: u64, now: u64) -> u64 {
    let is_believed = done <= now.saturating_add(APART_MS_MAX);
    if is_believed { done } else { now }
}

/// Where a schedule stands at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    /// This time has come.
    Due(u64),
    /// The next one is then.
    Next(u64),
    /// This was its last, and it is not to be made good any more.
    Missed(u64),
    /// There is none any more.
    Over,
}

impl Schedule {
    /// A plan, read.
    ///
    /// # Errors
    /// What is wrong with the order.
    pub fn new(plan: Plan) -> Result<Schedule, OrderError> {
        let fail = |why: String| OrderError(format!("nothing changed: {why}"));
        let order = &plan.order;
        let times = match &order.when {
            When::Cron(text) => Times::Cron(text.parse().map_err(|e: super::CronError| fail(e.to_string()))?),
            When::EveryMs(ms) if *ms < EVERY_MS_MIN => {
                return Err(fail(format!(
                    "every {ms} ms is too often: at least {EVERY_MS_MIN}"
                )));
            }
            When::EveryMs(ms) => Times::Every {
                from: plan.since_ms,
                ms: *ms,
            },
            When::AfterMs(ms) => Times::At(plan.since_ms.saturating_add(*ms)),
            When::AtMs(ms) => Times::At(*ms),
        };
        let bytes = order.argument.0.len();
        if bytes > ARGUMENT_BYTES_MAX {
            return Err(fail(format!(
                "an argument of {bytes} bytes, at most {ARGUMENT_BYTES_MAX}"
            )));
        }
        if order.timeout_ms.is_some_and(|ms| ms == 0 || ms > TIMEOUT_MS_MAX) {
            return Err(fail(format!("timeout_ms is from 1 to {TIMEOUT_MS_MAX}")));
        }
        let entity = EntityId::new(&order.kind, &order.key).map_err(|e| fail(e.to_string()))?;
        let argument = Payload {
            encoding: Encoding::Json,
            bytes: order.argument.0.clone().into(),
        };
        let call = Call::new(entity, order.method.clone(), argument);
        let id = plan.id();
        Ok(Schedule {
            id,
            plan,
            times,
            call,
        })
    }

    /// [`Plan::id`] of its plan.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// One of its times.
    pub fn slot(&self, ms: u64) -> Slot {
        Slot { plan: self.id, ms }
    }

    /// What to call for a time, and how long that may take.
    pub fn call(&self, name: &str, slot: u64) -> (Call, u64) {
        let id = format!("{name}@{slot}");
        let timeout_ms = self.plan.order.timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT);
        (self.call.clone().with_id(id), timeout_ms)
    }

    /// Whether this may be one of its times, and none of another order's.
    pub fn has(&self, slot: Slot) -> bool {
        let may_be = match self.times {
            Times::At(at) => slot.ms == at,
            Times::Cron(_) | Times::Every { .. } => slot.ms > self.plan.since_ms,
        };
        slot.plan == planted!("done_of_any_order", slot.plan, self.id) && may_be
    }

    /// Whether it is for once.
    pub fn is_once(&self) -> bool {
        matches!(self.times, Times::At(_))
    }

    /// Where it stands, with its last time that is done (0 for none).
    pub fn stand(&self, done: u64, now: u64) -> Stand {
        let done = if self.is_once() {
            done
        } else {
            done.max(self.plan.since_ms)
        };
        let Some(first) = self.after(done) else {
            return Stand::Over;
        };
        if first > now {
            return Stand::Next(first);
        }
        let latest = self.until(now).unwrap_or(first).max(first);
        match self.plan.order.missed {
            Missed::Once => Stand::Due(latest),
            Missed::All => Stand::Due(planted!("missed_all_once", latest, first)),
            Missed::Skip if now - latest <= MISSED_MS => Stand::Due(latest),
            Missed::Skip => self.after(now).map_or(Stand::Missed(latest), Stand::Next),
        }
    }

    fn after(&self, ms: u64) -> Option<u64> {
        match &self.times {
            Times::Cron(cron) => cron.after(ms),
            Times::Every { from, ms: every } => {
                let n = ms.checked_sub(*from).map_or(1, |passed| passed / every + 1);
                n.checked_mul(*every)?.checked_add(*from)
            }
            // 0 stands for none yet.
            Times::At(at) => (*at > ms || ms == 0).then_some(*at),
        }
    }

    fn until(&self, ms: u64) -> Option<u64> {
        match &self.times {
            Times::Cron(cron) => cron.until(ms),
            Times::Every { from, ms: every } => {
                let n = ms.checked_sub(*from)? / every;
                (n > 0).then(|| from + n * every)
            }
            Times::At(at) => (*at <= ms).then_some(*at),
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            When::Cron(cron) => write!(f, "cron {cron}"),
            When::EveryMs(ms) => write!(f, "every {ms} ms"),
            When::AfterMs(ms) => write!(f, "{ms} ms later"),
            When::AtMs(ms) => write!(f, "at {ms} ms"),
        }
    }
}

const _: () = assert!(ARGUMENT_BYTES_MAX < PAYLOAD_BYTES_MAX);
