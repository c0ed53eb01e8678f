//! Session descriptions in and out of SIP bodies, alone or as one part of several (RFC 5621), and what was agreed turned
//! into the media room's words. Nothing else of a body is read, and no body is ever passed on.

use std::sync::Arc;

use super::refused::Refused;
use crate::media::{AudioFormat, DtlsPeer, EventFormat, LegMedia, ReceiveFormats, Security, SendFormats, SrtpKeys};
use crate::sdp::{Event, Media, Refusal, Session};
use crate::sip::msg::header::ContentType;
use crate::sip::msg::{HeaderName, Headers};
use crate::sip::multipart;
use crate::srtp::{Identity, Role};

/// The body type we read and write.
pub(super) const SDP: &str = "application/sdp";

/// Reads a body that may be a session description; `None` when there is none.
pub(super) fn read(headers: &Headers, body: &[u8]) -> Result<Option<Session>, Refused> {
    if body.is_empty() {
        return Ok(None);
    }
    let kind = headers.get(HeaderName::ContentType).and_then(|v| ContentType::parse(v).ok());
    let encoding = headers.text(HeaderName::ContentEncoding).unwrap_or("identity");
    let Some(kind) = kind.filter(|_| encoding.eq_ignore_ascii_case("identity")) else {
        return Err(Refused::body_type(SDP));
    };
    let body = if kind.kind.eq_ignore_ascii_case("multipart") {
        match part(&kind, body)? {
            Some(body) => body,
            None => return Ok(None),
        }
    } else if is_sdp(&kind) {
        body
    } else {
        return Err(Refused::body_type(SDP));
    };
    let session = Session::parse(body).map_err(|error| Refused::from(Refusal::from(error)))?;
    Ok(Some(session))
}

fn is_sdp(kind: &ContentType<'_>) -> bool {
    kind.is("application", "sdp")
}

/// The session description among the parts of a body. Parts of other kinds (ISUP, locations) are passed over, unless the
/// sender demands that they are understood.
fn part<'a>(kind: &ContentType<'a>, body: &'a [u8]) -> Result<Option<&'a [u8]>, Refused> {
    let parts = multipart::parts(kind, body).map_err(|_| Refused::because(400, "Malformed Multipart Body"))?;
    if parts.iter().any(|part| !is_sdp(&part.kind) && part.is_required()) {
        return Err(Refused::body_type(SDP));
    }
    match parts.iter().find(|part| is_sdp(&part.kind)) {
        Some(part) if part.is_plain() => Ok(Some(part.content)),
        Some(_) => Err(Refused::body_type(SDP)),
        None => Ok(None),
    }
}

/// What was agreed on a leg, as the media room takes it.
pub(super) fn leg_media(media: &Media, identity: Option<&Arc<Identity>>) -> LegMedia {
    let audio = |of: &[crate::sdp::Audio]| {
        of.iter().map(|a| AudioFormat { payload_type: a.payload_type, codec: a.codec }).collect()
    };
    let event = |e: &Event| EventFormat { payload_type: e.payload_type, clock_rate: e.clock_rate };
    LegMedia {
        remote_rtp: media.remote_rtp,
        remote_rtcp: media.remote_rtcp,
        send: media.send,
        receive: media.receive,
        rx: ReceiveFormats {
            audio: audio(&media.rx.audio),
            events: media.rx.events.iter().map(event).collect(),
            red: media.rx.red,
            comfort_noise: media.rx.comfort_noise,
        },
        tx: SendFormats {
            audio: audio(&media.tx.audio),
            event: media.tx.event.as_ref().map(event),
            ptime_ms: media.tx.ptime_ms,
            opus_bitrate: media.tx.opus_bitrate,
            comfort_noise: media.tx.comfort_noise,
        },
        security: security(media, identity),
        rtcp_mux: media.rtcp_mux,
        latch: media.latch,
        opaque: media.fax,
    }
}

fn security(media: &Media, identity: Option<&Arc<Identity>>) -> Security {
    match (&media.srtp, media.dtls.as_ref().zip(identity)) {
        (Some(srtp), _) => {
            let (rx, tx) = (srtp.rx.clone(), srtp.tx.clone());
            Security::Srtp(Box::new(SrtpKeys { suite: srtp.suite, rx, tx, peering: srtp.peering }))
        }
        (None, Some((dtls, identity))) => {
            let role = if dtls.active { Role::Active } else { Role::Passive };
            let (identity, fingerprint) = (identity.clone(), dtls.fingerprint);
            Security::Dtls(Box::new(DtlsPeer { identity, role, fingerprint, peering: dtls.peering }))
        }
        (None, None) => Security::Plain,
    }
}
