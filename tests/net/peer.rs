//! SIP peers from plain sockets: one UDP socket or one connection each, and the messages they write.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonewall::testkit::simple_sip::Message;

use crate::site::SOON;

trait Both: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Both for T {}

/// One end of a connection.
pub struct Wire {
    stream: Box<dyn Both>,
    buffer: Vec<u8>,
    /// Our address.
    pub local: SocketAddr,
    /// Word for Via.
    pub transport: &'static str,
    /// Lone or double CRLFs read so far.
    pub crlf: VecDeque<usize>,
}

impl Wire {
    pub async fn tcp(to: SocketAddr) -> Wire {
        let stream = TcpStream::connect(to).await.expect("a connection");
        Wire::of_tcp(stream)
    }

    pub fn of_tcp(stream: TcpStream) -> Wire {
        let local = stream.local_addr().expect("an address");
        Wire { stream: Box::new(stream), buffer: Vec::new(), local, transport: "TCP", crlf: VecDeque::new() }
    }

    /// Connects by TLS; the error is the handshake's.
    pub async fn tls(to: SocketAddr, config: Arc<ClientConfig>, name: &'static str) -> std::io::Result<Wire> {
        Wire::tls_from(SocketAddr::from(([127, 0, 0, 1], 0)), to, config, name).await
    }

    pub async fn tls_from(
        from: SocketAddr,
        to: SocketAddr,
        config: Arc<ClientConfig>,
        name: &'static str,
    ) -> std::io::Result<Wire> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(from)?;
        let stream = socket.connect(to).await?;
        let local = stream.local_addr()?;
        let name = ServerName::try_from(name).expect("a name");
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Ok(Wire { stream: Box::new(stream), buffer: Vec::new(), local, transport: "TLS", crlf: VecDeque::new() })
    }

    pub async fn send(&mut self, message: &Message) {
        self.raw(&message.print()).await;
    }

    pub async fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("written");
        self.stream.flush().await.expect("written");
    }

    /// The next message; `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<Message> {
        timeout(SOON, self.read_message()).await.expect("a message or an end in time")
    }

    /// Whether nothing but keep-alives comes for a while.
    pub async fn silent(&mut self, wait: Duration) -> bool {
        timeout(wait, self.read_message()).await.is_err()
    }

    async fn read_message(&mut self) -> Option<Message> {
        loop {
            let blank = self.buffer.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            if blank > 0 {
                self.buffer.drain(..blank);
                self.crlf.push_back(blank);
            }
            if let Some(head) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&self.buffer[..head]).to_lowercase();
                let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
                let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
                if self.buffer.len() >= head + 4 + length {
                    let whole: Vec<u8> = self.buffer.drain(..head + 4 + length).collect();
                    return Some(Message::parse(&whole).expect("a SIP message"));
                }
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk).await {
                Ok(read) if read > 0 => self.buffer.extend_from_slice(&chunk[..read]),
                _ => return None,
            }
        }
    }

    /// Whether the peer answers an OPTIONS with 200 on this connection.
    pub async fn is_served(&mut self) -> bool {
        let options = request("OPTIONS", self.local, self.transport, "probe");
        let sent = self.stream.write_all(&options.print()).await.is_ok() && self.stream.flush().await.is_ok();
        sent && self.next().await.and_then(|answer| answer.status()) == Some(200)
    }
}

/// Takes connections for a trunk's peer.
pub struct Door {
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    pub at: SocketAddr,
}

/// What the client of a TLS connection asked for and showed.
pub struct Shown {
    pub name: Option<String>,
    pub certificates: usize,
}

impl Door {
    pub async fn open(tls: Option<Arc<ServerConfig>>) -> Door {
        Door::open_at(SocketAddr::from(([127, 0, 0, 1], 0)), tls).await
    }

