//! MULTI, EXEC, DISCARD, WATCH and UNWATCH, by what one client sees.
//! What many clients see of each other is the business of the transaction tests.

use super::check;

#[test]
fn what_is_queued_runs_at_exec_and_not_before() {
    check(&["MULTI", "SET a 1"], "QUEUED");
    check(&["MULTI", "SET a 1", "INCR b", "GET a", "EXEC"], "[OK, 1, 1]");
    check(&["MULTI", "EXEC"], "[]");
    check(&["MULTI", "SET a 1", "DISCARD", "GET a"], "(nil)");
    check(
        &["MULTI", "MSET a 1 b 2 c 3 d 4 e 5", "MGET e d c b a x", "DEL a b x", "EXEC"],
        "[OK, [5, 4, 3, 2, 1, (nil)], 2]",
    );
}

#[test]
fn a_refused_command_spoils_the_transaction_and_a_failing_one_does_not() {
    let spoilt = "-EXECABORT Transaction discarded because of previous errors.";
    check(&["MULTI", "NOSUCH", "EXEC"], spoilt);
    check(&["MULTI", "SET a", "SET b 1", "EXEC"], spoilt);
    check(&["MULTI", "SET a", "SET b 1", "EXEC", "EXISTS b"], "0");
    check(
        &["MULTI", "EXEC x"],
        "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command",
    );
    let wrong_type = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    check(&["SET a x", "MULTI", "LPUSH a 1", "SET b 1", "EXEC"], &format!("[{wrong_type}, OK]"));
    check(&["EXEC"], "-ERR EXEC without MULTI");
    check(&["DISCARD"], "-ERR DISCARD without MULTI");
    check(&["MULTI", "MULTI"], "-ERR MULTI calls can not be nested");
    check(&["MULTI", "WATCH a"], "-ERR WATCH inside MULTI is not allowed");
    check(&["MULTI", "WATCH a", "PING", "EXEC"], "[PONG]");
}

#[test]
fn exec_does_nothing_if_a_watched_key_has_changed() {
    check(&["WATCH a b", "MULTI", "PING", "EXEC"], "[PONG]");
    check(&["WATCH a b", "SET b 1", "MULTI", "PING", "EXEC"], "(nil)");
    check(&["WATCH a b", "SET b 1", "UNWATCH", "MULTI", "PING", "EXEC"], "[PONG]");
    check(&["WATCH a b", "SET b 1", "MULTI", "PING", "EXEC", "MULTI", "PING", "EXEC"], "[PONG]");
    check(&["SET a 1", "WATCH a", "INCR a", "MULTI", "PING", "EXEC"], "(nil)");
    check(&["SET a 1", "WATCH a", "EXPIRE a 100", "MULTI", "GET a", "EXEC"], "(nil)");
    check(&["SET a 1", "WATCH a", "FLUSHALL", "MULTI", "GET b", "EXEC"], "(nil)");
    check(&["WATCH a", "FLUSHALL", "MULTI", "PING", "EXEC"], "[PONG]");
    check(&["SET a 1", "WATCH a", "SWAPDB 0 1", "MULTI", "PING", "EXEC"], "(nil)");
}

#[test]
fn a_transaction_may_do_what_concerns_its_connection_and_all_keys() {
    check(&["MULTI", "SELECT 1", "SET x 1", "DBSIZE", "SELECT 0", "DBSIZE", "EXEC"], "[OK, OK, 1, OK, 0]");
    check(&["MULTI", "SET x 1", "FLUSHALL", "SET y 1", "KEYS *", "EXEC"], "[OK, OK, OK, [y]]");
    check(&["SET a 1", "MULTI", "RENAME a b", "RENAME b c", "RENAME c d", "GET d", "EXEC"], "[OK, OK, OK, 1]");
    check(&["MULTI", "BLPOP a b 0", "BLMOVE a b LEFT LEFT 0", "PING", "EXEC"], "[(nil), (nil), PONG]");
    check(&["RPUSH b 1", "MULTI", "BLPOP a b 0", "EXEC"], "[[b, 1]]");
}
