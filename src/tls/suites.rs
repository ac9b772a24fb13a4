//! Protocol versions and cipher suites: the words of redis.conf, which are OpenSSL's, in terms of what rustls has.
//!
//! | directive | takes |
//! |---|---|
//! | `tls-protocols` | `TLSv1.2`, `TLSv1.3`; `TLSv1` and `TLSv1.1` are passed over with a remark, and refused alone |
//! | `tls-ciphers` (1.2) | names as OpenSSL or IANA writes them; `DEFAULT`, `ALL`, `HIGH`; `!NAME` and `!CLASS` |
//! | `tls-ciphersuites` (1.3) | names, which are the same for both |
//!
//! Only suites with forward secrecy and authenticated encryption are there, so every class that people exclude (`!MD5`, `!aNULL`) is
//! absent already. A name that is not there is an error, where OpenSSL passes over it: a server must not be weaker, or reachable by
//! fewer clients, than its configuration says.

use std::sync::LazyLock;

use rustls::crypto::ring::ALL_CIPHER_SUITES;
use rustls::{CipherSuite, SupportedCipherSuite, SupportedProtocolVersion, Tls12CipherSuite, version};

use super::TlsError;

/// Records that may be encrypted with one key of TLS 1.2 and AES-GCM. rustls closes the connection then, since 1.2 cannot change keys;
/// its own bound of 2^23 assumes records of 16 KiB and would end a client with ten thousand short replies a second after 14 minutes.
/// OpenSSL, and so Redis, has no bound. This one is days of such a client away.
const TLS12_RECORDS_MAX: u64 = 1 << 32;

