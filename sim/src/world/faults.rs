//! Faults, as they are carried out.

use anabranch::engine::Input;

use super::host::Doom;
use super::{Event, World};
use crate::net::NodeIx;
use crate::oracle::Failure;
use crate::plan::{DiskFate, Fault};
use crate::queue::Micros;

impl World {
    pub(crate) fn on_fault(&mut self, index: usize) -> Result<(), Failure> {
        if !self.is_chaos() {
            return Ok(());
        }
        let fault = self.fault(index);
        let now = self.kernel.now();
        self.tell(|| format!("-- {fault:?}"));
        let kernel = &mut self.kernel;
        let out = &mut |at: Micros, event| kernel.at(at, Event::Net(event));
        match fault {
            Fault::Block(directions) => directions
                .into_iter()
                .for_each(|(a, b)| self.net.block(now, a, b, out)),
            Fault::Unblock(directions) => directions
                .into_iter()
                .for_each(|(a, b)| self.net.unblock(now, a, b, out)),
            Fault::Reset(a, b) => self.net.reset(now, a, b, out),
            Fault::Crash {
                node,
                outputs,
                back_after_us,
                disk,
                recovery_calls,
            } => {
                self.on_crash(node, outputs, back_after_us, disk, recovery_calls);
            }
            Fault::Pause { node, us } => self.pause(node, us),
            Fault::TakeBackup(node) => {
                self.hosts[node].back_up();
                self.oracle.on_backup(node);
            }
            Fault::Room(node, room) => {
                let used = self.hosts[node].disk.used_bytes();
                self.hosts[node].disk.set_capacity(room.map(|room| used + room));
            }
            Fault::SlowSync(node, us) => self.hosts[node].slow_us = us,
            Fault::FailSync(node) => self.hosts[node].disk.fail_syncs(1),
            Fault::JumpClock(node, ms) => self.hosts[node].clock.skew_ms += ms,
            Fault::Hint(node, seen) => {
                let seen = self.hosts[seen].id;
                return self.give(node, Input::MemberSeen { node: seen });
            }
        }
        Ok(())
    }

    fn on_crash(
        &mut self,
        node: NodeIx,
        outputs: u32,
        back_us: Micros,
        disk: DiskFate,
        recovery: Option<u64>,
    ) {
        if self.hosts[node].life.is_none() {
            return;
        }
        if outputs > 0 && disk == DiskFate::Kept {
            // It dies at a later output, and comes back as after any death.
            self.hosts[node].doom = Some(Doom {
                outputs,
                back_after_us: back_us,
                recovery_calls: recovery,
            });
            return;
        }
        self.stop(node);
        match disk {
            DiskFate::Kept => {}
            DiskFate::Rotten => {
                self.hosts[node].rot(self.plan.seed);
                self.oracle.on_disk_damaged(node);
                self.keys.forget(node);
            }
            DiskFate::Lost => {
                self.hosts[node].disk.wipe();
                self.oracle.on_disk_lost(node);
                self.keys.forget(node);
            }
            DiskFate::Restored => {
                if self.hosts[node].restore() {
                    self.oracle.on_disk_restored(node);
                    self.keys.forget(node);
                }
            }
        }
        let lives = self.hosts[node].lives;
        self.kernel.after(
            back_us,
            Event::Boot {
                node,
                lives,
                recovery_calls: recovery,
            },
        );
    }

    /// A process dies in the midst of its outputs.
    pub(crate) fn die(&mut self, node: NodeIx, doom: Doom) {
        self.tell(|| format!("-- n{node} dies between two outputs"));
        self.stop(node);
        let lives = self.hosts[node].lives;
        let boot = Event::Boot {
            node,
            lives,
            recovery_calls: doom.recovery_calls,
        };
        self.kernel.after(doom.back_after_us, boot);
    }

    /// A process stops now and starts again later.
    pub(crate) fn restart_later(&mut self, node: NodeIx, back_us: Micros) {
        self.stop(node);
        let lives = self.hosts[node].lives;
        self.kernel.after(
            back_us,
            Event::Boot {
                node,
                lives,
                recovery_calls: None,
            },
        );
    }

    fn stop(&mut self, node: NodeIx) {
        let now = self.kernel.now();
        self.tally.crashes += 1;
        self.count_life(node);
        self.hosts[node].die(self.plan.seed);
        self.oracle.on_stop(node);
        let kernel = &mut self.kernel;
        self.net
            .stop(now, node, &mut |at, event| kernel.at(at, Event::Net(event)));
        self.late.retain(|(n, _, _)| *n != node);
        self.on_unanswered(node);
    }

    fn pause(&mut self, node: NodeIx, us: Micros) {
        let now = self.kernel.now();
        let host = &mut self.hosts[node];
        if host.life.is_some() {
            host.paused_until = host.paused_until.max(now + us);
            let (at, life) = (host.paused_until, host.lives);
            self.kernel.at(at, Event::Resume { node, life });
        }
    }
}
