//! Lists of entities, front-coded: each as what it adds to the one before.
//!
//! Contract: at most [`SHARED_MAX`] bytes of a key are taken from the one before, and a kind is as long as one may be,
//! so that what is read is bounded by a fixed multiple of the bytes that were there.

use std::borrow::Cow;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::wire::ids::KIND_BYTES_MAX;
use crate::wire::interval::WireEntity;

/// How many bytes of a key may be those of the key before.
const SHARED_MAX: usize = 255;

/// One entity as it is written.
#[derive(Serialize, Deserialize)]
pub(super) struct Step<'a> {
    /// Its kind; empty, which no kind is, if that is the one before.
    kind: Cow<'a, str>,
    /// How many bytes its key has in common with the one before.
    shared: u8,
    /// The rest of the key.
    key: Cow<'a, str>,
    ty: u8,
}

pub(super) fn serialize<S: Serializer>(entities: &[WireEntity], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(steps(entities.iter()))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<WireEntity>, D::Error> {
    entities(Vec::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// The same for rows: the entities first, and then what there is of each.
pub(super) mod rows {
    use bytes::Bytes;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{entities, steps};
    use crate::wire::shard_part::WireRow;

    pub(in crate::wire) fn serialize<S: Serializer>(
        rows: &[WireRow],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let puts: Vec<(u64, &Bytes)> = rows.iter().map(|row| (row.count, &row.puts)).collect();
        let steps: Vec<_> = steps(rows.iter().map(|row| &row.entity)).collect();
        (steps, puts).serialize(serializer)
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<WireRow>, D::Error> {
        let (steps, puts): (_, Vec<(u64, Bytes)>) = Deserialize::deserialize(deserializer)?;
        let entities = entities(steps).map_err(D::Error::custom)?;
        if entities.len() != puts.len() {
            return Err(D::Error::custom("not as many rows as entities"));
        }
        let row = |(entity, (count, puts))| WireRow { entity, count, puts };
        Ok(entities.into_iter().zip(puts).map(row).collect())
    }
}

fn steps<'a>(entities: impl Iterator<Item = &'a WireEntity>) -> impl Iterator<Item = Step<'a>> {
    let mut before: Option<&WireEntity> = None;
    let step = move |entity: &'a WireEntity| {
        let is_alike = before.is_some_and(|before| before.kind == entity.kind);
        let shared = before.map_or(0, |before| shared(&before.key, &entity.key));
        before = Some(entity);
        Step {
            kind: Cow::Borrowed(if is_alike { "" } else { &entity.kind }),
            shared: shared as u8,
            key: Cow::Borrowed(&entity.key[shared..]),
            ty: entity.ty,
        }
    };
    entities.map(step)
}

/// How long a beginning the two share, in bytes of whole characters.
fn shared(before: &str, key: &str) -> usize {
    let same = before
        .bytes()
        .zip(key.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let same = same.min(SHARED_MAX);
    (0..=same).rev().find(|&at| key.is_char_boundary(at)).unwrap_or(0)
}

fn entities(steps: Vec<Step<'_>>) -> Result<Vec<WireEntity>, &'static str> {
    let mut entities: Vec<WireEntity> = Vec::with_capacity(steps.len());
    for step in steps {
        let before = entities.last();
        let kind = match before {
            _ if step.kind.len() > KIND_BYTES_MAX => return Err("a kind is too long"),
            Some(before) if step.kind.is_empty() => before.kind.clone(),
            None if step.kind.is_empty() => return Err("the first entity names no kind"),
            _ => step.kind.into_owned(),
        };
        let before = before.map_or("", |before| &before.key);
        let shared = before.get(..usize::from(step.shared));
        let mut key = shared.ok_or("a key shares more than there was")?.to_owned();
        key.push_str(&step.key);
        entities.push(WireEntity {
            kind,
            key,
            ty: step.ty,
        });
    }
    Ok(entities)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct List(#[serde(with = "super")] Vec<WireEntity>);

    fn list(names: &[(&str, &str)]) -> List {
        let entity = |(kind, key): &(&str, &str)| WireEntity {
            kind: (*kind).to_owned(),
            key: (*key).to_owned(),
            ty: 4,
        };
        List(names.iter().map(entity).collect())
    }

    #[test]
    fn a_list_leads_back_whatever_its_names_share() {
        let long = "x".repeat(700);
        let longer = "x".repeat(701);
        let names = [
            ("cart", "alice"),
            ("cart", "alice"),
            ("cart", "alina"),
            ("carts", "al\u{e9}"),
            ("carts", "al\u{e8}"),
            ("a", &long),
            ("a", &longer),
            ("a", "x"),
        ];
        for count in 0..=names.len() {
            let list = list(&names[..count]);
            let bytes = postcard::to_allocvec(&list).unwrap();
            assert_eq!(postcard::from_bytes(&bytes), Ok(list));
        }
    }

    #[test]
    fn what_a_list_cannot_share_is_refused() {
        let step = |kind: &str, shared| Step {
            kind: kind.to_owned().into(),
            shared,
            key: "k".into(),
            ty: 4,
        };
        let good = || step("cart", 0);
        for bad in [
            vec![step("", 0)],
            vec![step("cart", 1)],
            vec![good(), step("", 2)],
            vec![step(&"k".repeat(KIND_BYTES_MAX + 1), 0)],
        ] {
            let bytes = postcard::to_allocvec(&bad).unwrap();
            assert!(postcard::from_bytes::<List>(&bytes).is_err());
        }
    }
}
