//! Certificates made on the spot, and a client that speaks TLS by the byte.
//! Deliberately absent: a connection pool, retries; what the server does is shown as it is.

use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore};

use super::harness::Value;
use super::harness::resp::{decode, encode};

/// A folder with an authority's certificate and a server's, and who signs further ones.
pub struct Files {
    folder: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Files {
    pub fn new(name: &str) -> Files {
        let folder = std::env::temp_dir().join(format!("annulus-tls-test-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the authority of a test");
        let key = KeyPair::generate().expect("randomness");
        let authority = CertifiedIssuer::self_signed(params, key).expect("the parameters are sound");
        let files = Files { folder, authority };
        files.write("ca.crt", &files.authority.pem());
        files.sign_server("server");
        files
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("a plain path").to_owned()
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).expect("the folder is writable");
    }

    /// A certificate of this common name, and its key, in PEM.
    pub fn sign(&self, common_name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a sound name");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("randomness");
        let certificate = params.signed_by(&key, &self.authority).expect("the parameters are sound");
        (certificate.pem(), key.serialize_pem())
    }

    /// Writes `NAME.crt` and `NAME.key`; returns the certificate.
    pub fn sign_server(&self, name: &str) -> Vec<u8> {
        let (certificate, key) = self.sign(name);
        self.write(&format!("{name}.crt"), &certificate);
        self.write(&format!("{name}.key"), &key);
        CertificateDer::from_pem_slice(certificate.as_bytes()).expect("our own PEM").to_vec()
    }

    /// Directives for a server with these files.
    pub fn directives(&self, tls_port: u16) -> Vec<String> {
        let pairs = [
            ("--tls-port", tls_port.to_string()),
            ("--tls-cert-file", self.path("server.crt")),
            ("--tls-key-file", self.path("server.key")),
            ("--tls-ca-cert-file", self.path("ca.crt")),
        ];
        pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }

    /// How a client with a certificate of this common name connects; without one, if there is none.
    pub fn client_config(&self, common_name: Option<&str>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("ring has both versions").with_root_certificates(roots);
        Arc::new(match common_name {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let (certificate, key) = self.sign(name);
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("our own PEM")];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("our own PEM");
                builder.with_client_auth_cert(chain, key).expect("a sound key")
            }
        })
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // Litter in the temporary folder is no failed test.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// How a read ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The server has said that nothing will follow (close_notify).
    Farewell,
    /// The line is dead without that.
    Cut,
    /// Neither, within the timeout.
    Open,
}

/// One TLS connection. Reads time out after ten seconds, so that a hung server fails a test instead of hanging it.
pub struct TlsClient {
    connection: ClientConnection,
    socket: TcpStream,
    plain: Vec<u8>,
}

impl TlsClient {
    /// Connects, without a word yet.
    pub fn open(port: u16, config: &Arc<ClientConfig>) -> TlsClient {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        socket.set_nodelay(true).expect("TCP_NODELAY can be set");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
        let name = ServerName::try_from("localhost").expect("a sound name");
        let connection = ClientConnection::new(Arc::clone(config), name).expect("a sound configuration");
        TlsClient { connection, socket, plain: Vec::new() }
    }

    /// Connects and shakes hands.
    pub fn connect(port: u16, config: &Arc<ClientConfig>) -> TlsClient {
        let mut client = TlsClient::open(port, config);
        client.shake_hands(usize::MAX).expect("the handshake succeeds");
        client
    }

    /// The handshake, with what we send in pieces of so many bytes.
    pub fn shake_hands(&mut self, piece: usize) -> Result<(), String> {
        while self.connection.is_handshaking() {
            self.flush(piece);
            if self.connection.is_handshaking() {
                self.read_some()?;
            }
        }
        self.flush(piece);
        Ok(())
    }

