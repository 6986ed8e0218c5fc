//! One node that a replay sends to: waited for when it is away, never sent to once it has lost its directory.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::super::api::{AnswerBody, HealthBody, OpBody, StatusBody, UpdateBody};
use super::super::client::Client;
use super::super::exit::Failure;

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
    client: Client,
    /// How long it is waited for.
    wait: Duration,
    /// The data directory it had when it was first asked.
    directory: String,
    /// Held by the one event that asks whether the node is back, while the others wait.
    asking: Mutex<()>,
}

/// One event on its way.
pub struct Parcel {
    /// Its line.
    pub line: u64,
    /// What it does.
    pub ops: Vec<OpBody>,
    /// Its idempotency key.
    pub key: String,
}

impl Node {
    /// Waits until the node answers, and remembers its directory.
    pub async fn meet(client: &Client, address: &str, wait: Duration) -> Result<(Node, StatusBody), Failure> {
        let deadline = Instant::now() + wait;
        let mut pause = PROBE_PAUSE_MIN;
        let status = loop {
            match client
                .get::<StatusBody>(address, "/v1/status", ANSWER_TIMEOUT)
                .await
            {
                Ok(status) => break status,
                Err(failure) if !failure.may_retry() || Instant::now() >= deadline => return Err(failure),
                Err(_) => sleep(pause).await,
            }
            pause = (pause * 2).min(PROBE_PAUSE_MAX);
        };
        let node = Node {
            address: address.to_string(),
            client: client.clone(),
            wait,
            directory: status.directory.clone(),
            asking: Mutex::new(()),
        };
        Ok((node, status))
    }

    /// Where it is asked.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its status now.
    pub async fn status(&self) -> Result<StatusBody, Failure> {
        self.client.get(&self.address, "/v1/status", ANSWER_TIMEOUT).await
    }

    /// Sends an event until it is acknowledged: again and again under its one key while the node is away.
    pub async fn send(&self, parcel: Parcel) -> Result<AnswerBody, Failure> {
        let update = UpdateBody {
            ops: parcel.ops,
            idempotency_key: Some(parcel.key),
            // The node refuses if this is no longer its directory: it would have forgotten the keys and count twice.
            directory: Some(self.directory.clone()),
            ..UpdateBody::default()
        };
        let body: Bytes = serde_json::to_vec(&update)
            .map_err(|e| Failure::new("internal", e.to_string()))?
            .into();
        let mut away_since = None;
        loop {
            let answer = self
                .client
                .post_bytes::<AnswerBody>(&self.address, "/v1/updates", body.clone(), ANSWER_TIMEOUT)
                .await;
            let failure = match answer {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if failure.name() == "directory_changed" {
                return Err(self.lost_its_directory(&failure));
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

    fn lost_its_directory(&self, failure: &Failure) -> Failure {
        Failure::new(
            failure.name(),
            format!(
                "{} has lost its data directory since the replay began, and with it its memory of what it was sent: an \
                 event sent again could count twice. The replay has ended, and the new directory took nothing of it. \
                 Start over with another cluster ({failure})",
                self.address
            ),
        )
    }

    /// Returns when the node takes writes, or at the deadline.
    async fn until_ready(&self, deadline: Instant) {
        let mut pause = PROBE_PAUSE_MIN;
        // Those that come behind find it ready at their first question, or wait in their turn.
        let _asking = self.asking.lock().await;
        loop {
            sleep(pause).await;
            let health = self
                .client
                .get::<HealthBody>(&self.address, "/readyz", PROBE_TIMEOUT)
                .await;
            if health.is_ok() || Instant::now() >= deadline {
                return;
            }
            pause = (pause * 2).min(PROBE_PAUSE_MAX);
        }
    }
}
