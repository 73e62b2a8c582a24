//! Rebalancing: an even spread with the fewest moves.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
};

use super::{Cluster, io::Reason, moves::MoveRequest, name::NodeName};

impl Cluster {
    pub(super) fn on_rebalance(&mut self) {
        self.moves.cancel_waiting(Reason::Rebalance);
        let names = self.peers.keys().chain([&self.name]);
        let mut spread = Spread::new(names.filter(|name| self.is_eligible(name)).cloned());
        // Followers move with their leaders.
        let leaders = self.seats.iter().filter(|(_, it)| it.follows.is_none());
        for (vip, seat) in leaders {
            let bound_for = self.moves.target(*vip).cloned();
            if let Some(owner) = bound_for.or_else(|| self.owner(*vip)) {
                spread.place(*vip, &owner, &seat.order);
            }
        }
        let why = Reason::Rebalance;
        for (vip, to) in spread.level() {
            self.moves.enqueue(vip, MoveRequest { to, why });
        }
    }
}

/// Which nodes own which VIPs, and which could own them equally well. Nodes are numbered.
struct Spread {
    numbers: BTreeMap<NodeName, usize>,
    /// Classes of nodes that could own a VIP equally well: few, however many VIPs there are.
    classes: Vec<Vec<usize>>,
    class_numbers: BTreeMap<Vec<bool>, usize>,
    /// The VIPs of each node, by class. Those that have moved come last, and are the first to move
    /// again.
    owned: Vec<BTreeMap<usize, Vec<Vip>>>,
    loads: Vec<usize>,
    /// How often a node was considered as the target of a move.
    #[cfg(test)]
    looks: usize,
}

#[derive(Clone, Copy)]
struct Vip {
    address: IpAddr,
    /// Its owner before any move.
    home: usize,
}

/// A move of a VIP of this class from one node to another.
#[derive(Clone, Copy)]
struct Step {
    class: usize,
    from: usize,
    to: usize,
}

impl Spread {
    fn new(nodes: impl Iterator<Item = NodeName>) -> Self {
        let names: BTreeSet<NodeName> = nodes.collect();
        let numbers: BTreeMap<NodeName, usize> = names.into_iter().zip(0..).collect();
        Self {
            owned: vec![BTreeMap::new(); numbers.len()],
            loads: vec![0; numbers.len()],
            numbers,
            classes: Vec::new(),
            class_numbers: BTreeMap::new(),
            #[cfg(test)]
            looks: 0,
        }
    }

    /// Adds a VIP, unless its owner is not one of the nodes or not a candidate.
    fn place(&mut self, vip: IpAddr, owner: &NodeName, order: &[(NodeName, i64)]) {
        let Some(home) = self.numbers.get(owner).copied() else {
            return;
        };
        let Some((_, score)) = order.iter().find(|(name, _)| name == owner) else {
            return;
        };
        let mut equals = vec![false; self.numbers.len()];
        for (name, _) in order.iter().filter(|(_, other)| other == score) {
            if let Some(number) = self.numbers.get(name) {
                equals[*number] = true;
            }
        }
        let class = match self.class_numbers.get(&equals) {
            Some(class) => *class,
            None => {
                let nodes = (0..equals.len()).filter(|node| equals[*node]);
                self.classes.push(nodes.collect());
                self.class_numbers.insert(equals, self.classes.len() - 1);
                self.classes.len() - 1
            }
        };
        let vips = self.owned[home].entry(class).or_default();
        vips.push(Vip { address: vip, home });
        self.loads[home] += 1;
    }

    /// The moves after which no node can pass a VIP, directly or through others, to one that has
    /// two fewer. Each round moves one VIP's worth of load from a fullest node to the emptiest one
    /// within reach, by a shortest chain.
    fn level(&mut self) -> BTreeMap<IpAddr, NodeName> {
        let mut moved = BTreeMap::new();
        // Nodes that cannot be relieved now cannot be later: later moves happen among nodes out of
        // their reach.
        let mut open: Vec<usize> = (0..self.loads.len()).collect();
        while let Some(most) = open.iter().map(|node| self.loads[*node]).max() {
            let (fullest, others): (Vec<usize>, Vec<usize>) =
                open.iter().partition(|node| self.loads[**node] == most);
            let Some(chain) = self.chain(&fullest) else {
                open = others;
                continue;
            };
            for step in chain {
                let vip = self.take(&step);
                if vip.home == step.to {
                    moved.remove(&vip.address);
                } else {
                    moved.insert(vip.address, step.to);
                }
            }
        }
        let names: Vec<&NodeName> = self.numbers.keys().collect();
        let named = |(vip, to): (IpAddr, usize)| (vip, names[to].clone());
        moved.into_iter().map(named).collect()
    }

    fn take(&mut self, step: &Step) -> Vip {
        let Step { class, from, to } = *step;
        let vips = self.owned[from]
            .get_mut(&class)
            .expect("the chain takes a VIP from here");
        let vip = vips.pop().expect("no set of VIPs is empty");
        if vips.is_empty() {
            self.owned[from].remove(&class);
        }
        self.owned[to].entry(class).or_default().push(vip);
        self.loads[from] -= 1;
        self.loads[to] += 1;
        vip
    }

