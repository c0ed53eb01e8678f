//! `a=ptime` (RFC 8866 section 6.4): the packet time its writer likes to receive.

/// Shortest packet time handled, in ms.
pub const MIN_MS: u8 = 10;
/// Longest packet time handled, in ms.
pub const MAX_MS: u8 = 60;

/// Reads the value after `ptime:` in ms, drawn into 10–60; `None` when it is no number. Fractions (RFC 4566 allowed
/// them nowhere, yet they are seen) are cut off.
pub fn parse(value: &str) -> Option<u8> {
    let whole = value.split('.').next()?.trim();
    let ms: u32 = whole.parse().ok()?;
    Some(ms.clamp(MIN_MS.into(), MAX_MS.into()) as u8)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn odd_packet_times_are_drawn_in() {
        for (text, ms) in
            [("20", Some(20)), ("5", Some(10)), ("0", Some(10)), ("240", Some(60)), ("20.5", Some(20)), ("x", None)]
        {
            assert_eq!(parse(text), ms, "{text}");
        }
    }
}
