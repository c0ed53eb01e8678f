//! Two telephones calling each other directly, in virtual time, over a clean and a poor network.

use super::*;
use crate::testkit::keys::{Form, typed};
use crate::testkit::net::{Conditions, Datagram, Net};
use rand::SeedableRng;
use std::time::Duration;

struct Two {
    now: Instant,
    net: Net,
    path: Conditions,
    agents: [UserAgent; 2],
    log: [Vec<Event>; 2],
}

const SIP: [&str; 2] = ["10.0.0.1:5060", "10.0.0.2:5060"];
const RTP: [&str; 2] = ["10.0.0.1:4000", "10.0.0.2:4000"];

impl Two {
    #[allow(clippy::disallowed_methods)]
    fn new(seed: u64, path: Conditions, profiles: [Profile; 2]) -> Self {
        let random = |n: u64| Random::seed_from_u64(seed * 10 + n);
        let [a, b] = profiles;
        let agent = |n: usize, p| UserAgent::new(p, SIP[n].parse().unwrap(), RTP[n].parse().unwrap(), random(n as u64));
        Self {
            now: Instant::now(),
            net: Net::new(random(5)),
            path,
            agents: [agent(0, a), agent(1, b)],
            log: Default::default(),
        }
    }

    fn run(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        loop {
            for n in 0..2 {
                while let Some((port, to, bytes)) = self.agents[n].poll_transmit() {
                    let from = if port == Port::Sip { SIP[n] } else { RTP[n] }.parse().unwrap();
                    self.net.send(self.now, Datagram { from, to, bytes }, &self.path);
                }
                while let Some(event) = self.agents[n].poll_event() {
                    self.log[n].push(event);
                }
            }
            let timers = self.agents.iter().filter_map(UserAgent::poll_timeout);
            let Some(next) = timers.chain(self.net.poll_timeout()).min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(next);
            while let Some(d) = self.net.receive(self.now) {
                let n = usize::from(d.to.ip() == SIP[1].parse::<SocketAddr>().unwrap().ip());
                if d.to.port() == 5060 {
                    self.agents[n].handle_sip(self.now, d.from, &d.bytes);
                } else {
                    self.agents[n].rtp.heard.handle_rtp(self.now, &d.bytes);
                }
            }
            self.agents.iter_mut().for_each(|a| a.handle_timeout(self.now));
        }
        self.now = end;
    }
}

fn profiles(answer: Answer) -> [Profile; 2] {
    [Profile::new("caller"), Profile::new("agent").answering(answer)]
}

#[test]
fn a_call_is_set_up_heard_and_ended() {
    let mut two = Two::new(1, Conditions::CLEAN, profiles(Answer::After(100)));
    let now = two.now;
    two.agents[0].invite(now, "agent", SIP[1].parse().unwrap());
    two.run(300);
    two.agents[0].press(50, typed("42#", Form::Event, 80, 80));
    two.run(1_000);
    let now = two.now;
    two.agents[1].hang_up(now);
    two.run(100);
    assert_eq!(two.log[0], [Event::Progress { status: 180, media: false }, Event::Up, Event::HungUp]);
    assert_eq!(two.log[1], [Event::Incoming, Event::Up, Event::Ended]);
    assert_eq!(two.agents[1].rtp.heard.event_codes(), [4, 2, 11]);
    assert_eq!(two.agents[1].rtp.heard.lost(), 0);
    assert!(two.agents[0].rtp.heard.packets().len() > 50);
}

#[test]
fn digits_by_info_are_answered() {
    let mut two = Two::new(2, Conditions::CLEAN, profiles(Answer::EarlyMedia(100)));
    let now = two.now;
    two.agents[0].invite(now, "agent", SIP[1].parse().unwrap());
    two.run(300);
    two.agents[0].press(0, typed("19", Form::Info, 80, 80));
    two.run(600);
    assert_eq!(two.log[0][0], Event::Progress { status: 183, media: true });
    assert_eq!(two.agents[1].infos().len(), 2);
    assert_eq!(two.agents[1].infos()[1].body, b"Signal=9\r\nDuration=80\r\n");
    assert_eq!(two.log[0].iter().filter(|e| **e == Event::InfoAnswered(200)).count(), 2);
}

#[test]
fn a_call_can_be_given_up_and_refused() {
    let mut two = Two::new(3, Conditions::CLEAN, profiles(Answer::Never));
    let now = two.now;
    two.agents[0].invite(now, "agent", SIP[1].parse().unwrap());
    two.run(300);
    let now = two.now;
    two.agents[0].hang_up(now);
    two.run(100);
    assert_eq!(two.log[0].last(), Some(&Event::Rejected(487)));
    assert_eq!(two.log[1], [Event::Incoming, Event::Cancelled]);

    let mut two = Two::new(4, Conditions::CLEAN, profiles(Answer::Reject(486)));
    let now = two.now;
    two.agents[0].invite(now, "agent", SIP[1].parse().unwrap());
    two.run(300);
    assert_eq!(two.log[0], [Event::Rejected(486)]);
}

#[test]
fn hold_stops_the_held_sides_sound() {
    let mut two = Two::new(5, Conditions::CLEAN, profiles(Answer::After(0)));
    let now = two.now;
    two.agents[0].invite(now, "agent", SIP[1].parse().unwrap());
    two.run(300);
    let now = two.now;
    two.agents[0].reinvite(now, Direction::SendOnly);
    two.run(100);
    let held = two.agents[0].rtp.heard.packets().len();
    two.run(500);
    assert!(two.agents[0].rtp.heard.packets().len() <= held + 1);
    assert_eq!(two.log[1].last(), Some(&Event::Changed(Direction::SendOnly)));
    let now = two.now;
    two.agents[0].reinvite(now, Direction::SendRecv);
    two.run(500);
    assert!(two.agents[0].rtp.heard.packets().len() > held + 20);
}

#[test]
fn a_poor_network_delays_but_never_breaks_a_call() {
    for seed in 10..40 {
        let mut two = Two::new(seed, Conditions { loss: 0.2, ..Conditions::POOR }, profiles(Answer::After(100)));
        let now = two.now;
        two.agents[0].invite(now, "agent", SIP[1].parse().unwrap());
        two.run(20_000);
        assert!(two.agents.iter().all(UserAgent::is_up), "seed {seed}: {:?}", two.log);
        let now = two.now;
        two.agents[0].hang_up(now);
        two.run(20_000);
        assert!(two.agents.iter().all(UserAgent::is_ended), "seed {seed}: {:?}", two.log);
    }
}
