//! Places, by what a client sees: positions, distances, and searches in circles and rectangles.
//! Sicily is small enough that the expected numbers can be checked against the documentation of the commands.

use super::check_that;

const SICILY: &str = "GEOADD k 13.361389 38.115556 Palermo 15.087269 37.502669 Catania";
const WRONG: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

/// As [`super::check`]; a double of RESP3 may stand for its text.
#[track_caller]
fn check(commands: &[&str], expected: &str) {
    check_that(commands, &format!("{expected:?}"), |shown| shown.replace("(double) ", "") == expected);
}

#[test]
fn places_are_added_and_shown() {
    check(&[SICILY], "2");
    check(&[SICILY, "GEOADD k NX 1 1 Palermo", "GEOHASH k Palermo"], "[sqc8b49rny0]");
    check(&["GEOADD k XX 1 1 Palermo", "EXISTS k"], "0");
    check(&[SICILY, "GEOADD k CH 14 38 Palermo"], "1");
    check(&[SICILY, "GEOPOS k Palermo nobody"], "[[13.36138933897018433, 38.11555639549629859], (nil)]");
    check(&[SICILY, "GEOHASH k Palermo nobody Catania"], "[sqc8b49rny0, (nil), sqdtr74hyu0]");
    check(&[SICILY, "ZSCORE k Palermo"], "3479099956230698");
    check(&["GEOADD k 181 0 x"], "-ERR invalid longitude,latitude pair 181.000000,0.000000");
    check(&["GEOADD k a 0 x"], "-ERR value is not a valid float");
    check(&["GEOADD k 1 2 x 3"], "-ERR syntax error");
}

#[test]
fn distances_come_in_four_units() {
    check(&[SICILY, "GEODIST k Palermo Catania"], "166274.1516");
    check(&[SICILY, "GEODIST k Palermo Catania km"], "166.2742");
    check(&[SICILY, "GEODIST k Palermo Catania MI"], "103.3182");
    check(&[SICILY, "GEODIST k Palermo Catania ft"], "545518.8700");
    check(&[SICILY, "GEODIST k Palermo nobody"], "(nil)");
    check(&["GEODIST k a b"], "(nil)");
    check(&[SICILY, "GEODIST k Palermo Catania x"], "-ERR unsupported unit provided. please use M, KM, FT, MI");
}

#[test]
fn members_are_found_in_circles_and_rectangles() {
    check(&[SICILY, "GEOSEARCH k FROMLONLAT 15 37 BYRADIUS 200 km ASC"], "[Catania, Palermo]");
    check(&[SICILY, "GEOSEARCH k FROMLONLAT 15 37 BYRADIUS 100 km"], "[Catania]");
    check(&[SICILY, "GEOSEARCH k FROMLONLAT 15 37 BYBOX 400 400 km DESC"], "[Palermo, Catania]");
    check(&[SICILY, "GEOSEARCH k FROMMEMBER Palermo BYRADIUS 200 km ASC COUNT 1"], "[Palermo]");
    check(&[SICILY, "GEOSEARCH k FROMLONLAT 15 37 BYRADIUS 200 km COUNT 1 ANY"], "[Palermo]");
    check(
        &[SICILY, "GEOSEARCH k FROMLONLAT 15 37 BYRADIUS 200 km ASC WITHDIST WITHHASH WITHCOORD COUNT 1"],
        "[[Catania, 56.4413, 3479447370796909, [15.08726745843887329, 37.50266842333162032]]]",
    );
    check(&["GEOSEARCH k FROMMEMBER nobody BYRADIUS 1 km"], "[]");
    check(&[SICILY, "GEORADIUS k 15 37 200 km ASC"], "[Catania, Palermo]");
    check(&[SICILY, "GEORADIUS_RO k 15 37 200 km WITHDIST ASC"], "[[Catania, 56.4413], [Palermo, 190.4424]]");
    check(&[SICILY, "GEORADIUSBYMEMBER k Catania 100 km"], "[Catania]");
    check(&[SICILY, "GEORADIUSBYMEMBER_RO k Catania 200 km DESC"], "[Palermo, Catania]");
}

#[test]
fn what_is_found_is_stored_on_any_shard() {
    for destination in ["d", "e", "f", "g", "k"] {
        let store = format!("GEOSEARCHSTORE {destination} k FROMLONLAT 15 37 BYRADIUS 200 km");
        check(&[SICILY, &store, &format!("ZSCORE {destination} Catania")], "3479447370796909");
        let store = format!("GEORADIUS k 15 37 200 km STOREDIST {destination}");
        check(&[SICILY, &store, &format!("ZRANGE {destination} 0 -1")], "[Catania, Palermo]");
        let store = format!("GEORADIUSBYMEMBER k Catania 10 km STORE {destination}");
        check(&[SICILY, &store], "1");
        let store = format!("GEOSEARCHSTORE {destination} nowhere FROMLONLAT 15 37 BYRADIUS 200 km");
        check(&["SET d x", &store, "EXISTS d"], if destination == "d" { "0" } else { "1" });
    }
}

#[test]
fn searches_that_make_no_sense_are_refused() {
    let refused = |command: &str, error: &str| check(&[SICILY, command], error);
    refused("GEOSEARCH k FROMLONLAT 15 37 BYRADIUS -1 km", "-ERR radius cannot be negative");
    refused("GEOSEARCH k FROMLONLAT 15 37 BYRADIUS x km", "-ERR need numeric radius");
    refused("GEOSEARCH k FROMLONLAT 15 37 BYBOX x 1 km", "-ERR need numeric width");
    refused("GEOSEARCH k FROMLONLAT 15 37 BYBOX 1 -1 km", "-ERR height or width cannot be negative");
    refused("GEOSEARCH k FROMMEMBER nobody BYRADIUS 1 km", "-ERR could not decode requested zset member");
    refused("GEOSEARCH k FROMLONLAT 15 37 BYRADIUS 1 km COUNT 0", "-ERR COUNT must be > 0");
    refused("GEOSEARCH k FROMLONLAT 15 37 BYRADIUS 1 km ANY", "-ERR the ANY argument requires COUNT argument");
    refused("GEOSEARCH k FROMLONLAT 15 37 FROMMEMBER Palermo BYRADIUS 1 km", "-ERR syntax error");
    refused(
        "GEOSEARCH k FROMLONLAT 15 37 ASC DESC ASC DESC",
        "-ERR exactly one of BYRADIUS and BYBOX can be specified for geosearch",
    );
    refused(
        "GEORADIUS k 15 37 200 km STORE d WITHDIST",
        "-ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
    );
    refused("GEORADIUS_RO k 15 37 200 km STORE d", "-ERR syntax error");
    check(&["SET k x", "GEOPOS k a"], WRONG);
    check(&["SET k x", "GEOADD k 1 1 a"], WRONG);
}
