//! Updates: a batch of operations, or one on the entity that the path names.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;

use super::body::{self, Place};
use super::entities::names;
use super::error::Refusal;
use super::{App, session};
use crate::crdt::{Clock, DEPTH_MAX, Epoch, Mutation, NodeId, ReplicaId, Type};
use crate::daemon::api::{
    AnswerBody, ClockMode, DeleteBody, Octets, OneBody, OpBody, OpName, TIMEOUT_MS_MAX, UpdateBody,
};
use crate::daemon::config::types;
use crate::engine::limits::TIMEOUT_MS_DEFAULT;
use crate::engine::{Answer, Level, Op, Update};
use crate::error::{Error, ErrorKind};
use crate::wire::{EntityId, IdempotencyKey, Token};

/// `POST /v1/updates`.
pub(super) async fn batch(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Refusal> {
    let after = session::token(&headers)?;
    let (update, place) = app.bodies.read::<UpdateBody>(request).await?;
    make(&app, update, after, place).await
}

/// `POST /v1/entities/KIND/KEY`.
pub(super) async fn one(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Refusal> {
    let (kind, key) = names(&uri)?;
    let after = session::token(&headers)?;
    let (one, place) = app.bodies.read::<OneBody>(request).await?;
    make(&app, one.into_update(kind, key), after, place).await
}

/// `DELETE /v1/entities/KIND/KEY`: the operation `delete`; a body, which there need not be, says what may stand beside it.
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Refusal> {
    let (kind, key) = names(&uri)?;
    let after = session::token(&headers)?;
    let (deletion, place) = if request.is_end_stream() {
        Default::default()
    } else {
        app.bodies.read::<DeleteBody>(request).await?
    };
    make(&app, deletion.into_update(&kind, &key), after, place).await
}

fn answered(answer: &Answer) -> Result<Response, Refusal> {
    Ok(session::with_token(
        body::json(&answer_body(answer)),
        &answer.token,
    ))
}

async fn make(
    app: &App,
    update: UpdateBody,
    after: Option<Token>,
    place: Place,
) -> Result<Response, Refusal> {
    let here = app.node.directory_id();
    if let Some(expected) = &update.directory
        && *expected != here.to_string()
    {
        return Err(Refusal::new(
            StatusCode::CONFLICT,
            "directory_changed",
            format!(
                "this node's data directory is {here}, the update expects {expected}: the directory was lost or \
                 replaced, and with it the idempotency keys; nothing was changed"
            ),
        ));
    }
    let runs = Runs {
        app,
        key: update.idempotency_key.clone(),
        nodes: OnceCell::new(),
    };
    let update = Update {
        after,
        ..checked(update, &|name| runs.of(name))?
    };
    // From here on it is the engine's to bound; the wait for a level may be long.
    drop(place);
    answered(&app.node.update(update).await.map_err(Refusal::from)?)
}

fn answer_body(answer: &Answer) -> AnswerBody {
    AnswerBody {
        directory: answer.directory.to_string(),
        epoch: answer.epoch.to_string(),
        repeated: answer.repeated,
        confirmed: answer.confirmed,
        dots: answer
            .dots
            .iter()
            .map(|&(shard, first, last)| (shard.0, first, last))
            .collect(),
    }
}

/// The update that a body asks for.
fn checked(body: UpdateBody, run_of: &RunOf<'_>) -> Result<Update, Refusal> {
    if body.ops.is_empty() {
        return Err(Refusal::invalid("an update needs at least one operation"));
    }
    let timeout_ms = body.timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT);
    if timeout_ms > TIMEOUT_MS_MAX {
        return Err(Refusal::invalid(format!(
            "timeout_ms is {timeout_ms}, at most {TIMEOUT_MS_MAX} is waited"
        )));
    }
    let level = body
        .level
        .map_or(Ok(Level::default()), |level| level.parse::<Level>())?;
    let key = body
        .idempotency_key
        .map(|key| IdempotencyKey::new(key.as_bytes()))
        .transpose();
    let key = key.map_err(|e| Refusal::invalid(e.to_string()))?;
    let count = body.ops.len();
    let ops = body.ops.into_iter().enumerate();
    let numbered = ops.map(|(i, op)| op_of(op, run_of).map_err(|wrong| wrong.refusal(i, count)));
    Ok(Update {
        after: None,
        ops: numbered.collect::<Result<_, _>>()?,
        level,
        key,
        timeout_ms,
    })
}

/// The current run of the node with this id or name.
type RunOf<'a> = dyn Fn(&str) -> Result<ReplicaId, Wrong> + 'a;

/// What is wrong with an operation.
#[derive(Debug, PartialEq)]
enum Wrong {
    /// It is itself.
    Invalid(String),
    /// It would be right at another time.
    NotNow(String),
}

impl Wrong {
    /// Which of several it is about; one needs no number to be found.
    fn refusal(self, position: usize, count: usize) -> Refusal {
        let named = |why: String| match count {
            1 => why,
            _ => format!("operation {}: {why}", position + 1),
        };
        match self {
            Wrong::Invalid(why) => Refusal::invalid(named(why)),
            Wrong::NotNow(why) => Error::new(ErrorKind::NotReady, named(why)).into(),
        }
    }
}

impl From<String> for Wrong {
    fn from(why: String) -> Wrong {
        Wrong::Invalid(why)
    }
}

impl From<&str> for Wrong {
    fn from(why: &str) -> Wrong {
        Wrong::Invalid(why.to_string())
    }
}

/// Whom the transfers of one update go to. Nothing is asked before the first of them.
struct Runs<'a> {
    app: &'a App,
    key: Option<String>,
    /// This node and all others, with the names that are known.
    nodes: OnceCell<Vec<(NodeId, Option<String>)>>,
}

