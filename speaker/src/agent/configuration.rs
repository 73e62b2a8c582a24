//! The configuration: what is valid, and what is refused.

use speaker_core::intent::{Intent, Terms, Wanted};

use crate::source::Change;

pub(super) struct Configuration {
    pub(super) intent: Intent,
    /// What the source refuses, and why.
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

    /// Applies a change. Returns whether it may change what nodes should announce.
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

    /// What a node should announce if it owns it.
    pub(super) fn wanted(&self, node: &str) -> Wanted {
        self.intent.wanted(&self.intent.node(node))
    }

    /// Everything that is refused.
    pub(super) fn refusals(&self) -> &[String] {
        &self.refused
    }

    /// How many changes came in.
    pub(super) fn updates(&self) -> u64 {
        self.updates
    }

    /// How many of them had something refused.
    pub(super) fn errors(&self) -> u64 {
        self.errors
    }
}
