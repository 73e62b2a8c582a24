//! Events: what people read in `kubectl describe`.

use k8s_openapi::api::core::v1::{ObjectReference, Service};
use kube::{
    Client, Resource as _,
    runtime::events::{Event, Recorder, Reporter},
};
use speaker_core::intent::ObjectName;

/// The longest note, and the longest name of a reporter's instance, that the API server accepts, in
/// bytes.
const LONGEST_NOTE: usize = 1024;
const LONGEST_INSTANCE: usize = 128;

/// Writes an event about a Service.
///
/// # Errors
///
/// The API server cannot be reached, or refuses it.
pub(crate) async fn write(
    client: &Client,
    mut reporter: Reporter,
    service: &ObjectName,
    uid: Option<&String>,
    mut event: Event,
) -> kube::Result<()> {
    cut(&mut event.note, LONGEST_NOTE);
    cut(&mut reporter.instance, LONGEST_INSTANCE);
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
    recorder.publish(&event, &about).await
}

/// Leaves out what is beyond this length.
fn cut(text: &mut Option<String>, longest: usize) {
    if let Some(text) = text {
        text.truncate(text.floor_char_boundary(longest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        let check = |text: &str, expect: &str| {
            let mut text = Some(text.to_owned());
            cut(&mut text, 4);
            assert_eq!(text.as_deref(), Some(expect));
        };
        check("xüx", "xüx");
        check("xüü", "xü");
    }
}
