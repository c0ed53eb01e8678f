//! `[[connector.step]]` and `[[connector.step.answer]]`: one request of a connector, and what its answers mean.

use super::connector_check::{self, literal_secret};
use super::tree::{Table, Value};
use super::value;
use crate::base::payment::{Field, FieldError};
use crate::config::template::{JsonTemplate, Template};
use crate::config::{Body, Condition, Method, Purpose, Rule, Step, Then};

pub(super) const STEP_KEYS: &[&str] =
    &["of", "name", "method", "url", "headers", "form", "json", "commits", "repeats", "answer"];
pub(super) const ANSWER_KEYS: &[&str] =
    &["status", "when", "outcome", "field", "error", "token", "reference", "code", "values"];

/// The steps of a connector; `None` where one is wrong.
pub(super) fn read(connector: &Table<'_>) -> Option<Vec<(Purpose, Step)>> {
    let tables = connector.children("step", "connector[].step[]");
    let steps: Vec<_> = tables.iter().map(one).collect();
    steps.into_iter().collect()
}

fn one(table: &Table<'_>) -> Option<(Purpose, Step)> {
    let purposes =
        [("charge", Purpose::Charge), ("token", Purpose::Token), ("query", Purpose::Query), ("void", Purpose::Void)];
    let methods = [("GET", Method::Get), ("POST", Method::Post), ("PUT", Method::Put), ("DELETE", Method::Delete)];
    let purpose = table.require("of", "\"charge\"").and_then(|v| v.one_of(&purposes));
    let name = table.require("name", "\"authorise\"").and_then(|v| v.parsed(value::name));
    let method = table.get("method").map_or(Some(Method::Post), |v| v.one_of(&methods));
    let url = table.require("url", "\"/v1/payments\"").and_then(|v| v.parsed(url));
    let headers = table.get("headers").map_or(Some(Vec::new()), |v| v.each(|item| item.parsed(header)));
    let body = body(table);
    let flag = |key| table.get(key).map_or(Some(false), |v| v.boolean());
    let (commits, repeats) = (flag("commits"), flag("repeats"));
    let tables = table.children("answer", "connector[].step[].answer[]");
    let answers: Vec<_> = tables.iter().map(rule).collect();
    if tables.is_empty() && !table.has("answer") {
        table.fault("answer", "no [[connector.step.answer]] says what its answers mean");
    }
    if method == Some(Method::Get) && !matches!(body, Some(Body::None)) {
        table.fault("method", "a GET has no body");
    }
    let step = Step {
        name: name?,
        method: method?,
        url: url?,
        headers: headers?,
        body: body?,
        commits: commits?,
        repeats: repeats?,
        answers: answers.into_iter().collect::<Option<_>>()?,
    };
    Some((purpose?, step))
}

fn url(text: &str) -> Result<Template, String> {
    let template = Template::parse(text)?;
    let fixed = text.split("${").next().unwrap_or_default();
    let whole = fixed.starts_with('/') || text.starts_with("${value.");
    if !whole {
        let host = super::connector::host_of(fixed)
            .filter(|_| fixed.split_once("://").is_some_and(|(_, rest)| rest.contains('/')))
            .ok_or_else(|| {
                format!("{text:?} is no path (\"/v1/payments\") and no address whose host is written out")
            })?;
        connector_check::scheme(fixed, &host)?;
    }
    template_of(
        template,
        |source| !source.is_keyed() && !matches!(source, crate::config::Source::Secret(_)),
        || "what the customer keys, and secrets, do not go into addresses, which proxies log".to_owned(),
    )
}

fn header(text: &str) -> Result<(String, Template), String> {
    let (name, text) = text.split_once(':').ok_or("is not of the form \"Name: value\"")?;
    let name = value::header(name.trim())?;
    let own = ["content-length", "transfer-encoding", "connection", "host", "expect", "upgrade", "trailer"];
    if own.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(format!("{name} is written by Tonewall"));
    }
    let text = text.trim();
    if text.chars().any(char::is_control) || !text.is_ascii() {
        return Err(format!("the value of {name} is not printable ASCII"));
    }
    let template = Template::parse(text)?;
    if connector_check::is_credential(&name) && !text.contains("${") || literal_secret(text) {
        return Err(format!("{name}: {}", connector_check::NO_SECRET));
    }
    let template = template_of(
        template,
        |source| !source.is_keyed(),
        || "what the customer keys does not go into headers, which proxies log".to_owned(),
    )?;
    Ok((name, template))
}

fn template_of(
    template: Template,
    fine: impl Fn(&crate::config::Source) -> bool,
    why: impl Fn() -> String,
) -> Result<Template, String> {
    if template.values().any(|value| value.source.is_of_signing()) {
        return Err("method, path, body and signature are values of [connector.auth] only".to_owned());
    }
    if template.values().all(|value| fine(&value.source)) { Ok(template) } else { Err(why()) }
}

fn body(table: &Table<'_>) -> Option<Body> {
    match (table.get("form"), table.get("json")) {
        (None, None) => Some(Body::None),
        (Some(_), Some(_)) => {
            table.fault("json", "form and json are given; only one can hold");
            None
        }
        (Some(v), None) => v.each(|item| item.parsed(member)).map(Body::Form),
        (None, Some(v)) => v
            .parsed(|text| {
                let json = JsonTemplate::parse(text)?;
                for template in json.templates() {
                    template_of(template.clone(), |_| true, String::new)?;
                }
                if literal_secret(text) { Err(connector_check::NO_SECRET.to_owned()) } else { Ok(json) }
            })
            .map(Body::Json),
    }
}

