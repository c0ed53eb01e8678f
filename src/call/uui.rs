//! The forms in which a `User-to-User` value (RFC 7433) may be asked for. PBXs write one identity in several ways: as hex, as
//! text, as a universal call id (UCID) inside of a hex block, in hex or as twenty decimal digits. A header's value goes in;
//! the texts that name it come out. What cannot be read is named by itself.
//!
//! ```text
//!   00 FA 08 0001 02 8B 4F88FB51 ;encoding=hex;purpose=isdn-uui
//!   │  │  │  └──────────────────── UCID: node (2 bytes), sequence (2), time (4); in digits 00001 00651 1334377297
//!   │  │  └ length
//!   │  └ kind of field: FA is the UCID
//!   └ protocol discriminator (Q.931 section 4.5.30), may be missing
//! ```

/// The longest value that is read; a longer one names nothing.
const LONGEST: usize = 512;

/// The kind of field that holds a UCID, and how long one is.
const UCID: (u8, usize) = (0xFA, 8);

/// Every text that names `value`: first the data as it stands, without parameters.
pub(super) fn forms(value: &str) -> Vec<String> {
    let Some(data) = data_of(value) else { return Vec::new() };
    let mut forms = vec![plain(&data)];
    let Some(bytes) = hex::decode(&data).ok().filter(|bytes| bytes.len() > 1) else { return forms };
    let without = if bytes[0] < 0x20 { &bytes[1..] } else { &bytes[..] };
    if without.iter().all(|b| b.is_ascii_graphic() || *b == b' ') {
        forms.push(plain(&String::from_utf8_lossy(without)));
    }
    if let Some(ucid) = ucid_of(without) {
        forms.push(hex::encode(ucid));
        let [a, b, c, d, e, f, g, h] = ucid;
        let (node, sequence) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        forms.push(format!("{node:05}{sequence:05}{:010}", u32::from_be_bytes([e, f, g, h])));
    }
    forms
}

/// What is asked for, in the form that [`forms`] gives: without parameters and quotes, hex in small letters.
pub(super) fn asked(text: &str) -> String {
    data_of(text).map(|data| plain(&data)).unwrap_or_default()
}

/// The data of a header's value, without parameters and quotes.
fn data_of(value: &str) -> Option<String> {
    let value = value.trim();
    if value.is_empty() || value.len() > LONGEST {
        return None;
    }
    let Some(quoted) = value.strip_prefix('"') else {
        let data = value.split(';').next().unwrap_or_default().trim();
        return (!data.is_empty()).then(|| super::crossing::shown(data)).filter(|shown| shown.len() == data.len());
    };
    let mut data = String::new();
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => return (!data.is_empty()).then_some(data),
            '\\' => data.extend(letters.next()),
            letter if letter.is_control() => return None,
            letter => data.push(letter),
        }
    }
    None
}

/// Hex is the same in capital letters.
fn plain(data: &str) -> String {
    if data.bytes().all(|b| b.is_ascii_hexdigit()) { data.to_ascii_lowercase() } else { data.to_owned() }
}

/// The UCID among the fields of a block: kind, length, content, and so on.
fn ucid_of(mut block: &[u8]) -> Option<[u8; UCID.1]> {
    while let [kind, length, rest @ ..] = block {
        let (content, after) = rest.split_at_checked(usize::from(*length))?;
        if *kind == UCID.0 {
            return content.try_into().ok();
        }
        block = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ucid_is_named_by_its_block_its_hex_and_its_digits() {
        let known = ["00fa080001028b4f88fb51", "0001028b4f88fb51", "00001006511334377297"];
        assert_eq!(forms("00FA080001028B4F88FB51;encoding=hex"), known);
        assert_eq!(forms("\"00FA080001028B4F88FB51\";encoding=hex;purpose=isdn-uui"), known);
        // Behind another field, and without a discriminator.
        assert_eq!(forms("04C8020102FA080001028B4F88FB51")[1..], known[1..]);
        assert_eq!(forms("FA080001028B4F88FB51")[1..], known[1..]);
        for form in ["00FA080001028B4F88FB51;encoding=hex", "0001028B4F88FB51", " 00001006511334377297 "] {
            assert!(known.contains(&asked(form).as_str()), "{form}");
        }
    }

    #[test]
    fn text_is_named_by_itself_and_by_its_hex() {
        assert_eq!(forms("\"order 17; \\\"x\\\"\";encoding=ascii"), ["order 17; \"x\""]);
        assert_eq!(forms("3132333435;encoding=hex"), ["3132333435", "12345"]);
        assert_eq!(forms("046f72642d31"), ["046f72642d31", "ord-1"]);
        assert_eq!(asked("ord-1"), "ord-1");
    }

    #[test]
    fn what_is_broken_names_nothing_or_itself() {
        for nothing in ["", "  ", ";encoding=hex", "\"open", "\"\"", "a\u{7}b", &"a".repeat(LONGEST + 1)] {
            assert_eq!(forms(nothing), Vec::<String>::new(), "{nothing:?}");
        }
        for (text, by) in [("00FA0800", 1), ("FA", 1), ("0", 1), ("00FAFF00", 1), ("zz", 1), ("FA020102", 1)] {
            assert_eq!(forms(text).len(), by, "{text}");
        }
    }
}
