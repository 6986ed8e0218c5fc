//! Frames for people: one short line each.

use anabranch::wire::{Frame, Interval, WireReplica, WireVector};

use super::World;

impl World {
    pub(super) fn describe(&self, bytes: &[u8]) -> String {
        let frame = match Frame::decode(bytes) {
            Ok(Some(frame)) => frame,
            Ok(None) => return "a frame of another version".to_owned(),
            Err(e) => return e.to_string(),
        };
        match frame {
            Frame::Intervals(list) => {
                let all: Vec<String> = list.iter().map(|interval| self.interval(interval)).collect();
                all.join("; ")
            }
            Frame::Pull(m) => {
                format!(
                    "pull s{} #{:x} from {}",
                    m.shard,
                    m.id & 0xffff_ffff,
                    self.vector(&m.replicas, &m.vv)
                )
            }
            Frame::Said(m) => {
                let shards: Vec<String> = m
                    .shards
                    .iter()
                    .map(|s| {
                        let durable = s.durable.as_ref().map(|vv| self.vector(&m.replicas, vv));
                        let base = s.base.as_ref().map(|vv| self.vector(&m.replicas, vv));
                        let applied = self.vector(&m.replicas, &s.applied);
                        format!("s{} {applied} durable {durable:?} base {base:?}", s.shard)
                    })
                    .collect();
                format!(
                    "said {}{}",
                    shards.join("; "),
                    if m.reply { ", and you?" } else { "" }
                )
            }
            Frame::SnapshotPart(m) => format!(
                "snapshot s{} #{:x}{} view {}, {} rows",
                m.shard,
                m.session & 0xffff_ffff,
                if m.last { " (last)" } else { "" },
                self.vector(&m.replicas, &m.view),
                m.rows.len()
            ),
            other => {
                let mut text = format!("{other:?}");
                text.truncate(300);
                text
            }
        }
    }

    fn interval(&self, m: &Interval) -> String {
        format!(
            "interval s{} #{:x} part {}{} {} -> {} deps {}, {} operations",
            m.shard,
            m.id & 0xffff_ffff,
            m.part,
            if m.last { " (last)" } else { "" },
            self.vector(&m.replicas, &m.from),
            self.vector(&m.replicas, &m.to),
            self.vector(&m.replicas, &m.deps),
            m.runs.iter().map(|run| run.slots.len()).sum::<usize>()
        )
    }

    fn vector(&self, replicas: &[WireReplica], vv: &WireVector) -> String {
        let one = |&(ix, seq): &(u16, u64)| {
            let replica = replicas.get(usize::from(ix))?;
            let origin = self.oracle.ledger.known_origin(replica.node, replica.epoch)?;
            Some(format!("{}:{seq}", self.oracle.origin_name(origin)))
        };
        let all: Vec<String> = vv
            .iter()
            .map(|entry| one(entry).unwrap_or_else(|| "?".to_owned()))
            .collect();
        format!("{{{}}}", all.join(" "))
    }
}
