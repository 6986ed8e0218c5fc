//! Reading: one entity, its changes, all entities.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use tokio::sync::watch::Receiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::{self, Chunks};
use super::error::Refusal;
use super::{App, query, session, told};
use crate::daemon::output;
use crate::json;
use crate::node::{Dump, Node};
use crate::percent::{self, Place};
use crate::wire::EntityId;

/// A chunk of a dump aims at this size; one line more than fits always goes.
const CHUNK_BYTES: usize = 64 << 10;
/// A watch says at least this often that it is still there.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /v1/entities/KIND/KEY`: its canonical line. That there is none is a reading too.
pub(super) async fn read(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = entity(&uri)?;
    let after = session::token(&headers)?;
    let timeout = session::timeout(&headers)?;
    let (read, token) = match (level(&uri)?, &after) {
        (ReadLevel::Majority, after) => {
            let after = after.clone().unwrap_or_default();
            app.node.read_majority(&id, &after, timeout).await?
        }
        (ReadLevel::Local, Some(after)) => app.node.read_after(&id, after, timeout).await?,
        (ReadLevel::Local, None) => app.node.read_with_token(&id),
    };
    let response = match read {
        Some((_, reading)) => body::line(json::line(&id, &reading)),
        None => Refusal::not_found(format!("there is no {id}")).into_response(),
    };
    Ok(session::with_token(response, &token))
}

/// How far a read goes.
enum ReadLevel {
    Local,
    Majority,
}

fn level(uri: &Uri) -> Result<ReadLevel, Refusal> {
    match query(uri) {
        None | Some("level=local") => Ok(ReadLevel::Local),
        Some("level=majority") => Ok(ReadLevel::Majority),
        Some(query) => Err(Refusal::invalid(format!(
            "{query:?} asks for nothing that there is: level=local or level=majority"
        ))),
    }
}

/// `GET /v1/watch/KIND/KEY`: server-sent events, first the value as it is, then each change. Each event's id is what a session has
/// seen with it: a browser that connects again sends it back, and sees nothing older.
pub(super) async fn watch(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let id = entity(&uri)?;
    let after = session::last_event(&headers)?.or(session::token(&headers)?);
    let place = place(&app.watches, "watches", "http.watches_max")?;
    if let Some(after) = after {
        app.node
            .read_after(&id, &after, session::timeout(&headers)?)
            .await?;
    }
    let (chunks, mut gone, response) = body::stream("text/event-stream");
    let following = follow(app.node.clone(), id, chunks, app.stop.subscribe());
    tokio::spawn(async move {
        tokio::select! {
            () = following => {}
            () = gone.wait() => {}
        }
        drop(place);
    });
    Ok(response)
}

/// `GET /v1/dump`: every entity's canonical line, sorted; with `?kind=KIND` those of one kind.
pub(super) async fn dump(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let kind = query(&uri).map(kind_of).transpose()?;
    let after = session::token(&headers)?;
    let timeout = session::timeout(&headers)?;
    let place = place(&app.dumps, "dumps", "http.dumps_max")?;
    let dump = match (&kind, &after) {
        (kind, Some(after)) => app.node.dump_after(kind.as_deref(), after, timeout).await?,
        (Some(kind), None) => app.node.dump_kind(kind),
        (None, None) => app.node.dump(),
    };
    let token = dump.token().clone();
    let (chunks, _, response) = body::stream("application/x-ndjson");
    let walking = walk(dump, chunks);
    tokio::spawn(async move {
        walking.await;
        drop(place);
    });
    // It names every run of every node that ever wrote: too much for a client that has no use for it.
    Ok(match after {
        Some(_) => session::with_token(response, &token),
        None => response,
    })
}

/// A place among those who read for long; the others' connections are not theirs to take.
pub(super) fn place(
    places: &Arc<Semaphore>,
    what: &str,
    setting: &str,
) -> Result<OwnedSemaphorePermit, Refusal> {
    Arc::clone(places).try_acquire_owned().map_err(|_| {
        Refusal::overloaded(format!(
            "as many {what} are under way as this node serves at a time ({setting}); nothing changed, retry later"
        ))
    })
}

