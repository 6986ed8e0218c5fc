//! Bytes as they are written.

use bytes::Bytes;

/// As many bytes as most arguments and replies take.
const FEW: usize = 64;

/// Bytes as they are written: on the stack while they are few, so that they are put into memory once, and at their length.
pub(super) struct Written {
    few: [u8; FEW],
    len: usize,
    /// All of them, once they are more.
    many: Vec<u8>,
}

impl Default for Written {
    fn default() -> Written {
        Written {
            few: [0; FEW],
            len: 0,
            many: Vec::new(),
        }
    }
}

impl Written {
    // An array of bytes comes byte by byte.
    #[inline]
    pub(super) fn push(&mut self, byte: u8) {
        let Some(room) = self.few.get_mut(self.len) else {
            return self.extend(&[byte]);
        };
        *room = byte;
        self.len += 1;
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let len = self.len + bytes.len();
        match self.few.get_mut(self.len..len) {
            Some(room) => room.copy_from_slice(bytes),
            None => {
                if self.many.is_empty() {
                    self.many.extend_from_slice(&self.few[..self.len]);
                }
                self.many.extend_from_slice(bytes);
            }
        }
        self.len = len;
    }

    /// All of them.
    pub(super) fn finish(self) -> Bytes {
        if self.many.is_empty() {
            Bytes::copy_from_slice(&self.few[..self.len])
        } else {
            self.many.into()
        }
    }
}

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl postcard::ser_flavors::Flavor for Written {
    type Output = Bytes;

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.extend(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Bytes> {
        Ok(self.finish())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn few_bytes_and_many_are_written_alike() {
        for len in [0, 1, 61, 62, 63, 64, 65, 127, 1_000] {
            let value = ("n", vec![7_u8; len], len);
            let bytes = postcard::serialize_with_flavor(&value, Written::default()).unwrap();
            assert_eq!(bytes, postcard::to_allocvec(&value).unwrap(), "{len}");
        }
    }
}
