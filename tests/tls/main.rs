//! The TLS port by what its clients see, at 1 and 2 shards: the replies of the plain port, whatever pieces the bytes come in;
//! certificates that change under load; clients that do not speak TLS, or stop in the middle.
//!
//! Real tools and libraries over TLS are in `tests/clients/tls.py`; what is refused in which words in `src/tls/tests.rs`.

#[path = "../harness/mod.rs"]
mod harness;

mod certificates;
mod hostile;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use annulus::base::rng::Rng;
use certificates::{End, Files, TlsClient, free_port};
use harness::resp::encode;
use harness::{Server, Value};

/// A server with a plain and a TLS port, and the files it was given.
struct Secured {
    server: Server,
    files: Files,
    port: u16,
}

impl Secured {
    fn start(name: &str, shards: usize, directives: &[&str]) -> Secured {
        let files = Files::new(&format!("{name}-{shards}"));
        let port = free_port();
        let mut all = files.directives(port);
        all.extend(directives.iter().map(|word| word.to_string()));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        Secured { server: Server::annulus(shards, &all), files, port }
    }

    /// A client with a certificate.
    fn connect(&self) -> TlsClient {
        TlsClient::connect(self.port, &self.files.client_config(Some("a client")))
    }
}

/// A pipeline of commands with one key each, and how many replies it has.
fn random_pipeline(rng: &mut Rng, commands: u64) -> Vec<u8> {
    let mut pipeline = Vec::new();
    for _ in 0..commands {
        let key = format!("{}:{}", ["s", "n", "l", "h"][rng.below(4) as usize], rng.below(20));
        let len = match rng.below(40) {
            0 => 300_000,
            1 => 20_000,
            _ => rng.below(200),
        };
        let value: Vec<u8> = (0..len).map(|at| (at as u8).wrapping_mul(31)).collect();
        let text = |word: &str| word.as_bytes().to_vec();
        let argv = match (&key[..1], rng.below(3)) {
            ("s", 0) => vec![text("SET"), text(&key), value],
            ("s", 1) => vec![text("GET"), text(&key)],
            ("s", _) => vec![text("APPEND"), text(&key), value],
            ("n", 0) => vec![text("INCR"), text(&key)],
            ("n", 1) => vec![text("DEL"), text(&key)],
            ("n", _) => vec![text("GET"), text(&key)],
            ("l", 0) => vec![text("RPUSH"), text(&key), value, text("x")],
            ("l", 1) => vec![text("LRANGE"), text(&key), text("0"), text("-1")],
            ("l", _) => vec![text("INCR"), text(&key)],
            (_, 0) => vec![text("HSET"), text(&key), text("f"), value],
            (_, 1) => vec![text("HGETALL"), text(&key)],
            (_, _) => vec![text("NOSUCH"), text(&key)],
        };
        pipeline.extend_from_slice(&encode(&argv));
    }
    pipeline
}

#[test]
fn random_pipelines_over_tls_are_answered_as_on_the_plain_port() {
    for shards in [1, 2] {
        let secured = Secured::start("pipelines", shards, &[]);
        let seed = 20_261_126 + shards as u64;
        let mut rng = Rng::seed(seed);
        let mut plain = secured.server.connect();
        let mut tls = secured.connect();
        assert_eq!(tls.line("SELECT 1"), plain.line("SELECT 0"));
        for round in 0..60 {
            let commands = rng.below(30) + 1;
            let pipeline = random_pipeline(&mut rng, commands);
            plain.send_raw(&pipeline);
            let expected: Vec<u8> = (0..commands).flat_map(|_| plain.reply_bytes()).collect();
            let piece = match rng.below(4) {
                0 if pipeline.len() < 5000 => 1,
                0 | 1 => 1 + rng.below(100) as usize,
                2 => 1 + rng.below(20_000) as usize,
                _ => usize::MAX,
            };
            // Small pieces of large things only take time.
            let piece = if pipeline.len() > 50_000 { piece.max(1000) } else { piece };
            tls.send_in_pieces(&pipeline, piece);
            let got = tls.read(expected.len());
            assert!(got == expected, "seed {seed}, round {round}, pieces of {piece}: {} bytes differ", expected.len());
        }
        assert_eq!(tls.line("DBSIZE"), plain.line("DBSIZE"));
    }
}

