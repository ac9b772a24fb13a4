//! Access control, by what clients see: users and their rules on every core at once, what is refused and how it is told, and the files
//! that users come from. Every case has servers of its own, with 1 and with 4 shards; four connections of one server sit on four shards.

use std::fs;
use std::path::Path;

use super::harness::{Client, Server, Value};
use super::{check, check_that, show, words};

fn at_both_counts(directives: &[&str], case: impl Fn(&Server)) {
    for shards in [1, 4] {
        println!("{shards} shards");
        case(&Server::annulus(shards, directives));
    }
}

/// Sends a row and returns the reply as it is shown.
fn say(client: &mut Client, row: &str) -> String {
    show(&client.command(&words(row)))
}

#[track_caller]
fn ok(client: &mut Client, row: &str) {
    assert_eq!(say(client, row), "OK", "{row}");
}

/// Connections on all shards, logged in as this user.
fn logged_in(server: &Server, count: usize, name: &str) -> Vec<Client> {
    (0..count)
        .map(|_| {
            let mut client = server.connect();
            ok(&mut client, &format!("AUTH {name} pw"));
            client
        })
        .collect()
}

const WRONG_PASS: &str = "-WRONGPASS invalid username-password pair or user is disabled.";
const NO_KEY: &str = "-NOPERM No permissions to access a key";
const NO_CHANNEL: &str = "-NOPERM No permissions to access a channel";

#[test]
fn users_are_made_shown_changed_and_removed() {
    at_both_counts(&[], |server| {
        let mut admin = server.connect();
        assert_eq!(say(&mut admin, "ACL WHOAMI"), "default");
        assert_eq!(say(&mut admin, "ACL LIST"), "[user default on nopass sanitize-payload ~* &* +@all]");
        ok(&mut admin, "ACL SETUSER ann on >secret ~a* %R~b* &news.* +@read -get +config|get +select|0 (+set ~c)");
        let hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        let line = format!(
            "user ann on sanitize-payload #{hash} ~a* %R~b* resetchannels &news.* -@all +@read -get +config|get +select|0 \
             (~c resetchannels -@all +set)"
        );
        assert_eq!(
            say(&mut admin, "ACL LIST"),
            format!("[{line}, user default on nopass sanitize-payload ~* &* +@all]")
        );
        assert_eq!(
            say(&mut admin, "ACL GETUSER ann"),
            format!(
                "[flags, [on, sanitize-payload], passwords, [{hash}], commands, -@all +@read -get +config|get +select|0, keys, \
                 ~a* %R~b*, channels, &news.*, selectors, [[commands, -@all +set, keys, ~c, channels, ]]]"
            )
        );
        assert_eq!(say(&mut admin, "ACL USERS"), "[ann, default]");
        let mut ann = server.connect_resp3();
        ok(&mut ann, "AUTH ann secret");
        assert_eq!(
            say(&mut ann, "CLIENT REPLY ON"),
            "-NOPERM User ann has no permissions to run the 'client|reply' command"
        );
        assert_eq!(say(&mut ann, "AUTH ann nope"), WRONG_PASS);
        ok(&mut admin, "ACL SETUSER ann +acl|whoami");
        assert_eq!(say(&mut ann, "ACL WHOAMI"), "ann", "a password that was wrong changes nothing");
        ok(&mut admin, "ACL SETUSER bob");
        assert_eq!(say(&mut admin, "ACL DELUSER bob nobody ann"), "2");
        assert_eq!(say(&mut admin, "ACL USERS"), "[default]");
        assert_eq!(say(&mut admin, "ACL GETUSER ann"), "(nil)");
        assert_eq!(say(&mut admin, "ACL DELUSER default"), "-ERR The 'default' user cannot be removed");
    });
}

#[test]
fn getuser_is_a_map_in_resp3() {
    at_both_counts(&[], |server| {
        let mut admin = server.connect_resp3();
        ok(&mut admin, "ACL SETUSER ann allkeys ()");
        assert_eq!(
            say(&mut admin, "ACL GETUSER ann"),
            "{flags: [off, sanitize-payload], passwords: [], commands: -@all, keys: ~*, channels: , selectors: \
             [{commands: -@all, keys: , channels: }]}"
        );
    });
}

