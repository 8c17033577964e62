//! Whether a server is the one that it was.
//!
//! The format is OpenSSH's: names, comma-separated, with `*` and `?`, `!` for exceptions, `[host]:port` for ports
//! other than 22, names hashed (`|1|salt|hash`), and the markers `@revoked` and `@cert-authority` (the latter is
//! not used: no host certificate is asked for). Nothing is ever added to the file.

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_key::{Algorithm, PublicKey};
use sha1::Sha1;

/// What a key's owner is known as, out of known_hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The key is on record.
    Known,
    /// Nothing is on record for the host.
    Unknown,
    /// Another key of the same kind is on record, in this line of this file.
    Changed { file: String, line: usize },
    /// The key is on record as not to be trusted any more.
    Revoked { file: String, line: usize },
}

/// A key on record for the host.
struct Record {
    key: PublicKey,
    revoked: bool,
    file: String,
    line: usize,
}

/// What is on record for one host.
pub(super) struct KnownHost(Vec<Record>);

impl KnownHost {
    /// Finds what the files, each with its name, say of `host`. Lines that cannot be read are skipped, as OpenSSH
    /// does.
    pub(super) fn find(files: &[(String, String)], host: &str, port: u16) -> Self {
        let name = name_of(host, port);
        let mut records = Vec::new();
        for (file, text) in files {
            for (number, line) in text.lines().enumerate() {
                if let Some((key, revoked)) = record(line, &name) {
                    records.push(Record { key, revoked, file: file.clone(), line: number + 1 });
                }
            }
        }
        Self(records)
    }

    /// Judges the key that the server showed.
    pub(super) fn judge(&self, key: &PublicKey) -> Verdict {
        let same = |record: &&Record| record.key.key_data() == key.key_data();
        if let Some(bad) = self.0.iter().filter(same).find(|record| record.revoked) {
            return Verdict::Revoked { file: bad.file.clone(), line: bad.line };
        }
        let trusted: Vec<&Record> = self.0.iter().filter(|record| !record.revoked).collect();
        if trusted.iter().any(same) {
            return Verdict::Known;
        }
        // A host with a key on record that shows another one, of whatever kind, is not to be taken for new: else
        // an impostor need only offer a kind that is not on record.
        match trusted.first() {
            Some(other) => Verdict::Changed { file: other.file.clone(), line: other.line },
            None => Verdict::Unknown,
        }
    }

    /// Returns the kinds of the keys on record, which are the ones to ask the server for.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        self.0.iter().filter(|record| !record.revoked).map(|record| record.key.algorithm()).collect()
    }
}

