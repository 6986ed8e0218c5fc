//! Asking a function what it is, and telling whoever wrote it what is wrong with it.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Code, Status};

use crate::sidecar::connection::Connection;
use crate::sidecar::pool::Location;
use crate::sidecar::problem::{Problem, Severity};
use crate::sidecar::proto::discovery::{
    Empty, ProxyInfo, Severity as SeverityMessage, SourceLocation, Spec, UserFunctionError,
};

const DISCOVER: &str = "/kalix.protocol.Discovery/Discover";
const REPORT_ERROR: &str = "/kalix.protocol.Discovery/ReportError";
const PROXY_TERMINATED: &str = "/kalix.protocol.Discovery/ProxyTerminated";
/// A function that does not listen for so long is told no more.
const TELL_TIMEOUT: Duration = Duration::from_secs(2);
/// The version of the protocol.
const VERSION: (i32, i32) = (1, 1);

/// What a function is told with the question what it is.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Whether it is being developed: it then ends without ado.
    pub dev: bool,
    /// Where calls that it makes itself are taken.
    pub ingress: Option<(String, u16)>,
}

/// What it is.
///
/// # Errors
/// It is none that speaks this protocol, or not yet there.
pub async fn ask(connection: &Connection, asked: &Asked) -> Result<Spec, Status> {
    let (host, port) = asked.ingress.clone().unwrap_or_default();
    let question = ProxyInfo {
        protocol_major_version: VERSION.0,
        protocol_minor_version: VERSION.1,
        proxy_name: "anabranch".to_owned(),
        proxy_version: env!("CARGO_PKG_VERSION").to_owned(),
        supported_entity_types: vec![
            "kalix.component.action.Actions".to_owned(),
            "kalix.component.replicatedentity.ReplicatedEntities".to_owned(),
        ],
        dev_mode: asked.dev,
        proxy_hostname: host.clone(),
        identification_info: None,
        internal_proxy_hostname: host,
        proxy_port: i32::from(port),
    };
    connection.ask(DISCOVER, question).await
}

/// Tells it that nobody is in front of it any more.
pub async fn farewell(connection: &Connection) {
    // It may be gone already, or hang.
    let telling = connection.ask::<_, Empty>(PROXY_TERMINATED, Empty {});
    let _ = timeout(TELL_TIMEOUT, telling).await;
}

/// Tells its author what is wrong with it, on the function's stderr; and the log, in any case.
pub async fn report(connection: &Connection, problem: &Problem) {
    match problem.severity {
        Severity::Error => tracing::error!("the function: {problem}"),
        Severity::Warning => tracing::warn!("the function: {problem}"),
    }
    let severity = match problem.severity {
        Severity::Error => SeverityMessage::Error,
        Severity::Warning => SeverityMessage::Warning,
    };
    let said = UserFunctionError {
        message: problem.message.clone(),
        code: String::new(),
        detail: String::new(),
        source_locations: problem.location.iter().map(place).collect(),
        severity: severity as i32,
    };
    let telling = connection.ask::<_, Empty>(REPORT_ERROR, said);
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
