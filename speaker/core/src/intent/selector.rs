//! Label selectors, as Kubernetes evaluates them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Labels;

/// Matches objects that have all labels and meet all requirements. The empty selector matches
/// everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// `matchLabels`.
    pub labels: Labels,
    /// `matchExpressions`.
    pub requirements: Vec<Requirement>,
}

/// One of a selector's `matchExpressions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Test {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    DoesNotExist,
}

/// Why a selector is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// An operator that does not exist.
    #[error("unknown operator {0:?}: use In, NotIn, Exists or DoesNotExist")]
    Operator(String),
    /// `In` or `NotIn` without values.
    #[error("{0} needs at least one value")]
    NoValues(&'static str),
    /// `Exists` or `DoesNotExist` with values.
    #[error("{0} takes no values: remove them, or use In or NotIn")]
    Values(&'static str),
    /// The same value twice.
    #[error("the value {0:?} is listed twice: remove one")]
    Twice(String),
    /// A key that no label can have.
    #[error(
        "{0:?} is not a valid label key: use up to 63 letters, digits, '-', '_' or '.', beginning \
         and ending with a letter or digit, after an optional DNS name and '/'"
    )]
    LabelKey(String),
    /// A value that no label can have.
    #[error(
        "{0:?} is not a valid label value: use up to 63 letters, digits, '-', '_' or '.', beginning \
         and ending with a letter or digit"
    )]
    LabelValue(String),
}

impl SelectorError {
    /// The field of a match expression that is at fault.
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Operator(_) => "operator",
            Self::LabelKey(_) => "key",
            Self::NoValues(_) | Self::Values(_) | Self::Twice(_) | Self::LabelValue(_) => "values",
        }
    }
}

impl Selector {
    /// A selector with these labels only.
    pub fn by_labels(labels: Labels) -> Result<Self, SelectorError> {
        for (key, value) in &labels {
            check_key(key)?;
            check_value(value)?;
        }
        Ok(Self {
            labels,
            requirements: Vec::new(),
        })
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        let has = |(key, value)| labels.get(key) == Some(value);
        self.labels.iter().all(has) && self.requirements.iter().all(|it| it.is_met(labels))
    }
}

impl Requirement {
    /// The requirement `key operator values`.
    pub fn new(
        key: String,
        operator: &str,
        values: impl IntoIterator<Item = String>,
    ) -> Result<Self, SelectorError> {
        check_key(&key)?;
        let mut set = BTreeSet::new();
        for value in values {
            check_value(&value)?;
            if let Some(value) = set.replace(value) {
                return Err(SelectorError::Twice(value));
            }
        }
        let test = match operator {
            "In" if set.is_empty() => return Err(SelectorError::NoValues("In")),
            "In" => Test::In(set),
            "NotIn" if set.is_empty() => return Err(SelectorError::NoValues("NotIn")),
            "NotIn" => Test::NotIn(set),
            "Exists" if !set.is_empty() => return Err(SelectorError::Values("Exists")),
            "Exists" => Test::Exists,
            "DoesNotExist" if !set.is_empty() => return Err(SelectorError::Values("DoesNotExist")),
            "DoesNotExist" => Test::DoesNotExist,
            other => return Err(SelectorError::Operator(other.to_owned())),
        };
        Ok(Self { key, test })
    }

    fn is_met(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.contains(value)),
            // An object without the label is not in the set either.
            Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
        }
    }
}

fn check_key(key: &str) -> Result<(), SelectorError> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let is_dns_label = |label: &str| {
        is_wrapped_in_alphanumerics(label)
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let prefix_is_valid =
        prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(is_dns_label));
    if prefix_is_valid && is_name(name) {
        Ok(())
    } else {
        Err(SelectorError::LabelKey(key.to_owned()))
    }
}

