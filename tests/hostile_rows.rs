//! Which test holds which published fault of servers of this family, and which limit. The rows are data, so that a fault without a test
//! is seen, and one whose test was renamed fails here. Where a row has no test the reason stands in its place.
//!
//! Deliberately absent: the tests themselves. A path is from the root of the tree; the second word is the name of a function there.

use std::path::Path;

/// What keeps a fault from being ours.
enum Held {
    /// These tests.
    By(&'static [(&'static str, &'static str)]),
    /// What has the fault is not here yet, or never will be.
    Absent(&'static str),
}

use Held::{Absent, By};

const COMMANDS: &str = "tests/commands/hostile.rs";
const PAYLOADS: &str = "tests/commands/hostile_payloads.rs";
const BYTES: &str = "tests/clients/hostile.py";
const CONNECTIONS: &str = "tests/clients/connections.py";
const LIMITS: &str = "tests/operation/limits.rs";

const NO_SCRIPTS: Held = Absent("there are no scripts");
const NO_CLUSTER: Held = Absent("there is no cluster bus");

/// Published faults: number, cause, and what holds.
const FAULTS: &[(&str, &str, Held)] = &[
    ("CVE-2025-49844", "a chunk name that is not anchored", NO_SCRIPTS),
    ("CVE-2025-46817", "unpack overflows", NO_SCRIPTS),
    ("CVE-2025-46818", "metatables of basic types can be written", NO_SCRIPTS),
    ("CVE-2025-46819", "a long bracket overflows", NO_SCRIPTS),
    ("CVE-2024-46981", "the collector of scripts frees twice", NO_SCRIPTS),
    ("CVE-2024-31449", "bit.tohex overflows the stack", NO_SCRIPTS),
    ("CVE-2022-24834", "cjson and cmsgpack overflow", NO_SCRIPTS),
    ("CVE-2022-24735, 24736, 0543", "the environment of scripts leaks", NO_SCRIPTS),
    (
        "CVE-2025-67733, valkey#4120, kvrocks#3493",
        "line ends in error replies",
        By(&[(COMMANDS, "cve_2025_67733_an_error_is_one_line_whatever_it_quotes")]),
    ),
    (
        "CVE-2026-23479",
        "a blocked client goes while its command runs again",
        By(&[(LIMITS, "cve_2026_23479_blocked_clients_that_are_killed_while_they_are_served_lose_nothing")]),
    ),
    (
        "redis#15594, redis#15615",
        "a blocked list changes while it is walked",
        By(&[(LIMITS, "redis_15594_elements_that_go_round_under_kills_are_all_there")]),
    ),
    ("CVE-2026-23631", "a full sync while a script yields", Absent("there is no replication")),
    (
        "CVE-2026-25243, 25588, 25589, 62356",
        "RESTORE reads past its payload",
        By(&[
            (PAYLOADS, "cve_2026_25243_no_damaged_value_does_more_than_be_refused_or_be_read"),
            (PAYLOADS, "cve_2026_62356_lengths_that_are_only_announced_cost_nothing"),
        ]),
    ),
    (
        "CVE-2026-63639, 66373",
        "two consumers share a pending entry",
        By(&[(PAYLOADS, "cve_2026_63639_a_pending_entry_has_one_owner")]),
    ),
    (
        "redis#15669",
        "a slot out of range in a snapshot",
        By(&[(LIMITS, "redis_15669_a_slot_out_of_range_in_a_snapshot_harms_nobody")]),
    ),
    (
        "Dragonfly CVE-2026-54341, #8182, #7502",
        "lengths, pairs and scores inside a listpack",
        By(&[
            (PAYLOADS, "dragonfly_cve_2026_54341_lengths_inside_a_listpack_are_checked"),
            (PAYLOADS, "dragonfly_8182_an_odd_number_of_entries_makes_no_pairs"),
            (PAYLOADS, "dragonfly_7502_a_score_of_many_digits_is_a_number_or_refused"),
        ]),
    ),
    (
        "CVE-2025-32023",
        "a crafted sparse HyperLogLog",
        By(&[
            (COMMANDS, "cve_2025_32023_a_crafted_sparse_hyperloglog_is_refused"),
            (PAYLOADS, "cve_2025_32023_a_crafted_hyperloglog_may_be_restored_and_is_refused_where_it_is_read"),
        ]),
    ),
    ("CVE-2026-21863, 92925", "lengths on the cluster bus", NO_CLUSTER),
    (
        "CVE-2026-27623",
        "the kind of request stays after an empty one",
        By(&[(BYTES, "cve_2026_27623_empty_requests_between_others_at_every_split")]),
    ),
    ("CVE-2026-56684, 81934", "a killed TLS client with buffered text", Absent("TLS is tried by its own tests")),
    (
        "CVE-2025-21605",
        "replies to a stranger who never reads",
        By(&[(BYTES, "cve_2025_21605_a_stranger_who_never_reads_is_cut_off")]),
    ),
    (
        "CVE-2021-32675",
        "announcements of a stranger",
        By(&[(BYTES, "cve_2021_32675_little_is_allowed_before_auth"), (BYTES, "lengths_announced_are_not_believed")]),
    ),
    (
        "CVE-2025-46686",
        "the memory of a request's arguments",
        By(&[
            (BYTES, "cve_2025_46686_a_query_beyond_its_limit_is_cut_off"),
            (BYTES, "cve_2025_46686_arguments_that_wait_for_their_last_count_too"),
            (LIMITS, "what_multi_has_queued_counts_for_the_query_limit"),
        ]),
    ),
    (
        "CVE-2025-48367",
        "accepting fails, and clients starve",
        By(&[
            (CONNECTIONS, "cve_2025_48367_descriptors_that_run_out_hurt_nobody_who_is_in"),
            (CONNECTIONS, "the_door_opens_again_after_descriptors_ran_out"),
            (CONNECTIONS, "a_storm_of_connections_leaves_nothing_behind"),
            (LIMITS, "cve_2025_48367_tens_of_thousands_of_connects_leave_nothing_behind"),
        ]),
    ),
    (
        "CVE-2024-31227, 51741",
        "malformed selectors",
        By(&[
            ("src/acl/selector.rs", "cve_2024_31227_malformed_rules_are_errors"),
            ("src/acl/user.rs", "cve_2024_51741_malformed_selectors_are_errors_and_change_nothing_that_stays"),
        ]),
    ),
    (
        "CVE-2023-41053, redis#15478",
        "keys that are checked and keys that are used",
        By(&[
            (COMMANDS, "cve_2023_41053_the_keys_that_are_named_are_the_keys_that_are_used"),
            (COMMANDS, "redis_15478_a_word_that_is_an_argument_is_no_option"),
            (
                "src/dispatch/simulation_acl.rs",
                "cve_2023_41053_and_redis_15478_the_keys_that_are_checked_are_the_keys_that_are_used",
            ),
        ]),
    ),
    (
        "CVE-2023-36824",
        "COMMAND GETKEYS overflows",
        By(&[(COMMANDS, "cve_2023_36824_getkeys_takes_any_arguments_for_any_command")]),
    ),
    (
        "CVE-2022-36021, CVE-2024-31228",
        "patterns that take exponential time, or nest",
        By(&[
            (COMMANDS, "cve_2022_36021_a_pattern_of_many_stars_ends"),
            (COMMANDS, "cve_2024_31228_a_long_pattern_does_not_nest"),
            ("src/base/glob.rs", "cve_2022_36021_many_stars_do_not_take_exponential_time"),
            ("src/base/glob.rs", "cve_2024_31228_a_megabyte_of_stars_and_brackets_does_not_recurse"),
        ]),
    ),
    (
        "CVE-2022-35977, CVE-2023-22458, 25155",
        "integer arguments at the edges",
        By(&[
            (COMMANDS, "cve_2022_35977_every_integer_argument_takes_the_edges_of_its_range"),
            (COMMANDS, "cve_2022_35977_setrange_beyond_the_longest_string_is_refused"),
            (COMMANDS, "cve_2022_35977_bits_and_fields_take_the_edges_of_their_range"),
            (COMMANDS, "cve_2022_35977_sort_takes_any_limit"),
            (COMMANDS, "cve_2023_22458_any_number_of_random_members_may_be_asked_for"),
            (COMMANDS, "cve_2023_25155_any_number_of_random_fields_may_be_asked_for"),
        ]),
    ),
    (
        "CVE-2022-31144, 35951",
        "XAUTOCLAIM of deleted entries, and its COUNT",
        By(&[(LIMITS, "cve_2022_31144_xautoclaim_takes_any_count_and_passes_over_deleted_entries")]),
    ),
    (
        "CVE-2023-28425, CVE-2023-28856",
        "MSETNX of one key twice; a field that becomes infinite",
        By(&[
            (COMMANDS, "cve_2023_28425_msetnx_with_a_key_twice_sets_the_last"),
            (COMMANDS, "cve_2023_28856_a_field_never_becomes_infinite_or_no_number"),
        ]),
    ),
    (
        "CVE-2023-41056, CVE-2021-32687",
        "buffers that are resized, encodings without limits",
        By(&[
            (COMMANDS, "cve_2023_41056_the_largest_bulk_length_allowed_asks_for_no_memory"),
            (COMMANDS, "cve_2021_32687_small_encodings_take_any_limit"),
        ]),
    ),
    (
        "CVE-2023-45145",
        "a Unix socket that is open before its mode is set",
        By(&[
            (CONNECTIONS, "cve_2023_45145_a_unix_socket_is_served_and_private"),
            ("src/rt/socket.rs", "cve_2023_45145_a_unix_socket_never_has_more_rights_than_configured"),
        ]),
    ),
    ("CVE-2025-27151", "a long path overflows the stack of a tool", Absent("paths are not copied into arrays")),
    (
        "dragonfly#4466",
        "a cursor of SCAN past 63 bits",
        By(&[(COMMANDS, "dragonfly_4466_any_cursor_of_scan_is_a_place_or_behind_the_end")]),
    ),
    (
        "dragonfly#6694, #5299, #2786",
        "changes while a snapshot is written; values that become empty",
        By(&[("src/dispatch/simulation_snapshot.rs", "a_snapshot_is_what_was_there_at_the_cut_whatever_clients_do")]),
    ),
    ("POST and Host:", "a browser that is made to speak to us", By(&[(BYTES, "a_browser_is_cut_off")])),
];

/// Limits of a client: directive, and what holds.
const LIMITED: &[(&str, Held)] = &[
    ("maxclients", By(&[(CONNECTIONS, "one_client_too_many_is_told_so")])),
    (
        "timeout",
        By(&[
            (LIMITS, "idle_clients_go_and_those_who_listen_or_wait_stay"),
            (CONNECTIONS, "a_slow_upload_is_not_idle"),
        ]),
    ),
    ("tcp-keepalive", By(&[(LIMITS, "silent_connections_are_probed_as_tcp_keepalive_says")])),
    ("proto-max-bulk-len", By(&[(COMMANDS, "cve_2023_41056_the_largest_bulk_length_allowed_asks_for_no_memory")])),
    (
        "client-query-buffer-limit",
        By(&[
            (BYTES, "cve_2025_46686_a_query_beyond_its_limit_is_cut_off"),
            ("src/dispatch/limits.rs", "what_is_on_its_way_to_other_cores_counts_as_input"),
        ]),
    ),
    ("lines of the protocol", By(&[("src/resp/parse.rs", "a_line_may_have_64_kib")])),
    (
        "before AUTH",
        By(&[
            (BYTES, "cve_2021_32675_little_is_allowed_before_auth"),
            (BYTES, "cve_2025_21605_a_stranger_who_never_reads_is_cut_off"),
        ]),
    ),
    (
        "client-output-buffer-limit",
        By(&[
            (LIMITS, "a_soft_limit_ends_by_itself_for_each_class"),
            (LIMITS, "who_catches_up_within_the_time_of_a_soft_limit_stays"),
            (LIMITS, "a_hard_limit_ends_at_once_for_each_class"),
            (BYTES, "a_slow_reader_of_large_replies_stops_nobody"),
        ]),
    ),
    ("tracking-table-max-keys", By(&[("tests/commands/tracking.rs", "a_table_that_is_full_forgets_keys_and_says_so")])),
    ("half-open connections", By(&[(LIMITS, "a_client_that_has_finished_sending_gets_its_replies")])),
    (
        "bind and port while running",
        By(&[("tests/operation/config_rewrite.rs", "listeners_move_and_those_who_are_in_stay")]),
    ),
];

#[test]
fn every_row_names_tests_that_exist_or_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let faults = FAULTS.iter().map(|(number, cause, held)| (format!("{number} ({cause})"), held));
    let limits = LIMITED.iter().map(|(name, held)| (name.to_string(), held));
    let mut wrong = Vec::new();
    for (row, held) in faults.chain(limits) {
        match held {
            Absent(reason) => assert!(!reason.is_empty(), "{row}"),
            By(tests) => {
                assert!(!tests.is_empty(), "{row}");
                for (file, name) in *tests {
                    let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
                    let defined = [format!("fn {name}("), format!("def {name}(")];
                    if !defined.iter().any(|definition| text.contains(definition)) {
                        wrong.push(format!("{row}: {file} has no {name}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
