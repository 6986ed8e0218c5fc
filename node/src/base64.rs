//! Base64 with the standard alphabet and padding (RFC 4648, section 4).

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends the encoding of these bytes.
///
/// ```
/// let mut text = String::new();
/// anabranch::base64::encode(&mut text, &[0xff, 0xfe]);
/// assert_eq!(text, "//4=");
/// assert_eq!(anabranch::base64::decode(&text), Some(vec![0xff, 0xfe]));
/// ```
pub fn encode(out: &mut String, bytes: &[u8]) {
    for group in bytes.chunks(3) {
        let word =
            group.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            if place <= group.len() {
                out.push(char::from(ALPHABET[(word >> (18 - 6 * place)) as usize & 63]));
            } else {
                out.push('=');
            }
        }
    }
}

/// The bytes of an encoding; `None` unless it is exactly what [`encode`] writes for some bytes.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let mut word = 0u32;
    let mut bits = 0;
    for digit in digits.bytes() {
        word = word << 6 | u32::try_from(ALPHABET.iter().position(|&a| a == digit)?).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
            word &= (1 << bits) - 1;
        }
    }
    // One spelling per value: what is left over must be the zero bits that the padding stands for.
    (word == 0 && bits == 2 * padding).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_reads_back_what_it_wrote_and_nothing_else() {
        for len in 0..32u8 {
            let bytes: Vec<u8> = (0..len).map(|i| i.wrapping_mul(73) ^ 0xa5).collect();
            let mut text = String::new();
            encode(&mut text, &bytes);
            assert_eq!(decode(&text).as_deref(), Some(&bytes[..]), "{text}");
        }
        for bad in [
            "=", "====", "A===", "AB==", "AAB=", "AA", "AA=A", "A A=", "AAA", "A-__",
        ] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }
}
