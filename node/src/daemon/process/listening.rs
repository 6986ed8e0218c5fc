//! Where a command's process group listens, for functions that do not listen where they were told to: the system says it (Linux).
//!
//! Not here: whether a function answers there, which whoever has a [`Probe`] knows.
//!
//! Contract: nobody else's port is ever taken for the group's, also where several listen at one. What is read is bounded, and what
//! makes no sense is passed over.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::function::BoxFuture;

/// So long a function may take to listen where it was told to before it is looked for elsewhere, and between two such looks: nobody
/// is told that another process listens.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many processes are looked at,
const PROCESSES_MAX: usize = 65_536;
/// so many open files of the group's,
const FILES_MAX: usize = 65_536;
/// so much of what the system says, whose tables begin with those that listen,
const FILE_BYTES_MAX: u64 = 16 << 20;
/// and so many places are asked what is there.
const PLACES_MAX: usize = 16;

/// Asks whether a function is there.
pub type Probe = Arc<dyn Fn(SocketAddr) -> BoxFuture<'static, bool> + Send + Sync>;

/// Looks for a function.
pub(super) struct Search {
    probe: Probe,
    /// What was seen last.
    seen: Vec<Place>,
}

/// Where a group can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    address: SocketAddr,
    /// Others may be reached there, too.
    is_shared: bool,
}

impl Search {
    pub(super) fn new(probe: Probe) -> Search {
        Search {
            probe,
            seen: Vec::new(),
        }
    }

    /// Returns when a function of this group has been found. May be dropped and called again.
    pub(super) async fn find(&mut self, group: u32) -> SocketAddr {
        loop {
            sleep(LOOK_EVERY).await;
            let looking = tokio::task::spawn_blocking(move || places(group));
            self.seen = looking.await.unwrap_or_default();
            for place in self.seen.iter().filter(|place| !place.is_shared) {
                if (self.probe)(place.address).await {
                    return place.address;
                }
            }
        }
    }

    /// Where it listens in vain, for people; nothing if it does not.
    pub(super) fn in_vain(&self) -> String {
        let say = |place: &Place| match place.is_shared {
            true => format!("; it listens at {}, and so does another process", place.address),
            false => format!("; it listens at {}, where no function answers", place.address),
        };
        self.seen.iter().map(say).collect()
    }
}

/// All places where a group can be reached.
fn places(group: u32) -> Vec<Place> {
    let own = sockets(group);
    if own.is_empty() {
        return Vec::new();
    }
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(text);
    let all: Vec<(SocketAddr, u64)> = tables.iter().flat_map(|table| listening(table)).collect();
    reachable(&all, &own)
}

/// The sockets of all of a group's processes, by the system's numbers.
fn sockets(group: u32) -> BTreeSet<u64> {
    let numbers = names("/proc").take(PROCESSES_MAX);
    let processes = numbers.filter_map(|name| name.parse::<u32>().ok());
    processes
        .filter(|pid| group_of(&text(&format!("/proc/{pid}/stat"))) == Some(group))
        .flat_map(|pid| {
            let files = format!("/proc/{pid}/fd");
            names(&files).map(move |name| format!("{files}/{name}"))
        })
        .take(FILES_MAX)
        .filter_map(|file| socket(fs::read_link(file).ok()?.to_str()?))
        .collect()
}

/// What is in a directory. It may be gone, or not ours to look into.
fn names(directory: &str) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// The group in what the system says of a process: the third behind its name, which is in parentheses and may be anything.
fn group_of(stat: &str) -> Option<u32> {
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_ascii_whitespace().nth(2)?.parse().ok()
}