/// A suite of TLS 1.2: OpenSSL's name, and rustls's.
const TLS12_NAMES: [(&str, CipherSuite); 6] = [
    ("ECDHE-ECDSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// The suites of TLS 1.3.
const TLS13_NAMES: [(&str, CipherSuite); 3] = [
    ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
    ("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
];

/// Classes of OpenSSL of which rustls has no member: leaving them out says nothing new.
const ABSENT_CLASSES: [&str; 26] = [
    "aNULL", "eNULL", "NULL", "EXP", "EXPORT", "LOW", "MEDIUM", "MD5", "SHA1", "SHA", "RC4", "RC2", "DES", "3DES",
    "IDEA", "SEED", "CAMELLIA", "ARIA", "PSK", "SRP", "DSS", "aDSS", "ADH", "AECDH", "kRSA", "kDHE",
];

/// What serves the suites of TLS 1.2, with room for long connections.
static TLS12_SUITES: LazyLock<Vec<SupportedCipherSuite>> = LazyLock::new(|| {
    let roomy = |suite: &SupportedCipherSuite| match suite {
        SupportedCipherSuite::Tls12(suite) => {
            let mut common = rustls::crypto::CipherSuiteCommon { ..suite.common };
            common.confidentiality_limit = common.confidentiality_limit.max(TLS12_RECORDS_MAX);
            let suite = Tls12CipherSuite {
                common,
                prf_provider: suite.prf_provider,
                kx: suite.kx,
                sign: suite.sign,
                aead_alg: suite.aead_alg,
            };
            // Once per process: rustls wants its suites to live for ever.
            Some(SupportedCipherSuite::Tls12(Box::leak(Box::new(suite))))
        }
        SupportedCipherSuite::Tls13(_) => None,
    };
    ALL_CIPHER_SUITES.iter().filter_map(roomy).collect()
});

/// The names that a directive knows.
pub(super) fn names(directive: &str) -> Vec<&'static str> {
    let table: &[(&'static str, CipherSuite)] =
        if directive == "tls-ciphersuites" { &TLS13_NAMES } else { &TLS12_NAMES };
    table.iter().map(|(name, _)| *name).collect()
}

/// The versions that `tls-protocols` allows. Empty means both.
pub(super) fn versions(
    words: &str,
    remarks: &mut Vec<String>,
) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let mut versions: Vec<&'static SupportedProtocolVersion> = Vec::new();
    let mut old = Vec::new();
    for word in words.split([' ', ',']).filter(|word| !word.is_empty()) {
        match () {
            () if word.eq_ignore_ascii_case("TLSv1.2") => versions.push(&version::TLS12),
            () if word.eq_ignore_ascii_case("TLSv1.3") => versions.push(&version::TLS13),
            () if word.eq_ignore_ascii_case("TLSv1") || word.eq_ignore_ascii_case("TLSv1.1") => old.push(word),
            () => {
                return Err(TlsError::Protocols(format!("'{word}'. Use a combination of 'TLSv1.2' and 'TLSv1.3'")));
            }
        }
    }
    match (versions.is_empty(), old.is_empty()) {
        (true, true) => versions = vec![&version::TLS13, &version::TLS12],
        (true, false) => {
            let reason = format!("{} alone cannot be served; only TLSv1.2 and TLSv1.3 are there", old.join(" and "));
            return Err(TlsError::Protocols(reason));
        }
        (false, false) => remarks.push(format!(
            "tls-protocols: {} is passed over: it is broken, and not there; TLSv1.2 and TLSv1.3 are",
            old.join(" and ")
        )),
        (false, true) => {}
    }
    Ok(versions)
}

/// The suites that `tls-ciphers` and `tls-ciphersuites` allow, in their order; empty means all of a kind.
pub(super) fn chosen(ciphers: &str, ciphersuites: &str) -> Result<Vec<SupportedCipherSuite>, TlsError> {
    let mut suites = Vec::new();
    for name in listed("tls-ciphersuites", ciphersuites, &TLS13_NAMES)? {
        suites.extend(ALL_CIPHER_SUITES.iter().filter(|suite| suite.suite() == name));
    }
    for name in listed("tls-ciphers", ciphers, &TLS12_NAMES)? {
        suites.extend(TLS12_SUITES.iter().filter(|suite| suite.suite() == name));
    }
    Ok(suites)
}

/// The suites of one directive.
fn listed(directive: &'static str, text: &str, known: &[(&str, CipherSuite)]) -> Result<Vec<CipherSuite>, TlsError> {
    let all = || known.iter().map(|(_, suite)| *suite);
    let mut suites: Vec<CipherSuite> = Vec::new();
    let mut excluded: Vec<CipherSuite> = Vec::new();
    let words = || text.split([':', ',', ' ']).filter(|word| !word.is_empty());
    for word in words() {
        let (leave_out, name) = word.strip_prefix(['!', '-']).map_or((false, word), |name| (true, name));
        let named = known.iter().find(|(openssl, suite)| {
            openssl.eq_ignore_ascii_case(name) || suite.as_str().is_some_and(|iana| iana.eq_ignore_ascii_case(name))
        });
        match named {
            Some((_, suite)) if leave_out => excluded.push(*suite),
            Some((_, suite)) => suites.push(*suite),
            None if directive == "tls-ciphers" && leave_out && is_absent_class(name) => {}
            None if directive == "tls-ciphers" && !leave_out && matches!(name, "DEFAULT" | "ALL" | "HIGH") => {
                suites.extend(all());
            }
            None => return Err(TlsError::Suite { directive, name: word.to_owned() }),
        }
    }
    if words().next().is_none() {
        suites.extend(all());
    }
    let mut kept: Vec<CipherSuite> = Vec::new();
    for suite in suites {
        if !excluded.contains(&suite) && !kept.contains(&suite) {
            kept.push(suite);
        }
    }
    if kept.is_empty() { Err(TlsError::NoSuite { directive }) } else { Ok(kept) }
}

fn is_absent_class(name: &str) -> bool {
    ABSENT_CLASSES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocols(words: &str) -> Result<(usize, usize), String> {
        let mut remarks = Vec::new();
        let versions = versions(words, &mut remarks).map_err(|error| error.to_string())?;
        Ok((versions.len(), remarks.len()))
    }

    fn of(ciphers: &str) -> Result<Vec<&'static str>, String> {
        let suites = listed("tls-ciphers", ciphers, &TLS12_NAMES).map_err(|error| error.to_string())?;
        Ok(suites.iter().map(|suite| TLS12_NAMES.iter().find(|(_, known)| known == suite).unwrap().0).collect())
    }

    #[test]
    fn old_protocols_are_passed_over_with_a_remark_and_refused_alone() {
        assert_eq!(protocols(""), Ok((2, 0)));
        assert_eq!(protocols("TLSv1.3"), Ok((1, 0)));
        assert_eq!(protocols("tlsv1.2 TLSv1.3"), Ok((2, 0)));
        assert_eq!(protocols("TLSv1 TLSv1.1 TLSv1.2"), Ok((1, 1)));
        assert!(protocols("TLSv1.1").unwrap_err().contains("only TLSv1.2 and TLSv1.3"));
        assert!(protocols("SSLv3").unwrap_err().contains("'SSLv3'"));
    }

    #[test]
    fn ciphers_are_named_as_openssl_or_iana_names_them() {
        let two = "ECDHE-RSA-AES128-GCM-SHA256:TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
        assert_eq!(of(two).unwrap(), ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"]);
        assert_eq!(of("").unwrap().len(), 6);
        assert_eq!(of("DEFAULT:!MEDIUM").unwrap().len(), 6, "what redis.conf suggests");
        assert_eq!(of("HIGH:!aNULL:!ECDHE-RSA-CHACHA20-POLY1305").unwrap().len(), 5);
    }

    #[test]
    fn a_cipher_that_is_not_there_is_an_error_that_says_which_are() {
        for unknown in ["AES256-SHA", "DHE-RSA-AES256-GCM-SHA384", "!CHACHA2O", "ECDHE-RSA-AES128-GCM-SHA256:RC4-MD5"] {
            let error = of(unknown).unwrap_err();
            assert!(error.contains("not there; there are: ECDHE-ECDSA-AES256-GCM-SHA384 "), "{unknown}: {error}");
        }
        assert!(of("ECDHE-RSA-AES128-GCM-SHA256:!ECDHE-RSA-AES128-GCM-SHA256").unwrap_err().contains("leaves none"));
        let error = chosen("", "TLS_AES_128_CCM_SHA256").unwrap_err().to_string();
        assert!(
            error.contains("tls-ciphersuites names 'TLS_AES_128_CCM_SHA256'") && error.contains("TLS_AES_256"),
            "{error}"
        );
    }

    #[test]
    fn every_suite_of_rustls_has_a_name_here() {
        assert_eq!(chosen("", "").unwrap().len(), ALL_CIPHER_SUITES.len());
        for suite in chosen("", "").unwrap() {
            let SupportedCipherSuite::Tls12(suite) = suite else { continue };
            assert!(suite.common.confidentiality_limit >= TLS12_RECORDS_MAX, "{suite:?}");
        }
    }
}
