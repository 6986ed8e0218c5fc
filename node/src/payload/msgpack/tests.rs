use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::IpAddr;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Said {
    Nothing,
    Word(String),
    Pair(u8, i8),
    Both { left: u32, right: Option<i64> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    Off,
    On { from: IpAddr },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct All {
    said: Vec<Said>,
    tagged: Tagged,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    note: Option<String>,
    #[serde(flatten)]
    more: BTreeMap<String, Value>,
    bytes: Bytes,
    numbers: BTreeMap<i32, (u128, i128)>,
    unit: (),
    letter: char,
    float: (f32, f64),
}

fn all() -> All {
    All {
        said: vec![
            Said::Nothing,
            Said::Word("umbrella".into()),
            Said::Pair(200, -100),
            Said::Both {
                left: 70_000,
                right: None,
            },
        ],
        tagged: Tagged::On {
            from: "127.0.0.1".parse().unwrap(),
        },
        note: None,
        more: BTreeMap::from([("x".to_owned(), json!({"deep": [1, -1, 0.5, null, true]}))]),
        bytes: Bytes::from_static(b"\0\xff"),
        numbers: BTreeMap::from([(-7, (u128::MAX, i128::MIN)), (300, (5, -5))]),
        unit: (),
        letter: 'ß',
        float: (0.5, -1e300),
    }
}

fn again<T: DeserializeOwned>(value: &(impl Serialize + ?Sized)) -> Result<T, String> {
    from_bytes(&to_bytes(value).unwrap()).map_err(|e| e.to_string())
}

fn is_itself<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
    assert_eq!(again::<T>(&value), Ok(value));
}

#[test]
fn what_was_written_is_read() {
    is_itself(all());
    is_itself("a".repeat(31));
    is_itself("a".repeat(32));
    is_itself("a".repeat(70_000));
    is_itself(Bytes::from(vec![7; 70_000]));
    is_itself(vec![(); 70_000]);
    is_itself((0..70_000_u32).map(|n| (n, ())).collect::<BTreeMap<_, _>>());
    is_itself(Result::<u8, String>::Err("no".into()));
}

#[test]
fn a_number_is_read_as_the_number_that_it_was_or_not_at_all() {
    assert_eq!(again::<u32>(&2), Ok(2));
    assert_eq!(again::<u64>(&10_i64), Ok(10));
    assert_eq!(again::<i64>(&10_i128), Ok(10));
    assert_eq!(again::<u128>(&10_u8), Ok(10));
    for why in [
        again::<u32>(&-1),
        again::<u32>(&(1_u64 << 32)),
        again::<u32>(&1.5),
    ] {
        assert!(
            why.as_ref().is_err_and(|why| why.contains("expected u32")),
            "{why:?}"
        );
    }
    assert_eq!(again::<u128>(&-1).map_err(|_| ()), Err(()), "as its bits");
    assert_eq!(again::<i128>(&u128::MAX).map_err(|_| ()), Err(()), "as its bits");
    assert!(again::<bool>(&1).is_err());
    assert!(again::<i64>(&true).is_err());
    assert!(again::<Said>(&0).is_err(), "a variant by its place");
    assert!(
        again::<Said>(&BTreeMap::from([(0, "x")])).is_err(),
        "a variant by its place"
    );
    assert!(
        again::<All>(&BTreeMap::from([(0, "x")])).is_err(),
        "a field by its place"
    );
}

#[test]
fn messages_may_grow() {
    #[derive(Serialize)]
    struct Newer {
        quantity: i64,
        product: String,
        gift: bool,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Older {
        product: String,
        #[serde(default)]
        note: String,
        quantity: u8,
    }
    let newer = Newer {
        quantity: 2,
        product: "boots".into(),
        gift: true,
    };
    let older = Older {
        product: "boots".into(),
        note: String::new(),
        quantity: 2,
    };
    assert_eq!(again(&newer), Ok(older));
}

#[test]
fn what_takes_a_list_takes_bytes_and_the_other_way_round() {
    assert_eq!(again::<Vec<u8>>(&Bytes::from_static(b"\0\xff")), Ok(vec![0, 255]));
    assert_eq!(again::<Bytes>(&[0_u8, 255]), Ok(Bytes::from_static(b"\0\xff")));
    assert_eq!(again::<[u8; 2]>(&Bytes::from_static(b"\0\xff")), Ok([0, 255]));
    assert!(again::<[u8; 1]>(&Bytes::from_static(b"\0\xff")).is_err());
    assert!(again::<(u8, u8)>(&(1, 2, 3)).is_err_and(|why| why.contains("3 parts, 1 more")));
    assert!(again::<(u8, u8)>(&[1]).is_err());
}

#[test]
fn bytes_that_are_none_take_neither_the_stack_nor_memory() {
    let deep = |byte: u8| from_bytes::<Value>(&vec![byte; 1 << 20]).unwrap_err().to_string();
    assert!(deep(0x91).contains("128 deep"));
    assert!(from_bytes::<de::IgnoredAny>(&vec![0x91; 1 << 20]).is_err());
    assert!(from_bytes::<de::IgnoredAny>(&vec![0x81; 1 << 20]).is_err());
    for first in [0xdd, 0xdf, 0xdb, 0xc6] {
        let why = from_bytes::<Vec<[u64; 16]>>(&[first, 0xff, 0xff, 0xff, 0xff, 0]).unwrap_err();
        assert!(why.to_string().contains("ends before"), "{why}");
    }
    for first in [0xc1, 0xc7, 0xd4] {
        assert!(from_bytes::<de::IgnoredAny>(&[first, 1, 1, 1]).is_err());
    }
    assert!(from_bytes::<()>(b"").is_err());
    assert!(from_bytes::<String>(b"\xa1\xff").is_err());
}

#[test]
fn what_is_written_can_be_read_however_deep_it_is() {
    fn nested(deep: usize) -> Value {
        (1..deep).fold(json!([]), |inner, _| json!([inner]))
    }
    is_itself(nested(DEPTH_MAX.into()));
    assert!(to_bytes(&nested(usize::from(DEPTH_MAX) + 1)).is_err());

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Tree {
        Leaf,
        Newtype(Box<Tree>),
        Fields { within: Box<Tree> },
        Parts(Box<Tree>, u8),
    }
    let wraps = [
        |tree| Tree::Newtype(Box::new(tree)),
        |tree| Tree::Fields {
            within: Box::new(tree),
        },
        |tree| Tree::Parts(Box::new(tree), 1),
    ];
    for wrap in wraps {
        let mut tree = Tree::Leaf;
        let mut depth = 0;
        while to_bytes(&tree).is_ok() {
            assert_eq!(again::<Tree>(&tree).as_ref(), Ok(&tree));
            tree = wrap(tree);
            depth += 1;
        }
        assert!((60..=130).contains(&depth), "{depth}");
    }
}

#[test]
fn a_length_that_is_not_true_is_refused() {
    struct Lies(usize);
    impl Serialize for Lies {
        fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use ser::SerializeSeq as _;
            let mut list = serializer.serialize_seq(Some(self.0))?;
            list.serialize_element(&1)?;
            list.serialize_element(&2)?;
            list.end()
        }
    }
    assert!(to_bytes(&Lies(1)).is_err());
    assert!(to_bytes(&Lies(3)).is_err());
    assert_eq!(again::<Vec<u8>>(&Lies(2)), Ok(vec![1, 2]));
}

/// Another implementation of the format reads it, and writes the same.
fn as_others<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let ours = to_bytes(value).unwrap();
    let mut theirs = rmp_serde::Serializer::new(Vec::new())
        .with_struct_map()
        .with_human_readable();
    value.serialize(&mut theirs).unwrap();
    assert_eq!(ours, theirs.get_ref(), "{value:?}");
    let mut read = rmp_serde::Deserializer::from_read_ref(&ours[..]).with_human_readable();
    assert_eq!(&T::deserialize(&mut read).unwrap(), value);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1000..1000_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{0,3}", inner, 0..20)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn all_that_goes_as_json_is_as_others_have_it(value in any_json()) {
        as_others(&value);
        prop_assert_eq!(again::<Value>(&value), Ok(value));
    }

    #[test]
    fn integers_are_as_others_have_them(unsigned: u64, signed: i64, shift in 0..64_u32) {
        as_others(&(unsigned >> shift));
        as_others(&(signed >> shift));
        prop_assert_eq!(again::<i128>(&(signed >> shift)), Ok(i128::from(signed >> shift)));
        prop_assert_eq!(again::<u64>(&i128::from(unsigned)), Ok(unsigned));
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        at in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let _ = from_bytes::<Value>(&bytes);
        let _ = from_bytes::<All>(&bytes);
        let whole = to_bytes(&all()).unwrap();
        let cut = cut.index(whole.len());
        prop_assert!(from_bytes::<All>(&whole[..cut]).is_err());
        let mut bent = whole.to_vec();
        let at = at.index(bent.len());
        bent[at] = bytes.first().copied().unwrap_or(0xc1);
        let _ = from_bytes::<All>(&bent);
        let _ = from_bytes::<Value>(&bent);
    }
}
