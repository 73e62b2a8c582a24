//! Attaching the program to an interface, adopting an earlier attachment, and detaching it.

use std::{io, os::fd::AsFd as _};

use aya::programs::links::{FdLink, LinkError};
use speaker_core::link::{Kind, Link, Xdp, XdpMode};
use thiserror::Error;
use tracing::{info, warn};

use super::{
    Kernel,
    foreign::{Foreign, Search},
    pins::{PinError, open_link},
    program::Refusal,
};
use crate::netlink;

/// The mode to attach in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ModeChoice {
    /// Native where the driver supports it and answers arrive. What an earlier run attached stays
    /// as it is, so that restarts cost nothing.
    #[default]
    Auto,
    /// Native; generic only where that is refused. Once a driver has refused it, native mode is
    /// tried again only after the program has been detached or the host restarted: a program in
    /// generic mode would have to be detached for each try, during which nothing is answered and
    /// nothing suppressed, for some 20 ms.
    Native,
    /// Generic.
    Generic,
}

/// How the program is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The mode that the kernel says it runs in.
    pub mode: XdpMode,
    /// It replaced an earlier run's program without a gap.
    pub adopted: bool,
    /// Why the mode is generic, if that was not requested.
    pub why_generic: Option<String>,
}

/// Why the program is not attached to the interface.
#[derive(Debug, Error)]
pub enum AttachError {
    /// There is no such interface (any longer).
    #[error("interface {ifindex} no longer exists")]
    NoSuchLink {
        /// The requested one.
        ifindex: u32,
    },
    /// Another program is attached, and an interface takes only one.
    #[error(
        "{link} already runs an XDP program in {mode} mode, and takes only one: {by}. Detach that \
         one (through its owner, or with `ip link set dev {link} {flag} off`), or leave {link} to \
         it and announce on other interfaces",
        flag = match mode {
            XdpMode::Native => "xdpdrv",
            XdpMode::Generic => "xdpgeneric",
            XdpMode::Offloaded => "xdpoffload",
        }
    )]
    Occupied {
        /// The interface's name.
        link: String,
        /// Where the other one runs.
        mode: XdpMode,
        /// Its owner.
        by: Foreign,
    },
    /// The kernel accepts no program below a device that runs one (`dev_xdp_attach`).
    #[error("{link} takes no XDP program, because a device above it runs one: detach that one")]
    ProgramAbove {
        /// The interface's name.
        link: String,
    },
    /// Neither mode is possible.
    #[error("cannot attach the XDP program to {link}: {reason}")]
    Refused {
        /// The interface's name.
        link: String,
        /// What the kernel or the driver says.
        reason: String,
    },
    /// The kernel does not describe the interface.
    #[error("cannot ask the kernel about {}", netlink::name(*ifindex))]
    Unknown {
        /// Its index.
        ifindex: u32,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The attachment cannot be kept.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// What an earlier run left cannot be opened.
    #[error("cannot open the pinned attachment to {link}")]
    Left {
        /// The interface's name.
        link: String,
        /// What the kernel said.
        #[source]
        source: LinkError,
    },
}

/// The meaning of a choice for a link.
enum Plan {
    /// Native, else generic. An attachment in generic mode may stay, if not `strict`.
    Native { strict: bool },
    /// Generic, and why, if it was not requested.
    Generic(Option<&'static str>),
}

impl Plan {
    /// `is_refused`: the driver has refused native mode.
    fn new(choice: ModeChoice, kind: &Kind, is_refused: bool) -> Self {
        let only_generic = match kind {
            Kind::Plain | Kind::Bond { .. } | Kind::Veth | Kind::Other(_) => false,
            Kind::Loopback
            | Kind::Bridge
            | Kind::Vlan { .. }
            | Kind::Macvlan { .. }
            | Kind::Vrf => true,
        };
        match (choice, kind) {
            (ModeChoice::Generic, _) => Self::Generic(None),
            (ModeChoice::Native, _) => Self::Native {
                strict: !only_generic && !is_refused,
            },
            (ModeChoice::Auto, Kind::Veth) => Self::Generic(Some(
                "veth drops what a native program sends, unless its peer runs one too",
            )),
            (ModeChoice::Auto, _) if only_generic => {
                Self::Generic(Some("links of this kind have no native mode"))
            }
            (ModeChoice::Auto, _) => Self::Native { strict: false },
        }
    }

    fn accepts(&self, mode: XdpMode) -> bool {
        match self {
            Self::Native { strict: false } => true,
            Self::Native { strict: true } => mode == XdpMode::Native,
            Self::Generic(_) => mode == XdpMode::Generic,
        }
    }
}

impl Kernel {
    /// Attaches the program to the interface. It replaces an earlier run's atomically, so that each
    /// frame sees one of the two.
    ///
    /// Attaching in native mode for the first time resets the rings of some drivers, and can take
    /// a second.
    pub fn attach(&mut self, ifindex: u32, choice: ModeChoice) -> Result<Attached, AttachError> {
        let link = ask(ifindex)?;
        let refused = self.pins.why_not_native(ifindex);
        let plan = Plan::new(choice, &link.kind, refused.is_some());
        // An attachment of this run is found by its pin, like one of an earlier run. A program that
        // cannot be pinned is not attached.
        self.restore_pins()?;
        self.attached.remove(&ifindex);
        let adopted = self.adopt(&link, &plan)?;
        let why_generic = match plan {
            Plan::Generic(why) if adopted => why.map(str::to_owned),
            Plan::Native { .. } if adopted => Some(refused.map_or_else(
                || "an earlier run attached it that way".to_owned(),
                |why| {
                    format!(
                        "{why} (native mode is tried again once no agent runs and `speaker \
                         detach` has detached the program)"
                    )
                },
            )),
            plan => self.attach_new(&link, &plan)?,
        };
        let attachment = self.pins.open(ifindex)?;
        let Some(Xdp { mode, program }) = ask(ifindex)?.xdp else {
            return Err(AttachError::NoSuchLink { ifindex });
        };
        if program != self.program.id() {
            return Err(self.occupied(link, Xdp { mode, program }));
        }
        self.foreign.remove(&ifindex);
        self.attached.insert(ifindex, attachment);
        Ok(Attached {
            mode,
            adopted,
            why_generic: why_generic.filter(|_| mode == XdpMode::Generic),
        })
    }