fn check_value(value: &str) -> Result<(), SelectorError> {
    if value.is_empty() || is_name(value) {
        Ok(())
    } else {
        Err(SelectorError::LabelValue(value.to_owned()))
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= 63
        && is_wrapped_in_alphanumerics(text)
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn is_wrapped_in_alphanumerics(text: &str) -> bool {
    let is_alphanumeric = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    is_alphanumeric(text.as_bytes().first()) && is_alphanumeric(text.as_bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `selector` is `key`, `key=value` (a match label) or `key operator value,value`.
    #[track_caller]
    fn check(selector: &str, labels: &[(&str, &str)], expect: &str) {
        let labels = labels
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let found = match parse(selector) {
            Ok(selector) => selector.matches(&labels).to_string(),
            Err(error) => format!("{}: {error}", error.field()),
        };
        assert_eq!(found, expect, "{selector:?} on {labels:?}");
    }

    fn parse(text: &str) -> Result<Selector, SelectorError> {
        if let Some((key, value)) = text.split_once('=') {
            return Selector::by_labels(Labels::from([(key.to_owned(), value.to_owned())]));
        }
        let words: Vec<_> = text.split(' ').collect();
        let &[key, operator, ref values @ ..] = &words[..] else {
            return Ok(Selector::default());
        };
        let values = values.iter().flat_map(|values| values.split(','));
        Ok(Selector {
            requirements: vec![Requirement::new(
                key.to_owned(),
                operator,
                values.map(str::to_owned),
            )?],
            ..Selector::default()
        })
    }

    #[test]
    fn the_empty_selector_matches_everything() {
        check("", &[], "true");
        check("", &[("zone", "a")], "true");
    }

    #[test]
    fn each_operator_is_evaluated_as_kubernetes_does() {
        for (selector, absent, a, b) in [
            ("zone=a", "false", "true", "false"),
            ("zone In a,c", "false", "true", "false"),
            ("zone NotIn a,c", "true", "false", "true"),
            ("zone Exists", "false", "true", "true"),
            ("zone DoesNotExist", "true", "false", "false"),
        ] {
            check(selector, &[("other", "a")], absent);
            check(selector, &[("zone", "a")], a);
            check(selector, &[("zone", "b")], b);
        }
    }

    #[test]
    fn labels_and_requirements_must_all_be_met() {
        let selector = Selector {
            labels: Labels::from([("zone".to_owned(), "a".to_owned())]),
            requirements: vec![
                Requirement::new("rack".to_owned(), "Exists", []).unwrap(),
                Requirement::new("old".to_owned(), "DoesNotExist", []).unwrap(),
            ],
        };
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut labels = Labels::from([label("zone", "a")]);
        assert!(!selector.matches(&labels));
        labels.extend([label("rack", "1")]);
        assert!(selector.matches(&labels));
        labels.extend([label("old", "")]);
        assert!(!selector.matches(&labels));
    }

    #[test]
    fn an_invalid_selector_names_the_field_at_fault() {
        check(
            "zone Is a",
            &[],
            r#"operator: unknown operator "Is": use In, NotIn, Exists or DoesNotExist"#,
        );
        check("zone In", &[], "values: In needs at least one value");
        check("zone NotIn", &[], "values: NotIn needs at least one value");
        check(
            "zone Exists a",
            &[],
            "values: Exists takes no values: remove them, or use In or NotIn",
        );
        check(
            "zone In a,b,a",
            &[],
            r#"values: the value "a" is listed twice: remove one"#,
        );
    }

    #[test]
    fn label_keys_and_values_are_validated() {
        let is_valid = |text: &str| parse(text).is_ok();
        for key in ["zone", "a", "A.b_c-d", "kubernetes.io/hostname", "a-b.c/D"] {
            assert!(is_valid(&format!("{key} Exists")), "{key}");
        }
        let long = "x".repeat(64);
        for key in [
            "", "-zone", "zone.", "zöne", "/zone", "Io/zone", "a..b/z", "a/b/c", &long,
        ] {
            assert!(!is_valid(&format!("{key} Exists")), "{key}");
        }
        assert!(is_valid("zone="));
        assert!(is_valid("zone=a.B_c-9"));
        assert!(!is_valid("zone=a b"));
        assert!(!is_valid(&format!("zone={long}")));
    }
}
