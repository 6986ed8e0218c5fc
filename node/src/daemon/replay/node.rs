//! One node that a replay sends to: waited for when it is away, never sent to once it has lost its directory.
//!
//! Contract: whatever is asked of a node that is away is asked again until the wait is over, and people are told what
//! is waited for, once.

use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::super::api::{AnswerBody, HealthBody, KeyBody, OpBody, StatusBody, UpdateBody};
use super::super::client::Client;
use super::super::exit::Failure;
use super::progress::Progress;
use crate::percent;

/// How long one answer may take; the level asked for needs no other node.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a question whether the node is there may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two questions, at first and at most: nobody tells when a process listens again.
const PROBE_PAUSE_MIN: Duration = Duration::from_millis(20);
const PROBE_PAUSE_MAX: Duration = Duration::from_millis(500);

/// A node that takes events.
pub struct Node {
    address: String,
    id: String,
    client: Client,
    /// How long it is waited for.
    wait: Duration,
    /// The data directory it had when it was first asked.
    directory: String,
    progress: Progress,
    /// Held by the one event that asks whether the node is back, while the others wait.
    asking: Mutex<()>,
}

/// How much longer an answer may take for each MiB that is sent: a large update is more work at both ends.
const ANSWER_TIMEOUT_PER_MIB: Duration = Duration::from_secs(2);

/// One update on its way: its request's body, written for the node that it goes to.
pub struct Parcel(Bytes);

impl Parcel {
    /// Bytes it takes on the way and in memory.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Node {
    /// Waits until the node answers, and remembers its directory.
    pub async fn meet(
        client: &Client,
        address: &str,
        wait: Duration,
        progress: &Progress,
    ) -> Result<(Node, StatusBody), Failure> {
        let waiting = Waiting::new(address, wait, progress);
        let status: StatusBody = ask(client, address, "/v1/status", waiting).await?;
        let node = Node {
            address: address.to_string(),
            id: status.id.clone(),
            client: client.clone(),
            wait,
            directory: status.directory.clone(),
            progress: progress.clone(),
            asking: Mutex::new(()),
        };
        Ok((node, status))
    }

    /// Where it is asked.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it remembers an update under this key.
    pub async fn knows(&self, key: &str) -> Result<bool, Failure> {
        let body: KeyBody = self.ask(&format!("/v1/keys/{}", percent::encode(key))).await?;
        if body.directory == self.directory {
            return Ok(body.known);
        }
        Err(self.lost_its_directory("it has another one now"))
    }

    /// Its status now.
    pub async fn status(&self) -> Result<StatusBody, Failure> {
        self.ask("/v1/status").await
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let waiting = Waiting::new(&self.address, self.wait, &self.progress);
        ask(&self.client, &self.address, path, waiting).await
    }

    /// Writes an update for this node, under this idempotency key.
    pub fn parcel(&self, ops: Vec<OpBody>, key: String) -> Result<Parcel, Failure> {
        let update = UpdateBody {
            ops,
            idempotency_key: Some(key),
            // The node refuses if this is no longer its directory: it would have forgotten the keys and count twice.
            directory: Some(self.directory.clone()),
            ..UpdateBody::default()
        };
        let body = serde_json::to_vec(&update).map_err(|e| Failure::new("internal", e.to_string()))?;
        Ok(Parcel(body.into()))
    }

    /// Sends an update until it is acknowledged: again and again under its one key while the node is away.
    pub async fn send(&self, Parcel(body): Parcel) -> Result<AnswerBody, Failure> {
        let mib = u32::try_from(body.len() >> 20).unwrap_or(u32::MAX);
        let timeout = ANSWER_TIMEOUT + ANSWER_TIMEOUT_PER_MIB.saturating_mul(mib);
        let mut away_since = None;
        loop {
            let answer = self
                .client
                .post_bytes::<AnswerBody>(&self.address, "/v1/updates", body.clone(), timeout)
                .await;
            let failure = match answer {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if failure.name() == "directory_changed" {
                return Err(self.lost_its_directory(failure.message()));
            }
            if !failure.may_retry() {
                return Err(failure.at(&self.address));
            }
            let deadline = *away_since.get_or_insert_with(Instant::now) + self.wait;
            if Instant::now() >= deadline {
                return Err(failure.at(format_args!(
                    "{} was waited for {:?} and may or may not have taken this event; run the same command again to \
                     go on",
                    self.address, self.wait
                )));
            }
            self.until_ready(deadline).await;
        }
    }

    /// What ends a replay for good: nobody can tell any more what this node has counted.
    pub fn lost_its_directory(&self, why: &str) -> Failure {
        Failure::new(
            "directory_changed",
            format!(
                "{} has lost its data directory since the replay began, and with it its memory of what it was sent: an \
                 event sent again could count twice. The replay has ended, and the new directory took nothing of it. \
                 Start over with another cluster ({why})",
                self.address
            ),
        )
    }

    /// Returns when the node takes writes, or at the deadline.
    async fn until_ready(&self, deadline: Instant) {
        // Those that come behind find it ready at their first question, or wait in their turn.
        let _asking = self.asking.lock().await;
        let left = deadline.saturating_duration_since(Instant::now());
        let mut waiting = Waiting::new(&self.address, left, &self.progress);
        loop {
            waiting.pause().await;
            let health = self
                .client
                .get::<HealthBody>(&self.address, "/healthz", PROBE_TIMEOUT)
                .await;
            match health {
                Ok(health) if health.ready => return waiting.over(),
                _ if waiting.is_over() => return,
                Ok(_) => waiting.tell("it takes no writes yet"),
                Err(failure) => waiting.tell(failure.message()),
            }
        }
    }
}

/// Asks until there is an answer, or nothing to wait for any more.
async fn ask<T: DeserializeOwned>(
    client: &Client,
    address: &str,
    path: &str,
    mut waiting: Waiting<'_>,
) -> Result<T, Failure> {
    loop {
        match client.get::<T>(address, path, ANSWER_TIMEOUT).await {
            Ok(answer) => {
                waiting.over();
                return Ok(answer);
            }
            Err(failure) if !failure.may_retry() || waiting.is_over() => return Err(failure),
            Err(failure) => {
                waiting.tell(failure.message());
                waiting.pause().await;
            }
        }
    }
}

/// One wait for a node that is away.
struct Waiting<'a> {
    address: &'a str,
    since: Instant,
    wait: Duration,
    pause: Duration,
    progress: &'a Progress,
    told: bool,
}

impl<'a> Waiting<'a> {
    fn new(address: &'a str, wait: Duration, progress: &'a Progress) -> Waiting<'a> {
        Waiting {
            address,
            since: Instant::now(),
            wait,
            pause: PROBE_PAUSE_MIN,
            progress,
            told: false,
        }
    }

    fn is_over(&self) -> bool {
        self.since.elapsed() >= self.wait
    }

    /// Between two questions, longer each time.
    async fn pause(&mut self) {
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PROBE_PAUSE_MAX);
    }

    /// Says once what is waited for.
    fn tell(&mut self, why: &str) {
        if !self.told {
            self.told = true;
            let (address, wait) = (self.address, self.wait.as_secs_f64());
            self.progress
                .note(&format!("waiting up to {wait:.0} s for {address}: {why}"));
        }
    }

    /// The wait was not in vain.
    fn over(&self) {
        if self.told {
            let (address, waited) = (self.address, self.since.elapsed().as_secs_f64());
            self.progress
                .note(&format!("{address} is there after {waited:.1} s"));
        }
    }
}
