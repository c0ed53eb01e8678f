//! One step of a connector as a request, and what its answer means by the connector's rules. Pure: no socket, no clock.

use hmac::{KeyInit, Mac};
use sha2::{Sha256, Sha512};
use zeroize::Zeroizing;

use super::render::{self, Context, Escape, Missing, Signing};
use super::{Fields, Token, json};
use crate::base::locked::Locked;
use crate::config::{Auth, Condition, Hash, Method, Part, Rule, Step, Then};

/// A request to a provider. Its headers and body are secret; it prints neither.
pub struct Request {
    /// Names it in the reply.
    pub id: u64,
    /// Index of the connector.
    pub connector: usize,
    /// Method.
    pub method: Method,
    /// TLS.
    pub https: bool,
    /// Host, with the port where it is not the usual one.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Headers, without those of the transport.
    pub headers: Vec<(String, Locked)>,
    /// Body; may be empty.
    pub body: Locked,
    /// How long the whole answer may take.
    pub timeout: std::time::Duration,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("id", &self.id).field("host", &self.host).finish_non_exhaustive()
    }
}

/// What came of a request.
#[derive(Debug)]
pub enum Reply {
    /// A whole answer.
    Answer {
        /// Status.
        status: u16,
        /// Body.
        body: Locked,
        /// How long the provider wants to be left alone.
        retry_after: Option<std::time::Duration>,
    },
    /// Nothing was sent: no address, no connection, no trust.
    NotSent,
    /// It may have been sent, and there is no whole answer.
    Lost,
}

/// Why a request cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BuildError {
    /// A value is not there.
    Missing,
    /// An address that is none, or whose host is not among the connector's.
    Address,
}

impl From<Missing> for BuildError {
    fn from(_: Missing) -> Self {
        BuildError::Missing
    }
}

/// Makes the request of a step.
pub(super) fn build(
    step: &Step,
    context: &Context<'_>,
    (id, connector): (u64, usize),
    timeout: std::time::Duration,
) -> Result<Request, BuildError> {
    let (https, host, path) = address(step, context)?;
    let mut body = Locked::default();
    let content_type = render::body(&step.body, context, &mut body)?;
    let mut headers: Vec<(String, Locked)> = Vec::new();
    for (name, template) in &step.headers {
        let mut value = Locked::default();
        if render::write(template, context, Escape::Header, &mut value)? {
            headers.push((name.clone(), value));
        }
    }
    let has =
        |headers: &[(String, Locked)], name: &str| headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    if let Some(content_type) = content_type.filter(|_| !has(&headers, "content-type")) {
        headers.push(("Content-Type".into(), plain(content_type)));
    }
    if !has(&headers, "accept") {
        headers.push(("Accept".into(), plain("application/json")));
    }
    if let Some(header) = auth(context, step.method, &path, body.expose())? {
        headers.push(header);
    }
    Ok(Request { id, connector, method: step.method, https, host, path, headers, body, timeout })
}

fn plain(text: &str) -> Locked {
    let mut bytes = Locked::default();
    bytes.extend(text.as_bytes());
    bytes
}

fn address(step: &Step, context: &Context<'_>) -> Result<(bool, String, String), BuildError> {
    let mut bytes = Locked::default();
    let first = step.url.parts.first();
    let given = matches!(first, Some(Part::Value(_)));
    if matches!(first, Some(Part::Text(text)) if text.starts_with('/')) {
        bytes.extend(context.connector.url.as_deref().ok_or(BuildError::Address)?.as_bytes());
    }
    // An address that an earlier answer gave is taken as a whole.
    let escape = if given { Escape::None } else { Escape::Percent };
    if !render::write(&step.url, context, escape, &mut bytes)? {
        return Err(BuildError::Missing);
    }
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| BuildError::Address)?;
    if !text.bytes().all(|byte| (0x21..0x7F).contains(&byte)) {
        return Err(BuildError::Address);
    }
    let (scheme, rest) = text.split_once("://").ok_or(BuildError::Address)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = rest[..end].to_ascii_lowercase();
    let path = rest[end..].split('#').next().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let https = match scheme {
        "https" => true,
        // The reader lets http through for this same machine only, and such a host is then among the hosts.
        "http" => context
            .connector
            .url
            .as_deref()
            .is_some_and(|url| url.starts_with("http://"))
            .then_some(false)
            .ok_or(BuildError::Address)?,
        _ => return Err(BuildError::Address),
    };
    if !context.connector.hosts.contains(&host) {
        return Err(BuildError::Address);
    }
    Ok((https, host, path))
}