    /// A chain of steps that relieves one of these equally loaded nodes of a VIP; the last step
    /// first.
    fn chain(&mut self, fullest: &[usize]) -> Option<Vec<Step>> {
        let mut step_to: Vec<Option<Step>> = vec![None; self.loads.len()];
        let mut reached = vec![false; self.loads.len()];
        let mut seen = vec![false; self.classes.len()];
        for node in fullest {
            reached[*node] = true;
        }
        let mut queue: VecDeque<usize> = fullest.iter().copied().collect();
        let mut emptiest = fullest[0];
        while let Some(from) = queue.pop_front() {
            if self.loads[from] < self.loads[emptiest] {
                emptiest = from;
            }
            for class in self.owned[from].keys().copied() {
                if std::mem::replace(&mut seen[class], true) {
                    continue;
                }
                for to in self.classes[class].iter().copied() {
                    #[cfg(test)]
                    {
                        self.looks += 1;
                    }
                    if !std::mem::replace(&mut reached[to], true) {
                        step_to[to] = Some(Step { class, from, to });
                        queue.push_back(to);
                    }
                }
            }
        }
        let last = |step: &Step| step_to[step.from];
        let chain = std::iter::successors(step_to[emptiest], last);
        (self.loads[emptiest] + 2 <= self.loads[fullest[0]]).then(|| chain.collect())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const NODES: [&str; 4] = ["a", "b", "c", "d"];

    /// VIPs by owner and equals: `"a:ab"` is owned by a, and could be by b.
    fn spread<'a>(vips: impl IntoIterator<Item = &'a str>) -> Spread {
        let mut spread = Spread::new(NODES.into_iter().map(NodeName::from));
        for (vip, at) in vips.into_iter().zip(0_u32..) {
            let (owner, equals) = vip.split_once(':').unwrap();
            let order: Vec<(NodeName, i64)> = equals
                .chars()
                .map(|name| (name.to_string().into(), 0))
                .collect();
            spread.place(Ipv4Addr::from(at).into(), &owner.into(), &order);
        }
        spread
    }

    fn moves(vips: &[&str]) -> Vec<(usize, String)> {
        let moves = spread(vips.iter().copied()).level();
        let at = |vip| match vip {
            IpAddr::V4(vip) => u32::from(vip) as usize,
            IpAddr::V6(_) => unreachable!("all are of IPv4"),
        };
        moves
            .into_iter()
            .map(|(vip, to)| (at(vip), to.into()))
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
    fn nodes_neither_too_full_nor_too_empty_are_left_alone() {
        let vips = [["a:abc"; 10].as_slice(), &["b:abc"; 5]].concat();
        let moved = moves(&vips);
        assert_eq!(moved.len(), 5);
        assert!(moved.iter().all(|(vip, to)| *vip < 10 && to == "c"));
    }

    #[test]
    fn a_vip_moves_only_to_equally_good_nodes() {
        assert_eq!(moves(&["a:a", "a:a", "a:ab"]), [(2, "b".into())]);
        assert_eq!(moves(&["a:a", "a:a", "a:a", "b:b"]), []);
    }

    #[test]
    fn a_chain_relieves_a_node_without_a_direct_move() {
        let moved = moves(&["a:ab", "a:ab", "a:ab", "b:bc", "b:bc", "c:c"]);
        assert_eq!(moved, [(2, "b".into()), (4, "c".into())]);
    }

    #[test]
    fn each_moved_vip_considers_few_nodes() {
        let mut spread = spread((0..10_000).map(|_| "a:abc"));
        let moved = spread.level();
        assert_eq!(moved.len(), 6_666);
        assert!(spread.looks < 10 * moved.len(), "{} looks", spread.looks);
    }
    /// The sum of squared loads: the smaller, the more even.
    fn unevenness(owners: &[usize]) -> usize {
        let load = |node| owners.iter().filter(|owner| **owner == node).count();
        (0..NODES.len()).map(|node| load(node).pow(2)).sum()
    }

    fn most_even(equals: &[Vec<usize>], owners: &mut Vec<usize>) -> usize {
        let Some(choices) = equals.get(owners.len()) else {
            return unevenness(owners);
        };
        let spreads = choices.iter().map(|owner| {
            owners.push(*owner);
            let least = most_even(equals, owners);
            owners.pop();
            least
        });
        spreads.min().unwrap()
    }

    proptest! {
        #[test]
        fn no_spread_is_more_even(
            equals in prop::collection::vec(
                prop::sample::subsequence(vec![0, 1, 2, 3], 1..=4),
                1..7,
            ),
        ) {
            let mut owners: Vec<usize> = equals.iter().map(|equals| equals[0]).collect();
            let vips: Vec<String> = equals
                .iter()
                .map(|equals| {
                    let names: Vec<&str> = equals.iter().map(|node| NODES[*node]).collect();
                    format!("{}:{}", names[0], names.concat())
                })
                .collect();
            let vips: Vec<&str> = vips.iter().map(String::as_str).collect();
            for (vip, to) in moves(&vips) {
                owners[vip] = NODES.iter().position(|name| *name == to).unwrap();
            }
            prop_assert_eq!(unevenness(&owners), most_even(&equals, &mut Vec::new()));
        }
    }
}
