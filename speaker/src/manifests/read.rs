//! From the text of a file to objects.

use std::fmt;

use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use speaker_core::intent::{
    Object,
    admission::{Claim, Claimant},
};

use super::{
    document::{self, Document},
    refused::Reason,
};
use crate::kubernetes::{
    FieldPath, IPAddressPoolSpec, Invalid, L2AdvertisementSpec, Step,
    convert::{self, Source},
};

const CORE: &str = "v1";
const METALLB: &str = "metallb.io/v1beta1";
/// MetalLB's kinds in which it reports.
const STATUSES: [&str; 3] = ["ConfigurationState", "ServiceBGPStatus", "ServiceL2Status"];

/// The content of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contents {
    /// The objects that count, each with the line where its document begins.
    pub(super) objects: Vec<(u64, Object)>,
    /// Notes for the operator about the rest, with lines.
    pub(super) notes: Vec<(u64, Note)>,
}

impl Claimant for Contents {
    fn claims(&self) -> impl Iterator<Item = Claim<'_>> {
        self.objects
            .iter()
            .flat_map(|(line, object)| Claim::of(*line, object))
    }
}

/// Something in a file that has no effect, or not the usual one, but is no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A kind that does not count.
    Ignored {
        /// Its `apiVersion`.
        api_version: String,
        /// The kind.
        kind: String,
    },
    /// A MetalLB object that has no effect here.
    NoEffect {
        /// The object.
        object: String,
    },
    /// An annotation with MetalLB's old prefix.
    OldAnnotation {
        /// The object.
        object: String,
        /// What follows the prefix.
        annotation: String,
    },
}

const OLD_PREFIX: &str = "metallb.universe.tf/";

impl Note {
    /// Whether the operator may expect an effect that there is not.
    pub const fn is_warning(&self) -> bool {
        match self {
            Self::Ignored { .. } => false,
            Self::NoEffect { .. } | Self::OldAnnotation { .. } => true,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ignored { api_version, kind } => {
                write!(
                    f,
                    "{kind} of {api_version} is ignored: it does not affect VIPs"
                )
            }
            Self::NoEffect { object } => {
                write!(
                    f,
                    "{object} has no effect: VIPs are announced on layer 2 only"
                )
            }
            Self::OldAnnotation { object, annotation } => write!(
                f,
                "{object}: the annotation {OLD_PREFIX}{annotation} is deprecated: use \
                 metallb.io/{annotation}"
            ),
        }
    }
}

/// Why a file is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejected {
    pub(super) line: Option<u64>,
    pub(super) reason: Reason,
}

/// Reads a file. If any part is invalid, none of it counts.
pub(super) fn read(text: &str) -> Result<Contents, Rejected> {
    let documents = document::parse(text).map_err(|malformed| Rejected {
        line: malformed.line,
        reason: Reason::Yaml(malformed.message),
    })?;
    let mut contents = Contents {
        objects: Vec::new(),
        notes: Vec::new(),
    };
    for (index, Document { line, value }) in documents.into_iter().enumerate() {
        let mut take = |value: &Value, at: &FieldPath| {
            contents.take(line, value).map_err(|fault| {
                let field = at.join(fault.field.steps().iter().cloned());
                Rejected {
                    line: document::locate(text, index, field.steps()).or(Some(line)),
                    reason: fault.reason,
                }
            })
        };
        match items(&value) {
            Some(items) => {
                for (index, item) in items.iter().enumerate() {
                    take(item, &FieldPath::root().key("items").index(index))?;
                }
            }
            None => take(&value, &FieldPath::root())?,
        }
    }
    Ok(contents)
}

/// The items of a `List`.
fn items(value: &Value) -> Option<&Vec<Value>> {
    let is_list = value["apiVersion"] == CORE && value["kind"] == "List";
    value["items"].as_array().filter(|_| is_list)
}

/// What is wrong with an object.
struct Fault {
    field: FieldPath,
    reason: Reason,
}

impl From<Box<Invalid>> for Fault {
    fn from(invalid: Box<Invalid>) -> Self {
        Self {
            field: invalid.field.clone(),
            reason: Reason::Invalid(invalid),
        }
    }
}

impl Contents {
    fn take(&mut self, line: u64, value: &Value) -> Result<(), Fault> {
        let raw = Raw::new(value)?;
        let object = match (raw.group(), raw.kind) {
            ("", "Service") => {
                raw.check_version(CORE)?;
                let metadata = raw.metadata(Unknown::Ignored)?;
                let annotations = metadata.annotations.unwrap_or_default();
                let old = annotations
                    .keys()
                    .filter_map(|it| it.strip_prefix(OLD_PREFIX));
                for annotation in old {
                    let note = Note::OldAnnotation {
                        object: raw.name(),
                        annotation: annotation.to_owned(),
                    };
                    self.notes.push((line, note));
                }
                let service: core::Service =
                    raw.typed(&FieldPath::root(), value, Unknown::Ignored)?;
                convert::service(&service, Source::Manifests)?.map(Object::Service)
            }
            // Whatever the group: a mistyped one is refused too.
            (_, "IPAddressPool") => {
                raw.check_version(METALLB)?;
                raw.check_fields()?;
                let metadata = raw.metadata(Unknown::Refused)?;
                let spec: IPAddressPoolSpec = raw.part("spec", Unknown::Refused)?;
                Some(Object::Pool(convert::pool(&metadata, &spec)?))
            }
            (_, "L2Advertisement") => {
                raw.check_version(METALLB)?;
                raw.check_fields()?;
                let metadata = raw.metadata(Unknown::Refused)?;
                let spec: L2AdvertisementSpec = raw.part("spec", Unknown::Refused)?;
                Some(Object::Advertisement(convert::advertisement(
                    &metadata, &spec,
                )?))
            }
            ("metallb.io", "BFDProfile" | "BGPAdvertisement" | "BGPPeer" | "Community") => {
                self.notes
                    .push((line, Note::NoEffect { object: raw.name() }));
                None
            }
            ("metallb.io", kind) if !STATUSES.contains(&kind) => {
                return Err(Fault {
                    field: FieldPath::root().key("kind"),
                    reason: Reason::Kind(kind.to_owned()),
                });
            }
            _ => {
                let note = Note::Ignored {
                    api_version: raw.api_version.to_owned(),
                    kind: raw.kind.to_owned(),
                };
                self.notes.push((line, note));
                None
            }
        };
        self.objects.extend(object.map(|object| (line, object)));
        Ok(())
    }
}

