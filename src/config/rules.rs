//! Rules written in the configuration: patterns with named captures, header rules, number translation. Patterns are of
//! the `regex` crate: their time is linear in the text, whatever a peer sends.

use regex::{Regex, RegexBuilder};

/// The longest text a rule reads or writes; longer ones are left alone.
const LONGEST: usize = 2_048;

/// A pattern and what its match becomes.
#[derive(Debug, Clone)]
pub struct Rewrite {
    pattern: Regex,
    template: String,
}

impl PartialEq for Rewrite {
    fn eq(&self, other: &Self) -> bool {
        (self.pattern.as_str(), &self.template) == (other.pattern.as_str(), &other.template)
    }
}

impl Eq for Rewrite {}

impl Rewrite {
    /// A pattern that must match a text as a whole (`whole`) or somewhere; `template` may name its captures as `${name}`
    /// or `${1}`.
    ///
    /// # Errors
    /// Says what is wrong with either.
    pub fn new(pattern: &str, template: &str, whole: bool) -> Result<Self, String> {
        let text = if whole { format!("^(?:{pattern})$") } else { pattern.to_owned() };
        let pattern = RegexBuilder::new(&text).size_limit(1 << 18).build().map_err(|error| {
            let last = error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            format!("is no pattern: {last}")
        })?;
        let known = |name: &str| {
            pattern.capture_names().flatten().any(|known| known == name)
                || name.parse::<usize>().is_ok_and(|number| number < pattern.captures_len())
        };
        let mut rest = template;
        while let Some((_, after)) = rest.split_once('$') {
            let name = after.strip_prefix('{').and_then(|after| after.split_once('}'));
            let Some((name, after)) = name else {
                return Err(format!("{template:?} has a $ that names no capture; write ${{name}}"));
            };
            if !known(name) {
                return Err(format!("{template:?} names a capture that the pattern does not have: {name:?}"));
            }
            rest = after;
        }
        Ok(Self { pattern, template: template.to_owned() })
    }

    /// Whether the pattern matches.
    pub fn matches(&self, text: &str) -> bool {
        text.len() <= LONGEST && self.pattern.is_match(text)
    }

    /// What the match becomes by itself; `None` without a match.
    pub fn expand(&self, text: &str) -> Option<String> {
        let captures = self.pattern.captures(text).filter(|_| text.len() <= LONGEST)?;
        let mut out = String::new();
        captures.expand(&self.template, &mut out);
        (out.len() <= LONGEST).then_some(out)
    }

    /// The text with its first match replaced; `None` without a match.
    pub fn replace(&self, text: &str) -> Option<String> {
        if !self.matches(text) {
            return None;
        }
        let out = self.pattern.replace(text, self.template.as_str()).into_owned();
        (out.len() <= LONGEST).then_some(out)
    }
}

/// `[[trunk.header]]`: what is done to a header of INVITEs that go out on the trunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderRule {
    /// The header that is written.
    pub name: String,
    /// What is done.
    pub action: HeaderAction,
}

/// What a header rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderAction {
    /// Writes this value in place of any.
    Set(String),
    /// Takes every such header away.
    Remove,
    /// Writes the value of a header of the caller's INVITE, or what a pattern makes of it.
    Copy {
        /// The header read; `Request-URI` is read too.
        from: String,
        /// What becomes of its value; without a match nothing is written.
        by: Option<Rewrite>,
    },
    /// Replaces the first match in each value of the header.
    Rewrite(Rewrite),
}

/// What a route makes of a number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers {
    /// `match` and `number`: only numbers that match are taken.
    pub called: Option<Rewrite>,
    /// Characters taken from the front.
    pub strip: usize,
    /// Put before what is left.
    pub add: String,
    /// `caller_match` and `caller_number`: a calling number that matches becomes another.
    pub caller: Option<Rewrite>,
}

impl Numbers {
    /// Whether the route is for this called number.
    pub fn takes(&self, called: &str) -> bool {
        self.called.as_ref().is_none_or(|rewrite| rewrite.matches(called))
    }

    /// The called number as it goes out.
    pub fn called(&self, called: &str) -> String {
        let called = self.called.as_ref().and_then(|rewrite| rewrite.expand(called)).unwrap_or(called.to_owned());
        let rest: String = called.chars().skip(self.strip).collect();
        format!("{}{rest}", self.add)
    }

    /// The calling number as it goes out.
    pub fn caller(&self, caller: &str) -> String {
        self.caller.as_ref().and_then(|rewrite| rewrite.expand(caller)).unwrap_or(caller.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_are_checked_when_the_file_is_read() {
        assert!(Rewrite::new("00(?<rest>[0-9]+)", "+${rest}", true).is_ok());
        assert!(Rewrite::new("(a)", "${1}", false).is_ok());
        for (pattern, template, says) in [
            ("(", "", "is no pattern"),
            ("a", "${b}", "does not have: \"b\""),
            ("a", "${1}", "does not have: \"1\""),
            ("a", "$1", "names no capture"),
            ("a{1000}{1000}", "", "is no pattern"),
        ] {
            let error = Rewrite::new(pattern, template, true).expect_err(pattern);
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn numbers_are_rewritten_stripped_and_prefixed() {
        let called = Rewrite::new("00(?<rest>[0-9]+)", "+${rest}", true).ok();
        let caller = Rewrite::new(r"\+49(?<n>.*)", "0${n}", true).ok();
        let numbers = Numbers { called, caller, ..Numbers::default() };
        assert!(numbers.takes("004930") && !numbers.takes("x004930") && !numbers.takes("+4930"));
        assert_eq!((numbers.called("004930").as_str(), numbers.caller("+4930").as_str()), ("+4930", "030"));
        assert_eq!(numbers.caller("1001"), "1001");
        let numbers = Numbers { strip: 2, add: "+".into(), ..Numbers::default() };
        assert_eq!((numbers.called("0049"), numbers.called("1")), ("+49".to_owned(), "+".to_owned()));
    }

    #[test]
    fn long_texts_are_left_alone() {
        let rewrite = Rewrite::new("a+", "${0}${0}", false).expect("good");
        assert_eq!(rewrite.replace("xaay").as_deref(), Some("xaaaay"));
        assert_eq!(rewrite.replace(&"a".repeat(LONGEST + 1)), None);
        assert_eq!(rewrite.replace(&"a".repeat(LONGEST)), None);
        assert_eq!(rewrite.expand(&"a".repeat(LONGEST)), None);
    }
}