#[test]
fn rules_that_are_wrong_are_refused_in_redis_words_and_change_nothing() {
    at_both_counts(&[], |server| {
        let mut admin = server.connect();
        let modifier = |rule: &str, error: &str| format!("-ERR Error in ACL SETUSER modifier '{rule}': {error}");
        let unknown = "Unknown command or category name in ACL";
        for (rules, error) in [
            ("on +nosuch", modifier("+nosuch", unknown)),
            ("on +@nosuch", modifier("+@nosuch", unknown)),
            ("on -select|0", modifier("-select|0", unknown)),
            ("on foo", modifier("foo", "Syntax error")),
            ("on (%~) ()", modifier("(%~)", "Syntax error")),
            ("on %R", modifier("%R", "Syntax error")),
            ("on %RR~a", modifier("%RR~a", "Syntax error")),
            ("on \"~a b\"", modifier("~a b", "Syntax error")),
            ("on +config|get|x", modifier("+config|get|x", "Allowing first-arg of a subcommand is not supported")),
            ("on (+get ~x", "-ERR Unmatched parenthesis in acl selector starting at '(+get'.".to_owned()),
            ("on <x", modifier("<x", "The password you are trying to remove from the user does not exist")),
            (
                "on #12",
                modifier(
                    "#12",
                    "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters",
                ),
            ),
            (
                "on allkeys ~x",
                modifier(
                    "~x",
                    "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. \
                     Try 'resetkeys' to start with an empty list of patterns",
                ),
            ),
        ] {
            assert_eq!(say(&mut admin, &format!("ACL SETUSER ann {rules}")), error, "{rules}");
        }
        assert_eq!(say(&mut admin, "ACL SETUSER \"a b\" on"), "-ERR Usernames can't contain spaces or null characters");
        assert_eq!(
            say(&mut admin, "ACL SETUSER \"a\\0b\" on"),
            "-ERR Usernames can't contain spaces or null characters"
        );
        assert_eq!(say(&mut admin, "ACL USERS"), "[default]");
    });
}

#[test]
fn new_rules_are_in_force_on_every_core_when_setuser_has_replied() {
    at_both_counts(&[], |server| {
        let mut admins: Vec<Client> = (0..4).map(|_| server.connect()).collect();
        ok(&mut admins[0], "ACL SETUSER ann on >pw +@all ~*");
        let mut anns = logged_in(server, 4, "ann");
        for round in 0..60 {
            let admin = &mut admins[round % 4];
            let (rules, reply) = match round % 3 {
                0 => ("-set", "-NOPERM User ann has no permissions to run the 'set' command"),
                1 => ("+set resetkeys ~other*", NO_KEY),
                _ => ("~k*", "OK"),
            };
            ok(admin, &format!("ACL SETUSER ann {rules}"));
            for (at, ann) in anns.iter_mut().enumerate() {
                assert_eq!(say(ann, &format!("SET k{at} v")), reply, "round {round}, connection {at}");
            }
            if round % 3 == 2 {
                ok(&mut admins[(round + 1) % 4], "ACL SETUSER ann allkeys");
            }
        }
    });
}

#[test]
fn a_password_that_was_changed_is_asked_for_on_every_core() {
    at_both_counts(&[], |server| {
        let mut admin = server.connect();
        for round in 0..20 {
            ok(&mut admin, &format!("ACL SETUSER ann on resetpass >pw{round}"));
            for _ in 0..4 {
                let mut ann = server.connect();
                assert_eq!(say(&mut ann, &format!("AUTH ann pw{}", round + 1)), WRONG_PASS);
                ok(&mut ann, &format!("AUTH ann pw{round}"));
            }
        }
        ok(&mut admin, "ACL SETUSER ann off");
        assert_eq!(say(&mut server.connect(), "AUTH ann pw19"), WRONG_PASS, "one that is off may not come in");
        assert!(say(&mut server.connect(), "HELLO 3 AUTH ann pw19").starts_with("-WRONGPASS"));
        ok(&mut admin, "ACL SETUSER ann on nopass");
        ok(&mut server.connect(), "AUTH ann anything");
    });
}

