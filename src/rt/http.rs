//! A very small HTTP server for what machines ask an operator's server: metrics and health.
//!
//! Its threads belong to no shard and are pinned nowhere: one waits for connections on each listener, and each connection has one of
//! its own for as long as it takes, [`CONNECTIONS_MAX`] at most. A request is read for [`READ_TIME`] and [`REQUEST_BYTES_MAX`] at most, has one
//! answer, and the connection ends with it; so nobody can hold much of it for long, and no shard notices.
//!
//! Understood is what a scraper sends: `GET` or `HEAD`, a path, HTTP/1.0 or 1.1, headers that are passed over. Whatever else comes gets
//! an error. Absent on purpose: bodies of requests, keep-alive, TLS, and what the answers are (handed in).

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

use super::socket::Listener;

/// Connections that are served at the same time.
pub const CONNECTIONS_MAX: usize = 16;
/// How long a request may take to arrive, and its answer to leave.
const READ_TIME: Duration = Duration::from_secs(5);
/// The longest request, bytes.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// After a failed accept (no descriptors, say) it is tried again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a request is answered with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// 200, 404…
    pub status: u16,
    /// What the body is.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A line of text.
    pub fn text(status: u16, line: impl std::fmt::Display) -> Answer {
        Answer { status, content_type: "text/plain; charset=utf-8", body: format!("{line}\n") }
    }
}

/// Serves requests from now on; `answer` is given the path, without what stands behind a question mark.
pub fn serve(listeners: Vec<Listener>, answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> io::Result<()> {
    let answer: Arc<dyn Fn(&str) -> Answer + Send + Sync> = Arc::new(answer);
    let open = Arc::new(AtomicUsize::new(0));
    for listener in listeners {
        let (answer, open) = (Arc::clone(&answer), Arc::clone(&open));
        let listener = TcpListener::from(listener.socket);
        Builder::new().name("metrics".to_owned()).spawn(move || accept(&listener, &answer, &open))?;
    }
    Ok(())
}

/// Counts a connection for as long as it is served.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn accept(listener: &TcpListener, answer: &Arc<dyn Fn(&str) -> Answer + Send + Sync>, open: &Arc<AtomicUsize>) {
    loop {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(ACCEPT_PAUSE);
            continue;
        };
        let before = open.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(Arc::clone(open));
        if before >= CONNECTIONS_MAX {
            // It fits the socket's buffer, so nobody can hold this thread up.
            let _ = respond(&stream, &Answer::text(503, "too many connections"), false, Duration::from_millis(10));
            continue;
        }
        let answer = Arc::clone(answer);
        let served = Builder::new().name("metrics".to_owned()).spawn(move || {
            // A peer that goes away in between is nobody's trouble.
            let _ = converse(&stream, &*answer);
            drop(counted);
        });
        if let Err(error) = served {
            tracing::warn!("metrics: a request could not be served: {error}");
        }
    }
}

fn converse(stream: &TcpStream, answer: &(dyn Fn(&str) -> Answer + Send + Sync)) -> io::Result<()> {
    let (answer, head) = match read_request(stream)? {
        Ok(Request { path, head }) => (answer(&path), head),
        Err(refusal) => (refusal, false),
    };
    respond(stream, &answer, head, READ_TIME)
}

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Request {
    path: String,
    /// Whether only the head of the answer is wanted.
    head: bool,
}

