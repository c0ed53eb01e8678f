//! `a=setup` (RFC 4145, RFC 5763): which end begins the DTLS handshake.

use std::fmt;

/// A readable `a=setup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// The writer begins.
    Active,
    /// The writer waits.
    Passive,
    /// Either; the answer says which.
    ActPass,
}

impl Setup {
    /// Reads the value after `setup:`. `holdconn` is not read: there is nothing to hold.
    pub fn parse(value: &str) -> Option<Self> {
        let all = [("active", Setup::Active), ("passive", Setup::Passive), ("actpass", Setup::ActPass)];
        all.into_iter().find(|(word, _)| value.eq_ignore_ascii_case(word)).map(|(_, setup)| setup)
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Setup::Active => "setup:active",
            Setup::Passive => "setup:passive",
            Setup::ActPass => "setup:actpass",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_and_printed() {
        for (text, setup) in [
            ("active", Some(Setup::Active)),
            ("Passive", Some(Setup::Passive)),
            ("actpass", Some(Setup::ActPass)),
            ("holdconn", None),
            ("", None),
        ] {
            assert_eq!(Setup::parse(text), setup);
        }
        assert_eq!(Setup::ActPass.to_string(), "setup:actpass");
    }
}
