//! `schedule`: have functions called at certain times. Schedules are entities with a function of their own, which is called here
//! as any other.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::cli::{MissedTimes, Schedule, ScheduleSet, Target};
use super::super::client::Client;
use super::super::exit::Failure;
use super::super::output;
use super::call::check_argument;
use super::read::node;
use super::update::LEVEL_TIMEOUT;
use super::{ANSWER_TIMEOUT, GRACE, path_of_method};
use crate::percent;
use crate::terms::millis;
use crate::trigger::{Json, Missed, Order, SCHEDULE, Shown, When, utc};

/// What is said where no node that can be reached takes schedules.
const NO_SCHEDULES: &str = "schedules call functions, and nodes that have functions keep them: this node has none, and no node \
                            that it is linked with. Start a program that has some (`anabranch::cli::run`), or `anabranch dev`";

/// Obeys one of the commands.
pub async fn run(command: &Schedule) -> Result<(), Failure> {
    match command {
        Schedule::Set(args) => set(args).await,
        Schedule::Cancel(args) => {
            let (client, at) = node(&args.target).await?;
            // One that cannot be shown can be cancelled all the same.
            if matches!(shown(&client, &at, &args.name).await, Ok(None)) {
                return Err(none(&args.name));
            }
            let cancelled = call(&client, &at, &args.name, "cancel", &()).await;
            let may = "the schedule may or may not have been cancelled";
            cancelled.map(|_| ()).map_err(|failure| failure.unsent_or(may))
        }
        Schedule::Show(args) => {
            let (client, at) = node(&args.target).await?;
            match shown(&client, &at, &args.name).await? {
                Some(shown) => print(&args.target, &args.name, &shown),
                None => Err(none(&args.name)),
            }
        }
        Schedule::List(target) => list(target).await,
    }
}

fn none(name: &str) -> Failure {
    Failure::new("not_found", format!("there is no schedule {name}")).changed(false)
}

async fn set(args: &ScheduleSet) -> Result<(), Failure> {
    let argument = args.argument.clone().unwrap_or_default();
    check_argument(&argument)?;
    let when = match (&args.cron, args.every, args.after) {
        (Some(cron), ..) => When::Cron(cron.clone()),
        (_, Some(every), _) => When::EveryMs(millis(every)),
        (.., after) => When::AfterMs(millis(after.unwrap_or_default())),
    };
    let order = Order {
        when,
        kind: args.kind.clone(),
        key: args.key.clone(),
        method: args.method.clone(),
        argument: Json(if argument.is_empty() {
            "null".into()
        } else {
            argument
        }),
        missed: match args.missed {
            MissedTimes::Once => Missed::Once,
            MissedTimes::All => Missed::All,
            MissedTimes::Skip => Missed::Skip,
        },
        timeout_ms: args.timeout.map(millis),
    };
    // A wrong argument is that, and no refusal: nobody need be asked.
    order
        .check()
        .map_err(|error| Failure::usage(error.to_string()).unsent())?;
    let (client, at) = node(&args.target).await?;
    let set = call(&client, &at, &args.name, "set", &order).await;
    set.map_err(|failure| failure.unsent_or("the schedule may or may not have been set"))?;
    let told = match shown(&client, &at, &args.name).await {
        Ok(Some(shown)) => print(&args.target, &args.name, &shown),
        Ok(None) => Ok(()),
        Err(failure) => Err(failure.at("the schedule was set, and cannot be shown")),
    };
    told.map_err(|failure| failure.changed(true))
}

async fn list(target: &Target) -> Result<(), Failure> {
    let (client, at) = node(target).await?;
    let path = format!("/v1/dump?kind={}", percent::encode(SCHEDULE));
    let mut lines = client.lines(&at, &path, ANSWER_TIMEOUT).await?;
    let mut names = Vec::new();
    while let Some(line) = lines.next().await? {
        let line: Value = serde_json::from_str(&line).unwrap_or_default();
        names.extend(line["key"].as_str().map(str::to_owned));
    }
    for name in names {
        // One that is over meanwhile is left out.
        if let Some(shown) = shown(&client, &at, &name).await? {
            print(target, &name, &shown)?;
        }
    }
    Ok(())
}

async fn call(
    client: &Client,
    at: &str,
    name: &str,
    method: &str,
    argument: &impl Serialize,
) -> Result<String, Failure> {
    let path = path_of_method("call", SCHEDULE, name, method)?;
    let body = serde_json::to_vec(argument).map_err(|e| Failure::new("internal", e.to_string()))?;
    let called = client
        .post_text(at, &path, Bytes::from(body), LEVEL_TIMEOUT + GRACE)
        .await;
    called.map_err(|failure| match failure.name() {
        // The node says it of a function that nobody who types this has heard of.
        "no_function" => Failure::new("no_function", NO_SCHEDULES).changed(false),
        _ => failure,
    })
}

async fn shown(client: &Client, at: &str, name: &str) -> Result<Option<Shown>, Failure> {
    let reply = call(client, at, name, "show", &()).await?;
    let read = serde_json::from_str(&reply);
    read.map_err(|e| Failure::new("unreachable", format!("{at} shows what is no schedule: {e}")))
}

fn print(target: &Target, name: &str, shown: &Shown) -> Result<(), Failure> {
    if target.json {
        let line = json!({"name": name, "schedule": shown});
        return output::line(&line.to_string());
    }
    let time = |ms: Option<u64>| ms.map_or("never".to_owned(), utc);
    let order = &shown.order;
    output::line(&output::printable(&format!(
        "{name}  next {}  last {}  {}: {} of {}/{}",
        time(shown.next_ms),
        time(shown.last_ms),
        order.when,
        order.method,
        order.kind,
        order.key
    )))
}
