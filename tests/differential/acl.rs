//! Random rules, and commands of the users that have them, on both servers.
//!
//! redis-server 7.0 prints the rules about commands as the shortest list that gives the set, 7.2 and we print them as they were given: so
//! these are compared by what they allow, everything else of a user byte for byte. The texts of refusals became others with 7.2, too;
//! what is refused, and why, is compared.

use super::compare::{How, equal, how};
use super::differences::is;
use super::harness::resp::{Client, Value, decode};
use super::harness::{Server, in_ci};
use super::run::{Argv, setting, show};
use super::script::Script;
use annulus::base::rng::Rng;

const USERS: [&str; 3] = ["ann", "bob", "carl"];

/// Commands that belong to other categories, or use their keys in another way, since 7.2: their permissions are not compared.
const OTHER_SINCE_7_2: [&str; 3] = ["wait", "sinterstore", "command"];

/// Commands that are not run: those that may wait, since the command that would end the wait may be refused, and those that make
/// consumers of a group, which they do whenever they are called since 7.2.
fn is_not_run(argv: &Argv) -> bool {
    let name = argv[0].to_ascii_lowercase();
    (name.starts_with(b"b") && !name.starts_with(b"bit"))
        || argv.iter().any(|arg| arg.eq_ignore_ascii_case(b"block"))
        || [&b"xreadgroup"[..], b"xclaim", b"xautoclaim"].contains(&&name[..])
}

fn random_rule(rng: &mut Rng, names: &[String], categories: &[String]) -> Vec<String> {
    const FIXED: &[&str] = &[
        "on",
        "on",
        "off",
        "nopass",
        "resetpass",
        ">p1",
        ">p2",
        "<p1",
        "reset",
        "allkeys",
        "resetkeys",
        "~k*",
        "~k1",
        "%R~k*",
        "%W~k2",
        "%RW~{tag}*",
        "%rw~k[3-5]",
        "~*",
        "allchannels",
        "resetchannels",
        "&c*",
        "&c1",
        "+@all",
        "-@all",
        "allcommands",
        "nocommands",
        "clearselectors",
        "(+get ~k1)",
        "(+@write %W~k*)",
        "()",
        "(~* &* +@all -@write)",
        "sanitize-payload",
        "skip-sanitize-payload",
        "+select|0",
        "+object|help",
        "-config|get",
        "+config",
        "-config",
        "foo",
        "%",
        "%X~a",
        "+nosuch",
        "~a b",
        ")",
        "+get|",
        "",
        "(%~)",
        "+config|nosuch",
        "+config|get|x",
        "#12",
        "!12",
        "-select|0",
        "+@nosuch",
        "#2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b",
        "!2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b",
    ];
    match rng.below(10) {
        0..=4 => vec![rng.pick(FIXED).to_string()],
        5 | 6 => vec![format!("{}{}", rng.pick(&["+", "-"]), rng.pick(names))],
        7 | 8 => vec![format!("{}@{}", rng.pick(&["+", "-"]), rng.pick(categories))],
        _ => vec![
            "(".to_owned() + *rng.pick(&["+get", "+@read", "~k*"]),
            format!("{})", rng.pick(&["~k1", "&c*", "+set"])),
        ],
    }
}

/// Where texts are ours, in the words of neither.
fn comparable(reply: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(reply);
    let names = text.split('\'').nth(1).unwrap_or("");
    let is_refusal = text.starts_with("-NOPERM") || (text.starts_with('$') && text.contains(" has no permissions to "));
    match () {
        () if !is_refusal => return reply.to_vec(),
        () if text.contains("to run the") => format!("-no command {names}\r\n"),
        // A refusal in DRYRUN names the key.
        () if text.contains("key") => format!("-no key {}\r\n", if text.starts_with('$') { names } else { "" }),
        () => format!("-no channel {}\r\n", if text.starts_with('$') { names } else { "" }),
    }
    .into_bytes()
}

struct Both {
    theirs: Client,
    ours: Client,
}

