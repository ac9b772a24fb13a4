//! The connection family: who one is, how one is answered, and what can be done with others' connections. What changes the
//! connection itself, or needs several, runs on servers of its own.

use super::check;
use super::harness::{Client, Server, Value};

/// Runs `test` on servers of our own, at 1 and at 4 shards: for what must not disturb the shared ones.
fn on_own_servers(directives: &[&str], test: impl Fn(&Server)) {
    for shards in [1, 4] {
        test(&Server::annulus(shards, directives));
    }
}

/// The value of `name=` in a line of CLIENT LIST.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let found = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in {line}"))
}

fn id(client: &mut Client) -> String {
    match client.line("CLIENT ID") {
        Value::Int(id) => id.to_string(),
        other => panic!("CLIENT ID gave {other}"),
    }
}

#[test]
fn ping_and_echo_give_back_what_they_are_given() {
    check(&["PING"], "PONG");
    check(&["PING hello"], "hello");
    check(&["PING a b"], "-ERR wrong number of arguments for 'ping' command");
    check(&["ECHO \"a b\\r\\n\""], "a b\r\n");
    check(&["ECHO"], "-ERR wrong number of arguments for 'echo' command");
}

#[test]
fn select_takes_numbers_of_databases_that_exist() {
    check(&["SELECT 15", "SET k v", "SELECT 0", "GET k"], "(nil)");
    check(&["SELECT 15", "GET k"], "(nil)");
    check(&["SELECT 16"], "-ERR DB index is out of range");
    check(&["SELECT -1"], "-ERR DB index is out of range");
    check(&["SELECT x"], "-ERR value is not an integer or out of range");
    check(&["SELECT 2147483648"], "-ERR value is out of range, value must between -2147483648 and 2147483647");
}

#[test]
fn hello_agrees_on_a_protocol_and_refuses_others() {
    on_own_servers(&[], |server| {
        let mut client = server.connect();
        let Value::Array(pairs) = client.line("HELLO 2") else { panic!("HELLO 2 answers an array") };
        let text: Vec<String> = pairs.iter().map(Value::text).collect();
        assert_eq!(&text[..2], ["server", "redis"]);
        assert_eq!(text[2], "version");
        assert!(text[3].starts_with("7.4."), "{}", text[3]);
        assert_eq!(pairs.len(), 14);
        let Value::Map(pairs) = client.line("hello 3 setname worker") else { panic!("HELLO 3 answers a map") };
        let names: Vec<String> = pairs.iter().map(|(name, _)| name.text()).collect();
        assert_eq!(names, ["server", "version", "proto", "id", "mode", "role", "modules"]);
        assert_eq!(client.line("CLIENT GETNAME").text(), "worker");
        for (line, error) in [
            ("HELLO 4", "NOPROTO unsupported protocol version"),
            ("HELLO x", "ERR Protocol version is not an integer or out of range"),
            ("HELLO 2 FOO", "ERR Syntax error in HELLO option 'FOO'"),
            ("HELLO 2 AUTH default", "ERR Syntax error in HELLO option 'AUTH'"),
            ("HELLO 2 AUTH nobody pw", "WRONGPASS invalid username-password pair or user is disabled."),
        ] {
            assert_eq!(client.line(line).text(), error, "{line}");
        }
        let refused = client.command(&["HELLO", "2", "SETNAME", "a b"]);
        assert_eq!(refused.text(), "ERR Client names cannot contain spaces, newlines or special characters.");
        assert!(matches!(client.line("HELLO"), Value::Map(_)), "a refused HELLO changes nothing");
        assert_eq!(client.line("CLIENT GETNAME").text(), "worker");
    });
}

#[test]
fn a_password_is_asked_for_and_forgotten_by_reset() {
    on_own_servers(&["--requirepass", "secret"], |server| {
        let mut client = server.connect();
        let no_auth = "NOAUTH Authentication required.";
        assert_eq!(client.line("PING").text(), no_auth);
        assert_eq!(client.line("GET k").text(), no_auth);
        assert!(client.line("HELLO 3").text().starts_with("NOAUTH HELLO must be called with the client already"));
        let wrong = "WRONGPASS invalid username-password pair or user is disabled.";
        assert_eq!(client.line("AUTH secre").text(), wrong);
        assert_eq!(client.line("AUTH default nope").text(), wrong);
        assert_eq!(client.line("AUTH nobody secret").text(), wrong);
        assert_eq!(client.line("AUTH a b c").text(), "ERR syntax error");
        assert_eq!(client.line("GET k").text(), no_auth);
        assert_eq!(client.line("AUTH secret").text(), "OK");
        assert_eq!(client.line("GET k"), Value::Nil);
        assert_eq!(client.line("RESET").text(), "RESET");
        assert_eq!(client.line("GET k").text(), no_auth);
        assert!(matches!(client.line("HELLO 3 AUTH default secret"), Value::Map(_)));
        assert_eq!(client.line("GET k"), Value::Nil);
    });
}