impl Runs<'_> {
    /// A transfer goes to a run of a node, which only somebody linked to it knows for sure. A repeat is told by the node
    /// alone, and need not be possible any more.
    fn of(&self, name: &str) -> Result<ReplicaId, Wrong> {
        let nodes = self.nodes.get_or_init(|| self.nodes());
        let is_meant = |(id, known): &&(NodeId, Option<String>)| {
            id.to_string() == name || known.as_deref() == Some(name)
        };
        let meant: BTreeSet<NodeId> = nodes.iter().filter(is_meant).map(|(id, _)| *id).collect();
        match (meant.first(), meant.len()) {
            (Some(&node), 1) => match self.app.node.replica_of(node) {
                Some(run) => Ok(run),
                None if self.is_repeat() => Ok(ReplicaId::new(node, Epoch::default())),
                None => Err(Wrong::NotNow(format!(
                    "nothing was changed: {name} is not connected to this node now, so nothing can be handed over to \
                     it; retry later"
                ))),
            },
            // Names come by gossip, a moment after the links.
            (None, _) if nodes.iter().any(|(_, known)| known.is_none()) => Err(Wrong::NotNow(format!(
                "nothing was changed: {name:?} is no node's id, and not the name of one that has said its name yet; retry later, or use \
                 an id"
            ))),
            (None, _) => Err(Wrong::Invalid(format!("{name:?} is no node's id or name here"))),
            _ => Err(Wrong::Invalid(format!(
                "{name:?} is the name of several nodes; use an id"
            ))),
        }
    }

    fn nodes(&self) -> Vec<(NodeId, Option<String>)> {
        let node = &self.app.node;
        let own = (node.id(), Some(node.name().to_string()));
        let others = node.status().members.into_iter();
        others
            .map(|member| (member.node, member.name))
            .chain([own])
            .collect()
    }

    /// Whether the update was made here before, as far as its key tells.
    fn is_repeat(&self) -> bool {
        let key = self.key.as_ref();
        let key = key.and_then(|key| IdempotencyKey::new(key.as_bytes()).ok());
        key.is_some_and(|key| self.app.node.knows_key(&key))
    }
}

fn op_of(body: OpBody, run_of: &RunOf<'_>) -> Result<Op, Wrong> {
    let entity = EntityId::new(&body.kind, &body.key).map_err(|e| e.to_string())?;
    let ty = body.ty.as_deref().map(type_of).transpose()?;
    Ok(Op {
        entity,
        ty,
        mutation: mutation_within(body, run_of)?,
    })
}

