//! The carrier's end: sends raw bytes to the node and tells what came of them.

use std::collections::HashSet;
use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use tonewall::testkit::simple_sip::Message;

/// The longest an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What comes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A final answer of the node's own.
    Answered(u16),
    /// A call to this user on the other leg, where it is busy.
    Call(&'static str),
    /// No answer.
    Ignored,
    /// A final answer, then the stream is closed.
    Closed(u16),
    /// The stream stays open and the node waits for the rest.
    Waits,
}

impl Outcome {
    /// Whom the fake PBX must see called.
    pub fn called(&self) -> Option<&'static str> {
        if let Outcome::Call(user) = self { Some(user) } else { None }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Answered(status) => write!(f, "{status}"),
            Outcome::Call(user) => write!(f, "call to {user}"),
            Outcome::Ignored => write!(f, "no answer"),
            Outcome::Closed(status) => write!(f, "{status}, closed"),
            Outcome::Waits => write!(f, "waits"),
        }
    }
}

/// The status the fake PBX gives every call; nothing else of ours has it.
pub const BUSY: u16 = 486;

/// The trunk's own UDP address.
pub struct Trunk {
    socket: UdpSocket,
    node: SocketAddr,
    seen: HashSet<Vec<u8>>,
    probes: u32,
    /// Bytes sent, probes and acknowledgements aside, and bytes that came for them.
    pub asked: usize,
    pub answered: usize,
    last: usize,
}

impl Trunk {
    pub fn new(address: SocketAddr, node: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address).expect("the trunk's address");
        socket.set_read_timeout(Some(Duration::from_millis(250))).expect("a timeout");
        Self { socket, node, seen: HashSet::new(), probes: 0, asked: 0, answered: 0, last: 0 }
    }

    /// Sends `bytes` and an OPTIONS request behind it; tells what the answers were. Panics when the node is dead.
    pub fn outcome(&mut self, bytes: &[u8], expected: &Outcome) -> Outcome {
        self.socket.send_to(bytes, self.node).expect("sent");
        self.asked += bytes.len();
        let mut answers = self.until_probe();
        if *expected == Outcome::Ignored {
            // An answer later than the probe's would still be one.
            std::thread::sleep(Duration::from_millis(20));
            answers.extend(self.until_probe());
        }
        let until = Instant::now() + PATIENCE;
        while *expected != Outcome::Ignored && !answers.iter().any(is_final) && Instant::now() < until {
            answers.extend(self.receive());
        }
        for answer in &answers {
            let size = answer.print().len();
            assert!(size <= 3 * bytes.len(), "{} bytes are answered with {size}", bytes.len());
        }
        let finals: Vec<&Message> = answers.iter().filter(|answer| is_final(answer)).collect();
        assert!(
            finals.len() <= 1,
            "answered twice: {finals:?}",
            finals = finals.iter().map(|m| &m.start).collect::<Vec<_>>()
        );
        let Some(answer) = finals.first() else { return Outcome::Ignored };
        if answer.cseq().is_some_and(|(_, method)| method == "INVITE") {
            let ack = acknowledge(answer, expected.called().unwrap_or("x"));
            self.socket.send_to(&ack, self.node).expect("sent");
        }
        outcome_of(answer, expected)
    }

    /// Every new answer before that to an OPTIONS request sent now: the node takes what comes in order.
    fn until_probe(&mut self) -> Vec<Message> {
        self.probes += 1;
        let branch = format!("z9hG4bKprobe{}", self.probes);
        let mut answers = Vec::new();
        let until = Instant::now() + PATIENCE;
        let probe = options(self.socket.local_addr().expect("its address"), self.node, &branch, "UDP");
        self.socket.send_to(&probe, self.node).expect("sent");
        while Instant::now() < until {
            let Some(answer) = self.receive() else { continue };
            if answer.branch() == Some(&branch) {
                assert_eq!(answer.status(), Some(200));
                self.answered -= self.last;
                return answers;
            }
            answers.push(answer);
        }
        panic!("the node does not answer OPTIONS any more");
    }

    /// The next datagram that is no repetition.
    fn receive(&mut self) -> Option<Message> {
        let mut buffer = [0; 65_536];
        let (length, from) = self.socket.recv_from(&mut buffer).ok()?;
        assert_eq!(from, self.node);
        let bytes = &buffer[..length];
        (self.answered, self.last) = (self.answered + length, length);
        if !self.seen.insert(bytes.to_vec()) {
            return None;
        }
        Some(read_answer(bytes))
    }
}

/// A stream from the carrier's network.
pub struct Stream {
    stream: TcpStream,
    node: SocketAddr,
    buffer: Vec<u8>,
    closed: bool,
}

impl Stream {
    pub fn open(node: SocketAddr) -> Self {
        let stream = TcpStream::connect(node).expect("the node listens");
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        Self { stream, node, buffer: Vec::new(), closed: false }
    }

