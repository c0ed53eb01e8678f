//! `a=sendrecv`, `sendonly`, `recvonly`, `inactive` (RFC 8866 section 6.7) and their algebra (RFC 3264 sections 5, 6).

use std::fmt;

/// Which way media flows, seen from whoever wrote the description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendRecv,
    /// The writer sends only.
    SendOnly,
    /// The writer receives only.
    RecvOnly,
    /// Nothing flows; RTCP still may.
    Inactive,
}

impl Direction {
    /// From the two ways.
    pub const fn new(send: bool, receive: bool) -> Self {
        match (send, receive) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    /// Reads the value of an `a=` line; `None` when it is another attribute.
    pub fn parse(value: &str) -> Option<Self> {
        [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive]
            .into_iter()
            .find(|direction| value.eq_ignore_ascii_case(direction.name()))
    }

    /// The attribute's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// Whether the writer sends.
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether the writer receives.
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The same flow seen from the other end.
    pub const fn reversed(self) -> Self {
        Self::new(self.receives(), self.sends())
    }

    /// What both allow.
    pub const fn and(self, other: Self) -> Self {
        Self::new(self.sends() && other.sends(), self.receives() && other.receives())
    }

    /// What may stand in the answer to an offer of this direction when the answerer wants `wish` (RFC 3264
    /// section 6.1).
    pub const fn answered(self, wish: Self) -> Self {
        self.reversed().and(wish)
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Direction::{self, *};

    #[test]
    fn names_read_back() {
        for direction in [SendRecv, SendOnly, RecvOnly, Inactive] {
            assert_eq!(Direction::parse(direction.name()), Some(direction));
            assert_eq!(direction.reversed().reversed(), direction);
        }
        assert_eq!(Direction::parse("sendonlyx"), None);
    }

    #[test]
    fn answers_stay_within_the_table_of_rfc_3264() {
        for (offer, wish, answer) in [
            (SendOnly, SendRecv, RecvOnly),
            (SendOnly, SendOnly, Inactive),
            (RecvOnly, SendRecv, SendOnly),
            (RecvOnly, RecvOnly, Inactive),
            (SendRecv, SendRecv, SendRecv),
            (SendRecv, RecvOnly, RecvOnly),
            (Inactive, SendRecv, Inactive),
        ] {
            assert_eq!(offer.answered(wish), answer, "{offer} {wish}");
        }
    }
}
