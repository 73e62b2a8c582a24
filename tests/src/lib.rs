//! The lab, and what the whole-system tests, the demo and the benchmarks share.

pub mod sim;
