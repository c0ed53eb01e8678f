//! Configuration: one TOML file turned into checked types. The text goes in; a [`Config`] comes out in which every
//! name resolves and every range is sane, or else [`Faults`]: all that is wrong, each with file, line, key and reason.
//! Nothing downstream checks again. Reading is pure but for [`Config::load`], which reads the file and the key files
//! and environment variables it names.

mod audit;
pub mod canary;
mod connector;
mod cross;
mod fault;
mod hint;
mod kek;
mod load;
mod methods;
mod net;
mod presets;
mod read;
mod recorder;
mod rules;
mod srtp;
mod template;
mod types;
mod vault;
mod webhook;

pub use audit::{Audit, AuditSync, Ship, ShipTo};
pub use canary::{Canary, CanaryForm, CanaryGuard};
pub use connector::{Auth, Body, Condition, Connector, Hash, Hmac, Method, Purpose, Rule, Step, Then};
pub use fault::{Fault, Faults};
pub use kek::{KekCommand, KekRef, KekSource, KekToken, Keys, SecretPlace};
pub use load::{Checked, Places, SecretSource, Surroundings};
pub use methods::{Extension, Methods, Redirect, Refer};
pub use net::{
    Bounds, CertificateFiles, Challenge, DigestAlgorithm, Link, ListenerOptions, Login, MediaPlace, Place, Probe,
    Register, Remote, Secret, TrunkTls,
};
pub use presets::PRESETS;
pub use read::{SCHEMA, sandbox};
pub use recorder::{Dialect, Fact, Piece, Recorder, RecorderId, Told};
pub use rules::{HeaderAction, HeaderRule, Numbers, Rewrite};
pub use srtp::{Srtp, SrtpKeying, SrtpSuite};
pub use template::{Filter, JsonTemplate, Part, Source, Template, Value as TemplateValue};
pub use types::*;
pub use vault::{DiskWatch, KeepRule, S3, Storage};
pub use webhook::{SigningKey, Webhook, WebhookUrl, Webhooks};