/// The number in what a file of a process is, if it is a socket.
fn socket(file: &str) -> Option<u64> {
    file.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// What is in a file of the system's.
fn text(path: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // What was read before an error is of use, too.
        let _ = file.take(FILE_BYTES_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The sockets of a table that listen, and where.
fn listening(table: &str) -> impl Iterator<Item = (SocketAddr, u64)> {
    const LISTENS: &str = "0A";
    table.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (address, state) = (fields.nth(1)?, fields.nth(1)?);
        let socket = fields.nth(5)?.parse().ok()?;
        (state == LISTENS).then_some((address_of(address)?, socket))
    })
}

/// An address as the system's tables have it: words of the machine's own order in hexadecimal, a colon, and the port.
fn address_of(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Where those of these are reached that are one's own.
fn reachable(all: &[(SocketAddr, u64)], own: &BTreeSet<u64>) -> Vec<Place> {
    const LOOPBACK_4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const LOOPBACK_6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let mut places: Vec<Place> = Vec::new();
    for (address, _) in all.iter().filter(|(_, socket)| own.contains(socket)) {
        let at: &[IpAddr] = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => &[LOOPBACK_4],
            // It may be both families', or one's alone.
            IpAddr::V6(ip) if ip.is_unspecified() => &[LOOPBACK_4, LOOPBACK_6],
            ip => &[ip],
        };
        for ip in at {
            let reached = SocketAddr::new(*ip, address.port());
            if places.len() < PLACES_MAX && places.iter().all(|place| place.address != reached) {
                let others = all.iter().filter(|(_, socket)| !own.contains(socket));
                let is_shared = others.into_iter().any(|(other, _)| takes(*other, reached));
                places.push(Place {
                    address: reached,
                    is_shared,
                });
            }
        }
    }
    places
}

/// Whether who listens at one address may be who is reached at another.
fn takes(listens: SocketAddr, reached: SocketAddr) -> bool {
    let of_all = listens.ip().is_unspecified() && (listens.is_ipv6() || reached.is_ipv4());
    listens.port() == reached.port() && (listens.ip() == reached.ip() || of_all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// As a machine of little-endian words has it.
    #[cfg(target_endian = "little")]
    #[test]
    fn tables_are_read_and_what_makes_no_sense_in_them_is_not() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 71 1 0 100 0\n\
             1: 0100007F:1F91 0100007F:8000 01 00000000:00000000 00:00000000 00000000  1000        0 72 1 0 100 0\n\
             2: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 73\n\
             3: 0000000000000000FFFF00000100007F:0051 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 74\n\
             4: 0100007F:1FFFF 00000000:0000 0A 0:0 0:0 0 0 0 75\n\
             5: 0100007:1F90 00000000:0000 0A 0:0 0:0 0 0 0 76\n\
             6: \u{e9}00007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 77\n\
             7: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 -1\n\
             8: 0100007F:1F90 00000000:0000 0A\n\
             \n:";
        let read: Vec<_> = listening(table).collect();
        let expected = [
            (at("127.0.0.1:8080"), 71),
            (at("[::1]:80"), 73),
            (at("127.0.0.1:81"), 74),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn a_process_says_its_group_whatever_it_is_called() {
        assert_eq!(group_of("7 (node) S 1 5 5 0 -1"), Some(5));
        assert_eq!(group_of("7 (a) R 1 9 9 (b) S 1 5 5"), Some(5));
        for none in [
            "",
            "7 (node",
            "7 (node) S 1",
            "7 (node) S 1 -5 5",
            "7 (node) S 1 x",
        ] {
            assert_eq!(group_of(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_a_socket_says_its_number() {
        assert_eq!(socket("socket:[71]"), Some(71));
        for other in [
            "socket:[71",
            "socket:[]",
            "pipe:[71]",
            "/tmp/socket:[71]",
            "socket:[-1]",
        ] {
            assert_eq!(socket(other), None, "{other}");
        }
    }

    #[test]
    fn where_others_listen_too_is_shared() {
        let check = |own: &[&str], others: &[&str], expected: &[(&str, bool)]| {
            let listed = own.iter().chain(others).enumerate();
            let all: Vec<_> = listed.map(|(i, text)| (at(text), i as u64)).collect();
            let own: BTreeSet<u64> = (0..own.len() as u64).collect();
            let places = reachable(&all, &own);
            let places: Vec<_> = places
                .iter()
                .map(|place| (place.address, place.is_shared))
                .collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|(text, shared)| (at(text), *shared))
                .collect();
            assert_eq!(places, expected, "{own:?} {others:?}");
        };
        check(&["0.0.0.0:80"], &["0.0.0.0:81"], &[("127.0.0.1:80", false)]);
        check(&["0.0.0.0:80"], &["0.0.0.0:80"], &[("127.0.0.1:80", true)]);
        check(&["0.0.0.0:80"], &["127.0.0.1:80"], &[("127.0.0.1:80", true)]);
        check(&["127.0.0.1:80"], &["127.0.0.2:80"], &[("127.0.0.1:80", false)]);
        check(&["127.0.0.1:80"], &["[::]:80"], &[("127.0.0.1:80", true)]);
        check(&["[::1]:80"], &["0.0.0.0:80"], &[("[::1]:80", false)]);
        let both = [("127.0.0.1:80", true), ("[::1]:80", false)];
        check(&["[::]:80"], &["0.0.0.0:80"], &both);
        let once = [("127.0.0.1:80", false), ("[::1]:80", false)];
        check(&["0.0.0.0:80", "[::]:80"], &[], &once);
        check(&[], &["0.0.0.0:80"], &[]);
        let many: Vec<String> = (1..100).map(|port| format!("127.0.0.1:{port}")).collect();
        let all: Vec<_> = many.iter().map(|text| (at(text), 1)).collect();
        assert_eq!(reachable(&all, &BTreeSet::from([1])).len(), PLACES_MAX);
    }

    /// A process with a group of its own, which shares the port that it listens at with whoever else shares it.
    struct Server(std::process::Child);

    impl Server {
        fn start(port: u16) -> (Server, u16) {
            use std::io::BufRead;
            use std::os::unix::process::CommandExt;
            let script = "import socket,sys
s=socket.socket(); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEPORT,1)
s.bind(('0.0.0.0',int(sys.argv[1]))); s.listen(); print(s.getsockname()[1],flush=True)
s.accept()";
            let mut command = std::process::Command::new("python3");
            let command = command.args(["-c", script, &port.to_string()]);
            let mut child = command
                .stdout(std::process::Stdio::piped())
                .process_group(0)
                .spawn()
                .unwrap();
            let mut line = String::new();
            let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
            output.read_line(&mut line).unwrap();
            (Server(child), line.trim().parse().unwrap())
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_groups_ports_are_its_own_until_another_listens_there() {
        let (one, port) = Server::start(0);
        let place = |is_shared| Place {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            is_shared,
        };
        assert_eq!(places(one.0.id()), [place(false)]);
        let (two, _) = Server::start(port);
        assert_eq!(places(one.0.id()), [place(true)]);
        assert_eq!(places(two.0.id()), [place(true)]);
        assert_eq!(places(u32::MAX), []);
        drop(two);
        assert_eq!(places(one.0.id()), [place(false)]);
    }
}
