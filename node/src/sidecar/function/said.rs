//! What a function answers, as the mesh understands it.

use anabranch_crdt::Type;
use prost::Message;
use tonic::Code;

use super::Function;
use crate::error::Error;
use crate::function::{Foreign, unknown_elsewhere};
use crate::payload::PAYLOAD_BYTES_MAX;
use crate::session::{Action, Call, Command, Effect};
use crate::sidecar::envelope::Envelope;
use crate::sidecar::failure::refused;
use crate::sidecar::problem::Severity;
use crate::sidecar::proto::common::{Action as ClientAction, Any, Forward, Reply, SideEffect};
use crate::sidecar::services::TYPE_URL;
use crate::wire::EntityId;

/// The message that may be any other.
const ANY: &str = "google.protobuf.Any";

/// What its caller hears.
pub(super) fn action(
    function: &Function,
    action: Option<ClientAction>,
    command: &Command,
) -> Result<Action, Error> {
    match action {
        None => Ok(Action::Reply(Envelope::default().to_payload())),
        Some(ClientAction::Reply(said)) => Ok(reply(function, said, command)),
        Some(ClientAction::Forward(to)) => forward(function, to, command),
        Some(ClientAction::Failure(failure)) => Ok(Action::Refuse(refused(
            failure.grpc_status_code,
            &failure.description,
        ))),
    }
}

/// A reply, whatever its type: its bytes are passed on. Its caller is refused one that is too long, whoever that is.
fn reply(function: &Function, reply: Reply, command: &Command) -> Action {
    let Ok(method) = function.method(&command.method) else {
        return Action::Reply(Envelope::from_any(reply.payload, reply.metadata).to_payload());
    };
    let payload = match method.output().full_name() {
        ANY => reply.payload.map(in_any),
        _ => reply.payload,
    };
    let envelope = Envelope::from_any(payload, reply.metadata);
    function.remark_reply(method, &envelope.type_url);
    let bytes = envelope.message.len();
    let payload = envelope.to_payload();
    let what = match payload.bytes.len() {
        _ if bytes > PAYLOAD_BYTES_MAX => format!("has {bytes} bytes, at most {PAYLOAD_BYTES_MAX}"),
        all if all > payload.bytes_max() => {
            let most = payload.bytes_max();
            format!("has {all} bytes with what it says beside it, at most {most}")
        }
        _ => return Action::Reply(payload),
    };
    let text = format!("its reply to {} {what}", method.descriptor.full_name());
    function.remark(Severity::Error, &command.method, "long reply", text);
    let unknown = unknown_elsewhere(!function.service.is_action);
    let text = format!("the function's reply {what}. {unknown}");
    Action::Refuse(refused(Code::Internal as u32, &text))
}

/// What may be anything the SDKs say as what it is: it is the message then, and not what is in one.
fn in_any(any: Any) -> Any {
    if any.type_url.rsplit('/').next() == Some(ANY) {
        return any;
    }
    Any {
        type_url: format!("{TYPE_URL}{ANY}"),
        value: any.encode_to_vec().into(),
    }
}

/// Why a call that a function wants made cannot be.
enum NoCall {
    /// Nobody can be called so, whatever is said.
    Nobody(String),
    /// Who is called so is not called: a stream is opened.
    Stream(String),
    /// Of no entity can it be.
    NoEntity(String),
}

/// A call that a function wants made, while it answers a command.
fn call(
    function: &Function,
    (service, method): (&str, &str),
    envelope: &Envelope,
    from: &Command,
) -> Result<Call, NoCall> {
    // What has changed who reads it knows better.
    let why = |error: Error| {
        let why = error.message();
        why.strip_prefix("nothing changed: ").unwrap_or(why).to_owned()
    };
    let found = function.all.services.find(service, method);
    let (service, found) = found.map_err(|error| NoCall::Nobody(why(error)))?;
    if found.is_streamed() && (service.is_action || function.goes_on()) {
        let text = "it takes or gives a stream, and forwards and effects go to methods with one message and one answer";
        return Err(NoCall::Stream(text.to_owned()));
    }
    let entity = service.entity(found, &envelope.message);
    let entity = entity.map_err(|error| NoCall::NoEntity(why(error)))?;
    let mut call = Call::new(entity, method, envelope.to_payload());
    call.origin = from.origin.onward();
    Ok(call)
}