#[test]
fn commands_keys_and_channels_are_refused_counted_and_logged() {
    at_both_counts(&[], |server| {
        let mut admin = server.connect();
        ok(&mut admin, "ACL SETUSER ann on >pw +@all -flushall ~a* %R~r* %W~w* &ch*");
        let mut ann = logged_in(server, 1, "ann").remove(0);
        for (row, reply) in [
            ("FLUSHALL", "-NOPERM User ann has no permissions to run the 'flushall' command"),
            ("SET a v", "OK"),
            ("GET b", NO_KEY),
            ("SET r1 v", NO_KEY),
            ("GET w1", NO_KEY),
            ("SET w1 v", "OK"),
            ("SET w1 v GET", NO_KEY),
            ("MGET a r1 b", NO_KEY),
            ("COPY w1 a", NO_KEY),
            ("EXISTS w1", "1"),
            ("PUBLISH ch1 m", "0"),
            ("PUBLISH x m", NO_CHANNEL),
            ("SPUBLISH x m", NO_CHANNEL),
            ("SUBSCRIBE ch1 x", NO_CHANNEL),
            ("PSUBSCRIBE c*", NO_CHANNEL),
            ("GEORADIUS r1 1 2 3 km STORE a STORE b", NO_KEY),
            ("XREADGROUP COUNT 1 GROUP STREAMS c STREAMS b >", NO_KEY),
            ("SORT a BY b*", "-ERR BY option of SORT denied due to insufficient ACL permissions."),
            ("SORT_RO r1 GET #", "-ERR GET option of SORT denied due to insufficient ACL permissions."),
            ("SORT a2 BY nosort", "[]"),
        ] {
            assert_eq!(say(&mut ann, row), reply, "{row}");
        }
        assert_eq!(say(&mut server.connect(), "AUTH ann nope"), WRONG_PASS);
        let info = say(&mut admin, "INFO stats");
        for field in [
            "acl_access_denied_auth:1",
            "acl_access_denied_cmd:1",
            "acl_access_denied_key:8",
            "acl_access_denied_channel:4",
        ] {
            assert!(info.contains(field), "{field}: {info}");
        }
        assert!(say(&mut admin, "INFO errorstats").contains("errorstat_NOPERM:count=13"));
        let entries = admin.line("ACL LOG 100");
        let entries: Vec<Vec<String>> = entries
            .elements()
            .unwrap()
            .iter()
            .map(|entry| entry.elements().unwrap().iter().map(show).collect())
            .collect();
        assert_eq!(
            entries[0][..10],
            ["count", "1", "reason", "auth", "context", "toplevel", "object", "AUTH", "username", "ann"]
        );
        let (x, b) = (&entries[1], entries.iter().find(|entry| entry[7] == "b").unwrap());
        assert_eq!((x[3].as_str(), x[7].as_str()), ("key", "b"));
        assert_eq!((b[1].as_str(), b[3].as_str(), b[9].as_str()), ("4", "key", "ann"));
        assert!(entries.iter().any(|entry| entry[3] == "command" && entry[7] == "flushall"));
        assert!(entries.iter().any(|entry| entry[3] == "channel" && entry[7] == "c*"));
        let last = entries.last().unwrap();
        assert_eq!(
            (last[10].as_str(), last[12].as_str(), last[14].as_str()),
            ("age-seconds", "client-info", "entry-id")
        );
        assert!(last[13].contains("user=ann") && last[13].contains("cmd="), "{last:?}");
        assert_eq!((last[16].as_str(), last[18].as_str()), ("timestamp-created", "timestamp-last-updated"));
    });
}

#[test]
fn the_log_joins_what_all_cores_have_refused() {
    at_both_counts(&["--acllog-max-len", "4"], |server| {
        let mut admin = server.connect();
        ok(&mut admin, "ACL SETUSER ann on >pw +get ~a");
        let mut anns = logged_in(server, 8, "ann");
        for ann in &mut anns {
            assert_eq!(say(ann, "GET b"), NO_KEY);
        }
        let entries = admin.line("ACL LOG");
        let entries = entries.elements().unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(show(&entries[0].elements().unwrap()[1]), "8", "like cases of all connections are one entry");
        for (at, ann) in anns.iter_mut().enumerate() {
            say(ann, &format!("GET c{at}"));
        }
        assert_eq!(admin.line("ACL LOG").elements().unwrap().len(), 4, "as many as the setting says, over all cores");
        assert_eq!(admin.line("ACL LOG 2").elements().unwrap().len(), 2);
        assert_eq!(admin.line("ACL LOG -1").elements().unwrap().len(), 0);
        assert_eq!(say(&mut admin, "ACL LOG x"), "-ERR value is not an integer or out of range");
        ok(&mut admin, "ACL LOG RESET");
        assert_eq!(say(&mut admin, "ACL LOG"), "[]");
        ok(&mut admin, "CONFIG SET acllog-max-len 0");
        say(&mut anns[0], "GET b");
        assert_eq!(say(&mut admin, "ACL LOG"), "[]");
    });
}