fn auth(
    context: &Context<'_>,
    method: Method,
    path: &str,
    body: &[u8],
) -> Result<Option<(String, Locked)>, BuildError> {
    let secret =
        |name: &str| context.connector.secrets.get(name).map(|secret| secret.expose()).ok_or(BuildError::Missing);
    let mut value = Locked::default();
    match &context.connector.auth {
        Auth::None => return Ok(None),
        Auth::Bearer { secret: name } => {
            value.extend(b"Bearer ");
            value.extend(secret(name)?.as_bytes());
        }
        Auth::Basic { user, secret: name } => {
            let mut pair = Locked::default();
            render::write(user, context, Escape::None, &mut pair)?;
            pair.push(b':');
            pair.extend(secret(name)?.as_bytes());
            value.extend(b"Basic ");
            base64_into(pair.expose(), &mut value);
        }
        Auth::Hmac(hmac) => {
            let key = secret(&hmac.secret)?.as_bytes();
            let signing = Signing { method: method.name(), path, body, signature: "" };
            let mut signed = Locked::default();
            let context = Context { signing: Some(signing), ..copy(context) };
            render::write(&hmac.sign, &context, Escape::None, &mut signed)?;
            let mut mac = Locked::default();
            match hmac.hash {
                Hash::Sha256 => mac.extend(&keyed::<hmac::Hmac<Sha256>>(key, signed.expose())),
                Hash::Sha512 => mac.extend(&keyed::<hmac::Hmac<Sha512>>(key, signed.expose())),
            }
            let mut text = Locked::default();
            if hmac.base64 {
                base64_into(mac.expose(), &mut text);
            } else {
                text.extend(hex::encode(mac.expose()).as_bytes());
            }
            let signature = std::str::from_utf8(text.expose()).map_err(|_| BuildError::Missing)?;
            let context = Context { signing: Some(Signing { signature, ..signing }), ..copy(&context) };
            render::write(&hmac.value, &context, Escape::Header, &mut value)?;
            return Ok(Some((hmac.header.clone(), value)));
        }
    }
    Ok(Some(("Authorization".into(), value)))
}

fn copy<'a>(context: &Context<'a>) -> Context<'a> {
    Context { ..*context }
}

fn keyed<M: Mac + KeyInit>(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    // A keyed hash takes keys of any length.
    let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) else { return Vec::new() };
    mac.update(bytes);
    mac.finalize().into_bytes().to_vec()
}

fn base64_into(bytes: &[u8], out: &mut Locked) {
    use base64::Engine;
    let text = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(bytes));
    out.extend(text.as_bytes());
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) then: Then,
    pub(super) token: Option<Token>,
    pub(super) reference: Option<String>,
    pub(super) code: Option<String>,
    pub(super) values: Vec<(String, String)>,
}

/// Reads an answer by a step's rules; `None` when none fits, or when the answer repeats what the customer keyed where a
/// value is wanted: that must go nowhere.
pub(super) fn read(step: &Step, status: u16, body: &[u8], fields: Option<&Fields>) -> Option<Meaning> {
    let rule = step.answers.iter().find(|rule| fits(rule, status, body))?;
    let wanted = |pointer: &str, most: usize| {
        let text = json::text(body, pointer)?;
        let fine = (1..=most).contains(&text.len()) && !text.chars().any(char::is_control);
        (fine && !repeats_card(&text, fields)).then_some(text)
    };
    let token = rule.token.as_deref().and_then(|pointer| wanted(pointer, 512)).map(|text| Token::new(text.to_string()));
    let reference = rule.reference.as_deref().and_then(|pointer| wanted(pointer, 255)).map(|text| text.to_string());
    let code = rule.code.as_deref().and_then(|code| match code.starts_with('/') {
        true => json::text(body, code).map(|text| plain_code(&text)),
        false => Some(code.to_owned()),
    });
    let mut values = Vec::new();
    for (name, pointer) in &rule.values {
        values.push((name.clone(), wanted(pointer, 2_048)?.to_string()));
    }
    Some(Meaning { then: rule.then, token, reference, code, values })
}

fn fits(rule: &Rule, status: u16, body: &[u8]) -> bool {
    let in_range = rule.status.is_empty() || rule.status.iter().any(|(first, last)| (*first..=*last).contains(&status));
    in_range && rule.when.iter().all(|condition| holds(condition, body))
}

fn holds(condition: &Condition, body: &[u8]) -> bool {
    let is_so = if condition.words.is_empty() {
        json::is_there(body, &condition.pointer)
    } else {
        json::text(body, &condition.pointer).is_some_and(|text| condition.words.contains(&text))
    };
    is_so != condition.not
}

/// A reason in a form that may be shown and logged: a short word, in which no card number hides.
fn plain_code(text: &str) -> String {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let word: String = text.chars().take(64).map(|c| if fine(c) { c } else { '_' }).collect();
    let longest = word.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0);
    if word.is_empty() || longest > 6 { "declined".to_owned() } else { word }
}

/// Whether a text holds the card or account number that was sent.
fn repeats_card(text: &str, fields: Option<&Fields>) -> bool {
    let Some(fields) = fields else { return false };
    [&fields.card, &fields.bank_account].into_iter().flatten().any(|digits| {
        let keyed = digits.expose();
        !keyed.is_empty() && text.as_bytes().windows(keyed.len()).any(|window| window == keyed)
    })
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
