//! `[[connector]]`: how a payment service provider is spoken to. Data only; `psp` makes requests of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::template::{JsonTemplate, Source, Template};
use super::{CertificateFiles, Secret};
use crate::base::payment::{Field, FieldError};

/// A connector, checked: every name in its templates is there, and what the customer keys goes into bodies only.
#[derive(Debug, Clone)]
pub struct Connector {
    /// Name, as the API names it.
    pub name: String,
    /// Answered by the built-in sandbox instead of the network.
    pub sandbox: bool,
    /// Where paths of steps belong to: scheme and host, without a slash at the end.
    pub url: Option<String>,
    /// Whom requests may go to, as `host` or `host:port`.
    pub hosts: Vec<String>,
    /// Who vouches for the provider's certificate; `None`: the system's authorities.
    pub ca: Option<PathBuf>,
    /// What we show the provider (mutual TLS).
    pub certificate: Option<CertificateFiles>,
    /// How requests are signed.
    pub auth: Auth,
    /// `[[connector.secret]]`, by name.
    pub secrets: BTreeMap<String, Secret>,
    /// `[[connector.variable]]`, by name.
    pub variables: BTreeMap<String, String>,
    /// How long one request may take.
    pub timeout: Duration,
    /// How long after its submission a payment without an answer is unknown.
    pub deadline: Duration,
    /// How often one request is sent, at most.
    pub attempts: u32,
    /// Pause before the first repetition; the next ones double it.
    pub retry: Duration,
    /// How long the provider may still come to know of a charge after our last word about it.
    pub settle: Duration,
    /// Most payments under way.
    pub at_once: usize,
    /// Requests that take money, in order.
    pub charge: Vec<Step>,
    /// Requests that make a token.
    pub token: Vec<Step>,
    /// Requests that ask what became of a charge.
    pub query: Vec<Step>,
    /// Requests that take a charge back, or see to it that it cannot be made any more.
    pub void: Vec<Step>,
}

/// What the steps of a connector are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Money is taken.
    Charge,
    /// A token is made.
    Token,
    /// What became of a charge.
    Query,
    /// A charge is taken back.
    Void,
}

impl Connector {
    /// The steps of a purpose.
    pub fn steps(&self, purpose: Purpose) -> &[Step] {
        match purpose {
            Purpose::Charge => &self.charge,
            Purpose::Token => &self.token,
            Purpose::Query => &self.query,
            Purpose::Void => &self.void,
        }
    }

    /// Whether it goes by this name.
    pub fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The values of answers that the steps of "query" and "void" write.
    pub fn values_of_questions(&self) -> BTreeSet<String> {
        let steps = self.query.iter().chain(&self.void);
        let values = steps.flat_map(Step::templates).flat_map(Template::values);
        let name = |value: &super::template::Value| match &value.source {
            Source::Mapped(name) => Some(name.clone()),
            _ => None,
        };
        values.filter_map(name).collect()
    }
}

/// How requests prove who sends them, besides the client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// Not at all, or by headers of the steps.
    None,
    /// RFC 7617.
    Basic {
        /// User.
        user: Template,
        /// Name of the secret.
        secret: String,
    },
    /// RFC 6750.
    Bearer {
        /// Name of the secret.
        secret: String,
    },
    /// A keyed hash over what `sign` says.
    Hmac(Box<Hmac>),
}

/// A signature by keyed hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hmac {
    /// Name of the secret.
    pub secret: String,
    /// What is signed.
    pub sign: Template,
    /// The hash function.
    pub hash: Hash,
    /// Base64 instead of hexadecimal digits.
    pub base64: bool,
    /// The header it stands in.
    pub header: String,
    /// The header's value.
    pub value: Template,
}

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// A request and what its answers mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Name, for logs.
    pub name: String,
    /// Method.
    pub method: Method,
    /// Where to: absolute, or a path below [`Connector::url`].
    pub url: Template,
    /// Headers.
    pub headers: Vec<(String, Template)>,
    /// Body.
    pub body: Body,
    /// Money may move: when its answer is lost, nobody knows whether it did.
    pub commits: bool,
    /// The provider knows it again by its idempotency key, so that it may be sent again when its answer is lost.
    pub repeats: bool,
    /// What answers mean; the first that fits.
    pub answers: Vec<Rule>,
}

impl Step {
    /// Every template of the request.
    pub fn templates(&self) -> Vec<&Template> {
        let mut found = vec![&self.url];
        found.extend(self.headers.iter().map(|(_, template)| template));
        match &self.body {
            Body::None => {}
            Body::Form(members) => found.extend(members.iter().map(|(_, template)| template)),
            Body::Json(json) => found.extend(json.templates()),
        }
        found
    }
}

/// Method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
}

impl Method {
    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        }
    }
}

/// Body of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// None.
    None,
    /// `application/x-www-form-urlencoded`.
    Form(Vec<(String, Template)>),
    /// `application/json`.
    Json(JsonTemplate),
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// First and last status it fits; empty: any.
    pub status: Vec<(u16, u16)>,
    /// What must hold in its body, all of it.
    pub when: Vec<Condition>,
    /// What it means.
    pub then: Then,
    /// JSON pointer (RFC 6901) to the token.
    pub token: Option<String>,
    /// JSON pointer to the provider's name for the payment.
    pub reference: Option<String>,
    /// JSON pointer to the reason of a refusal.
    pub code: Option<String>,
    /// Values for later steps: name and JSON pointer.
    pub values: Vec<(String, String)>,
}

/// What must hold in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// JSON pointer.
    pub pointer: String,
    /// What stands there must be one of these texts (any, when empty).
    pub words: Vec<String>,
    /// It must not be so.
    pub not: bool,
}

/// What an answer leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The next step.
    Next,
    /// The payment is approved.
    Approved,
    /// The payment is declined; nothing was charged.
    Declined,
    /// A field is refused; nothing was charged.
    ReEnter(Field, FieldError),
    /// The same request again, later.
    Retry,
    /// Not yet known: the provider is asked.
    Pending,
    /// The provider knows of no charge.
    Nothing,
    /// The charge is taken back, or can't be made any more.
    Voided,
    /// The provider refuses our request or credentials; nothing was charged.
    Refused,
    /// The provider cannot do it now; nothing was charged.
    Unavailable,
}
