//! Values in every form that servers older and newer than redis-server 7.0 write, and changes to bytes where it hurts: what the fuzz
//! targets of RDB values and files make their cases of.

use annulus::base::rng::Rng;

use super::values::{intset, length, listpack, stream, string, ziplist, zipmap};

const INTERESTING: &[u8] =
    &[0, 1, 2, 3, 11, 12, 13, 0x3f, 0x40, 0x7f, 0x80, 0x81, 0xbf, 0xc0, 0xc3, 0xe0, 0xf0, 0xf4, 0xfe, 0xff];

/// So many texts of which the even ones, from 0 on, are different.
fn texts(rng: &mut Rng, count: usize) -> Vec<Vec<u8>> {
    let one = |rng: &mut Rng, n: usize| match rng.below(6) {
        0 => n.to_string().into_bytes(),
        1 => (rng.next_u64() as i64 >> rng.below(63)).to_string().into_bytes(),
        2 => vec![b'x'; *rng.pick(&[0, 1, 63, 64, 253, 254, 255, 300])],
        _ => format!("t{n}").into_bytes(),
    };
    let mut all: Vec<Vec<u8>> = Vec::new();
    while all.len() < count {
        let text = one(rng, all.len());
        // The even ones are fields and members, of which none may be there twice.
        if all.len() % 2 == 1 || !all.iter().step_by(2).any(|other| *other == text) {
            all.push(text);
        }
    }
    all
}

/// Some value in a form that redis-server 7.0 does not write, as type byte and body.
pub fn foreign(rng: &mut Rng) -> Vec<u8> {
    let count = 2 + 2 * rng.below(8) as usize;
    let words = texts(rng, count);
    let all: Vec<u8> = words.iter().flat_map(|word| string(word)).collect();
    let members: Vec<Vec<u8>> = words.iter().step_by(2).cloned().collect();
    let scored: Vec<Vec<u8>> = members
        .iter()
        .enumerate()
        .flat_map(|(n, member)| [member.clone(), format!("{}", n as f64 * 0.75 - 1.0).into_bytes()])
        .collect();
    let due = 1_900_000_000_000u64 + rng.below(1 << 40);
    let timed: Vec<Vec<u8>> = words
        .chunks(2)
        .enumerate()
        .flat_map(|(n, pair)| {
            [pair[0].clone(), pair[1].clone(), if n % 2 == 0 { due.to_string() } else { "0".to_owned() }.into_bytes()]
        })
        .collect();
    let least = (due as i64).to_le_bytes();
    let timed_fields = |deadline: &dyn Fn(usize) -> usize| -> Vec<u8> {
        let fields = words.chunks(2).enumerate();
        [
            length(count / 2),
            fields.flat_map(|(n, pair)| [length(deadline(n)), string(&pair[0]), string(&pair[1])].concat()).collect(),
        ]
        .concat()
    };
    let plain = |type_byte: u8, count: usize, body: &[u8]| [&[type_byte][..], &length(count), body].concat();
    let blob = |type_byte: u8, blob: &[u8]| [&[type_byte][..], &string(blob)].concat();
    match rng.below(22) {
        0 => plain(1, count, &all),
        1 => plain(2, members.len(), &members.iter().flat_map(|member| string(member)).collect::<Vec<u8>>()),
        2 => {
            let scores = [&b"\x031.5"[..], b"\xff", b"\xfe", b"\x02-1", b"\x051e+20"];
            let body =
                members.iter().enumerate().flat_map(|(n, member)| [string(member), scores[n % 5].to_vec()].concat());
            plain(3, members.len(), &body.collect::<Vec<u8>>())
        }
        3 => plain(4, count / 2, &all),
        4 => blob(9, &zipmap(&words, rng.below(4) as u8)),
        5 => blob(10, &ziplist(&words)),
        6 => {
            let width = *rng.pick(&[2, 4, 8]);
            blob(11, &intset(&(0..count as i64).map(|n| n * 17 - 40).collect::<Vec<_>>(), width))
        }
        7 => blob(12, &ziplist(&scored)),
        8 => blob(13, &ziplist(&words)),
        9 => {
            let (front, back) = words.split_at(count / 2);
            plain(14, 3, &[string(&ziplist(front)), string(&ziplist(&[])), string(&ziplist(back))].concat())
        }
        10 => blob(17, &listpack(&scored)),
        11 => plain(18, 2, &[length(1), string(b"alone"), length(2), string(&listpack(&words))].concat()),
        12 => blob(20, &listpack(&members)),
        13 => [&[22][..], &timed_fields(&|n| if n % 2 == 0 { due as usize } else { 0 })].concat(),
        14 => blob(23, &listpack(&timed)),
        15 => [&[24][..], &least, &timed_fields(&|n| if n % 2 == 0 { 1 + n * 1000 } else { 0 })].concat(),
        16 => stream(15),
        17 => stream(19),
        18 => stream(21),
        19 => stream(26),
        20 => stream(27),
        _ => [&[25][..], &least, &string(&listpack(&timed))].concat(),
    }
}

/// Changes something.
pub fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = rng.below(bytes.len() as u64) as usize;
    let some = (1 + rng.below(8) as usize).min(bytes.len() - at);
    match rng.below(10) {
        0 => bytes[at] = *rng.pick(INTERESTING),
        1 => bytes[at] ^= 1 << rng.below(8),
        2 => bytes[at] = bytes[at].wrapping_add(1),
        3 => bytes[at] = bytes[at].wrapping_sub(1),
        4 => bytes.insert(at, *rng.pick(INTERESTING)),
        5 => drop(bytes.drain(at..at + some)),
        6 => {
            let copy = bytes[at..at + some].to_vec();
            let to = rng.below(bytes.len() as u64) as usize;
            bytes.splice(to..to, copy);
        }
        7 => bytes.truncate(at),
        8 => {
            let mut number = vec![0; *rng.pick(&[2, 4, 8])];
            rng.fill(&mut number);
            let end = bytes.len().min(at + number.len());
            bytes.splice(at..end, number);
        }
        _ => bytes[0] = rng.below(28) as u8,
    }
}
