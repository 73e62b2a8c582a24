//! Agents that follow a cluster.

mod services;
