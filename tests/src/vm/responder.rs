//! The program, loaded without the agent.

use std::{
    env, fs,
    net::IpAddr,
    sync::{LazyLock, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, Pod, TestRun as _, TestRunOptions,
    maps::{Array, HashMap},
    programs::Xdp,
};
use speaker_common::layout::{Action, Lease, Link, Vip, VipKeyV4, VipKeyV6, Vlan};
use zerocopy::transmute;

/// The program with maps of its own.
pub(super) struct Responder(Ebpf);

/// Calls a function with the one program that all checks use: to load it is what takes longest.
pub(super) fn with<T>(function: impl FnOnce(&mut Responder) -> Result<T>) -> Result<T> {
    static SHARED: LazyLock<Mutex<Result<Responder, String>>> =
        LazyLock::new(|| Mutex::new(Responder::load().map_err(|error| shortened(&error))));
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *shared {
        Ok(responder) => function(responder),
        Err(error) => bail!("{error}"),
    }
}

/// An error, of which the verifier's log may be a megabyte: what matters comes last.
fn shortened(error: &anyhow::Error) -> String {
    const LINES: usize = 60;
    let text = format!("{error:#}");
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

impl Responder {
    /// Loads the object that `SPEAKER_OBJECT` names.
    fn load() -> Result<Self> {
        let path = env::var_os("SPEAKER_OBJECT").context("SPEAKER_OBJECT names no object")?;
        let object = fs::read(&path).with_context(|| path.display().to_string())?;
        let mut responder = Self(Ebpf::load(&object)?);
        responder.program()?.load()?;
        Ok(responder)
    }

    /// Answers for VIPs on an interface, for as long as the machine is up.
    pub(super) fn answer(&mut self, ifindex: u32, mac: [u8; 6], vips: &[IpAddr]) -> Result<()> {
        let link: [u8; size_of::<Link>()] = transmute!(Link::new(mac, ifindex));
        self.insert("links", ifindex, link)?;
        for (slot, vip) in (0..).zip(vips) {
            let value: [u8; size_of::<Vip>()] = transmute!(Vip::new(Action::Answer, slot));
            let (port, vlan) = (ifindex, Vlan::default());
            match vip {
                IpAddr::V4(vip) => {
                    let address = vip.octets();
                    let key: [u8; size_of::<VipKeyV4>()] = transmute!(VipKeyV4 {
                        address,
                        port,
                        vlan
                    });
                    self.insert("vips_v4", key, value)?;
                }
                IpAddr::V6(vip) => {
                    let address = vip.octets();
                    let key: [u8; size_of::<VipKeyV6>()] = transmute!(VipKeyV6 {
                        address,
                        port,
                        vlan
                    });
                    self.insert("vips_v6", key, value)?;
                }
            }
        }
        let lease: [u8; size_of::<Lease>()] = transmute!(Lease {
            agent_deadline_ns: u64::MAX,
        });
        let map = self
            .0
            .map_mut("lease")
            .context("the object has no `lease`")?;
        let mut leases: Array<_, [u8; size_of::<Lease>()]> = map.try_into()?;
        Ok(leases.set(0, lease, 0)?)
    }

    /// Runs the program on a frame that came in on the loopback interface; returns its verdict,
    /// and the frame as it is then.
    pub(super) fn judge(&mut self, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        // Longer than any reply.
        let mut out = vec![0; 256];
        let run = self.program()?.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        })?;
        out.truncate(run.data_size_out as usize);
        Ok((run.return_value, out))
    }

    fn program(&mut self) -> Result<&mut Xdp> {
        let program = self.0.program_mut("speaker");
        Ok(program
            .context("the object has no program `speaker`")?
            .try_into()?)
    }

    fn insert<K: Pod, V: Pod>(&mut self, map: &str, key: K, value: V) -> Result<()> {
        let found = self
            .0
            .map_mut(map)
            .with_context(|| format!("the object has no `{map}`"))?;
        Ok(HashMap::try_from(found)?.insert(key, value, 0)?)
    }
}
