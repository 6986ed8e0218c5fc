//! What a function answers, as the mesh understands it.

use prost::Message;

use super::Function;
use crate::error::Error;
use crate::payload::Payload;
use crate::session::{Action, Call, Command, Effect};
use crate::sidecar::envelope::Envelope;
use crate::sidecar::failure::refused;
use crate::sidecar::proto::common::{Action as ClientAction, Any, Forward, Reply, SideEffect};
use crate::sidecar::services::TYPE_URL;

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
        Some(ClientAction::Reply(said)) => Ok(Action::Reply(reply(function, said, command))),
        Some(ClientAction::Forward(to)) => forward(function, to, command).map(Action::Forward),
        Some(ClientAction::Failure(failure)) => Ok(Action::Refuse(refused(
            failure.grpc_status_code,
            &failure.description,
        ))),
    }
}

/// A reply, whatever its type: its bytes are passed on.
fn reply(function: &Function, reply: Reply, command: &Command) -> Payload {
    let Ok(method) = function.method(&command.method) else {
        return Envelope::from_any(reply.payload, reply.metadata).to_payload();
    };
    let payload = match method.output().full_name() {
        ANY => reply.payload.map(in_any),
        _ => reply.payload,
    };
    let envelope = Envelope::from_any(payload, reply.metadata);
    function.remark_reply(method, &envelope.type_url);
    envelope.to_payload()
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

/// A forward to one of the function's services.
fn forward(function: &Function, to: Forward, command: &Command) -> Result<Call, Error> {
    let envelope = Envelope::from_any(to.payload, to.metadata);
    let call = function
        .all
        .call(&to.service_name, &to.command_name, &envelope, command);
    call.map_err(|error| {
        let why = format!("it forwarded {}: {}", command.method, error.message());
        function.broke(&why)
    })
}

/// What it wants called, in order.
pub(super) fn effects(
    function: &Function,
    effects: Vec<SideEffect>,
    command: &Command,
) -> Result<Vec<Effect>, Error> {
    let effect = |effect: SideEffect| {
        let envelope = Envelope::from_any(effect.payload, effect.metadata);
        let (service, name) = (&effect.service_name, &effect.command_name);
        let call = function.all.call(service, name, &envelope, command);
        let wrong = |error: Error| {
            let why = format!("an effect of {}: {}", command.method, error.message());
            function.broke(&why)
        };
        Ok(Effect {
            call: call.map_err(wrong)?,
            awaited: effect.synchronous,
        })
    };
    effects.into_iter().map(effect).collect()
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
