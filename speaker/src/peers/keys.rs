//! The cluster's secrets, and the keys derived from them.

use std::{io, os::unix::fs::PermissionsExt as _, path::Path};

use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit as _, Nonce,
    aead::{Aead as _, Generate as _},
};
use hkdf::Hkdf;
use sha2::Sha256;
use speaker_common::{layout::PROBE_KEYS, probe};

/// Bytes of the nonce in front of a sealed message. It is random, so a secret is good for 2³²
/// messages (NIST SP 800-38D §8.3 on random nonces of 96 bits): 16 months at 100 per second.
const NONCE: usize = 12;
/// The shortest line that is accepted as a secret.
const SHORTEST: usize = 16;
/// Creates a key file that only its owner can read.
pub const MAKE_KEY: &str = "(umask 077; openssl rand -base64 32 > FILE)";

/// The secrets of a key file: the first seals, all open. To change the secret of a running cluster,
/// add the new one as the second line everywhere, then make it the first, then remove the old one.
#[derive(Clone)]
pub struct Keys {
    sealers: Vec<ChaCha20Poly1305>,
    probes: Vec<probe::Key>,
}

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is empty.
    #[error("is empty: make a key with `{MAKE_KEY}`, and copy it to all nodes")]
    Empty,
    /// A line is too short to be a secret.
    #[error(
        "line {line} is shorter than {SHORTEST} characters: make a key with `{MAKE_KEY}`, and copy it \
         to all nodes"
    )]
    Short {
        /// Which one, from 1.
        line: usize,
    },
    /// It has more keys than can be in use.
    #[error("holds {0} keys, and at most {PROBE_KEYS} can be in use at a time: remove old ones")]
    Many(usize),
}

impl Keys {
    /// Reads a key file: one secret per line; empty lines do not count.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not a key file.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        Self::parse(&std::fs::read_to_string(path)?)
    }

    /// Whether users other than its owner can read a key file.
    ///
    /// # Errors
    ///
    /// There is no such file.
    pub fn are_exposed(path: &Path) -> io::Result<bool> {
        Ok(std::fs::metadata(path)?.permissions().mode() & 0o044 != 0)
    }

    fn parse(text: &str) -> Result<Self, KeyFileError> {
        let secrets: Vec<(usize, &str)> = text
            .lines()
            .map(str::trim)
            .enumerate()
            .filter(|(_, secret)| !secret.is_empty())
            .collect();
        if secrets.is_empty() {
            return Err(KeyFileError::Empty);
        }
        if secrets.len() > PROBE_KEYS {
            return Err(KeyFileError::Many(secrets.len()));
        }
        if let Some((index, _)) = secrets.iter().find(|(_, secret)| secret.len() < SHORTEST) {
            return Err(KeyFileError::Short { line: index + 1 });
        }
        let mut keys = Self {
            sealers: Vec::new(),
            probes: Vec::new(),
        };
        for (_, secret) in secrets {
            let derived = Hkdf::<Sha256>::new(None, secret.as_bytes());
            let mut message = [0; 32];
            let mut probe = [[0; 8]; 2];
            derived
                .expand(b"speaker message", &mut message)
                .expect("HKDF-SHA256 gives up to 8,160 bytes");
            derived
                .expand(b"speaker probe", probe.as_flattened_mut())
                .expect("HKDF-SHA256 gives up to 8,160 bytes");
            keys.sealers.push(ChaCha20Poly1305::new(&message.into()));
            keys.probes.push(probe::Key(probe.map(u64::from_le_bytes)));
        }
        Ok(keys)
    }

    /// The keys for probes, in the same order.
    pub fn probes(&self) -> &[probe::Key] {
        &self.probes
    }

    /// Seals a message. The datagram is nonce, ciphertext and tag: 28 bytes more.
    pub fn seal(&self, message: &[u8]) -> Vec<u8> {
        let nonce = Nonce::generate();
        let sealer = self.sealers.first().expect("a key file has a key");
        let sealed = sealer
            .encrypt(&nonce, message)
            .expect("a message is shorter than 256 GiB");
        [nonce.as_slice(), &sealed].concat()
    }

    /// Opens a datagram; `None` if it was sealed with none of the keys.
    pub fn open(&self, datagram: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = datagram.split_first_chunk::<NONCE>()?;
        let nonce = Nonce::from(*nonce);
        self.sealers
            .iter()
            .find_map(|sealer| sealer.decrypt(&nonce, sealed).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "an old secret of enough length";
    const NEW: &str = "a new secret of enough length";

    fn keys(lines: &[&str]) -> Keys {
        Keys::parse(&lines.join("\n")).unwrap()
    }

    fn refusal(text: &str) -> String {
        let error = Keys::parse(text).err().expect("it is refused");
        error.to_string()
    }

    #[test]
    fn a_sealed_message_opens_on_another_node() {
        let sealed = keys(&[OLD]).seal(b"hello");
        assert_eq!(sealed.len(), 5 + 28);
        assert_eq!(keys(&[OLD]).open(&sealed).as_deref(), Some(&b"hello"[..]));
        assert_eq!(keys(&[NEW]).open(&sealed), None);
        assert_ne!(keys(&[OLD]).seal(b"hello"), sealed, "nonces differ");
    }

    #[test]
    fn a_changed_or_truncated_message_does_not_open() {
        let sealed = keys(&[OLD]).seal(b"hello");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(keys(&[OLD]).open(&changed), None);
            assert_eq!(keys(&[OLD]).open(&sealed[..at]), None);
        }
    }

    #[test]
    fn keys_can_be_rotated_without_losing_messages() {
        let steps = [
            keys(&[OLD]),
            keys(&[OLD, NEW]),
            keys(&[NEW, OLD]),
            keys(&[NEW]),
        ];
        for pair in steps.windows(2) {
            for (one, other) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
                assert!(other.open(&one.seal(b"hello")).is_some());
                assert!(other.probes().contains(&one.probes()[0]));
            }
        }
    }

    #[test]
    fn spaces_and_empty_lines_do_not_matter() {
        let sealed = Keys::parse(&format!("\n  {OLD} \r\n\n"))
            .unwrap()
            .seal(b"hello");
        assert!(keys(&[OLD]).open(&sealed).is_some());
    }

    #[test]
    fn key_files_readable_by_group_or_others_are_exposed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, exposed) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&file, permissions).unwrap();
            assert_eq!(Keys::are_exposed(file.path()).unwrap(), exposed, "{mode:o}");
        }
    }

    #[test]
    fn an_invalid_key_file_is_refused_with_the_remedy() {
        assert!(refusal(" \n").starts_with("is empty: make a key with"));
        assert!(refusal(&format!("{OLD}\nsecret")).starts_with("line 2 is shorter than 16"));
        let many = [OLD; 4].join("\n");
        assert!(refusal(&many).starts_with("holds 4 keys, and at most 3"));
    }
}