#[test]
fn a_handshake_may_come_byte_by_byte() {
    for shards in [1, 2] {
        let secured = Secured::start("bytewise", shards, &[]);
        let config = secured.files.client_config(Some("slow"));
        for piece in [1, 3, 100] {
            let mut client = TlsClient::open(secured.port, &config);
            client.shake_hands(piece).unwrap();
            client.send_in_pieces(b"PING\r\nECHO hello\r\n", 1);
            assert_eq!(client.read(18), b"+PONG\r\n$5\r\nhello\r\n");
        }
    }
}

#[test]
fn large_values_come_whole_and_an_unread_one_is_not_encrypted_ahead() {
    for shards in [1, 2] {
        let secured = Secured::start("large", shards, &[]);
        let mut client = secured.connect();
        let len = 12 << 20;
        let value: Vec<u8> = (0..len).map(|at: usize| (at / 251) as u8).collect();
        client.send(&encode(&[b"SET".as_slice(), b"big", &value]));
        assert_eq!(client.reply().text(), "OK");
        client.send(&encode(&["GET", "big"]));
        let expected = [format!("${len}\r\n").into_bytes(), value, b"\r\n".to_vec()].concat();
        assert!(client.read(expected.len()) == expected, "{shards} shards");

        // Six clients that ask and do not read: 72 MiB of ciphertext, were it made ahead.
        let mut watcher = secured.server.connect();
        let before = used_memory(&mut watcher);
        let mut idle: Vec<TlsClient> = (0..6).map(|_| secured.connect()).collect();
        for client in &mut idle {
            client.send(&encode(&["GET", "big"]));
        }
        // Each has been asked for: the answer to a later command of somebody else comes after that.
        for _ in 0..20 {
            client.line("PING");
            std::thread::sleep(Duration::from_millis(10));
        }
        let grown = used_memory(&mut watcher).saturating_sub(before);
        assert!(grown < 6 << 20, "{shards} shards: {grown} bytes for six clients that do not read");
        let listed = watcher.line("CLIENT LIST").text();
        let waiting = listed.lines().filter(|line| field(line, "omem").is_some_and(|held| held > 2 << 20)).count();
        assert_eq!(waiting, 6, "what was not sent yet counts for each of them:\n{listed}");
        for client in &mut idle {
            assert!(client.read(expected.len()) == expected);
        }
    }
}

