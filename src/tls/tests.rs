//! The layer as a whole: what makes a context, what is refused and in which words, and two ends that talk through byte buffers.
//!
//! Absent on purpose: sockets, and the event loop around a [`Stream`]: those are in `tests/tls`.

use std::io::{BufRead, Write};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::samples::{Authority, Folder, text};
use super::*;

/// Settings that serve, over files in the folder.
fn settings(folder: &Folder, authority: &Authority) -> Config {
    let (certificate, key) = authority.signs("the server");
    Config {
        tls_port: 1,
        tls_cert_file: text(&folder.write("server.crt", certificate)),
        tls_key_file: text(&folder.write("server.key", key)),
        tls_ca_cert_file: text(&folder.write("ca.crt", authority.0.pem())),
        ..Config::default()
    }
}

fn load(settings: &Config) -> Result<(Context, Vec<String>), String> {
    Context::load(settings, || 0).map_err(|error| error.to_string())
}

#[track_caller]
fn refused(settings: &Config, reason: &str) {
    let error = load(settings).err().unwrap_or_else(|| panic!("it was taken, not refused for '{reason}'"));
    assert!(error.contains(reason), "{error}");
}

/// The other end.
fn client(authority: &Authority, identity: Option<(String, String)>) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.0.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
    };
    ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap()
}

/// Carries bytes between the two, `piece` at a time, until neither has more to say. Returns what the server has received, and its
/// fault if it found one.
fn carry(client: &mut ClientConnection, server: &mut Stream, piece: usize) -> (Vec<u8>, Option<TlsFault>) {
    let mut received = Vec::new();
    loop {
        let mut up = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut up).unwrap();
        }
        for mut part in up.chunks(piece) {
            while !part.is_empty() {
                let taken = server.take(&mut part);
                server.drain(|plain| received.extend_from_slice(plain));
                if let Err(fault) = taken {
                    return (received, Some(fault));
                }
            }
        }
        let mut down = Vec::new();
        server.take_own(&mut down);
        if up.is_empty() && down.is_empty() {
            return (received, None);
        }
        let mut down = &down[..];
        while !down.is_empty() {
            client.read_tls(&mut down).unwrap();
            if client.process_new_packets().is_err() {
                break;
            }
        }
    }
}

#[test]
fn what_is_said_arrives_whatever_pieces_it_comes_in() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let (context, remarks) = load(&settings(&folder, &authority)).unwrap();
    assert_eq!(remarks, Vec::<String>::new());
    for piece in [1, 2, 7, 1000, 100_000] {
        let mut server = Stream::new(&context).unwrap();
        let mut client = client(&authority, Some(authority.signs("alice")));
        assert!(server.is_handshaking());
        client.writer().write_all(b"PING\r\n").unwrap();
        let (received, fault) = carry(&mut client, &mut server, piece);
        assert!(fault.is_none(), "{fault:?}");
        assert_eq!((received, server.is_handshaking()), (b"PING\r\n".to_vec(), false), "pieces of {piece}");
        assert_eq!(server.client_name(), Some(b"alice".to_vec()));

        // More than a record, and back.
        let long: Vec<u8> = (0..50_000u32).map(|n| n as u8).collect();
        let mut wire = Vec::new();
        server.put(&long, &mut wire);
        assert!(wire.len() > long.len() && !server.has_own());
        let (mut wire, mut heard) = (&wire[..], Vec::new());
        while !wire.is_empty() {
            client.read_tls(&mut wire).unwrap();
            client.process_new_packets().unwrap();
            while let Ok(part) = client.reader().fill_buf() {
                if part.is_empty() {
                    break;
                }
                heard.extend_from_slice(part);
                let len = part.len();
                client.reader().consume(len);
            }
        }
        assert_eq!(heard, long);

        client.send_close_notify();
        let mut last = Vec::new();
        client.write_tls(&mut last).unwrap();
        assert!(server.take(&mut &last[..]).unwrap(), "the peer has said farewell");
    }
}

#[test]
fn a_client_without_a_certificate_is_let_in_only_if_it_need_not_have_one() {
    let (folder, authority) = (Folder::new(), Authority::new());
    for (wanted, with, without) in
        [(TlsAuthClients::Yes, true, false), (TlsAuthClients::Optional, true, true), (TlsAuthClients::No, true, true)]
    {
        let settings = Config { tls_auth_clients: wanted, ..settings(&folder, &authority) };
        let (context, _) = load(&settings).unwrap();
        for (identity, expected) in [(Some(authority.signs("bob")), with), (None, without)] {
            let named = identity.is_some() && wanted != TlsAuthClients::No;
            let mut server = Stream::new(&context).unwrap();
            let (_, fault) = carry(&mut client(&authority, identity), &mut server, 1000);
            assert_eq!(fault.is_none(), expected, "{wanted:?}: {fault:?}");
            assert_eq!(server.client_name().is_some(), named && expected, "{wanted:?}");
        }
    }
    // Signed by somebody else.
    let settings = settings(&folder, &authority);
    let (context, _) = load(&settings).unwrap();
    let mut server = Stream::new(&context).unwrap();
    let (_, fault) = carry(&mut client(&authority, Some(Authority::new().signs("mallory"))), &mut server, 1000);
    assert!(fault.unwrap().to_string().contains("invalid peer certificate"));
}

