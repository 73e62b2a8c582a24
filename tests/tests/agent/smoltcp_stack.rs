//! smoltcp as a separate host on the cable of a lab host, with a MAC and addresses that no kernel
//! has.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use smoltcp::{
    iface::{Config, Interface, SocketSet},
    phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken},
    socket::icmp,
    time,
    wire::{EthernetAddress, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpCidr},
};
use speaker_tests::{
    lab::{Host, RawSocket},
    message::Mac,
};

pub(crate) const MAC: Mac = [2, 0, 0, 0, 0, 0x99];

pub(crate) struct Stack {
    wire: Wire,
    interface: Interface,
    started: Instant,
}

impl Stack {
    /// Plugs it in next to the kernel of a host, with these addresses and their networks.
    pub(crate) fn new(host: &Host, addresses: &[&str]) -> Result<Self> {
        let mut wire = Wire(host.raw("eth0")?);
        let config = Config::new(EthernetAddress(MAC).into());
        let mut interface = Interface::new(config, &mut wire, time::Instant::ZERO);
        interface.update_ip_addrs(|own| {
            own.extend(
                addresses
                    .iter()
                    .map(|it| it.parse::<IpCidr>().expect("a network")),
            );
        });
        Ok(Self {
            wire,
            interface,
            started: Instant::now(),
        })
    }

    /// Sends an echo request, and waits for the answer.
    pub(crate) fn ping(&mut self, to: IpAddr, limit: Duration) -> Result<()> {
        const IDENTIFIER: u16 = 0x5afe;

        let room = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 1024]);
        let mut socket = icmp::Socket::new(room(), room());
        socket.bind(icmp::Endpoint::Ident(IDENTIFIER))?;
        socket.send_slice(&self.echo(to, IDENTIFIER), to.into())?;
        let mut sockets = SocketSet::new(vec![]);
        let handle = sockets.add(socket);
        let end = Instant::now() + limit;
        while Instant::now() < end {
            let now = time::Instant::from_micros(self.started.elapsed().as_micros() as i64);
            self.interface.poll(now, &mut self.wire, &mut sockets);
            let socket = sockets.get_mut::<icmp::Socket<'_>>(handle);
            if let Ok((_, from)) = socket.recv() {
                assert_eq!(from, to.into(), "an echo of someone else");
                return Ok(());
            }
        }
        bail!("smoltcp: {to} did not answer within {limit:?}")
    }

    fn echo(&mut self, to: IpAddr, ident: u16) -> Vec<u8> {
        let checksums = ChecksumCapabilities::default();
        let (seq_no, data) = (1, b"smoltcp".as_slice());
        match to {
            IpAddr::V4(_) => {
                let echo = Icmpv4Repr::EchoRequest {
                    ident,
                    seq_no,
                    data,
                };
                let mut bytes = vec![0; echo.buffer_len()];
                echo.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes), &checksums);
                bytes
            }
            IpAddr::V6(to) => {
                let echo = Icmpv6Repr::EchoRequest {
                    ident,
                    seq_no,
                    data,
                };
                let from = self.interface.get_source_address_ipv6(&to);
                let mut bytes = vec![0; echo.buffer_len()];
                let mut packet = Icmpv6Packet::new_unchecked(&mut bytes[..]);
                echo.emit(&from, &to, &mut packet, &checksums);
                bytes
            }
        }
    }
}

struct Wire(RawSocket);

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Send<'a>;

    fn receive(&mut self, _: time::Instant) -> Option<(Received, Send<'_>)> {
        // Receiving no frame is the usual case, and needs no report.
        let frame = self.0.receive(Duration::from_millis(1)).ok()?;
        Some((Received(frame.bytes), Send(&self.0)))
    }

    fn transmit(&mut self, _: time::Instant) -> Option<Send<'_>> {
        Some(Send(&self.0))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

struct Send<'a>(&'a RawSocket);

impl TxToken for Send<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut frame = vec![0; length];
        let result = write(&mut frame);
        self.0.send(&frame).expect("the cable is plugged in");
        result
    }
}
