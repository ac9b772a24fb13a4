//! The ground that server tests stand on, tested by itself: against a real redis-server, so that what fails in
//! another test is not the harness.

mod harness;

use harness::{Server, Value, resp};

#[test]
fn every_reply_type_is_decoded_to_its_end() {
    let bytes = b"%2\r\n+a\r\n*3\r\n:-7\r\n$-1\r\n_\r\n$2\r\n\r\n\r\n~2\r\n#t\r\n,1.5\r\n";
    let (value, used) = resp::decode(bytes);
    assert_eq!(used, bytes.len());
    assert_eq!(value.to_string(), r#"{+a: [(integer) -7, (nil), (nil)], "\r\n": set{(true), (double) 1.5}}"#);
}

#[test]
fn a_server_is_started_spoken_to_in_both_protocols_and_stopped() {
    let Some(mut server) = Server::redis(&[]) else { return };
    let mut client = server.connect();
    assert_eq!(client.line("SET k v").text(), "OK");
    assert_eq!(client.command_bytes(&["GET", "k"]), b"$1\r\nv\r\n");
    assert_eq!(client.line("MGET k none"), Value::Array(vec![Value::Bulk(b"v".to_vec()), Value::Nil]));
    let mut modern = server.connect_resp3();
    assert_eq!(modern.command_bytes(&["GET", "none"]), b"_\r\n");
    modern.send_raw(b"*1\r\n$-5\r\n");
    assert_eq!(modern.reply().text(), "ERR Protocol error: invalid bulk length");
    assert!(modern.is_closed());
    assert!(server.stop().success());
    server.restart();
    assert_eq!(server.connect().line("GET k"), Value::Nil);
    server.kill();
    assert!(!server.is_running());
}
