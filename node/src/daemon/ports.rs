//! Free ports for nodes on loopback, below the kernel's ephemeral range.
//!
//! Why below: a client that retries a dead port of the ephemeral range on loopback can be given that very port as its
//! own and connect to itself; and any outgoing connection of any program could hold it when its node restarts.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;

use socket2::{Domain, Protocol, Socket, Type};

use super::exit::Failure;

/// The first port that a process without privileges may have.
const PORT_MIN: u16 = 1024;
/// How far below the ephemeral range ports are looked for.
const SPAN: u16 = 16_384;
/// Fewer ports than this are no choice: look elsewhere.
const CHOICE_MIN: u16 = 512;
/// Linux' ephemeral range when it cannot be read.
const EPHEMERAL_DEFAULT: (u16, u16) = (32_768, 60_999);

/// One node's two ports. Until the value is dropped, its node may listen there, and nobody who looks for ports here
/// finds them free: not even before the node has come that far, nor while it is restarted.
#[derive(Debug)]
pub struct Held {
    quic: Socket,
    http: Socket,
}

impl Held {
    /// Where it is to listen for peers, and for the admin API.
    pub fn addresses(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        let address = |socket: &Socket| {
            let address = socket.local_addr()?.as_socket();
            address.ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
        };
        Ok((address(&self.quic)?, address(&self.http)?))
    }
}

/// Takes two free ports for each of `nodes` nodes, starting the search anywhere in the range.
pub fn take(nodes: usize) -> Result<Vec<Held>, Failure> {
    let range = candidates(ephemeral());
    let mut ports = anywhere(&range);
    (0..nodes)
        .map(|_| {
            let quic = ports.find_map(|port| {
                let is_free = UdpSocket::bind(local(port)).is_ok();
                hold(port).ok().filter(|_| is_free)
            });
            let http = ports.find_map(|port| hold(port).ok());
            quic.zip(http).map(|(quic, http)| Held { quic, http })
        })
        .collect::<Option<Vec<Held>>>()
        .ok_or_else(|| none_free(&range))
}

/// Has a TCP port without listening there. Whoever says that he does not mind (as every listener of a node does) may
/// still listen; whoever does not say so, as here, finds it taken. Of UDP there is no such thing: the TCP port of the
/// same number stands for it.
fn hold(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&local(port).into())?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// A TCP port that is free now, for somebody else to listen at.
pub fn take_one() -> Result<u16, Failure> {
    let mut addresses = take_tcp(1)?;
    let address = addresses.pop().map(|address| address.port());
    address.ok_or_else(|| Failure::new("io", "a port on 127.0.0.1 has no number"))
}

/// So many TCP ports that are free now, each another.
pub fn take_tcp(count: usize) -> Result<Vec<SocketAddr>, Failure> {
    let range = candidates(ephemeral());
    let free = anywhere(&range).filter(|port| hold(*port).is_ok());
    let addresses: Vec<SocketAddr> = free.take(count).map(local).collect();
    if addresses.len() < count {
        return Err(none_free(&range));
    }
    Ok(addresses)
}

/// All ports of a range, beginning with any of them.
fn anywhere(range: &RangeInclusive<u16>) -> impl Iterator<Item = u16> + use<> {
    let count = usize::from(range.end() - range.start()) + 1;
    let from = usize::from(rand::random::<u16>()) % count;
    range.clone().cycle().skip(from).take(count)
}

fn none_free(range: &RangeInclusive<u16>) -> Failure {
    Failure::new(
        "address_in_use",
        format!("no free ports on 127.0.0.1 in {range:?}"),
    )
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Where to look, given the ephemeral range: below it, else above it, else anywhere.
fn candidates((low, high): (u16, u16)) -> RangeInclusive<u16> {
    if low > PORT_MIN + CHOICE_MIN {
        low.saturating_sub(SPAN).max(PORT_MIN)..=low - 1
    } else if high < u16::MAX - CHOICE_MIN {
        high + 1..=u16::MAX
    } else {
        PORT_MIN..=u16::MAX
    }
}

fn ephemeral() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    parse_range(&text).unwrap_or(EPHEMERAL_DEFAULT)
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let mut words = text.split_whitespace();
    let range = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (range.0 <= range.1).then_some(range)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn ports_lie_outside_the_ephemeral_range_where_they_can() {
        assert_eq!(candidates((32_768, 60_999)), 16_384..=32_767);
        assert_eq!(candidates((10_000, 65_535)), 1_024..=9_999);
        assert_eq!(candidates((1_024, 60_000)), 60_001..=65_535);
        assert_eq!(candidates((1_024, 65_535)), 1_024..=65_535);
    }

    #[test]
    fn the_kernels_line_is_read() {
        assert_eq!(parse_range("32768\t60999\n"), Some((32_768, 60_999)));
        for bad in ["", "5", "9 5", "a b"] {
            assert_eq!(parse_range(bad), None);
        }
    }

    #[test]
    fn ports_that_were_taken_are_distinct_and_below() {
        let held = take(3).unwrap();
        let mut ports: Vec<u16> = held
            .iter()
            .map(Held::addresses)
            .map(Result::unwrap)
            .flat_map(|(q, h)| [q.port(), h.port()])
            .collect();
        assert!(
            ports.iter().all(|port| candidates(ephemeral()).contains(port)),
            "{ports:?}"
        );
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 6);
    }

    #[test]
    fn a_port_that_is_held_is_its_nodes_and_nobody_elses() {
        let held = take(1).unwrap();
        let (quic, http) = held[0].addresses().unwrap();
        for _restarted in 0..2 {
            assert!(hold(http.port()).is_err());
            assert!(hold(quic.port()).is_err());
            let node = (UdpSocket::bind(quic).unwrap(), TcpListener::bind(http).unwrap());
            assert!(hold(http.port()).is_err());
            drop(node);
        }
        drop(held);
        hold(http.port()).unwrap();
    }
}
