//! YAML as JSON values, which the tests know their way about in.

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::Value;

/// Every document of a text. A key that stands twice in one mapping, an unknown tag and a key that is no string are mistakes.
#[track_caller]
pub fn documents(text: &str) -> Vec<Value> {
    let documents = Yaml::load_from_str(text).unwrap_or_else(|e| panic!("no YAML: {e}"));
    documents.iter().map(json).collect()
}

#[track_caller]
fn json(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(truth)) => (*truth).into(),
        Yaml::Value(Scalar::Integer(number)) => (*number).into(),
        Yaml::Value(Scalar::String(text)) => text.as_ref().into(),
        Yaml::Sequence(items) => items.iter().map(json).collect(),
        Yaml::Mapping(entries) => entries
            .iter()
            .map(|(key, value)| (key.as_str().expect("keys are strings").to_string(), json(value)))
            .collect(),
        other => panic!("what is {other:?}?"),
    }
}
