//! Our descriptions as text: what was decided goes in, a session description whose version counts its changes comes out.

use super::{Declared, LegSession};
use crate::config::Codec;
use crate::sdp::attr::fingerprint;
use crate::sdp::attr::rtpmap::RtpMap;
use crate::sdp::attr::{fmtp, ptime, rtcp};
use crate::sdp::negotiate::formats::{Audio, Event};
use crate::sdp::negotiate::security::Printed;
use crate::sdp::{Direction, Line, MediaLine, Section, Session};

impl LegSession {
    pub(super) fn line(&self, declared: &Declared) -> MediaLine {
        if let Some(fax) = &declared.fax {
            return fax.line(self.local.port());
        }
        let former = declared.layout.get(declared.chosen).filter(|line| line.is_audio());
        let protocol = former.map_or(declared.protocol, |line| line.protocol.as_str());
        let types = declared.audio.iter().map(|audio| audio.payload_type);
        let types = types.chain(declared.comfort_noise);
        let types = types.chain(declared.events.iter().map(|event| event.payload_type));
        MediaLine {
            kind: "audio".to_owned(),
            port: self.local.port(),
            protocol: protocol.to_owned(),
            formats: types.map(|pt| pt.to_string()).collect(),
        }
    }

    /// Prints our description; the version counts up when anything but the version changed.
    pub(super) fn print(&mut self, declared: &Declared) -> Session {
        let unversioned = Printed(self.describe(declared, 0).to_bytes());
        if self.printed.as_ref() != Some(&unversioned) {
            self.version += 1;
            self.printed = Some(unversioned);
        }
        self.describe(declared, self.version)
    }

    fn describe(&self, declared: &Declared, version: u64) -> Session {
        let ip = self.local.ip();
        let place = format!("IN {} {ip}", if ip.is_ipv4() { "IP4" } else { "IP6" });
        let mut session = Session::new();
        session.push(Line::new(b'v', "0"));
        session.push(Line::new(b'o', format!("- {} {version} {place}", self.id)));
        session.push(Line::new(b's', "-"));
        session.push(Line::new(b'c', place));
        session.push(Line::new(b't', "0 0"));
        for (index, line) in declared.layout.iter().enumerate() {
            if index == declared.chosen {
                session.push_section(self.stream(declared));
            } else {
                session.push_section(Section::new(MediaLine { port: 0, ..line.clone() }));
            }
        }
        if declared.layout.len() <= declared.chosen {
            session.push_section(self.stream(declared));
        }
        session
    }

    fn stream(&self, declared: &Declared) -> Section {
        let mut section = Section::new(self.line(declared));
        let mut attribute = |value: String| section.push(Line::new(b'a', value));
        if let Some(fax) = &declared.fax {
            fax.attributes.iter().cloned().for_each(&mut attribute);
            if declared.direction != Direction::SendRecv {
                attribute(declared.direction.to_string());
            }
            return section;
        }
        for Audio { payload_type, codec } in &declared.audio {
            let map = RtpMap {
                payload_type: *payload_type,
                encoding: codec.name(),
                clock_rate: codec.clock_rate(),
                channels: codec.channels(),
            };
            attribute(map.to_string());
            if let Some((_, parameters)) = declared.parameters.iter().find(|(of, _)| of == codec) {
                attribute(format!("fmtp:{payload_type} {parameters}"));
            }
            if *codec == Codec::Opus {
                attribute(format!("fmtp:{payload_type} {}", declared.opus));
            }
        }
        if let Some(payload_type) = declared.comfort_noise {
            let map = RtpMap { payload_type, encoding: "CN", clock_rate: 8_000, channels: 1 };
            attribute(map.to_string());
        }
        for Event { payload_type, clock_rate, .. } in &declared.events {
            let map = RtpMap {
                payload_type: *payload_type,
                encoding: "telephone-event",
                clock_rate: *clock_rate,
                channels: 1,
            };
            attribute(map.to_string());
            attribute(format!("fmtp:{payload_type} {}", fmtp::KEYS));
        }
        attribute(format!("ptime:{}", declared.ptime_ms.min(declared.maxptime_ms.unwrap_or(ptime::MAX_MS))));
        if let Some(longest) = declared.maxptime_ms {
            attribute(format!("maxptime:{longest}"));
        }
        for (tag, suite) in &declared.keys {
            attribute(self.keys.line(*tag, *suite));
        }
        if let Some((ours, setup)) = &declared.dtls {
            attribute(setup.to_string());
            attribute(fingerprint::print(ours));
        }
        if declared.rtcp_mux {
            attribute(rtcp::MUX.to_owned());
        }
        attribute(declared.direction.to_string());
        section
    }
}
