//! A description that is refused, with its own verdict: SIP status and Warning (RFC 3261 section 20.43).

use crate::sdp::SdpError;

/// Why an offer or answer is not taken. The text speaks only of the peer's own description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {reason}")]
pub struct Refusal {
    /// SIP status for the offerer: 488, or 400 for a body that is no description.
    pub status: u16,
    /// Warning code of RFC 3261 section 20.43.
    pub warning: u16,
    /// What is wrong, in words for the peer's engineer.
    pub reason: String,
}

impl Refusal {
    /// 488 Not Acceptable Here.
    pub(super) fn not_acceptable(warning: u16, reason: impl Into<String>) -> Self {
        Self { status: 488, warning, reason: reason.into() }
    }

    /// The value of a `Warning` header, for instance `305 tonewall "no codec in common"`. `agent` must be a token.
    pub fn warning_value(&self, agent: &str) -> String {
        let text: String = self
            .reason
            .chars()
            .filter(|c| !c.is_control())
            .flat_map(|c| ['\\', c].into_iter().skip(usize::from(!matches!(c, '"' | '\\'))))
            .collect();
        format!("{} {agent} \"{text}\"", self.warning)
    }
}

impl From<SdpError> for Refusal {
    fn from(error: SdpError) -> Self {
        Self { status: 400, warning: 399, reason: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_is_quoted() {
        let refusal = Refusal::not_acceptable(305, "no \"x\"\r\n\\");
        assert_eq!(refusal.warning_value("tonewall"), r#"305 tonewall "no \"x\"\\""#);
    }
}
