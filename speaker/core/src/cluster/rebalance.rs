//! An even spread with the fewest moves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    Cluster,
    io::Reason,
    message::{BATCH, Body},
    name::{NodeName, VipKey},
};

/// A VIP's owner, and the nodes that could own it as well as it does.
pub(super) struct Placed {
    pub(super) owner: NodeName,
    pub(super) equals: BTreeSet<NodeName>,
}

impl Cluster {
    pub(super) fn on_rebalance(&mut self) {
        let mut placed = BTreeMap::new();
        // The others follow by themselves.
        let leaders = self.seats.iter().filter(|(_, it)| it.follows.is_none());
        for (key, seat) in leaders {
            let Some(owner) = self.owner_of(*key) else {
                continue;
            };
            let score = seat.order.iter().find(|(name, _)| *name == owner);
            let Some((_, score)) = score.filter(|(name, _)| self.is_fit(name)) else {
                continue;
            };
            let equals = seat
                .order
                .iter()
                .filter(|(name, other)| other == score && self.is_fit(name))
                .map(|(name, _)| name.clone())
                .collect();
            placed.insert(*key, Placed { owner, equals });
        }
        let mut orders: BTreeMap<(NodeName, NodeName), Vec<VipKey>> = BTreeMap::new();
        for (key, to) in spread(&placed) {
            let from = placed[&key].owner.clone();
            orders.entry((from, to)).or_default().push(key);
        }
        let why = Reason::Rebalance;
        for ((from, to), keys) in orders {
            for keys in keys.chunks(BATCH) {
                let keys = keys.to_vec();
                if from == self.name {
                    self.on_move_asked(keys, &to, why);
                } else {
                    let to = to.clone();
                    self.send(&from, Body::Move { keys, to, why });
                }
            }
        }
    }
}

/// The moves after which no node could be relieved of a VIP by one with two fewer: one at a
/// time, along the shortest chain from a node to one that has at least two VIPs fewer.
pub(super) fn spread(placed: &BTreeMap<VipKey, Placed>) -> BTreeMap<VipKey, NodeName> {
    let mut owners: BTreeMap<VipKey, NodeName> = placed
        .iter()
        .map(|(key, placed)| (*key, placed.owner.clone()))
        .collect();
    while let Some(chain) = shortest_chain(placed, &owners) {
        owners.extend(chain);
    }
    owners.retain(|key, owner| placed[key].owner != *owner);
    owners
}

fn shortest_chain(
    placed: &BTreeMap<VipKey, Placed>,
    owners: &BTreeMap<VipKey, NodeName>,
) -> Option<Vec<(VipKey, NodeName)>> {
    let mut owned: BTreeMap<&NodeName, Vec<VipKey>> = BTreeMap::new();
    for name in placed.values().flat_map(|placed| &placed.equals) {
        owned.entry(name).or_default();
    }
    for (key, owner) in owners {
        owned.entry(owner).or_default().push(*key);
    }
    let mut fullest: Vec<&NodeName> = owned.keys().copied().collect();
    fullest.sort_by_key(|name| std::cmp::Reverse(owned[name].len()));
    for start in fullest {
        let load = owned[start].len();
        let mut reached: BTreeMap<&NodeName, (VipKey, &NodeName)> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            if owned[at].len() + 2 <= load {
                let mut chain = Vec::new();
                let mut to = at;
                while let Some((key, from)) = reached.get(to) {
                    chain.push((*key, to.clone()));
                    to = from;
                }
                return Some(chain);
            }
            for key in &owned[at] {
                for next in &placed[key].equals {
                    if next != start && !reached.contains_key(next) {
                        reached.insert(next, (*key, at));
                        queue.push_back(next);
                    }
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// VIPs by owner and equals: `"a:ab"` is owned by a, and could be by b.
    fn moves(vips: &[&str]) -> Vec<(usize, String)> {
        let placed = vips
            .iter()
            .enumerate()
            .map(|(at, vip)| {
                let (owner, equals) = vip.split_once(':').unwrap();
                let equals = equals.chars().map(|name| name.to_string().into()).collect();
                let owner = owner.into();
                (VipKey([at as u8; 16]), Placed { owner, equals })
            })
            .collect();
        spread(&placed)
            .into_iter()
            .map(|(key, to)| (usize::from(key.0[0]), to.into()))
            .collect()
    }

    #[test]
    fn an_even_spread_stays() {
        assert_eq!(moves(&["a:abc", "b:abc", "c:abc", "a:abc"]), []);
    }

    #[test]
    fn only_the_surplus_moves() {
        let moved = moves(&["a:abc"; 6]);
        assert_eq!(moved.len(), 4);
        let to = |name| moved.iter().filter(|(_, to)| to == name).count();
        assert_eq!((to("b"), to("c")), (2, 2));
    }

    #[test]
    fn a_group_moves_only_to_its_equals() {
        assert_eq!(moves(&["a:a", "a:a", "a:ab"]), [(2, "b".into())]);
        assert_eq!(moves(&["a:a", "a:a", "a:a", "b:b"]), []);
    }

    #[test]
    fn a_chain_relieves_a_node_that_has_no_direct_way() {
        assert_eq!(
            moves(&["a:ab", "a:ab", "b:bc", "b:bc"]),
            [(0, "b".into()), (2, "c".into())].map(|(key, to): (usize, String)| (key, to))
        );
    }
}
