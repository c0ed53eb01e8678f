//! A UDP socket that learns what became of its datagrams: ICMP errors (port or host unreachable) come back by the
//! socket's error queue with the address they are about, so that a call can go to the next target at once.

use std::io::{self, IoSliceMut};
use std::mem::size_of_val;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use rustix::net::{RecvAncillaryBuffer, RecvFlags, recvmsg};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::Inbound;
use crate::config::{ListenerId, Transport};
use crate::sip::endpoint::Dest;

/// Kernel buffer asked for per UDP socket: bursts of a few thousand messages.
const SOCKET_BUFFER: usize = 4 << 20;

/// Opens a socket on `address`.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // The kernel clamps to its own limit; a smaller buffer only means less room for bursts.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    if address.is_ipv6() {
        // An IPv4 listener may stand on the same port.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    want_errors(&socket, address.is_ipv6())?;
    UdpSocket::from_std(socket.into())
}

/// Asks for the error queue. Fragmentation is left to the network: "too big" is then no error of the peer's.
#[allow(unsafe_code)]
fn want_errors(socket: &Socket, v6: bool) -> io::Result<()> {
    let options: [(libc::c_int, libc::c_int, libc::c_int); 2] = if v6 {
        [
            (libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1),
            (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT),
        ]
    } else {
        [(libc::IPPROTO_IP, libc::IP_RECVERR, 1), (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)]
    };
    for (level, name, value) in options {
        // SAFETY: the descriptor is open for the whole call, and `value` is a C int of the size given.
        let done = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                name,
                (&raw const value).cast(),
                size_of_val(&value) as libc::socklen_t,
            )
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Reports each destination that the network says cannot be reached, until the node ends.
pub(super) async fn watch(listener: ListenerId, socket: Arc<UdpSocket>, inbox: mpsc::Sender<Inbound>) {
    loop {
        if socket.ready(Interest::ERROR).await.is_err() {
            return;
        }
        while let Ok(failed) = socket.try_io(Interest::ERROR, || take_error(&socket)) {
            let Some(remote) = failed else { continue };
            let dest = Dest { listener, transport: Transport::Udp, remote, connection: None, trunk: None };
            if inbox.send(Inbound::Unreachable { dest }).await.is_err() {
                return;
            }
        }
    }
}

/// The destination of the next failed datagram.
fn take_error(socket: &UdpSocket) -> io::Result<Option<SocketAddr>> {
    let mut head = [0u8; 1];
    let mut control = RecvAncillaryBuffer::default();
    let flags = RecvFlags::ERRQUEUE | RecvFlags::DONTWAIT;
    let message = recvmsg(socket, &mut [IoSliceMut::new(&mut head)], &mut control, flags)?;
    Ok(message.address.and_then(|address| SocketAddr::try_from(address).ok()))
}
