//! deploy/: what installs the agent and the controller.

mod capabilities;
mod chart;
mod image;
mod manifests;
mod migration;
mod monitoring;
mod objects;
