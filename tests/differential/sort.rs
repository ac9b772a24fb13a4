//! SORT and SORT_RO with every option, on values that mean something to them: elements, weights, words and fields with names that
//! fit together. Where Redis leaves the order open (elements of a set that it is not to sort, or whose words are the same) the
//! script does not go.

use super::harness::Server;
use annulus::base::rng::Rng;

fn words(rng: &mut Rng, words: &[&str]) -> String {
    (*rng.pick(words)).to_owned()
}

fn element(rng: &mut Rng) -> String {
    match rng.below(12) {
        0 => format!("{}.5", rng.range(-20..=20)),
        1 => words(rng, &["1e3", "0x10", "-inf", "007", "", " 4", "inf", "+2"]),
        _ => rng.range(-20..=40).to_string(),
    }
}

fn word(rng: &mut Rng) -> String {
    (0..rng.below(4)).map(|_| char::from(b'a' + rng.below(3) as u8)).collect()
}

/// A command that changes what is sorted or what it is sorted by.
fn change(rng: &mut Rng) -> Vec<String> {
    let number = rng.below(3);
    let some = 1 + rng.below(9);
    let mut argv = match rng.below(9) {
        0 => vec!["RPUSH".to_owned(), format!("l{number}")],
        1 => vec!["LPUSH".to_owned(), format!("l{number}")],
        2 => vec!["SADD".to_owned(), format!("s{number}")],
        3 => vec!["DEL".to_owned(), words(rng, &["l0", "s0", "z0", "d0", "d1"])],
        4 | 5 => {
            let mut argv = vec!["MSET".to_owned()];
            for _ in 0..some {
                argv.extend([format!("w_{}", element(rng)), element(rng), format!("v_{}_v", element(rng)), word(rng)]);
            }
            return argv;
        }
        6 | 7 => {
            let key = format!("h_{}", element(rng));
            let fields = [("n", element(rng)), ("t", word(rng))];
            return ["HSET".to_owned(), key]
                .into_iter()
                .chain(fields.into_iter().flat_map(|(f, v)| [f.to_owned(), v]))
                .collect();
        }
        _ => {
            let mut argv = vec!["ZADD".to_owned(), format!("z{number}")];
            (0..some).for_each(|_| argv.extend([rng.range(-9..=9).to_string(), element(rng)]));
            return argv;
        }
    };
    if argv[0] != "DEL" {
        argv.extend((0..some).map(|_| if rng.chance(1, 60) { "word".to_owned() } else { element(rng) }));
    }
    argv
}

fn sort(rng: &mut Rng) -> Vec<String> {
    let stores = rng.chance(1, 4);
    let key = format!("{}{}", words(rng, &["l", "s", "z"]), rng.below(3));
    let is_list = key.starts_with('l');
    let mut argv = vec![if stores || rng.chance(1, 2) { "SORT" } else { "SORT_RO" }.to_owned(), key.clone()];
    let mut options: Vec<Vec<String>> = Vec::new();
    let mut option = |words: &[&str]| options.push(words.iter().map(|word| (*word).to_owned()).collect());
    let by = match rng.below(5) {
        0 if !key.starts_with('s') || stores => Some("nosort"),
        1 => Some("w_*"),
        2 => Some("h_*->n"),
        // Words that are the same leave the order open, but in a list that is sorted as a whole.
        3 if is_list => Some("v_*_v"),
        4 if is_list => Some("h_*->t"),
        _ => None,
    };
    let words_decide = matches!(by, Some("v_*_v" | "h_*->t"));
    by.iter().for_each(|pattern| option(&["BY", pattern]));
    if words_decide || (rng.chance(1, 4) && matches!(by, None | Some("nosort"))) {
        option(&["ALPHA"]);
    }
    match rng.below(3) {
        0 => option(&["DESC"]),
        1 => option(&["asc"]),
        _ => {}
    }
    if !words_decide && rng.chance(1, 2) {
        let edges = ["0", "1", "3", "-1", "10", "9223372036854775807", "-9223372036854775808", "9223372036854775808"];
        let (offset, count) = (*rng.pick(&edges[..]), *rng.pick(&edges[..]));
        option(&["LIMIT", offset, count]);
    }
    for _ in 0..rng.below(3) * rng.below(2) {
        let patterns = ["#", "w_*", "v_*_v", "h_*->n", "h_*->t", "h_*->x", "h_*", "constant", "*"];
        option(&["GET", *rng.pick(&patterns[..])]);
    }
    if stores {
        let destination = format!("d{}", rng.below(2));
        option(&["STORE", &destination]);
    }
    rng.shuffle(&mut options);
    argv.extend(options.concat());
    argv
}

#[test]
fn sorted_values_are_equal_with_every_option() {
    let Some(oracle) = Server::redis(&[]) else { return };
    for shards in [1, 4] {
        let server = Server::annulus(shards, &[]);
        let (mut ours, mut theirs) = (server.connect(), oracle.connect());
        theirs.line("FLUSHALL");
        let seed = u64::from(std::process::id()) * 8 + shards as u64;
        let mut rng = Rng::seed(seed);
        let mut sorted = 0;
        for _ in 0..6000 {
            let argv = if rng.chance(1, 3) { change(&mut rng) } else { sort(&mut rng) };
            let (our, their) = (ours.command_bytes(&argv), theirs.command_bytes(&argv));
            assert!(
                our == their,
                "{argv:?} at {shards} shards, seed {seed}\n  {}\n  {}",
                our.escape_ascii(),
                their.escape_ascii()
            );
            if let Some(at) = argv.iter().position(|arg| arg == "STORE") {
                let lrange = ["LRANGE", &argv[at + 1], "0", "-1"];
                assert_eq!(ours.command_bytes(&lrange), theirs.command_bytes(&lrange), "after {argv:?}, seed {seed}");
            }
            sorted += usize::from(our[0] == b'*' && our.len() > 30);
        }
        assert!(sorted > 1000, "{sorted} replies were of some length; seed {seed}");
    }
}
