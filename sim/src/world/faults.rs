//! Faults, as they are carried out.

use anabranch::engine::Input;

use super::app::News;
use super::{Event, World};
use crate::net::NodeIx;
use crate::oracle::Failure;
use crate::plan::{Death, DiskFate, Ending, Fault, Moment, Recovery};
use crate::queue::Micros;

impl World {
    pub(crate) fn on_fault(&mut self, index: usize) -> Result<(), Failure> {
        if !self.is_chaos() {
            return Ok(());
        }
        let fault = self.fault(index);
        self.carry_out(fault)
    }

    /// One fault, now.
    pub(crate) fn carry_out(&mut self, fault: Fault) -> Result<(), Failure> {
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
            Fault::Crash { node, death } => self.on_crash(node, death),
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
            Fault::FailWrite(node) => self.hosts[node].disk.fail_writes(1),
            Fault::JumpClock(node, ms) => self.hosts[node].clock.skew_ms += ms,
            Fault::Hint(node, seen) => {
                let seen = self.hosts[seen].id;
                return self.give(node, Input::MemberSeen { node: seen });
            }
        }
        Ok(())
    }

    fn on_crash(&mut self, node: NodeIx, death: Death) {
        let host = &mut self.hosts[node];
        if host.life.is_none() {
            return;
        }
        match death.moment {
            Moment::Now => return self.die(node, death),
            _ if host.doom.is_some() => return,
            Moment::Outputs(_) => {}
            Moment::DiskCalls(calls) => host.disk.halt_after(calls),
        }
        host.doom = Some(death);
    }

    /// Whether a node dies before its next output.
    pub(crate) fn dies_at_output(&mut self, node: NodeIx) -> bool {
        let Some(death) = &mut self.hosts[node].doom else {
            return false;
        };
        match &mut death.moment {
            Moment::Outputs(0) => {}
            Moment::Outputs(left) => {
                *left -= 1;
                return false;
            }
            Moment::Now | Moment::DiskCalls(_) => return false,
        }
        let death = *death;
        self.die(node, death);
        true
    }

    /// Whether a node has died at a call to its disk.
    pub(crate) fn died_at_its_disk(&mut self, node: NodeIx) -> bool {
        let host = &self.hosts[node];
        let dies = |death: &Death| matches!(death.moment, Moment::DiskCalls(_)) && host.disk.is_halted();
        let Some(death) = host.doom.filter(dies) else {
            return false;
        };
        self.die(node, death);
        true
    }

    /// A process dies, its disk may fare badly, and it comes back.
    fn die(&mut self, node: NodeIx, death: Death) {
        self.tell(|| format!("-- n{node} dies: {death:?}"));
        self.stop(node, death.ending);
        match death.disk {
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
        self.boot_after(node, death.back_after_us, death.recovery);
    }

    /// A process stops now, alone, and starts again later.
    pub(crate) fn restart_later(&mut self, node: NodeIx, back_us: Micros) {
        self.stop(node, Ending::Process);
        self.boot_after(node, back_us, None);
    }

    pub(crate) fn boot_after(&mut self, node: NodeIx, wait: Micros, recovery: Option<Recovery>) {
        let lives = self.hosts[node].lives;
        let boot = Event::Boot {
            node,
            lives,
            recovery,
        };
        self.kernel.after(wait, boot);
    }

    /// A process ends, and stays down until somebody boots it.
    pub(crate) fn stop(&mut self, node: NodeIx, ending: Ending) {
        let now = self.kernel.now();
        self.tally.crashes += 1;
        self.count_life(node);
        self.hosts[node].die(self.plan.seed, ending);
        self.oracle.on_stop(node);
        let kernel = &mut self.kernel;
        self.net
            .stop(now, node, &mut |at, event| kernel.at(at, Event::Net(event)));
        self.late.retain(|(n, _, _)| *n != node);
        self.on_unanswered(node);
        self.news.push_back(News::Stopped(node));
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
