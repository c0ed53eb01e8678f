//! From templates to bytes: values are looked up, filtered and escaped for the place they stand in, straight into locked
//! memory. What is missing and not optional is an error that names the value, never its content.

use std::collections::BTreeMap;

use super::{Fields, IdempotencyKey, Operation};
use crate::base::ids::PaymentId;
use crate::base::locked::Locked;
use crate::base::payment::Brand;
use crate::base::secret::Digits;
use crate::base::time::WallMs;
use crate::config::{Body, Connector, Filter, JsonTemplate, Part, Source, Template, TemplateValue};

/// What values are taken from.
pub(super) struct Context<'a> {
    pub(super) connector: &'a Connector,
    pub(super) payment: PaymentId,
    pub(super) attempt: u32,
    pub(super) operation: &'a Operation,
    /// What the customer keyed; gone once the charge is out of our hands.
    pub(super) fields: Option<&'a Fields>,
    pub(super) brand: Option<Brand>,
    pub(super) description: Option<&'a str>,
    pub(super) parameters: Option<&'a BTreeMap<String, String>>,
    pub(super) reference: Option<&'a str>,
    pub(super) values: &'a BTreeMap<String, String>,
    pub(super) wall: WallMs,
    /// What a signature is made over.
    pub(super) signing: Option<Signing<'a>>,
}

/// The request that is signed.
#[derive(Clone, Copy)]
pub(super) struct Signing<'a> {
    pub(super) method: &'static str,
    pub(super) path: &'a str,
    pub(super) body: &'a [u8],
    pub(super) signature: &'a str,
}

/// A value that a template needs is not there, or not of the form it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing;

/// What characters become in the place they stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    /// As they are.
    None,
    /// Printable ASCII; the rest is `?`.
    Header,
    /// Percent-encoded (RFC 3986), for addresses and forms.
    Percent,
    /// As in a JSON string.
    Json,
}

/// Writes a template; `false` when an optional value is not there, and then nothing is written.
pub(super) fn write(
    template: &Template,
    context: &Context<'_>,
    escape: Escape,
    out: &mut Locked,
) -> Result<bool, Missing> {
    let start = out.len();
    for part in &template.parts {
        match part {
            Part::Text(text) if escape == Escape::Json => escaped(text.as_bytes(), Escape::Json, out),
            Part::Text(text) => out.extend(text.as_bytes()),
            Part::Value(value) => match evaluate(value, context)? {
                Some(bytes) => escaped(bytes.expose(), escape, out),
                None => {
                    out.truncate(start);
                    return Ok(false);
                }
            },
        }
    }
    Ok(true)
}

/// Writes a body; its content type comes with it.
pub(super) fn body(body: &Body, context: &Context<'_>, out: &mut Locked) -> Result<Option<&'static str>, Missing> {
    match body {
        Body::None => Ok(None),
        Body::Form(members) => {
            for (name, template) in members {
                let start = out.len();
                if start > 0 {
                    out.push(b'&');
                }
                escaped(name.as_bytes(), Escape::Percent, out);
                out.push(b'=');
                let value = out.len();
                let mut text = Locked::default();
                // Literals of a form's member are escaped too.
                if write(template, context, Escape::None, &mut text)? {
                    debug_assert_eq!(out.len(), value);
                    escaped(text.expose(), Escape::Percent, out);
                } else {
                    out.truncate(start);
                }
            }
            Ok(Some("application/x-www-form-urlencoded"))
        }
        Body::Json(template) => {
            json(template, context, out)?;
            Ok(Some("application/json"))
        }
    }
}

/// `false` when nothing was written, because what it holds was left out.
fn json(template: &JsonTemplate, context: &Context<'_>, out: &mut Locked) -> Result<bool, Missing> {
    match template {
        JsonTemplate::Literal(text) => out.extend(text.as_bytes()),
        JsonTemplate::Text(template) => {
            let start = out.len();
            let number = template.single().is_some_and(|value| value.filters.contains(&Filter::Number));
            if number {
                return write(template, context, Escape::None, out);
            }
            out.push(b'"');
            if !write(template, context, Escape::Json, out)? {
                out.truncate(start);
                return Ok(false);
            }
            out.push(b'"');
        }
        JsonTemplate::Array(items) => {
            out.push(b'[');
            let mut first = true;
            for item in items {
                let start = out.len();
                if !first {
                    out.push(b',');
                }
                if json(item, context, out)? {
                    first = false;
                } else {
                    out.truncate(start);
                }
            }
            out.push(b']');
        }
        JsonTemplate::Object(members) => {
            let start = out.len();
            out.push(b'{');
            let mut first = true;
            for (name, member) in members {
                let before = out.len();
                if !first {
                    out.push(b',');
                }
                out.push(b'"');
                escaped(name.as_bytes(), Escape::Json, out);
                out.extend(b"\":");
                if json(member, context, out)? {
                    first = false;
                } else {
                    out.truncate(before);
                }
            }
            if first && !members.is_empty() {
                out.truncate(start);
                return Ok(false);
            }
            out.push(b'}');
        }
    }
    Ok(true)
}

/// Appends bytes, escaped for their place.
fn escaped(bytes: &[u8], escape: Escape, out: &mut Locked) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        match escape {
            Escape::None => out.push(*byte),
            Escape::Header => out.push(if (0x20..0x7F).contains(byte) { *byte } else { b'?' }),
            Escape::Percent => {
                if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
                    out.push(*byte);
                } else {
                    out.extend(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
                }
            }
            Escape::Json => match byte {
                b'"' => out.extend(b"\\\""),
                b'\\' => out.extend(b"\\\\"),
                0..0x20 => {
                    out.extend(&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]])
                }
                _ => out.push(*byte),
            },
        }
    }
}

