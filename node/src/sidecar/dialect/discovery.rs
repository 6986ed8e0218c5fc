//! Asking a function what it is, and telling whoever wrote it what is wrong with it.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Code, Status};

use super::Dialect;
use crate::sidecar::connection::Connection;
use crate::sidecar::pool::Location;
use crate::sidecar::problem::{Class, Problem, Severity};
use crate::sidecar::proto::discovery::{
    ACTIONS, Component, ComponentSettings, ENTITIES, Empty, EntitySettings, EntitySpec, ProxyInfo,
    ServiceInfo, Severity as SeverityMessage, SourceLocation, Spec, UserFunctionError,
};
use crate::sidecar::read::too_long;

const DISCOVER: &str = "/kalix.protocol.Discovery/Discover";
const REPORT_ERROR: &str = "/kalix.protocol.Discovery/ReportError";
const PROXY_TERMINATED: &str = "/kalix.protocol.Discovery/ProxyTerminated";
const CLOUDSTATE_DISCOVER: &str = "/cloudstate.EntityDiscovery/discover";
const CLOUDSTATE_REPORT_ERROR: &str = "/cloudstate.EntityDiscovery/reportError";
const AKKA_DISCOVER: &str = "/akkaserverless.protocol.Discovery/Discover";
/// A function that does not listen for so long is told no more.
const TELL_TIMEOUT: Duration = Duration::from_secs(2);
/// The versions of the protocols.
const KALIX: (i32, i32) = (1, 1);
const CLOUDSTATE: (i32, i32) = (0, 2);
/// What a function says that does not say which version it speaks, as the first ones did not.
const NO_VERSION: (i32, i32) = (0, 0);
/// What each of Cloudstate's types of entities is in Kalix's words.
const CLOUDSTATE_TYPES: [(&str, &str); 3] = [
    ("cloudstate.crdt.Crdt", ENTITIES),
    ("cloudstate.action.ActionProtocol", ACTIONS),
    ("cloudstate.function.StatelessFunction", ACTIONS),
];

/// What a function is told with the question what it is.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Whether it is being developed: it then ends without ado.
    pub dev: bool,
    /// Where calls that it makes itself are taken.
    pub ingress: Option<(String, u16)>,
}

/// Why it has not said what it is, or not so that it could be served.
#[derive(Debug)]
pub enum Unasked {
    /// The question ended so: it speaks none of the protocols, or is not there yet.
    Unsaid(Status),
    /// It speaks this one, and its author is to mend this.
    Refused(Dialect, Box<Problem>),
}

impl Unasked {
    fn refused(dialect: Dialect, text: String) -> Unasked {
        let problem = Problem::nowhere(text).of(Class::Descriptors);
        Unasked::Refused(dialect, Box::new(problem))
    }
}

/// What it is: the dialect it speaks, and what it serves, in Kalix's words.
///
/// # Errors
/// It is none that speaks one of the protocols, not yet there, or none that can be served.
pub async fn ask(connection: &Connection, asked: &Asked) -> Result<(Dialect, Spec), Unasked> {
    let is_other = |status: &Status| status.code() == Code::Unimplemented;
    match ask_kalix(connection, asked).await {
        Err(Unasked::Unsaid(status)) if is_other(&status) => {}
        spec => return spec.map(|spec| (Dialect::Kalix, spec)),
    }
    match ask_cloudstate(connection).await {
        Err(Unasked::Unsaid(status)) if is_other(&status) => {}
        found => return found,
    }
    // For its author: it is a function, and none that can be served.
    let asking = connection.ask::<_, Empty>(AKKA_DISCOVER, Empty {});
    Err(Unasked::Unsaid(match asking.await {
        Err(status) if is_other(&status) => status,
        _ => Status::failed_precondition(
            "it is a function on one of Akka Serverless's SDKs, which became Kalix's",
        ),
    }))
}

/// Asks in one dialect.
async fn discover<A>(
    dialect: Dialect,
    connection: &Connection,
    path: &'static str,
    question: ProxyInfo,
) -> Result<A, Unasked>
where
    A: prost::Message + Default + 'static,
{
    let answered = connection.ask(path, question).await;
    answered.map_err(|status| match too_long(&status) {
        Some(what) => Unasked::refused(
            dialect,
            format!(
                "what the function says of itself, its descriptor set above all, {what}: make user-function.desc anew of no other \
                 .proto files than its services need"
            ),
        ),
        None => Unasked::Unsaid(status),
    })
}

async fn ask_kalix(connection: &Connection, asked: &Asked) -> Result<Spec, Unasked> {
    let (host, port) = asked.ingress.clone().unwrap_or_default();
    let question = ProxyInfo {
        supported_entity_types: vec![ACTIONS.to_owned(), ENTITIES.to_owned()],
        dev_mode: asked.dev,
        proxy_hostname: host.clone(),
        internal_proxy_hostname: host,
        proxy_port: i32::from(port),
        ..about_this(KALIX)
    };
    let spec: Spec = discover(Dialect::Kalix, connection, DISCOVER, question).await?;
    match version(spec.service_info.as_ref()) {
        (1, _) | NO_VERSION => Ok(spec),
        (major, minor) => {
            let text = format!(
                "the function speaks version {major}.{minor} of Kalix's protocol, and Anabranch 1.1: use an SDK of that version, as 1.x \
                 of Kalix's are"
            );
            Err(Unasked::refused(Dialect::Kalix, text))
        }
    }
}

