//! What transactions and dialogs are found by, as bytes for a hash map.

use crate::sip::msg::Request;
use crate::sip::msg::header::Via;

/// A key in the making: reused for every look-up, so that only keeping one allocates.
#[derive(Debug, Default)]
pub(super) struct KeyBuffer(Vec<u8>);

impl KeyBuffer {
    fn start(&mut self, kind: u8) {
        self.0.clear();
        self.0.push(kind);
    }

    /// Parts are length-prefixed, so that no two lists of parts give the same key.
    fn part(&mut self, part: &[u8]) {
        self.0.extend_from_slice(&(part.len() as u32).to_le_bytes());
        self.0.extend_from_slice(part);
    }

    /// The server transaction `request` belongs to (RFC 3261 section 17.2.3), as if its method were `method`: ACK and
    /// CANCEL are looked up as the INVITE they speak of.
    pub(super) fn transaction(&mut self, request: &Request, via: &Via<'_>, method: &str) -> &[u8] {
        if let Some(branch) = via.rfc3261_branch() {
            self.start(b'3');
            self.part(branch.as_bytes());
            self.part(method.as_bytes());
            // Hosts compare without case.
            self.0.extend(via.sent_by.bytes().map(|b| b.to_ascii_lowercase()));
        } else {
            // A peer of RFC 2543, or one whose branch is only the cookie (RFC 4475 section 3.2.1). The To tag is left
            // out: the ACK for a non-2xx carries ours, the INVITE did not.
            self.start(b'2');
            self.part(method.as_bytes());
            self.part(&request.raw_uri);
            self.part(request.from_tag().unwrap_or_default().as_bytes());
            self.part(request.call_id().unwrap_or_default().as_bytes());
            self.part(&request.cseq().map(|c| c.number).unwrap_or_default().to_le_bytes());
            self.part(via.branch().unwrap_or_default().as_bytes());
            self.part(via.sent_by.as_bytes());
        }
        &self.0
    }

    /// The request itself, whatever way it came (RFC 3261 section 8.2.2.2); `None` when it cannot be a merged one.
    pub(super) fn merged(&mut self, request: &Request) -> Option<&[u8]> {
        let from = request.from_tag()?;
        if request.to_tag().is_some() {
            return None;
        }
        self.start(b'm');
        self.part(from.as_bytes());
        self.part(request.call_id()?.as_bytes());
        self.part(&request.cseq().ok()?.number.to_le_bytes());
        self.part(request.method.as_str().as_bytes());
        Some(&self.0)
    }

    /// The INVITE of a dialog that a 2xx of ours answered and an ACK acknowledges.
    pub(super) fn acknowledged(&mut self, call_id: &str, local_tag: &str, remote_tag: &str, cseq: u32) -> &[u8] {
        self.start(b'a');
        self.part(call_id.as_bytes());
        self.part(local_tag.as_bytes());
        self.part(remote_tag.as_bytes());
        self.part(&cseq.to_le_bytes());
        &self.0
    }
}
