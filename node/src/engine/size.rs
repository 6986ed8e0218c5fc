//! How large an update may be.

use anabranch_crdt::{DEPTH_MAX, Mutation};

use crate::engine::Engine;
use crate::engine::io::Op;
use crate::engine::limits::{ELEMENT_BYTES_MAX, ELEMENT_OVERHEAD_BYTES, UPDATE_BYTES_MAX, VALUE_BYTES_MAX};
use crate::error::{Error, ErrorKind};

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

/// What a mutation weighs, if nothing in it is too large.
fn check_mutation_size(mutation: &Mutation) -> Result<usize, String> {
    // Maps are nested deeper only where the nesting itself is refused.
    let (mut mutation, mut bytes, mut depth) = (mutation, 0, 0);
    while let Mutation::Update {
        key, mutation: inner, ..
    } = mutation
    {
        depth += 1;
        if key.len() > ELEMENT_BYTES_MAX || depth > DEPTH_MAX {
            return Err(format!(
                "a key of {} bytes {depth} deep, at most {ELEMENT_BYTES_MAX} bytes and {DEPTH_MAX} deep",
                key.len()
            ));
        }
        bytes += key.len() + ELEMENT_OVERHEAD_BYTES;
        mutation = inner;
    }
    match mutation {
        Mutation::Add(elements) | Mutation::Remove(elements) => {
            if elements.is_empty() {
                return Err("no element is named".to_owned());
            }
            let longest = elements.iter().map(|e| e.len()).max().unwrap_or(0);
            if longest > ELEMENT_BYTES_MAX {
                return Err(format!(
                    "an element of {longest} bytes, at most {ELEMENT_BYTES_MAX}"
                ));
            }
            let elements = elements.iter().map(|e| e.len() + ELEMENT_OVERHEAD_BYTES);
            Ok(bytes + elements.sum::<usize>())
        }
        Mutation::Set { value, .. } if value.len() > VALUE_BYTES_MAX => Err(format!(
            "a value of {} bytes, at most {VALUE_BYTES_MAX}",
            value.len()
        )),
        Mutation::Set { value, .. } => Ok(bytes + value.len()),
        _ => Ok(bytes),
    }
}

impl Engine {
    pub(crate) fn check_size(&self, ops: &[Op]) -> Result<(), Error> {
        let max = self.config.limits.update_ops_max;
        if ops.is_empty() || ops.len() > max {
            return Err(invalid(format!(
                "an update has 1 to {max} operations, this one has {}",
                ops.len()
            )));
        }
        let mut bytes = 0;
        for op in ops {
            let size = check_mutation_size(&op.mutation);
            bytes += op.entity.len_bytes() + size.map_err(|why| invalid(format!("{}: {why}", op.entity)))?;
        }
        if bytes > UPDATE_BYTES_MAX {
            return Err(invalid(format!(
                "an update of {bytes} bytes, at most {UPDATE_BYTES_MAX}; split it"
            )));
        }
        Ok(())
    }
}