async fn ask_cloudstate(connection: &Connection) -> Result<(Dialect, Spec), Unasked> {
    let types = CLOUDSTATE_TYPES.iter().map(|(name, _)| (*name).to_owned());
    let question = ProxyInfo {
        supported_entity_types: types.collect(),
        ..about_this(CLOUDSTATE)
    };
    let asking = discover(Dialect::Cloudstate, connection, CLOUDSTATE_DISCOVER, question);
    let spec: EntitySpec = asking.await?;
    let dialect = match version(spec.service_info.as_ref()) {
        CLOUDSTATE => Dialect::Cloudstate,
        NO_VERSION => Dialect::Early,
        (major, minor) => {
            let text = format!(
                "the function speaks version {major}.{minor} of Cloudstate's protocol, and Anabranch 0.2 and the first one, which says \
                 none: use an SDK of one of those"
            );
            return Err(Unasked::refused(Dialect::Cloudstate, text));
        }
    };
    let components = spec.entities.into_iter().map(|entity| {
        let known = CLOUDSTATE_TYPES
            .iter()
            .find(|(name, _)| *name == entity.entity_type);
        Component {
            component_type: known.map_or(entity.entity_type, |(_, kalix)| (*kalix).to_owned()),
            settings: Some(ComponentSettings::Entity(EntitySettings {
                entity_type: kind(entity.persistence_id, &entity.service_name),
                passivation_strategy: entity.passivation_strategy,
                ..EntitySettings::default()
            })),
            service_name: entity.service_name,
        }
    });
    let spec = Spec {
        proto: spec.proto,
        components: components.collect(),
        service_info: spec.service_info,
    };
    Ok((dialect, spec))
}

/// What an entity's kind is called: what the first SDKs leave out, the later ones say as the last part of the service's name.
fn kind(persistence_id: String, service: &str) -> String {
    match persistence_id.is_empty() {
        true => service.rsplit('.').next().unwrap_or_default().to_owned(),
        false => persistence_id,
    }
}

fn about_this((major, minor): (i32, i32)) -> ProxyInfo {
    ProxyInfo {
        protocol_major_version: major,
        protocol_minor_version: minor,
        proxy_name: "anabranch".to_owned(),
        proxy_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..ProxyInfo::default()
    }
}

fn version(info: Option<&ServiceInfo>) -> (i32, i32) {
    info.map_or(NO_VERSION, |info| {
        (info.protocol_major_version, info.protocol_minor_version)
    })
}

/// Tells it that nobody is in front of it any more, if it wants to know.
pub async fn farewell(dialect: Dialect, connection: &Connection) {
    if dialect != Dialect::Kalix {
        return;
    }
    // It may be gone already, or hang.
    let telling = connection.ask::<_, Empty>(PROXY_TERMINATED, Empty {});
    let _ = timeout(TELL_TIMEOUT, telling).await;
}

/// Tells its author what is wrong with it, on the function's stderr; and the log, in any case.
pub async fn report(dialect: Dialect, connection: &Connection, problem: &Problem) {
    let severity = match problem.severity {
        Severity::Error => {
            tracing::error!("the function: {problem}");
            SeverityMessage::Error
        }
        Severity::Warning => {
            tracing::warn!("the function: {problem}");
            SeverityMessage::Warning
        }
    };
    let (path, said) = match dialect {
        Dialect::Kalix => {
            let said = UserFunctionError {
                message: problem.message.clone(),
                code: problem.class.code().to_owned(),
                source_locations: problem.location.iter().map(place).collect(),
                severity: severity as i32,
                ..UserFunctionError::default()
            };
            (REPORT_ERROR, said)
        }
        // It has a word for the text alone.
        Dialect::Cloudstate | Dialect::Early => {
            let said = UserFunctionError {
                message: problem.to_string(),
                ..UserFunctionError::default()
            };
            (CLOUDSTATE_REPORT_ERROR, said)
        }
    };
    let telling = connection.tell::<_, Empty>(path, said);
    if let Ok(Err(status)) = timeout(TELL_TIMEOUT, telling).await
        && status.code() != Code::Unavailable
    {
        tracing::debug!(%status, "the function does not take reports");
    }
}

fn place(location: &Location) -> SourceLocation {
    SourceLocation {
        file_name: location.file.clone(),
        start_line: location.start_line,
        start_col: location.start_col,
        end_line: location.end_line,
        end_col: location.end_col,
        proto_path: location.path.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_without_a_name_is_called_by_its_service() {
        assert_eq!(kind("carts".to_owned(), "shop.v1.Cart"), "carts");
        assert_eq!(kind(String::new(), "shop.v1.Cart"), "Cart");
        assert_eq!(kind(String::new(), "Cart"), "Cart");
    }
}
