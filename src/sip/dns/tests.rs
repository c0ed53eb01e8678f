//! RFC 3263 from records to places, and what happens when records run out or nobody answers.
#![allow(clippy::disallowed_methods)]

use super::*;

struct Bench {
    now: Instant,
    resolver: Resolver,
    zone: Vec<(Question, Answer)>,
    asked: Vec<Question>,
}

fn name(host: &str, port: Option<u16>, transport: Transport) -> Name {
    Name { host: host.into(), port, transport, v6: false }
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Srv {
    Srv { priority, weight, port, target: target.into() }
}

const MINUTE: Duration = Duration::from_secs(60);

impl Bench {
    fn new(names: Vec<Name>, zone: Vec<(Question, Answer)>) -> Self {
        let now = Instant::now();
        let mut bench = Self { now, resolver: Resolver::new(now, names), zone, asked: Vec::new() };
        bench.serve();
        bench
    }

    /// Answers from the zone; what is not in it does not exist.
    fn serve(&mut self) {
        while let Some(question) = self.resolver.poll_question() {
            let found = self.zone.iter().find(|(of, _)| *of == question);
            let answer = found.map_or(Answer::Nothing(MINUTE), |(_, answer)| answer.clone());
            self.resolver.handle_answer(self.now, &question, answer);
            self.asked.push(question);
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.resolver.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.resolver.handle_timeout(self.now);
            self.serve();
        }
        self.now = end;
    }

    fn places(&self, nth: usize) -> Vec<String> {
        let print = |place: &Place| format!("{} {} {}", place.at, place.priority, place.weight);
        self.resolver.places(nth).iter().map(print).collect()
    }

    fn set(&mut self, question: Question, answer: Answer) {
        self.zone.retain(|(of, _)| *of != question);
        self.zone.push((question, answer));
    }
}

fn v4(host: &str, addresses: &[&str], ttl: Duration) -> (Question, Answer) {
    let addresses = addresses.iter().map(|ip| ip.parse().expect("ip")).collect();
    (Question::V4(host.into()), Answer::Found(Records::Addresses(addresses), ttl))
}

fn srvs(of: &str, records: Vec<Srv>) -> (Question, Answer) {
    (Question::Srv(of.into()), Answer::Found(Records::Srv(records), MINUTE))
}

#[test]
fn a_port_leaves_nothing_to_find_but_addresses() {
    let bench = Bench::new(
        vec![name("sbc.example", Some(5070), Transport::Udp)],
        vec![v4("sbc.example", &["192.0.2.1", "192.0.2.2"], MINUTE)],
    );
    assert_eq!(bench.places(0), ["192.0.2.1:5070 0 0", "192.0.2.2:5070 0 0"]);
    assert_eq!(bench.asked, [Question::V4("sbc.example".into())]);
}

#[test]
fn naptr_leads_to_the_srv_of_our_transport() {
    let naptr = |order, preference, services: &str, replacement: &str| Naptr {
        order,
        preference,
        flags: "s".into(),
        services: services.into(),
        replacement: replacement.into(),
    };
    let records = vec![
        naptr(10, 50, "SIPS+D2T", "_sips._tcp.tls.example"),
        naptr(20, 60, "SIP+D2U", "_sip._udp.second.example"),
        naptr(20, 50, "sip+d2u", "_sip._udp.first.example"),
        naptr(90, 50, "SIP+D2T", "_sip._tcp.example"),
    ];
    let zone = vec![
        (Question::Naptr("example".into()), Answer::Found(Records::Naptr(records), MINUTE)),
        srvs("_sip._udp.first.example", vec![srv(2, 1, 5080, "b.example"), srv(1, 9, 5081, "a.example")]),
        srvs("_sips._tcp.tls.example", vec![srv(0, 0, 5061, "c.example")]),
        v4("a.example", &["192.0.2.1"], MINUTE),
        v4("b.example", &["192.0.2.2"], MINUTE),
        v4("c.example", &["192.0.2.3"], MINUTE),
    ];
    let bench = Bench::new(vec![name("example", None, Transport::Udp), name("example", None, Transport::Tls)], zone);
    assert_eq!(bench.places(0), ["192.0.2.1:5081 1 9", "192.0.2.2:5080 2 1"]);
    assert_eq!(bench.places(1), ["192.0.2.3:5061 0 0"]);
}

#[test]
fn without_naptr_the_srv_name_is_the_usual_one_and_without_srv_the_host_itself() {
    let zone = vec![
        srvs("_sip._tcp.example", vec![srv(0, 0, 5090, "a.example")]),
        v4("a.example", &["192.0.2.1"], MINUTE),
        v4("plain.example", &["192.0.2.7"], MINUTE),
    ];
    let names = vec![
        name("example", None, Transport::Tcp),
        name("plain.example", None, Transport::Udp),
        name("plain.example", None, Transport::Tls),
        name("nowhere.example", None, Transport::Udp),
    ];
    let bench = Bench::new(names, zone);
    assert_eq!(bench.places(0), ["192.0.2.1:5090 0 0"]);
    assert_eq!(bench.places(1), ["192.0.2.7:5060 0 0"]);
    assert_eq!(bench.places(2), ["192.0.2.7:5061 0 0"]);
    assert!(bench.places(3).is_empty() && bench.resolver.unresolved() == 1);
}

#[test]
fn a_root_target_says_that_there_is_no_service() {
    let zone = vec![srvs("_sip._udp.example", vec![srv(0, 0, 5060, "")]), v4("example", &["192.0.2.7"], MINUTE)];
    let bench = Bench::new(vec![name("example", None, Transport::Udp)], zone);
    assert!(bench.places(0).is_empty(), "the host's own address is not asked for");
}

#[test]
fn records_are_asked_for_again_when_their_time_is_over() {
    let zone = vec![v4("a.example", &["192.0.2.1"], MINUTE)];
    let mut bench = Bench::new(vec![name("a.example", Some(5060), Transport::Udp)], zone);
    assert_eq!(bench.resolver.poll_change(), Some(0));
    bench.set(Question::V4("a.example".into()), v4("", &["192.0.2.9"], MINUTE).1);
    bench.pass(MINUTE / 2);
    assert_eq!((bench.asked.len(), bench.resolver.poll_change()), (1, None));
    bench.pass(MINUTE);
    assert_eq!((bench.asked.len(), bench.resolver.poll_change()), (2, Some(0)));
    assert_eq!(bench.places(0), ["192.0.2.9:5060 0 0"]);
}

#[test]
fn what_was_known_stays_in_use_while_nobody_answers_and_for_a_day_at_most() {
    let zone = vec![v4("a.example", &["192.0.2.1"], MINUTE)];
    let mut bench = Bench::new(vec![name("a.example", Some(5060), Transport::Udp)], zone);
    bench.set(Question::V4("a.example".into()), Answer::Failed);
    bench.pass(Duration::from_secs(3_600));
    assert_eq!(bench.places(0), ["192.0.2.1:5060 0 0"]);
    let asked = bench.asked.len();
    assert!((100..200).contains(&asked), "asked every 30 s, not more: {asked}");
    bench.pass(Duration::from_secs(25 * 3_600));
    assert!(bench.places(0).is_empty());
    bench.set(Question::V4("a.example".into()), v4("", &["192.0.2.2"], MINUTE).1);
    bench.pass(MINUTE);
    assert_eq!(bench.places(0), ["192.0.2.2:5060 0 0"]);
}

#[test]
fn a_name_that_is_gone_is_gone_and_asked_for_again_after_a_while() {
    let zone = vec![v4("a.example", &["192.0.2.1"], MINUTE)];
    let mut bench = Bench::new(vec![name("a.example", Some(5060), Transport::Udp)], zone);
    bench.set(Question::V4("a.example".into()), Answer::Nothing(Duration::from_secs(7_200)));
    bench.pass(2 * MINUTE);
    assert!(bench.places(0).is_empty(), "the domain itself says so");
    bench.set(Question::V4("a.example".into()), v4("", &["192.0.2.1"], MINUTE).1);
    bench.pass(6 * MINUTE);
    assert_eq!(bench.places(0).len(), 1, "nothing is believed for five minutes at most");
}

#[test]
fn half_an_answer_replaces_none_that_was_whole() {
    let zone = vec![
        srvs("_sip._udp.example", vec![srv(1, 0, 5060, "a.example")]),
        v4("a.example", &["192.0.2.1"], 10 * MINUTE),
    ];
    let mut bench = Bench::new(vec![name("example", None, Transport::Udp)], zone);
    let moved = srvs("", vec![srv(1, 0, 5060, "b.example")]).1;
    bench.set(Question::Srv("_sip._udp.example".into()), moved);
    bench.set(Question::V4("b.example".into()), Answer::Failed);
    bench.pass(2 * MINUTE);
    assert_eq!(bench.places(0), ["192.0.2.1:5060 1 0"], "the new target's address is not known yet");
    bench.set(Question::V4("b.example".into()), v4("", &["192.0.2.2"], MINUTE).1);
    bench.pass(MINUTE);
    assert_eq!(bench.places(0), ["192.0.2.2:5060 1 0"]);
}

#[test]
fn answers_that_nobody_asked_for_and_absurd_ones_change_nothing() {
    let names = vec![name("a.example", Some(5060), Transport::Udp)];
    let many: Vec<String> = (0..200).map(|nth| format!("192.0.2.{nth}")).collect();
    let many: Vec<&str> = ["0.0.0.0", "224.0.0.1"].into_iter().chain(many.iter().map(String::as_str)).collect();
    let mut bench = Bench::new(names, vec![v4("a.example", &many, Duration::ZERO)]);
    assert_eq!((bench.places(0).len(), bench.places(0)[0].as_str()), (16, "192.0.2.0:5060 0 0"));
    let (question, answer) = v4("a.example", &["203.0.113.66"], MINUTE);
    bench.resolver.handle_answer(bench.now, &question, answer);
    assert_eq!(bench.places(0).len(), 16, "its question was answered already");
    let before = bench.asked.len();
    bench.pass(MINUTE);
    assert!(bench.asked.len() - before <= 12, "a time to live of nothing is not taken at its word");
}
