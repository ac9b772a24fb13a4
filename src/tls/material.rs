//! Certificates and keys, from the files that the settings name. PEM only.
//!
//! | what | how it may come |
//! |---|---|
//! | certificate | the server's first, then those that lead to its authority |
//! | key | PKCS#8, PKCS#1 (RSA) or SEC1 (EC); RSA from 2048 bits, P-256, P-384, Ed25519 |
//! | encrypted key | PKCS#8 (`BEGIN ENCRYPTED PRIVATE KEY`) with PBES2: PBKDF2 over HMAC-SHA-2 or scrypt, and AES. Others are refused by name |
//! | authorities | a file with any number of them; a folder as `openssl rehash` prepares it: what has another name is not looked at |
//!
//! Read when the settings change, on the core that changes them, and never while clients are served. Nothing is kept of a key's file
//! or password.
//!
//! Absent on purpose: checks of dates and names in our own certificate, which are its readers' to make.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};

use super::TlsError;
use crate::config::{Config, Text};
use crate::rt::process::reason;

/// Marks a key that OpenSSL encrypted in its own old way.
const OLD_ENCRYPTION: &str = "Proc-Type: 4,ENCRYPTED";
const ENCRYPTED_BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const ENCRYPTED_END: &str = "-----END ENCRYPTED PRIVATE KEY-----";

/// The server's certificate and key. One for every name that a client may ask for.
#[derive(Debug)]
pub(super) struct Identity(Arc<CertifiedKey>);

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl Identity {
    /// Reads `tls-cert-file` and `tls-key-file`.
    pub(super) fn load(
        settings: &Config,
        provider: &CryptoProvider,
        remarks: &mut Vec<String>,
    ) -> Result<Identity, TlsError> {
        let cert_file = settings.tls_cert_file.to_path().ok_or(TlsError::NoCertificate)?;
        let key_file = settings.tls_key_file.to_path().ok_or(TlsError::NoKey)?;
        let bad_cert = |reason: String| TlsError::Certificate { file: cert_file.display().to_string(), reason };
        let bad_key = |reason: String| TlsError::Key { file: key_file.display().to_string(), reason };

        let chain = certificates(&cert_file).map_err(bad_cert)?;
        let parsed = match webpki::EndEntityCert::try_from(&chain[0]) {
            Ok(_) => true,
            // As `openssl x509 -req` makes them without extensions. Clients of OpenSSL take them.
            Err(webpki::Error::UnsupportedCertVersion) => {
                let file = cert_file.display();
                remarks.push(format!("{file} is a certificate of X.509 version 1, which some clients refuse"));
                false
            }
            Err(error) => return Err(bad_cert(error.to_string())),
        };
        let text = fs::read(&key_file).map_err(|error| bad_key(reason(&error)))?;
        let key = private_key(&text, &settings.tls_key_file_pass).map_err(bad_key)?;
        let key = provider.key_provider.load_private_key(key).map_err(|error| bad_key(error.to_string()))?;
        let identity = CertifiedKey::new(chain, key);
        match identity.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => {
                return Err(bad_key(format!("it is not the key of the certificate in {}", cert_file.display())));
            }
            Err(_) if !parsed => {}
            Err(error) => return Err(bad_cert(error.to_string())),
        }
        Ok(Identity(Arc::new(identity)))
    }
}

/// Whom clients' certificates may be signed by: `tls-ca-cert-file` and `tls-ca-cert-dir`.
pub(super) fn authorities(settings: &Config, remarks: &mut Vec<String>) -> Result<RootCertStore, TlsError> {
    let mut found = RootCertStore::empty();
    let (file, folder) = (settings.tls_ca_cert_file.to_path(), settings.tls_ca_cert_dir.to_path());
    if file.is_none() && folder.is_none() {
        return Err(TlsError::NoAuthorities);
    }
    let mut take = |path: &Path| {
        let bad = |reason: String| TlsError::Authorities { file: path.display().to_string(), reason };
        let mut last = None;
        let before = found.len();
        for certificate in certificates(path).map_err(bad)? {
            if let Err(error) = found.add(certificate) {
                remarks.push(format!("an authority in {} is passed over: {error}", path.display()));
                last = Some(error);
            }
        }
        match last {
            Some(error) if found.len() == before => Err(bad(error.to_string())),
            _ => Ok(()),
        }
    };
    if let Some(file) = file {
        take(&file)?;
    }
    if let Some(folder) = folder {
        let bad = |reason: String| TlsError::Authorities { file: folder.display().to_string(), reason };
        let entries = fs::read_dir(&folder).map_err(|error| bad(reason(&error)))?;
        let mut paths: Vec<_> = entries
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(is_hashed_name))
            .map(|entry| entry.path())
            .collect();
        paths.sort();
        if paths.is_empty() {
            return Err(
                bad("no certificate has a name by its hash; 'openssl rehash' gives them such names".to_owned()),
            );
        }
        for path in paths {
            take(&path)?;
        }
    }
    Ok(found)
}

