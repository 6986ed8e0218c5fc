//! Places in a value, front-coded: each as what it adds to the one before.
//!
//! Contract: of a string at most [`SHARED_MAX`] bytes are taken from the one before, and keys of maps are shared and not
//! copied, so that what is read takes a bounded number of bytes for each that was there.

use alloc::vec::Vec;
use bytes::Bytes;

use super::DecodeError;
use super::octets::{Reader, put_number};
use crate::delta::{DEPTH_MAX, Path};
use crate::kind::Type;

/// How many bytes of a string may be those of the string before.
pub(super) const SHARED_MAX: usize = 255;

/// Where a place ends: at the root of a value, or at an element; of the value itself, or of a child of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) in_child: bool,
    pub(super) at_element: bool,
}

impl Shape {
    pub(super) fn of(path: &Path) -> Shape {
        let mut end = path;
        while let Path::Child(child) = end {
            end = &child.path;
        }
        Shape {
            in_child: matches!(path, Path::Child(_)),
            at_element: matches!(end, Path::Element(_)),
        }
    }

    /// Whether such a place takes no byte.
    pub(super) fn is_root(self) -> bool {
        !self.in_child && !self.at_element
    }

    pub(super) fn bits(self) -> u8 {
        u8::from(self.in_child) << 1 | u8::from(self.at_element)
    }

    pub(super) fn from_bits(bits: u8) -> Shape {
        Shape {
            in_child: bits & 2 != 0,
            at_element: bits & 1 != 0,
        }
    }
}

/// The place before, taken apart.
#[derive(Default)]
pub(super) struct Front {
    steps: Vec<(Bytes, Type)>,
    element: Bytes,
}

impl Front {
    pub(super) fn write(&mut self, out: &mut Vec<u8>, path: &Path) {
        let mut steps = Vec::new();
        let mut end = path;
        while let Path::Child(child) = end {
            steps.push((child.key.clone(), child.ty));
            end = &child.path;
        }
        if !steps.is_empty() {
            let same = steps.iter().zip(&self.steps).take_while(|(a, b)| a == b).count();
            // Both are at most `DEPTH_MAX`, which is 8.
            out.push((same << 4 | steps.len()) as u8);
            let before = self.steps.get(same).map_or(&b""[..], |(key, _)| key);
            for (n, (key, ty)) in steps[same..].iter().enumerate() {
                write_string(out, if n == 0 { before } else { b"" }, key);
                out.push(ty.id());
            }
            self.steps = steps;
        }
        if let Path::Element(element) = end {
            write_string(out, &self.element, element);
            self.element = element.clone();
        }
    }

    pub(super) fn read(&mut self, reader: &mut Reader<'_>, shape: Shape) -> Result<Path, DecodeError> {
        if shape.in_child {
            let byte = usize::from(reader.byte()?);
            let (same, len) = (byte >> 4, byte & 15);
            if len == 0 || len > DEPTH_MAX || same > len || same > self.steps.len() {
                return Err(DecodeError::Path);
            }
            let mut before = self
                .steps
                .get(same)
                .map(|(key, _)| key.clone())
                .unwrap_or_default();
            self.steps.truncate(same);
            while self.steps.len() < len {
                let key = read_string(reader, &before)?;
                let ty = reader.byte()?;
                let ty = Type::from_id(ty).ok_or(DecodeError::Type(ty))?;
                self.steps.push((key, ty));
                before = Bytes::new();
            }
        }
        let mut path = Path::Root;
        if shape.at_element {
            self.element = read_string(reader, &self.element)?;
            path = Path::Element(self.element.clone());
        }
        if shape.in_child {
            let within = |path: Path, (key, ty): &(Bytes, Type)| path.within(key.clone(), *ty);
            path = self.steps.iter().rev().fold(path, within);
        }
        Ok(path)
    }
}

/// What a nibble says at most; the rest is a number behind it.
const NIBBLE_MAX: usize = 15;

/// How many bytes a string has in common with the one before, how many more, and those.
fn write_string(out: &mut Vec<u8>, before: &[u8], string: &[u8]) {
    let same = before.iter().zip(string).take_while(|(a, b)| a == b).count();
    let shared = same.min(SHARED_MAX);
    let more = string.len() - shared;
    out.push((shared.min(NIBBLE_MAX) << 4 | more.min(NIBBLE_MAX)) as u8);
    for len in [shared, more] {
        if let Some(rest) = len.checked_sub(NIBBLE_MAX) {
            put_number(out, rest as u64);
        }
    }
    out.extend_from_slice(&string[shared..]);
}

fn read_string(reader: &mut Reader<'_>, before: &[u8]) -> Result<Bytes, DecodeError> {
    let byte = usize::from(reader.byte()?);
    let mut len = |nibble: usize| {
        if nibble < NIBBLE_MAX {
            return Ok(nibble);
        }
        let rest = reader.number()?;
        usize::try_from(rest)
            .ok()
            .and_then(|rest| rest.checked_add(NIBBLE_MAX))
            .ok_or(DecodeError::CutShort)
    };
    let (shared, more) = (len(byte >> 4)?, len(byte & 15)?);
    let added = reader.take(more)?;
    let shared = before
        .get(..shared)
        .filter(|_| shared <= SHARED_MAX)
        .ok_or(DecodeError::Path)?;
    Ok([shared, added].concat().into())
}