/// A forward to one of the function's services. Where nobody is there to be called by its key, its caller hears what he would hear of
/// the target itself.
fn forward(function: &Function, to: Forward, command: &Command) -> Result<Action, Error> {
    let envelope = Envelope::from_any(to.payload, to.metadata);
    let target = (to.service_name.as_str(), to.command_name.as_str());
    let method = &command.method;
    let what = || format!("forwarded {method} to {}/{}", target.0, target.1);
    match call(function, target, &envelope, command) {
        Ok(call) => Ok(Action::Forward(call)),
        Err(NoCall::NoEntity(why)) => {
            let unknown = unknown_elsewhere(!function.service.is_action);
            let text = format!(
                "the function {}, which takes no such command: {why}. {unknown}",
                what()
            );
            Ok(Action::Refuse(refused(Code::InvalidArgument as u32, &text)))
        }
        Err(NoCall::Nobody(why)) => {
            let why = format!("it {}: {why}", what());
            Err(function.broke_at(method, "no forward", &why))
        }
        Err(NoCall::Stream(why)) => {
            let why = format!("it {}: {why}", what());
            Err(function.broke_at(method, "forward to a stream", &why))
        }
    }
}

/// What it wants called, in order. One that cannot be made has failed, as any other may: its caller does not hear of it.
pub(super) fn effects(
    function: &Function,
    effects: Vec<SideEffect>,
    command: &Command,
) -> Result<Vec<Effect>, Error> {
    let mut wanted = Vec::new();
    for effect in effects {
        let envelope = Envelope::from_any(effect.payload, effect.metadata);
        let target = (effect.service_name.as_str(), effect.command_name.as_str());
        let what = || format!("an effect of {}, {}/{}", command.method, target.0, target.1);
        match call(function, target, &envelope, command) {
            Ok(call) => wanted.push(Effect {
                call,
                awaited: effect.synchronous,
            }),
            Err(NoCall::NoEntity(why) | NoCall::Stream(why)) => {
                let text = format!("{}, failed: {why}", what());
                tracing::warn!("{text}");
                function.remark(Severity::Warning, &command.method, "effect", text);
            }
            Err(NoCall::Nobody(why)) => {
                let why = format!("{}: {why}", what());
                return Err(function.broke_at(&command.method, "no effect", &why));
            }
        }
    }
    Ok(wanted)
}

/// What there is to say where it changed an entity as of another type than that is; one that is not there yet is of its kind's.
pub(super) fn another_type(
    function: &Function,
    entity: &EntityId,
    is_shown: bool,
    types: [Type; 2],
) -> Error {
    let [is, made] = types.map(Type::indefinite);
    if is_shown {
        return function.broke(&format!("{entity} is {is}, and it changed it as {made}"));
    }
    let called = function.all.dialect().kind();
    let text = format!(
        "the function made {entity} {made}, and each of its kind is {is}: entities of one kind have one type here, that of the first \
         one that was written, or of its options or [kinds]. Give those of each type a service with {called} of its own. {}",
        unknown_elsewhere(true)
    );
    refused(Code::Internal as u32, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_anything_is_passed_on_as_what_it_is() {
        let thing = Any {
            type_url: "json.kalix.io/thing".to_owned(),
            value: "x".into(),
        };
        let wrapped = in_any(thing.clone());
        assert_eq!(wrapped.type_url, "type.googleapis.com/google.protobuf.Any");
        assert_eq!(Any::decode(wrapped.value.clone()).unwrap(), thing);
        assert_eq!(in_any(wrapped.clone()), wrapped);
    }
}
