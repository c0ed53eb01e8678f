//! `a=crypto` (RFC 4568) and `a=fingerprint` (RFC 8122): recognised so that a refusal can say why; never accepted and
//! never passed on. On a plain `RTP/AVP` stream they are an offer of optional encryption, which is declined by
//! silence.

use crate::sdp::{Section, Session};

/// Whether keys or fingerprints for encrypted media stand in the section or at session level.
pub fn offered(session: &Session, section: &Section) -> bool {
    let key = |name| section.attributes(name).next().is_some() || session.attributes(name).next().is_some();
    key("crypto") || key("fingerprint")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_seen_on_both_levels() {
        for (body, seen) in [
            ("v=0\nm=audio 4000 RTP/AVP 0\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\n", true),
            ("v=0\na=fingerprint:sha-256 00\nm=audio 4000 RTP/AVP 0\n", true),
            ("v=0\nm=audio 4000 RTP/AVP 0\na=ptime:20\n", false),
        ] {
            let session = Session::parse(body.as_bytes()).expect("sdp");
            assert_eq!(offered(&session, &session.sections()[0]), seen, "{body}");
        }
    }
}
