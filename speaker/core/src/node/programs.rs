//! Attaching the program to interfaces, telling it of them, and keeping VLAN tags there: the kernel
//! may refuse each.

use std::time::Instant;

use super::{Attached, Command, Node, NotAttached, Notice, RETRY, Step};
use crate::{
    cluster::LinkInfo,
    plan::{self, Attachment},
};

/// A request to the kernel, and its last result.
#[derive(Debug)]
pub(super) struct Attempt<T> {
    /// It must be made, or repeated.
    due: bool,
    /// A refusal remains until the request is granted.
    result: Option<Result<T, String>>,
}

impl<T> Default for Attempt<T> {
    fn default() -> Self {
        Self {
            due: true,
            result: None,
        }
    }
}

impl<T> Attempt<T> {
    /// The last result, once there is one.
    pub(super) fn result(&self) -> Option<&Result<T, String>> {
        self.result.as_ref()
    }

    /// What the kernel granted.
    pub(super) fn granted(&self) -> Option<&T> {
        self.result.as_ref()?.as_ref().ok()
    }

    /// Why it refused.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.result.as_ref()?.as_ref().err().map(String::as_str)
    }

    /// Repeats the request if it was refused.
    pub(super) fn try_again(&mut self) {
        self.due |= self.refusal().is_some();
    }

    /// Whether to make the request now; if so, it counts as made.
    pub(super) fn take_due(&mut self) -> bool {
        std::mem::take(&mut self.due)
    }

    fn set(&mut self, result: Result<T, String>) {
        self.due = false;
        self.result = Some(result);
    }
}

/// The most characters of a reason sent to other nodes: it must fit into a message, and the
/// beginning matters most.
const OBSTACLE: usize = 120;

impl Node {
    /// The links on which VIPs could be answered, as reported to other nodes.
    pub fn usable_links(&self) -> Vec<LinkInfo> {
        let Some(links) = &self.links else {
            return Vec::new();
        };
        let obstacle = |attachment: &Attachment| {
            let refusal = self.program_refusal(attachment.interface);
            refusal.map(str::to_owned)
        };
        let mut usable = plan::usable(links, &self.site, obstacle);
        for link in &mut usable {
            link.obstacle = link.obstacle.take().map(|reason| shortened(&reason));
        }
        usable
    }

    /// Attaches the program to all interfaces of the plan.
    pub(super) fn attach(&mut self) {
        for &interface in &self.plan.attach {
            self.held.attached.entry(interface).or_default();
        }
        if !self.settled {
            return;
        }
        // Interfaces without VIPs are included, so that no earlier agent's program is left behind.
        let due = self.held.attached.iter_mut();
        let due = due.filter_map(|(&index, program)| program.take_due().then_some(index));
        let mut due: Vec<u32> = due.collect();
        // The kernel accepts no program below a device that runs one (`dev_xdp_attach`).
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
                self.check_at.get_or_insert(now + RETRY);
            }
            Err(reason) => {
                let notice = Notice::Refused(reason.clone());
                self.failed(step, reason.clone(), notice, now);
            }
        }
        let program = self.held.attached.entry(interface).or_default();
        program.set(result);
    }

    /// Has the shell check the pins, and where the program still runs: the kernel reports the loss of
    /// neither.
    pub(super) fn check_programs(&mut self, now: Instant) {
        let attached = self.held.attached.iter();
        let running = attached.filter(|(_, program)| program.granted().is_some());
        let mut running = running.map(|(index, _)| *index).peekable();
        self.check_at = running.peek().map(|_| now + RETRY);
        if self.check_at.is_some() {
            self.commands.push_back(Command::KeepPins);
        }
        self.commands.extend(running.map(Command::CheckProgram));
    }

    pub(super) fn detached(&mut self, interface: u32) {
        let program = self.held.attached.get_mut(&interface);
        if let Some(program) = program.filter(|program| program.granted().is_some()) {
            *program = Attempt::default();
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

    pub(super) fn link_set(&mut self, interface: u32, result: Result<(), String>, now: Instant) {
        let step = Step::SetLink(interface);
        match result {
            Ok(()) if self.failures.last(&step).is_none() => return,
            Ok(()) => self.failures.forget(&step),
            Err(reason) => {
                self.held.links.remove(&interface);
                let notice = Notice::Refused(reason.clone());
                self.failed(step, reason, notice, now);
            }
        }
        self.stale = true;
    }

    /// Why the program passes all frames of an interface, or of a member of that bond, although it
    /// runs there: it does not know the link.
    pub(super) fn link_refusal(&self, interface: u32) -> Option<&str> {
        let links = self.plan.links.iter();
        let mut its = links.filter(|(_, link)| link.port == interface);
        its.find_map(|(index, _)| self.failures.last(&Step::SetLink(*index)))
    }

    /// Why the program cannot answer on an interface.
    pub(super) fn program_refusal(&self, interface: u32) -> Option<&str> {
        let program = self.held.attached.get(&interface);
        program
            .and_then(Attempt::refusal)
            .or_else(|| self.link_refusal(interface))
    }

    /// Detaches the program for a moment from the devices above an interface, if it is in the way
    /// there. If the same refusal comes again, another program is in the way, and nothing is done.
    fn make_way(&mut self, below: u32, reason: &str) -> bool {
        let Some(links) = &self.links else {
            return false;
        };
        let attached = &mut self.held.attached;
        if attached.get(&below).and_then(Attempt::refusal) == Some(reason) {
            return false;
        }
        let in_the_way = |index: &u32, program: &mut Attempt<Attached>| {
            program.granted().is_some() && links.below(*index).any(|it| it.index == below)
        };
        let above = attached.extract_if(.., in_the_way);
        let above: Vec<u32> = above.map(|(index, _)| index).collect();
        let detached = above.iter().copied().map(Command::Detach);
        self.commands.extend(detached);
        let again = above.iter().filter(|it| self.plan.attach.contains(it));
        attached.extend(again.map(|index| (*index, Attempt::default())));
        if !above.is_empty() {
            attached.insert(below, Attempt::default());
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
