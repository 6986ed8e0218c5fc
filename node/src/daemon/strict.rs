//! JSON that people send, read strictly: an object is an object, a list is not longer than it may be, and what is wrong
//! is said in words that a reader of the README knows.
//!
//! Why: serde takes an array for a struct, member by member. A caller who sends one has made a mistake, and a member
//! added later would give it another meaning.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::output;

/// Reads one JSON object; the error is for people.
pub fn object<T: DeserializeOwned>(json: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice::<Object<T>>(json).map(|Object(value)| value)
}

/// Reads a list of objects of at most `MAX`; for `deserialize_with`.
pub fn objects<'de, const MAX: usize, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let list = deserializer.deserialize_seq(List::<MAX, Object<T>>(PhantomData))?;
    Ok(list.into_iter().map(|Object(value)| value).collect())
}

/// Reads a whole number, or none; for `deserialize_with`. `-0` is one, which the parser takes for a fraction, as it does `-0.0`.
pub fn whole<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: TryFrom<u64> + TryFrom<i64> + Default,
    D: Deserializer<'de>,
{
    let whole = Option::<Whole<T>>::deserialize(deserializer)?;
    Ok(whole.map(|Whole(number)| number))
}

/// What a parser says, in the README's words instead of the program's, and not longer than people read.
pub fn in_words(error: &str) -> String {
    let mut text = error.to_string();
    for (theirs, ours) in [
        ("expected u64", "expected a whole number that is not negative"),
        ("expected u32", "expected a whole number that is not negative"),
        ("expected i64", "expected a whole number of at most 63 bits"),
        ("expected a sequence", "expected an array"),
        ("invalid type: sequence", "invalid type: array"),
        ("invalid type: map", "invalid type: object"),
        ("expected a map", "expected an object"),
        ("unknown field", "unknown member"),
        ("missing field", "missing member"),
        ("duplicate field", "duplicate member"),
        ("unknown variant", "unknown word"),
    ] {
        text = text.replace(theirs, ours);
    }
    output::shortened(text)
}

/// A value that only an object stands for.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<T>, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// A number that has no fraction.
struct Whole<T>(T);

impl<'de, T: TryFrom<u64> + TryFrom<i64> + Default> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Whole<T>, D::Error> {
        struct Number<T>(PhantomData<T>);
        impl<T: TryFrom<u64> + TryFrom<i64> + Default> Visitor<'_> for Number<T> {
            type Value = Whole<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match T::try_from(-1_i64) {
                    Ok(_) => "a whole number of at most 63 bits",
                    Err(_) => "a whole number that is not negative",
                })
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Whole<T>, E> {
                let fits = T::try_from(number).map(Whole);
                fits.map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Whole<T>, E> {
                let fits = T::try_from(number).map(Whole);
                fits.map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Whole<T>, E> {
                match number.to_bits() == (-0.0_f64).to_bits() {
                    true => Ok(Whole(T::default())),
                    false => Err(E::invalid_type(Unexpected::Float(number), &self)),
                }
            }
        }
        deserializer.deserialize_any(Number(PhantomData))
    }
}

struct List<const MAX: usize, T>(PhantomData<T>);

impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for List<MAX, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            // Told before it takes memory: a few bytes of text are many of a value.
            if values.len() == MAX {
                return Err(A::Error::custom(format!("more than {MAX} of a list")));
            }
            values.push(value);
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        by: i64,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Outer {
        #[serde(deserialize_with = "objects::<2, _, _>")]
        list: Vec<Inner>,
    }

    fn read(json: &str) -> Result<usize, String> {
        object::<Outer>(json.as_bytes())
            .map(|outer| outer.list.len())
            .map_err(|e| in_words(&e.to_string()))
    }

    #[test]
    fn an_array_does_not_pass_for_an_object() {
        assert_eq!(read(r#"{"list":[{"by":1},{"by":-2}]}"#), Ok(2));
        for (json, said) in [
            ("[[{\"by\":1}]]", "invalid type: array, expected an object"),
            (r#"{"list":[[1]]}"#, "invalid type: array, expected an object"),
            (r#"{"list":{"by":1}}"#, "invalid type: object, expected an array"),
            (r#"{"list":[{"by":1},{"by":1},{"by":1}]}"#, "more than 2"),
            (r#"{"list":[{"by":1.5}]}"#, "expected a whole number"),
            (r#"{"list":[{"buy":1}]}"#, "unknown member `buy`"),
            ("{}", "missing member `list`"),
            (r#"{"list":[]} x"#, "trailing"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(said), "{json}: {error}");
            for word in ["struct", "i64", "Inner", "Outer", "sequence"] {
                assert!(!error.contains(word), "{json}: {error}");
            }
        }
    }
}
