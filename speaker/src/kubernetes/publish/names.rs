//! Names that this project gives to objects, and those of nodes in labels.

use sha2::{Digest as _, Sha256};
use speaker_core::intent::ObjectName;

/// The longest value of a label, in bytes.
const LONGEST_LABEL: usize = 63;

/// The name of a Service's `ServiceL2Status`, the same on all nodes.
pub(super) fn status_name(service: &ObjectName) -> String {
    format!("l2-{}", digest(&service.to_string()))
}

/// A node's name as the value of a label, which may be too short for it: then its beginning, and a
/// hash that tells it from others.
pub(super) fn node_label(node: &str) -> String {
    if node.len() <= LONGEST_LABEL {
        return node.to_owned();
    }
    let digest = digest(node);
    let end = node.floor_char_boundary(LONGEST_LABEL - 1 - digest.len());
    format!("{}-{digest}", &node[..end])
}

/// Ten hexadecimal digits.
fn digest(text: &str) -> String {
    let hash = Sha256::digest(text);
    let bytes = hash.iter().take(5).map(|byte| format!("{byte:02x}"));
    bytes.fold(String::new(), |digits, byte| digits + &byte)
}

#[cfg(test)]
mod tests {
    use speaker_core::intent::{Labels, Selector};

    use super::*;

    #[test]
    fn a_service_has_one_status_with_a_derived_name() {
        let name = |service| status_name(&ObjectName::new("ns", service));
        assert_eq!(name("web"), name("web"));
        assert_ne!(name("web"), name("db"));
        assert!(name("web").starts_with("l2-"));
    }

    #[test]
    fn a_long_node_name_is_shortened_to_a_label_of_its_own() {
        let fits = "n".repeat(63);
        assert_eq!(node_label(&fits), fits);
        let long = ["a", "b"].map(|end| node_label(&format!("{}.{end}", "n".repeat(62))));
        assert_ne!(long[0], long[1]);
        for label in long {
            assert!(label.starts_with(&"n".repeat(52)), "{label}");
            let labels = Labels::from([("node".to_owned(), label)]);
            assert!(Selector::by_labels(labels.clone()).is_ok(), "{labels:?}");
        }
    }
}
