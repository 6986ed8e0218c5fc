//! Ports for nodes that tests configure themselves.
//!
//! Two rules keep tests apart. Nobody else on the machine takes these ports by chance: they lie below the ephemeral
//! range, and below where `up` looks for its own. And no two tests of this process get the same one, not even while
//! its node is down: each is given out once.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Mutex;

/// Ports from here on.
const FIRST: u16 = 5_000;
/// Ports up to here: `up` looks from 16,384 on where the ephemeral range is Linux' own.
const END: u16 = 16_000;

/// A port on loopback that is free for UDP and for TCP, given out once.
pub fn take() -> SocketAddr {
    static NEXT: Mutex<Option<u16>> = Mutex::new(None);
    let mut next = NEXT.lock().unwrap();
    // Several processes with tests may run on one machine: they begin at different places.
    let mut port = next
        .unwrap_or_else(|| FIRST + (std::process::id().wrapping_mul(769) % u32::from(END - FIRST)) as u16);
    for _ in FIRST..END {
        port = if port + 1 >= END { FIRST } else { port + 1 };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            *next = Some(port);
            return address;
        }
    }
    panic!("no free port from {FIRST} to {END}");
}
