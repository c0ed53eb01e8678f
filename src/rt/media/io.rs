//! What a media worker needs of the kernel: to wait for many sockets, to be woken, to stay on a core. Level-triggered
//! epoll behind [`Io`]; another engine may come behind the same trait.

use std::mem::MaybeUninit;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

/// The token of the waker.
const WAKER: u64 = u64::MAX;

/// Sockets told of in one wait; the others come with the next.
const EVENTS: usize = 512;

/// Waits for sockets.
pub(super) trait Io {
    /// Watches `socket` for datagrams, as `token`.
    fn add(&mut self, token: usize, socket: &UdpSocket) -> std::io::Result<()>;
    /// Stops watching `socket`.
    fn remove(&mut self, socket: &UdpSocket);
    /// Waits until something is there, at most `left`, and tells which sockets have datagrams and whether the waker
    /// was used.
    fn wait(&mut self, left: Option<Duration>, ready: &mut Vec<usize>) -> bool;
}

/// Wakes a worker from another thread.
pub(super) struct Waker(OwnedFd);

impl Waker {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Makes the worker's wait end.
    pub(super) fn wake(&self) {
        // Full means that a wake-up is already waiting.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Takes the wake-up back.
    pub(super) fn quiet(&self) {
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

/// Level-triggered epoll.
pub(super) struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    pub(super) fn new(waker: &Waker) -> std::io::Result<Self> {
        let fd = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&fd, &waker.0, epoll::EventData::new_u64(WAKER), epoll::EventFlags::IN)?;
        Ok(Self { fd })
    }
}

impl Io for Epoll {
    fn add(&mut self, token: usize, socket: &UdpSocket) -> std::io::Result<()> {
        Ok(epoll::add(&self.fd, socket, epoll::EventData::new_u64(token as u64), epoll::EventFlags::IN)?)
    }

    fn remove(&mut self, socket: &UdpSocket) {
        let _ = epoll::delete(&self.fd, socket);
    }

    fn wait(&mut self, left: Option<Duration>, ready: &mut Vec<usize>) -> bool {
        let limit = left.and_then(|left| Timespec::try_from(left).ok());
        let mut room = [const { MaybeUninit::uninit() }; EVENTS];
        // Interrupted: as if nothing had come.
        let Ok((events, _)) = epoll::wait(&self.fd, &mut room[..], limit.as_ref()) else { return false };
        let mut woken = false;
        for event in events {
            match event.data.u64() {
                WAKER => woken = true,
                token => ready.push(token as usize),
            }
        }
        woken
    }
}

/// Keeps the calling thread on the `number`th core it may run on. Best effort.
pub(super) fn pin(number: usize) {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else { return };
    let Some(core) = (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).nth(number) else {
        return;
    };
    let mut one = rustix::thread::CpuSet::new();
    one.set(core);
    let _ = rustix::thread::sched_setaffinity(None, &one);
}