fn field(line: &str, name: &str) -> Option<u64> {
    line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

fn used_memory(client: &mut harness::Client) -> u64 {
    let info = client.line("INFO memory").text();
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    line.and_then(|n| n.trim().parse().ok()).unwrap_or_else(|| panic!("no used_memory in {info}"))
}

#[test]
fn the_output_limit_ends_a_tls_client_that_does_not_read() {
    let secured = Secured::start("limit", 2, &["--client-output-buffer-limit", "normal 1mb 0 0"]);
    let mut client = secured.connect();
    client.send(&encode(&[b"SET".as_slice(), b"v", &vec![b'x'; 100_000]]));
    assert_eq!(client.reply().text(), "OK");
    client.send(&encode(&["GET", "v"]).repeat(2000));
    let (end, _) = client.end();
    assert_ne!(end, End::Open);
    let info = secured.server.connect().line("INFO stats").text();
    assert!(info.contains("client_output_buffer_limit_disconnections:1"), "{info}");
    assert_eq!(secured.connect().line("PING").text(), "PONG");
}

#[test]
fn certificates_change_under_load_and_nobody_is_lost() {
    for shards in [1, 2] {
        let secured = Secured::start("reload", shards, &[]);
        let second = secured.files.sign_server("second");
        let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for n in 0..4 {
                let (secured, stop, done) = (&secured, &stop, &done);
                scope.spawn(move || {
                    let config = secured.files.client_config(Some("loader"));
                    let mut lasting = TlsClient::connect(secured.port, &config);
                    let mut expected = 0;
                    while !stop.load(Ordering::Relaxed) {
                        expected += 1;
                        assert_eq!(lasting.line(&format!("INCR count:{n}")), Value::Int(expected));
                        let mut passing = TlsClient::connect(secured.port, &config);
                        assert_eq!(passing.line("PING").text(), "PONG");
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let mut operator = secured.server.connect();
            let path = |name: &str| secured.files.path(name);
            secured.files.write("broken.crt", "nothing");
            let old = operator.line("CONFIG GET tls-cert-file");
            for round in 0..20 {
                let name = if round % 2 == 0 { "second" } else { "server" };
                let (crt, key) = (path(&format!("{name}.crt")), path(&format!("{name}.key")));
                let reply = operator.line(&format!("CONFIG SET tls-cert-file {crt} tls-key-file {key}"));
                assert_eq!(reply.text(), "OK");
                let error =
                    operator.line(&format!("CONFIG SET tls-cert-file {} timeout 77", path("broken.crt"))).text();
                assert!(
                    error.starts_with("ERR CONFIG SET failed (possibly related to argument 'tls-cert-file') - ")
                        && error.contains("broken.crt: it holds no certificate in PEM form"),
                    "{error}"
                );
                // Half of a pair is refused as a whole.
                let other = if round % 2 == 0 { "server" } else { "second" };
                let error = operator.line(&format!("CONFIG SET tls-key-file {}", path(&format!("{other}.key")))).text();
                assert!(error.contains("not the key of the certificate"), "{error}");
                let goal = done.load(Ordering::Relaxed) + 3;
                while done.load(Ordering::Relaxed) < goal {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            assert_eq!(operator.line("CONFIG GET tls-cert-file"), old);
            assert_eq!(operator.line("CONFIG GET timeout").to_string(), "[\"timeout\", \"0\"]");
            stop.store(true, Ordering::Relaxed);
        });
        // The same name with another file behind it: named again, it is read again.
        let config = secured.files.client_config(Some("late"));
        assert_ne!(TlsClient::connect(secured.port, &config).certificate(), second);
        std::fs::copy(secured.files.path("second.crt"), secured.files.path("server.crt")).unwrap();
        std::fs::copy(secured.files.path("second.key"), secured.files.path("server.key")).unwrap();
        assert_ne!(TlsClient::connect(secured.port, &config).certificate(), second, "nobody has asked for it");
        let same = format!("CONFIG SET tls-cert-file {}", secured.files.path("server.crt"));
        assert_eq!(secured.server.connect().line(&same).text(), "OK");
        for _ in 0..shards {
            assert_eq!(TlsClient::connect(secured.port, &config).certificate(), second);
        }
    }
}

#[test]
fn a_certificate_names_its_user_if_the_server_is_told_so() {
    let directives = ["--requirepass", "sesame", "--tls-auth-clients-user", "CN"];
    let secured = Secured::start("users", 2, &directives);
    let first_reply = |name: &str| {
        let config = secured.files.client_config(Some(name));
        TlsClient::connect(secured.port, &config).line("PING").text()
    };
    let refused = "NOAUTH Authentication required.";
    assert_eq!(first_reply("default"), "PONG");
    assert_eq!(first_reply("alice"), refused, "there is no such user");
    assert_eq!(first_reply("DEFAULT"), refused);
    assert_eq!(first_reply("default\0.example"), refused, "a NUL ends nothing");
    let mut operator = secured.server.connect();
    assert_eq!(operator.line("AUTH sesame").text(), "OK");
    assert_eq!(operator.line("CONFIG SET tls-auth-clients-user off").text(), "OK");
    assert_eq!(first_reply("default"), refused);
}

#[test]
fn who_need_not_show_a_certificate_is_served_without() {
    let secured = Secured::start("optional", 2, &["--tls-auth-clients", "yes"]);
    let without = secured.files.client_config(None);
    let refused = |secured: &Secured| {
        let mut client = TlsClient::open(secured.port, &without);
        // With TLS 1.3 the client is done before the server has looked.
        let shaken = client.shake_hands(usize::MAX);
        shaken.is_err() || client.end().0 == End::Cut
    };
    assert!(refused(&secured), "a certificate is required");
    assert!(secured.server.log().contains("Error accepting a client connection: "), "{}", secured.server.log());
    for wanted in ["optional", "no"] {
        let set = format!("CONFIG SET tls-auth-clients {wanted}");
        assert_eq!(secured.server.connect().line(&set).text(), "OK");
        assert_eq!(TlsClient::connect(secured.port, &without).line("PING").text(), "PONG", "{wanted}");
        assert_eq!(secured.connect().line("PING").text(), "PONG", "{wanted}");
    }
    assert_eq!(secured.server.connect().line("CONFIG SET tls-auth-clients yes").text(), "OK");
    assert!(refused(&secured));
}

#[test]
fn protocols_are_those_that_are_set() {
    let secured = Secured::start("protocols", 1, &["--tls-protocols", "TLSv1.2"]);
    assert_eq!(secured.connect().version(), Some(rustls::ProtocolVersion::TLSv1_2));
    let mut operator = secured.server.connect();
    assert_eq!(operator.command(&["CONFIG", "SET", "tls-protocols", "TLSv1.2 TLSv1.3"]).text(), "OK");
    assert_eq!(secured.connect().version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let error = operator.command(&["CONFIG", "SET", "tls-protocols", "TLSv1.1"]).text();
    assert!(error.contains("Invalid tls-protocols specified"), "{error}");
    let error = operator.command(&["CONFIG", "SET", "tls-ciphers", "RC4-MD5"]).text();
    assert!(error.contains("tls-ciphers names 'RC4-MD5'"), "{error}");
}

#[test]
fn a_client_that_comes_back_resumes_its_session_on_any_shard() {
    for version in ["TLSv1.2", "TLSv1.3"] {
        let secured = Secured::start(&format!("resume-{version}"), 2, &["--tls-protocols", version]);
        let config = secured.files.client_config(Some("back again"));
        let mut first = TlsClient::connect(secured.port, &config);
        assert_eq!(first.line("PING").text(), "PONG");
        assert!(!first.was_resumed());
        // Dealt to the other shard, since the first is still there.
        let mut second = TlsClient::connect(secured.port, &config);
        assert_eq!(second.line("PING").text(), "PONG");
        assert!(second.was_resumed(), "{version}");
        let mut operator = secured.server.connect();
        assert_eq!(operator.line("CONFIG SET tls-session-caching no").text(), "OK");
        let mut third = TlsClient::connect(secured.port, &config);
        assert_eq!(third.line("PING").text(), "PONG");
        assert!(!third.was_resumed(), "{version}");
    }
}

#[test]
fn a_connection_that_ends_says_so() {
    for shards in [1, 2] {
        let mut secured = Secured::start("farewell", shards, &[]);
        let mut quits = secured.connect();
        quits.send(b"QUIT\r\n");
        assert_eq!(quits.read(5), b"+OK\r\n");
        assert_eq!(quits.end().0, End::Farewell);
        let mut killed = secured.connect();
        let id = killed.line("CLIENT ID");
        let kill = format!("CLIENT KILL ID {}", if let Value::Int(id) = id { id } else { panic!("{id}") });
        assert_eq!(secured.server.connect().line(&kill), Value::Int(1));
        assert_eq!(killed.end().0, End::Farewell);
        let mut wrong = secured.connect();
        wrong.send(b"*1\r\n$x\r\n");
        assert_eq!(wrong.reply().text(), "ERR Protocol error: invalid bulk length");
        assert_eq!(wrong.end().0, End::Farewell);
        // What was asked before the end is answered.
        let mut rests = secured.connect();
        assert_eq!(rests.line("PING").text(), "PONG");
        let mut asks = secured.connect();
        asks.send(&[b"INCR n\r\n".repeat(1000), b"SHUTDOWN NOSAVE\r\n".to_vec()].concat());
        let expected: Vec<u8> = (1..=1000).flat_map(|n| format!(":{n}\r\n").into_bytes()).collect();
        assert_eq!(asks.read(expected.len()), expected);
        assert_eq!(asks.end().0, End::Farewell);
        assert_eq!(rests.end().0, End::Farewell);
        secured.server.wait_until_gone();
    }
}

#[test]
fn tls_alone_is_enough_and_is_shown() {
    let secured = Secured::start("alone", 2, &["--port", "0"]);
    let mut client = secured.connect();
    let info = client.line("INFO server").text();
    assert!(info.contains(&format!("tcp_port:{}\r\n", secured.port)), "{info}");
    assert!(info.contains(&format!("listener2:name=tls,bind=127.0.0.1,port={}\r\n", secured.port)), "{info}");
    let listed = client.line("CLIENT LIST").text();
    assert!(listed.contains(&format!(" laddr=127.0.0.1:{} ", secured.port)), "{listed}");
    assert!(std::net::TcpStream::connect(("127.0.0.1", secured.server.port())).is_err(), "no plain port is open");
}

#[test]
fn the_tls_port_is_opened_moved_and_closed_while_the_server_runs() {
    for shards in [1, 2] {
        let files = Files::new(&format!("moving-{shards}"));
        let server = Server::annulus(shards, &[]);
        let config = files.client_config(Some("who stays"));
        let mut operator = server.connect();
        let (first, second) = (free_port(), free_port());
        let error = operator.line(&format!("CONFIG SET tls-port {first}")).text();
        assert!(
            error.contains("'tls-port') - Unable to update TLS configuration. No tls-cert-file configured!"),
            "{error}"
        );
        let words = files.directives(first).join(" ").replace("--", "");
        assert_eq!(operator.line(&format!("CONFIG SET {words}")).text(), "OK");
        let mut stays: Vec<TlsClient> = (0..3).map(|_| TlsClient::connect(first, &config)).collect();
        let taken = format!("CONFIG SET tls-port {}", server.port());
        let reason = "'tls-port') - Unable to listen on this port. Check server logs.";
        assert!(operator.line(&taken).text().ends_with(reason));
        assert_eq!(TlsClient::connect(first, &config).line("PING").text(), "PONG", "it listens where it did");
        assert_eq!(operator.line(&format!("CONFIG SET tls-port {second}")).text(), "OK");
        assert!(std::net::TcpStream::connect(("127.0.0.1", first)).is_err());
        assert_eq!(TlsClient::connect(second, &config).line("PING").text(), "PONG");
        assert_eq!(operator.line("CONFIG SET tls-port 0").text(), "OK");
        assert!(std::net::TcpStream::connect(("127.0.0.1", second)).is_err());
        for client in &mut stays {
            assert_eq!(client.line("PING").text(), "PONG", "who was there stays");
        }
    }
}

#[test]
fn many_clients_at_once_are_all_let_in() {
    for shards in [1, 2] {
        let secured = Secured::start("storm", shards, &["--max-new-tls-connections-per-cycle", "1"]);
        let config = secured.files.client_config(Some("one of many"));
        let clients: Vec<TlsClient> = (0..100).map(|_| TlsClient::open(secured.port, &config)).collect();
        std::thread::scope(|scope| {
            for mut client in clients {
                scope.spawn(move || {
                    client.shake_hands(usize::MAX).unwrap();
                    assert_eq!(client.line("PING").text(), "PONG");
                });
            }
        });
    }
}

#[test]
fn a_server_whose_certificate_cannot_be_used_does_not_start() {
    let mut secured = Secured::start("refused", 1, &[]);
    secured.server.stop();
    secured.server.args(&["--tls-key-file", "/nonexistent/x.key"]);
    assert_eq!(secured.server.restart_refused().code(), Some(1));
    let log = secured.server.log();
    let reason = "Failed to configure TLS: Failed to load private key: /nonexistent/x.key: No such file or directory";
    assert!(log.contains(reason), "{log}");
}
