//! Sends announcements.
#![forbid(unsafe_code)]

use std::{io, os::fd::AsFd as _};

use nix::{
    errno::Errno,
    sys::socket::{setsockopt, sockopt::SndBufForce},
};
use socket2::{Domain, Socket, Type};
use speaker_core::announce::{Announcement, Outcome};

use super::packet::{self, Outgoing};

/// Bytes for frames in the queues of links: room for several thousand.
const SEND_BUFFER: usize = 4 << 20;

/// One packet socket, for all links. It receives nothing.
#[derive(Debug)]
pub struct Sender {
    socket: Socket,
}

/// The outcome of an announcement's frames.
#[derive(Debug, Default)]
pub struct Delivery {
    /// How many were sent.
    pub frames: usize,
    /// Why one was not: the link is down (`ENETDOWN`), is gone (`ENXIO`, `ENODEV`), or its queue is
    /// full (`ENOBUFS`, `EAGAIN`).
    pub error: Option<Errno>,
}

impl Delivery {
    /// The outcome for the announcer.
    pub const fn outcome(&self) -> Outcome {
        match self.frames {
            0 => Outcome::Failed,
            _ => Outcome::Sent,
        }
    }
}

impl Sender {
    /// Opens the socket. It sends in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// `EPERM` without CAP_NET_RAW.
    pub fn new() -> io::Result<Self> {
        // A socket of protocol 0 receives nothing, and costs other traffic nothing.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        // Needs CAP_NET_ADMIN; with the default size, a batch may need several attempts.
        if let Err(error) = setsockopt(&socket, SndBufForce, &SEND_BUFFER) {
            tracing::debug!(%error, "cannot enlarge the send buffer for announcements");
        }
        Ok(Self { socket })
    }

    /// Sends a batch without waiting: a frame that cannot be sent now is dropped. Returns one
    /// delivery for each announcement, in order. Failures on one link do not delay another.
    pub fn send(&self, announcements: &[Announcement]) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        deliveries.resize_with(announcements.len(), Delivery::default);
        let (owners, frames): (Vec<_>, Vec<_>) = announcements
            .iter()
            .enumerate()
            .flat_map(|(owner, announcement)| {
                let link = announcement.link;
                let outgoing = move |frame| (owner, Outgoing { link, frame });
                announcement.frames.iter().map(outgoing)
            })
            .unzip();

