//! Digest authentication (RFC 8760 and 7616 for SIP, RFC 3261 section 22): challenges and answers, as pure functions and
//! two small state machines. MD5 and SHA-256, `auth` and `auth-int`.
//!
//! ```text
//!  they challenge us:  401/407 ─► Challenge::best ─► answer: Authorization / Proxy-Authorization, nonce count + 1
//!  we challenge them:  request ─► Guard::judge ─► no or stale answer: 401 with a fresh nonce
//!                                              ├► wrong answer:      refused
//!                                              └► right answer:      Granted, its nonce count used up
//! ```
//! Secrets are given by whoever calls; nothing here prints them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use md5::Md5;
use rand::RngExt;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::base::Random;
use crate::sip::msg::scan::{self, List};

/// How long a nonce of ours may be answered.
const NONCE_LIFE: Duration = Duration::from_secs(300);
/// Nonces kept; beyond them the oldest are forgotten.
const NONCES: usize = 4096;
/// How far behind the highest nonce count a late one may come.
const WINDOW: u32 = 64;

/// A user and the secret shared with the peer.
#[derive(Clone)]
pub struct Credential {
    /// User.
    pub user: String,
    /// Secret.
    pub secret: Zeroizing<String>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// MD5.
    Md5,
    /// SHA-256 (RFC 8760).
    Sha256,
}

impl Algorithm {
    /// Its word on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
        }
    }

    fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None => Some(Algorithm::Md5),
            Some(text) if text.eq_ignore_ascii_case("MD5") => Some(Algorithm::Md5),
            Some(text) if text.eq_ignore_ascii_case("SHA-256") => Some(Algorithm::Sha256),
            Some(_) => None,
        }
    }

    fn hex(self, parts: &[&[u8]]) -> Zeroizing<String> {
        let mut joined = Zeroizing::new(Vec::new());
        for (nth, part) in parts.iter().enumerate() {
            if nth > 0 {
                joined.push(b':');
            }
            joined.extend_from_slice(part);
        }
        Zeroizing::new(match self {
            Algorithm::Md5 => hex::encode(Md5::digest(&*joined)),
            Algorithm::Sha256 => hex::encode(Sha256::digest(&*joined)),
        })
    }
}

/// What is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quality {
    /// Nothing but method and URI, and no nonce count (RFC 2069).
    Old,
    /// Method and URI.
    Auth,
    /// The body too.
    AuthInt,
}

/// The parameters of a `Digest` header value, quotes and escapes resolved; `None`: another scheme, or malformed.
fn parameters(value: &[u8]) -> Option<HashMap<String, String>> {
    let text = scan::trim(value);
    let scheme = text.get(..6)?;
    if !scheme.eq_ignore_ascii_case(b"Digest") || !text.get(6).is_some_and(|b| matches!(b, b' ' | b'\t')) {
        return None;
    }
    let mut found = HashMap::new();
    for item in List::new(&text[7..]) {
        let item = std::str::from_utf8(scan::trim(item)).ok()?;
        let (name, value) = item.split_once('=')?;
        let value = value.trim();
        let value = match value.strip_prefix('"') {
            Some(rest) => {
                let mut inside = String::new();
                let mut chars = rest.strip_suffix('"')?.chars();
                while let Some(c) = chars.next() {
                    inside.push(if c == '\\' { chars.next()? } else { c });
                }
                inside
            }
            None => value.to_owned(),
        };
        // A parameter given twice leaves open which one holds.
        if found.insert(name.trim().to_ascii_lowercase(), value).is_some() {
            return None;
        }
    }
    Some(found)
}

/// Text for a quoted string.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// A request's part in an answer.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its Request-URI.
    pub uri: &'a str,
    /// Its body.
    pub body: &'a [u8],
}

struct Parts<'a> {
    algorithm: Algorithm,
    quality: Quality,
    realm: &'a str,
    nonce: &'a str,
    cnonce: &'a str,
    count: &'a str,
}