#[test]
fn connections_of_a_user_that_is_removed_are_closed() {
    at_both_counts(&[], |server| {
        let mut admin = server.connect();
        ok(&mut admin, "ACL SETUSER ann on >pw allcommands allkeys");
        ok(&mut admin, "ACL SETUSER bob on >pw allcommands allkeys");
        let (mut anns, mut bobs) = (logged_in(server, 4, "ann"), logged_in(server, 4, "bob"));
        anns[1].send(&["BLPOP", "list", "0"]);
        assert_eq!(say(&mut admin, "ACL DELUSER ann"), "1");
        assert!(anns.iter_mut().all(Client::is_closed));
        ok(&mut admin, "ACL SETUSER ann on >pw allcommands allkeys");
        assert_eq!(say(&mut bobs[0], "ACL DELUSER bob"), "1", "who removes itself is told");
        assert!(bobs.iter_mut().all(Client::is_closed));
        assert_eq!(say(&mut admin, "PING"), "PONG");
        assert_eq!(say(&mut admin, "LPUSH list x"), "1");
        assert_eq!(say(&mut admin, "LLEN list"), "1", "nobody waits for it any more");
    });
}

#[test]
fn a_subscriber_that_may_not_hear_its_channel_any_more_is_closed() {
    at_both_counts(&[], |server| {
        let mut admin = server.connect();
        ok(&mut admin, "ACL SETUSER ann on >pw +@all &a* &b* &c*");
        let subscribe = |rows: &[&str]| {
            let mut client = logged_in(server, 1, "ann").remove(0);
            rows.iter().for_each(|row| drop(say(&mut client, row)));
            client
        };
        let mut a = subscribe(&["SUBSCRIBE a1"]);
        let mut b = subscribe(&["SUBSCRIBE a1", "SSUBSCRIBE b1"]);
        let mut c = subscribe(&["PSUBSCRIBE c*"]);
        let mut none = subscribe(&["PING"]);
        ok(&mut admin, "ACL SETUSER ann &d*");
        ok(&mut admin, "ACL SETUSER ann resetchannels &a* &c*");
        assert!(b.is_closed());
        for client in [&mut a, &mut c, &mut none] {
            assert!(say(client, "PING").contains("ong") || say(client, "PING").contains("PONG"));
        }
        ok(&mut admin, "ACL SETUSER ann resetchannels &a* &c");
        assert!(c.is_closed(), "a pattern has to be allowed as it is");
        ok(&mut admin, "ACL SETUSER ann resetchannels");
        assert!(a.is_closed());
        assert_eq!(say(&mut none, "PING"), "PONG");
    });
}

#[test]
fn who_waits_with_a_command_that_is_forbidden_meanwhile_gets_nothing() {
    at_both_counts(&[], |server| {
        let mut admin = server.connect();
        ok(&mut admin, "ACL SETUSER ann on >pw +@all allkeys");
        let mut anns = logged_in(server, 4, "ann");
        for ann in &mut anns {
            ann.send(&["BLPOP", "list1", "list2", "0"]);
        }
        while !say(&mut admin, "INFO clients").contains("blocked_clients:4") {}
        ok(&mut admin, "ACL SETUSER ann resetkeys ~list1 ~other");
        for ann in &mut anns {
            assert_eq!(show(&ann.reply()), NO_KEY);
        }
        assert_eq!(say(&mut admin, "LPUSH list1 x"), "1");
        assert_eq!(say(&mut admin, "LLEN list1"), "1", "nobody was served");
        assert_eq!(say(&mut anns[0], "BLPOP list1 0"), "[list1, x]");
        anns[0].send(&["BLPOP", "list1", "0"]);
        while !say(&mut admin, "INFO clients").contains("blocked_clients:1") {}
        ok(&mut admin, "ACL SETUSER ann resetkeys ~list*");
        assert_eq!(say(&mut admin, "LPUSH list1 y"), "1");
        assert_eq!(show(&anns[0].reply()), "[list1, y]", "one that is still allowed goes on waiting");
    });
}

