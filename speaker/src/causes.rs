//! Errors with their causes, as text.

use std::{error::Error, iter::successors};

/// The texts of an error and its causes, without those that an earlier one contains.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for cause in successors(Some(error), |&error| error.source()) {
        let text = cause.to_string();
        if !texts.iter().any(|earlier| earlier.contains(&text)) {
            texts.push(text);
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn no_cause_is_repeated() {
        let error = anyhow!("no such file")
            .context("cannot read a: no such file")
            .context("cannot start");
        let expect = ["cannot start", "cannot read a: no such file"];
        assert_eq!(causes(error.as_ref()), expect);
    }
}
