//! Replaces (RFC 3891): `call-id;to-tag=a;from-tag=b`, the dialog that a new INVITE takes the place of. The tags are
//! named as the one who is asked sees its own: `to-tag` is its local tag.

use crate::sip::msg::scan::Params;
use crate::sip::msg::{HeaderFault, scan};

/// Replaces, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaces<'a> {
    /// Call-ID of the dialog.
    pub call_id: &'a str,
    /// The asked one's tag.
    pub to_tag: &'a str,
    /// Its peer's tag.
    pub from_tag: &'a str,
    /// Only while the dialog is not confirmed.
    pub early_only: bool,
}

impl<'a> Replaces<'a> {
    /// Reads a Replaces value.
    pub fn parse(value: &'a [u8]) -> Result<Self, HeaderFault> {
        let end = value.iter().position(|b| *b == b';').ok_or(HeaderFault("Replaces without tags"))?;
        let call_id = scan::trim(&value[..end]);
        let call_id = std::str::from_utf8(call_id).ok().filter(|_| super::is_call_id(call_id));
        let params = Params::parse(&value[end..])?;
        let tag = |name| params.text(name).filter(|tag| scan::is_token(tag.as_bytes()));
        let early_only = params.get("early-only").is_some();
        match (call_id, tag("to-tag"), tag("from-tag")) {
            (Some(call_id), Some(to_tag), Some(from_tag)) => Ok(Self { call_id, to_tag, from_tag, early_only }),
            _ => Err(HeaderFault("Malformed Replaces")),
        }
    }
}

impl std::fmt::Display for Replaces<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{};to-tag={};from-tag={}", self.call_id, self.to_tag, self.from_tag)?;
        if self.early_only { f.write_str(";early-only") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_id_and_both_tags_read_back() {
        let text = "425928@bobster.example.org;to-tag=7743;from-tag=6472;early-only";
        let replaces = Replaces::parse(text.as_bytes()).expect("good");
        assert_eq!((replaces.to_tag, replaces.from_tag, replaces.early_only), ("7743", "6472", true));
        assert_eq!(replaces.to_string(), text);
    }

    #[test]
    fn what_names_no_dialog_is_refused() {
        for value in
            ["", "a@b", "a@b;to-tag=1", ";to-tag=1;from-tag=2", "a b;to-tag=1;from-tag=2", "a;to-tag=;from-tag=2"]
        {
            assert!(Replaces::parse(value.as_bytes()).is_err(), "{value}");
        }
    }
}