#[test]
fn transactions_are_checked_when_they_are_queued_and_when_they_run() {
    at_both_counts(&[], |server| {
        let mut admin = server.connect();
        ok(&mut admin, "ACL SETUSER ann on >pw +@all ~a* ~b*");
        let mut ann = logged_in(server, 1, "ann").remove(0);
        ok(&mut ann, "MULTI");
        assert_eq!(say(&mut ann, "GET c"), NO_KEY);
        assert_eq!(say(&mut ann, "EXEC"), "-EXECABORT Transaction discarded because of previous errors.");
        for select in [false, true] {
            ok(&mut admin, "ACL SETUSER ann allcommands allchannels");
            ok(&mut ann, "MULTI");
            for row in ["SET a1 1", "SET b1 1", "PUBLISH x y", "INCR a1", "LPUSH a2 x"] {
                assert_eq!(say(&mut ann, row), "QUEUED", "{row}");
            }
            if select {
                say(&mut ann, "SELECT 0");
            }
            ok(&mut admin, "ACL SETUSER ann resetkeys ~a* -lpush resetchannels");
            let reason = |why: &str| {
                format!(
                    "-NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This \
                     command is no longer allowed for the following reason: {why}"
                )
            };
            let replies = [
                "OK".to_owned(),
                reason("no permission to touch the specified keys"),
                reason("no permission to access one of the channels used as arguments to the command"),
                "2".to_owned(),
                reason("no permission to execute the command or subcommand"),
            ];
            let select = if select { ", OK" } else { "" };
            assert_eq!(say(&mut ann, "EXEC"), format!("[{}{select}]", replies.join(", ")));
            assert_eq!(say(&mut admin, "EXISTS b1 a2"), "0");
            ok(&mut admin, "ACL SETUSER ann ~b*");
        }
        let log = admin.line("ACL LOG");
        let log = log.elements().unwrap();
        assert!(log[..3].iter().all(|entry| show(&entry.elements().unwrap()[5]) == "multi"), "{log:?}");
    });
}

#[test]
fn who_becomes_another_user_in_a_transaction_is_checked_as_that_from_there_on() {
    at_both_counts(&[], |server| {
        let mut admin = server.connect();
        ok(&mut admin, "ACL SETUSER ann on >pw +@all ~a*");
        ok(&mut admin, "MULTI");
        for row in ["SET b 1", "AUTH ann pw", "SET b 2", "SET a 1", "ACL WHOAMI", "AUTH ann nope"] {
            say(&mut admin, row);
        }
        let replies = admin.line("EXEC");
        let replies: Vec<String> = replies.elements().unwrap().iter().map(show).collect();
        assert_eq!((replies[0].as_str(), replies[1].as_str()), ("OK", "OK"));
        assert!(replies[2].contains("no permission to touch the specified keys"), "{replies:?}");
        assert_eq!((replies[3].as_str(), replies[4].as_str(), replies[5].as_str()), ("OK", "ann", WRONG_PASS));
        let log = admin.line("ACL LOG 1");
        let entry: Vec<String> = log.elements().unwrap()[0].elements().unwrap().iter().map(show).collect();
        assert_eq!((entry[3].as_str(), entry[5].as_str()), ("auth", "multi"));
    });
}

#[test]
fn the_password_of_default_is_requirepass_until_a_rule_says_otherwise() {
    at_both_counts(&["--requirepass", "one"], |server| {
        let mut admin = server.connect();
        let no_auth = "-NOAUTH Authentication required.";
        assert_eq!(say(&mut admin, "ACL WHOAMI"), no_auth);
        ok(&mut admin, "AUTH one");
        assert_eq!(say(&mut admin, "ACL WHOAMI"), "default");
        ok(&mut admin, "ACL SETUSER default >two");
        for password in ["one", "two"] {
            ok(&mut server.connect(), &format!("AUTH {password}"));
            ok(&mut server.connect(), &format!("AUTH default {password}"));
        }
        assert_eq!(say(&mut admin, "CONFIG GET requirepass"), "[requirepass, one]");
        ok(&mut admin, "CONFIG SET requirepass three");
        assert_eq!(say(&mut server.connect(), "AUTH two"), WRONG_PASS);
        let mut waiting = server.connect();
        assert_eq!(say(&mut waiting, "PING"), no_auth);
        ok(&mut admin, "CONFIG SET requirepass \"\"");
        assert_eq!(
            say(&mut waiting, "PING"),
            "PONG",
            "who came while a password was needed need not give one any more"
        );
        assert!(say(&mut waiting, "AUTH x").starts_with("-ERR AUTH <password> called without any password configured"));
        ok(&mut admin, "ACL SETUSER default off");
        assert_eq!(say(&mut server.connect(), "PING"), no_auth, "one that is off lets nobody in");
        assert_eq!(say(&mut admin, "PING"), "PONG", "who is in stays in");
        ok(&mut admin, "ACL SETUSER default on nopass -@all +ping +acl");
        assert_eq!(say(&mut server.connect(), "PING"), "PONG");
        assert!(
            say(&mut server.connect(), "GET k").starts_with("-NOPERM User default has no permissions to run the 'get'")
        );
        ok(&mut admin, "ACL SETUSER default allcommands");
        assert_eq!(say(&mut admin, "RESET"), "RESET");
    });
}

