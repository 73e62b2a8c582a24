//! What the maps refuse, and which content is refused.

use std::net::{IpAddr, Ipv4Addr};

use aya::maps::{HashMap, Map, MapData};
use speaker::kernel::MapsError;
use speaker_common::layout::{Action, LINK_CELLS, Link, MAX_VIPS, Vip};

use crate::{common::isolated, key, open};

#[test]
fn a_full_map_says_which_and_how_many() {
    isolated(|bpffs| {
        let mut kernel = open(bpffs);
        let maps = kernel.maps_mut();
        let vip = Vip::new(Action::Suppress, 0);
        let v4 = |n: usize| key(Ipv4Addr::from_bits(n as u32), 1);
        for n in 0..MAX_VIPS {
            maps.put_vip(&v4(n), &vip).unwrap();
        }
        let error = maps.put_vip(&v4(MAX_VIPS), &vip).unwrap_err();
        assert!(
            matches!(error, MapsError::Full { map: "vips_v4", entries } if entries as usize == MAX_VIPS)
        );
        assert_eq!(
            error.to_string(),
            "the map vips_v4 is full: it has room for 65536"
        );
        maps.put_vip(&v4(7), &Vip::new(Action::Answer, 1)).unwrap();
        maps.put_vip(&key("2001:db8::1".parse::<IpAddr>().unwrap(), 1), &vip)
            .unwrap();
        maps.remove_vip(&v4(8)).unwrap();
        maps.remove_vip(&v4(8)).unwrap();
        maps.put_vip(&v4(MAX_VIPS), &vip).unwrap();
        assert_eq!(maps.vips().unwrap().len(), MAX_VIPS + 1);
    });
}

#[test]
fn a_link_without_a_free_cell_is_refused_until_one_is_free() {
    isolated(|bpffs| {
        let mut kernel = open(bpffs);
        let maps = kernel.maps_mut();
        let bond = 6;
        let link = Link::new([2, 0, 0, 0, 0, 1], bond);
        for member in 2..bond {
            maps.put_link(member, &link).unwrap();
        }
        let other = LINK_CELLS as u32 + 2;
        let error = maps.put_link(other, &link).unwrap_err();
        assert!(matches!(error, MapsError::NoCell { ifindex } if ifindex == other));
        let told = error.to_string();
        assert!(
            told.contains("no free cell for interface index 1026"),
            "{told}"
        );
        maps.remove_link(3).unwrap();
        maps.put_link(other, &link).unwrap();
    });
}

#[test]
fn an_invalid_entry_is_an_error() {
    isolated(|bpffs| {
        let kernel = open(bpffs);
        let map = MapData::from_pin(bpffs.join("speaker/v2/vips_v4")).unwrap();
        let map = Map::from_map_data(map).unwrap();
        let mut map: HashMap<MapData, [u8; 12], [u8; 8]> = map.try_into().unwrap();
        map.insert([1; 12], [9, 0, 0, 0, 0, 0, 0, 0], 0).unwrap();
        let error = kernel.maps().vips().unwrap_err();
        assert_eq!(
            error.to_string(),
            "an entry of the map vips_v4 is invalid: [09, 00, 00, 00, 00, 00, 00, 00]"
        );
    });
}
