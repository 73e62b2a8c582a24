//! From rtnetlink messages to plain types.

use std::net::IpAddr;

use rtnetlink::packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressMessage},
    link::{
        BondPortState, InfoBond, InfoBondPort, InfoData, InfoKind, InfoPortData, InfoVlan,
        LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, VlanProtocol, XdpAttached,
    },
};
use speaker_core::link::{Kind, Link, Xdp, XdpMode};

/// Whether the message is about the link itself. Messages of other families are about one of its
/// roles: `RTM_DELLINK` for a bridge port, for example, means that it left the bridge.
pub(super) fn is_whole(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}

/// The link, without its addresses and its VLAN offload, which the message does not have.
///
/// `None` if the message is not about the link as a whole: one of another family, or an event of a
/// wireless driver, which comes without the link's properties.
pub(super) fn link(message: &LinkMessage) -> Option<Link> {
    if !is_whole(message) {
        return None;
    }
    let mut name = None;
    let mut mtu = None;
    let mut mac = [0; 6];
    let mut carrier = message.header.flags.contains(LinkFlags::LowerUp);
    let mut master = None;
    let mut parent = 0;
    let mut parent_is_elsewhere = false;
    let mut info: &[LinkInfo] = &[];
    let mut xdp = None;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(is) => name = Some(is.clone()),
            LinkAttribute::Mtu(is) => mtu = Some(*is),
            LinkAttribute::Address(bytes) => mac = bytes.as_slice().try_into().unwrap_or_default(),
            LinkAttribute::Carrier(is) => carrier = *is != 0,
            LinkAttribute::Controller(index) => master = Some(*index),
            LinkAttribute::Link(index) => parent = *index,
            LinkAttribute::LinkNetNsId(_) => parent_is_elsewhere = true,
            LinkAttribute::LinkInfo(is) => info = is,
            LinkAttribute::Xdp(attributes) => xdp = xdp_of(attributes),
            _ => {}
        }
    }
    if parent_is_elsewhere {
        parent = 0;
    }
    Some(Link {
        index: message.header.index,
        name: name?,
        mac,
        admin_up: message.header.flags.contains(LinkFlags::Up),
        carrier,
        mtu: mtu?,
        kind: kind(message.header.flags, info, parent),
        master,
        stands_by: stands_by(info),
        addresses: Default::default(),
        strips_vlan_tags: false,
        xdp,
    })
}

/// The index of the link that the address is on, the address, and the length of its prefix.
pub(super) fn address(message: &AddressMessage) -> Option<(u32, (IpAddr, u8))> {
    let mut local = None;
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link, the other attribute holds the peer's.
            AddressAttribute::Local(is) => local = Some(*is),
            AddressAttribute::Address(is) => address = Some(*is),
            _ => {}
        }
    }
    let header = &message.header;
    Some((header.index, (local.or(address)?, header.prefix_len)))
}

