//! Every bound of the transport, with its unit, in one place.

use std::time::Duration;

use crate::wire::Lane;

/// The largest frame of the engine, its kind byte included; checked before anything is allocated for it.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// The largest hello.
pub const HELLO_BYTES_MAX: usize = 4096;
/// The largest gossip message. chitchat sizes its own for one UDP datagram of 64 KiB, give or take a few bytes.
pub const GOSSIP_BYTES_MAX: usize = 128 << 10;
/// Addresses that a node may advertise, and that are tried for one peer.
pub const ADDRESSES_MAX: usize = 8;
/// Seeds of one node.
pub const SEEDS_MAX: usize = 64;
/// Addresses taken from the answer for one seed's name.
pub const SEED_ADDRESSES_MAX: usize = 32;
/// Addresses of one seed that are dialled at the same time.
pub const SEED_DIALS_MAX: usize = 8;
/// Peers that are linked, remembered or dialled at the same time.
pub const PEERS_MAX: usize = 1024;
/// Connections that have arrived and were not looked at yet; the endpoint refuses more.
pub const INCOMING_MAX: usize = 256;
/// Incoming connections in their handshake at the same time; more are refused.
pub const HANDSHAKES_MAX: usize = 256;
/// From so many handshakes on, a newcomer must first prove that its address is its own (QUIC Retry).
pub const HANDSHAKES_BEFORE_RETRY: usize = 64;
/// Of those, how many may come from one source (an IPv4 address, an IPv6 /64) that has proven its address.
pub const HANDSHAKES_PER_SOURCE_MAX: usize = 64;
/// Bytes of the first packets kept for connections that were not looked at yet, all together.
pub const INCOMING_BYTES_MAX: u64 = 8 << 20;
/// What the kernel is asked for as the socket's send and receive buffers. It may grant less.
pub const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// The smallest packet every network path must carry.
pub const MTU_BYTES_MIN: u16 = 1200;
/// The largest packet that path discovery tries unless configured: what Ethernet carries, with room for a tunnel.
pub const MTU_BYTES_DEFAULT: u16 = 1452;
/// The largest packet. Ten GSO segments above it exceed the 65,507 bytes of one UDP send and are dropped silently.
pub const MTU_BYTES_MAX: u16 = 6550;
/// Bytes one lane may have received and not yet handed on.
pub const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// Streams beside the lanes that one side may have opened over a link at the same time; it waits with the next.
pub const STREAMS_MAX: u32 = 64;
/// Bytes all lanes and streams of a link may have received and not yet handed on. With room for everyone's own window, a full one
/// never takes another one's.
pub const LINK_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * (Lane::COUNT as u32 + 2 * STREAMS_MAX);
/// Bytes of a link that were sent and are not confirmed.
pub const SEND_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * Lane::COUNT as u32;
/// Bytes of one lane that were handed to the receiver of events and are still held by it (see `Credit`).
pub const INBOUND_BYTES_MAX: usize = 2 << 20;
/// Pieces of work that wait for the thread that moves packets.
pub const WORK_MAX: usize = 256;
/// How long after work was taken somebody looks whether the thread is back, milliseconds; packets wait for up to twice as long.
pub const AWAY_MS: u64 = 10;
/// Bytes a lane's writer takes from its queue at once.
pub const WRITE_BYTES: usize = 64 << 10;
/// Bodies up to this size are copied beside their header; larger ones are shared.
pub const COPY_BYTES_MAX: usize = 4 << 10;
/// Bytes of gossip waiting on the control lane; what comes on top is dropped, as on a lossy network.
pub const GOSSIP_QUEUE_BYTES_MAX: usize = 256 << 10;
/// Epochs from here on are nobody's: their milliseconds lie beyond the year 4000. No peer's word of one is believed.
pub const EPOCH_MAX: u64 = 1 << 62;
/// How long the frames that came before a close may take to be handed on.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a node that leaves waits until its peers have what it sent.
pub const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a node that closed its connections waits for the endpoint to fall silent.
pub const IDLE_WAIT: Duration = Duration::from_millis(500);
/// How long the socket may still be open when everything that this transport has of it is gone: another thread may be
/// half-way through a `send`.
pub const SOCKET_CLOSE_WAIT: Duration = Duration::from_secs(1);
/// How often that is looked at.
pub const SOCKET_CLOSE_POLL: Duration = Duration::from_millis(1);
/// How long one look-up of a seed's name may take.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the name of a seed that is reached is looked up again: a name may stand for many nodes.
pub const RESOLVE_INTERVAL: Duration = Duration::from_secs(60);