    /// Whether the program still runs on an interface that it was attached to.
    pub fn still_runs(&self, ifindex: u32) -> Result<bool, AttachError> {
        let xdp = ask(ifindex)?.xdp;
        Ok(xdp.is_some_and(|xdp| xdp.program == self.program.id()))
    }

    /// Detaches the program from the interface. Does nothing if it is not attached, or the
    /// interface is gone.
    pub fn detach(&mut self, ifindex: u32) -> Result<(), PinError> {
        if let Some(attachment) = self.attached.remove(&ifindex) {
            self.pins.detach(ifindex, attachment.as_fd())?;
        }
        self.pins.unlink(ifindex)
    }

    /// Replaces an earlier run's program, if that is still attached in an acceptable mode;
    /// otherwise detaches it. Returns whether it replaced one.
    fn adopt(&mut self, link: &Link, plan: &Plan) -> Result<bool, AttachError> {
        let left = |source| AttachError::Left {
            link: link.name.clone(),
            source,
        };
        let pin = self.pins.link(link.index);
        let Some(pinned) = open_link(&pin).map_err(left)? else {
            return Ok(false);
        };
        let pinned = FdLink::from(pinned);
        let program = pinned.info().map_err(left)?.program_id();
        match link.xdp {
            // The pin is of an earlier interface with this index.
            None => {}
            Some(xdp) if xdp.program != program => {}
            Some(xdp) if !plan.accepts(xdp.mode) => info!(
                "{} must leave {} mode: answers pause while the program is reattached",
                link.name, xdp.mode
            ),
            Some(_) => match self.program.take_over(pinned) {
                Ok(()) => return Ok(true),
                Err(error) => warn!(
                    "cannot replace the earlier program on {} in place: answers pause while this \
                     one is attached ({})",
                    link.name,
                    reason(&error)
                ),
            },
        }
        self.pins.unlink(link.index)?;
        Ok(false)
    }

    /// Attaches where none of our programs is attached. Returns why not in native mode.
    fn attach_new(&mut self, link: &Link, plan: &Plan) -> Result<Option<String>, AttachError> {
        let why_generic = match plan {
            Plan::Generic(why) => why.map(str::to_owned),
            Plan::Native { .. } => match self.program.attach(link.index, XdpMode::Native) {
                Ok(attached) => {
                    self.pins.pin_link(link.index, attached)?;
                    return Ok(None);
                }
                Err(error) => Some(self.refusal(link, XdpMode::Native, &error)?),
            },
        };
        match self.program.attach(link.index, XdpMode::Generic) {
            Ok(attached) => {
                self.pins.pin_link(link.index, attached)?;
                if let (Plan::Native { strict: true }, Some(why)) = (plan, &why_generic) {
                    self.pins.note_why_not_native(link.index, why)?;
                }
                Ok(why_generic)
            }
            Err(error) => {
                let reason = self.refusal(link, XdpMode::Generic, &error)?;
                Err(AttachError::Refused {
                    link: link.name.clone(),
                    reason: match why_generic {
                        Some(native) if native != reason => {
                            format!("native mode: {native}; generic mode: {reason}")
                        }
                        _ => reason,
                    },
                })
            }
        }
    }

    /// Why the kernel did not attach the program; an error if the reason is another program, on the
    /// interface or above it, or that the interface is gone.
    fn refusal(
        &mut self,
        link: &Link,
        mode: XdpMode,
        error: &Refusal,
    ) -> Result<String, AttachError> {
        let now = ask(link.index)?;
        match (error.errno(), now.xdp) {
            (Some(libc::EBUSY | libc::EEXIST), Some(xdp)) => return Err(self.occupied(now, xdp)),
            (Some(libc::EEXIST), None) => {
                return Err(AttachError::ProgramAbove { link: now.name });
            }
            _ => {}
        }
        let said = self.program.fd().ok().and_then(|program| {
            netlink::refusal_of_xdp(link.index, program.as_fd(), mode).unwrap_or_default()
        });
        Ok(said.unwrap_or_else(|| reason(error)))
    }

    fn occupied(&mut self, link: Link, by: Xdp) -> AttachError {
        let known = self.foreign.remove(&link.index);
        let known = known.filter(|known| known.id() == by.program);
        let search = known.unwrap_or_else(|| Search::start(by.program, &self.bpffs));
        let found = search.so_far();
        self.foreign.insert(link.index, search);
        AttachError::Occupied {
            link: link.name,
            mode: by.mode,
            by: found,
        }
    }
}

fn ask(ifindex: u32) -> Result<Link, AttachError> {
    netlink::link(ifindex)
        .map_err(|source| AttachError::Unknown { ifindex, source })?
        .ok_or(AttachError::NoSuchLink { ifindex })
}

fn reason(error: &Refusal) -> String {
    error.errno().map_or_else(
        || error.to_string(),
        |errno| io::Error::from_raw_os_error(errno).to_string(),
    )
}
