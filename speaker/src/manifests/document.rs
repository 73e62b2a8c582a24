//! YAML streams, and the lines of their fields.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use serde_saphyr::{Error, Options, Spanned, UserMessageFormatter};

use crate::kubernetes::Step;

/// One document of a stream.
#[derive(Debug)]
pub(super) struct Document {
    /// The line where it begins, counted from 1.
    pub(super) line: u64,
    /// Its content. As in the API, a field without a value is absent.
    pub(super) value: Value,
}

/// A stream that is not YAML.
#[derive(Debug)]
pub(super) struct Malformed {
    pub(super) line: Option<u64>,
    pub(super) message: String,
}

/// The documents of a stream, without the empty ones.
pub(super) fn parse(text: &str) -> Result<Vec<Document>, Malformed> {
    // JSON is YAML too, but parses much faster as JSON.
    if let Ok(mut value) = serde_json::from_str::<Value>(text)
        && value.is_object()
    {
        prune(&mut value);
        let line = text
            .find('{')
            .map_or(0, |start| text[..start].lines().count());
        let line = line as u64 + 1;
        return Ok(vec![Document { line, value }]);
    }
    let documents: Vec<Spanned<Value>> =
        serde_saphyr::from_multiple_with_options(text, options()).map_err(malformed)?;
    let document = |mut document: Spanned<Value>| {
        prune(&mut document.value);
        Document {
            line: document.referenced.line(),
            value: document.value,
        }
    };
    Ok(documents.into_iter().map(document).collect())
}

/// The line of a field in a document of a stream, or of the closest enclosing part that exists.
pub(super) fn locate(text: &str, document: usize, steps: &[Step]) -> Option<u64> {
    // Only errors need lines: parsing again then costs less than keeping the lines of all fields.
    let documents: Vec<Lines> = serde_saphyr::from_multiple_with_options(text, options()).ok()?;
    let mut at = documents.get(document)?;
    for step in steps {
        let child = match (step, &at.children) {
            (Step::Key(key), Children::Map(map)) => map
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, child)| child),
            (&Step::Index(index), Children::List(list)) => list.get(index),
            _ => None,
        };
        let Some(child) = child else { break };
        at = child;
    }
    Some(at.line)
}

fn options() -> Options {
    // Files are limited in size when they are read, and large configurations exceed the default
    // budgets. Only the expansion of aliases is left to limit.
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: usize::MAX,
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_total_scalar_bytes: usize::MAX,
            max_total_comment_bytes: usize::MAX,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        emit_comments: false,
        with_snippet: false,
    }
}

fn malformed(error: Error) -> Malformed {
    Malformed {
        line: error.location().map(|location| location.line()),
        message: error.render_with_formatter(&UserMessageFormatter),
    }
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(prune);
        }
        Value::Array(list) => list.iter_mut().for_each(prune),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
}

/// The shape of a document, with the line of everything in it.
struct Lines {
    line: u64,
    children: Children,
}

enum Children {
    None,
    Map(Vec<(String, Lines)>),
    List(Vec<Lines>),
}

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let children = Spanned::<Children>::deserialize(deserializer)?;
        Ok(Self {
            line: children.referenced.line(),
            children: children.value,
        })
    }
}

impl<'de> Deserialize<'de> for Children {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ChildrenVisitor;