fn response(parts: &Parts<'_>, credential: &Credential, asked: Asked<'_>) -> Zeroizing<String> {
    let Parts { algorithm, quality, realm, nonce, cnonce, count } = parts;
    let ha1 = algorithm.hex(&[credential.user.as_bytes(), realm.as_bytes(), credential.secret.as_bytes()]);
    let (method, uri) = (asked.method.as_bytes(), asked.uri.as_bytes());
    let ha2 = match quality {
        Quality::Old | Quality::Auth => algorithm.hex(&[method, uri]),
        Quality::AuthInt => algorithm.hex(&[method, uri, algorithm.hex(&[asked.body]).as_bytes()]),
    };
    let (ha1, ha2, nonce) = (ha1.as_bytes(), ha2.as_bytes(), nonce.as_bytes());
    match quality {
        Quality::Old => algorithm.hex(&[ha1, nonce, ha2]),
        Quality::Auth => algorithm.hex(&[ha1, nonce, count.as_bytes(), cnonce.as_bytes(), b"auth", ha2]),
        Quality::AuthInt => algorithm.hex(&[ha1, nonce, count.as_bytes(), cnonce.as_bytes(), b"auth-int", ha2]),
    }
}

/// A peer's challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Whose users are meant.
    pub realm: String,
    /// The former answer was right but its nonce too old.
    pub stale: bool,
    algorithm: Algorithm,
    nonce: String,
    opaque: Option<String>,
    quality: Offered,
    used: u32,
}

/// Which qualities a challenge offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offered {
    auth: bool,
    int: bool,
}

impl Challenge {
    /// The best of the challenges in a response's `WWW-Authenticate` or `Proxy-Authenticate` values that is of `realm`:
    /// SHA-256 before MD5 (RFC 8760 section 2.3). Without `realm`, any will do.
    pub fn best<'a>(values: impl Iterator<Item = &'a [u8]>, realm: Option<&str>) -> Option<Challenge> {
        let read = values.filter_map(Self::parse);
        read.filter(|challenge| realm.is_none_or(|realm| challenge.realm == realm)).max_by_key(|c| c.algorithm)
    }

    fn parse(value: &[u8]) -> Option<Challenge> {
        let mut given = parameters(value)?;
        let offered = given.get("qop").cloned();
        let has =
            |word: &str| offered.iter().flat_map(|list| list.split(',')).any(|q| q.trim().eq_ignore_ascii_case(word));
        let quality = Offered { auth: has("auth"), int: has("auth-int") };
        if offered.is_some() && !quality.auth && !quality.int {
            return None;
        }
        Some(Challenge {
            algorithm: Algorithm::parse(given.get("algorithm").map(String::as_str))?,
            stale: given.get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
            opaque: given.remove("opaque"),
            realm: given.remove("realm")?,
            nonce: given.remove("nonce").filter(|nonce| !nonce.is_empty())?,
            quality,
            used: 0,
        })
    }

    /// The value of the `Authorization` or `Proxy-Authorization` that answers it, for one request.
    pub fn answer(&mut self, random: &mut Random, credential: &Credential, asked: Asked<'_>) -> String {
        self.used += 1;
        let quality = match self.quality {
            Offered { int: true, .. } if !asked.body.is_empty() => Quality::AuthInt,
            Offered { auth: true, .. } => Quality::Auth,
            Offered { int: true, .. } => Quality::AuthInt,
            Offered { auth: false, int: false } => Quality::Old,
        };
        let (cnonce, count) = (format!("{:016x}", random.random::<u64>()), format!("{:08x}", self.used));
        let (algorithm, realm, nonce) = (self.algorithm, self.realm.as_str(), self.nonce.as_str());
        let parts = Parts { algorithm, quality, realm, nonce, cnonce: &cnonce, count: &count };
        let response = response(&parts, credential, asked);
        let mut value = format!(
            "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{}\", response=\"{}\", algorithm={}",
            quoted(&credential.user),
            quoted(realm),
            quoted(nonce),
            quoted(asked.uri),
            *response,
            algorithm.name()
        );
        match quality {
            Quality::Old => {}
            Quality::Auth => value += &format!(", qop=auth, nc={count}, cnonce=\"{cnonce}\""),
            Quality::AuthInt => value += &format!(", qop=auth-int, nc={count}, cnonce=\"{cnonce}\""),
        }
        if let Some(opaque) = &self.opaque {
            value += &format!(", opaque=\"{}\"", quoted(opaque));
        }
        value
    }
}

