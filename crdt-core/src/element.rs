//! A set's element as the set keeps it: its bytes, in place when they are few.
//!
//! Not here: the element in a delta, which shares the bytes it came in.
//!
//! Contract: order and equality are those of the bytes, so that a set finds an element by a plain slice.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::borrow::Borrow;
use core::cmp::Ordering;
use core::fmt;

/// How many bytes fit in place: what the pointer and length of the longer ones leave of three words.
const IN_PLACE_BYTES_MAX: usize = 22;

/// The bytes of an element. A `Bytes` would be a third larger, and could keep a whole received frame alive.
#[derive(Clone)]
pub struct Element(Repr);

#[derive(Clone)]
enum Repr {
    /// The bytes, zeros, and how many are bytes: in one array, so that equality is that of the array.
    InPlace([u8; IN_PLACE_BYTES_MAX + 1]),
    Apart(Box<[u8]>),
}

/// How many bytes are compared at once before any others are.
const HEAD_BYTES: usize = 8;

const _: () = assert!(size_of::<Element>() == 24);

impl Element {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::InPlace(bytes) => &bytes[..usize::from(bytes[IN_PLACE_BYTES_MAX])],
            Repr::Apart(bytes) => bytes,
        }
    }

    /// The order of two whose heads are equal.
    fn cmp_whole(&self, other: &Element) -> Ordering {
        match (&self.0, &other.0) {
            (Repr::InPlace(bytes), Repr::InPlace(other)) => bytes.cmp(other),
            _ => self.as_slice().cmp(other.as_slice()),
        }
    }

    /// The first bytes as a number that has their order; what is missing is 0.
    #[inline]
    fn head(&self) -> u64 {
        match &self.0 {
            Repr::InPlace(bytes) => match bytes.first_chunk::<HEAD_BYTES>() {
                Some(head) => u64::from_be_bytes(*head),
                None => 0,
            },
            Repr::Apart(bytes) => bytes.first_chunk().map_or(0, |head| u64::from_be_bytes(*head)),
        }
    }

    /// The element with these bytes, if they fit in place: then it is found with fewer comparisons than they are.
    pub(crate) fn in_place(slice: &[u8]) -> Option<Element> {
        (slice.len() <= IN_PLACE_BYTES_MAX).then(|| Element::from(slice))
    }
}

/// What a map has under the key with these bytes.
pub(crate) fn find<'a, V>(map: &'a BTreeMap<Element, V>, key: &[u8]) -> Option<&'a V> {
    match Element::in_place(key) {
        Some(key) => map.get(&key),
        None => map.get(key),
    }
}

impl From<&[u8]> for Element {
    fn from(slice: &[u8]) -> Element {
        if slice.len() > IN_PLACE_BYTES_MAX {
            return Element(Repr::Apart(slice.into()));
        }
        let mut bytes = [0; IN_PLACE_BYTES_MAX + 1];
        bytes[..slice.len()].copy_from_slice(slice);
        bytes[IN_PLACE_BYTES_MAX] = slice.len() as u8;
        Element(Repr::InPlace(bytes))
    }
}

impl Borrow<[u8]> for Element {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for Element {
    #[inline]
    fn eq(&self, other: &Element) -> bool {
        match (&self.0, &other.0) {
            (Repr::InPlace(bytes), Repr::InPlace(other)) => bytes == other,
            _ => self.as_slice() == other.as_slice(),
        }
    }
}

impl Eq for Element {}

impl PartialOrd for Element {
    #[inline]
    fn partial_cmp(&self, other: &Element) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Element {
    #[inline]
    fn cmp(&self, other: &Element) -> Ordering {
        // Most keys of a search differ in these, and a call to compare memory costs more than all of it.
        let (mine, theirs) = (self.head(), other.head());
        if mine == theirs {
            return self.cmp_whole(other);
        }
        mine.cmp(&theirs)
    }
}

impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.as_slice().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_around_the_limit_keeps_its_bytes_and_order() {
        let all: Vec<Vec<u8>> = (0..=40).map(|len| vec![b'x'; len]).collect();
        let elements: Vec<Element> = all.iter().map(|bytes| Element::from(&bytes[..])).collect();
        for (element, bytes) in elements.iter().zip(&all) {
            assert_eq!(element.as_slice(), bytes);
        }
        assert!(elements.is_sorted_by(|a, b| a < b));
        assert!(
            Element::from(&b"\0"[..]) > Element::from(&b""[..]),
            "padding is not part of the bytes"
        );
    }
}
