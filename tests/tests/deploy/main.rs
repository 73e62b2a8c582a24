//! deploy/: what installs the agent and the controller.

mod capabilities;
mod chart;
mod compatibility;
mod image;
mod manifests;
mod migration;
mod monitoring;
mod objects;
mod systemd;
