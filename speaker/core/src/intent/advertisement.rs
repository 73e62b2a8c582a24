//! Where the addresses of pools are announced.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Labels, ObjectName, Pool, Selector};

/// An `L2Advertisement`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advertisement {
    /// Its name; it covers pools of its own namespace.
    pub name: ObjectName,
    /// The pools that it names.
    pub pools: BTreeSet<String>,
    /// The pools that it selects, in addition. If none is named or selected, it covers all.
    pub pool_selectors: Vec<Selector>,
    /// The nodes that it selects, by any of these; all if empty.
    pub node_selectors: Vec<Selector>,
    /// The Services that it selects, by any of these; all if empty.
    pub service_selectors: Vec<Selector>,
    /// The interfaces on which those nodes announce.
    pub interfaces: Interfaces,
    /// Weights of preferred nodes.
    pub preferences: Vec<(u32, Selector)>,
}

/// The interfaces of a node on which something is announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interfaces {
    /// All that the agent uses.
    All,
    /// Those of these names.
    Named(BTreeSet<String>),
}

impl Interfaces {
    /// Whether the interface of this name is one of them.
    pub fn contain(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(name),
        }
    }

    /// Adds the interfaces of another advertisement.
    pub fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::All, _) => (),
            (all, Self::All) => *all = Self::All,
            (Self::Named(names), Self::Named(more)) => names.extend(more.iter().cloned()),
        }
    }
}

impl Advertisement {
    /// Whether it announces this pool's addresses.
    pub fn covers(&self, pool: &Pool) -> bool {
        self.name.namespace == pool.name().namespace
            && ((self.pools.is_empty() && self.pool_selectors.is_empty())
                || self.pools.contains(&pool.name().name)
                || any_matches(&self.pool_selectors, pool.labels()))
    }

    /// Whether it selects a Service with these labels.
    pub fn selects_service(&self, labels: &Labels) -> bool {
        self.service_selectors.is_empty() || any_matches(&self.service_selectors, labels)
    }

    /// Whether it selects a node with these labels.
    pub fn selects_node(&self, labels: &Labels) -> bool {
        self.node_selectors.is_empty() || any_matches(&self.node_selectors, labels)
    }

    /// The preference of a node with these labels: the sum of the weights that select it.
    pub fn preference(&self, labels: &Labels) -> u32 {
        let selecting = |(_, selector): &&(u32, Selector)| selector.matches(labels);
        self.preferences
            .iter()
            .filter(selecting)
            .map(|(weight, _)| weight)
            .sum()
    }
}

fn any_matches(selectors: &[Selector], labels: &Labels) -> bool {
    selectors.iter().any(|selector| selector.matches(labels))
}