#[test]
fn auth_without_a_password_set_is_refused_for_the_default_user() {
    check(
        &["AUTH x"],
        "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration \
         is correct?",
    );
    check(&["AUTH default anything"], "OK");
    check(&["AUTH nobody x"], "-WRONGPASS invalid username-password pair or user is disabled.");
}

#[test]
fn reset_brings_back_database_protocol_and_name() {
    on_own_servers(&[], |server| {
        let mut client = server.connect_resp3();
        client.line("SELECT 3");
        client.line("CLIENT SETNAME me");
        client.line("SET k v");
        assert_eq!(client.line("RESET").text(), "RESET");
        assert_eq!(client.line("CLIENT GETNAME"), Value::Nil);
        assert_eq!(client.command_bytes(&["GET", "k"]), b"$-1\r\n", "database 0 again, and RESP2");
    });
}

#[test]
fn quit_answers_and_closes() {
    on_own_servers(&[], |server| {
        let mut client = server.connect();
        assert_eq!(client.line("QUIT").text(), "OK");
        assert!(client.is_closed());
    });
}

#[test]
fn client_names_and_library_names_are_words() {
    check(&["CLIENT SETNAME a\"b\"", "CLIENT GETNAME"], "a\"b\"");
    check(&["CLIENT SETNAME \"\"", "CLIENT GETNAME"], "(nil)");
    let refused = "-ERR Client names cannot contain spaces, newlines or special characters.";
    check(&["CLIENT SETNAME \"a b\""], refused);
    check(&["CLIENT SETNAME \"a\\n\""], refused);
    check(&["CLIENT SETINFO lib-name node-redis"], "OK");
    check(&["CLIENT SETINFO LIB-VER 6.3.1"], "OK");
    check(&["CLIENT SETINFO foo x"], "-ERR Unrecognized option 'foo'");
    check(&["CLIENT SETINFO lib-name \"a b\""], "-ERR lib-name cannot contain spaces, newlines or special characters.");
}

#[test]
fn client_list_has_a_line_for_each_connection_on_any_shard() {
    on_own_servers(&[], |server| {
        let mut clients: Vec<Client> = (0..8).map(|_| server.connect()).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.line(&format!("CLIENT SETNAME c{n}")).text(), "OK");
        }
        clients[3].line("CLIENT SETINFO LIB-NAME lib");
        clients[3].line("SELECT 5");
        let text = clients[0].line("CLIENT LIST").text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 8, "{text}");
        let ids: Vec<u64> = lines.iter().map(|line| field(line, "id").parse().unwrap()).collect();
        assert!(ids.is_sorted());
        let fourth = lines.iter().find(|line| field(line, "name") == "c3").unwrap();
        assert_eq!(field(fourth, "db"), "5");
        assert_eq!(field(fourth, "lib-name"), "lib");
        assert_eq!(field(fourth, "cmd"), "select");
        assert_eq!(field(fourth, "resp"), "2");
        assert_eq!(field(fourth, "flags"), "N");
        assert!(field(fourth, "addr").starts_with("127.0.0.1:"));
        assert_eq!(field(fourth, "laddr"), format!("127.0.0.1:{}", server.port()));
        let own = clients[3].line("CLIENT INFO").text();
        assert_eq!(field(&own, "id"), field(fourth, "id"));
        assert_eq!(field(&own, "cmd"), "client|info");
        let some = clients[0].line(&format!("CLIENT LIST ID {} {} 999999", ids[1], ids[6])).text();
        assert_eq!(some.lines().count(), 2, "{some}");
        assert_eq!(clients[0].line("CLIENT LIST TYPE normal").text().lines().count(), 8);
        assert_eq!(clients[0].line("CLIENT LIST TYPE pubsub").text(), "");
    });
    check(&["CLIENT LIST TYPE foo"], "-ERR Unknown client type 'foo'");
    check(&["CLIENT LIST ID x"], "-ERR Invalid client ID");
    check(&["CLIENT LIST foo"], "-ERR syntax error");
}

#[test]
fn client_kill_closes_connections_on_any_shard() {
    on_own_servers(&[], |server| {
        let mut admin = server.connect();
        let mut clients: Vec<Client> = (0..5).map(|_| server.connect()).collect();
        let ids: Vec<String> = clients.iter_mut().map(id).collect();
        let mut kill = |line: &str| admin.line(line);
        assert_eq!(kill(&format!("CLIENT KILL ID {}", ids[0])), Value::Int(1));
        assert!(clients[0].is_closed());
        assert_eq!(kill(&format!("CLIENT KILL ID {}", ids[0])), Value::Int(0));
        let line = clients[1].line("CLIENT INFO").text();
        assert_eq!(kill(&format!("CLIENT KILL {}", field(&line, "addr"))).text(), "OK");
        assert!(clients[1].is_closed());
        assert_eq!(kill("CLIENT KILL 1.2.3.4:5").text(), "ERR No such client");
        assert_eq!(kill("CLIENT KILL TYPE normal USER default MAXAGE 3600"), Value::Int(0));
        assert_eq!(kill("CLIENT KILL TYPE normal"), Value::Int(3), "all but the one that asks");
        assert!(clients[2..].iter_mut().all(Client::is_closed));
        let own = id(&mut admin);
        assert_eq!(admin.line(&format!("CLIENT KILL ID {own} SKIPME no")), Value::Int(1));
        assert!(admin.is_closed());
    });
    check(&["CLIENT KILL ID x"], "-ERR client-id should be greater than 0");
    check(&["CLIENT KILL USER nobody"], "-ERR No such user 'nobody'");
    check(&["CLIENT KILL ADDR a b"], "-ERR syntax error");
}