async fn follow(node: Node, id: EntityId, mut chunks: Chunks, mut stopped: Receiver<bool>) {
    let mut watch = node.watch(&id);
    loop {
        let next = tokio::select! {
            next = tokio::time::timeout(KEEP_ALIVE, watch.next()) => next,
            () = told(&mut stopped) => return,
        };
        let event = match next {
            Ok(Some(value)) => {
                // Taken after the value: it may stand for more than was seen, never for less.
                let (_, token) = node.read_with_token(&id);
                let event = event(&id, value.map(|(_, reading)| reading).as_ref());
                format!("{event}id: {token}\n\n")
            }
            Ok(None) => return,
            Err(_) => ":\n\n".to_string(),
        };
        if chunks.send_data(event.into()).await.is_err() {
            return;
        }
    }
}

/// A server-sent event without its end: the canonical line, or that there is no such entity.
fn event(id: &EntityId, reading: Option<&crate::Reading>) -> String {
    match reading {
        // A canonical line has no line feed, which would end the event's data.
        Some(reading) => format!("data: {}\n", json::line(id, reading)),
        None => {
            let mut text = String::from("event: absent\ndata: {\"kind\":");
            json::write_string(&mut text, id.kind());
            text.push_str(",\"key\":");
            json::write_string(&mut text, id.key());
            text.push_str("}\n");
            text
        }
    }
}

fn kind_of(query: &str) -> Result<String, Refusal> {
    // An `&` that is part of a kind is written %26; any other begins a second question, and there is one.
    let kind = query.strip_prefix("kind=").filter(|kind| !kind.contains('&'));
    let Some(kind) = kind else {
        let message = format!("{query:?} asks for nothing that there is: kind=KIND, once");
        return Err(Refusal::invalid(output::shortened(message)));
    };
    let kind = percent::decode(kind, Place::Segment).map_err(|e| Refusal::invalid(e.to_string()))?;
    // What is no kind of any entity.
    EntityId::new(&kind, "key").map_err(|e| Refusal::invalid(e.to_string()))?;
    Ok(kind)
}

async fn walk(dump: Dump, mut chunks: Chunks) {
    let mut chunk = String::with_capacity(CHUNK_BYTES + 1024);
    for (id, _, reading) in dump {
        json::write_line(&mut chunk, &id, &reading);
        chunk.push('\n');
        if chunk.len() >= CHUNK_BYTES {
            let full = std::mem::replace(&mut chunk, String::with_capacity(CHUNK_BYTES + 1024));
            if chunks.send_data(full.into()).await.is_err() {
                return;
            }
        }
    }
    if !chunk.is_empty() {
        // The reader went away: nobody is left to tell.
        let _ = chunks.send_data(Bytes::from(chunk)).await;
    }
}

/// The entity that a path's last two segments name.
pub(super) fn entity(uri: &Uri) -> Result<EntityId, Refusal> {
    let (kind, key) = names(uri)?;
    EntityId::new(&kind, &key).map_err(|e| Refusal::invalid(e.to_string()))
}

/// The kind and the key in a path's last two segments.
pub(super) fn names(uri: &Uri) -> Result<(String, String), Refusal> {
    let [kind, key] = last_segments(uri)?;
    Ok((kind, key))
}

/// A path's last segments, decoded.
pub(super) fn last_segments<const N: usize>(uri: &Uri) -> Result<[String; N], Refusal> {
    // The segments as they came: decoded first, an encoded slash would look like a separator.
    let mut segments = uri.path().rsplit('/');
    let mut names = std::array::from_fn(|_| String::new());
    for name in names.iter_mut().rev() {
        let segment = segments.next().unwrap_or_default();
        *name = percent::decode(segment, Place::Segment).map_err(|e| Refusal::invalid(e.to_string()))?;
    }
    Ok(names)
}
