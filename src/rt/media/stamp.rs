//! Datagrams with the time they came: the kernel stamps each as it arrives, so that a worker that wakes late still knows
//! how steadily the line was. Where it gives no stamp, a datagram came when it was read.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of, size_of_val};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A datagram older than this was not waiting for us: the wall clock was set.
const OLDEST: Duration = Duration::from_secs(5);

/// Room for one stamp and its header, with some to spare.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Asks for stamps. Best effort: without them the time of reading stands in.
pub(super) fn want(socket: &UdpSocket) {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open for the whole call, and `on` is a C int of the size given.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        );
    }
}

/// The wall clock and ours at one instant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    wall: Duration,
    ours: Instant,
}

impl Clocks {
    pub(super) fn read() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall, ours: Instant::now() }
    }

    /// Our time of a stamp by the wall clock, for a datagram read at `now`; `now` where the stamp cannot be.
    pub(super) fn came(&self, stamp: Option<Duration>, now: Instant) -> Instant {
        let Some(stamp) = stamp else { return now };
        let came = match self.wall.checked_sub(stamp) {
            Some(age) => self.ours.checked_sub(age),
            // It came after the clocks were read.
            None => stamp.checked_sub(self.wall).and_then(|later| self.ours.checked_add(later)),
        };
        came.filter(|came| *came <= now && now.saturating_duration_since(*came) <= OLDEST).unwrap_or(now)
    }
}

/// Takes the next datagram: its length, whom it is from, and its stamp by the wall clock (since 1970).
pub(super) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Option<Duration>)> {
    let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut control = Control([0; 64]);
    let mut data = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeroes is a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_name = name.as_mut_ptr().cast();
    message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: every pointer in `message` is to memory of the length given with it that outlives the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: all zeroes is a valid `sockaddr_storage`, and the kernel has written one over it.
    let name = unsafe { name.assume_init() };
    let source = address(&name).ok_or(io::ErrorKind::InvalidData)?;
    Ok((length, source, stamp(&message)))
}

/// The address in what the kernel wrote.
fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage, which is larger and stricter aligned, holds a `sockaddr_in`.
            let v4 = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            Some(SocketAddr::from((v4.sin_addr.s_addr.to_ne_bytes(), u16::from_be(v4.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for a `sockaddr_in6`.
            let v6 = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            let (ip, port) = (v6.sin6_addr.s6_addr.into(), u16::from_be(v6.sin6_port));
            Some(std::net::SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// The stamp among the control messages.
fn stamp(message: &libc::msghdr) -> Option<Duration> {
    // SAFETY: the macros walk the control buffer of `message` within the length the kernel has set; the data of a
    // `SCM_TIMESTAMPNS` is one `timespec`, read without assuming its alignment.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(message);
        while let Some(header) = next.as_ref() {
            if header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_TIMESTAMPNS {
                let at: libc::timespec = std::ptr::read_unaligned(libc::CMSG_DATA(header).cast());
                return Some(Duration::new(u64::try_from(at.tv_sec).ok()?, u32::try_from(at.tv_nsec).ok()?));
            }
            next = libc::CMSG_NXTHDR(message, header);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_that_waited_came_when_it_was_sent_and_not_when_it_was_read() {
        for ip in ["127.0.0.1:0", "[::1]:0"] {
            let (Ok(socket), Ok(peer)) = (UdpSocket::bind(ip), UdpSocket::bind(ip)) else {
                assert!(ip.starts_with('['), "no IPv4 loopback");
                eprintln!("no IPv6 loopback here: only IPv4 is tested");
                continue;
            };
            want(&socket);
            let at = socket.local_addr().expect("bound");
            let mut buffer = [0; 32];
            // The kernel begins to stamp a little after it is asked; until then what waits comes when it is read.
            let stamped = (0..100).any(|_| {
                let before = Instant::now();
                peer.send_to(b"early", at).expect("sent");
                let sent = Instant::now();
                std::thread::sleep(Duration::from_millis(60));
                let clocks = Clocks::read();
                let (length, source, stamp) = receive(&socket, &mut buffer).expect("a datagram");
                assert_eq!((&buffer[..length], source), (&b"early"[..], peer.local_addr().expect("bound")));
                let came = clocks.came(stamp, Instant::now());
                // The wall clock and ours are read one after the other.
                let slack = Duration::from_millis(5);
                assert!(came + slack >= before, "{:?} before it was sent", before - came);
                came <= sent + slack
            });
            assert!(stamped, "no datagram ever came before it was read");
            assert_eq!(receive(&socket, &mut buffer).expect_err("empty").kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn a_stamp_that_cannot_be_is_not_believed() {
        let clocks = Clocks::read();
        let now = clocks.ours + Duration::from_millis(1);
        assert_eq!(clocks.came(None, now), now);
        assert_eq!(clocks.came(Some(clocks.wall - Duration::from_secs(60)), now), now);
        assert_eq!(clocks.came(Some(clocks.wall + Duration::from_secs(60)), now), now);
        assert_eq!(
            clocks.came(Some(clocks.wall - Duration::from_millis(5)), now),
            clocks.ours - Duration::from_millis(5)
        );
    }
}