/// Whether OpenSSL would look at a file of this name in a folder of authorities: `1a2b3c4d.0`.
fn is_hashed_name(name: &str) -> bool {
    let Some((hash, number)) = name.split_once('.') else { return false };
    hash.len() == 8
        && hash.bytes().all(|digit| digit.is_ascii_hexdigit())
        && !number.is_empty()
        && number.bytes().all(|digit| digit.is_ascii_digit())
}

/// All certificates of a file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = fs::read(path).map_err(|error| reason(&error))?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err("it holds no certificate in PEM form".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("it is no sound PEM file: {error}")),
    }
}

/// The first private key of a file.
fn private_key(text: &[u8], password: &Text) -> Result<PrivateKeyDer<'static>, String> {
    let readable = String::from_utf8_lossy(text);
    if readable.contains(OLD_ENCRYPTION) {
        return Err("it is encrypted in the old format of OpenSSL (Proc-Type: 4,ENCRYPTED), which is not supported; \
                    'openssl pkcs8 -topk8 -in OLD -out NEW' converts it"
            .to_owned());
    }
    if let Some(begin) = readable.find(ENCRYPTED_BEGIN) {
        let Some(len) = readable[begin..].find(ENCRYPTED_END) else {
            return Err("the encrypted key is cut off".to_owned());
        };
        let section = &readable[begin..begin + len + ENCRYPTED_END.len()];
        return decrypted(section, password);
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => "it holds no private key in PEM form".to_owned(),
        error => format!("it is no sound PEM file: {error}"),
    })
}

fn decrypted(section: &str, password: &Text) -> Result<PrivateKeyDer<'static>, String> {
    if password.is_empty() {
        return Err("it is encrypted, and tls-key-file-pass is not set".to_owned());
    }
    let (_, document) =
        SecretDocument::from_pem(section).map_err(|error| format!("it is no sound PEM file: {error}"))?;
    let sealed = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|error| {
        format!(
            "it is encrypted in a way that is not supported ({error}); PKCS#8 with PBES2 is: PBKDF2 with SHA-2 or scrypt, \
             and AES; 'openssl pkcs8 -topk8 -v2 aes-256-cbc' makes such keys"
        )
    })?;
    let opened = sealed.decrypt(password.as_bytes()).map_err(|error| {
        format!("it cannot be decrypted: tls-key-file-pass is wrong, or the encryption is not supported ({error})")
    })?;
    Ok(PrivatePkcs8KeyDer::from(opened.as_bytes().to_vec()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_authorities_is_read_as_openssl_reads_it() {
        for looked_at in ["1a2b3c4d.0", "00000000.12"] {
            assert!(is_hashed_name(looked_at), "{looked_at}");
        }
        for passed_over in
            ["ca.crt", "1a2b3c4d", "1a2b3c4d.r0", "1a2b3c4d.", "1a2b3c4g.0", "1a2b3c4d5.0", "1a2b3c4d.0.bak"]
        {
            assert!(!is_hashed_name(passed_over), "{passed_over}");
        }
    }

    #[test]
    fn a_key_in_a_form_that_is_not_supported_says_which() {
        let none = Text::default();
        let old = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n";
        assert!(private_key(old, &none).unwrap_err().contains("openssl pkcs8 -topk8"));
        assert!(private_key(b"", &none).unwrap_err().contains("no private key in PEM form"));
        let sealed = format!("{ENCRYPTED_BEGIN}\nMAA=\n{ENCRYPTED_END}\n");
        assert!(private_key(sealed.as_bytes(), &none).unwrap_err().contains("tls-key-file-pass is not set"));
        assert!(private_key(sealed.as_bytes(), &Text::from("x")).unwrap_err().contains("not supported"));
        assert!(private_key(ENCRYPTED_BEGIN.as_bytes(), &Text::from("x")).unwrap_err().contains("cut off"));
    }
}
