//! Numbers and strings as bytes.
//!
//! Contract: a number has one form, the shortest, and whatever is read is bounded by the bytes that are there.

use alloc::vec::Vec;
use bytes::Bytes;

use super::DecodeError;

/// Appends a number, seven bits a byte, the lowest first; the last byte has its top bit clear (LEB128).
pub(super) fn put_number(out: &mut Vec<u8>, number: u64) {
    let mut rest = number;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

pub(super) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A signed number as one without sign, the near ones small.
pub(super) const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

pub(super) const fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// Bytes being read.
pub(super) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { left: bytes }
    }

    /// How many bytes are left: nothing that takes at least one each can be more often.
    pub(super) fn left(&self) -> usize {
        self.left.len()
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.left
    }

    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&byte, left) = self.left.split_first().ok_or(DecodeError::CutShort)?;
        self.left = left;
        Ok(byte)
    }

    pub(super) fn number(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0;
        for shift in (0..).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            let is_last = byte & 0x80 == 0;
            let fits = shift < 63 || (shift == 63 && bits <= 1);
            if !fits || (is_last && bits == 0 && shift > 0) {
                return Err(DecodeError::Number);
            }
            number |= bits << shift;
            if is_last {
                return Ok(number);
            }
        }
        Err(DecodeError::Number)
    }

    /// A number of things that take at least so many bytes each.
    pub(super) fn count(&mut self, bytes_each: usize) -> Result<usize, DecodeError> {
        let count = self.number()?;
        let fits = (self.left() / bytes_each.max(1)) as u64;
        if count > fits {
            return Err(DecodeError::CutShort);
        }
        Ok(count as usize)
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, left) = self.left.split_at_checked(len).ok_or(DecodeError::CutShort)?;
        self.left = left;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, left) = self.left.split_first_chunk().ok_or(DecodeError::CutShort)?;
        self.left = left;
        Ok(*taken)
    }

    pub(super) fn string(&mut self) -> Result<Bytes, DecodeError> {
        let len = self.count(1)?;
        Ok(Bytes::copy_from_slice(self.take(len)?))
    }

    /// That nothing is left.
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        if self.left.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::TooLong(self.left()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_form() {
        for number in [0, 1, 127, 128, 1 << 20, (1 << 48) - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.number(), Ok(number));
            reader.end().unwrap();
        }
        let too_large = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        for bad in [&[0x80, 0][..], &[0xff, 0x80, 0], &too_large, &[0x80; 11]] {
            assert_eq!(Reader::new(bad).number(), Err(DecodeError::Number), "{bad:?}");
        }
        assert_eq!(Reader::new(&[0x80]).number(), Err(DecodeError::CutShort));
    }

    #[test]
    fn a_count_is_bounded_by_what_is_there() {
        let mut bytes = Vec::new();
        put_number(&mut bytes, u64::MAX);
        bytes.extend([0; 100]);
        assert_eq!(Reader::new(&bytes).string(), Err(DecodeError::CutShort));
        assert_eq!(Reader::new(&bytes).count(24), Err(DecodeError::CutShort));
    }

    #[test]
    fn zigzag_leads_back() {
        for number in [0, -1, 1, i64::MIN, i64::MAX, 12_345] {
            assert_eq!(unzigzag(zigzag(number)), number);
        }
        assert_eq!((zigzag(-1), zigzag(1)), (1, 2));
    }
}
