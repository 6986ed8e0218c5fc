//! The end of stdin: how a process learns that the one that started it is gone, whatever ended that.
//!
//! Contract: what comes before the end is read and dropped.

use std::io::{self, Read};

use tokio::sync::oneshot;

/// Resolves when stdin has ended. A thread of its own: a read of stdin cannot be taken back, and the runtime would
/// wait for it at the end.
pub fn end() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        let mut stdin = io::stdin().lock();
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        // Nobody may be waiting any more.
        let _ = sender.send(());
    });
    receiver
}
