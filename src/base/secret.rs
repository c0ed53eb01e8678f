//! Digits that nobody may see. [`Digit`] is one key press, [`Digits`] a run of them. Neither can be printed,
//! serialised or compared by accident; the value comes out only through `expose*`, which reviewers search for.
//! Both wipe themselves. Runs live in memory that is locked against swapping and left out of core dumps.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// One key of the telephone keypad: 0–9, `*`, `#`, A–D, coded as RFC 4733 events 0–15. Secret.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Digit(u8);

impl Digit {
    /// The key of an RFC 4733 event code (section 3.2, table 3); `None` for codes above 15.
    pub const fn from_event(code: u8) -> Option<Digit> {
        if code < 16 { Some(Digit(code)) } else { None }
    }

    /// The key of its keypad character (`0`–`9`, `*`, `#`, `A`–`D`, `a`–`d`).
    pub const fn from_char(c: char) -> Option<Digit> {
        match c {
            '0'..='9' => Some(Digit(c as u8 - b'0')),
            '*' => Some(Digit(10)),
            '#' => Some(Digit(11)),
            'A'..='D' => Some(Digit(c as u8 - b'A' + 12)),
            'a'..='d' => Some(Digit(c as u8 - b'a' + 12)),
            _ => None,
        }
    }

    /// The RFC 4733 event code, 0–15. Exposes the secret.
    pub const fn expose_event(&self) -> u8 {
        self.0
    }

    /// The keypad character. Exposes the secret.
    pub const fn expose_char(&self) -> char {
        KEYS[(self.0 & 15) as usize] as char
    }

    /// Whether two presses are of the same key.
    pub const fn same_key(&self, other: &Digit) -> bool {
        self.0 == other.0
    }
}

const KEYS: [u8; 16] = *b"0123456789*#ABCD";

impl fmt::Debug for Digit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digit(_)")
    }
}

/// The most keys a [`Digits`] run holds: an IBAN or two cards, with room.
pub const MAX_DIGITS: usize = 64;

/// A run of secret digits in locked memory of fixed size: it never grows, so no copy is left behind, and it is wiped
/// when dropped or cleared.
pub struct Digits {
    page: Box<Page>,
    locked: bool,
}

#[repr(align(256))]
struct Page {
    keys: [u8; MAX_DIGITS],
    len: u8,
}

impl Zeroize for Page {
    fn zeroize(&mut self) {
        self.keys.zeroize();
        self.len.zeroize();
    }
}

impl Default for Digits {
    fn default() -> Self {
        Self::new()
    }
}

impl Digits {
    /// An empty run. Memory that cannot be locked (RLIMIT_MEMLOCK) still works; [`Digits::is_locked`] tells.
    pub fn new() -> Self {
        let page = Box::new(Page { keys: [0; MAX_DIGITS], len: 0 });
        let locked = lock::lock(&page);
        Self { page, locked }
    }

    /// Whether the memory is locked against swapping.
    pub fn is_locked(&self) -> bool {
        self.locked
    }

    /// Appends a key; `false` (and unchanged) when [`MAX_DIGITS`] are held.
    #[must_use]
    pub fn push(&mut self, digit: &Digit) -> bool {
        let len = usize::from(self.page.len);
        if len == MAX_DIGITS {
            return false;
        }
        self.page.keys[len] = digit.expose_char() as u8;
        self.page.len += 1;
        true
    }

    /// Removes and wipes the last key.
    pub fn pop(&mut self) -> Option<Digit> {
        let last = usize::from(self.page.len.checked_sub(1)?);
        let digit = Digit::from_char(self.page.keys[last] as char);
        self.page.keys[last] = 0;
        self.page.len -= 1;
        digit
    }

    /// How many keys are held.
    pub fn len(&self) -> usize {
        usize::from(self.page.len)
    }

    /// Whether no key is held.
    pub fn is_empty(&self) -> bool {
        self.page.len == 0
    }

    /// Wipes every key.
    pub fn clear(&mut self) {
        self.page.zeroize();
    }

    /// The keys as ASCII characters. Exposes the secret.
    pub fn expose(&self) -> &[u8] {
        &self.page.keys[..self.len()]
    }

    /// Whether the keys are all 0–9 and pass the Luhn check (ISO/IEC 7812-1 annex B).
    pub fn luhn(&self) -> bool {
        let keys = self.expose();
        if keys.is_empty() || !keys.iter().all(u8::is_ascii_digit) {
            return false;
        }
        let sum: u32 = keys
            .iter()
            .rev()
            .enumerate()
            .map(|(place, key)| {
                let value = u32::from(key - b'0');
                let value = if place % 2 == 1 { value * 2 } else { value };
                if value > 9 { value - 9 } else { value }
            })
            .sum();
        sum.is_multiple_of(10)
    }
}

impl Drop for Digits {
    fn drop(&mut self) {
        self.page.zeroize();
    }
}

impl fmt::Debug for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digits({} keys)", self.len())
    }
}

/// The one system call this room needs `unsafe` for.
#[allow(unsafe_code)]
mod lock {
    use super::Page;
    use std::ffi::c_void;

    /// Locks the kernel page that holds `page`; `false` when the kernel refuses. Never unlocked: other runs may share
    /// the kernel page, and freed blocks serve the next run. Core dumps are switched off for the whole process in
    /// `rt/`.
    pub(super) fn lock(page: &Page) -> bool {
        let at = std::ptr::from_ref(page).cast_mut().cast::<c_void>();
        // SAFETY: the range is the live allocation behind `page`; mlock only changes residency, never contents.
        unsafe { rustix::mm::mlock(at, size_of::<Page>()) }.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Digits {
        let mut digits = Digits::new();
        for c in text.chars() {
            assert!(digits.push(&Digit::from_char(c).expect("a key")));
        }
        digits
    }

    #[test]
    fn published_test_cards_pass_luhn_and_a_slip_does_not() {
        assert!(run("4242424242424242").luhn());
        assert!(run("378282246310005").luhn());
        assert!(!run("4242424242424241").luhn());
        assert!(!run("").luhn());
        assert!(!run("42*2").luhn());
    }

    #[test]
    fn nothing_prints_a_digit() {
        let digits = run("4242");
        let text = format!("{digits:?} {:?}", Digit::from_char('7'));
        assert!(!text.contains("42") && !text.contains('7'), "{text}");
    }

    #[test]
    fn a_run_is_bounded_and_wiped() {
        let mut digits = run(&"1".repeat(MAX_DIGITS));
        assert!(!digits.push(&Digit::from_event(5).expect("a key")));
        assert_eq!(digits.len(), MAX_DIGITS);
        assert_eq!(digits.pop().map(|d| d.expose_char()), Some('1'));
        digits.clear();
        assert!(digits.is_empty() && digits.page.keys.iter().all(|k| *k == 0));
    }

    #[test]
    fn every_event_has_its_character() {
        for code in 0..16 {
            let digit = Digit::from_event(code).expect("a key");
            let again = Digit::from_char(digit.expose_char()).expect("a key");
            assert_eq!(again.expose_event(), code);
        }
        assert!(Digit::from_event(16).is_none());
    }
}
