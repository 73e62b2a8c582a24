//! The eBPF objects inside this binary, and the shapes of their maps.

use std::collections::BTreeMap;

use aya::EbpfError;
use aya_obj::{Object, generated::bpf_map_type::BPF_MAP_TYPE_RINGBUF};
use tracing::Level;
use zerocopy::IntoBytes as _;

use super::{pins::MAPS, program::LoadError};

static NORMAL: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/speaker"));
static TRACED: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/speaker-traced"));

/// One of the two builds of the same program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Build {
    /// The one that runs by default.
    Normal,
    /// The one that logs frames, at this level and above.
    Traced(Level),
}

impl Build {
    pub(super) fn with_log_level(level: Option<Level>) -> Self {
        level.map_or(Self::Normal, Self::Traced)
    }

    /// The object; an error if the binary was built without the BPF toolchain.
    pub(super) fn object(self) -> Result<&'static [u8], LoadError> {
        let object = match self {
            Self::Normal => NORMAL,
            Self::Traced(_) => TRACED,
        };
        if object.is_empty() {
            return Err(LoadError::NotBuilt);
        }
        Ok(object)
    }

    /// The shapes of all pinned maps.
    pub(super) fn shapes(self) -> Result<BTreeMap<&'static str, Shape>, LoadError> {
        let object = Object::parse(self.object()?).map_err(EbpfError::from)?;
        let shape = |name: &&'static str| {
            let map = object.maps.get(*name)?;
            let shape = Shape {
                map_type: map.map_type(),
                key_size: map.key_size(),
                // A ring's records have no type in the kernel.
                value_size: if map.map_type() == BPF_MAP_TYPE_RINGBUF as u32 {
                    0
                } else {
                    map.value_size()
                },
                max_entries: map.max_entries(),
                flags: map.map_flags(),
            };
            Some((*name, shape))
        };
        Ok(MAPS.iter().filter_map(shape).collect())
    }
}

/// What a map is created with. aya reuses a pinned map whatever its shape, so the two are compared
/// first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) map_type: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) flags: u32,
}

/// The object for kernels without multi-buffer XDP (before 5.18).
///
/// The loader asks for it by the name of the program's section, `xdp.frags`. Cut at the dot, in
/// every string table, the name is that of a plain XDP program.
pub(super) fn without_fragments(object: &[u8]) -> AlignedBytes {
    const NAME: &[u8] = b"xdp.frags\0";
    const DOT: usize = 3;
    let mut copy = AlignedBytes::new(object);
    let bytes = copy.words.as_mut_bytes();
    let places: Vec<usize> = bytes
        .windows(NAME.len())
        .enumerate()
        .filter_map(|(place, window)| (window == NAME).then_some(place))
        .collect();
    for place in places {
        bytes[place + DOT] = 0;
    }
    copy
}

/// Bytes aligned as ELF needs them.
pub(super) struct AlignedBytes {
    words: Vec<u64>,
    length: usize,
}

impl AlignedBytes {
    fn new(bytes: &[u8]) -> Self {
        let mut words = vec![0_u64; bytes.len().div_ceil(size_of::<u64>())];
        words.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        Self {
            words,
            length: bytes.len(),
        }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.words.as_bytes()[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use aya_obj::ProgramSection;
    use speaker_common::{
        layout::{
            Counters, EVENT_RING_BYTES, LINK_CELLS, LinkCell, MAX_SLOTS, MAX_VIPS, Probes, Tap,
            Vip, VipKeyV4, VipKeyV6,
        },
        lease::{AgentLease, PeersLease},
        probe,
        respond::Reason,
    };

    use super::*;

    const BUILDS: [Build; 2] = [Build::Normal, Build::Traced(Level::INFO)];

    #[test]
    fn both_builds_hold_the_maps_that_the_agent_reads() {
        for build in BUILDS {
            let shapes = build.shapes().unwrap();
            let object = Object::parse(build.object().unwrap()).unwrap();
            // The log's ring and constants belong to one load of the program.
            let lasts = |name: &&String| *name != "AYA_LOGS" && !name.starts_with('.');
            let mut lasting: Vec<&String> = object.maps.keys().filter(lasts).collect();
            lasting.sort_unstable();
            let mut pinned = MAPS.to_vec();
            pinned.sort_unstable();
            assert_eq!(lasting, pinned, "a map that is not pinned forgets");

            let sizes = |name: &str| {
                let shape = shapes[name];
                (shape.key_size, shape.value_size, shape.max_entries)
            };
            let of = |key: usize, value: usize, entries: usize| {
                (key as u32, value as u32, entries as u32)
            };
            assert_eq!(sizes("links"), of(4, size_of::<LinkCell>(), LINK_CELLS));
            assert_eq!(
                sizes("vips_v4"),
                of(size_of::<VipKeyV4>(), size_of::<Vip>(), MAX_VIPS)
            );
            assert_eq!(
                sizes("vips_v6"),
                of(size_of::<VipKeyV6>(), size_of::<Vip>(), MAX_VIPS)
            );
            assert_eq!(sizes("counters"), of(4, size_of::<Counters>(), MAX_SLOTS));
            assert_eq!(sizes("reasons"), of(4, 8, Reason::ALL.len()));
            assert_eq!(sizes("lease"), of(4, size_of::<AgentLease>(), 1));
            assert_eq!(sizes("peers"), of(4, size_of::<PeersLease>(), 1));
            assert_eq!(sizes("probes"), of(4, size_of::<Probes>(), 1));
            assert_eq!(sizes("scratch"), of(4, probe::LENGTH, 1));
            assert_eq!(sizes("tap"), of(4, size_of::<Tap>(), 1));
            assert_eq!(sizes("events"), of(0, 0, EVENT_RING_BYTES));
        }
    }

    #[test]
    fn one_object_loads_with_and_without_fragments() {
        let wants_fragments = |object: &[u8]| {
            let object = Object::parse(object).unwrap();
            let program = &object.programs["speaker"];
            assert!(object.functions.contains_key(&program.function_key()));
            match program.section {
                ProgramSection::Xdp { frags, .. } => frags,
                ref other => panic!("not an XDP program: {other:?}"),
            }
        };
        for build in BUILDS {
            let object = build.object().unwrap();
            assert!(wants_fragments(object));
            assert!(!wants_fragments(without_fragments(object).as_slice()));
        }
    }
}
