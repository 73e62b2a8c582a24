//! The configuration, as far as it is valid, and what of it is not.

use speaker_core::intent::{Intent, Terms, Wanted};

use crate::source::Change;

pub(super) struct Configuration {
    pub(super) intent: Intent,
    /// What the source refuses, by itself or for what it contradicts.
    refused: Vec<String>,
    updates: u64,
    errors: u64,
}

impl Configuration {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            intent: Intent::new(terms),
            refused: Vec::new(),
            updates: 0,
            errors: 0,
        }
    }

    /// Takes in what has become different. Whether nodes may be asked for something else by that.
    pub(super) fn take(&mut self, change: Change) -> bool {
        let mut matters = false;
        for key in &change.delete {
            matters |= self.intent.delete(key);
        }
        for object in change.apply {
            matters |= self.intent.apply(object);
        }
        self.updates += 1;
        self.errors += u64::from(!change.refused.is_empty());
        self.refused = change.refused;
        matters
    }

    /// What a node is to announce, should it own it.
    pub(super) fn wanted(&self, node: &str) -> Wanted {
        self.intent.wanted(&self.intent.node(node))
    }

    /// Everything that is refused.
    pub(super) fn refusals(&self) -> &[String] {
        &self.refused
    }

    /// How often it was told of.
    pub(super) fn updates(&self) -> u64 {
        self.updates
    }

    /// How often it was told of with something refused.
    pub(super) fn errors(&self) -> u64 {
        self.errors
    }
}
