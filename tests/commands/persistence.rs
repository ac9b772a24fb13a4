//! SAVE, BGSAVE, LASTSAVE, BGREWRITEAOF, WAITAOF and CLIENT DURABILITY, by what a client sees. That files hold what they should is
//! told by `tests/persistence`.

use super::check;
use super::check_that;
use super::harness::Server;

#[test]
fn save_waits_until_it_is_done() {
    check(&["SET k v", "SAVE"], "OK");
    check(&["SAVE MERGED"], "OK");
    check(&["SAVE merged"], "OK");
    check(&["SAVE nonsense"], "-ERR syntax error");
    check(&["SAVE a b"], "-ERR wrong number of arguments for 'save' command");
    check(&["MULTI", "SAVE"], "-ERR Command not allowed inside a transaction");
}

#[test]
fn bgsave_answers_when_it_has_begun() {
    let begun =
        |shown: &str| shown == "Background saving started" || shown == "-ERR Background save already in progress";
    check_that(&["BGSAVE"], "begun, or one runs", begun);
    check(&["BGSAVE now"], "-ERR syntax error");
    check(&["MULTI", "BGSAVE", "EXEC"], "[Background saving started]");
}

#[test]
fn bgsave_schedule_begins_at_once_or_later() {
    let told = |shown: &str| {
        ["Background saving started", "Background saving scheduled", "-ERR Background save already in progress"]
            .contains(&shown)
    };
    check_that(&["BGSAVE SCHEDULE"], "begun or to begin", told);
}

#[test]
fn lastsave_is_a_time() {
    check_that(&["SAVE", "LASTSAVE"], "seconds since 2020", |shown| {
        shown.parse::<u64>().is_ok_and(|at| at > 1_577_836_800)
    });
    check(&["LASTSAVE now"], "-ERR wrong number of arguments for 'lastsave' command");
}

#[test]
fn bgrewriteaof_answers_when_it_has_begun() {
    for shards in [1, 4] {
        let server = Server::annulus(shards, &["--appendonly", "yes"]);
        let mut client = server.connect();
        assert_eq!(client.line("BGREWRITEAOF").text(), "Background append only file rewriting started");
        assert_eq!(client.line("BGREWRITEAOF now").text(), "ERR wrong number of arguments for 'bgrewriteaof' command");
    }
}

#[test]
fn waitaof_waits_for_the_log_alone() {
    check(
        &["SET k v", "WAITAOF 1 0 0"],
        "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
    );
    check(&["WAITAOF 0 0 0"], "[0, 0]");
    check(&["WAITAOF 2 0 0"], "-ERR value is out of range, value must between 0 and 1");
    check(&["WAITAOF 0 -1 0"], "-ERR value is out of range, must be positive");
    check(&["WAITAOF 0 0 -1"], "-ERR timeout is negative");
    check(&["WAITAOF 0 0 x"], "-ERR timeout is not an integer or out of range");
    check(&["WAITAOF 0 1 10"], "[0, 0]");
    for shards in [1, 4] {
        let server = Server::annulus(shards, &["--appendonly", "yes", "--appendfsync", "no"]);
        let mut client = server.connect();
        for n in 0..20 {
            client.line(&format!("SET k{n} v"));
            assert_eq!(client.line("WAITAOF 1 0 0").to_string(), server.connect().line("WAITAOF 1 0 0").to_string());
        }
        client.line("MULTI");
        client.line("SET k v");
        client.line("WAITAOF 1 0 0");
        // It waits for nothing inside of a transaction.
        client.line("EXEC");
        assert_eq!(client.line("PING").text(), "PONG");
    }
}

#[test]
fn client_durability_is_of_one_connection() {
    check(&["CLIENT DURABILITY"], "default");
    check(&["CLIENT DURABILITY none", "CLIENT DURABILITY"], "none");
    check(&["CLIENT DURABILITY DEFAULT", "CLIENT DURABILITY"], "default");
    check(&["CLIENT DURABILITY sometimes"], "-ERR syntax error");
    check(&["CLIENT DURABILITY always"], "-ERR without an append-only file nothing is durable; set appendonly to yes");
    for shards in [1, 4] {
        let server = Server::annulus(shards, &["--appendonly", "yes"]);
        let mut client = server.connect();
        assert_eq!(client.line("CLIENT DURABILITY always").text(), "OK");
        assert_eq!(client.line("CLIENT DURABILITY").text(), "always");
        for n in 0..20 {
            assert_eq!(client.line(&format!("SET k{n} v")).text(), "OK");
        }
        assert_eq!(server.connect().line("CLIENT DURABILITY").text(), "default");
        assert_eq!(client.line("CLIENT DURABILITY everysec").text(), "OK");
        assert_eq!(client.line("GET k1").text(), "v");
    }
}
