//! Where a SIP name is (RFC 3263): NAPTR, SRV and address records to a list of addresses with priority and weight.
//! Names to follow, answers to questions and the time go in; questions and target lists come out. It asks nobody itself
//! and knows no socket. Media addresses are never names; this is for signalling alone.
//!
//! ```text
//!  name ─ port given ───────────────────────────────► A/AAAA
//!   └─ NAPTR ─ a service of our transport ─► its SRV ─┐
//!        └─ none ─► SRV of _sip._udp, _sip._tcp, _sips._tcp
//!                     ├─ records ─► A/AAAA of each target, by priority and weight
//!                     ├─ target "." ─► nowhere: the name serves no SIP
//!                     └─ none ─► A/AAAA of the name itself, default port
//! ```
//! Records are asked for again when their time to live is over. Until an answer comes, and for a day while none does,
//! what was known stays in use: calls do not wait for DNS and outlive it.

mod cache;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::base::time::soonest;
use crate::config::Transport;
use cache::{Cache, Known};

/// A question to the domain name system.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Question {
    /// NAPTR records of a name.
    Naptr(String),
    /// SRV records of a name.
    Srv(String),
    /// A records of a name.
    V4(String),
    /// AAAA records of a name.
    V6(String),
}

/// A NAPTR record (RFC 3403), as far as SIP looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naptr {
    /// Lower first.
    pub order: u16,
    /// Lower first among those of the same order.
    pub preference: u16,
    /// `s`: the replacement has SRV records.
    pub flags: String,
    /// `SIP+D2U`, `SIP+D2T`, `SIPS+D2T`.
    pub services: String,
    /// The name to ask next.
    pub replacement: String,
}

/// An SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Srv {
    /// Lower first.
    pub priority: u16,
    /// Share among those of the same priority.
    pub weight: u16,
    /// Port.
    pub port: u16,
    /// Host; `.`: the service is not there.
    pub target: String,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Records {
    /// NAPTR.
    Naptr(Vec<Naptr>),
    /// SRV.
    Srv(Vec<Srv>),
    /// Addresses.
    Addresses(Vec<IpAddr>),
}

impl Records {
    fn is_empty(&self) -> bool {
        match self {
            Records::Naptr(list) => list.is_empty(),
            Records::Srv(list) => list.is_empty(),
            Records::Addresses(list) => list.is_empty(),
        }
    }
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Records, and how long they hold.
    Found(Records, Duration),
    /// There is no such name or no such record; how long that holds.
    Nothing(Duration),
    /// No server answered, or none could.
    Failed,
}

/// A name to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The host or domain.
    pub host: String,
    /// With a port there is nothing to find but addresses.
    pub port: Option<u16>,
    /// The transport it is spoken to over.
    pub transport: Transport,
    /// Addresses of IPv6 are wanted, else of IPv4.
    pub v6: bool,
}

/// A place where a name is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Address and port.
    pub at: SocketAddr,
    /// Lower first.
    pub priority: u16,
    /// Share among those of the same priority.
    pub weight: u16,
}

/// Most SRV records and addresses followed per name; a longer answer is cut.
const MOST: usize = 16;

/// Follows names. Drain rule: after each `handle_*`, take `poll_question` and `poll_change` until both give `None`, then
/// arm `poll_timeout`.
#[derive(Debug, Default)]
pub struct Resolver {
    names: Vec<Following>,
    cache: Cache,
}

#[derive(Debug)]
struct Following {
    name: Name,
    places: Vec<Place>,
    changed: bool,
}

/// A list in the making: not all of it may be known yet.
struct Walk<'a> {
    cache: &'a mut Cache,
    now: Instant,
    /// Something was never answered: what is found so far is not all.
    waits: bool,
}

impl Resolver {
    /// A resolver that follows `names`; [`Resolver::poll_change`] speaks of them by their place in this list.
    pub fn new(now: Instant, names: Vec<Name>) -> Self {
        let names = names.into_iter().map(|name| Following { name, places: Vec::new(), changed: false }).collect();
        let mut resolver = Self { names, cache: Cache::default() };
        resolver.walk(now);
        resolver
    }

    /// Takes the answer to a question.
    pub fn handle_answer(&mut self, now: Instant, question: &Question, answer: Answer) {
        self.cache.take(now, question, answer);
        self.walk(now);
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.cache.handle_timeout(now);
        self.walk(now);
    }

