//! Bytes as hexadecimal text, for `#[serde(with = "hex")]`.

use std::fmt::Write as _;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
    }
    serializer.serialize_str(&text)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            let byte = str::from_utf8(pair).ok();
            let byte = byte.filter(|digits| digits.len() == 2);
            byte.and_then(|digits| u8::from_str_radix(digits, 16).ok())
                .ok_or_else(|| D::Error::custom("not hexadecimal"))
        })
        .collect()
}