/// What a request's answer to our challenge is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It knows the secret, and this answer was not used before.
    Granted,
    /// There is none, or for another realm or nonce: challenge it.
    Missing,
    /// The secret is right and the nonce too old: challenge it with `stale`.
    Stale,
    /// It does not know the secret, or the answer was used before.
    Wrong,
}

/// Challenges of ours to the peers of one trunk.
#[derive(Debug)]
pub struct Guard {
    realm: String,
    credential: Credential,
    algorithms: Vec<Algorithm>,
    nonces: HashMap<String, Nonce>,
    order: std::collections::VecDeque<(Instant, String)>,
}

#[derive(Debug)]
struct Nonce {
    made: Instant,
    /// The highest count seen, and which of the ones below it.
    highest: u32,
    seen: u64,
}

impl Guard {
    /// Asks for `credential`, by each of `algorithms` in order of preference.
    pub fn new(realm: &str, credential: Credential, algorithms: Vec<Algorithm>) -> Self {
        let (nonces, order) = (HashMap::new(), std::collections::VecDeque::new());
        Self { realm: realm.to_owned(), credential, algorithms, nonces, order }
    }

    /// The values of `WWW-Authenticate` for a fresh challenge, the preferred one first.
    pub fn challenge(&mut self, now: Instant, random: &mut Random, stale: bool) -> Vec<String> {
        while self.order.front().is_some_and(|(made, _)| now.saturating_duration_since(*made) > 2 * NONCE_LIFE)
            || self.order.len() >= NONCES
        {
            let Some((_, nonce)) = self.order.pop_front() else { break };
            self.nonces.remove(&nonce);
        }
        let nonce = format!("{:032x}", random.random::<u128>());
        self.nonces.insert(nonce.clone(), Nonce { made: now, highest: 0, seen: 0 });
        self.order.push_back((now, nonce.clone()));
        let stale = if stale { ", stale=true" } else { "" };
        let realm = quoted(&self.realm);
        let one = |algorithm: &Algorithm| {
            let name = algorithm.name();
            format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={name}, qop=\"auth,auth-int\"{stale}")
        };
        self.algorithms.iter().map(one).collect()
    }

    /// Judges a request by its `Authorization` values.
    pub fn judge<'a>(&mut self, now: Instant, values: impl Iterator<Item = &'a [u8]>, asked: Asked<'_>) -> Judgement {
        let ours = |given: &HashMap<String, String>| given.get("realm") == Some(&self.realm);
        let Some(given) = values.filter_map(parameters).find(ours) else { return Judgement::Missing };
        let get = |name: &str| given.get(name).map_or("", String::as_str);
        let Some(algorithm) = Algorithm::parse(given.get("algorithm").map(String::as_str)) else {
            return Judgement::Wrong;
        };
        let quality = match get("qop") {
            "auth" => Quality::Auth,
            "auth-int" => Quality::AuthInt,
            // Without a nonce count nothing tells a repetition.
            _ => return Judgement::Wrong,
        };
        let count = u32::from_str_radix(get("nc"), 16).ok().filter(|_| get("nc").len() == 8);
        let (Some(count), true) = (count, self.algorithms.contains(&algorithm)) else { return Judgement::Wrong };
        let parts = Parts {
            algorithm,
            quality,
            realm: &self.realm,
            nonce: get("nonce"),
            cnonce: get("cnonce"),
            count: get("nc"),
        };
        // The URI in the answer is the one that was hashed; it has to be the request's.
        let wanted = response(&parts, &self.credential, asked);
        let same_user: bool = get("username").as_bytes().ct_eq(self.credential.user.as_bytes()).into();
        let same: bool = get("response").to_ascii_lowercase().as_bytes().ct_eq(wanted.as_bytes()).into();
        if !same || !same_user || get("uri") != asked.uri {
            return if self.nonces.contains_key(get("nonce")) { Judgement::Wrong } else { Judgement::Missing };
        }
        let Some(nonce) = self.nonces.get_mut(get("nonce")) else { return Judgement::Stale };
        if now.saturating_duration_since(nonce.made) > NONCE_LIFE {
            return Judgement::Stale;
        }
        if nonce.use_up(count) { Judgement::Granted } else { Judgement::Wrong }
    }
}