        let mut next = 0;
        while next < frames.len() {
            match packet::send(self.socket.as_fd(), &frames[next..]) {
                Ok(sent) => {
                    for owner in &owners[next..next + sent] {
                        deliveries[*owner].frames += 1;
                    }
                    next += sent;
                }
                Err(Errno::EINTR) => {}
                Err(error) => {
                    deliveries[owners[next]].error = Some(error);
                    next += 1;
                }
            }
        }
        deliveries
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Instant};

    use nix::sys::socket::{
        AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket,
        sockopt::{RcvBufForce, ReceiveTimeout},
    };
    use nix::sys::time::{TimeVal, TimeValLike as _};
    use speaker_core::announce::{Announcer, Config};

    use super::{
        super::testing::{Pair, in_namespace, ip, tc},
        *,
    };

    const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x77];

    /// The announcements of these VIPs on these links, in batches as large as necessary.
    fn announcements(vips: impl IntoIterator<Item = (IpAddr, u32)>) -> Vec<Announcement> {
        let now = Instant::now();
        let config = Config {
            batch: usize::MAX,
            ..Config::default()
        };
        let mut announcer = Announcer::new(&config, now);
        for (vip, link) in vips {
            announcer.link_up(link, MAC, now);
            announcer.take_over(vip, link, now);
        }
        announcer.poll(now)
    }

    fn vips(count: u32) -> impl Iterator<Item = IpAddr> {
        (0..count).flat_map(|n| {
            let v4 = IpAddr::from((0xc612_0000 + n).to_be_bytes());
            let v6 = IpAddr::from((0x2001_0db8_u128 << 96 | u128::from(n)).to_be_bytes());
            [v4, v6]
        })
    }

    /// What arrives on the links of the namespace.
    struct Receiver(std::os::fd::OwnedFd);

    impl Receiver {
        fn new() -> Self {
            let socket = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::empty(),
                SockProtocol::EthAll,
            )
            .unwrap();
            setsockopt(&socket, RcvBufForce, &(64 << 20)).unwrap();
            setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(200)).unwrap();
            Self(socket)
        }

        /// The frames from [`MAC`] that arrived on this link, in order.
        fn frames(&self, link: u32) -> Vec<Vec<u8>> {
            use std::os::fd::AsRawFd as _;
            /// PACKET_OUTGOING (packet(7)).
            const OUTGOING: u8 = 4;
            let mut frames = Vec::new();
            let mut buffer = [0xa5; 256];
            while let Ok((length, from)) = recvfrom::<LinkAddr>(self.0.as_raw_fd(), &mut buffer) {
                let from: &nix::libc::sockaddr_ll = from.as_ref().unwrap().as_ref();
                if from.sll_ifindex as u32 == link
                    && from.sll_pkttype != OUTGOING
                    && buffer[6..12] == MAC
                {
                    frames.push(buffer[..length].to_vec());
                }
            }
            frames
        }
    }

    #[test]
    fn a_peer_receives_the_frames_of_a_batch_as_they_were_built() {
        in_namespace(|| {
            let pair = Pair::new("near", "far");
            let receiver = Receiver::new();
            // More frames than one `sendmmsg` takes (1,024).
            let batch = announcements(vips(1_000).map(|vip| (vip, pair.near)));
            let deliveries = Sender::new().unwrap().send(&batch);

            let sent: usize = deliveries.iter().map(|delivery| delivery.frames).sum();
            assert_eq!(sent, 3_000);
            assert!(deliveries.iter().all(|delivery| delivery.error.is_none()));
            // A link drops only what arrives faster than the machine can receive it.
            let mut built = batch
                .iter()
                .flat_map(|announcement| announcement.frames.iter().map(<[u8]>::to_vec));
            let received = receiver.frames(pair.far);
            for frame in &received {
                assert!(
                    built.any(|built| built == *frame),
                    "{frame:02x?} was not built, came twice, or too late"
                );
            }
            assert!(received.len() > 500, "{} frames came", received.len());
        });
    }

    #[test]
    fn a_frame_that_cannot_be_sent_does_not_delay_others() {
        in_namespace(|| {
            let pair = Pair::new("near", "far");
            let down = Pair::new("down", "peer");
            ip("link set dev down down");
            let receiver = Receiver::new();
            let [a, b, c, d] = [1, 2, 3, 4].map(|n| IpAddr::from([192, 0, 2, n]));
            const NO_LINK: u32 = 999_999;
            let batch =
                announcements([(a, NO_LINK), (b, down.near), (c, pair.near), (d, pair.near)]);
            let mut told: Vec<_> = batch
                .iter()
                .zip(Sender::new().unwrap().send(&batch))
                .map(|(announcement, delivery)| {
                    (
                        announcement.vip,
                        delivery.frames,
                        delivery.error,
                        delivery.outcome(),
                    )
                })
                .collect();
            told.sort_by_key(|(vip, ..)| *vip);
            assert_eq!(
                told,
                [
                    (a, 0, Some(Errno::ENXIO), Outcome::Failed),
                    (b, 0, Some(Errno::ENETDOWN), Outcome::Failed),
                    (c, 2, None, Outcome::Sent),
                    (d, 2, None, Outcome::Sent),
                ]
            );
            assert_eq!(receiver.frames(pair.far).len(), 4);
        });
    }

    #[test]
    fn a_full_queue_is_reported_without_waiting() {
        in_namespace(|| {
            let pair = Pair::new("near", "far");
            // A queue with room for an ARP frame, and none for an advertisement.
            tc("qdisc add dev near root bfifo limit 50");
            let receiver = Receiver::new();
            let batch = announcements(vips(2).map(|vip| (vip, pair.near)));
            for (announcement, delivery) in batch.iter().zip(Sender::new().unwrap().send(&batch)) {
                let (frames, error) = match announcement.vip {
                    IpAddr::V4(_) => (2, None),
                    IpAddr::V6(_) => (0, Some(Errno::ENOBUFS)),
                };
                assert_eq!((delivery.frames, delivery.error), (frames, error));
            }
            assert_eq!(receiver.frames(pair.far).len(), 4);
        });
    }
}
