//! SDP as a plain telephone writes and reads it (RFC 4566, RFC 3264): one audio line, some codecs, telephone-event. Its own
//! few lines, so that what the `sdp` room writes is read by a second implementation.

use std::net::{IpAddr, SocketAddr};

use crate::config::{Codec, Foreign};

/// Direction of a media line (RFC 3264 section 5.1), seen from who wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// The writer only sends.
    SendOnly,
    /// The writer only receives.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    const ALL: [(Direction, &'static str); 4] = [
        (Direction::SendRecv, "sendrecv"),
        (Direction::SendOnly, "sendonly"),
        (Direction::RecvOnly, "recvonly"),
        (Direction::Inactive, "inactive"),
    ];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(d, _)| *d == self).map_or("sendrecv", |(_, w)| w)
    }

    /// The answer that fits an offer of this direction (RFC 3264 section 6.1).
    pub fn answered(self) -> Direction {
        match self {
            Direction::SendRecv => Direction::SendRecv,
            Direction::SendOnly => Direction::RecvOnly,
            Direction::RecvOnly => Direction::SendOnly,
            Direction::Inactive => Direction::Inactive,
        }
    }

    /// Whether the writer may send.
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether the writer wants to receive.
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }
}

/// One audio description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audio {
    /// Where the writer receives RTP.
    pub rtp: SocketAddr,
    /// Payload types and codecs in order of preference.
    pub codecs: Vec<(u8, Codec)>,
    /// Telephone-event payload type and clock rate.
    pub events: Option<(u8, u32)>,
    /// Payload type of RFC 2198 redundancy.
    pub red: Option<u8>,
    /// Packet time wanted, in ms.
    pub ptime_ms: u32,
    /// Direction.
    pub direction: Direction,
}

impl Audio {
    /// Writes the description; `version` counts up with each change (RFC 3264 section 8).
    pub fn print(&self, session: u64, version: u64) -> String {
        let ip = self.rtp.ip();
        let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
        let mut types: Vec<String> = self.codecs.iter().map(|(pt, _)| pt.to_string()).collect();
        types.extend(self.events.map(|(pt, _)| pt.to_string()));
        types.extend(self.red.map(|pt| pt.to_string()));
        let mut text = format!(
            "v=0\r\no=peer {session} {version} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
             m=audio {} RTP/AVP {}\r\n",
            self.rtp.port(),
            types.join(" ")
        );
        for (pt, codec) in &self.codecs {
            let name = match codec {
                Codec::Pcmu => "PCMU/8000",
                Codec::Pcma => "PCMA/8000",
                Codec::G722 => "G722/8000",
                Codec::Opus => "opus/48000/2",
                Codec::Foreign(foreign) => {
                    text += &format!("a=rtpmap:{pt} {}/{}\r\n", Codec::Foreign(*foreign).name(), codec.clock_rate());
                    continue;
                }
            };
            text += &format!("a=rtpmap:{pt} {name}\r\n");
        }
        if let Some((pt, rate)) = self.events {
            text += &format!("a=rtpmap:{pt} telephone-event/{rate}\r\na=fmtp:{pt} 0-16\r\n");
        }
        if let Some(pt) = self.red {
            // Redundancy runs on the clock of what it carries (RFC 2198 section 5).
            let clock = self.codecs.first().map_or(8_000, |(_, codec)| codec.clock_rate());
            let channels = if clock == 48_000 { "/2" } else { "" };
            text += &format!("a=rtpmap:{pt} red/{clock}{channels}\r\n");
        }
        text + &format!("a=ptime:{}\r\na={}\r\n", self.ptime_ms, self.direction.word())
    }

    /// Reads a description; `None` when it has no audio line of a known codec with an address.
    pub fn parse(body: &[u8]) -> Option<Audio> {
        let text = std::str::from_utf8(body).ok()?;
        let mut address: Option<IpAddr> = None;
        let mut audio: Option<Audio> = None;
        let mut types: Vec<u8> = Vec::new();
        let mut inside = false;
        for line in text.lines() {
            if let Some(c) = line.strip_prefix("c=") {
                if inside || audio.is_none() {
                    address = c.split_whitespace().nth(2)?.parse().ok();
                }
            } else if let Some(m) = line.strip_prefix("m=") {
                let mut words = m.split_whitespace();
                inside = words.next() == Some("audio") && audio.is_none();
                if inside {
                    let port: u16 = words.next()?.parse().ok()?;
                    types = words.skip(1).filter_map(|w| w.parse().ok()).collect();
                    let fixed = [(0, Codec::Pcmu), (8, Codec::Pcma), (9, Codec::G722)];
                    let codecs = types.iter().filter_map(|t| fixed.into_iter().find(|(pt, _)| pt == t)).collect();
                    audio = Some(Audio {
                        rtp: SocketAddr::new(IpAddr::from([0, 0, 0, 0]), port),
                        codecs,
                        events: None,
                        red: None,
                        ptime_ms: 20,
                        direction: Direction::SendRecv,
                    });
                }
            } else if let Some(attribute) = line.strip_prefix("a=") {
                if let Some((_, direction)) =
                    Direction::ALL.into_iter().map(|(d, w)| (w, d)).find(|(w, _)| *w == attribute)
                    && let Some(audio) = audio.as_mut().filter(|_| inside)
                {
                    audio.direction = direction;
                } else if let Some(audio) = audio.as_mut().filter(|_| inside) {
                    audio.attribute(attribute, &types);
                }
            }
        }
        let mut audio = audio.filter(|a| !a.codecs.is_empty())?;
        audio.codecs.sort_by_key(|(pt, _)| types.iter().position(|listed| listed == pt));
        audio.rtp.set_ip(address?);
        Some(audio)
    }

    fn attribute(&mut self, attribute: &str, types: &[u8]) {
        if let Some(ms) = attribute.strip_prefix("ptime:") {
            self.ptime_ms = ms.trim().parse().unwrap_or(20);
        }
        let Some((pt, format)) = attribute.strip_prefix("rtpmap:").and_then(|r| r.split_once(' ')) else { return };
        let Some(pt) = pt.parse().ok().filter(|pt| types.contains(pt)) else { return };
        let mut parts = format.trim().split('/');
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let rate: u32 = parts.next().and_then(|r| r.parse().ok()).unwrap_or(8_000);
        let codec = match name.as_str() {
            "telephone-event" => {
                self.events.get_or_insert((pt, rate));
                return;
            }
            "red" => {
                self.red.get_or_insert(pt);
                return;
            }
            "pcmu" => Codec::Pcmu,
            "pcma" => Codec::Pcma,
            "g722" => Codec::G722,
            "opus" => Codec::Opus,
            "g729" => match Foreign::new("G729", rate, 1) {
                Some(foreign) => Codec::Foreign(foreign),
                None => return,
            },
            _ => return,
        };
        if !self.codecs.iter().any(|(known, _)| *known == pt) {
            self.codecs.push((pt, codec));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audio() -> Audio {
        Audio {
            rtp: "127.0.0.1:4000".parse().unwrap(),
            codecs: vec![(8, Codec::Pcma), (0, Codec::Pcmu)],
            events: Some((101, 8_000)),
            red: Some(121),
            ptime_ms: 30,
            direction: Direction::SendOnly,
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        assert_eq!(Audio::parse(audio().print(7, 1).as_bytes()), Some(audio()));
    }

    #[test]
    fn every_truncation_is_survived() {
        let text = audio().print(7, 1);
        for end in 0..text.len() {
            let _ = Audio::parse(&text.as_bytes()[..end]);
        }
    }
}
