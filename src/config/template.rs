//! The texts of connectors: literal characters with values in between, `card=${card.number}`. Read once, here; written by
//! `psp`. A value has a name, may be optional (`${description?}`: what holds it is left out when it is not there), and may
//! pass filters (`${card.brand|map:visa=VI,amex=AX}`).

use super::hint::hint;

/// A text with values in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Literals and values, in order.
    pub parts: Vec<Part>,
}

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Characters that stand for themselves.
    Text(String),
    /// A value.
    Value(Value),
}

/// A value to be filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Which one.
    pub source: Source,
    /// What holds it is left out when it is not there; otherwise the request cannot be made.
    pub optional: bool,
    /// What is done to it, in order.
    pub filters: Vec<Filter>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `card.number`.
    CardNumber,
    /// `card.month`: two digits.
    CardMonth,
    /// `card.year`: four digits.
    CardYear,
    /// `card.year2`: two digits.
    CardYear2,
    /// `card.security_code`.
    SecurityCode,
    /// `card.brand`, by the name that the API gives it.
    Brand,
    /// `postal_code`.
    PostalCode,
    /// `bank.account`.
    BankAccount,
    /// `bank.routing`.
    BankRouting,
    /// `amount.minor`: in the smallest unit of the currency.
    AmountMinor,
    /// `amount.major`: with as many decimals as the currency has.
    AmountMajor,
    /// `currency`: three capital letters.
    Currency,
    /// `description`.
    Description,
    /// `payment`: our id of the payment.
    Payment,
    /// `idempotency`: the same for each try of one attempt.
    Idempotency,
    /// `reference`: the provider's name for the payment, from an answer.
    Reference,
    /// `time`: seconds since 1970.
    Time,
    /// `secret.<name>`.
    Secret(String),
    /// `variable.<name>`.
    Variable(String),
    /// `parameter.<name>`, from the API.
    Parameter(String),
    /// `value.<name>`, from an earlier answer.
    Mapped(String),
    /// `method`, in what is signed.
    Method,
    /// `path` with its query, in what is signed.
    Path,
    /// `body`, in what is signed.
    Body,
    /// `signature`, in the header of a signed request.
    Signature,
}

/// The sources with fixed names.
const FIXED: &[(&str, Source)] = &[
    ("card.number", Source::CardNumber),
    ("card.month", Source::CardMonth),
    ("card.year", Source::CardYear),
    ("card.year2", Source::CardYear2),
    ("card.security_code", Source::SecurityCode),
    ("card.brand", Source::Brand),
    ("postal_code", Source::PostalCode),
    ("bank.account", Source::BankAccount),
    ("bank.routing", Source::BankRouting),
    ("amount.minor", Source::AmountMinor),
    ("amount.major", Source::AmountMajor),
    ("currency", Source::Currency),
    ("description", Source::Description),
    ("payment", Source::Payment),
    ("idempotency", Source::Idempotency),
    ("reference", Source::Reference),
    ("time", Source::Time),
    ("method", Source::Method),
    ("path", Source::Path),
    ("body", Source::Body),
    ("signature", Source::Signature),
];

impl Source {
    /// Whether it is what the customer keyed: in bodies only.
    pub const fn is_keyed(&self) -> bool {
        matches!(
            self,
            Source::CardNumber
                | Source::CardMonth
                | Source::CardYear
                | Source::CardYear2
                | Source::SecurityCode
                | Source::PostalCode
                | Source::BankAccount
                | Source::BankRouting
        )
    }

    /// Whether it belongs to signing only.
    pub const fn is_of_signing(&self) -> bool {
        matches!(self, Source::Method | Source::Path | Source::Body | Source::Signature)
    }
}

/// What is done to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// In JSON, written as a number. The value must be decimal digits, with a point at most.
    Number,
    /// Small letters.
    Lower,
    /// Capital letters.
    Upper,
    /// The first so many characters.
    First(usize),
    /// Other words for words; `*` for any other. A word that is not there makes the value be missing.
    Map(Vec<(String, String)>),
}

impl Template {
    /// Reads a text; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            if start > 0 {
                parts.push(Part::Text(rest[..start].to_owned()));
            }
            let inside = &rest[start + 2..];
            let end = inside.find('}').ok_or("a value that begins with ${ has no closing }")?;
            parts.push(Part::Value(value(&inside[..end])?));
            rest = &inside[end + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Template { parts })
    }

    /// The values in it.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(value) => Some(value),
            Part::Text(_) => None,
        })
    }

    /// The only value of a template that is nothing else.
    pub fn single(&self) -> Option<&Value> {
        match &self.parts[..] {
            [Part::Value(value)] => Some(value),
            _ => None,
        }
    }
}

