//! `update` and `delete`: one change to one entity.

use std::time::Duration;

use super::super::api::{AnswerBody, ClockMode, Octets, OpBody, OpName, StepBody, UpdateBody};
use super::super::cli::{Ballot, Delete, How, Op, Update};
use super::super::exit::Failure;
use super::super::output;
use super::super::session_file::Session;
use super::read::node;
use super::{GRACE, check_names};
use crate::terms::millis;

/// How long to wait for the level, or for what a session has seen, when nothing is said.
pub(super) const LEVEL_TIMEOUT: Duration = Duration::from_secs(10);

/// What has happened once a node has answered.
const DONE: &str = "the change was made";

/// Makes one change.
pub async fn run(args: &Update) -> Result<(), Failure> {
    send(op(args), &args.how).await
}

/// Deletes an entity.
pub async fn delete(args: &Delete) -> Result<(), Failure> {
    let op = OpBody {
        ty: args.how.ty.map(|ty| ty.name().to_string()),
        ..OpBody::new(&args.kind, &args.key, OpName::Delete)
    };
    send(op, &args.how).await
}

async fn send(op: OpBody, how: &How) -> Result<(), Failure> {
    check_names(&op.kind, &op.key)?;
    let (client, at) = node(&how.target).await?;
    let timeout = how.timeout.unwrap_or(LEVEL_TIMEOUT);
    let session = Session::of(how.session.as_ref(), timeout, DONE);
    let client = client.in_session(session);
    let entity = output::printable(&format!("{}/{}", op.kind, op.key));
    let body = UpdateBody {
        ops: vec![op],
        level: how.level.clone(),
        timeout_ms: Some(millis(timeout)),
        idempotency_key: how.idempotency_key.clone(),
        directory: None,
    };
    let answer = client
        .post::<AnswerBody>(&at, "/v1/updates", &body, timeout + GRACE)
        .await;
    let may = "the update may or may not have been made (with a --key it can be repeated safely)";
    let answer = answer.map_err(|failure| failure.unsent_or(may))?;
    let told = tell(&answer, &entity, how.target.json);
    told.map_err(|failure| failure.or_changed(!answer.dots.is_empty()))
}

fn tell(answer: &AnswerBody, entity: &str, json: bool) -> Result<(), Failure> {
    if json {
        return output::object(answer);
    }
    let copies = output::plural(answer.confirmed.into(), "copy");
    output::line(&match (answer.repeated, answer.dots.is_empty()) {
        (true, _) => format!("{entity}: done before under this key, nothing changed again"),
        (false, true) => format!("{entity}: nothing to change"),
        (false, false) => format!("{entity}: done, confirmed by {copies}"),
    })
}

fn op(args: &Update) -> OpBody {
    let octets = |texts: &[String]| texts.iter().map(|text| Octets::from(text.as_str())).collect();
    let steps = args.within.iter().map(|step| StepBody {
        key: Octets::from(step.key.as_str()),
        ty: step.ty.map(|ty| ty.name().to_string()),
    });
    let steps: Vec<StepBody> = steps.collect();
    let new = |op| OpBody {
        within: (!steps.is_empty()).then(|| steps.clone()),
        ty: args.how.ty.map(|ty| ty.name().to_string()),
        ..OpBody::new(&args.kind, &args.key, op)
    };
    match &args.op {
        Op::Incr { by } => OpBody {
            by: Some(*by),
            ..new(OpName::Incr)
        },
        Op::Add { elements } => OpBody {
            elements: Some(octets(elements)),
            ..new(OpName::Add)
        },
        Op::Remove { elements } => OpBody {
            elements: Some(octets(elements)),
            ..new(OpName::Remove)
        },
        Op::Clear => new(OpName::Clear),
        Op::Set {
            value,
            clock,
            auto_increment,
            reverse,
        } => OpBody {
            value: Some(Octets::from(value.as_str())),
            clock: clock.or(*auto_increment),
            clock_mode: match auto_increment {
                Some(_) => Some(ClockMode::AutoIncrement),
                None => reverse.then_some(ClockMode::Reverse),
            },
            ..new(OpName::Set)
        },
        Op::Create => new(OpName::Create),
        Op::Enable => new(OpName::Enable),
        Op::Disable => new(OpName::Disable),
        Op::Transfer { amount, to } => OpBody {
            amount: Some(*amount),
            to: Some(to.clone()),
            ..new(OpName::Transfer)
        },
        Op::Vote { ballot } => OpBody {
            yes: Some(*ballot == Ballot::Yes),
            ..new(OpName::Vote)
        },
    }
}
