//! Asks domain name servers for the core: a question goes in, records or their absence come out. Answers are not kept
//! here; `sip::dns` knows how long they hold.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::sync::mpsc;

use crate::sip::dns::{Answer, Naptr, Question, Records, Srv};

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long "nothing" holds where the zone does not say.
const NOTHING: Duration = Duration::from_secs(60);
/// Answers waiting for the engine.
const WAITING: usize = 256;

/// The servers, and the answers that have come.
pub(super) struct Resolve {
    resolver: Option<TokioResolver>,
    answers_tx: mpsc::Sender<(Question, Answer)>,
    answers: mpsc::Receiver<(Question, Answer)>,
}

impl Resolve {
    /// Servers to ask; none: those of the system.
    pub(super) fn new(nameservers: &[SocketAddr]) -> Self {
        let (answers_tx, answers) = mpsc::channel(WAITING);
        let resolver = match build(nameservers) {
            Ok(resolver) => Some(resolver),
            Err(error) => {
                tracing::error!(%error, "no domain name server can be asked; names of trunks stay unknown");
                None
            }
        };
        Self { resolver, answers_tx, answers }
    }

    /// Asks in the background.
    pub(super) fn ask(&self, question: Question) {
        let (resolver, answers) = (self.resolver.clone(), self.answers_tx.clone());
        tokio::spawn(async move {
            let answer = match resolver {
                Some(resolver) => ask(&resolver, &question).await,
                None => Answer::Failed,
            };
            // Without a reader the node is ending.
            let _ = answers.send((question, answer)).await;
        });
    }

    /// The next answer. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<(Question, Answer)> {
        self.answers.recv().await
    }
}

fn build(nameservers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let provider = TokioRuntimeProvider::default();
    let mut builder = if nameservers.is_empty() {
        Resolver::builder(provider)?
    } else {
        let servers = nameservers.iter().map(|at| server(*at)).collect();
        Resolver::builder_with_config(ResolverConfig::from_parts(None, Vec::new(), servers), provider)
    };
    let options = builder.options_mut();
    options.cache_size = 0;
    options.timeout = PATIENCE;
    options.attempts = 2;
    // A name is looked up as it is written, never with the machine's own domain added.
    options.ndots = 0;
    builder.build()
}

fn server(at: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(at.ip());
    let ports = |connection: &mut ConnectionConfig| connection.port = at.port();
    server.connections.iter_mut().for_each(ports);
    server
}

async fn ask(resolver: &TokioResolver, question: &Question) -> Answer {
    let (name, kind) = match question {
        Question::Naptr(name) => (name, RecordType::NAPTR),
        Question::Srv(name) => (name, RecordType::SRV),
        Question::V4(name) => (name, RecordType::A),
        Question::V6(name) => (name, RecordType::AAAA),
    };
    let absolute = format!("{}.", name.trim_end_matches('.'));
    match resolver.lookup(absolute.as_str(), kind).await {
        Ok(found) => {
            let holds = found.valid_until().saturating_duration_since(Instant::now());
            let data = found.answers().iter().map(|record| &record.data);
            Answer::Found(records(kind, data), holds)
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(nothing))) => match nothing.response_code {
            ResponseCode::NXDomain | ResponseCode::NoError => {
                let holds = nothing.negative_ttl.map_or(NOTHING, |seconds| Duration::from_secs(seconds.into()));
                Answer::Nothing(holds)
            }
            _ => Answer::Failed,
        },
        Err(_) => Answer::Failed,
    }
}

fn records<'a>(kind: RecordType, data: impl Iterator<Item = &'a RData>) -> Records {
    match kind {
        RecordType::NAPTR => Records::Naptr(
            data.filter_map(|data| match data {
                RData::NAPTR(naptr) => Some(Naptr {
                    order: naptr.order,
                    preference: naptr.preference,
                    flags: String::from_utf8_lossy(&naptr.flags).into_owned(),
                    services: String::from_utf8_lossy(&naptr.services).into_owned(),
                    replacement: plain(&naptr.replacement.to_string()),
                }),
                _ => None,
            })
            .collect(),
        ),
        RecordType::SRV => Records::Srv(
            data.filter_map(|data| match data {
                RData::SRV(srv) => Some(Srv {
                    priority: srv.priority,
                    weight: srv.weight,
                    port: srv.port,
                    target: plain(&srv.target.to_string()),
                }),
                _ => None,
            })
            .collect(),
        ),
        _ => Records::Addresses(
            data.filter_map(|data| match data {
                RData::A(a) => Some(IpAddr::V4(a.0)),
                RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
                _ => None,
            })
            .collect(),
        ),
    }
}

/// A name without its last dot, in lower case; the root is empty.
fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}