#[test]
fn bytes_that_are_no_tls_are_a_fault_and_leave_an_alert_for_the_peer() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let (context, _) = load(&settings(&folder, &authority)).unwrap();
    let ping = b"*1\r\n$4\r\nPING\r\n".to_vec();
    let huge = [&[22, 3, 1, 0xff, 0xff][..], &[0; 70_000]].concat();
    for garbage in [ping, huge, vec![0; 20_000], vec![0x16; 20_000], b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        let mut server = Stream::new(&context).unwrap();
        let mut wire = &garbage[..];
        let mut fault = None;
        while fault.is_none() && !wire.is_empty() {
            fault = server.take(&mut wire).err();
            server.drain(|plain| panic!("plaintext out of nothing: {plain:?}"));
        }
        assert!(fault.is_some(), "{:?} was taken", &garbage[..5]);
        let mut farewell = Vec::new();
        server.say_farewell(&mut farewell);
        assert_eq!(farewell.first(), Some(&21), "an alert");
    }
}

#[test]
fn garbage_of_any_kind_never_panics_and_never_becomes_plaintext() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let (context, _) = load(&settings(&folder, &authority)).unwrap();
    let seed = 20_261_126;
    let mut rng = crate::base::rng::Rng::seed(seed);
    let mut hello = Vec::new();
    client(&authority, None).write_tls(&mut hello).unwrap();
    for round in 0..300 {
        let mut wire = hello.clone();
        for _ in 0..=rng.below(8) {
            let at = rng.below(wire.len() as u64) as usize;
            wire[at] = rng.below(256) as u8;
        }
        wire.truncate(rng.below(wire.len() as u64 + 1) as usize);
        let mut server = Stream::new(&context).unwrap();
        let mut rest = &wire[..];
        while !rest.is_empty() && server.take(&mut rest).is_ok() {
            server.drain(|plain| panic!("seed {seed}, round {round}: plaintext out of nothing: {plain:?}"));
        }
    }
}

#[test]
fn whatever_is_missing_or_broken_is_named() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let good = settings(&folder, &authority);
    let change = |change: &dyn Fn(&mut Config)| {
        let mut settings = good.clone();
        change(&mut settings);
        settings
    };
    let none = || crate::config::Text::default();
    let absent = text(&folder.path("absent"));
    let garbage = text(&folder.write("garbage", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"));
    let empty = text(&folder.write("empty", ""));
    let other = text(&folder.write("other.key", authority.signs("somebody else").1));

    refused(&change(&|s| s.tls_cert_file = none()), "No tls-cert-file configured!");
    refused(&change(&|s| s.tls_key_file = none()), "No tls-key-file configured!");
    refused(&change(&|s| s.tls_ca_cert_file = none()), "Either tls-ca-cert-file or tls-ca-cert-dir must be specified");
    refused(&change(&|s| s.tls_cert_file = absent.clone()), "absent: No such file or directory");
    refused(&change(&|s| s.tls_key_file = absent.clone()), "Failed to load private key: ");
    refused(
        &change(&|s| s.tls_ca_cert_file = absent.clone()),
        "Failed to configure CA certificate(s) file/directory: ",
    );
    refused(&change(&|s| s.tls_ca_cert_dir = absent.clone()), "absent: No such file or directory");
    refused(&change(&|s| s.tls_cert_file = garbage.clone()), "no sound PEM file");
    refused(&change(&|s| s.tls_cert_file = empty.clone()), "holds no certificate in PEM form");
    refused(&change(&|s| s.tls_key_file = empty.clone()), "holds no private key in PEM form");
    refused(&change(&|s| s.tls_key_file = other.clone()), "not the key of the certificate");
    refused(&change(&|s| s.tls_protocols = "TLSv1.1".into()), "only TLSv1.2 and TLSv1.3");
    refused(&change(&|s| s.tls_ciphers = "AES256-SHA".into()), "tls-ciphers names 'AES256-SHA'");
    let no_clients = change(&|s| {
        s.tls_ca_cert_file = none();
        s.tls_auth_clients = TlsAuthClients::No;
    });
    assert!(load(&no_clients).is_ok(), "who need not show a certificate needs no authority");
}

#[test]
fn a_folder_of_authorities_needs_hashed_names() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let mut settings = settings(&folder, &authority);
    settings.tls_ca_cert_file = crate::config::Text::default();
    std::fs::create_dir(folder.path("authorities")).unwrap();
    settings.tls_ca_cert_dir = text(&folder.path("authorities"));
    folder.write("authorities/ca.crt", authority.0.pem());
    refused(&settings, "no certificate has a name by its hash");
    folder.write("authorities/0a1b2c3d.0", authority.0.pem());
    let (context, _) = load(&settings).unwrap();
    let mut server = Stream::new(&context).unwrap();
    let (_, fault) = carry(&mut client(&authority, Some(authority.signs("alice"))), &mut server, 1000);
    assert!(fault.is_none(), "{fault:?}");
}

#[test]
fn an_encrypted_key_is_opened_with_its_password() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let mut settings = settings(&folder, &authority);
    let (certificate, key) = authority.signs("the server");
    settings.tls_cert_file = text(&folder.write("sealed.crt", certificate));
    let plain = pkcs8::SecretDocument::from_pem(&key).unwrap().1;
    let parameters = pkcs8::pkcs5::pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(2048, b"saltsalt", [7; 16]);
    let sealed = pkcs8::PrivateKeyInfoRef::try_from(plain.as_bytes()).unwrap();
    let sealed = sealed.encrypt_with_params(parameters.unwrap(), "sesame").unwrap();
    let sealed = sealed.to_pem("ENCRYPTED PRIVATE KEY", pkcs8::LineEnding::LF).unwrap();
    settings.tls_key_file = text(&folder.write("sealed.key", sealed.as_bytes()));
    refused(&settings, "tls-key-file-pass is not set");
    settings.tls_key_file_pass = "wrong".into();
    refused(&settings, "tls-key-file-pass is wrong");
    settings.tls_key_file_pass = "sesame".into();
    load(&settings).unwrap();
}
