//! Follows the kernel's messages about links and addresses.

use std::io;

use futures::{FutureExt as _, StreamExt as _, channel::mpsc::UnboundedReceiver};
use rtnetlink::{
    Handle, MulticastGroup, new_multicast_connection,
    packet_core::{
        NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    },
    packet_route::{RouteNetlinkMessage, address::AddressMessage, link::LinkMessage},
    sys::{AsyncSocket as _, SocketAddr},
};
use speaker_core::link::{Link, LinkChange};
use thiserror::Error;
use tokio::sync::mpsc;
use tracing::{debug, error, warn};

use super::{
    ethtool, parse,
    table::{Dump, Table},
};

/// Why the links cannot be watched.
#[derive(Debug, Error)]
pub enum WatchError {
    /// No socket.
    #[error("cannot open a netlink socket to watch the links: {0}")]
    Socket(#[from] io::Error),
    /// The kernel does not list its links or addresses.
    #[error("cannot list the links: {0}")]
    Dump(#[from] rtnetlink::Error),
}

/// The links, and their changes.
pub struct Watch {
    /// All links as of the beginning of the watch.
    pub links: Vec<Link>,
    /// Every change after that, in order. Closes only if the kernel's messages end, which is
    /// logged: the links are then no longer known.
    pub changes: mpsc::Receiver<LinkChange>,
}

type Message = NetlinkMessage<RouteNetlinkMessage>;

/// How many changes may wait for the reader. Messages behind them wait in netlink-proto's queue,
/// which is unbounded.
const CHANGES: usize = 256;
/// How many bytes of messages may wait in the kernel, up to its own limit.
const RECEIVE_BUFFER: usize = 1 << 20;
/// How often a dump is repeated because links changed during it. Changes that it still misses
/// arrive as messages.
const DUMP_ATTEMPTS: usize = 8;

/// Lists the links and begins to follow them, in the network namespace of the calling thread,
/// until [`Watch::changes`] is dropped. Runs on the current tokio runtime.
///
/// # Errors
///
/// The kernel refuses a netlink socket, or the first listing.
pub async fn watch() -> Result<Watch, WatchError> {
    let (mut connection, handle, messages) = new_multicast_connection(&[
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
    ])?;
    let socket = connection.socket_mut().socket_mut();
    socket.set_rx_buf_sz(libc::c_int::try_from(RECEIVE_BUFFER).expect("a small number"))?;
    tokio::spawn(connection);

    // Messages have been queued since before the listing: none is missed in between.
    let mut watcher = Watcher {
        handle,
        messages,
        table: Table::default(),
    };
    watcher.list().await?;
    let links = watcher.table.links().cloned().collect();
    let (sender, changes) = mpsc::channel(CHANGES);
    tokio::spawn(watcher.run(sender));
    Ok(Watch { links, changes })
}

struct Watcher {
    handle: Handle,
    messages: UnboundedReceiver<(Message, SocketAddr)>,
    table: Table,
}

impl Watcher {
    async fn run(mut self, changes: mpsc::Sender<LinkChange>) {
        loop {
            let message = tokio::select! {
                message = self.messages.next() => message,
                () = changes.closed() => return,
            };
            let Some((message, _)) = message else {
                error!("the kernel closed the netlink socket: links are no longer followed");
                return;
            };
            let news = match self.apply(message).await {
                Ok(news) => news,
                Err(error) => {
                    error!("{}: links are no longer followed", WatchError::from(error));
                    return;
                }
            };
            for change in news {
                if changes.send(change).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn apply(&mut self, message: Message) -> Result<Vec<LinkChange>, rtnetlink::Error> {
        let change = match message.payload {
            NetlinkPayload::InnerMessage(message) => match message {
                RouteNetlinkMessage::NewLink(message) => {
                    described(&message).and_then(|link| self.table.set(link))
                }
                RouteNetlinkMessage::DelLink(message) if parse::is_whole(&message) => {
                    self.table.remove(message.header.index)
                }
                RouteNetlinkMessage::NewAddress(message) => parse::address(&message)
                    .and_then(|(index, address)| self.table.add_address(index, address)),
                RouteNetlinkMessage::DelAddress(message) => {
                    return Ok(parse::address(&message)
                        .map(|(index, address)| self.table.remove_address(index, address))
                        .unwrap_or_default());
                }
                _ => None,
            },
            NetlinkPayload::Overrun(_) => {
                warn!("the netlink receive buffer has overflowed: listing all links again");
                return self.catch_up().await;
            }
            _ => None,
        };
        Ok(change.into_iter().collect())
    }

    /// Lists everything after messages were lost, and returns what has changed.
    ///
    /// The kernel reports a loss before the messages that it had kept. These are older than the
    /// list, and would undo it: they are dropped once the answer to a listing has arrived, which
    /// follows them, and then everything is listed again.
    async fn catch_up(&mut self) -> Result<Vec<LinkChange>, rtnetlink::Error> {
        let mut changes = Vec::new();
        let mut lost = true;
        while lost {
            changes.extend(self.list().await?);
            lost = false;
            while let Some(Some((message, _))) = self.messages.next().now_or_never() {
                lost |= matches!(message.payload, NetlinkPayload::Overrun(_));
            }
        }
        changes.extend(self.list().await?);
        changes.push(LinkChange::Missed);
        Ok(changes)
    }

    /// Lists everything, and returns what has changed.
    async fn list(&mut self) -> Result<Vec<LinkChange>, rtnetlink::Error> {
        let mut dump = Dump::default();
        for message in self
            .dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))
            .await?
        {
            if let RouteNetlinkMessage::NewLink(message) = message {
                dump.links.extend(described(&message));
            }
        }
        for message in self
            .dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))
            .await?
        {
            if let RouteNetlinkMessage::NewAddress(message) = message {
                dump.addresses.extend(parse::address(&message));
            }
        }
        Ok(self.table.replace(dump))
    }

    async fn dump(
        &mut self,
        question: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, rtnetlink::Error> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let question = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(question));
        let mut answers = Vec::new();
        for _ in 0..DUMP_ATTEMPTS {
            answers.clear();
            let mut interrupted = false;
            let mut stream = self.handle.request(question.clone())?;
            while let Some(message) = stream.next().await {
                interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    NetlinkPayload::Error(error) => {
                        return Err(rtnetlink::Error::NetlinkError(error));
                    }
                    _ => {}
                }
            }
            if !interrupted {
                break;
            }
        }
        Ok(answers)
    }
}

/// The link, with what rtnetlink leaves out.
fn described(message: &LinkMessage) -> Option<Link> {
    let mut link = parse::link(message)?;
    link.strips_vlan_tags = ethtool::strips_vlan_tags(&link.name).unwrap_or_else(|error| {
        // It was renamed or is gone, and a message will say so.
        debug!(link = link.name, "no answer about rx-vlan-offload: {error}");
        false
    });
    Some(link)
}
