//! The testbed itself: what other tests take for granted.

mod access;
mod faults;
mod objects;
mod skips;
mod traffic;

use serde_json::Value;
use speaker_tests::{
    kube::objects::{Endpoint, Port, endpoint_slice},
    lab::Host,
};

const PORTS: [Port<'_>; 2] = [("TCP", 80, 8080), ("UDP", 80, 8080)];

/// A ready endpoint on a node.
fn slice(service: &str, node: &Host, is_ipv6: bool) -> Value {
    endpoint_slice(service, &[Endpoint::on(node, is_ipv6)], &PORTS)
}