    /// The next question to ask.
    pub fn poll_question(&mut self) -> Option<Question> {
        self.cache.poll_question()
    }

    /// A name whose places have changed, by its place in the list.
    pub fn poll_change(&mut self) -> Option<usize> {
        let at = self.names.iter().position(|name| name.changed)?;
        self.names[at].changed = false;
        Some(at)
    }

    /// Where a name is served; empty until it is known, or when it is served nowhere.
    pub fn places(&self, name: usize) -> &[Place] {
        self.names.get(name).map_or(&[], |name| &name.places)
    }

    /// Names that are served nowhere that is known.
    pub fn unresolved(&self) -> usize {
        self.names.iter().filter(|name| name.places.is_empty()).count()
    }

    /// When [`Resolver::handle_timeout`] is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        soonest(self.cache.poll_timeout(), None)
    }

    fn walk(&mut self, now: Instant) {
        for following in &mut self.names {
            let mut walk = Walk { cache: &mut self.cache, now, waits: false };
            let mut places = walk.name(&following.name);
            places.truncate(MOST);
            // Half an answer replaces none that is whole.
            if (walk.waits && !following.places.is_empty()) || places == following.places {
                continue;
            }
            following.places = places;
            following.changed = true;
        }
        self.cache.sweep(now);
    }
}

impl Walk<'_> {
    fn name(&mut self, name: &Name) -> Vec<Place> {
        let even = |at| Place { at, priority: 0, weight: 0 };
        if let Some(port) = name.port {
            return self.addresses(&name.host, name.v6).into_iter().map(|ip| even(SocketAddr::new(ip, port))).collect();
        }
        let Some(service) = self.service(name) else { return Vec::new() };
        let records = match self.ask(Question::Srv(service)) {
            Known::Records(Records::Srv(records)) => records,
            Known::Records(_) | Known::Nothing => {
                let port = if name.transport == Transport::Tls { 5061 } else { 5060 };
                let addresses = self.addresses(&name.host, name.v6);
                return addresses.into_iter().map(|ip| even(SocketAddr::new(ip, port))).collect();
            }
            Known::NotYet => return Vec::new(),
        };
        let mut places = Vec::new();
        for record in records.into_iter().take(MOST) {
            // RFC 2782: a root target says that the service is decidedly not there.
            if record.target.is_empty() || record.port == 0 {
                continue;
            }
            for ip in self.addresses(&record.target, name.v6) {
                let at = SocketAddr::new(ip, record.port);
                places.push(Place { at, priority: record.priority, weight: record.weight });
            }
        }
        places.sort_by_key(|place| place.priority);
        places
    }

    /// The SRV name of our transport: by NAPTR where the domain has it, else by convention (section 4.1). `None`: not
    /// known yet.
    fn service(&mut self, name: &Name) -> Option<String> {
        let (service, prefix) = match name.transport {
            Transport::Udp => ("SIP+D2U", "_sip._udp."),
            Transport::Tcp => ("SIP+D2T", "_sip._tcp."),
            Transport::Tls => ("SIPS+D2T", "_sips._tcp."),
        };
        let by_convention = format!("{prefix}{}", name.host);
        match self.ask(Question::Naptr(name.host.clone())) {
            Known::Records(Records::Naptr(records)) => {
                let ours = records.into_iter().filter(|record| {
                    record.services.eq_ignore_ascii_case(service) && record.flags.eq_ignore_ascii_case("s")
                });
                let best = ours.min_by_key(|record| (record.order, record.preference));
                Some(best.map_or(by_convention, |record| record.replacement))
            }
            Known::Records(_) | Known::Nothing => Some(by_convention),
            Known::NotYet => None,
        }
    }

    fn addresses(&mut self, host: &str, v6: bool) -> Vec<IpAddr> {
        let host = host.to_owned();
        let question = if v6 { Question::V6(host) } else { Question::V4(host) };
        match self.ask(question) {
            Known::Records(Records::Addresses(addresses)) => {
                let fit = |ip: &IpAddr| ip.is_ipv6() == v6 && !ip.is_unspecified() && !ip.is_multicast();
                addresses.into_iter().filter(fit).take(MOST).collect()
            }
            Known::Records(_) | Known::Nothing | Known::NotYet => Vec::new(),
        }
    }

    fn ask(&mut self, question: Question) -> Known {
        let known = self.cache.look_up(self.now, question);
        self.waits |= matches!(known, Known::NotYet);
        known
    }
}
