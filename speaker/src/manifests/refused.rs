//! What in the directory is not in force, and why.

use std::{fmt, path::PathBuf};

use speaker_core::intent::admission::Conflict;

use crate::kubernetes::{FieldPath, Invalid};

/// A file that is refused as a whole, or a directory that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Where it is.
    pub path: PathBuf,
    /// The line at fault, counted from 1, if there is one.
    pub line: Option<u64>,
    /// What is wrong there.
    pub reason: Reason,
    /// Whether an earlier content is in force instead.
    pub last_good: bool,
}

/// Why it is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// It cannot be read at all.
    #[error("{0}")]
    Unreadable(String),
    /// It is neither YAML nor JSON.
    #[error("not YAML: {0}")]
    Yaml(String),
    /// A document is not a Kubernetes object.
    #[error("not a Kubernetes object: {0}")]
    NotAnObject(&'static str),
    /// A kind that MetalLB does not have.
    #[error(
        "metallb.io has no kind {0}: pools are of kind IPAddressPool, advertisements of kind \
         L2Advertisement"
    )]
    Kind(String),
    /// A known kind, in an unknown version.
    #[error("{kind} with apiVersion {found} is unknown: use {known}")]
    Version {
        /// The kind.
        kind: String,
        /// Its `apiVersion`.
        found: String,
        /// The one that is known.
        known: &'static str,
    },
    /// A field that has the wrong type, is missing or does not exist.
    #[error("{object}: {field}: {message}")]
    Field {
        /// The object: its kind and, if any, its name.
        object: String,
        /// The field.
        field: FieldPath,
        /// What is wrong with it.
        message: String,
    },
    /// An object that is not valid.
    #[error(transparent)]
    Invalid(Box<Invalid>),
    /// It conflicts with what is in force.
    #[error("{conflict} (the other is in {}:{})", .conflict.holder.display(), .conflict.held.place)]
    Conflict {
        /// What conflicts with what; places are lines, and the holder is the path of a file.
        conflict: Box<Conflict<PathBuf>>,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}; ", self.reason)?;
        f.write_str(if self.last_good {
            "its last good content stays in force"
        } else {
            "nothing of it is in force"
        })
    }
}
