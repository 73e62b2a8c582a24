//! The order of candidates.

use std::{cmp::Reverse, net::IpAddr};

use sha2::{Digest, Sha256};

use super::name::NodeName;

/// MetalLB's order: preference descending, then SHA-256 of `node#first-ip` ascending.
pub fn metallb_order(first_ip: IpAddr, candidates: &[(NodeName, i64)]) -> Vec<(NodeName, i64)> {
    let mut order: Vec<_> = candidates
        .iter()
        .map(|(name, score)| (Reverse(*score), weight(name, first_ip), name))
        .collect();
    order.sort_unstable();
    order.dedup_by(|one, other| one.2 == other.2);
    order
        .into_iter()
        .map(|(Reverse(score), _, name)| (name.clone(), score))
        .collect()
}

/// The hash by which candidates are ordered. Of two claims to a VIP, the one with the lower hash
/// wins.
pub(super) fn weight(name: &NodeName, first_ip: IpAddr) -> [u8; 32] {
    Sha256::digest(format!("{name}#{first_ip}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(first_ip: &str, candidates: &[(&str, i64)]) -> Vec<String> {
        let candidates: Vec<(NodeName, i64)> = candidates
            .iter()
            .map(|(name, score)| (NodeName::from(*name), *score))
            .collect();
        metallb_order(first_ip.parse().unwrap(), &candidates)
            .into_iter()
            .map(|(name, _)| name.into())
            .collect()
    }

    /// COMPAT.md, "Golden order".
    #[test]
    fn the_order_is_metallbs() {
        let abc = [("node-a", 0), ("node-b", 0), ("node-c", 0)];
        assert_eq!(order("10.0.0.1", &abc), ["node-b", "node-a", "node-c"]);
        assert_eq!(order("10.0.0.2", &abc), ["node-b", "node-c", "node-a"]);
        assert_eq!(order("10.20.30.1", &abc[..2]), ["node-b", "node-a"]);
    }

    #[test]
    fn preference_comes_before_the_hash() {
        let nodes = |score| {
            [
                ("edge-a", score),
                ("edge-b", 0),
                ("worker-a", 0),
                ("worker-b", 0),
            ]
        };
        assert_eq!(
            order("10.20.30.1", &nodes(0)),
            ["edge-b", "worker-a", "edge-a", "worker-b"]
        );
        assert_eq!(
            order("10.20.30.1", &nodes(10)),
            ["edge-a", "edge-b", "worker-a", "worker-b"]
        );
    }

    #[test]
    fn the_hash_is_of_the_name_and_the_address_as_text() {
        let head = |name: &str, ip: &str| {
            let hash = weight(&name.into(), ip.parse().unwrap());
            u32::from_be_bytes(*hash.first_chunk().unwrap())
        };
        assert_eq!(head("node-a", "10.0.0.1"), 0xdd41_591f);
        assert_eq!(head("node-b", "10.0.0.1"), 0x2aca_e885);
        assert_eq!(head("iris1", "10.20.30.1"), 0xe42a_d61a);
    }
}