fn member(text: &str) -> Result<(String, Template), String> {
    let (name, value) = text.split_once('=').ok_or("is not of the form \"name=value\"")?;
    if name.is_empty() || name.contains("${") {
        return Err(format!("{name:?} is no name of a form's member"));
    }
    if literal_secret(value) {
        return Err(connector_check::NO_SECRET.to_owned());
    }
    Ok((name.trim().to_owned(), template_of(Template::parse(value.trim())?, |_| true, String::new)?))
}

fn rule(table: &Table<'_>) -> Option<Rule> {
    let status = table.get("status").map_or(Some(Vec::new()), |v| {
        let items = v.one_or_more()?;
        let read: Vec<_> = items.iter().filter_map(status).collect();
        (read.len() == items.len()).then_some(read)
    });
    let when = table.get("when").map_or(Some(Vec::new()), |v| {
        let items = v.one_or_more()?;
        let read: Vec<_> = items.iter().filter_map(|item| item.parsed(condition)).collect();
        (read.len() == items.len()).then_some(read)
    });
    let at = |key| match table.get(key) {
        Some(v) => v.parsed(pointer).map(Some),
        None => Some(None),
    };
    let (token, reference) = (at("token"), at("reference"));
    let code = match table.get("code") {
        Some(v) => v.parsed(|text| if text.starts_with('/') { pointer(text) } else { value::name(text) }).map(Some),
        None => Some(None),
    };
    let values = table.get("values").map_or(Some(Vec::new()), |v| v.each(|item| item.parsed(mapped)));
    let then = then(table);
    Some(Rule {
        status: status?,
        when: when?,
        then: then?,
        token: token?,
        reference: reference?,
        code: code?,
        values: values?,
    })
}

/// What the outcomes are called.
#[derive(Clone, Copy)]
enum Word {
    Plain(Then),
    ReEnter,
}

fn then(table: &Table<'_>) -> Option<Then> {
    let words = [
        ("next", Word::Plain(Then::Next)),
        ("approved", Word::Plain(Then::Approved)),
        ("declined", Word::Plain(Then::Declined)),
        ("re-enter", Word::ReEnter),
        ("retry", Word::Plain(Then::Retry)),
        ("pending", Word::Plain(Then::Pending)),
        ("nothing", Word::Plain(Then::Nothing)),
        ("voided", Word::Plain(Then::Voided)),
        ("refused", Word::Plain(Then::Refused)),
        ("unavailable", Word::Plain(Then::Unavailable)),
    ];
    let word = table.require("outcome", "\"approved\"").and_then(|v| v.one_of(&words))?;
    match word {
        Word::Plain(then) => {
            for key in ["field", "error"].into_iter().filter(|key| table.has(key)) {
                table.fault(key, "goes with outcome = \"re-enter\" only");
            }
            Some(then)
        }
        Word::ReEnter => {
            let fields: Vec<_> = Field::ALL.iter().map(|field| (field.name(), *field)).collect();
            let errors: Vec<_> = REFUSALS.iter().map(|error| (error.name(), *error)).collect();
            let field = table.require("field", "\"security-code\"").and_then(|v| v.one_of(&fields));
            let error = table.require("error", "\"invalid-security-code\"").and_then(|v| v.one_of(&errors));
            Some(Then::ReEnter(field?, error?))
        }
    }
}

/// What a provider may say of a field.
const REFUSALS: &[FieldError] = &[
    FieldError::InvalidCardNumber,
    FieldError::InvalidCardType,
    FieldError::InvalidDate,
    FieldError::InvalidSecurityCode,
    FieldError::InvalidPostalCode,
    FieldError::InvalidBankRoutingNumber,
    FieldError::InvalidBankAccountNumber,
    FieldError::InvalidBankAccountType,
];

fn status(value: &Value<'_>) -> Option<(u16, u16)> {
    value.parsed(|text| {
        let class = text.strip_suffix("xx").and_then(|class| class.parse::<u16>().ok());
        match (class, text.parse::<u16>()) {
            (Some(class @ 1..=5), _) => Ok((class * 100, class * 100 + 99)),
            (_, Ok(status @ 100..=599)) => Ok((status, status)),
            _ => Err(format!("{text:?} is no status, such as \"200\" or \"4xx\"")),
        }
    })
}

/// `/pointer`, `/pointer=word|word`, `!/pointer…`.
fn condition(text: &str) -> Result<Condition, String> {
    let (not, rest) = match text.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (at, words) = match rest.split_once('=') {
        Some((at, words)) => (at, words.split('|').map(|word| word.trim().to_owned()).collect()),
        None => (rest, Vec::new()),
    };
    Ok(Condition { pointer: pointer(at.trim())?, words, not })
}

/// A JSON pointer, RFC 6901.
fn pointer(text: &str) -> Result<String, String> {
    if text.starts_with('/') && text.len() <= 256 {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no JSON pointer, such as \"/error/code\""))
    }
}

fn mapped(text: &str) -> Result<(String, String), String> {
    let (name, at) = text.split_once('=').ok_or("is not of the form \"name=/pointer\"")?;
    Ok((value::name(name.trim())?, pointer(at.trim())?))
}
