//! Templates of paths, as the comments of `google/api/http.proto` have them, and what of a path is which variable's.
//!
//! ```text
//! Template = "/" Segments [ ":" LITERAL ]
//! Segments = Segment { "/" Segment }
//! Segment  = "*" | "**" | LITERAL | "{" FieldPath [ "=" Segments ] "}"
//! ```
//!
//! `*` is one segment that is not empty, `**` any number of them, at the end only. `/` alone is a template, too.
//!
//! Not here: what fields there are. Contract: of two templates that match the same path, one comes first, always the same (see
//! [`Template`]); matching takes time by the length of the path.

use std::cmp::Ordering;
use std::fmt;

use crate::percent::{Place, Undecodable, decode, encode};

/// Bytes of a template.
const TEMPLATE_BYTES_MAX: usize = 2_000;
/// Its segments, and those of a path that is looked at.
const SEGMENTS_MAX: usize = 100;
/// Some segment.
const ANYTHING: &str = "1";

/// The path of a route, with variables.
///
/// The order: one with a verb before one without; then, segment by segment from the left, a literal before `*` before `**`; then the
/// longer one. Two that are equal in this have the same [`Template::shape`], or never match the same path.
#[derive(Clone, Debug)]
pub struct Template {
    text: String,
    segments: Vec<Segment>,
    verb: Option<String>,
    variables: Vec<Variable>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Literal(String),
    One,
    Any,
}

/// Which segments are a field's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The path of the field, as written: with dots, perhaps.
    pub name: String,
    from: usize,
    /// Behind its last; a `**` counts as one here.
    to: usize,
}

/// A text that is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no path template: {why}")]
pub struct TemplateError {
    text: String,
    why: String,
}

/// A path as it came, taken apart.
#[derive(Clone, Debug)]
pub struct Path<'a> {
    segments: Vec<&'a str>,
    decoded: Vec<String>,
}

impl<'a> Path<'a> {
    /// A path that begins with a slash, without its query.
    pub fn new(path: &'a str) -> Result<Path<'a>, Undecodable> {
        let inner = path.strip_prefix('/').unwrap_or(path);
        let segments: Vec<&str> = if inner.is_empty() {
            Vec::new()
        } else {
            // What is beyond is not told apart; no template has as many but for its `**`.
            inner.splitn(SEGMENTS_MAX, '/').collect()
        };
        let decoded = segments.iter().map(|segment| decode(segment, Place::Segment));
        Ok(Path {
            decoded: decoded.collect::<Result<_, _>>()?,
            segments,
        })
    }
}

impl Template {
    /// Reads a template.
    pub fn new(text: &str) -> Result<Template, TemplateError> {
        let fail = |why: String| TemplateError {
            text: text.chars().take(200).collect(),
            why,
        };
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(fail(format!("it has more than {TEMPLATE_BYTES_MAX} bytes")));
        }
        let Some(inner) = text.strip_prefix('/') else {
            return Err(fail("it begins with a slash".into()));
        };
        let mut template = Template {
            text: text.to_owned(),
            segments: Vec::new(),
            verb: None,
            variables: Vec::new(),
        };
        let inner = template.take_verb(inner).map_err(fail)?;
        // `/` alone is the root; `/:verb` is one of nothing.
        if !inner.is_empty() {
            template.read(inner).map_err(fail)?;
        } else if template.verb.is_some() {
            return Err(fail("there is no segment before the verb".into()));
        }
        template.check().map_err(fail)?;
        Ok(template)
    }