fn kind(flags: LinkFlags, info: &[LinkInfo], parent: u32) -> Kind {
    if flags.contains(LinkFlags::Loopback) {
        return Kind::Loopback;
    }
    let made_of = info.iter().find_map(|part| match part {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    match made_of {
        None => Kind::Plain,
        Some(InfoKind::Veth) => Kind::Veth,
        Some(InfoKind::Bridge) => Kind::Bridge,
        Some(InfoKind::Bond) => bond(info),
        Some(InfoKind::Vrf) => Kind::Vrf,
        Some(InfoKind::MacVlan) => Kind::Macvlan { parent },
        Some(InfoKind::Vlan) => vlan(info, parent),
        Some(other) => Kind::Other(other.to_string()),
    }
}

fn bond(info: &[LinkInfo]) -> Kind {
    let active = info.iter().find_map(|part| match part {
        LinkInfo::Data(InfoData::Bond(properties)) => {
            properties.iter().find_map(|property| match property {
                InfoBond::ActivePort(index) => Some(*index),
                _ => None,
            })
        }
        _ => None,
    });
    Kind::Bond { active }
}

/// Whether the link is a standby member of a bond. In every mode with such members, the kernel
/// reports this for each, and each change of it.
fn stands_by(info: &[LinkInfo]) -> bool {
    info.iter().any(|part| match part {
        LinkInfo::PortData(InfoPortData::BondPort(properties)) => {
            properties.contains(&InfoBondPort::BondPortState(BondPortState::Backup))
        }
        _ => false,
    })
}

fn vlan(info: &[LinkInfo], parent: u32) -> Kind {
    let mut id = 0;
    let mut service = false;
    for part in info {
        let LinkInfo::Data(InfoData::Vlan(properties)) = part else {
            continue;
        };
        for property in properties {
            match property {
                InfoVlan::Id(is) => id = *is,
                InfoVlan::Protocol(is) => service = *is == VlanProtocol::Ieee8021Ad,
                _ => {}
            }
        }
    }
    Kind::Vlan {
        parent,
        id,
        service,
    }
}

fn xdp_of(attributes: &[LinkXdp]) -> Option<Xdp> {
    let mut attached = XdpAttached::None;
    let mut program = None;
    let (mut native, mut generic, mut offloaded) = (None, None, None);
    for attribute in attributes {
        match attribute {
            LinkXdp::Attached(is) => attached = *is,
            LinkXdp::ProgId(id) => program = Some(*id),
            LinkXdp::DrvProgId(id) => native = Some(*id),
            LinkXdp::SkbProgId(id) => generic = Some(*id),
            LinkXdp::HwProgId(id) => offloaded = Some(*id),
            _ => {}
        }
    }
    let (mode, program) = match attached {
        XdpAttached::Driver => (XdpMode::Native, program.or(native)),
        XdpAttached::SocketBuffer => (XdpMode::Generic, program.or(generic)),
        XdpAttached::Hardware => (XdpMode::Offloaded, program.or(offloaded)),
        // Offloaded next to one of the others, which sees a frame second.
        XdpAttached::Multiple if native.is_some() => (XdpMode::Native, native),
        XdpAttached::Multiple => (XdpMode::Generic, generic),
        _ => return None,
    };
    Some(Xdp {
        mode,
        program: program?,
    })
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::link::InfoPortKind;

    use super::*;

    fn message(attributes: Vec<LinkAttribute>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
        message.attributes = attributes;
        message
    }

    fn named() -> Vec<LinkAttribute> {
        vec![
            LinkAttribute::IfName("eth0".into()),
            LinkAttribute::Mtu(1500),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 7]),
        ]
    }

    fn info(kind: InfoKind) -> LinkAttribute {
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])
    }

    #[test]
    fn a_card_has_no_link_info() {
        let link = link(&message(named())).unwrap();
        assert_eq!(
            (link.index, link.name.as_str(), link.mtu),
            (7, "eth0", 1500)
        );
        assert_eq!(link.mac, [2, 0, 0, 0, 0, 7]);
        assert_eq!(link.kind, Kind::Plain);
        assert!(link.admin_up && link.carrier);
        assert_eq!((link.master, link.xdp), (None, None));
    }

    #[test]
    fn a_vlan_names_its_parent_its_number_and_its_tag() {
        let mut attributes = named();
        attributes.push(LinkAttribute::Link(3));
        attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vlan),
            LinkInfo::Data(InfoData::Vlan(vec![
                InfoVlan::Id(100),
                InfoVlan::Protocol(VlanProtocol::Ieee8021Ad),
            ])),
        ]));
        assert_eq!(
            link(&message(attributes)).unwrap().kind,
            Kind::Vlan {
                parent: 3,
                id: 100,
                service: true
            }
        );
    }

    #[test]
    fn a_backup_member_of_a_bond_stands_by() {
        let member = |state| {
            let mut attributes = named();
            attributes.push(LinkAttribute::Controller(9));
            attributes.push(LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bond),
                LinkInfo::PortData(InfoPortData::BondPort(vec![
                    InfoBondPort::BondPortState(state),
                    InfoBondPort::AdAggregatorId(2),
                ])),
            ]));
            link(&message(attributes)).unwrap()
        };
        let backup = member(BondPortState::Backup);
        assert_eq!((backup.kind, backup.master), (Kind::Plain, Some(9)));
        assert!(backup.stands_by);
        assert!(!member(BondPortState::Active).stands_by);
        assert!(!link(&message(named())).unwrap().stands_by);
    }

    #[test]
    fn a_parent_in_another_namespace_is_not_a_local_link() {
        let mut attributes = named();
        attributes.push(LinkAttribute::Link(3));
        attributes.push(LinkAttribute::LinkNetNsId(0));
        attributes.push(info(InfoKind::MacVlan));
        assert_eq!(
            link(&message(attributes)).unwrap().kind,
            Kind::Macvlan { parent: 0 }
        );
    }

    #[test]
    fn unknown_kinds_keep_the_kernels_name() {
        let mut attributes = named();
        attributes.push(info(InfoKind::Other("ovpn".into())));
        assert_eq!(
            link(&message(attributes)).unwrap().kind,
            Kind::Other("ovpn".into())
        );
    }

    #[test]
    fn leaving_a_bridge_does_not_remove_the_link() {
        let mut message = message(named());
        message.header.interface_family = AddressFamily::Bridge;
        assert!(!is_whole(&message));
        assert_eq!(link(&message), None);
    }

    #[test]
    fn an_event_of_a_wireless_driver_changes_nothing() {
        let only_a_name = message(vec![LinkAttribute::IfName("wlan0".into())]);
        assert_eq!(link(&only_a_name), None);
    }

    #[test]
    fn the_mode_of_a_program_is_the_kernels() {
        let attributes = |attached, ids: &[LinkXdp]| {
            let mut all = vec![LinkXdp::Attached(attached)];
            all.extend_from_slice(ids);
            xdp_of(&all)
        };
        assert_eq!(attributes(XdpAttached::None, &[]), None);
        assert_eq!(
            attributes(XdpAttached::SocketBuffer, &[LinkXdp::ProgId(4)]),
            Some(Xdp {
                mode: XdpMode::Generic,
                program: 4
            })
        );
        assert_eq!(
            attributes(
                XdpAttached::Multiple,
                &[LinkXdp::DrvProgId(5), LinkXdp::HwProgId(6)]
            ),
            Some(Xdp {
                mode: XdpMode::Native,
                program: 5
            })
        );
    }

    #[test]
    fn a_point_to_point_address_is_the_local_one() {
        let mut message = AddressMessage::default();
        message.header.index = 2;
        message.header.prefix_len = 32;
        message.attributes = vec![
            AddressAttribute::Address("192.0.2.2".parse().unwrap()),
            AddressAttribute::Local("192.0.2.1".parse().unwrap()),
        ];
        assert_eq!(
            address(&message),
            Some((2, ("192.0.2.1".parse().unwrap(), 32)))
        );
    }
}
