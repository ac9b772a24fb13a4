//! A bare RESP2 and RESP3 client: commands out as arrays of bulk strings, replies in as bytes or as a `Value`.
//!
//! It decodes strictly and panics on bytes that are no reply: in a test that is the finding. Push messages are
//! values like any other; nothing is hidden, reordered or retried.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// One reply, by the type that it has on the wire.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Simple(Vec<u8>),
    Error(Vec<u8>),
    Int(i64),
    Bulk(Vec<u8>),
    /// `$-1` in RESP2, `_` in RESP3: the bytes tell them apart, a test of meaning need not.
    Nil,
    /// `*-1`, RESP2 only.
    NilArray,
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    /// As printed by the server, since the text is what clients see.
    Double(Vec<u8>),
    Bool(bool),
    BigNumber(Vec<u8>),
    Verbatim(Vec<u8>),
    Attribute(Vec<(Value, Value)>),
}

impl Value {
    /// The bytes of a string-like reply, or `None` for every other type.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Simple(bytes) | Value::Bulk(bytes) | Value::Verbatim(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// As text, for messages and for `assert_eq!(reply.text(), "OK")`; an error keeps its first word.
    pub fn text(&self) -> String {
        match self {
            Value::Error(bytes) => lossy(bytes),
            other => other.bytes().map_or_else(|| other.to_string(), lossy),
        }
    }

    /// The elements of an array, set or push, or `None` for every other type.
    pub fn elements(&self) -> Option<&[Value]> {
        match self {
            Value::Array(elements) | Value::Set(elements) | Value::Push(elements) => Some(elements),
            _ => None,
        }
    }
}

/// As redis-cli would show it, on one line.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, open: &str, items: &[Value], close: &str| {
            write!(f, "{open}")?;
            for (at, item) in items.iter().enumerate() {
                write!(f, "{}{item}", if at == 0 { "" } else { ", " })?;
            }
            write!(f, "{close}")
        };
        match self {
            Value::Simple(text) => write!(f, "+{}", lossy(text)),
            Value::Error(text) => write!(f, "-{}", lossy(text)),
            Value::Int(number) => write!(f, "(integer) {number}"),
            Value::Bulk(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Value::Nil => write!(f, "(nil)"),
            Value::NilArray => write!(f, "(nil array)"),
            Value::Array(items) => list(f, "[", items, "]"),
            Value::Set(items) => list(f, "set{", items, "}"),
            Value::Push(items) => list(f, "push[", items, "]"),
            Value::Double(text) => write!(f, "(double) {}", lossy(text)),
            Value::Bool(value) => write!(f, "({value})"),
            Value::BigNumber(text) => write!(f, "(big number) {}", lossy(text)),
            Value::Verbatim(bytes) => write!(f, "verbatim\"{}\"", bytes.escape_ascii()),
            Value::Map(pairs) | Value::Attribute(pairs) => {
                write!(f, "{{")?;
                for (at, (key, value)) in pairs.iter().enumerate() {
                    write!(f, "{}{key}: {value}", if at == 0 { "" } else { ", " })?;
                }
                write!(f, "}}")
            }
        }
    }
}