    /// Cuts the verb off, which is behind the last colon outside of a variable.
    fn take_verb<'a>(&mut self, inner: &'a str) -> Result<&'a str, String> {
        let after = inner.rfind(['/', '}']).map_or(0, |at| at + 1);
        let Some(at) = inner[after..].find(':') else {
            return Ok(inner);
        };
        let (segments, verb) = (&inner[..after + at], &inner[after + at + 1..]);
        self.verb = Some(literal(verb).map_err(|why| format!("the verb {verb:?} {why}"))?);
        Ok(segments)
    }

    fn read(&mut self, inner: &str) -> Result<(), String> {
        let mut rest = inner;
        loop {
            let after = if let Some(variable) = rest.strip_prefix('{') {
                let Some((variable, after)) = variable.split_once('}') else {
                    return Err("a { has no }".into());
                };
                self.variable(variable)?;
                after
            } else {
                let end = rest.find('/').unwrap_or(rest.len());
                self.segment(&rest[..end])?;
                &rest[end..]
            };
            match after.strip_prefix('/') {
                Some(next) => rest = next,
                None if after.is_empty() => return Ok(()),
                None => return Err(format!("{after:?} follows a }}: a variable is a whole segment")),
            }
        }
    }

    fn variable(&mut self, variable: &str) -> Result<(), String> {
        let (name, segments) = variable.split_once('=').unwrap_or((variable, "*"));
        let mut parts = name.split('.');
        if !parts.all(is_identifier) {
            return Err(format!("{name:?} is no name of a field"));
        }
        if self.variables.iter().any(|v| v.name == name) {
            return Err(format!("the variable {name} is there twice"));
        }
        let from = self.segments.len();
        segments
            .split('/')
            .try_for_each(|segment| self.segment(segment))?;
        self.variables.push(Variable {
            name: name.to_owned(),
            from,
            to: self.segments.len(),
        });
        Ok(())
    }

    fn segment(&mut self, segment: &str) -> Result<(), String> {
        self.segments.push(match segment {
            "*" => Segment::One,
            "**" => Segment::Any,
            segment => {
                let literal = literal(segment).map_err(|why| format!("the segment {segment:?} {why}"))?;
                Segment::Literal(literal)
            }
        });
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        if self.segments.len() >= SEGMENTS_MAX {
            return Err(format!("it has {SEGMENTS_MAX} segments or more"));
        }
        let any = self.segments.iter().position(|s| *s == Segment::Any);
        match any {
            Some(at) if at + 1 < self.segments.len() => Err("** is its last segment".into()),
            _ => Ok(()),
        }
    }

    /// The fields that the path names, in its order.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// The values of the variables, in their order; none where the path is another.
    pub fn values(&self, path: &Path<'_>) -> Option<Vec<String>> {
        let mut segments = path.segments.clone();
        let mut decoded: Vec<&str> = path.decoded.iter().map(String::as_str).collect();
        let last;
        if let Some(verb) = &self.verb {
            let (before, found) = segments.last()?.rsplit_once(':')?;
            if decode(found, Place::Segment).ok()? != *verb {
                return None;
            }
            last = decode(before, Place::Segment).ok()?;
            *segments.last_mut()? = before;
            *decoded.last_mut()? = &last;
        }
        let is_open = self.segments.last() == Some(&Segment::Any);
        let fixed = self.segments.len() - usize::from(is_open);
        if segments.len() < fixed || (!is_open && segments.len() > fixed) {
            return None;
        }
        let mut pairs = self.segments[..fixed].iter().zip(&decoded);
        let is_match = pairs.all(|(segment, found)| match segment {
            Segment::Literal(literal) => literal == found,
            Segment::One | Segment::Any => !found.is_empty(),
        });
        is_match.then(|| {
            let value = |variable: &Variable| self.value(variable, &segments, &decoded);
            self.variables.iter().map(value).collect()
        })
    }

    fn value(&self, variable: &Variable, segments: &[&str], decoded: &[&str]) -> String {
        let is_open = self.segments[variable.from..variable.to].contains(&Segment::Any);
        if !is_open && variable.to - variable.from == 1 {
            return decoded[variable.from].to_owned();
        }
        let to = if is_open { segments.len() } else { variable.to };
        let several = segments[variable.from.min(to)..to]
            .iter()
            // It was decoded whole before: that cannot fail.
            .map(|segment| decode(segment, Place::Segments).unwrap_or_default());
        several.collect::<Vec<_>>().join("/")
    }

    /// A path that it matches; `value` has the text of each variable that is one segment.
    pub fn filled(&self, value: impl Fn(usize) -> String) -> String {
        let mut path = String::new();
        for (at, segment) in self.segments.iter().enumerate() {
            let is_it = |variable: &Variable| (variable.from, variable.to) == (at, at + 1);
            let variable = self.variables.iter().position(is_it);
            let text = match (segment, variable) {
                (Segment::Literal(literal), _) => literal.clone(),
                (_, Some(variable)) => value(variable),
                _ => ANYTHING.to_owned(),
            };
            path.push('/');
            path.push_str(&encode(&text));
        }
        match &self.verb {
            Some(verb) => path + ":" + &encode(verb),
            None if path.is_empty() => "/".to_owned(),
            None => path,
        }
    }

    /// What it matches: templates with the same shape match the same paths.
    pub fn shape(&self) -> impl Ord + Clone + use<> {
        (self.segments.clone(), self.verb.clone())
    }

    /// Which of two is to be tried first where both match; `Equal` says nothing of their shapes.
    pub fn precedence(&self, other: &Template) -> Ordering {
        let rank = |segment: &Segment| match segment {
            Segment::Literal(_) => 0,
            Segment::One => 1,
            Segment::Any => 2,
        };
        let ranks = |template: &Template| template.segments.iter().map(rank).collect::<Vec<_>>();
        let (own, others) = (ranks(self), ranks(other));
        let different = own.iter().zip(&others).map(|(a, b)| a.cmp(b)).find(|o| o.is_ne());
        let verbs = other.verb.is_some().cmp(&self.verb.is_some());
        verbs
            .then(different.unwrap_or(Ordering::Equal))
            .then(others.len().cmp(&own.len()))
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn literal(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("is empty".into());
    }
    if let Some(bad) = text.chars().find(|c| "{}*?#/:".contains(*c) || c.is_whitespace()) {
        return Err(format!("has {bad:?} in it"));
    }
    decode(text, Place::Segment).map_err(|e| format!("is not readable: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(template: &str, path: &str) -> Option<Vec<String>> {
        Template::new(template).unwrap().values(&Path::new(path).unwrap())
    }

    #[test]
    fn paths_are_matched_and_variables_taken() {
        // No values at all is no match; `-` is a match without variables.
        for (template, path, expected) in [
            ("/", "/", "-"),
            ("/", "/a", ""),
            ("/a", "/a", "-"),
            ("/a", "/a/", ""),
            ("/a", "/", ""),
            ("/a", "/%61", "-"),
            ("/a%2Fb", "/a%2fb", "-"),
            ("/foo/{bar}/baz", "/foo/x/baz", "x"),
            ("/foo/{bar}/baz", "/foo/a%2Fb%20c+d/baz", "a/b c+d"),
            ("/foo/{bar}/baz", "/foo//baz", ""),
            ("/foo/{bar}/baz", "/foo/x/y/baz", ""),
            ("/foo/{bar}/baz", "/foo/x", ""),
            ("/foo/*/baz", "/foo/x/baz", "-"),
            ("/foo/{bar=*/a/*}/baz", "/foo/x/a/y/baz", "x/a/y"),
            ("/foo/{bar=*/a/*}/baz", "/foo/x%2Fx/a/%C3%A4/baz", "x%2Fx/a/ä"),
            ("/foo/{bar=*/a/*}/baz", "/foo/x/b/y/baz", ""),
            ("/foo/{bar=**}", "/foo/x/y%2Fy/%20z", "x/y%2Fy/ z"),
            ("/foo/{bar=**}", "/foo/x%2Fy", "x%2Fy"),
            ("/foo/{bar=a}", "/foo/a", "a"),
            ("/foo/{bar=a}", "/foo/b", ""),
            ("/foo/{bar=a/**}", "/foo/a/x", "a/x"),
            ("/{a}/{b=**}:watch", "/x/y/z:watch", "x y/z"),
            ("/foo/**", "/foo/x/y", "-"),
            ("/foo/**", "/foo", "-"),
            ("/foo/{bar}:watch", "/foo/x:watch", "x"),
            ("/foo/{bar}:watch", "/foo/x:y:watch", "x:y"),
            ("/foo/{bar}:watch", "/foo/x:Watch", ""),
            ("/foo/{bar}:watch", "/foo/x%3Awatch", ""),
            ("/foo/{bar}:watch", "/foo/:watch", ""),
            ("/foo/{bar}:watch", "/foo/x", ""),
            ("/foo/{bar}", "/foo/x:watch", "x:watch"),
            ("/foo:go", "/foo:go", "-"),
            ("/a.B/C", "/a.B/C", "-"),
        ] {
            let found = values(template, path).map(|v| if v.is_empty() { "-".into() } else { v.join(" ") });
            let expected = (!expected.is_empty()).then(|| expected.to_owned());
            assert_eq!(found, expected, "{template} {path}");
        }
        // Any number may be none.
        assert_eq!(values("/foo/{bar=**}", "/foo"), Some(vec![String::new()]));
        assert_eq!(values("/foo/{bar=**}", "/foo/"), Some(vec![String::new()]));
        assert_eq!(values("/foo/{bar=**}", "/foo/x/"), Some(vec!["x/".into()]));
    }

    #[test]
    fn what_is_no_template_is_told() {
        for (bad, why) in [
            ("", "begins with a slash"),
            ("a", "begins with a slash"),
            ("//", "is empty"),
            ("/a/", "is empty"),
            ("/a//b", "is empty"),
            ("/:v", "no segment before the verb"),
            ("/a:", "the verb"),
            ("/a:b:c", "the verb"),
            ("/a:b/c", "':'"),
            ("/{a", "has no }"),
            ("/a}", "'}'"),
            ("/x{a}", "'{'"),
            ("/{a}x", "whole segment"),
            ("/{a}{b}", "whole segment"),
            ("/{}", "no name of a field"),
            ("/{1}", "no name of a field"),
            ("/{a.}", "no name of a field"),
            ("/{a=}", "is empty"),
            ("/{a={b}}", "'{'"),
            ("/{a=b:c}", "':'"),
            ("/{a}/{a}", "twice"),
            ("/**/a", "last segment"),
            ("/{a=**}/b", "last segment"),
            ("/{a=**/b}", "last segment"),
            ("/***", "'*'"),
            ("/a*", "'*'"),
            ("/a?b", "'?'"),
            ("/a b", "' '"),
            ("/a%2", "not readable"),
        ] {
            let error = Template::new(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
        assert!(Template::new(&"/a".repeat(SEGMENTS_MAX)).is_err());
        assert!(Template::new(&"/a".repeat(SEGMENTS_MAX - 1)).is_ok());
        assert!(Template::new(&format!("/{}", "a".repeat(TEMPLATE_BYTES_MAX))).is_err());
    }

    #[test]
    fn what_says_more_comes_first() {
        let order = [
            "/a/{x=**}:go",
            "/a/b/c",
            "/a/b/{x}",
            "/a/b",
            "/a/{x}/c",
            "/a/{x}",
            "/a/**",
            "/a",
            "/{x=*}/b",
            "/{x=*/*}",
            "/{x=**}",
            "/",
        ];
        let templates: Vec<Template> = order.iter().map(|t| Template::new(t).unwrap()).collect();
        let mut sorted = templates.clone();
        sorted.reverse();
        sorted.sort_by(Template::precedence);
        let sorted: Vec<String> = sorted.iter().map(Template::to_string).collect();
        assert_eq!(sorted, order);
        let same = |a: &str, b: &str| Template::new(a).unwrap().shape() == Template::new(b).unwrap().shape();
        assert!(same("/a/{x}/{y=**}", "/a/*/**"));
        assert!(same("/{x=a/*}", "/a/{y}"));
        assert!(same("/a", "/%61"));
        assert!(!same("/a/*", "/a/**"));
        assert!(!same("/a/*:v", "/a/*"));
        assert!(!same("/a", "/b"));
    }

    #[test]
    fn variables_keep_their_names() {
        let template = Template::new("/v1/{a.b_c=x/*}/{d}").unwrap();
        let names: Vec<&str> = template.variables().iter().map(|v| v.name.as_str()).collect();
        assert_eq!(names, ["a.b_c", "d"]);
        assert_eq!(template.to_string(), "/v1/{a.b_c=x/*}/{d}");
    }

    #[test]
    fn whatever_the_text_there_is_an_answer() {
        use proptest::prelude::*;
        proptest!(|(template in "[/a{}=*:.%2F]{0,20}", path in "[/a:%2F]{0,20}")| {
            if let (Ok(template), Ok(path)) = (Template::new(&template), Path::new(&path)) {
                if let Some(values) = template.values(&path) {
                    prop_assert_eq!(values.len(), template.variables().len());
                }
                prop_assert!(template.precedence(&template).is_eq());
            }
        });
        let slashes = "/".repeat(1 << 20);
        assert_eq!(
            values("/{a=**}", &slashes).map(|v| v[0].len()),
            Some((1 << 20) - 1)
        );
    }
}