    pub async fn open_at(at: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Door {
        let listener = TcpListener::bind(at).await.expect("a listener");
        let at = listener.local_addr().expect("an address");
        Door { listener, tls, at }
    }

    /// The next connection; an error is the handshake's.
    pub async fn next(&self) -> std::io::Result<(Wire, Option<Shown>)> {
        let (stream, _) = timeout(SOON, self.listener.accept()).await.expect("a connection in time")?;
        let Some(config) = &self.tls else { return Ok((Wire::of_tcp(stream), None)) };
        let local = stream.local_addr()?;
        let stream = TlsAcceptor::from(config.clone()).accept(stream).await?;
        let session = stream.get_ref().1;
        let shown = Shown {
            name: session.server_name().map(str::to_owned),
            certificates: session.peer_certificates().map_or(0, <[_]>::len),
        };
        let wire =
            Wire { stream: Box::new(stream), buffer: Vec::new(), local, transport: "TLS", crlf: VecDeque::new() };
        Ok((wire, Some(shown)))
    }

    /// Whether nobody connects for a while.
    pub async fn is_left_alone(&self, wait: Duration) -> bool {
        timeout(wait, self.listener.accept()).await.is_err()
    }
}

/// A UDP peer.
pub struct Plain {
    pub socket: UdpSocket,
    pub at: SocketAddr,
}

impl Plain {
    pub async fn open() -> Plain {
        Plain::open_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub async fn open_at(at: SocketAddr) -> Plain {
        let socket = UdpSocket::bind(at).await.expect("a socket");
        let at = socket.local_addr().expect("an address");
        Plain { socket, at }
    }

    pub async fn send(&self, to: SocketAddr, message: &Message) {
        self.socket.send_to(&message.print(), to).await.expect("sent");
    }

    pub async fn next(&self) -> (Message, SocketAddr) {
        timeout(SOON, self.read()).await.expect("a message in time")
    }

    /// The next message that is no provisional 100.
    pub async fn next_but_trying(&self) -> Message {
        loop {
            let (message, _) = self.next().await;
            if message.status() != Some(100) {
                return message;
            }
        }
    }

    async fn read(&self) -> (Message, SocketAddr) {
        let mut buffer = vec![0; 65_536];
        loop {
            // An ICMP error of an earlier datagram shows up here.
            if let Ok((length, from)) = self.socket.recv_from(&mut buffer).await
                && let Some(message) = Message::parse(&buffer[..length])
            {
                return (message, from);
            }
        }
    }
}

/// A request outside any dialog, by a peer at `from`.
pub fn request(method: &str, from: SocketAddr, transport: &str, name: &str) -> Message {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let nth = NEXT.fetch_add(1, Ordering::Relaxed);
    let parameter = if transport == "UDP" { String::new() } else { format!(";transport={}", transport.to_lowercase()) };
    Message::new(format!("{method} sip:5551000@node.example SIP/2.0"))
        .with("Via", format!("SIP/2.0/{transport} {from};rport;branch=z9hG4bK{name}{nth}"))
        .with("Max-Forwards", "70")
        .with("From", format!("<sip:{name}@{from}>;tag=t{nth}"))
        .with("To", "<sip:5551000@node.example>")
        .with("Call-ID", format!("{name}{nth}@{from}"))
        .with("CSeq", format!("1 {method}"))
        .with("Contact", format!("<sip:{name}@{from}{parameter}>"))
}

/// An INVITE with an offer of PCMU.
pub fn invite(from: SocketAddr, transport: &str, name: &str) -> Message {
    request("INVITE", from, transport, name).with_body("application/sdp", sdp(from.ip()))
}

pub fn sdp(ip: std::net::IpAddr) -> String {
    let kind = if ip.is_ipv4() { "IP4" } else { "IP6" };
    format!("v=0\r\no=- 1 1 IN {kind} {ip}\r\ns=-\r\nc=IN {kind} {ip}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n")
}

/// The answer to a request.
pub fn answer(request: &Message, status: u16, reason: &str, contact: SocketAddr) -> Message {
    let mut answer = Message::new(format!("SIP/2.0 {status} {reason}"));
    for name in ["via", "from", "call-id", "cseq"] {
        for value in request.all(name) {
            answer = answer.with(name, value);
        }
    }
    let to = request.get("to").expect("To");
    let to = if status > 100 && !to.contains("tag=") { format!("{to};tag=peer") } else { to.to_owned() };
    answer.with("To", to).with("Contact", format!("<sip:{contact}>"))
}

/// 200 with an answer of PCMU.
pub fn ok(request: &Message, at: SocketAddr) -> Message {
    answer(request, 200, "OK", at).with_body("application/sdp", sdp(at.ip()))
}

/// A request within the dialog that `answer` to `invite` made, by the caller.
pub fn within(
    method: &str,
    invite: &Message,
    answer: &Message,
    (from, transport): (SocketAddr, &str),
    cseq: u32,
) -> Message {
    let target = tonewall::testkit::simple_sip::uri(answer.get("contact").expect("Contact")).to_owned();
    let copy = |message: &Message, name: &str| message.get(name).expect("a header").to_owned();
    Message::new(format!("{method} {target} SIP/2.0"))
        .with(
            "Via",
            format!("SIP/2.0/{transport} {from};rport;branch=z9hG4bK{method}{cseq}{}", copy(invite, "call-id")),
        )
        .with("Max-Forwards", "70")
        .with("From", copy(invite, "from"))
        .with("To", copy(answer, "to"))
        .with("Call-ID", copy(invite, "call-id"))
        .with("CSeq", format!("{cseq} {method}"))
}