impl Both {
    fn new(redis: &Server, annulus: &Server) -> Both {
        Both { theirs: redis.connect(), ours: annulus.connect() }
    }

    fn say(&mut self, argv: &Argv) -> (Vec<u8>, Vec<u8>) {
        self.theirs.send(argv);
        self.ours.send(argv);
        (self.theirs.reply_bytes(), self.ours.reply_bytes())
    }

    #[track_caller]
    fn same(&mut self, line: &str, seed: u64) -> Value {
        let argv: Argv = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let (theirs, ours) = self.say(&argv);
        if comparable(&ours).starts_with(b"-no key") && theirs.starts_with(b"+OK") {
            // Where arguments contradict the positions of keys, Redis looks at no key; we look at those that can be found.
            let call: Argv = argv[3..].to_vec();
            assert!(self.has_no_keys(&call), "{line}; ANNULUS_DIFF_SEED={seed}");
            return decode(&ours).0;
        }
        let told = |bytes: &[u8]| decode(bytes).0.to_string();
        assert_eq!(
            String::from_utf8_lossy(&comparable(&ours)),
            String::from_utf8_lossy(&comparable(&theirs)),
            "{line}: {} and {}; ANNULUS_DIFF_SEED={seed}",
            told(&ours),
            told(&theirs)
        );
        decode(&ours).0
    }

    /// Whether Redis finds no keys in a command that has some.
    fn has_no_keys(&mut self, argv: &Argv) -> bool {
        let ask: Argv = [b"COMMAND".to_vec(), b"GETKEYS".to_vec()].into_iter().chain(argv.iter().cloned()).collect();
        self.theirs.command(&ask) == Value::Error(b"ERR Invalid arguments specified for command".to_vec())
    }

    /// All of a user but its rules about commands.
    fn same_user(&mut self, name: &str, seed: u64) {
        let argv: Argv = ["ACL", "GETUSER", name].map(|word| word.as_bytes().to_vec()).to_vec();
        let (theirs, ours) = self.say(&argv);
        let plain = |bytes: &[u8]| without_commands(&decode(bytes).0).to_string();
        assert_eq!(plain(&ours), plain(&theirs), "GETUSER {name}; ANNULUS_DIFF_SEED={seed}");
    }
}

/// Without what is printed in another way: values behind `commands`, and a flag that users of 7.0 have only after `reset`.
fn without_commands(value: &Value) -> Value {
    let Value::Array(values) = value else { return value.clone() };
    let mut kept = Vec::new();
    let mut skip = false;
    for value in values {
        let text = value.bytes().unwrap_or_default();
        if !skip && text != b"sanitize-payload" {
            kept.push(without_commands(value));
        }
        skip = text == b"commands" && !skip;
    }
    Value::Array(kept)
}

fn list(client: &mut Client, line: &str) -> Vec<String> {
    client
        .line(line)
        .elements()
        .unwrap_or_else(|| panic!("{line} replies with a list"))
        .iter()
        .map(Value::text)
        .collect()
}

/// A call of this command that has enough arguments.
fn call(client: &mut Client, name: &str, rng: &mut Rng) -> String {
    let info = client.line(&format!("COMMAND INFO {name}"));
    let fields = info.elements().and_then(|commands| commands.first()?.elements());
    let Some(Value::Int(arity)) = fields.and_then(|fields| fields.get(1)) else { panic!("{name} has an arity") };
    let mut call = name.replace('|', " ");
    for _ in call.split(' ').count()..arity.unsigned_abs() as usize {
        call += &format!(" {}", rng.pick(&["k1", "k2", "{tag}a", "c1", "0", "1"]));
    }
    call
}

