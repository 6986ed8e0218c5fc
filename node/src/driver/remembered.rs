//! Where the members were, from one run of a node to the next: seeds may all be gone when it is started again.
//!
//! A file of its own beside the store's, which an operator may read or remove: a line for each member, its id and its addresses. They
//! are hints, dialled as seeds are: who answers there shows in the handshake. It is written whole whenever somebody moved, came or
//! left, and what cannot be read of it is left out.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anabranch_crdt::NodeId;

use super::peers::PEERS_KNOWN_MAX;
use super::quic::Quic;
use super::shared::Shared;
use crate::transport::ADDRESSES_MAX;

const NAME: &str = "addresses";
const TEMP: &str = "addresses.tmp";
/// More than this is no such file: an id and an address take 33 and 60 bytes at most.
const BYTES_MAX: u64 = (PEERS_KNOWN_MAX * (34 + 60 * ADDRESSES_MAX)) as u64;

/// After so long without a link to any member a node that knows some says so.
const LONELY: Duration = Duration::from_secs(30);

/// See the module's front page.
#[derive(Debug)]
pub(super) struct Remembered {
    directory: PathBuf,
    /// What is in the file.
    written: Mutex<Option<String>>,
    /// Somebody will write down all there is, and has not begun with it.
    is_planned: AtomicBool,
    /// Those who do, two at most.
    writers: Mutex<Vec<JoinHandle<()>>>,
}

impl Remembered {
    pub(super) fn new(directory: &Path) -> Remembered {
        Remembered {
            directory: directory.to_owned(),
            written: Mutex::default(),
            is_planned: AtomicBool::default(),
            writers: Mutex::default(),
        }
    }

    fn writers(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody writes any more.
    pub(super) fn end(&self) {
        let writers = std::mem::take(&mut *self.writers());
        for writer in writers {
            // What it has panicked with it has said.
            let _ = writer.join();
        }
    }

    /// Those that were written down last.
    pub(super) fn read(&self) -> Vec<(NodeId, Vec<SocketAddr>)> {
        let mut text = Vec::new();
        let file = File::open(self.directory.join(NAME));
        match file.and_then(|file| file.take(BYTES_MAX).read_to_end(&mut text)) {
            Ok(_) => parse(&String::from_utf8_lossy(&text)),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%error, "where the members were cannot be read");
                }
                Vec::new()
            }
        }
    }

    /// Writes down where they are, if that is news. `now` is asked when it is this call's turn.
    pub(super) fn keep(&self, now: impl FnOnce() -> Vec<(NodeId, Vec<SocketAddr>)>) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_planned.store(false, Ordering::SeqCst);
        let text = text(now());
        if written.as_ref() == Some(&text) {
            return;
        }
        match self.write(&text) {
            Ok(()) => *written = Some(text),
            // It is only a hint, and tried again with the next news.
            Err(error) => tracing::debug!(%error, "where the members are cannot be written down"),
        }
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let temp = self.directory.join(TEMP);
        let mut file = File::create(&temp)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(temp, self.directory.join(NAME))
    }
}

impl Quic {
    /// Looks for the members where they were in the run before, beside the seeds.
    pub(super) fn remember(&self, shared: &Shared) {
        let members = shared.peek(|engine| engine.status().members);
        let known = self.remembered.read().into_iter();
        for (node, addresses) in known.filter(|(node, _)| members.contains(node)) {
            self.peers.remembered(node, &addresses);
        }
    }

    /// Writes down where the members are, aside.
    pub(super) fn write_down(self: &Arc<Quic>) {
        let remembered = &self.remembered;
        // Whoever closes them waits for the writers afterwards.
        let links = self.links();
        if links.is_none() || remembered.is_planned.swap(true, Ordering::SeqCst) {
            return;
        }
        let quic = Arc::clone(self);
        let write = move || quic.remembered.keep(|| quic.peers.addresses());
        let writer = thread::Builder::new().name("anabranch-hints".into()).spawn(write);
        match writer {
            Ok(writer) => {
                let mut writers = remembered.writers();
                writers.retain(|writer| !writer.is_finished());
                writers.push(writer);
            }
            // It is only a hint, and tried again with the next news.
            Err(error) => {
                remembered.is_planned.store(false, Ordering::SeqCst);
                tracing::debug!(%error, "where the members are is not written down, for want of a thread");
            }
        }
    }

    /// A node that knows members and reaches none of them looks well: it says so after a while.
    pub(super) fn look_whether_lonely(self: &Arc<Quic>) {
        let told = Arc::downgrade(self);
        let look = async move {
            tokio::time::sleep(LONELY).await;
            let Some(quic) = told.upgrade() else { return };
            let Some(shared) = quic.shared.upgrade() else {
                return;
            };
            let members = shared.peek(|engine| {
                let is_lonely = engine.linked().next().is_none();
                if is_lonely {
                    engine.status().members
                } else {
                    Vec::new()
                }
            });
            let away: Vec<String> = members
                .into_iter()
                .filter(|node| *node != quic.own.identity.node())
                .map(|node| quic.peers.named(node))
                .collect();
            if !away.is_empty() {
                let members = away.join(", ");
                tracing::warn!(
                    members,
                    "none of the members that this node knows can be reached: check that they run, and its seeds"
                );
            }
        };
        if let Some(links) = &*self.links() {
            links.transport.spawn(look);
        }
    }
}

fn text(mut members: Vec<(NodeId, Vec<SocketAddr>)>) -> String {
    members.retain(|(_, addresses)| !addresses.is_empty());
    members.sort_unstable_by_key(|(node, _)| *node);
    members.truncate(PEERS_KNOWN_MAX);
    let line = |(node, addresses): &(NodeId, Vec<SocketAddr>)| {
        let addresses = addresses.iter().take(ADDRESSES_MAX);
        addresses.fold(node.to_string(), |line, address| format!("{line} {address}")) + "\n"
    };
    members.iter().map(line).collect()
}

fn parse(text: &str) -> Vec<(NodeId, Vec<SocketAddr>)> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let node = u128::from_str_radix(words.next()?, 16).ok()?;
        let addresses: Vec<SocketAddr> = words
            .take(ADDRESSES_MAX)
            .filter_map(|word| word.parse().ok())
            .collect();
        (!addresses.is_empty()).then_some((NodeId(node), addresses))
    };
    text.lines().filter_map(line).take(PEERS_KNOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_read_and_the_rest_left_out() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let members = vec![
            (NodeId(9), vec![at("[::1]:7411"), at("10.0.0.9:7411")]),
            (NodeId(2), vec![at("10.0.0.2:7411")]),
            (NodeId(3), Vec::new()),
        ];
        let written = text(members.clone());
        assert_eq!(written.lines().count(), 2);
        assert_eq!(parse(&written), [members[1].clone(), members[0].clone()]);
        assert_eq!(
            parse("\nx 10.0.0.1:1\n5\n5 nowhere:1\n6 nowhere 10.0.0.6:1 \u{fffd}\n"),
            [(NodeId(6), vec![at("10.0.0.6:1")])]
        );
    }
}