const _: () = assert!(HELLO_BYTES_MAX < FRAME_BYTES_MAX && GOSSIP_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(GOSSIP_BYTES_MAX < GOSSIP_QUEUE_BYTES_MAX);
const _: () = assert!(
    FRAME_BYTES_MAX <= INBOUND_BYTES_MAX,
    "one frame must fit its lane's credit"
);
const _: () = assert!(
    HANDSHAKES_BEFORE_RETRY + HANDSHAKES_PER_SOURCE_MAX < HANDSHAKES_MAX,
    "one source leaves room for others"
);

/// The bounds that a configuration may change. The default is right for a LAN and for loopback.
///
/// ```
/// use anabranch::transport::Limits;
///
/// let limits = Limits { mtu_bytes: 6500, ..Limits::default() };
/// assert!(limits.check().is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct Limits {
    /// A link without a packet for so long is lost. Keep-alives go at a third of it.
    pub idle_timeout: Duration,
    /// From the first packet of a connection to the peer's hello.
    pub handshake_timeout: Duration,
    /// The first wait after a failed dial; doubled with each failure, with jitter.
    pub reconnect_min: Duration,
    /// The longest wait between two dials.
    pub reconnect_max: Duration,
    /// The largest packet that path discovery tries, at most [`MTU_BYTES_MAX`].
    pub mtu_bytes: u16,
    /// Bytes that may wait to be sent, per lane. A link that exceeds it is ended: the sender keeps to its credit,
    /// so this means that credit and queue disagree.
    pub queue_bytes: [usize; Lane::COUNT],
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            idle_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(5),
            reconnect_min: Duration::from_millis(100),
            reconnect_max: Duration::from_secs(10),
            mtu_bytes: MTU_BYTES_DEFAULT,
            queue_bytes: [8 << 20, 16 << 20, 16 << 20, 32 << 20],
        }
    }
}

impl Limits {
    /// Says which limit cannot be used and what it must be.
    ///
    /// # Errors
    /// The name of the first limit that is out of range, with the range.
    pub fn check(&self) -> Result<(), String> {
        if !(MTU_BYTES_MIN..=MTU_BYTES_MAX).contains(&self.mtu_bytes) {
            return Err(format!(
                "the MTU is {}, it must be from {MTU_BYTES_MIN} to {MTU_BYTES_MAX}",
                self.mtu_bytes
            ));
        }
        if self.idle_timeout < Duration::from_millis(300) || self.idle_timeout > Duration::from_secs(600) {
            return Err("the idle timeout must be from 300 ms to 600 s".into());
        }
        if self.handshake_timeout.is_zero() || self.reconnect_min.is_zero() {
            return Err("the handshake timeout and the first wait between dials must not be zero".into());
        }
        if self.reconnect_min > self.reconnect_max {
            return Err("the first wait between dials must not be longer than the longest".into());
        }
        if self.queue_bytes.iter().any(|&bytes| bytes < FRAME_BYTES_MAX) {
            return Err(format!(
                "a lane's queue must hold one frame, {FRAME_BYTES_MAX} bytes"
            ));
        }
        Ok(())
    }

    pub(super) fn keep_alive(&self) -> Duration {
        self.idle_timeout / 3
    }
}
