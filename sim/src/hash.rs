//! The trace hash: one number over time and content of every event of a run.
//!
//! Two runs of a seed with equal hashes went the same way. Not for anybody hostile.

/// A running hash.
///
/// ```
/// use anabranch_sim::hash::TraceHash;
/// let (mut a, mut b) = (TraceHash::default(), TraceHash::default());
/// a.absorb(1);
/// a.absorb_bytes(b"frame");
/// b.absorb_bytes(b"frame");
/// b.absorb(1);
/// assert_ne!(a.value(), b.value());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceHash(u64);

impl Default for TraceHash {
    fn default() -> TraceHash {
        TraceHash(0x243F_6A88_85A3_08D3)
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

impl TraceHash {
    /// Takes a number in.
    #[inline]
    pub fn absorb(&mut self, x: u64) {
        self.0 = fold(
            self.0 ^ x ^ 0xA076_1D64_78BD_642F,
            self.0.rotate_left(29) ^ 0xE703_7ED1_A0B4_28DB,
        );
    }

    /// Takes bytes in, and how many there are.
    #[inline]
    pub fn absorb_bytes(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let mut word = [0u8; 8];
            word.copy_from_slice(chunk);
            self.absorb(u64::from_le_bytes(word));
        }
        let mut rest = [0u8; 8];
        rest[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
        self.absorb(u64::from_le_bytes(rest));
        self.absorb(bytes.len() as u64);
    }

    /// The hash of everything so far.
    pub fn value(self) -> u64 {
        self.0
    }
}

/// The hash of some bytes alone.
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hash = TraceHash::default();
    hash.absorb_bytes(bytes);
    hash.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_contents_count() {
        let texts: [&[u8]; 6] = [b"", b"\0", b"\0\0", b"12345678", b"12345678\0", b"12345679"];
        for (i, a) in texts.iter().enumerate() {
            for b in &texts[i + 1..] {
                assert_ne!(hash_bytes(a), hash_bytes(b), "{a:?} {b:?}");
            }
        }
    }
}
