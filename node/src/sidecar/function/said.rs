//! What a function answers, as the mesh understands it.

use super::Function;
use crate::error::Error;
use crate::payload::Payload;
use crate::session::{Action, Call, Command, Effect};
use crate::sidecar::envelope::Envelope;
use crate::sidecar::failure::refused;
use crate::sidecar::proto::common::{Action as ClientAction, Forward, Reply, SideEffect};

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
    let envelope = Envelope::from_any(reply.payload, reply.metadata);
    if let Ok(method) = function.method(&command.method) {
        function.remark_reply(method, &envelope.type_url);
    }
    envelope.to_payload()
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
