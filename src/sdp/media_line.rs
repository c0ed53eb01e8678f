//! The `m=` line (RFC 8866 section 5.14).

use std::fmt;

/// `m=<kind> <port>[/<count>] <protocol> <format> …`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaLine {
    /// `audio`, `video`, `image`, …
    pub kind: String,
    /// Port; 0 is a refused or removed stream (RFC 3264 section 6).
    pub port: u16,
    /// `RTP/AVP`, `RTP/SAVP`, `udptl`, …
    pub protocol: String,
    /// Formats as written; payload types for RTP.
    pub formats: Vec<String>,
}

impl MediaLine {
    /// Reads the value of an `m=` line. A port count is read over.
    pub fn parse(value: &str) -> Result<Self, &'static str> {
        let mut fields = value.split_ascii_whitespace();
        let kind = fields.next().ok_or("m= line is empty")?;
        let port = fields.next().ok_or("m= line has no port")?;
        let port = port.split('/').next().unwrap_or_default();
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or("m= line has no readable port")?;
        let protocol = fields.next().ok_or("m= line has no protocol")?;
        let formats = fields.map(str::to_owned).collect();
        Ok(Self { kind: kind.to_owned(), port, protocol: protocol.to_owned(), formats })
    }

    /// Whether the stream is RTP that is not encrypted, or optionally so by keys beside it.
    pub fn is_plain_rtp(&self) -> bool {
        self.protocol.eq_ignore_ascii_case("RTP/AVP") || self.protocol.eq_ignore_ascii_case("RTP/AVPF")
    }

    /// Whether the stream is encrypted RTP (RFC 3711, 5764).
    pub fn is_secure_rtp(&self) -> bool {
        self.protocol.to_ascii_uppercase().contains("RTP/SAVP")
    }

    /// Whether its keys come by a DTLS handshake (RFC 5764).
    pub fn is_dtls(&self) -> bool {
        self.is_secure_rtp() && self.protocol.to_ascii_uppercase().contains("TLS")
    }

    /// Whether the kind is audio.
    pub fn is_audio(&self) -> bool {
        self.kind.eq_ignore_ascii_case("audio")
    }

    /// The payload types in order: numbers 0–127; others are left out.
    pub fn payload_types(&self) -> impl Iterator<Item = u8> {
        self.formats.iter().filter_map(|format| format.parse().ok()).filter(|pt| *pt < 128)
    }
}

impl fmt::Display for MediaLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.kind, self.port, self.protocol)?;
        self.formats.iter().try_for_each(|format| write!(f, " {format}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_printed() {
        let line = MediaLine::parse("audio 49170/2  RTP/AVP 0 8 101 300").expect("media");
        assert_eq!(line.to_string(), "audio 49170 RTP/AVP 0 8 101 300");
        assert_eq!(line.payload_types().collect::<Vec<_>>(), [0, 8, 101]);
        assert!(line.is_audio() && line.is_plain_rtp() && !line.is_secure_rtp());
        let secure = MediaLine::parse("audio 9 UDP/TLS/RTP/SAVPF 111").expect("media");
        assert!(secure.is_secure_rtp() && !secure.is_plain_rtp());
        assert!(MediaLine::parse("audio +5 RTP/AVP 0").is_err());
    }
}
