//! `speaker watch`.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, value_parser};
use http_body_util::BodyExt as _;
use pcap_file::pcapng::{
    PcapNgWriter,
    blocks::{
        enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
        interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
    },
};
use speaker_core::describe::Description;

use super::{
    StateDir, block_on,
    output::{note, print},
};
use crate::api::{Client, FrameEvent, FrameRecord, OTHER_VERSION, WatchLine};

/// Show the frames that the program handles, live
///
/// tcpdump on this node does not see what the driver answers. One line per request: time, interface,
/// outcome, and the request. Press ctrl-C to stop.
#[derive(Debug, Args)]
pub(super) struct Watch {
    #[command(flatten)]
    state_dir: StateDir,

    /// Show replies too, each on its own line
    #[arg(short, long)]
    replies: bool,

    /// Write all frames, including replies, to a pcapng file for Wireshark
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,

    /// Stop after this many lines
    #[arg(short, long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    count: Option<u64>,
}

impl Watch {
    pub(super) fn run(self) -> Result<()> {
        block_on(async {
            tokio::select! {
                result = self.watch() => result,
                result = tokio::signal::ctrl_c() => Ok(result?),
            }
        })
    }

    async fn watch(&self) -> Result<()> {
        let mut client = Client::connect(&self.state_dir.path).await?;
        let mut capture = self.pcap.clone().map(Capture::create).transpose()?;
        let mut body = client.watch().await?;
        note("watching; press ctrl-C to stop");

        let mut shown = 0;
        let mut buffer = Vec::new();
        // The stream never ends by itself: when the agent ends, it is cut off.
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else {
                continue;
            };
            buffer.extend_from_slice(&data);
            while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                match serde_json::from_slice(&line).context(OTHER_VERSION)? {
                    WatchLine::Lost { lost } => {
                        print(&format!("… {lost} frames lost: too many at once\n"))?
                    }
                    WatchLine::Frame(record) => {
                        if let Some(capture) = &mut capture {
                            capture.write(&record)?;
                        }
                        if record.event == FrameEvent::Reply && !self.replies {
                            continue;
                        }
                        print(&format!("{}\n", text(&record)))?;
                        shown += 1;
                        if self.count == Some(shown) {
                            return Ok(());
                        }
                    }
                }
            }
        }
        bail!("the agent has stopped: watch again once it runs")
    }
}

/// One line: time of day (UTC), interface and VLAN, outcome, and what the frame says.
fn text(record: &FrameRecord) -> String {
    let time = UNIX_EPOCH + Duration::from_nanos(record.time_ns);
    let stamp = humantime::format_rfc3339_micros(time).to_string();
    let time_of_day = stamp
        .split_once('T')
        .map_or(stamp.as_str(), |(_, time)| time.trim_end_matches('Z'));
    let description = Description::of(&record.frame);
    let (vlan, message) = description.map_or((String::new(), String::new()), |description| {
        let vlan = match (description.vlan.service, description.vlan.id) {
            (0, 0) => String::new(),
            (0, id) => format!(".{id}"),
            (service, id) => format!(".{service}.{id}"),
        };
        (vlan, description.message.to_string())
    });
    let event = match &record.reason {
        Some(reason) => format!("{} ({reason})", record.event),
        None => record.event.to_string(),
    };
    format!(
        "{time_of_day} {}{vlan} {event:<10} {message}",
        record.interface
    )
}

/// A pcapng file: frames with their interface and direction, and the outcome as a comment.
struct Capture {
    path: PathBuf,
    writer: PcapNgWriter<BufWriter<File>>,
    interfaces: Vec<String>,
}

impl Capture {
    fn create(path: PathBuf) -> Result<Self> {
        let file = File::create(&path)
            .with_context(|| format!("cannot write {} (--pcap)", path.display()))?;
        let writer = PcapNgWriter::new(BufWriter::new(file))?;
        Ok(Self {
            path,
            writer,
            interfaces: Vec::new(),
        })
    }

    fn write(&mut self, record: &FrameRecord) -> Result<()> {
        /// Nanoseconds: 10^-9 (pcapng, `if_tsresol`).
        const NANOSECONDS: u8 = 9;
        /// Direction in the low two bits (pcapng, `epb_flags`).
        const INBOUND: u32 = 1;
        const OUTBOUND: u32 = 2;

        let known = self
            .interfaces
            .iter()
            .position(|name| *name == record.interface);
        let interface = match known {
            Some(interface) => interface,
            None => {
                self.writer.write_pcapng_block(InterfaceDescriptionBlock {
                    linktype: pcap_file::DataLink::ETHERNET,
                    snaplen: 0,
                    options: vec![
                        InterfaceDescriptionOption::IfName(record.interface.as_str().into()),
                        InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
                    ],
                })?;
                self.interfaces.push(record.interface.clone());
                self.interfaces.len() - 1
            }
        };
        let comment = match &record.reason {
            Some(reason) => format!("{}: {reason}", record.event),
            None => record.event.to_string(),
        };
        let direction = if record.event == FrameEvent::Reply {
            OUTBOUND
        } else {
            INBOUND
        };
        self.writer.write_pcapng_block(EnhancedPacketBlock {
            interface_id: interface as u32,
            timestamp: Duration::from_nanos(record.time_ns),
            original_len: u32::from(record.length),
            data: record.frame.as_slice().into(),
            options: vec![
                EnhancedPacketOption::Comment(comment.as_str().into()),
                EnhancedPacketOption::Flags(direction),
            ],
        })?;
        let file = self.writer.get_mut();
        file.flush()
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}