#[test]
fn client_reply_silences_until_it_is_switched_on() {
    on_own_servers(&[], |server| {
        let mut client = server.connect();
        client.send(&["CLIENT", "REPLY", "SKIP"]);
        client.send(&["SET", "k", "1"]);
        assert_eq!(client.line("GET k").text(), "1", "only the command behind SKIP has no reply");
        client.send(&["CLIENT", "REPLY", "OFF"]);
        client.send(&["INCR", "k"]);
        client.send(&["NOSUCHCOMMAND"]);
        client.send(&["DBSIZE"]);
        assert_eq!(client.line("CLIENT REPLY ON").text(), "OK");
        assert_eq!(client.line("GET k").text(), "2");
    });
    check(&["CLIENT REPLY maybe"], "-ERR syntax error");
}

#[test]
fn client_pause_holds_commands_back_on_all_shards() {
    on_own_servers(&[], |server| {
        let mut admin = server.connect();
        let mut clients: Vec<Client> = (0..4).map(|_| server.connect()).collect();
        assert_eq!(admin.line("CLIENT PAUSE 300 WRITE").text(), "OK");
        let begun = std::time::Instant::now();
        for (n, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.line("GET k"), Value::Nil, "reads go on");
            client.send(&["SET", &format!("key{n}"), "v"]);
        }
        for client in &mut clients {
            assert_eq!(client.reply().text(), "OK");
        }
        assert!(begun.elapsed().as_millis() >= 250, "{:?}", begun.elapsed());
        assert_eq!(admin.line("CLIENT PAUSE 60000 WRITE").text(), "OK");
        clients[0].send(&["SET", "k", "v"]);
        assert_eq!(admin.line("CLIENT UNPAUSE").text(), "OK");
        assert_eq!(clients[0].reply().text(), "OK");
    });
    check(&["CLIENT PAUSE x"], "-ERR timeout is not an integer or out of range");
    check(&["CLIENT PAUSE -1"], "-ERR timeout is negative");
    check(&["CLIENT PAUSE 9223372036854775807"], "-ERR timeout is not an integer or out of range");
    check(&["CLIENT PAUSE 1 foo"], "-ERR CLIENT PAUSE mode must be WRITE or ALL");
}

#[test]
fn client_no_touch_leaves_the_idle_time_alone() {
    check(&["CLIENT NO-TOUCH on", "CLIENT NO-TOUCH off"], "OK");
    check(&["CLIENT NO-TOUCH x"], "-ERR syntax error");
    check(&["CLIENT NO-EVICT on", "CLIENT NO-EVICT off"], "OK");
    check(&["CLIENT NO-EVICT x"], "-ERR syntax error");
}

#[test]
fn tracking_is_off_at_first_and_says_so() {
    check(&["CLIENT TRACKING off"], "OK");
    check(&["CLIENT TRACKING on FOO"], "-ERR syntax error");
    check(&["CLIENT GETREDIR"], "-1");
    check(
        &["CLIENT CACHING yes"],
        "-ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
    );
    on_own_servers(&[], |server| {
        let bytes = server.connect().command_bytes(&["CLIENT", "TRACKINGINFO"]);
        assert_eq!(
            bytes.escape_ascii().to_string(),
            r"*6\r\n$5\r\nflags\r\n*1\r\n$3\r\noff\r\n$8\r\nredirect\r\n:-1\r\n$8\r\nprefixes\r\n*0\r\n"
        );
    });
}

#[test]
fn nobody_is_blocked_yet() {
    check(&["CLIENT UNBLOCK 5"], "0");
    check(&["CLIENT UNBLOCK 5 ERROR"], "0");
    check(&["CLIENT UNBLOCK x"], "-ERR value is not an integer or out of range");
    check(&["CLIENT UNBLOCK 5 foo"], "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
}

#[test]
fn unknown_subcommands_are_named_and_the_connection_lives_on() {
    check(&["CLIENT MAINT_NOTIFICATIONS ON"], "-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.");
    check(&["CLIENT foo", "PING"], "PONG");
    check(&["CLIENT"], "-ERR wrong number of arguments for 'client' command");
    on_own_servers(&[], |server| {
        let help = server.connect().line("client help");
        let lines: Vec<String> = help.elements().unwrap().iter().map(Value::text).collect();
        assert_eq!(lines[0], "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
        assert!(lines.iter().any(|line| line == "SETNAME connection-name"), "{lines:?}");
        assert_eq!(lines[lines.len() - 2], "HELP");
    });
}