fn run(shards: usize) {
    let limit = ["--proto-max-bulk-len", "8mb"];
    let Some(redis) = Server::redis(&limit) else { return assert!(!in_ci()) };
    let annulus = Server::annulus(shards, &limit);
    let seed =
        setting("ANNULUS_DIFF_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 20 | u64::from(annulus.port()));
    let steps = setting("ANNULUS_DIFF_COMMANDS").unwrap_or(6000);
    println!("{steps} steps, {shards} shards, ANNULUS_DIFF_SEED={seed}");
    let (mut rng, mut script) = (Rng::seed(seed), Script::new(seed));
    let mut admin = Both::new(&redis, &annulus);
    let known = list(&mut admin.theirs, "COMMAND LIST");
    let is_other =
        |name: &String| OTHER_SINCE_7_2.iter().any(|other| name == other || name.starts_with(&format!("{other}|")));
    let names: Vec<String> = list(&mut admin.ours, "COMMAND LIST")
        .into_iter()
        .filter(|name| known.contains(name) && !is_other(name))
        .collect();
    let categories = list(&mut admin.ours, "ACL CAT");
    assert_eq!(categories, list(&mut admin.theirs, "ACL CAT"));
    let mut clients = Vec::new();
    for name in USERS {
        admin.same(&format!("ACL SETUSER {name} reset on nopass"), seed);
        let mut client = Both::new(&redis, &annulus);
        client.same(&format!("AUTH {name} x"), seed);
        clients.push(client);
    }
    let (mut refused, mut ran) = (0, 0);
    for step in 0..steps {
        let user = rng.below(USERS.len() as u64) as usize;
        let name = USERS[user];
        if step % 25 < 3 {
            let mut argv: Vec<String> = vec!["ACL".into(), "SETUSER".into(), name.into()];
            if rng.chance(1, 3) {
                argv.extend(["reset", "+@all", "allkeys", "allchannels"].map(str::to_owned));
                if rng.chance(1, 2) {
                    argv.extend(["resetkeys", "~k[1-5]", "%R~k*", "%W~{tag}*"].map(str::to_owned));
                }
            }
            (0..1 + rng.below(5)).for_each(|_| argv.extend(random_rule(&mut rng, &names, &categories)));
            let argv: Argv = argv.into_iter().map(String::into_bytes).collect();
            let (theirs, ours) = admin.say(&argv);
            let (theirs, ours) = (String::from_utf8_lossy(&theirs), String::from_utf8_lossy(&ours));
            assert_eq!(ours, theirs, "{}; ANNULUS_DIFF_SEED={seed}", show(&argv));
            admin.same_user(name, seed);
            for _ in 0..12 {
                let name_of_command: &String = rng.pick(&names);
                let call = call(&mut admin.ours, name_of_command, &mut rng);
                admin.same(&format!("ACL DRYRUN {name} {call}"), seed);
            }
            continue;
        }
        let argv = script.next();
        if is_not_run(&argv)
            || how(&argv) == How::NotSent
            || is_other(&String::from_utf8_lossy(&argv[0]).to_lowercase())
        {
            continue;
        }
        if admin.has_no_keys(&argv) {
            continue;
        }
        let (theirs, ours) = clients[user].say(&argv);
        let (theirs, ours) = (comparable(&theirs), comparable(&ours));
        // A word that is the argument of another option is no option: Redis's specifications of keys do not know that.
        let misread = theirs.starts_with(b"-no key")
            && ours.starts_with(b"-ERR")
            && ["xread", "georadius", "georadiusbymember"].iter().any(|name| is(&argv, 0, name));
        assert!(
            misread || equal(how(&argv), &theirs, &ours),
            "{name}: {}: {} and {}; ANNULUS_DIFF_SEED={seed}",
            show(&argv),
            String::from_utf8_lossy(&theirs),
            String::from_utf8_lossy(&ours)
        );
        *(if ours.starts_with(b"-no ") { &mut refused } else { &mut ran }) += 1;
    }
    println!("{ran} ran, {refused} were refused");
    assert!(steps < 3000 || (ran > 200 && refused > 200), "{ran} ran, {refused} were refused");
}

#[test]
fn one_shard_allows_what_redis_allows() {
    run(1);
}

#[test]
fn four_shards_allow_what_redis_allows() {
    run(4);
}
