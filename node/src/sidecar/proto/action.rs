//! `kalix.component.action`: commands to nobody in particular.

use super::common::{Action, Any, Failure, Forward, Metadata, Reply, SideEffect};

#[derive(Clone, PartialEq, prost::Message)]
pub struct ActionCommand {
    #[prost(string, tag = "2")]
    pub service_name: String,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(message, optional, tag = "4")]
    pub payload: Option<Any>,
    #[prost(message, optional, tag = "5")]
    pub metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ActionResponse {
    #[prost(oneof = "Response", tags = "1, 2, 3")]
    pub response: Option<Response>,
    #[prost(message, repeated, tag = "4")]
    pub side_effects: Vec<SideEffect>,
}

/// What an entity's function says of a command, under other numbers.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Response {
    #[prost(message, tag = "1")]
    Failure(Failure),
    #[prost(message, tag = "2")]
    Reply(Reply),
    #[prost(message, tag = "3")]
    Forward(Forward),
}

impl From<Response> for Action {
    fn from(response: Response) -> Action {
        match response {
            Response::Failure(failure) => Action::Failure(failure),
            Response::Reply(reply) => Action::Reply(reply),
            Response::Forward(forward) => Action::Forward(forward),
        }
    }
}