/// Writes the host as known_hosts has it.
fn name_of(host: &str, port: u16) -> String {
    let host = host.to_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// Writes the line that makes a host known.
pub(super) fn line_for(host: &str, port: u16, key: &PublicKey) -> String {
    let text = key.to_openssh().unwrap_or_default();
    let fields: Vec<&str> = text.split(' ').take(2).collect();
    format!("{} {}", name_of(host, port), fields.join(" "))
}

/// Reads a line; `None` when it is not about `name` or cannot be read.
fn record(line: &str, name: &str) -> Option<(PublicKey, bool)> {
    let line = line.trim();
    let mut fields = line.split_ascii_whitespace();
    let first = fields.next().filter(|first| !first.starts_with('#'))?;
    let (names, revoked) = match first {
        "@revoked" => (fields.next()?, true),
        marker if marker.starts_with('@') => return None,
        names => (names, false),
    };
    if !names_match(names, name) {
        return None;
    }
    let kind = fields.next()?;
    let key = PublicKey::from_openssh(&format!("{kind} {}", fields.next()?)).ok()?;
    Some((key, revoked))
}

fn names_match(names: &str, name: &str) -> bool {
    let mut found = false;
    for pattern in names.split(',') {
        if let Some(hashed) = pattern.strip_prefix("|1|") {
            found |= hash_matches(hashed, name).unwrap_or(false);
        } else if let Some(except) = pattern.strip_prefix('!') {
            if glob(except.to_lowercase().as_bytes(), name.as_bytes()) {
                return false;
            }
        } else {
            found |= glob(pattern.to_lowercase().as_bytes(), name.as_bytes());
        }
    }
    found
}

fn hash_matches(hashed: &str, name: &str) -> Option<bool> {
    let (salt, hash) = hashed.split_once('|')?;
    let salt = BASE64.decode(salt.as_bytes()).ok()?;
    let hash = BASE64.decode(hash.as_bytes()).ok()?;
    let mut mac = Hmac::<Sha1>::new_from_slice(&salt).ok()?;
    mac.update(name.as_bytes());
    Some(mac.verify_slice(&hash).is_ok())
}

/// Matches `*` and `?`. Never slower than the product of the lengths.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(b'?') => (p, n) = (p + 1, n + 1),
            Some(byte) if *byte == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const ED2: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";
    const EC: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBOVJLqB8rf7KdLkk2EGYzUui7h0v4JgawvwIuzetPnHFVpRt7PTuNnB+BJdMuVT9PTv0uGglsXmi1Xsls85yGLo=";

    fn judged(text: &str, host: &str, port: u16, key: &str) -> Verdict {
        let files = [("kh".to_owned(), text.to_owned())];
        let key = PublicKey::from_openssh(key).unwrap();
        KnownHost::find(&files, host, port).judge(&key)
    }

    #[test]
    fn host_is_known_by_name_port_pattern_and_hash() {
        for (text, host, port) in [
            (format!("nas {ED} me@box"), "nas", 22),
            (format!("# nas\n\n  other,NAS\t{ED}"), "Nas", 22),
            (format!("[nas]:2222 {ED}"), "nas", 2222),
            (format!("*.home,!bad.home {ED}"), "nas.home", 22),
            (format!("n?s {ED}"), "nas", 22),
            // `ssh-keygen -H` made this of example.com.
            (format!("|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak= {ED}"), "example.com", 22),
        ] {
            assert_eq!(judged(&text, host, port, ED), Verdict::Known, "{text}");
        }
    }

    #[test]
    fn host_that_is_not_on_record_is_unknown() {
        for (text, host, port) in [
            (String::new(), "nas", 22),
            (format!("# nas {ED}"), "nas", 22),
            (format!("nas {ED}"), "nas", 2222),
            (format!("[nas]:2222 {ED}"), "nas", 22),
            (format!("nas2 {ED}"), "nas", 22),
            (format!("*.home,!bad.home {ED}"), "bad.home", 22),
            (format!("@cert-authority nas {ED}"), "nas", 22),
            ("nas ssh-ed25519 rubbish".to_owned(), "nas", 22),
        ] {
            assert_eq!(judged(&text, host, port, ED), Verdict::Unknown, "{text}");
        }
    }

    #[test]
    fn other_key_on_record_is_a_change_whatever_its_kind() {
        let changed = Verdict::Changed { file: "kh".into(), line: 2 };
        assert_eq!(judged(&format!("#\nnas {ED2}"), "nas", 22, ED), changed);
        assert_eq!(judged(&format!("#\nnas {EC}"), "nas", 22, ED), changed);
        assert_eq!(judged(&format!("nas {ED2}\nnas {ED}"), "nas", 22, ED), Verdict::Known);
    }

    #[test]
    fn revoked_key_is_refused_even_where_it_is_on_record() {
        let revoked = Verdict::Revoked { file: "kh".into(), line: 2 };
        assert_eq!(judged(&format!("nas {ED}\n@revoked * {ED}"), "nas", 22, ED), revoked);
    }

    #[test]
    fn line_for_a_host_makes_it_known() {
        let key = PublicKey::from_openssh(ED).unwrap();
        for port in [22, 2222] {
            let line = line_for("Nas", port, &key);
            assert_eq!(judged(&line, "nas", port, ED), Verdict::Known, "{line}");
        }
    }
}