        impl<'de> Visitor<'de> for ChildrenVisitor {
            type Value = Children;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_bool<E>(self, _: bool) -> Result<Children, E> {
                Ok(Children::None)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Children, E> {
                Ok(Children::None)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Children, E> {
                Ok(Children::None)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Children, E> {
                Ok(Children::None)
            }

            fn visit_str<E>(self, _: &str) -> Result<Children, E> {
                Ok(Children::None)
            }

            fn visit_unit<E>(self) -> Result<Children, E> {
                Ok(Children::None)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Children, A::Error> {
                let mut children = Vec::new();
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    let mut child: Lines = map.next_value()?;
                    child.line = key.referenced.line();
                    children.push((key.value, child));
                }
                Ok(Children::Map(children))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Children, A::Error> {
                let mut children = Vec::new();
                while let Some(child) = list.next_element()? {
                    children.push(child);
                }
                Ok(Children::List(children))
            }
        }

        deserializer.deserialize_any(ChildrenVisitor)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;
    use crate::kubernetes::FieldPath;

    const STREAM: &str = "\
# A comment, and nothing before it.
---
a: 1
b:
  c: [10.0.0.1,
    10.0.0.2]
  d:
  - e: true
    f: null
  -
    e: 0.5
---
---
kind: second
";

    #[test]
    fn empty_documents_and_fields_are_absent() {
        let documents = parse(STREAM).unwrap();
        let values: Vec<_> = documents.iter().map(|it| &it.value).collect();
        let first = json!({
            "a": 1,
            "b": {"c": ["10.0.0.1", "10.0.0.2"], "d": [{"e": true}, {"e": 0.5}]},
        });
        assert_eq!(values, [&first, &json!({"kind": "second"})]);
        assert_eq!(
            documents.iter().map(|it| it.line).collect::<Vec<_>>(),
            [3, 14]
        );
        assert!(parse("").unwrap().is_empty());
        assert!(parse("# nothing\n---\n...\n").unwrap().is_empty());
    }

    #[test]
    fn a_field_has_a_line() {
        let root = FieldPath::root();
        let b = root.key("b");
        let line = |document, field: &FieldPath| locate(STREAM, document, field.steps()).unwrap();
        assert_eq!(line(0, &root), 3);
        assert_eq!(line(0, &b), 4);
        assert_eq!(line(0, &b.key("c")), 5);
        assert_eq!(line(0, &b.key("c").index(1)), 6);
        assert_eq!(line(0, &b.key("d").index(0).key("f")), 9);
        assert_eq!(line(0, &b.key("d").index(1).key("e")), 11);
        assert_eq!(
            line(0, &b.key("d").index(1).key("none").index(3)),
            11,
            "what is around it"
        );
        assert_eq!(line(1, &root.key("kind")), 14);
    }

    #[test]
    fn json_is_yaml() {
        let text = "{\n\t\"a\": [1,\n\t\t\"\\u00e9\\/\"]\n}\n";
        assert_eq!(parse(text).unwrap()[0].value, json!({"a": [1, "é/"]}));
        assert_eq!(
            locate(text, 0, FieldPath::root().key("a").index(1).steps()),
            Some(3)
        );
    }

    #[test]
    fn invalid_yaml_has_a_line_and_a_message() {
        #[track_caller]
        fn check(text: &str, expect: Expect) {
            let Malformed { line, message } = parse(text).unwrap_err();
            expect.assert_eq(&format!("{}: {message}", line.unwrap()));
        }
        check(
            "a: 1\nb: [\n",
            expect!["2: unclosed bracket '[' at line 2, column 4"],
        );
        check(
            "a: 1\na: 2\n",
            expect!["2: duplicate mapping key `a` is not allowed here at line 2, column 1"],
        );
        check(
            "a: b: c\n",
            expect!["1: mapping values are not allowed in this context at line 1, column 5"],
        );
        check(
            "a: *nowhere\n",
            expect!["1: reference to unknown value at line 1, column 4"],
        );
        check(
            "a:\n\tb: 1\n",
            expect![
                "2: tabs disallowed within this context (block indentation) at line 2, column 2"
            ],
        );
        check(
            "{\"a\": 1,,}\n",
            expect!["1: unexpected EOF while parsing an implicit flow mapping at line 1, column 9"],
        );
        check("a: \"\n", expect!["1: unclosed quote at line 1, column 4"]);
        check(
            "\0",
            expect![[r#"1: unexpected character: `\u{0}' at line 1, column 1"#]],
        );
    }

    #[test]
    fn large_files_are_accepted() {
        let numbers = format!("[{}]", "1, ".repeat(260_000));
        assert_eq!(
            parse(&numbers).unwrap()[0].value.as_array().unwrap().len(),
            260_000
        );
        assert_eq!(parse(&"--- {a: b}\n".repeat(1_100)).unwrap().len(), 1_100);
    }

    #[test]
    fn alias_expansion_is_limited() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..10 {
            let alias = format!("*a{}, ", n - 1);
            bomb += &format!("a{n}: &a{n} [{}]\n", alias.repeat(10));
        }
        assert!(parse(&bomb).is_err());
    }
}
