//! What a browser says of a request that no page can forge: what it was sent to (`Host`), and whose page sent it (`Origin`).
//!
//! Why `Host`: a page that has its own name point to 127.0.0.1 reaches a port here with that name in `Host`, and is then of one
//! origin with it. Why `Origin`: a page may send a POST anywhere; the browser only names the page it came from.
//!
//! Not here: which requests are checked, and how one is refused (`daemon`, `sidecar`). Contract: nothing but the request and what was
//! configured is looked at.

use std::fmt;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The one entry by which every page may ask.
pub const ANY: &str = "*";

/// For so long a browser need not ask again whether a page may send something, seconds.
pub const MAX_AGE: &str = "600";

/// Whom pages may be of, and by which names a node is asked.
#[derive(Debug, Default)]
pub struct Known {
    /// Names that a node has beside those of the machine itself, in lower case and without a port.
    pub hosts: Vec<String>,
    /// Foreign origins, in lower case, or [`ANY`].
    pub origins: Vec<String>,
}

/// Why a header cannot be gone by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Odd {
    /// It stands more than once.
    Twice(HeaderName),
    /// It is not plain text.
    NoText(HeaderName),
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Odd::Twice(name) => write!(f, "the header {name} stands more than once"),
            Odd::NoText(name) => write!(f, "the header {name} is not plain text"),
        }
    }
}

/// Whether a header stands more than once.
pub fn is_twice(headers: &HeaderMap, name: &str) -> bool {
    headers.get_all(name).iter().nth(1).is_some()
}

/// A header that may stand only once, as text.
pub fn one(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Odd> {
    if is_twice(headers, name.as_str()) {
        return Err(Odd::Twice(name));
    }
    let text = headers
        .get(&name)
        .map(|value| value.to_str().map_err(|_| Odd::NoText(name)));
    text.transpose()
}

impl Known {
    /// Whether a `Host` names this node to a connection that came to this address of it.
    pub fn is_host(&self, host: &str, local: Option<IpAddr>) -> bool {
        let name = name(host).to_ascii_lowercase();
        if name == "localhost" || self.hosts.contains(&name) {
            return true;
        }
        // The address that a client connected to is not a name that somebody else could point here.
        let is_here = |ip: IpAddr| ip.is_loopback() || local.is_some_and(|local| local.to_canonical() == ip);
        name.parse().is_ok_and(is_here)
    }

    /// The configured origin that a request has, if it is of one.
    pub fn origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        let text = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        let is_known = self.origins.iter().any(|known| *known == text || known == ANY);
        is_known.then(|| origin.clone())
    }
}

/// Whether an origin is that of what is served here, at this host.
pub fn is_same(origin: &str, scheme: &str, host: &str) -> bool {
    let of = origin
        .strip_prefix(scheme)
        .and_then(|rest| rest.strip_prefix("://"));
    of.is_some_and(|of| of.eq_ignore_ascii_case(host))
}

/// A host without its port, and an IPv6 address without its brackets.
pub fn name(host: &str) -> &str {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next(),
        None => host.split(':').next(),
    };
    name.unwrap_or_default()
}

/// The host of an origin, without its port; none where it names none.
pub fn host_of(origin: &str) -> Option<&str> {
    let (_, host) = origin.split_once("://")?;
    Some(name(host)).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_the_machines_or_configured() {
        let known = Known {
            hosts: vec!["db.internal".into()],
            origins: Vec::new(),
        };
        let local = Some("10.0.0.5".parse().unwrap());
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:7412",
            "127.9.9.9",
            "[::1]:80",
            "10.0.0.5:80",
            "DB.internal:1",
        ] {
            assert!(known.is_host(host, local), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:7412",
            "10.0.0.6",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
        ] {
            assert!(!known.is_host(host, local), "{host}");
        }
        assert!(!known.is_host("10.0.0.5", None));
    }

    #[test]
    fn an_origin_has_a_host() {
        assert_eq!(host_of("https://shop.example:8443"), Some("shop.example"));
        assert_eq!(host_of("http://[::1]:80"), Some("::1"));
        for none in ["*", "null", "http://", ""] {
            assert_eq!(host_of(none), None, "{none}");
        }
    }

    #[test]
    fn an_origin_is_this_one_by_scheme_host_and_port() {
        assert!(is_same("http://LocalHost:80", "http", "localhost:80"));
        for other in [
            "https://localhost:80",
            "http://localhost",
            "localhost:80",
            "null",
            "",
        ] {
            assert!(!is_same(other, "http", "localhost:80"), "{other}");
        }
    }
}
