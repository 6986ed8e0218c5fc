//! The node's one UDP socket.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::transport::limits::SOCKET_BUFFER_BYTES;

/// Binds the address and asks for large buffers; the kernel grants what it likes, which is logged.
pub(super) fn bind(listen: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    if listen.is_ipv6() && listen.ip().is_unspecified() {
        // One socket for both families, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    let asked = socket
        .set_recv_buffer_size(SOCKET_BUFFER_BYTES)
        .and_then(|()| socket.set_send_buffer_size(SOCKET_BUFFER_BYTES));
    socket.bind(&listen.into())?;
    let socket = UdpSocket::from(socket);
    let view = socket2::SockRef::from(&socket);
    // Linux counts its own bookkeeping in: it reports twice what it grants.
    let (receive, send) = (
        view.recv_buffer_size().unwrap_or(0),
        view.send_buffer_size().unwrap_or(0),
    );
    tracing::info!(
        address = %socket.local_addr()?,
        asked_bytes = SOCKET_BUFFER_BYTES,
        receive_bytes = receive,
        send_bytes = send,
        refused = asked.err().map(|e| e.to_string()),
        "bound the UDP socket"
    );
    Ok(socket)
}