fn type_of(name: &str) -> Result<Type, String> {
    name.parse::<Type>()
        .map_err(|_| format!("{name:?} is none of the types {}", types()))
}

/// The operation on the child that the steps lead to.
fn mutation_within(mut body: OpBody, run_of: &RunOf<'_>) -> Result<Mutation, Wrong> {
    let steps = body.within.take().unwrap_or_default();
    if steps.len() > DEPTH_MAX {
        return Err(format!("\"in\" has {} steps, at most {DEPTH_MAX}", steps.len()).into());
    }
    let mut mutation = mutation(body, run_of)?;
    for step in steps.into_iter().rev() {
        mutation = Mutation::Update {
            key: Bytes::from(step.key.0),
            ty: step.ty.as_deref().map(type_of).transpose()?,
            mutation: Box::new(mutation),
        };
    }
    Ok(mutation)
}

fn mutation(body: OpBody, run_of: &RunOf<'_>) -> Result<Mutation, Wrong> {
    let OpBody {
        op,
        by,
        elements,
        value,
        clock,
        clock_mode,
        yes,
        amount,
        to,
        ..
    } = body;
    let name = op;
    let unused = |member: &str, there: bool| {
        if there {
            Err(format!("{name:?} takes no {member:?}").to_lowercase())
        } else {
            Ok(())
        }
    };
    if op != OpName::Incr {
        unused("by", by.is_some())?;
    }
    if !matches!(op, OpName::Add | OpName::Remove) {
        unused("elements", elements.is_some())?;
    }
    if op != OpName::Set {
        unused("value", value.is_some())?;
        unused("clock", clock.is_some())?;
        unused("clock_mode", clock_mode.is_some())?;
    }
    if op != OpName::Vote {
        unused("yes", yes.is_some())?;
    }
    if op != OpName::Transfer {
        unused("amount", amount.is_some())?;
        unused("to", to.is_some())?;
    }
    let bytes = |Octets(bytes)| Bytes::from(bytes);
    let all = |elements: Option<Vec<Octets>>| {
        let elements = elements.ok_or_else(|| "\"elements\" is missing".to_string())?;
        Ok::<Vec<Bytes>, String>(elements.into_iter().map(bytes).collect())
    };
    Ok(match op {
        OpName::Incr => Mutation::Increment(by.ok_or("\"by\" is missing")?),
        OpName::Add => Mutation::Add(all(elements)?),
        OpName::Remove => Mutation::Remove(all(elements)?),
        OpName::Clear => Mutation::Clear,
        OpName::Delete => Mutation::Delete,
        OpName::Set => Mutation::Set {
            value: bytes(value.ok_or("\"value\" is missing")?),
            clock: self::clock(clock, clock_mode)?,
        },
        OpName::Create => Mutation::Create,
        OpName::Enable => Mutation::Enable,
        OpName::Disable => Mutation::Disable,
        OpName::Vote => Mutation::Vote(yes.ok_or("\"yes\" is missing")?),
        OpName::Transfer => Mutation::Transfer {
            amount: amount.ok_or("\"amount\" is missing")?,
            to: run_of(&to.ok_or("\"to\" is missing")?)?,
        },
    })
}

