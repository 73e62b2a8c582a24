//! A node's map of VIPs in its kernel.

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, Map, MapData};
use speaker_common::layout::{Action, LAYOUT_VERSION, Vip, VipKeyV4, Vlan};
use zerocopy::{TryFromBytes as _, transmute};

use crate::lab::Host;

type Key = [u8; size_of::<VipKeyV4>()];
type Value = [u8; size_of::<Vip>()];

/// `vips_v4` of one node.
pub(super) struct Vips {
    map: HashMap<MapData, Key, Value>,
    /// Of the only link.
    port: u32,
}

impl Vips {
    /// Opens what an agent has pinned.
    pub(super) fn open(host: &Host) -> Result<Self> {
        let pin = format!("/sys/fs/bpf/speaker/v{LAYOUT_VERSION}/vips_v4");
        let data = host.run(|| MapData::from_pin(&pin));
        let data = data.with_context(|| format!("{pin} on {}", host.name()))?;
        let index = || nix::net::if_::if_nametoindex("eth0");
        Ok(Self {
            map: HashMap::try_from(Map::HashMap(data))?,
            port: host.run(index)?,
        })
    }

    /// Whether this node answers for the VIP.
    pub(super) fn answers(&self, address: [u8; 4]) -> bool {
        let key = VipKeyV4 {
            address,
            port: self.port,
            vlan: Vlan::default(),
        };
        let key: Key = transmute!(key);
        self.map.get(&key, 0).is_ok_and(|value| is_answer(&value))
    }

    /// How many VIPs this node answers for.
    pub(super) fn answering(&self) -> Result<usize> {
        let mut count = 0;
        for entry in self.map.iter() {
            let (_, value) = entry?;
            count += usize::from(is_answer(&value));
        }
        Ok(count)
    }
}

fn is_answer(value: &Value) -> bool {
    Vip::try_read_from_bytes(value).is_ok_and(|vip| vip.action == Action::Answer)
}
