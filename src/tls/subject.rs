//! The common name in a certificate: which user a client is, when `tls-auth-clients-user` says CN.
//!
//! ```text
//!   subject   SEQUENCE { SET { SEQUENCE { OID, string } … } … }      the first attribute with OID 2.5.4.3 is the name
//! ```
//!
//! Read with the lengths of DER and compared as bytes, so a NUL in a name ends nothing: `default\0.example` is no `default`. Such a
//! name is none at all here: whoever signed it cannot have meant a user of ours.
//!
//! Absent on purpose: names in two-byte and four-byte encodings (BMPString, UniversalString), which are no user's.

const SET: u8 = 0x31;
const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// UTF8String, PrintableString, TeletexString, IA5String.
const BYTE_STRINGS: [u8; 4] = [0x0c, 0x13, 0x14, 0x16];

/// The common name of this certificate's owner, if it has one that can be a user's. The first, as Redis takes it.
pub fn common_name(certificate: &[u8]) -> Option<Vec<u8>> {
    let certificate = rustls::pki_types::CertificateDer::from(certificate);
    let parsed = webpki::EndEntityCert::try_from(&certificate).ok()?;
    common_name_in(parsed.subject())
}

/// As [`common_name`], from the subject without its own header.
fn common_name_in(mut names: &[u8]) -> Option<Vec<u8>> {
    while !names.is_empty() {
        let mut relative = expect(&mut names, SET)?;
        while !relative.is_empty() {
            let mut attribute = expect(&mut relative, SEQUENCE)?;
            if expect(&mut attribute, OBJECT_IDENTIFIER)? == COMMON_NAME {
                let (tag, name) = element(&mut attribute)?;
                let usable = BYTE_STRINGS.contains(&tag) && !name.is_empty() && !name.contains(&0);
                return usable.then(|| name.to_vec());
            }
        }
    }
    None
}

fn expect<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    element(input).filter(|(found, _)| *found == tag).map(|(_, content)| content)
}

/// Takes one element of DER from the front: its tag and its content.
fn element<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut len = usize::from(first);
    if first >= 0x80 {
        // Names are short: two bytes of length are more than enough.
        let digits = usize::from(first & 0x7f);
        if digits == 0 || digits > 2 || rest.len() < digits {
            return None;
        }
        len = rest[..digits].iter().fold(0, |len, digit| len << 8 | usize::from(*digit));
        rest = &rest[digits..];
    }
    if rest.len() < len {
        return None;
    }
    let (content, rest) = rest.split_at(len);
    *input = rest;
    Some((tag, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut all = vec![tag];
        match content.len() {
            len @ 0..=0x7f => all.push(len as u8),
            len @ 0x80..=0xff => all.extend([0x81, len as u8]),
            len => all.extend([0x82, (len >> 8) as u8, len as u8]),
        }
        all.extend_from_slice(content);
        all
    }

    fn attribute(oid: &[u8], tag: u8, text: &[u8]) -> Vec<u8> {
        let inner = [wrapped(OBJECT_IDENTIFIER, oid), wrapped(tag, text)].concat();
        wrapped(SET, &wrapped(SEQUENCE, &inner))
    }

    #[test]
    fn the_first_common_name_is_the_user() {
        let organisation = attribute(&[0x55, 0x04, 0x0a], 0x0c, b"Example");
        let subject = [organisation, attribute(COMMON_NAME, 0x13, b"alice"), attribute(COMMON_NAME, 0x0c, b"bob")];
        assert_eq!(common_name_in(&subject.concat()), Some(b"alice".to_vec()));
        let long = vec![b'x'; 300];
        assert_eq!(common_name_in(&attribute(COMMON_NAME, 0x0c, &long)), Some(long));
    }

    #[test]
    fn redis_15669_a_nul_in_a_common_name_makes_it_nobodys() {
        assert_eq!(common_name_in(&attribute(COMMON_NAME, 0x0c, b"default\0.example")), None);
        assert_eq!(common_name_in(&attribute(COMMON_NAME, 0x0c, b"\0")), None);
        assert_eq!(common_name_in(&attribute(COMMON_NAME, 0x0c, b"")), None);
        assert_eq!(common_name_in(&attribute(COMMON_NAME, 0x1e, b"\0a")), None, "a BMPString");
    }

    #[test]
    fn whatever_is_cut_off_or_damaged_names_nobody() {
        let subject = attribute(COMMON_NAME, 0x0c, b"alice");
        for end in 0..subject.len() {
            assert_eq!(common_name_in(&subject[..end]), None, "cut at {end}");
        }
        for at in 0..subject.len() {
            for value in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut damaged = subject.clone();
                damaged[at] = value;
                // Any answer but a panic.
                common_name_in(&damaged);
            }
        }
        assert_eq!(common_name(b"no certificate"), None);
    }
}