fn clock(clock: Option<u64>, mode: Option<ClockMode>) -> Result<Clock, String> {
    Ok(match (mode, clock) {
        (None, None) => Clock::Default,
        (None | Some(ClockMode::Custom), Some(clock)) => Clock::Custom(clock),
        (Some(ClockMode::AutoIncrement), Some(clock)) => Clock::AutoIncrement(clock),
        (Some(ClockMode::Reverse), None) => Clock::Reverse,
        (Some(ClockMode::Reverse), Some(_)) => return Err("a reverse clock takes no \"clock\"".to_string()),
        (Some(_), None) => return Err("\"clock\" is missing".to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_node(name: &str) -> Result<ReplicaId, Wrong> {
        (name == "n7")
            .then(|| ReplicaId::new(NodeId(7), Epoch(3)))
            .ok_or_else(|| "nobody".into())
    }

    fn update(text: &str) -> Result<Update, String> {
        checked(crate::daemon::strict::object(text.as_bytes()).unwrap(), &one_node)
            .map_err(|refusal| format!("{refusal:?}"))
    }

    fn op(text: &str) -> Result<Mutation, String> {
        let update = update(&format!(r#"{{"ops":[{{"kind":"k","key":"a",{text}}}]}}"#))?;
        Ok(update.ops[0].mutation.clone())
    }

    #[test]
    fn operations_take_their_members_and_no_others() {
        assert_eq!(op(r#""op":"incr","by":-3"#), Ok(Mutation::Increment(-3)));
        let elements = vec![Bytes::from_static(b"x"), Bytes::from_static(b"\xff")];
        assert_eq!(
            op(r#""op":"add","elements":["x",{"base64":"/w=="}]"#),
            Ok(Mutation::Add(elements))
        );
        let set = Mutation::Set {
            value: Bytes::from_static(b"v"),
            clock: Clock::Custom(7),
        };
        assert_eq!(op(r#""op":"set","value":"v","clock":7"#), Ok(set));
        assert_eq!(op(r#""op":"clear""#), Ok(Mutation::Clear));
        let within = Mutation::Update {
            key: "a".into(),
            ty: Some(Type::OrMap),
            mutation: Box::new(Mutation::Update {
                key: vec![0xff].into(),
                ty: None,
                mutation: Box::new(Mutation::Enable),
            }),
        };
        let steps = r#""op":"enable","in":[{"key":"a","type":"ormap"},{"key":{"base64":"/w=="}}]"#;
        assert_eq!(op(steps), Ok(within));
        assert_eq!(op(r#""op":"vote","yes":true"#), Ok(Mutation::Vote(true)));
        let transfer = Mutation::Transfer {
            amount: 4,
            to: ReplicaId::new(NodeId(7), Epoch(3)),
        };
        assert_eq!(op(r#""op":"transfer","amount":4,"to":"n7""#), Ok(transfer));
        let set = |clock| {
            let value = "v".into();
            Ok(Mutation::Set { value, clock })
        };
        assert_eq!(
            op(r#""op":"set","value":"v","clock_mode":"reverse""#),
            set(Clock::Reverse)
        );
        assert_eq!(
            op(r#""op":"set","value":"v","clock":4,"clock_mode":"auto-increment""#),
            set(Clock::AutoIncrement(4))
        );
        assert!(op(r#""op":"set","value":"v","clock":4,"clock_mode":"reverse""#).is_err());
        assert!(op(r#""op":"set","value":"v","clock_mode":"custom""#).is_err());
        for (text, complaint) in [
            (r#""op":"incr""#, "\\\"by\\\" is missing"),
            (r#""op":"clear","by":1"#, "takes no"),
            (r#""op":"create","clock":1"#, "takes no"),
            (r#""op":"add","value":"x""#, "takes no"),
            (r#""op":"remove""#, "\\\"elements\\\" is missing"),
            (
                r#""op":"incr","by":1,"type":"queue""#,
                "gcounter, pncounter, lwwregister, orset",
            ),
        ] {
            let error = op(text).unwrap_err();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }

    #[test]
    fn an_update_is_checked_whole() {
        assert!(update(r#"{"ops":[]}"#).is_err());
        let two = r#"{"ops":[{"kind":"k","key":"a","op":"clear"},{"kind":"k","key":"","op":"clear"}]}"#;
        assert!(update(two).unwrap_err().contains("operation 2: "));
        let settings = r#"{"ops":[{"kind":"k","key":"a","op":"clear"}],"level":"majority","timeout_ms":5,"idempotency_key":"i"}"#;
        let update = update(settings).unwrap();
        assert_eq!(
            (update.level.to_string().as_str(), update.timeout_ms),
            ("majority", 5)
        );
        assert_eq!(update.key.unwrap().as_bytes(), b"i");
        for bad in [
            r#""level":"most""#,
            r#""timeout_ms":600001"#,
            r#""idempotency_key":"""#,
        ] {
            let text = format!(r#"{{"ops":[{{"kind":"k","key":"a","op":"clear"}}],{bad}}}"#);
            assert!(
                checked(serde_json::from_str(&text).unwrap(), &one_node).is_err(),
                "{bad}"
            );
        }
    }
}
