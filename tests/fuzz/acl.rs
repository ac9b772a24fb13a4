//! Hostile rules and files of users: what is taken prints to a text that is read as the same, allows the same, and never gets to be a part
//! of another user's line.

mod campaign;

use annulus::acl::{User, Users, parse_file, print_config_lines, print_file};
use annulus::base::rng::Rng;
use annulus::commands::permission::{check, vocabulary};
use annulus::commands::table::table;
use annulus::resp::OwnedArgs;
use annulus::resp::words::split_words;

const INTERESTING: &[u8] = b" \n\r\t()~&%+-@|#<>!*\"'\\\0RWrw0az\xff";

const SAMPLES: &[&str] = &[
    "user default on nopass sanitize-payload ~* &* +@all\n",
    "user ann on #2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b ~a* %R~b %W~c %RW~d &x +@read -get +set\n",
    "user bob off resetchannels -@all +config|get -config +select|0 (~a resetchannels -@all +get) (%R~k &c +@all -@write)\n",
    "user c >pw <pw nopass resetpass reset clearselectors allkeys allchannels allcommands (allkeys) ()\nuser d ( +get ~x )\n",
    "user e skip-sanitize-payload +@all -@dangerous +acl|whoami +client|id -client|kill\n\n\tuser f\n",
    "user g ~\\*a[b-c]? &\\[x %r~y (+@all ~* -debug)\n",
];

/// Whether a user may run each of some commands.
fn allowed(user: &User) -> Vec<bool> {
    const LINES: [&str; 14] = [
        "get a",
        "get b",
        "set a x",
        "set d x",
        "config get x",
        "config set x y",
        "select 0",
        "select 1",
        "publish x m",
        "publish c m",
        "mget a k",
        "client kill x",
        "acl whoami",
        "psubscribe x",
    ];
    let may = |line: &&str| {
        let args = OwnedArgs::from_slices(&line.split(' ').collect::<Vec<_>>());
        check(user, table().lookup(args.as_args()).expect("these are commands"), args.as_args()).is_ok()
    };
    LINES.iter().map(may).collect()
}

fn check_users(users: &Users, shown: &str) {
    let printed = print_file(users);
    let again = parse_file("again", &printed, false, vocabulary());
    let again = again.unwrap_or_else(|errors| panic!("{errors:?}: {shown}: {}", printed.escape_ascii()));
    assert_eq!(again.len(), users.iter().len(), "a user is a line: {shown}");
    for (user, again) in users.iter().zip(&again) {
        assert_eq!(user.print(), again.print(), "{shown}");
        assert_eq!(allowed(user), allowed(again), "{shown}");
        assert_eq!(user.unrestricted, again.unrestricted, "{shown}");
    }
    for (line, user) in print_config_lines(users, b"x").iter().zip(users.iter()) {
        let mut words = OwnedArgs::new();
        split_words(line, &mut words).unwrap_or_else(|_| panic!("{shown}: {}", line.escape_ascii()));
        let args = words.as_args();
        // As a server does that reads them: `default` is there already, and begins anew.
        let rules = std::iter::once(&b"reset"[..]).chain(args.slice(1).iter());
        let again = Users::default().set(args.get(0), rules, false, vocabulary());
        let again = again.unwrap_or_else(|error| panic!("{error:?}: {shown}: {}", line.escape_ascii()));
        let again = again.get(&user.name).unwrap_or_else(|| panic!("another name: {shown}: {}", line.escape_ascii()));
        assert_eq!(again.print(), user.print(), "{shown}");
    }
}

fn case(rng: &mut Rng) -> String {
    let mut text = rng.pick(SAMPLES).as_bytes().to_vec();
    if rng.chance(1, 3) {
        text.extend_from_slice(rng.pick(SAMPLES).as_bytes());
    }
    for _ in 0..rng.below(3) {
        campaign::mutate(rng, &mut text, INTERESTING);
    }
    let shown = text.escape_ascii().to_string();
    let as_file = match parse_file("users", &text, rng.chance(1, 2), vocabulary()) {
        Ok(declared) => {
            let users = Users::default().replaced_by(declared);
            check_users(&users, &shown);
            format!("a file of {}", users.iter().len())
        }
        Err(errors) => {
            let lines = text.split(|byte| *byte == b'\n').count();
            assert!(!errors.0.is_empty() && errors.0.len() <= lines, "{errors:?}: {shown}");
            // The first words of the reason.
            errors.0[0].splitn(2, ": ").last().unwrap_or("").chars().take(14).collect()
        }
    };
    // The same bytes as a client would send them.
    let words: Vec<&[u8]> = text.split(|byte| *byte == b' ').collect();
    let before = Users::default();
    if let Ok(users) = before.set(b"ann", words.iter().skip(2).copied(), rng.chance(1, 2), vocabulary()) {
        check_users(&users, &shown);
    }
    as_file
}

#[test]
fn changed_rules_are_refused_or_mean_what_they_print() {
    campaign::run(case);
}

#[test]
fn the_cases_reach_most_problems() {
    let outcomes: std::collections::BTreeSet<String> = (0..6000).map(|seed| case(&mut Rng::seed(seed))).collect();
    assert!(outcomes.iter().any(|outcome| outcome.starts_with("a file")), "{outcomes:#?}");
    assert!(outcomes.len() >= 9, "{outcomes:#?}");
}
