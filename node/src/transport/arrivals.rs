//! Incoming connections in their handshake: how many there are, and from where.
//!
//! An address that is not proven can be anybody's, so a source is held to its share only for connections that came back
//! with the token of a Retry: nobody can take a share in another one's name.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::transport::limits::{HANDSHAKES_BEFORE_RETRY, HANDSHAKES_MAX, HANDSHAKES_PER_SOURCE_MAX};

/// Counts handshakes.
#[derive(Default)]
pub(super) struct Arrivals(Mutex<Open>);

#[derive(Default)]
struct Open {
    all: usize,
    /// Those of a proven address.
    proven: BTreeMap<IpAddr, usize>,
}

/// What to do with a newcomer.
pub(super) enum Welcome {
    /// Its handshake goes on; it is counted until this is dropped.
    In(Place),
    /// It must prove that its address is its own.
    Retry,
    /// There is no room.
    Full,
    /// There is no room for more from there.
    SourceFull,
}

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides about a newcomer. `proven`: whether its address is known to be its own.
    pub(super) fn welcome(self: &Arc<Arrivals>, from: IpAddr, proven: bool) -> Welcome {
        let mut open = self.lock();
        if open.all >= HANDSHAKES_MAX {
            return Welcome::Full;
        }
        if !proven && open.all >= HANDSHAKES_BEFORE_RETRY {
            return Welcome::Retry;
        }
        let source = proven.then(|| source_of(from));
        if let Some(source) = source {
            let count = open.proven.entry(source).or_default();
            if *count >= HANDSHAKES_PER_SOURCE_MAX {
                return Welcome::SourceFull;
            }
            *count += 1;
        }
        open.all += 1;
        Welcome::In(Place {
            arrivals: self.clone(),
            source,
        })
    }

    /// How many there are now.
    pub(super) fn open(&self) -> usize {
        self.lock().all
    }
}

/// One handshake's place.
pub(super) struct Place {
    arrivals: Arc<Arrivals>,
    source: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.arrivals.lock();
        open.all -= 1;
        if let Some(source) = self.source
            && let Some(count) = open.proven.get_mut(&source)
        {
            *count -= 1;
            if *count == 0 {
                open.proven.remove(&source);
            }
        }
    }
}

/// Who an address counts as: a host has the whole /64 of its IPv6 address.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(arrivals: &Arc<Arrivals>, from: &str, proven: bool) -> (String, Option<Place>) {
        match arrivals.welcome(from.parse().unwrap(), proven) {
            Welcome::In(place) => ("in".into(), Some(place)),
            Welcome::Retry => ("retry".into(), None),
            Welcome::Full => ("full".into(), None),
            Welcome::SourceFull => ("source full".into(), None),
        }
    }

    #[test]
    fn one_source_leaves_room_for_others() {
        let arrivals = Arc::default();
        let mut places = Vec::new();
        for _ in 0..HANDSHAKES_BEFORE_RETRY {
            places.push(said(&arrivals, "192.0.2.1", false).1.unwrap());
        }
        assert_eq!(said(&arrivals, "192.0.2.1", false).0, "retry");
        for _ in 0..HANDSHAKES_PER_SOURCE_MAX {
            places.push(said(&arrivals, "192.0.2.1", true).1.unwrap());
        }
        assert_eq!(said(&arrivals, "192.0.2.1", true).0, "source full");
        assert_eq!(said(&arrivals, "::ffff:192.0.2.1", true).0, "source full");
        let other = said(&arrivals, "192.0.2.2", true);
        assert_eq!(other.0, "in");
        drop(other);
        places.pop();
        assert_eq!(said(&arrivals, "192.0.2.1", true).0, "in");
        drop(places);
        assert_eq!(arrivals.open(), 0);
        assert!(arrivals.lock().proven.is_empty());
    }

    #[test]
    fn a_host_is_one_source_whatever_its_ipv6_addresses() {
        let arrivals = Arc::default();
        let places: Vec<_> = (0..HANDSHAKES_PER_SOURCE_MAX)
            .map(|n| said(&arrivals, &format!("2001:db8::{n:x}"), true).1.unwrap())
            .collect();
        assert_eq!(said(&arrivals, "2001:db8::ffff:1", true).0, "source full");
        assert_eq!(said(&arrivals, "2001:db8:0:1::1", true).0, "in");
        drop(places);
    }
}