/// The value, filtered; `None` when it is optional and not there.
fn evaluate(value: &TemplateValue, context: &Context<'_>) -> Result<Option<Locked>, Missing> {
    let absent = || if value.optional { Ok(None) } else { Err(Missing) };
    let mut bytes = Locked::default();
    if !look_up(&value.source, context, &mut bytes) || bytes.is_empty() {
        return absent();
    }
    for filter in &value.filters {
        match filter {
            Filter::Lower => bytes.expose_mut().make_ascii_lowercase(),
            Filter::Upper => bytes.expose_mut().make_ascii_uppercase(),
            Filter::First(count) => {
                let end = match std::str::from_utf8(bytes.expose()) {
                    Ok(text) => text.char_indices().nth(*count).map_or(text.len(), |(at, _)| at),
                    Err(_) => (*count).min(bytes.len()),
                };
                bytes.truncate(end);
            }
            Filter::Number => {
                let digits = bytes.expose();
                let fine = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
                if !digits.iter().all(fine) || digits.iter().filter(|byte| **byte == b'.').count() > 1 {
                    return Err(Missing);
                }
                // JSON allows no zeros in front.
                let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
                let keep_one = digits.get(zeros).is_none_or(|byte| *byte == b'.');
                let from = if keep_one { zeros.saturating_sub(1) } else { zeros };
                let mut plain = Locked::default();
                plain.extend(&digits[from..]);
                bytes = plain;
            }
            Filter::Map(pairs) => {
                let found = pairs.iter().find(|(from, _)| from.as_bytes() == bytes.expose() || from == "*");
                let Some((_, to)) = found else { return absent() };
                bytes = Locked::default();
                bytes.extend(to.as_bytes());
            }
        }
    }
    Ok(Some(bytes))
}

/// Appends the value; `false` when it is not there.
fn look_up(source: &Source, context: &Context<'_>, out: &mut Locked) -> bool {
    let text = |text: Option<&str>, out: &mut Locked| text.map(|text| out.extend(text.as_bytes())).is_some();
    let keyed = |of: fn(&Fields) -> &Option<Digits>| context.fields.and_then(|fields| of(fields).as_ref());
    let all = |digits: Option<&Digits>, out: &mut Locked| digits.map(|digits| out.extend(digits.expose())).is_some();
    let expiry = |from: usize, before: &[u8], out: &mut Locked| {
        let Some(part) = keyed(|fields| &fields.expiry).and_then(|digits| digits.expose().get(from..from + 2)) else {
            return false;
        };
        out.extend(before);
        out.extend(part);
        true
    };
    let amount = match context.operation {
        Operation::Charge { amount_minor, currency } => Some((*amount_minor, currency.as_str())),
        Operation::Token => None,
    };
    match source {
        Source::CardNumber => all(keyed(|fields| &fields.card), out),
        Source::SecurityCode => all(keyed(|fields| &fields.security_code), out),
        Source::PostalCode => all(keyed(|fields| &fields.postal_code), out),
        Source::BankAccount => all(keyed(|fields| &fields.bank_account), out),
        Source::BankRouting => all(keyed(|fields| &fields.bank_routing), out),
        Source::CardMonth => expiry(0, b"", out),
        Source::CardYear => expiry(2, b"20", out),
        Source::CardYear2 => expiry(2, b"", out),
        Source::Brand => text(context.brand.map(Brand::name), out),
        Source::AmountMinor => text(amount.map(|(minor, _)| minor.to_string()).as_deref(), out),
        Source::AmountMajor => text(amount.map(|(minor, currency)| major(minor, currency)).as_deref(), out),
        Source::Currency => text(amount.map(|(_, currency)| currency), out),
        Source::Description => text(context.description, out),
        Source::Payment => text(Some(&context.payment.to_string()), out),
        Source::Idempotency => text(Some(IdempotencyKey::new(context.payment, context.attempt).as_str()), out),
        Source::Reference => text(context.reference, out),
        Source::Time => text(Some(&(context.wall.0 / 1000).to_string()), out),
        Source::Secret(name) => text(context.connector.secrets.get(name).map(|secret| secret.expose()), out),
        Source::Variable(name) => text(context.connector.variables.get(name).map(String::as_str), out),
        Source::Parameter(name) => {
            text(context.parameters.and_then(|parameters| parameters.get(name)).map(String::as_str), out)
        }
        Source::Mapped(name) => text(context.values.get(name).map(String::as_str), out),
        Source::Method => text(context.signing.map(|signing| signing.method), out),
        Source::Path => text(context.signing.map(|signing| signing.path), out),
        Source::Signature => text(context.signing.map(|signing| signing.signature), out),
        Source::Body => {
            if let Some(signing) = context.signing {
                out.extend(signing.body);
            }
            // An empty body is signed as such.
            true
        }
    }
}

/// Decimals of a currency's smallest unit (ISO 4217); two where the list has nothing else.
fn decimals(currency: &str) -> u32 {
    const NONE: &[&str] = &[
        "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF",
        "XPF",
    ];
    const THREE: &[&str] = &["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"];
    match currency {
        _ if NONE.contains(&currency) => 0,
        _ if THREE.contains(&currency) => 3,
        _ => 2,
    }
}

/// An amount with its decimals.
fn major(minor: u64, currency: &str) -> String {
    let decimals = decimals(currency);
    if decimals == 0 {
        return minor.to_string();
    }
    let unit = 10u64.pow(decimals);
    format!("{}.{:0width$}", minor / unit, minor % unit, width = decimals as usize)
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
