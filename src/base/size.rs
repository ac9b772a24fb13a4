//! Amounts of memory as `redis.conf` spells them (`100mb`) and as INFO prints them (`1.50M`).
//!
//! Absent on purpose: percentages (`maxmemory-clients 5%`) and negative sizes; the settings that take them know why.

use super::num;

/// Bytes from a size such as `1024`, `64b`, `1k`, `1kb`, `3GB`: `k`, `m`, `g` are powers of 1000, `kb`, `mb`, `gb`
/// powers of 1024, in either case; leading zeros are allowed.
///
/// `None` for anything else, and for more than 64 bits can hold. Redis 7.0 instead wraps around there
/// (`18446744073709551615k`), and reads a size with no digits (`kb`) as 0: a limit nobody meant to set.
pub fn parse_bytes(text: &[u8]) -> Option<u64> {
    let digits_len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, unit) = text.split_at(digits_len);
    let multiplier: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    let significant = digits.iter().position(|&byte| byte != b'0').unwrap_or(digits_len.saturating_sub(1));
    num::parse_u64(&digits[significant..])?.checked_mul(multiplier)
}

/// A size with the largest unit that says it exactly: `2gb`, `64kb`, `1000`. [`parse_bytes`] reads it back.
pub fn spell(bytes: u64) -> String {
    for (unit, shift) in [("gb", 30), ("mb", 20), ("kb", 10)] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Appends a size as the `_human` fields of INFO show it: two decimals and the largest of `B K M G T P` (powers of
/// 1024) that leaves at least 1 in front of the point. Bytes have no decimals, and neither has what is past 1024 P.
pub fn push_human(out: &mut Vec<u8>, bytes: u64) {
    let unit = match bytes.checked_ilog2() {
        None | Some(0..10) | Some(60..) => {
            num::push_u64(out, bytes);
            out.push(b'B');
            return;
        }
        Some(log) => log / 10,
    };
    let scaled = bytes as f64 / (1u64 << (10 * unit)) as f64;
    out.extend_from_slice(format!("{scaled:.2}").as_bytes());
    out.push(b"BKMGTP"[unit as usize]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_that_is_spelled_reads_as_itself() {
        for (bytes, text) in [(0, "0"), (1000, "1000"), (1024, "1kb"), (3 << 20, "3mb"), (5 << 40, "5120gb")] {
            assert_eq!(spell(bytes), text);
            assert_eq!(parse_bytes(text.as_bytes()), Some(bytes));
        }
        assert_eq!(parse_bytes(spell(u64::MAX).as_bytes()), Some(u64::MAX));
    }

    #[test]
    fn sizes_read_as_redis_conf_defines_them() {
        let rows: &[(&str, Option<u64>)] = &[
            ("0", Some(0)),
            ("1", Some(1)),
            ("12b", Some(12)),
            ("1k", Some(1000)),
            ("1kb", Some(1024)),
            ("1KB", Some(1024)),
            ("5m", Some(5_000_000)),
            ("5mB", Some(5 << 20)),
            ("1g", Some(1_000_000_000)),
            ("17gb", Some(17 << 30)),
            ("00012k", Some(12_000)),
            ("000", Some(0)),
            ("0000000000000000000000000001", Some(1)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("18446744073709551615k", None),
            ("17179869184gb", None),
            ("17179869183gb", Some(17_179_869_183 << 30)),
            ("", None),
            ("kb", None),
            ("b", None),
            ("-1", None),
            ("+5", None),
            (" 1", None),
            ("1 ", None),
            ("1 kb", None),
            ("1kk", None),
            ("1t", None),
            ("1.5m", None),
            ("5%", None),
        ];
        for (text, bytes) in rows {
            assert_eq!(parse_bytes(text.as_bytes()), *bytes, "{text}");
        }
    }

    #[test]
    fn human_sizes_have_two_decimals_and_a_power_of_1024() {
        let rows: &[(u64, &str)] = &[
            (0, "0B"),
            (1, "1B"),
            (1023, "1023B"),
            (1024, "1.00K"),
            (1536, "1.50K"),
            ((1 << 20) - 1, "1024.00K"),
            (1 << 20, "1.00M"),
            (1_572_864, "1.50M"),
            (1 << 30, "1.00G"),
            (5 << 40, "5.00T"),
            (7 << 50, "7.00P"),
            (1 << 60, "1152921504606846976B"),
            (u64::MAX, "18446744073709551615B"),
        ];
        for (bytes, text) in rows {
            let mut out = Vec::new();
            push_human(&mut out, *bytes);
            assert_eq!(String::from_utf8_lossy(&out), *text);
        }
    }
}
