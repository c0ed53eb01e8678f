//! Identifiers that Tonewall makes. All are random or counted by us; none is ever taken from the wire, so they are
//! safe as file names, log fields and URL segments.

use std::fmt;
use std::str::FromStr;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::Random;

/// The two legs of a call: the customer on the carrier side, the agent on the PBX side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Leg {
    /// The leg toward the carrier.
    Customer,
    /// The leg toward the contact centre's PBX.
    Agent,
}

impl Leg {
    /// The leg at the other end of the call.
    pub const fn other(self) -> Leg {
        match self {
            Leg::Customer => Leg::Agent,
            Leg::Agent => Leg::Customer,
        }
    }

    /// 0 for the customer, 1 for the agent: the channel order of recordings and of per-leg arrays.
    pub const fn index(self) -> usize {
        match self {
            Leg::Customer => 0,
            Leg::Agent => 1,
        }
    }
}

/// An identifier text that is not one of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a Tonewall {kind} id: expected {prefix:?} and 32 hexadecimal digits")]
pub struct BadId {
    kind: &'static str,
    prefix: &'static str,
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u128);

        impl $name {
            /// Draws a new id from `random`.
            pub fn draw(random: &mut Random) -> Self {
                Self(random.random())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:032x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                let bad = BadId { kind: $kind, prefix: $prefix };
                let hex = text.strip_prefix($prefix).ok_or_else(|| bad.clone())?;
                let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
                if hex.len() != 32 || !hex.bytes().all(lower_hex) {
                    return Err(bad);
                }
                u128::from_str_radix(hex, 16).map(Self).map_err(|_| bad)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

random_id!(
    /// A call through Tonewall: both legs together.
    CallId, "call", "call_"
);
random_id!(
    /// A hold on a call's mask or recording.
    HoldId, "hold", "hold_"
);
random_id!(
    /// A digit collection on a call.
    CollectionId, "collection", "coll_"
);
random_id!(
    /// A payment on a call.
    PaymentId, "payment", "pay_"
);
random_id!(
    /// A recording on disk; also its file name.
    RecordingId, "recording", "rec_"
);

/// A media session inside one node: the media worker's short name for a call. Never reused while the node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn an_id_reads_back_from_its_text() {
        let mut random = Random::seed_from_u64(7);
        let id = CallId::draw(&mut random);
        assert_eq!(id.to_string().parse::<CallId>(), Ok(id));
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        for text in
            ["", "call_", "call_00", "hold_00000000000000000000000000000000", "call_+0000000000000000000000000000000"]
        {
            assert!(text.parse::<CallId>().is_err(), "{text:?}");
        }
    }
}
