//! A run of secret bytes in memory of its own: whole pages, locked against swapping, left out of core dumps, wiped before
//! they go back to the kernel. For what is longer than digits: the body of a request that holds a card number, and the
//! provider's answer to it. Growing moves the bytes and wipes the old pages.

use std::fmt;

/// Bytes that are wiped when dropped. Prints their number only.
pub struct Locked {
    pages: pages::Pages,
    len: usize,
}

impl Default for Locked {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl Locked {
    /// Room for `capacity` bytes; at least a page.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { pages: pages::Pages::new(capacity.max(1)), len: 0 }
    }

    /// Whether the memory is locked against swapping (RLIMIT_MEMLOCK may forbid it; it works all the same).
    pub fn is_locked(&self) -> bool {
        self.pages.is_locked()
    }

    /// How many bytes are held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a byte.
    pub fn push(&mut self, byte: u8) {
        self.extend(&[byte]);
    }

    /// Appends bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if end > self.pages.bytes().len() {
            let mut larger = pages::Pages::new(end.max(self.pages.bytes().len() * 2));
            larger.bytes_mut()[..self.len].copy_from_slice(self.expose());
            // The old pages are wiped as they are dropped.
            self.pages = larger;
        }
        self.pages.bytes_mut()[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }

    /// The bytes. Exposes the secret.
    pub fn expose(&self) -> &[u8] {
        &self.pages.bytes()[..self.len]
    }

    /// The bytes, to be changed in place. Exposes the secret.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        &mut self.pages.bytes_mut()[..self.len]
    }

    /// Drops what stands behind the first `len` bytes, wiped.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            self.pages.bytes_mut()[len..self.len].fill(0);
            self.len = len;
        }
    }
}

impl AsRef<[u8]> for Locked {
    fn as_ref(&self) -> &[u8] {
        self.expose()
    }
}

impl fmt::Debug for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Locked({} bytes)", self.len)
    }
}

/// The system calls this needs `unsafe` for.
#[allow(unsafe_code)]
mod pages {
    use std::ptr::NonNull;

    use rustix::mm::{Advice, MapFlags, ProtFlags};
    use zeroize::Zeroize;

    const PAGE: usize = 4096;

    /// Zeroed memory, mapped for this one use.
    pub(super) struct Pages {
        at: NonNull<u8>,
        size: usize,
        locked: bool,
    }

    // SAFETY: the pages belong to this value alone, and are reached through `&self` and `&mut self` only.
    unsafe impl Send for Pages {}
    // SAFETY: as above; `&self` only reads.
    unsafe impl Sync for Pages {}

    impl Pages {
        pub(super) fn new(size: usize) -> Self {
            let size = size.next_multiple_of(PAGE);
            // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no memory of ours.
            let mapped = unsafe {
                rustix::mm::mmap_anonymous(
                    std::ptr::null_mut(),
                    size,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::PRIVATE,
                )
            };
            let at = mapped.ok().and_then(|at| NonNull::new(at.cast::<u8>()));
            // As any allocation that fails does.
            let Some(at) = at else {
                std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u8; PAGE]>());
            };
            // SAFETY: the range is the mapping just made; neither call changes its contents.
            let locked = unsafe {
                let _ = rustix::mm::madvise(at.as_ptr().cast(), size, Advice::LinuxDontDump);
                rustix::mm::mlock(at.as_ptr().cast(), size).is_ok()
            };
            Self { at, size, locked }
        }

        pub(super) fn is_locked(&self) -> bool {
            self.locked
        }

        pub(super) fn bytes(&self) -> &[u8] {
            // SAFETY: `at` is the start of a live, zero-initialised mapping of `size` bytes.
            unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.size) }
        }

        pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
            // SAFETY: as in `bytes`, and `&mut self` makes it the only reference.
            unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.size) }
        }
    }

    impl Drop for Pages {
        fn drop(&mut self) {
            self.bytes_mut().zeroize();
            // SAFETY: the mapping was made in `new` with this size, and nothing refers to it any more.
            let _ = unsafe { rustix::mm::munmap(self.at.as_ptr().cast(), self.size) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_and_keeps_what_it_holds() {
        let mut bytes = Locked::default();
        for n in 0..20_000u32 {
            bytes.push(n as u8);
        }
        assert_eq!(bytes.len(), 20_000);
        assert!(bytes.expose().iter().enumerate().all(|(n, byte)| *byte == n as u8));
    }

    #[test]
    fn what_is_cut_off_is_wiped_and_nothing_is_printed() {
        let mut bytes = Locked::default();
        bytes.extend(b"4242424242424242");
        bytes.truncate(4);
        assert_eq!(bytes.expose(), b"4242");
        assert!(bytes.pages.bytes()[4..].iter().all(|byte| *byte == 0));
        assert_eq!(format!("{bytes:?}"), "Locked(4 bytes)");
    }
}