#[test]
fn reset_makes_a_connection_default_again() {
    at_both_counts(&[], |server| {
        let mut admin = server.connect();
        ok(&mut admin, "ACL SETUSER ann on >pw +@all");
        let mut ann = logged_in(server, 1, "ann").remove(0);
        assert_eq!(say(&mut ann, "GET k"), NO_KEY);
        assert_eq!(say(&mut ann, "RESET"), "RESET");
        assert_eq!(say(&mut ann, "ACL WHOAMI"), "default");
        ok(&mut ann, "SET k v");
    });
}

#[test]
fn client_list_and_kill_know_users() {
    at_both_counts(&[], |server| {
        let mut admin = server.connect();
        ok(&mut admin, "ACL SETUSER ann on >pw +@all");
        let mut anns = logged_in(server, 4, "ann");
        let list = say(&mut admin, "CLIENT LIST");
        assert_eq!(list.matches("user=ann").count(), 4, "{list}");
        assert_eq!(list.matches("user=default").count(), 1, "{list}");
        assert!(say(&mut anns[0], "CLIENT INFO").contains("user=ann"));
        assert_eq!(say(&mut admin, "CLIENT KILL USER bob"), "-ERR No such user 'bob'");
        assert_eq!(say(&mut admin, "CLIENT KILL USER ann"), "4");
        assert!(anns.iter_mut().all(Client::is_closed));
        assert_eq!(say(&mut admin, "CLIENT KILL USER default"), "0", "not the one that asks");
    });
}

#[test]
fn dryrun_says_what_would_be() {
    at_both_counts(&[], |server| {
        let mut admin = server.connect();
        ok(&mut admin, "ACL SETUSER ann +get +config|get +publish ~a* &c*");
        for (row, reply) in [
            ("GET a", "OK"),
            ("get b", "User ann has no permissions to access the 'b' key"),
            ("SET a v", "User ann has no permissions to run the 'set' command"),
            ("CONFIG GET x", "OK"),
            ("CONFIG SET x y", "User ann has no permissions to run the 'config|set' command"),
            ("PUBLISH d x", "User ann has no permissions to access the 'd' channel"),
            ("GET", "-ERR wrong number of arguments for 'get' command"),
            ("NOSUCH", "-ERR Command 'NOSUCH' not found"),
            ("CONFIG NOSUCH", "-ERR Command 'CONFIG' not found"),
        ] {
            assert_eq!(say(&mut admin, &format!("ACL DRYRUN ann {row}")), reply, "{row}");
        }
        assert_eq!(say(&mut admin, "ACL DRYRUN bob GET a"), "-ERR User 'bob' not found");
    });
}

#[test]
fn categories_are_told_and_agree_with_command_list() {
    check_that(&["ACL CAT"], "21 categories", |shown| {
        shown.starts_with("[keyspace, read, write, set, sortedset") && shown.split(", ").count() == 21
    });
    check(&["ACL CAT nosuch"], "-ERR Unknown category 'nosuch'");
    check(&["ACL CAT a b"], "-ERR unknown subcommand or wrong number of arguments for 'CAT'. Try ACL HELP.");
    at_both_counts(&[], |server| {
        let mut admin = server.connect();
        let categories = admin.line("ACL CAT");
        for category in categories.elements().unwrap() {
            let sorted = |reply: Value| {
                let mut names: Vec<String> = reply.elements().unwrap().iter().map(show).collect();
                names.sort();
                names
            };
            let category = show(category);
            let told = sorted(admin.line(&format!("ACL CAT {category}")));
            assert_eq!(told, sorted(admin.line(&format!("COMMAND LIST FILTERBY ACLCAT {category}"))), "@{category}");
            assert!(!told.is_empty() || category == "scripting", "@{category}");
            for name in &told {
                let info = admin.line(&format!("COMMAND INFO {name}"));
                assert!(show(&info).contains(&format!("@{category}")), "{name} @{category}");
            }
        }
    });
}

