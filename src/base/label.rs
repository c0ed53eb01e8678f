//! What may be a label of a recording: a name and a value that a person, a CRM or the configuration gives it.

/// Most labels of one recording.
pub const MOST_LABELS: usize = 64;

/// A label's key: 1 to 64 letters, digits, `.`, `_` or `-`.
pub fn is_label_key(key: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=64).contains(&key.len()) && key.bytes().all(fine)
}

/// A label's value: up to 256 characters, none of them a control character; no more than eleven digits in a row, so that a
/// card number cannot be kept as one.
pub fn is_label_value(value: &str) -> bool {
    let mut run = 0;
    let mut fine = value.chars().count() <= 256;
    for c in value.chars() {
        run = match c {
            '0'..='9' => run + 1,
            // Cards are written in groups.
            ' ' | '-' | '.' => run,
            _ => 0,
        };
        fine &= !c.is_control() && run <= 11;
    }
    fine
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short_plain_and_no_card() {
        assert!(is_label_key("crm.case-7_a") && !is_label_key("") && !is_label_key("a b") && !is_label_key("a=b"));
        assert!(is_label_value("Zoë, case 12345678901") && is_label_value(""));
        for bad in ["4111111111111111", "4111 1111 1111 1111", "a\nb"] {
            assert!(!is_label_value(bad), "{bad}");
        }
    }
}
