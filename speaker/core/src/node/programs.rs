//! The program on its interfaces, and their VLAN tags: what the kernel may refuse, and until when.

use std::time::Instant;

use super::{Attached, Command, Node, NotAttached, Notice, RETRY, Step};
use crate::{
    cluster::LinkInfo,
    plan::{self, Attachment},
};

/// What the kernel has been asked for.
#[derive(Debug)]
pub(super) struct Tried<T> {
    /// To be asked for, or once more.
    due: bool,
    /// What came of it the last time. A refusal stands until the same is granted.
    result: Option<Result<T, String>>,
}

impl<T> Default for Tried<T> {
    fn default() -> Self {
        Self {
            due: true,
            result: None,
        }
    }
}

impl<T> Tried<T> {
    /// What came of it, once it has been asked for.
    pub(super) fn result(&self) -> Option<&Result<T, String>> {
        self.result.as_ref()
    }

    /// What the kernel has granted.
    pub(super) fn granted(&self) -> Option<&T> {
        self.result.as_ref()?.as_ref().ok()
    }

    /// Why it did not.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.result.as_ref()?.as_ref().err().map(String::as_str)
    }

    /// Asks again for what was refused.
    pub(super) fn try_again(&mut self) {
        self.due |= self.refusal().is_some();
    }

    /// Whether it is to be asked for now; it then counts as asked for.
    pub(super) fn take_due(&mut self) -> bool {
        std::mem::take(&mut self.due)
    }

    fn set(&mut self, result: Result<T, String>) {
        self.due = false;
        self.result = Some(result);
    }
}

/// The longest reason that other nodes are told. It has to fit their messages, and begins with what
/// matters.
const OBSTACLE: usize = 120;

impl Node {
    /// The links that VIPs could be answered on, as other nodes are to know them.
    pub fn usable_links(&self) -> Vec<LinkInfo> {
        let Some(links) = &self.links else {
            return Vec::new();
        };
        let obstacle = |attachment: &Attachment| {
            let program = self.held.attached.get(&attachment.interface)?;
            program.refusal().map(str::to_owned)
        };
        let mut usable = plan::usable(links, &self.site, obstacle);
        for link in &mut usable {
            link.obstacle = link.obstacle.take().map(|reason| shortened(&reason));
        }
        usable
    }

    /// Runs the program on all interfaces of the plan.
    pub(super) fn attach(&mut self) {
        for &interface in &self.plan.attach {
            self.held.attached.entry(interface).or_default();
        }
        if !self.settled {
            return;
        }
        // Also on those that have no VIP now: an earlier agent's program is not left behind.
        let due = self.held.attached.iter_mut();
        let due = due.filter_map(|(&index, program)| program.take_due().then_some(index));
        let mut due: Vec<u32> = due.collect();
        // The kernel takes no program below a device that runs one (`dev_xdp_attach`).
        let links = self.links.as_ref();
        due.sort_by_key(|index| links.map_or(0, |links| links.below(*index).count()));
        self.commands.extend(due.into_iter().map(Command::Attach));
    }

    pub(super) fn attached(
        &mut self,
        interface: u32,
        result: Result<Attached, NotAttached>,
        now: Instant,
    ) {
        self.stale = true;
        let result = match result {
            Ok(attached) => Ok(attached),
            Err(NotAttached::ProgramAbove(reason)) if self.make_way(interface, &reason) => return,
            Err(NotAttached::ProgramAbove(reason) | NotAttached::Other(reason)) => Err(reason),
        };
        let step = Step::Attach(interface);
        match &result {
            Ok(_) => {
                self.failures.forget(&step);
                self.look_at.get_or_insert(now + RETRY);
            }
            Err(reason) => {
                let notice = Notice::Refused(reason.clone());
                self.failed(step, reason.clone(), notice, now);
            }
        }
        let program = self.held.attached.entry(interface).or_default();
        program.set(result);
    }

    /// Has the shell see where the program still runs: the kernel tells nobody when it is taken off.
    pub(super) fn look(&mut self, now: Instant) {
        let attached = self.held.attached.iter();
        let running = attached.filter(|(_, program)| program.granted().is_some());
        let looks = running.map(|(index, _)| Command::Look(*index));
        let before = self.commands.len();
        self.commands.extend(looks);
        let any = self.commands.len() > before;
        self.look_at = any.then_some(now + RETRY);
    }

    pub(super) fn detached(&mut self, interface: u32) {
        let program = self.held.attached.get_mut(&interface);
        if let Some(program) = program.filter(|program| program.granted().is_some()) {
            *program = Tried::default();
            let notice = Notice::TakenOff(self.link_name(interface));
            self.commands.push_back(Command::Tell(notice));
            self.stale = true;
        }
    }

    pub(super) fn kept_tags(&mut self, interface: u32, result: Result<(), String>, now: Instant) {
        let step = Step::KeepTags(interface);
        match &result {
            Ok(()) => {
                self.failures.forget(&step);
                self.site.stripping.remove(&interface);
            }
            Err(reason) => {
                let notice = Notice::Refused(reason.clone());
                self.failed(step, reason.clone(), notice, now);
                self.site.stripping.insert(interface, reason.clone());
            }
        }
        let tags = self.held.keep_tags.entry(interface).or_default();
        tags.set(result);
        self.stale = true;
    }

    /// Takes the program off the devices above, for a moment, where that keeps it from the one
    /// below. Not twice for the same refusal: the program in the way is then somebody else's.
    fn make_way(&mut self, below: u32, reason: &str) -> bool {
        let Some(links) = &self.links else {
            return false;
        };
        let attached = &mut self.held.attached;
        if attached.get(&below).and_then(Tried::refusal) == Some(reason) {
            return false;
        }
        let in_the_way = |index: &u32, program: &mut Tried<Attached>| {
            program.granted().is_some() && links.below(*index).any(|it| it.index == below)
        };
        let above = attached.extract_if(.., in_the_way);
        let above: Vec<u32> = above.map(|(index, _)| index).collect();
        let detached = above.iter().copied().map(Command::Detach);
        self.commands.extend(detached);
        let again = above.iter().filter(|it| self.plan.attach.contains(it));
        attached.extend(again.map(|index| (*index, Tried::default())));
        if !above.is_empty() {
            attached.insert(below, Tried::default());
        }
        !above.is_empty()
    }
}

fn shortened(reason: &str) -> String {
    match reason.char_indices().nth(OBSTACLE) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason.to_owned(),
    }
}