#[test]
fn passwords_are_made_up() {
    at_both_counts(&[], |server| {
        let mut admin = server.connect();
        for (row, len) in [("ACL GENPASS", 64), ("ACL GENPASS 1", 1), ("ACL GENPASS 5", 2), ("ACL GENPASS 4096", 1024)]
        {
            let password = say(&mut admin, row);
            assert!(password.len() == len && password.bytes().all(|b| b.is_ascii_hexdigit()), "{row}: {password}");
        }
        assert_ne!(say(&mut admin, "ACL GENPASS"), say(&mut admin, "ACL GENPASS"));
    });
    let range =
        "-ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096";
    check(&["ACL GENPASS 0"], range);
    check(&["ACL GENPASS 4097"], range);
    check(&["ACL GENPASS x"], "-ERR value is not an integer or out of range");
}

#[test]
fn what_needs_a_file_says_so_without_one() {
    let text = "-ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER \
                command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users \
                in the Redis configuration.";
    check(&["ACL LOAD"], text);
    check(&["ACL SAVE"], text);
    check(&["ACL"], "-ERR wrong number of arguments for 'acl' command");
    check(&["ACL NOSUCH"], "-ERR unknown subcommand 'NOSUCH'. Try ACL HELP.");
    check_that(&["ACL HELP"], "lines about SETUSER", |shown| shown.contains("SETUSER username [rule [rule ...]]"));
}

/// A server in a folder of its own with an ACL file there, stopped.
fn with_file(shards: usize, text: &str) -> (Server, std::path::PathBuf) {
    let mut server = Server::annulus(shards, &[]);
    assert!(server.stop().success());
    let path = server.dir().join("users.acl");
    fs::write(&path, text).expect("the server's folder is writable");
    server.args(&["--aclfile", "users.acl"]);
    (server, path)
}

fn is_alone(path: &Path) -> bool {
    let folder = path.parent().expect("a file is in a folder");
    let names = fs::read_dir(folder).expect("the folder is there").flatten().map(|entry| entry.file_name());
    names.filter(|name| name.to_string_lossy().contains("acl")).count() == 1
}

#[test]
fn users_come_from_a_file_and_go_back_into_it() {
    for shards in [1, 4] {
        let (mut server, path) =
            with_file(shards, "user default on nopass ~* &* +@all\n\nuser ann on >pw ~a* +@all (+get ~b)\n");
        server.restart();
        let mut admin = server.connect();
        assert_eq!(say(&mut admin, "ACL USERS"), "[ann, default]");
        let (mut ann, mut gone) = (logged_in(&server, 1, "ann").remove(0), server.connect());
        ok(&mut admin, "ACL SETUSER bob on nopass");
        ok(&mut gone, "AUTH bob x");
        let in_force = say(&mut admin, "ACL LIST");
        ok(&mut admin, "ACL SAVE");
        let saved = fs::read_to_string(&path).unwrap();
        assert_eq!(format!("[{}]", saved.trim_end().replace('\n', ", ")), in_force);
        assert!(is_alone(&path), "what was written before it took the file's place is gone");
        fs::write(&path, "user ann on +nosuch\nuser ann on\nno user\nuser carl (+get\n").unwrap();
        let error = say(&mut admin, "ACL LOAD");
        for part in [
            "users.acl:1: Error in applying operation '+nosuch': Unknown command or category name in ACL.",
            "users.acl:3: should start with user keyword followed by the username.",
            "users.acl:4: Unmatched parenthesis in selector definition.",
            "WARNING: ACL errors detected, no change to the previously active ACL rules was performed",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert_eq!(say(&mut admin, "ACL LIST"), in_force, "all of a file or nothing of it");
        fs::write(&path, "user ann on >pw ~x* +@all\n").unwrap();
        ok(&mut admin, "ACL LOAD");
        assert_eq!(say(&mut admin, "ACL USERS"), "[ann, default]");
        assert!(gone.is_closed(), "whose user the file does not declare");
        assert_eq!(say(&mut ann, "GET a"), NO_KEY, "whose rules have changed goes on under them");
        assert_eq!(say(&mut ann, "GET x"), "(nil)");
        fs::remove_file(&path).unwrap();
        assert!(say(&mut admin, "ACL LOAD").ends_with("No such file or directory"));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("x"), "").unwrap();
        assert!(say(&mut admin, "ACL SAVE").starts_with("-ERR There was an error trying to save the ACLs."));
    }
}