/// A request, or the answer to something that is none.
fn read_request(mut stream: &TcpStream) -> io::Result<Result<Request, Answer>> {
    let until = Instant::now() + READ_TIME;
    let mut bytes = Vec::new();
    let mut piece = [0; 1024];
    loop {
        if let Some(outcome) = parse(&bytes) {
            return Ok(outcome);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Err(Answer::text(408, "the request did not come in time")));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The time is over; the next round says so.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Nothing while a request is not whole. The head is whole with its empty line; what follows is not looked at.
fn parse(bytes: &[u8]) -> Option<Result<Request, Answer>> {
    let bad = |line: &str| Some(Err(Answer::text(400, line)));
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return match bytes {
            _ if bytes.len() > REQUEST_BYTES_MAX => Some(Err(Answer::text(414, "the request line is too long"))),
            _ if bytes.contains(&b'\n') => bad("lines end with CR LF"),
            // A TLS handshake, or another protocol, is told at once.
            [first, ..] if !first.is_ascii_uppercase() => bad("this is not HTTP"),
            _ => None,
        };
    };
    let Ok(line) = std::str::from_utf8(&bytes[..end]) else { return bad("this is not HTTP") };
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = words[..] else { return bad("this is not HTTP") };
    if !["HTTP/1.0", "HTTP/1.1"].contains(&version) {
        return Some(Err(Answer::text(505, "HTTP/1.0 and HTTP/1.1 are spoken")));
    }
    if !target.starts_with('/') || target.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return bad("the target is not a path");
    }
    let head = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Some(Err(Answer::text(405, "GET and HEAD are understood"))),
    };
    if !bytes[end..].windows(4).any(|four| four == b"\r\n\r\n") {
        let long = bytes.len() > REQUEST_BYTES_MAX;
        return long.then(|| Err(Answer::text(431, "the headers are too long")));
    }
    let path = target.split(['?', '#']).next().unwrap_or(target).to_owned();
    Some(Ok(Request { path, head }))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        414 => "URI Too Long",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

fn respond(mut stream: &TcpStream, answer: &Answer, head: bool, time: Duration) -> io::Result<()> {
    let Answer { status, content_type, body } = answer;
    let allow = if *status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    let mut text = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{allow}Cache-Control: no-store\r\n\
         Connection: close\r\n\r\n",
        reason(*status),
        body.len()
    );
    if !head {
        text.push_str(body);
    }
    stream.set_write_timeout(Some(time))?;
    stream.write_all(text.as_bytes())?;
    stream.shutdown(Shutdown::Write)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: &[u8]) -> Option<u16> {
        parse(request).map(|outcome| outcome.map_or_else(|answer| answer.status, |_| 200))
    }

    #[test]
    fn what_a_scraper_sends_is_understood() {
        let request = parse(b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n").unwrap().unwrap();
        assert_eq!(request, Request { path: "/metrics".into(), head: false });
        assert!(parse(b"HEAD / HTTP/1.0\r\n\r\n").unwrap().unwrap().head);
        for part in [&b""[..], b"GET /met", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n"] {
            assert_eq!(status(part), None, "{}", String::from_utf8_lossy(part));
        }
    }

    #[test]
    fn whatever_else_comes_gets_an_error() {
        let long = [b'a'; REQUEST_BYTES_MAX];
        for (request, wanted) in [
            (&b"POST / HTTP/1.1\r\n\r\n"[..], 405),
            (b"GET /\r\n\r\n", 400),
            (b"GET / HTTP/2\r\n\r\n", 505),
            (b"GET http://a/ HTTP/1.1\r\n\r\n", 400),
            (b"GET /\x7f HTTP/1.1\r\n\r\n", 400),
            (b"GET /a b HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\n\n", 400),
            (b"\x16\x03\x01\x02\x00\x01\x00", 400),
            (b"*1\r\n$4\r\nPING\r\n", 400),
            (b"\xff\xfe\r\n\r\n", 400),
            (&[&b"GET /"[..], &long].concat(), 414),
            (&[&b"GET / HTTP/1.1\r\nX: "[..], &long].concat(), 431),
        ] {
            assert_eq!(status(request), Some(wanted), "{}", String::from_utf8_lossy(&request[..request.len().min(40)]));
        }
    }

    #[test]
    fn any_bytes_are_parsed_without_a_panic() {
        let mut rng = crate::base::rng::Rng::seed(5);
        for _ in 0..20_000 {
            let mut request = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
            for _ in 0..1 + rng.below(4) {
                let at = rng.below(request.len() as u64) as usize;
                request[at] = rng.below(256) as u8;
            }
            let _ = parse(&request);
        }
    }
}
