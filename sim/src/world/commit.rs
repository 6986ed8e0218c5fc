//! Records to the disk: synced in groups after a virtual delay.

use anabranch::Epoch;
use anabranch::engine::{Input, PersistFailure, RecordId};
use anabranch::store::StoreError;

use super::app::News;
use super::{Event, World};
use crate::net::NodeIx;
use crate::oracle::{Failure, Rule, broken};
use crate::plan::SECOND;
use crate::queue::Micros;
use crate::rng::Rng;

/// A poisoned store's process is started again after about this, microseconds.
pub(super) const OPERATOR_US: Micros = 2 * SECOND;
/// A full disk is tried again after this, microseconds.
const FULL_RETRY_US: Micros = SECOND / 5;

type Step = Result<(), Failure>;

impl World {
    pub(crate) fn begin_commit(&mut self, node: NodeIx) -> Step {
        let Some(life) = &mut self.hosts[node].life else {
            return Ok(());
        };
        let begun = life.begin_commit();
        if self.died_at_its_disk(node) {
            return Ok(());
        }
        let host = &self.hosts[node];
        let (Some(life), lives) = (&host.life, host.lives) else {
            return Ok(());
        };
        match begun {
            Ok(false) => Ok(()),
            Ok(true) => {
                let counter = lives << 32 | life.writing.unwrap_or(0);
                let mut rng = Rng::stream(self.plan.seed, "sync", node as u64, counter);
                let wait = self.plan.sync.draw(&mut rng) + host.slow_us;
                self.kernel.after(wait, Event::Synced { node, life: lives });
                Ok(())
            }
            Err(StoreError::Poisoned { .. }) => Ok(()),
            Err(other) => Err(broken(Rule::Store, node, format!("a record is refused: {other}"))),
        }
    }

    /// A commit's time is over: now it happens, or fails.
    pub(crate) fn on_synced(&mut self, node: NodeIx, life_number: u64) -> Step {
        let host = &mut self.hosts[node];
        if host.lives != life_number {
            return Ok(());
        }
        let Some(life) = &mut host.life else { return Ok(()) };
        let Some(upto) = life.writing else { return Ok(()) };
        let committed = life.store.commit();
        if self.died_at_its_disk(node) {
            return Ok(());
        }
        let Some(life) = &mut self.hosts[node].life else {
            return Ok(());
        };
        match committed {
            Ok(_) => {
                life.writing = None;
                self.oracle.on_durable(node, upto);
                self.begin_image_if_due(node)?;
                self.give(node, Input::Persisted { upto: RecordId(upto) })?;
                self.begin_commit(node)
            }
            Err(error @ (StoreError::Full { .. } | StoreError::Disk { .. })) => {
                self.kernel.after(
                    FULL_RETRY_US,
                    Event::Synced {
                        node,
                        life: life_number,
                    },
                );
                let failure = match error.is_full() {
                    true => PersistFailure::Full,
                    false => PersistFailure::Refused,
                };
                self.tell(|| format!("n{node} cannot commit: {error}"));
                self.give(
                    node,
                    Input::PersistFailed {
                        failure,
                        reason: error.to_string(),
                    },
                )
            }
            Err(StoreError::Poisoned { reason }) => {
                self.tell(|| format!("n{node}'s store is poisoned: {reason}"));
                self.poisoned(node, life_number);
                self.give(
                    node,
                    Input::PersistFailed {
                        failure: PersistFailure::Poisoned,
                        reason,
                    },
                )
            }
            Err(other) => Err(broken(Rule::Store, node, format!("a commit is refused: {other}"))),
        }
    }

    /// Nothing more is written to this life's store; somebody will see to it.
    pub(super) fn poisoned(&mut self, node: NodeIx, life_number: u64) {
        if let Some(life) = &mut self.hosts[node].life {
            life.poisoned = true;
        }
        let life = life_number;
        self.kernel.after(OPERATOR_US, Event::Operator { node, life });
    }

    /// Somebody starts a process again whose store is poisoned.
    pub(crate) fn on_operator(&mut self, node: NodeIx, life: u64) {
        if self.hosts[node].lives == life && self.hosts[node].life.is_some() {
            self.restart_later(node, SECOND / 100);
        }
    }

    /// A higher epoch: durable at once, then the transport begins anew under it.
    pub(super) fn adopt(&mut self, node: NodeIx, above: Epoch) -> Step {
        let now = self.kernel.now();
        let host = &mut self.hosts[node];
        let (wall_ms, lives) = (host.wall_ms(now), host.lives);
        let Some(life) = &mut host.life else { return Ok(()) };
        if life.epoch > above.0 {
            return Ok(());
        }
        // Not the same again for another life that is told the same.
        let random = Rng::stream(self.plan.seed, "adopt", node as u64, lives ^ above.0).next_u64() as u16;
        let adopted = life.adopt(above, wall_ms, random);
        if self.died_at_its_disk(node) {
            return Ok(());
        }
        match adopted {
            Ok(epoch) => {
                self.tell(|| format!("n{node} goes on under epoch {epoch}"));
                self.oracle.on_epoch(node, epoch.0);
                self.news.push_back(News::Unlinked { node, peer: None });
                let kernel = &mut self.kernel;
                self.net
                    .stop(now, node, &mut |at, event| kernel.at(at, Event::Net(event)));
                let kernel = &mut self.kernel;
                self.net.start(now, node, epoch.0, &mut |at, event| {
                    kernel.at(at, Event::Net(event))
                });
                self.give(node, Input::EpochAdopted { epoch })
            }
            // The disk is full: the peer will say it again.
            Err(StoreError::Full { .. } | StoreError::Disk { .. } | StoreError::Poisoned { .. }) => Ok(()),
            Err(other) => Err(broken(Rule::Store, node, other.to_string())),
        }
    }
}