    /// Sends what is encrypted, in pieces.
    fn flush(&mut self, piece: usize) {
        let mut wire = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut wire).expect("a vector takes everything");
        }
        for part in wire.chunks(piece.max(1)) {
            // A server that has closed the connection already is the test's to find.
            let _ = self.socket.write_all(part);
        }
    }

    fn read_some(&mut self) -> Result<usize, String> {
        let read = self.connection.read_tls(&mut self.socket).map_err(|error| format!("{:?}", error.kind()))?;
        self.connection.process_new_packets().map_err(|error| error.to_string())?;
        let mut reader = self.connection.reader();
        while let Ok(part) = reader.fill_buf() {
            if part.is_empty() {
                break;
            }
            self.plain.extend_from_slice(part);
            let len = part.len();
            reader.consume(len);
        }
        if read == 0 { Err("UnexpectedEof".to_owned()) } else { Ok(read) }
    }

    /// Encrypts and sends, in pieces of so many bytes.
    pub fn send_in_pieces(&mut self, plain: &[u8], piece: usize) {
        for part in plain.chunks(32 * 1024) {
            self.connection.writer().write_all(part).expect("there is room");
            self.flush(piece);
        }
    }

    pub fn send(&mut self, plain: &[u8]) {
        self.send_in_pieces(plain, usize::MAX);
    }

    /// Bytes as they are, past TLS.
    pub fn send_wire(&mut self, wire: &[u8]) {
        let _ = self.socket.write_all(wire);
    }

    /// Reads until there are so many bytes of plaintext, and takes them.
    pub fn read(&mut self, bytes: usize) -> Vec<u8> {
        while self.plain.len() < bytes {
            self.read_some().expect("the server answers");
        }
        self.plain.drain(..bytes).collect()
    }

    /// Reads one reply that fits a line, or a bulk.
    pub fn reply(&mut self) -> Value {
        loop {
            if is_whole(&self.plain) {
                let (value, used) = decode(&self.plain);
                self.plain.drain(..used);
                return value;
            }
            self.read_some().expect("the server answers");
        }
    }

    pub fn line(&mut self, words: &str) -> Value {
        self.send(&encode(&words.split_whitespace().collect::<Vec<_>>()));
        self.reply()
    }

    /// Reads what still comes, and says how it ends; also what was refused, in words.
    pub fn end(&mut self) -> (End, String) {
        loop {
            match self.read_some() {
                Ok(_) => {}
                Err(reason) if reason == "WouldBlock" => return (End::Open, reason),
                Err(reason) if reason == "UnexpectedEof" => {
                    let said = self.connection.process_new_packets().is_ok_and(|state| state.peer_has_closed());
                    return (if said { End::Farewell } else { End::Cut }, reason);
                }
                Err(reason) => return (End::Cut, reason),
            }
        }
    }

    pub fn version(&self) -> Option<ProtocolVersion> {
        self.connection.protocol_version()
    }

    pub fn was_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The certificate that the server has shown.
    pub fn certificate(&self) -> Vec<u8> {
        self.connection.peer_certificates().expect("after the handshake")[0].to_vec()
    }
}

/// Whether a reply of one line, a bulk, or a flat array of those is here to its end.
fn is_whole(bytes: &[u8]) -> bool {
    whole(bytes).is_some()
}

fn whole(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let count = || std::str::from_utf8(&bytes[1..end]).ok().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    match bytes[0] {
        b'$' if count() >= 0 => {
            let len = end + 2 + count() as usize + 2;
            (bytes.len() >= len).then_some(len)
        }
        b'*' => {
            let mut at = end + 2;
            for _ in 0..count().max(0) {
                at += whole(&bytes[at..])?;
            }
            Some(at)
        }
        _ => Some(end + 2),
    }
}

/// Reads from a bare socket until it ends; what came, or `None` if it stays open for the timeout.
pub fn until_closed(socket: &mut TcpStream, timeout: Duration) -> Option<Vec<u8>> {
    socket.set_read_timeout(Some(timeout)).expect("a timeout can be set");
    let mut all = Vec::new();
    match socket.read_to_end(&mut all) {
        Ok(_) => Some(all),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        Err(_) => Some(all),
    }
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("the loopback interface has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}
