//! The names under which others reach this node, as addresses.
//!
//! They are looked up once, at the start. A machine's name server may come up after the node does, so a name that has no
//! address yet is tried again for a while.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::transport::ADDRESSES_MAX;

use super::clock::Clock;

/// How long a start waits for a name to have an address.
const RESOLVE_MAX: Duration = Duration::from_secs(30);

/// How long to wait before a name is looked up again; doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(250);

/// How long to wait at most.
const RETRY_MAX: Duration = Duration::from_secs(4);

/// HOST:PORT as addresses, all of a name's, for as long as that may take and `is_wanted`.
pub(super) fn resolve(advertise: &[String], is_wanted: &dyn Fn() -> bool) -> Result<Vec<SocketAddr>, Error> {
    let clock = Clock::new();
    let began = clock.now().time;
    let wait = |pause: Duration| {
        let waited = Duration::from_micros(clock.now().time.0 - began.0);
        if waited + pause > RESOLVE_MAX || !is_wanted() {
            return false;
        }
        thread::sleep(pause);
        true
    };
    resolve_with(advertise, |name| Ok(name.to_socket_addrs()?.collect()), wait)
}

/// `wait`: pauses, or says that nobody waits any longer.
fn resolve_with(
    advertise: &[String],
    lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>>,
    mut wait: impl FnMut(Duration) -> bool,
) -> Result<Vec<SocketAddr>, Error> {
    let mut addresses = Vec::new();
    let mut seen = BTreeSet::new();
    let mut pause = RETRY_MIN;
    for name in advertise {
        let found = loop {
            let why = match lookup(name) {
                Ok(found) if !found.is_empty() => break found,
                Ok(_) => "it has no address".to_owned(),
                Err(error) => error.to_string(),
            };
            tracing::warn!(name, why, "an advertised address cannot be resolved yet");
            if !wait(pause) {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!(
                        "advertised address {name:?} could not be resolved within {} s: {why}; nothing was started. \
                         Configure a name that has an address, or the address itself",
                        RESOLVE_MAX.as_secs()
                    ),
                ));
            }
            pause = (pause * 2).min(RETRY_MAX);
        };
        addresses.extend(found.into_iter().filter(|address| seen.insert(*address)));
    }
    if addresses.len() > ADDRESSES_MAX {
        tracing::warn!(
            found = addresses.len(),
            told = ?&addresses[..ADDRESSES_MAX],
            "more advertised addresses than others are told; the first {ADDRESSES_MAX} are"
        );
        addresses.truncate(ADDRESSES_MAX);
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn address(n: u16) -> SocketAddr {
        ([192, 0, 2, 1], n).into()
    }

    #[test]
    fn a_name_that_has_no_address_yet_is_tried_again() {
        let tries = Cell::new(0);
        let lookup = |name: &str| {
            tries.set(tries.get() + 1);
            match (name, tries.get()) {
                ("here:1", _) => Ok(vec![address(1), address(1)]),
                (_, 2) => Err(io::Error::other("no name server")),
                (_, 3) => Ok(Vec::new()),
                _ => Ok(vec![address(2), address(1)]),
            }
        };
        let mut pauses = Vec::new();
        let wait = |pause| {
            pauses.push(pause);
            true
        };
        let names = ["here:1".to_owned(), "there:2".to_owned()];
        assert_eq!(
            resolve_with(&names, lookup, wait).unwrap(),
            [address(1), address(2)]
        );
        assert_eq!(pauses, [RETRY_MIN, RETRY_MIN * 2]);
    }

    #[test]
    fn a_name_without_an_address_fails_in_the_end() {
        let mut waited = Duration::ZERO;
        let wait = |pause| {
            waited += pause;
            waited <= RESOLVE_MAX
        };
        let error = resolve_with(
            &["nowhere:1".to_owned()],
            |_| Err(io::Error::other("unknown")),
            wait,
        )
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("nowhere:1"), "{error}");
        assert!(waited > RESOLVE_MAX / 2);
    }

    #[test]
    fn no_more_addresses_are_told_than_fit() {
        let found = |_: &str| Ok((1..=20).map(address).collect());
        let told = resolve_with(&["many:1".to_owned()], found, |_| panic!("nothing to wait for")).unwrap();
        assert_eq!(told, (1..=ADDRESSES_MAX as u16).map(address).collect::<Vec<_>>());
    }
}
