//! Header rules of a trunk (`[[trunk.header]]`), applied to an INVITE that goes out on it. The caller's INVITE is read,
//! ours is written; no rule reaches a header of the dialog, and no value adds a line (threats R9).

use std::borrow::Cow;

use crate::config::{HeaderAction, HeaderRule};
use crate::sip::Request;

/// Applies `rules` in order.
pub(super) fn apply(rules: &[HeaderRule], theirs: &Request, ours: &mut Request) {
    for HeaderRule { name, action } in rules {
        match action {
            HeaderAction::Remove => {
                ours.headers.remove_named(name);
            }
            HeaderAction::Set(value) => write(ours, name, Some(value.clone())),
            HeaderAction::Copy { from, by } => {
                let value = read(theirs, from);
                let value = match by {
                    Some(by) => value.and_then(|value| by.expand(&value)),
                    None => value.map(Cow::into_owned),
                };
                if value.is_some() {
                    write(ours, name, value);
                }
            }
            HeaderAction::Rewrite(by) => {
                let values: Vec<Vec<u8>> = ours.headers.get_all_named(name).map(<[u8]>::to_vec).collect();
                ours.headers.remove_named(name);
                for value in values {
                    let new = std::str::from_utf8(&value).ok().and_then(|text| by.replace(text));
                    let new = new.map_or(value, String::into_bytes);
                    // Captures of a header that was read hold no control character; should one, it stays behind.
                    let _ = ours.headers.try_push_named(name, new);
                }
            }
        }
    }
}

/// The value a rule reads.
fn read<'a>(theirs: &'a Request, name: &str) -> Option<Cow<'a, str>> {
    if name.eq_ignore_ascii_case("Request-URI") {
        return Some(String::from_utf8_lossy(&theirs.raw_uri));
    }
    theirs.headers.get_named(name).map(String::from_utf8_lossy)
}

fn write(ours: &mut Request, name: &str, value: Option<String>) {
    ours.headers.remove_named(name);
    if let Some(value) = value {
        let _ = ours.headers.try_push_named(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rewrite;
    use crate::sip::Method;

    fn rule(name: &str, action: HeaderAction) -> HeaderRule {
        HeaderRule { name: name.into(), action }
    }

    #[test]
    fn rules_write_in_order_and_add_no_line() {
        let mut theirs = Request::new(Method::Invite, "sip:4711@a");
        let _ = theirs.headers.try_push_named("X-In", "site=berlin;floor=3");
        let mut ours = Request::new(Method::Invite, "sip:x@b");
        let _ = ours.headers.try_push_named("X-Twice", "a1");
        let _ = ours.headers.try_push_named("x-twice", "b2");
        let rewrite = |pattern: &str, template: &str| Rewrite::new(pattern, template, false).expect("good");
        let copy = |from: &str, by| HeaderAction::Copy { from: from.into(), by };
        apply(
            &[
                rule("X-Set", HeaderAction::Set("old".into())),
                rule("x-set", HeaderAction::Set("new".into())),
                rule("X-Site", copy("x-in", Some(rewrite("site=(?<s>[a-z]+)", "${s}")))),
                rule("X-None", copy("x-in", Some(rewrite("nothing", "${0}")))),
                rule("X-Uri", copy("Request-URI", None)),
                rule("X-Missing", copy("X-Not-There", None)),
                rule("X-Twice", HeaderAction::Rewrite(rewrite("[0-9]", "<${0}>"))),
                rule("X-Gone", HeaderAction::Set("x".into())),
                rule("X-Gone", HeaderAction::Remove),
                rule("X-Evil", HeaderAction::Set("a\r\nX-Injected: 1".into())),
            ],
            &theirs,
            &mut ours,
        );
        let text = String::from_utf8(ours.to_bytes().to_vec()).expect("text");
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert_eq!(
            lines,
            [
                "INVITE sip:x@b SIP/2.0",
                "x-set: new",
                "X-Site: berlin",
                "X-Uri: sip:4711@a",
                "X-Twice: a<1>",
                "X-Twice: b<2>",
                "Content-Length: 0",
                "",
                ""
            ]
        );
    }
}
