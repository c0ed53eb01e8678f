//! `a=maxptime` (RFC 8866 section 6.5): the longest packet its writer can receive.

/// Reads the value after `maxptime:` in ms, drawn into 10–60; `None` when it is no number.
pub fn parse(value: &str) -> Option<u8> {
    super::ptime::parse(value)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_long_limit_is_drawn_in() {
        assert_eq!(super::parse("150"), Some(60));
        assert_eq!(super::parse(""), None);
    }
}