impl Nonce {
    /// Whether a count is used for the first time; requests may overtake each other a little.
    fn use_up(&mut self, count: u32) -> bool {
        if count == 0 {
            return false;
        }
        if count > self.highest {
            let shift = count - self.highest;
            self.seen = if shift >= WINDOW { 0 } else { self.seen << shift };
            self.seen |= 1;
            self.highest = count;
            return true;
        }
        let behind = self.highest - count;
        let fresh = behind < WINDOW && self.seen & (1 << behind) == 0;
        if fresh {
            self.seen |= 1 << behind;
        }
        fresh
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn bob() -> Credential {
        Credential { user: "bob".into(), secret: Zeroizing::new("zanzibar".into()) }
    }

    fn asked<'a>(method: &'a str, body: &'a [u8]) -> Asked<'a> {
        Asked { method, uri: "sip:bob@biloxi.example", body }
    }

    fn one(value: &str) -> impl Iterator<Item = &[u8]> {
        std::iter::once(value.as_bytes())
    }

    /// The example of RFC 7616 section 3.9.1, both hashes.
    #[test]
    fn the_rfcs_own_example_comes_out() {
        let credential = Credential { user: "Mufasa".into(), secret: Zeroizing::new("Circle of Life".into()) };
        let asked = Asked { method: "GET", uri: "/dir/index.html", body: b"" };
        for (algorithm, wanted) in [
            (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
            (Algorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let parts = Parts {
                algorithm,
                quality: Quality::Auth,
                realm: "http-auth@example.org",
                nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
                cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
                count: "00000001",
            };
            assert_eq!(*response(&parts, &credential, asked), wanted);
        }
    }

    #[test]
    fn an_answer_to_our_challenge_is_granted_once() {
        let (now, mut random) = (Instant::now(), Random::seed_from_u64(1));
        for body in [&b""[..], b"v=0\r\n"] {
            let mut guard = Guard::new("tonewall", bob(), vec![Algorithm::Sha256, Algorithm::Md5]);
            let challenges = guard.challenge(now, &mut random, false);
            assert!(challenges[0].contains("SHA-256") && challenges[1].contains("algorithm=MD5"));
            let mut challenge =
                Challenge::best(challenges.iter().map(|c| c.as_bytes()), Some("tonewall")).expect("one");
            assert_eq!(challenge.algorithm, Algorithm::Sha256, "the better one");
            let answer = challenge.answer(&mut random, &bob(), asked("INVITE", body));
            assert_eq!(answer.contains("auth-int"), !body.is_empty());
            assert_eq!(guard.judge(now, one(&answer), asked("INVITE", body)), Judgement::Granted);
            assert_eq!(guard.judge(now, one(&answer), asked("INVITE", body)), Judgement::Wrong, "a repetition");
            let next = challenge.answer(&mut random, &bob(), asked("BYE", b""));
            assert!(next.contains("nc=00000002"));
            assert_eq!(guard.judge(now, one(&next), asked("BYE", b"")), Judgement::Granted);
        }
    }

    #[test]
    fn whatever_is_changed_is_not_granted() {
        let (now, mut random) = (Instant::now(), Random::seed_from_u64(2));
        let mut guard = Guard::new("tonewall", bob(), vec![Algorithm::Sha256]);
        assert_eq!(guard.judge(now, std::iter::empty(), asked("INVITE", b"")), Judgement::Missing);
        let challenges = guard.challenge(now, &mut random, false);
        let mut challenge = Challenge::best(one(&challenges[0]), None).expect("one");
        let answer = challenge.answer(&mut random, &bob(), asked("INVITE", b"v=0\r\n"));
        assert_eq!(guard.judge(now, one(&answer), asked("BYE", b"v=0\r\n")), Judgement::Wrong, "another method");
        assert_eq!(guard.judge(now, one(&answer), asked("INVITE", b"v=1\r\n")), Judgement::Wrong, "another body");
        let elsewhere = Asked { uri: "sip:eve@biloxi.example", ..asked("INVITE", b"v=0\r\n") };
        assert_eq!(guard.judge(now, one(&answer), elsewhere), Judgement::Wrong, "another URI");
        let wrong = Credential { secret: Zeroizing::new("guess".into()), ..bob() };
        let guess = challenge.answer(&mut random, &wrong, asked("INVITE", b""));
        assert_eq!(guard.judge(now, one(&guess), asked("INVITE", b"")), Judgement::Wrong);
        let other = answer.replace("username=\"bob\"", "username=\"rob\"");
        assert_eq!(guard.judge(now, one(&other), asked("INVITE", b"v=0\r\n")), Judgement::Wrong);
        let realm = answer.replace("realm=\"tonewall\"", "realm=\"else\"");
        assert_eq!(guard.judge(now, one(&realm), asked("INVITE", b"v=0\r\n")), Judgement::Missing);
        let mut weak = Guard::new("tonewall", bob(), vec![Algorithm::Md5]);
        assert_eq!(weak.judge(now, one(&answer), asked("INVITE", b"v=0\r\n")), Judgement::Wrong, "not that hash");
    }

    #[test]
    fn an_old_nonce_is_stale_for_who_knows_the_secret() {
        let (now, mut random) = (Instant::now(), Random::seed_from_u64(3));
        let mut guard = Guard::new("tonewall", bob(), vec![Algorithm::Md5]);
        let challenges = guard.challenge(now, &mut random, false);
        let mut challenge = Challenge::best(one(&challenges[0]), None).expect("one");
        let answer = challenge.answer(&mut random, &bob(), asked("INVITE", b""));
        let late = now + NONCE_LIFE + Duration::from_secs(1);
        assert_eq!(guard.judge(late, one(&answer), asked("INVITE", b"")), Judgement::Stale);
        assert!(guard.challenge(late, &mut random, true)[0].ends_with(", stale=true"));
        for _ in 0..2 * NONCES {
            guard.challenge(late, &mut random, false);
        }
        assert!(guard.nonces.len() <= NONCES && guard.order.len() <= NONCES);
        assert_eq!(guard.judge(late, one(&answer), asked("INVITE", b"")), Judgement::Stale, "forgotten, not wrong");
    }

    #[test]
    fn counts_may_overtake_each_other_but_come_once() {
        let mut nonce = Nonce { made: Instant::now(), highest: 0, seen: 0 };
        for (count, fresh) in
            [(1, true), (3, true), (2, true), (2, false), (3, false), (100, true), (37, true), (36, false), (0, false)]
        {
            assert_eq!(nonce.use_up(count), fresh, "{count}");
        }
    }

    #[test]
    fn challenges_are_read_as_they_are_written() {
        let read = |value: &str| Challenge::parse(value.as_bytes());
        let full = "Digest realm=\"a \\\"b\\\"\", nonce=\"n,1\", opaque=\"\", qop=\"auth, auth-int\", algorithm=md5, stale=TRUE";
        let challenge = read(full).expect("valid");
        assert_eq!((challenge.realm.as_str(), challenge.nonce.as_str()), ("a \"b\"", "n,1"));
        assert!(challenge.stale && challenge.opaque.as_deref() == Some("") && challenge.quality.int);
        let mut old = read("digest realm=x,nonce=\"1\"").expect("RFC 2069");
        let answer = old.answer(&mut Random::seed_from_u64(1), &bob(), asked("REGISTER", b""));
        assert!(!answer.contains("qop") && !answer.contains("nc="), "{answer}");
        for bad in [
            "",
            "Basic realm=\"x\"",
            "Digest",
            "Digest nonce=\"1\"",
            "Digest realm=\"x\"",
            "Digest realm=\"x\", nonce=\"\"",
            "Digest realm=\"x\", nonce=\"1\", algorithm=SHA-512-256",
            "Digest realm=\"x\", nonce=\"1\", qop=\"other\"",
            "Digest realm=\"x\", realm=\"y\", nonce=\"1\"",
            "Digest realm=\"x, nonce=\"1",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
