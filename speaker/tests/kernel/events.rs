//! The program's events.

use std::{
    io,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use speaker::kernel::now;
use speaker_common::layout::EventKind;
use tokio::time::timeout;
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

use crate::{MAC, VIP, agent, client, common::isolated_async, counted, pinned};

#[test]
fn conflicts_are_always_reported_and_the_rest_only_to_watchers() {
    isolated_async(|bpffs| async move {
        let (mut kernel, port, client) = agent(&bpffs);
        let mut events = kernel.events().unwrap();
        let mut next = async || {
            timeout(Duration::from_secs(60), events.next())
                .await
                .expect("an event")
                .unwrap()
        };
        assert_eq!(client.ask(VIP), Some(MAC));
        let claim = client::claim(VIP);
        client.send(&claim);
        let event = next().await;
        assert_eq!((event.kind, event.ifindex), (EventKind::Claimed, port));
        assert_eq!(event.length, 42);
        assert_eq!(event.frame[..42], claim);
        assert!(event.time_ns <= now());

        kernel.maps_mut().set_watched(true).unwrap();
        assert!(kernel.maps().watched().unwrap());
        assert_eq!(client.ask(VIP), Some(MAC));
        let asked = next().await;
        assert_eq!(asked.kind, EventKind::Answered);
        assert_eq!(asked.frame[..42], client::request(VIP));
        let reply = next().await;
        assert_eq!(reply.kind, EventKind::Reply);
        assert_eq!(reply.frame[..6], client::MAC);

        kernel.maps_mut().set_watched(false).unwrap();
        assert_eq!(client.ask(VIP), Some(MAC));
        client.send(&claim);
        assert_eq!(next().await.kind, EventKind::Claimed, "nothing in between");
    });
}

#[test]
fn the_traced_build_logs_through_tracing() {
    isolated_async(|bpffs| async move {
        let said = Said::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::DEBUG)
            .with_ansi(false)
            .with_writer(said.clone())
            .finish();
        // The records are read on another thread.
        tracing::subscriber::set_global_default(subscriber).unwrap();

        let (mut kernel, port, client) = agent(&bpffs);
        let (link, program) = pinned(&bpffs, port);
        kernel.set_ebpf_log_level(Some(Level::DEBUG)).unwrap();
        let (link_now, traced) = pinned(&bpffs, port);
        assert_eq!(link_now, link);
        assert_ne!(traced, program);
        assert_eq!(client.ask(VIP), Some(MAC));
        // Neither request nor reply.
        let mut strange = client::request(VIP);
        strange[21] = 7;
        client.send(&strange);
        for record in ["answered", "rejected (arp-operation)"] {
            let record = format!("DEBUG ebpf: port: {record}");
            timeout(Duration::from_secs(60), async {
                while !said.text().contains(&record) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
            .await
            .unwrap_or_else(|_| panic!("{record} is not said: {}", said.text()));
        }

        kernel.set_ebpf_log_level(Some(Level::WARN)).unwrap();
        assert_ne!(
            pinned(&bpffs, port).1,
            traced,
            "other levels, another program"
        );
        kernel.set_ebpf_log_level(None).unwrap();
        assert_eq!(pinned(&bpffs, port), (link, kernel.program_id()));
        assert_eq!(counted(kernel.maps()).answered, 1);
    });
}

/// The agent has only this thread, to renew its lease and to watch the other nodes.
#[test]
fn a_storm_of_logged_frames_does_not_block_the_agent() {
    isolated_async(|bpffs| async move {
        const STORM: Duration = Duration::from_secs(3);
        let (mut kernel, _, client) = agent(&bpffs);
        kernel.set_ebpf_log_level(Some(Level::DEBUG)).unwrap();
        let end = Instant::now() + STORM;
        let storm = thread::spawn(move || {
            while Instant::now() < end {
                client.send(&client::request(VIP));
            }
        });
        let mut longest = Duration::ZERO;
        while Instant::now() < end {
            let since = Instant::now();
            tokio::time::sleep(Duration::from_millis(1)).await;
            longest = longest.max(since.elapsed());
        }
        storm.join().unwrap();
        assert!(longest < STORM / 2, "{longest:?}");
    });
}

/// What was logged.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl MakeWriter<'_> for Said {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