#[test]
fn a_file_that_is_wrong_keeps_the_server_from_starting_and_every_fault_is_named() {
    let (mut server, path) = with_file(1, "user a on <secret\nuser b +@nosuch\n# comment\n");
    assert_eq!(server.restart_refused().code(), Some(1));
    let log = server.log();
    for part in [
        "users.acl:1: The password you are trying to remove from the user does not exist.",
        "users.acl:2: Error in applying operation '+@nosuch'",
        "users.acl:3: should start with user keyword",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert!(!log.contains("secret"));
    fs::write(&path, "user a on\n").unwrap();
    fs::write(server.dir().join("x.conf"), "user b on\n").unwrap();
    server.args(&["--include", "x.conf"]);
    assert_eq!(server.restart_refused().code(), Some(1));
    assert!(server.log().contains("but not both"), "{}", server.log());
}

#[test]
fn user_lines_of_the_configuration_declare_users() {
    for shards in [1, 4] {
        let mut server = Server::annulus(shards, &["--requirepass", "pw"]);
        assert!(server.stop().success());
        fs::write(
            server.dir().join("x.conf"),
            "user ann on >pw \"~a*\" +@all (+get ~b)\nuser default on nopass +acl\n",
        )
        .unwrap();
        server.args(&["--include", "x.conf"]);
        server.restart();
        let mut admin = server.connect();
        assert_eq!(say(&mut admin, "ACL USERS"), "[ann, default]");
        assert!(say(&mut admin, "GET k").starts_with("-NOPERM User default"));
        let mut ann = logged_in(&server, 1, "ann").remove(0);
        assert_eq!((say(&mut ann, "GET b"), say(&mut ann, "GET c")), ("(nil)".to_owned(), NO_KEY.to_owned()));
        assert!(server.stop().success());
        fs::write(server.dir().join("x.conf"), "user ann on\n\nuser bob nonsense\nuser ann off\n").unwrap();
        assert_eq!(server.restart_refused().code(), Some(1));
        let log = server.log();
        assert!(
            log.contains("x.conf:3: Syntax error.") && log.contains("x.conf:4: Duplicate user 'ann' found."),
            "{log}"
        );
    }
}

#[test]
fn channels_of_a_new_user_are_those_of_the_setting() {
    at_both_counts(&["--acl-pubsub-default", "allchannels"], |server| {
        let mut admin = server.connect();
        ok(&mut admin, "ACL SETUSER ann");
        ok(&mut admin, "CONFIG SET acl-pubsub-default resetchannels");
        ok(&mut admin, "ACL SETUSER bob ()");
        assert!(say(&mut admin, "ACL LIST").starts_with(
            "[user ann off sanitize-payload &* -@all, user bob off sanitize-payload resetchannels -@all (resetchannels -@all), "
        ));
    });
}

#[test]
fn a_renamed_command_is_known_to_rules_by_its_old_name() {
    for shards in [1, 4] {
        let mut server = Server::annulus(shards, &[]);
        assert!(server.stop().success());
        server.args(&["--rename-command", "GET", "fetch"]);
        server.restart();
        let mut admin = server.connect();
        ok(&mut admin, "ACL SETUSER ann on >pw +get ~*");
        assert!(say(&mut admin, "ACL SETUSER ann +fetch").starts_with("-ERR Error in ACL SETUSER modifier '+fetch'"));
        let mut ann = logged_in(&server, 1, "ann").remove(0);
        assert_eq!(say(&mut ann, "FETCH k"), "(nil)");
    }
}

#[test]
fn passwords_are_shown_to_nobody_who_watches() {
    at_both_counts(&[], |server| {
        let mut watcher = server.connect();
        ok(&mut watcher, "MONITOR");
        let mut admin = server.connect();
        ok(&mut admin, "ACL SETUSER ann on >sesame +@all");
        ok(&mut admin, "AUTH ann sesame");
        say(&mut admin, "HELLO 2 AUTH ann sesame");
        say(&mut admin, "PING the-end");
        let mut seen = String::new();
        while !seen.contains("the-end") {
            seen += &show(&watcher.reply());
        }
        assert!(!seen.contains("sesame"), "{seen}");
        assert_eq!(seen.matches("(redacted)").count(), 4, "{seen}");
    });
}