fn value(text: &str) -> Result<Value, String> {
    let mut words = text.split('|');
    let name = words.next().unwrap_or_default().trim();
    let (name, optional) = match name.strip_suffix('?') {
        Some(name) => (name, true),
        None => (name, false),
    };
    let fine = |name: &str| {
        (1..=64).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    let source = match (name.split_once('.'), FIXED.iter().find(|(known, _)| *known == name)) {
        (_, Some((_, source))) => source.clone(),
        (Some(("secret", name)), _) if fine(name) => Source::Secret(name.to_owned()),
        (Some(("variable", name)), _) if fine(name) => Source::Variable(name.to_owned()),
        (Some(("parameter", name)), _) if fine(name) => Source::Parameter(name.to_owned()),
        (Some(("value", name)), _) if fine(name) => Source::Mapped(name.to_owned()),
        _ => {
            let known = FIXED.iter().map(|(name, _)| *name);
            return Err(format!("there is no value ${{{name}}}{}", hint(name, known)));
        }
    };
    let filters = words.map(|word| filter(word.trim())).collect::<Result<_, _>>()?;
    Ok(Value { source, optional, filters })
}

fn filter(text: &str) -> Result<Filter, String> {
    match text.split_once(':') {
        None if text == "number" => Ok(Filter::Number),
        None if text == "lower" => Ok(Filter::Lower),
        None if text == "upper" => Ok(Filter::Upper),
        Some(("first", count)) => match count.parse() {
            Ok(count @ 1..=255) => Ok(Filter::First(count)),
            _ => Err(format!("{count:?} is no number of characters, 1 to 255")),
        },
        Some(("map", pairs)) => pairs
            .split(',')
            .map(|pair| {
                let (from, to) = pair.split_once('=').ok_or_else(|| format!("{pair:?} is not of the form from=to"))?;
                Ok((from.trim().to_owned(), to.trim().to_owned()))
            })
            .collect::<Result<_, String>>()
            .map(Filter::Map),
        _ => Err(format!("there is no filter {text:?}; known: number, lower, upper, first:<n>, map:<from>=<to>,…")),
    }
}

/// The body of a JSON request: texts are templates, the rest stands for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonTemplate {
    /// Members in the order of their names. One whose value is left out is left out; one that is emptied by that, too.
    Object(Vec<(String, JsonTemplate)>),
    /// Items.
    Array(Vec<JsonTemplate>),
    /// A string.
    Text(Template),
    /// A number, `true`, `false` or `null`.
    Literal(String),
}

impl JsonTemplate {
    /// Reads a JSON text; the error says what is wrong and where.
    pub fn parse(text: &str) -> Result<JsonTemplate, String> {
        let value: serde_json::Value = serde_json::from_str(text)
            .map_err(|error| format!("is not JSON: line {} of the text: {}", error.line(), plain(&error)))?;
        convert(value)
    }

    /// Every template in it.
    pub fn templates(&self) -> Vec<&Template> {
        match self {
            JsonTemplate::Object(members) => members.iter().flat_map(|(_, member)| member.templates()).collect(),
            JsonTemplate::Array(items) => items.iter().flat_map(JsonTemplate::templates).collect(),
            JsonTemplate::Text(template) => vec![template],
            JsonTemplate::Literal(_) => Vec::new(),
        }
    }
}

fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

fn convert(value: serde_json::Value) -> Result<JsonTemplate, String> {
    use serde_json::Value;
    Ok(match value {
        Value::Object(members) => JsonTemplate::Object(
            members.into_iter().map(|(name, member)| Ok((name, convert(member)?))).collect::<Result<_, String>>()?,
        ),
        Value::Array(items) => JsonTemplate::Array(items.into_iter().map(convert).collect::<Result<_, String>>()?),
        Value::String(text) => JsonTemplate::Text(Template::parse(&text)?),
        other => JsonTemplate::Literal(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_into_literals_and_values() {
        let read = Template::parse("a${card.number}b${description?|first:22|upper}").expect("a template");
        assert_eq!(read.parts.len(), 4);
        assert_eq!(read.parts[0], Part::Text("a".into()));
        let value = read.values().nth(1).expect("a value");
        assert!(value.optional && value.filters == [Filter::First(22), Filter::Upper]);
    }

    #[test]
    fn what_is_no_template_is_told() {
        for (text, told) in [
            ("${card.nubmer}", "did you mean \"card.number\"?"),
            ("${card.number", "no closing }"),
            ("${currency|loud}", "no filter \"loud\""),
            ("${card.brand|map:visa}", "from=to"),
            ("${secret.}", "no value"),
            ("${currency|first:0}", "no number"),
        ] {
            let error = Template::parse(text).expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn json_keeps_its_shape_and_graphql_its_braces() {
        let read = JsonTemplate::parse(r#"{"query": "m($i: X!) { a { b } }", "n": 1, "v": ["${card.number}"]}"#)
            .expect("a template");
        assert_eq!(read.templates().len(), 2);
        assert!(JsonTemplate::parse("{\n \"a\": }").expect_err("no JSON").contains("line 2"));
    }
}
