//! Between wire types and what a dot puts: places in a value, and what stands there.
//!
//! Contract: what a peer or a disk says is bounded here before it is used.

use anabranch_crdt::{
    Base, ClockMode, DEPTH_MAX, Epoch, NodeId, Path, Payload, Put, ReplicaId, SEQ_MAX, Totals, Type,
};
use bytes::Bytes;

use crate::engine::limits::{ELEMENT_BYTES_MAX, VALUE_BYTES_MAX};
use crate::engine::translate::Refused;
use crate::wire::{WirePath, WirePayload, WirePut, WireReplica, WireStep};

pub(crate) fn wire_path(path: &Path) -> WirePath {
    let mut steps = Vec::new();
    let mut at = path;
    while let Path::Child(child) = at {
        steps.push(WireStep {
            key: child.key.clone(),
            ty: child.ty.id(),
        });
        at = &child.path;
    }
    let element = match at {
        Path::Element(e) => Some(e.clone()),
        _ => None,
    };
    match (steps.is_empty(), element) {
        (true, None) => WirePath::Root,
        (true, Some(element)) => WirePath::Element(element),
        (false, element) => WirePath::Child { steps, element },
    }
}

pub(crate) fn read_path(path: WirePath) -> Result<Path, Refused> {
    let path = match path {
        WirePath::Root => Path::Root,
        WirePath::Element(e) => Path::Element(e),
        WirePath::Child { steps, .. } if steps.is_empty() || steps.len() > DEPTH_MAX => {
            return Err(format!(
                "a way of {} steps into a map, 1 to {DEPTH_MAX} are taken",
                steps.len()
            ));
        }
        WirePath::Child { steps, element } => {
            let mut path = element.map_or(Path::Root, Path::Element);
            for step in steps.into_iter().rev() {
                path = path.within(step.key, read_type(step.ty)?);
            }
            path
        }
        WirePath::Near { .. } | WirePath::Lean { .. } => {
            return Err("a place that leans on another, which is gone".to_owned());
        }
    };
    check_path(&path)?;
    Ok(path)
}

pub(crate) fn read_type(id: u8) -> Result<Type, Refused> {
    Type::from_id(id).ok_or_else(|| format!("type {id} is unknown; is the peer newer?"))
}

pub(crate) fn wire_put(put: &Put) -> WirePut {
    let payload = match &put.payload {
        Payload::Present => WirePayload::Present,
        Payload::Count { totals, base } => {
            let (base, reset) = base.origin();
            WirePayload::Count {
                plus: totals.plus,
                minus: totals.minus,
                base,
                reset: reset.map(|reset| (reset.plus, reset.minus)),
            }
        }
        Payload::Stamped { clock, mode, value } => WirePayload::Stamped {
            clock: *clock,
            custom: *mode == ClockMode::Custom,
            value: value.clone(),
        },
        Payload::Written { value } => WirePayload::Written { value: value.clone() },
        Payload::Ballot { yes } => WirePayload::Ballot { yes: *yes },
        Payload::Rights { amount, to } => WirePayload::Rights {
            amount: *amount,
            to: to.map(|to| WireReplica {
                node: to.node.0,
                epoch: to.epoch.0,
            }),
        },
    };
    WirePut {
        path: wire_path(&put.path),
        payload,
    }
}

pub(crate) fn read_put(put: WirePut) -> Result<Put, Refused> {
    let payload = match put.payload {
        WirePayload::Present => Payload::Present,
        WirePayload::Count { base, .. } if base > SEQ_MAX => {
            return Err(format!("a counter that begins at operation {base}"));
        }
        WirePayload::Count {
            plus,
            minus,
            base,
            reset,
        } => Payload::Count {
            totals: Totals { plus, minus },
            base: reset.map_or(Base::opened(base), |reset| Base::reset(base, totals(reset))),
        },
        WirePayload::Stamped { clock, custom, value } => {
            let mode = if custom {
                ClockMode::Custom
            } else {
                ClockMode::Default
            };
            Payload::Stamped { clock, mode, value }
        }
        WirePayload::Written { value } => Payload::Written { value },
        WirePayload::Ballot { yes } => Payload::Ballot { yes },
        WirePayload::Rights { amount, to } => Payload::Rights {
            amount,
            to: to.map(|to| ReplicaId::new(NodeId(to.node), Epoch(to.epoch))),
        },
    };
    check_value(&payload)?;
    Ok(Put {
        path: read_path(put.path)?,
        payload,
    })
}

/// That names and values are no longer than a caller's may be.
pub(crate) fn check_sizes(put: &Put) -> Result<(), Refused> {
    check_path(&put.path)?;
    check_value(&put.payload)
}

fn check_path(path: &Path) -> Result<(), Refused> {
    let mut path = path;
    while let Path::Child(child) = path {
        check_len("a key", &child.key, ELEMENT_BYTES_MAX)?;
        path = &child.path;
    }
    match path {
        Path::Element(element) => check_len("an element", element, ELEMENT_BYTES_MAX),
        _ => Ok(()),
    }
}

fn check_value(payload: &Payload) -> Result<(), Refused> {
    match payload {
        Payload::Stamped { value, .. } | Payload::Written { value } => {
            check_len("a value", value, VALUE_BYTES_MAX)
        }
        _ => Ok(()),
    }
}

fn check_len(what: &str, bytes: &Bytes, max: usize) -> Result<(), Refused> {
    if bytes.len() <= max {
        return Ok(());
    }
    Err(format!(
        "{what} of {} bytes, at most {max} are taken",
        bytes.len()
    ))
}

pub(crate) fn totals((plus, minus): (u64, u64)) -> Totals {
    Totals { plus, minus }
}
