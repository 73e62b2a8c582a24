//! The modelled network: which paths are open, and what happens to a packet.

use fastrand::Rng;

use super::node::MS;

const US: u64 = 1_000;

/// What the network does to packets; chances are in parts per million.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    pub(super) loss: u32,
    pub(super) twice: u32,
    pub(super) late: u32,
}

#[derive(Debug)]
pub(super) struct Net {
    nodes: usize,
    pub(super) weather: Weather,
    /// Counts what closes each path, from row to column.
    closed: Vec<u32>,
    /// When each path was last closed.
    last_closed: Vec<Option<u64>>,
    /// Probes are dropped everywhere; messages pass.
    pub(super) probes_blocked: bool,
}

impl Net {
    pub(super) fn new(nodes: usize, weather: Weather) -> Self {
        Self {
            nodes,
            weather,
            closed: vec![0; nodes * nodes],
            last_closed: vec![None; nodes * nodes],
            probes_blocked: false,
        }
    }

    pub(super) fn close(&mut self, from: usize, to: usize) {
        self.closed[from * self.nodes + to] += 1;
    }

    pub(super) fn open(&mut self, from: usize, to: usize, now: u64) {
        let way = from * self.nodes + to;
        self.closed[way] -= 1;
        if self.closed[way] == 0 {
            self.last_closed[way] = Some(now);
        }
    }

    pub(super) fn is_open(&self, from: usize, to: usize) -> bool {
        self.closed[from * self.nodes + to] == 0
    }

    /// Whether the paths between two nodes have been open both ways for this long.
    pub(super) fn connected(&self, one: usize, other: usize, now: u64, span: u64) -> bool {
        [(one, other), (other, one)].into_iter().all(|(from, to)| {
            self.is_open(from, to)
                && self.last_closed[from * self.nodes + to].is_none_or(|at| now >= at + span)
        })
    }

    /// The delays after which copies of a packet arrive.
    pub(super) fn transit(&self, rng: &mut Rng, from: usize, to: usize) -> Vec<u64> {
        let mut happens = |ppm: u32| rng.u32(0..1_000_000) < ppm;
        if !self.is_open(from, to) || happens(self.weather.loss) {
            return Vec::new();
        }
        let copies = 1 + usize::from(happens(self.weather.twice));
        let late = happens(self.weather.late);
        (0..copies)
            .map(|copy| {
                if late || copy > 0 && rng.bool() {
                    rng.u64(MS..3_000 * MS)
                } else {
                    rng.u64(50 * US..400 * US)
                }
            })
            .collect()
    }
}
