//! The lab, and what the whole-system tests, the demo and the benchmarks share.

pub mod agent;
pub mod asker;
pub mod bench;
pub mod cluster;
pub mod kube;
pub mod lab;
pub mod load;
pub mod manifest;
pub mod message;
pub mod program;
pub mod vm;
pub mod wait;