    /// Sends `bytes` and tells what came of them.
    pub fn outcome(&mut self, bytes: &[u8], expected: &Outcome) -> Outcome {
        // The node may close before it has read everything.
        let _ = self.stream.write_all(bytes);
        let patience = match expected {
            Outcome::Ignored | Outcome::Waits => Duration::from_millis(150),
            _ => PATIENCE,
        };
        let Some(answer) = self.next_final(patience) else {
            return match expected {
                Outcome::Waits if !self.closed => Outcome::Waits,
                _ => Outcome::Ignored,
            };
        };
        if let Outcome::Closed(_) = expected {
            self.next_final(PATIENCE);
            if self.closed {
                return Outcome::Closed(answer.status().expect("a response"));
            }
        }
        if answer.cseq().is_some_and(|(_, method)| method == "INVITE") {
            let _ = self.stream.write_all(&acknowledge(&answer, expected.called().unwrap_or("x")));
        }
        outcome_of(&answer, expected)
    }

    /// The status of the next final answer.
    pub fn next_status(&mut self) -> Option<u16> {
        self.next_final(PATIENCE)?.status()
    }

    /// Whether the node answers OPTIONS here.
    pub fn is_alive(&mut self) -> bool {
        let from = self.stream.local_addr().expect("its address");
        let probe = options(from, self.node, &format!("z9hG4bKalive{}", from.port()), "TCP");
        self.stream.write_all(&probe).is_ok() && self.next_status() == Some(200)
    }

    fn next_final(&mut self, patience: Duration) -> Option<Message> {
        let until = Instant::now() + patience;
        loop {
            while let Some(answer) = self.take() {
                if is_final(&answer) {
                    return Some(answer);
                }
            }
            if self.closed || Instant::now() >= until {
                return None;
            }
            let mut buffer = [0; 4_096];
            match self.stream.read(&mut buffer) {
                Ok(0) => self.closed = true,
                Ok(length) => self.buffer.extend_from_slice(&buffer[..length]),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                }
                Err(_) => self.closed = true,
            }
        }
    }

    /// The next whole message. Answers of the node have no body but SDP, and end with their Content-Length.
    fn take(&mut self) -> Option<Message> {
        let end = self.buffer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        let (_, length) = head.split_once("Content-Length: ").expect("a Content-Length");
        let length: usize = length.lines().next().expect("a value").parse().expect("a number");
        if self.buffer.len() < end + length {
            return None;
        }
        Some(read_answer(&self.buffer.drain(..end + length).collect::<Vec<_>>()))
    }
}

fn read_answer(bytes: &[u8]) -> Message {
    let head = bytes.split(|b| *b == b'\n').take_while(|line| *line != b"\r");
    for line in head {
        let (end, text) = line.split_last().expect("no line is empty");
        assert!(*end == b'\r', "a bare line feed in an answer");
        // An answer repeats From and To; a quoted pair in them may be NUL (RFC 3261 section 25.1).
        let bare = text.iter().enumerate().any(|(at, b)| *b == b'\r' || (*b == 0 && text[at - 1] != b'\\'));
        assert!(!bare, "a bare control character in an answer");
    }
    let answer = Message::parse(bytes).expect("a SIP message");
    assert!(answer.status().is_some(), "the carrier was sent a request: {}", answer.start);
    answer
}

fn is_final(answer: &Message) -> bool {
    answer.status().is_some_and(|status| status >= 200)
}

fn outcome_of(answer: &Message, expected: &Outcome) -> Outcome {
    match (answer.status().expect("a response"), expected) {
        (BUSY, Outcome::Call(user)) => Outcome::Call(user),
        (status, _) => Outcome::Answered(status),
    }
}

/// The ACK to a refusal (RFC 3261 section 17.1.1.3).
fn acknowledge(answer: &Message, user: &str) -> Vec<u8> {
    let mut ack = Message::new(format!("ACK sip:{user}@tonewall.invalid SIP/2.0"));
    for name in ["Via", "From", "To", "Call-ID"] {
        ack = ack.with(name, answer.get(name).unwrap_or_default());
    }
    let number = answer.cseq().map_or(1, |(number, _)| number);
    ack.with("CSeq", format!("{number} ACK")).with("Max-Forwards", "70").print()
}

fn options(from: SocketAddr, node: SocketAddr, branch: &str, transport: &str) -> Vec<u8> {
    Message::new(format!("OPTIONS sip:{node} SIP/2.0"))
        .with("Via", format!("SIP/2.0/{transport} {from};branch={branch};rport"))
        .with("From", format!("<sip:probe@{from}>;tag=p"))
        .with("To", format!("<sip:{node}>"))
        .with("Call-ID", branch)
        .with("CSeq", "1 OPTIONS")
        .with("Max-Forwards", "70")
        .print()
}