/// One connection. Reads time out after ten seconds, so that a hung server fails a test instead of hanging it.
pub struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
        Client { reader: BufReader::with_capacity(1 << 16, stream) }
    }

    /// Sends one command and decodes its reply.
    pub fn command<A: AsRef<[u8]>>(&mut self, argv: &[A]) -> Value {
        self.send(argv);
        self.reply()
    }

    /// As [`Client::command`]; none if there is no reply within so many seconds. The connection is of no use then.
    pub fn command_within<A: AsRef<[u8]>>(&mut self, argv: &[A], secs: u64) -> Option<Value> {
        self.send(argv);
        let stream = self.reader.get_ref();
        stream.set_read_timeout(Some(Duration::from_secs(secs))).expect("a timeout can be set");
        let ready = self.reader.fill_buf().is_ok_and(|bytes| !bytes.is_empty());
        ready.then(|| self.reply())
    }

    /// As [`Client::command`]; none if the connection is gone.
    pub fn try_command<A: AsRef<[u8]>>(&mut self, argv: &[A]) -> Option<Value> {
        self.reader.get_mut().write_all(&encode(argv)).ok()?;
        let there = self.reader.fill_buf().is_ok_and(|bytes| !bytes.is_empty());
        there.then(|| self.reply())
    }

    /// One command as a line of words: for argv without spaces.
    pub fn line(&mut self, words: &str) -> Value {
        self.command(&words.split_whitespace().collect::<Vec<_>>())
    }

    /// Sends one command and returns the bytes of its reply.
    pub fn command_bytes<A: AsRef<[u8]>>(&mut self, argv: &[A]) -> Vec<u8> {
        self.send(argv);
        self.reply_bytes()
    }

    pub fn send<A: AsRef<[u8]>>(&mut self, argv: &[A]) {
        self.send_raw(&encode(argv));
    }

    /// Bytes as they are: pipelines, inline commands, garbage.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).expect("the server reads");
    }

    pub fn reply(&mut self) -> Value {
        let bytes = self.reply_bytes();
        let (value, used) = decode(&bytes);
        assert_eq!(used, bytes.len(), "the reply was read to its end: {}", bytes.escape_ascii());
        value
    }

    /// The exact bytes of the next reply.
    pub fn reply_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.read_reply(&mut bytes);
        bytes
    }

    /// True when the server has closed the connection; bytes that came before the end are dropped.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// No more bytes from us; replies can still be read.
    pub fn finish_sending(&mut self) {
        self.reader.get_mut().shutdown(Shutdown::Write).expect("an open socket can be shut");
    }

    fn read_reply(&mut self, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        self.reader.read_until(b'\n', bytes).expect("a reply within ten seconds");
        let line = &bytes[start..];
        assert!(line.ends_with(b"\r\n"), "a reply ended early: {}", line.escape_ascii());
        let (kind, count) = (line[0], number(&line[1..line.len() - 2]));
        match kind {
            b'$' | b'=' | b'!' => {
                let count = count.expect("a bulk has a length");
                if count >= 0 {
                    let body = bytes.len();
                    bytes.resize(body + count as usize + 2, 0);
                    self.reader.read_exact(&mut bytes[body..]).expect("the whole bulk");
                }
            }
            b'*' | b'~' | b'>' | b'%' | b'|' => {
                let each = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
                for _ in 0..count.expect("an aggregate has a length").max(0) * each {
                    self.read_reply(bytes);
                }
            }
            _ => {}
        }
    }
}

/// A command as an array of bulk strings.
pub fn encode<A: AsRef<[u8]>>(argv: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", argv.len()).into_bytes();
    for arg in argv {
        let arg = arg.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Decodes the reply at the start of `bytes`, and says how many of them it took.
pub fn decode(bytes: &[u8]) -> (Value, usize) {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n").expect("a reply has a first line");
    let (kind, text, mut at) = (bytes[0], &bytes[1..end], end + 2);
    let count = || number(text).unwrap_or_else(|| panic!("not a length: {}", text.escape_ascii()));
    let value = match kind {
        b'+' => Value::Simple(text.to_vec()),
        b'-' => Value::Error(text.to_vec()),
        b':' => Value::Int(count()),
        b',' => Value::Double(text.to_vec()),
        b'(' => Value::BigNumber(text.to_vec()),
        b'#' => Value::Bool(text == b"t"),
        b'_' => Value::Nil,
        b'$' if count() < 0 => Value::Nil,
        b'*' if count() < 0 => Value::NilArray,
        b'$' | b'=' | b'!' => {
            let body = bytes[at..at + count() as usize].to_vec();
            at += body.len() + 2;
            match kind {
                b'$' => Value::Bulk(body),
                b'=' => Value::Verbatim(body),
                _ => Value::Error(body),
            }
        }
        b'*' | b'~' | b'>' | b'%' | b'|' => {
            let mut next = || {
                let (value, used) = decode(&bytes[at..]);
                at += used;
                value
            };
            match kind {
                b'%' => Value::Map((0..count()).map(|_| (next(), next())).collect()),
                b'|' => Value::Attribute((0..count()).map(|_| (next(), next())).collect()),
                b'*' => Value::Array((0..count()).map(|_| next()).collect()),
                b'~' => Value::Set((0..count()).map(|_| next()).collect()),
                _ => Value::Push((0..count()).map(|_| next()).collect()),
            }
        }
        other => panic!("no reply starts with {:?}: {}", char::from(other), bytes.escape_ascii()),
    };
    (value, at)
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