/// What to do about unknown fields: in our own kinds they are typing errors, in a Service they may
/// be newer than this program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Ignored,
    Refused,
}

/// An object that is known by its kind alone.
struct Raw<'a> {
    api_version: &'a str,
    kind: &'a str,
    value: &'a Map<String, Value>,
}

impl<'a> Raw<'a> {
    fn new(value: &'a Value) -> Result<Self, Fault> {
        let fault = |what| Fault {
            field: FieldPath::root(),
            reason: Reason::NotAnObject(what),
        };
        let value = value.as_object();
        let value = value.ok_or_else(|| fault("the document has no fields"))?;
        let text = |field: &str| value.get(field).and_then(Value::as_str);
        Ok(Self {
            api_version: text("apiVersion").ok_or_else(|| fault("it has no apiVersion"))?,
            kind: text("kind").ok_or_else(|| fault("it has no kind"))?,
            value,
        })
    }

    fn group(&self) -> &str {
        self.api_version
            .split_once('/')
            .map_or("", |(group, _)| group)
    }

    /// Its name, if any.
    fn name(&self) -> String {
        let metadata = self.value.get("metadata");
        let text = |field| {
            metadata
                .and_then(|it| it.get(field))
                .and_then(Value::as_str)
        };
        match text("name") {
            Some(name) => {
                let namespace = text("namespace").unwrap_or("default");
                format!("{} {namespace}/{name}", self.kind)
            }
            None => self.kind.to_owned(),
        }
    }

    fn fault(&self, field: FieldPath, message: impl Into<String>) -> Fault {
        Fault {
            field: field.clone(),
            reason: Reason::Field {
                object: self.name(),
                field,
                message: message.into(),
            },
        }
    }

    fn check_version(&self, known: &'static str) -> Result<(), Fault> {
        if self.api_version == known {
            return Ok(());
        }
        Err(Fault {
            field: FieldPath::root().key("apiVersion"),
            reason: Reason::Version {
                kind: self.kind.to_owned(),
                found: self.api_version.to_owned(),
                known,
            },
        })
    }

    fn check_fields(&self) -> Result<(), Fault> {
        let is_known =
            |name: &str| ["apiVersion", "kind", "metadata", "spec", "status"].contains(&name);
        match self.value.keys().find(|name| !is_known(name)) {
            Some(name) => Err(self.unknown(FieldPath::root().key(name))),
            None => Ok(()),
        }
    }

    fn unknown(&self, field: FieldPath) -> Fault {
        self.fault(
            field,
            "there is no such field: correct its name or remove it",
        )
    }

    fn metadata(&self, unknown: Unknown) -> Result<ObjectMeta, Fault> {
        let metadata: ObjectMeta = self.part("metadata", unknown)?;
        if metadata.name.as_deref().is_none_or(str::is_empty) {
            let field = FieldPath::root().key("metadata").key("name");
            return Err(self.fault(field, "missing: give the object a name"));
        }
        Ok(metadata)
    }

    /// A part of the object; if absent, its value without any fields.
    fn part<T: DeserializeOwned>(&self, name: &str, unknown: Unknown) -> Result<T, Fault> {
        let empty = Value::Object(Map::new());
        let part = self.value.get(name).unwrap_or(&empty);
        self.typed(&FieldPath::root().key(name), part, unknown)
    }

    fn typed<T: DeserializeOwned>(
        &self,
        at: &FieldPath,
        value: &Value,
        unknown: Unknown,
    ) -> Result<T, Fault> {
        let mut stray = None;
        let mut track = serde_path_to_error::Track::new();
        let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
        let typed = serde_ignored::deserialize(deserializer, |path| {
            stray.get_or_insert_with(|| ignored(&path));
        });
        let typed = typed
            .map_err(|error| self.fault(at.join(tracked(&track.path())), error.to_string()))?;
        match stray {
            Some(stray) if unknown == Unknown::Refused => Err(self.unknown(at.join(stray))),
            _ => Ok(typed),
        }
    }
}

fn tracked(path: &serde_path_to_error::Path) -> Vec<Step> {
    use serde_path_to_error::Segment;
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Enum { variant } => Some(Step::Key(variant.clone())),
            Segment::Unknown => None,
        })
        .collect()
}

fn ignored(path: &serde_ignored::Path<'_>) -> Vec<Step> {
    use serde_ignored::Path;
    let (parent, step) = match path {
        Path::Root => return Vec::new(),
        Path::Seq { parent, index } => (parent, Some(Step::Index(*index))),
        Path::Map { parent, key } => (parent, Some(Step::Key(key.clone()))),
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => (parent, None),
    };
    let mut steps = ignored(parent);
    steps.extend(step);
    steps
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
