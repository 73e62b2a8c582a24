//! Events: what people read in `kubectl describe`.

use k8s_openapi::api::core::v1::{ObjectReference, Service};
use kube::{
    Client, Resource as _,
    runtime::events::{Event, Recorder, Reporter},
};
use speaker_core::intent::ObjectName;

/// The longest note that the API server accepts, in bytes.
const LONGEST_NOTE: usize = 1024;

/// Writes an event about a Service.
///
/// # Errors
///
/// The API server cannot be reached, or refuses it.
pub(crate) async fn write(
    client: &Client,
    reporter: Reporter,
    service: &ObjectName,
    uid: Option<&String>,
    event: Event,
) -> kube::Result<()> {
    let about = ObjectReference {
        api_version: Some(Service::api_version(&()).into_owned()),
        kind: Some(Service::kind(&()).into_owned()),
        namespace: Some(service.namespace.clone()),
        name: Some(service.name.clone()),
        uid: uid.cloned(),
        ..ObjectReference::default()
    };
    // A recorder that has already published an event with this reason would only raise its count,
    // and keep the first note.
    let recorder = Recorder::new(client.clone(), reporter);
    recorder.publish(&fitting(event), &about).await
}

/// The event, with a note that the API server accepts.
fn fitting(mut event: Event) -> Event {
    if let Some(note) = &mut event.note {
        note.truncate(note.floor_char_boundary(LONGEST_NOTE));
    }
    event
}

#[cfg(test)]
mod tests {
    use kube::runtime::events::EventType;

    use super::*;

    #[test]
    fn a_note_is_cut_between_characters() {
        let event = Event {
            type_: EventType::Normal,
            reason: "r".to_owned(),
            note: Some("x".to_owned() + &"ü".repeat(LONGEST_NOTE)),
            action: "a".to_owned(),
            secondary: None,
        };
        let note = fitting(event).note.unwrap();
        assert_eq!(note.len(), LONGEST_NOTE - 1);
        assert!(note.ends_with('ü'));
    }
}
