//! An API server, a network that loses and delays, users, and controllers that stall.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use fastrand::Rng;

use super::{
    super::{Command, Input, Leader, Term, Timing},
    server::Server,
};
use crate::allocate::{
    Allocator, Service,
    testing::{name, pool, service},
};

/// Which safeguard is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sabotage {
    None,
    LeaseIgnoresVersion,
    LeaseForgetsEntries,
    StatusIgnoresVersion,
    /// Nor does the watch begin where the lists end.
    ListsAreOld,
}

const CONTROLLERS: usize = 3;
const SERVICES: usize = 7;

pub(super) struct World {
    random: Rng,
    now: Instant,
    server: Server,
    controllers: Vec<Controller>,
    requests: Vec<Request>,
    answers: Vec<(usize, u64, Input)>,
    steps: u32,
    is_calm: bool,
}

struct Controller {
    leader: Leader,
    /// Counts the processes: responses to an earlier one are lost.
    process: u64,
    paused: bool,
    /// What it wants to watch, and what it watches.
    wanted: Option<Term>,
    watch: Option<Watch>,
}

struct Watch {
    term: Term,
    /// The list, before the watch.
    listed: VecDeque<Input>,
    at: usize,
}

struct Request {
    from: usize,
    process: u64,
    command: Command,
    /// Nobody waits for the response any longer.
    is_orphan: bool,
    /// It arrives after this step.
    slow_until: u32,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "a start for virtual time")]
    pub(super) fn new(seed: u64, sabotage: Sabotage) -> Self {
        let mut world = Self {
            random: Rng::with_seed(seed),
            now: Instant::now(),
            server: Server::new(sabotage),
            controllers: Vec::new(),
            requests: Vec::new(),
            answers: Vec::new(),
            steps: 0,
            is_calm: false,
        };
        for index in 0..CONTROLLERS {
            let controller = world.controller(index, 0);
            world.controllers.push(controller);
        }
        world.edit_pool();
        world
    }

    fn controller(&self, index: usize, process: u64) -> Controller {
        let me = format!("controller-{index}-{process}");
        Controller {
            leader: Leader::new(me, Timing::default(), self.now),
            process,
            paused: false,
            wanted: None,
            watch: None,
        }
    }

    /// One random step.
    pub(super) fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        let index = self.random.usize(0..CONTROLLERS);
        match self.random.u32(0..1_000) {
            0..300 => self.serve()?,
            300..500 => self.answer(),
            500..700 => self.observe(),
            700..800 => self.pass(),
            800..830 => self.time_out(),
            830..840 => self.controllers[index].paused ^= true,
            840..856 => {
                let process = self.controllers[index].process + 1;
                self.controllers[index] = self.controller(index, process);
            }
            856..910 => self.edit_service(),
            910..913 => self.edit_pool(),
            _ => (),
        }
        Ok(())
    }

    /// Heals everything: in the end every Service has what it can have.
    pub(super) fn calm(&mut self) -> Result<(), String> {
        self.is_calm = true;
        for controller in &mut self.controllers {
            controller.paused = false;
        }
        for _ in 0..400 {
            while !self.requests.is_empty() || !self.answers.is_empty() {
                while !self.requests.is_empty() {
                    self.serve()?;
                }
                self.answer();
            }
            for index in 0..CONTROLLERS {
                while self.observe_one(index) {}
            }
            if self.requests.is_empty() && self.answers.is_empty() {
                self.now += Duration::from_millis(200);
                (0..CONTROLLERS).for_each(|it| self.tell(it, Input::Tick));
            }
        }
        let leading = self.controllers.iter().filter(|it| it.leader.is_leading());
        if leading.count() != 1 {
            return Err("there is not one leader".to_owned());
        }
        let mut judge = Allocator::default();
        self.server
            .services
            .values()
            .for_each(|it| judge.apply(it.clone()));
        self.server
            .pools
            .values()
            .for_each(|(it, _)| judge.apply_pool(it.clone()));
        judge.settle();
        for service in self.server.services.values() {
            let (_, outcome) = judge.service(&service.name).expect("it is there");
            if outcome.addresses != service.shown || outcome.pool != service.shown_pool {
                let Service { name, shown, .. } = service;
                return Err(format!(
                    "{name} has {shown:?}, and could have {outcome:?}; {:?}",
                    self.server.lease
                ));
            }
        }
        for (name, usage) in judge.usage() {
            if self.server.pools[name].1 != Some(usage) {
                return Err(format!("the counters of {name} are not {usage:?}"));
            }
        }
        Ok(())
    }

    /// The API server carries out one request.
    fn serve(&mut self) -> Result<(), String> {
        if self.requests.is_empty() {
            return Ok(());
        }
        let index = self.random.usize(0..self.requests.len());
        if self.requests[index].slow_until > self.steps && !self.is_calm {
            return Ok(());
        }
        let Request {
            from,
            process,
            command,
            is_orphan,
            ..
        } = self.requests.swap_remove(index);
        let answer = match command {
            Command::Read => Input::Read(self.server.lease.clone()),
            Command::Swap(lease) => self.server.swap(lease),
            Command::Write(write) => self.server.write(write)?,
            Command::WritePool(write) => self.server.write_pool(write),
            Command::Watch(term) => {
                self.list(from, process, term);
                return Ok(());
            }
            Command::Forget | Command::Tell(_) => unreachable!("these are no requests"),
        };
        if !is_orphan {
            self.answers.push((from, process, answer));
        }
        Ok(())
    }

    fn list(&mut self, to: usize, process: u64, term: Term) {
        let at = self.server.now();
        let of = match self.server.sabotage {
            Sabotage::ListsAreOld => at.saturating_sub(self.random.usize(0..40)),
            _ => at,
        };
        let mut listed = self.server.list(term, of);
        let controller = &mut self.controllers[to];
        if controller.process == process && controller.wanted == Some(term) {
            self.random.shuffle(&mut listed);
            let listed = listed.into_iter().chain([Input::Listed(term)]).collect();
            controller.watch = Some(Watch { term, listed, at });
        }
    }

    /// A response arrives.
    fn answer(&mut self) {
        if self.answers.is_empty() {
            return;
        }
        let index = self.random.usize(0..self.answers.len());
        let (to, process, _) = &self.answers[index];
        let controller = &self.controllers[*to];
        if controller.process == *process && controller.paused {
            return;
        }
        let is_lost = controller.process != *process;
        let (to, _, input) = self.answers.swap_remove(index);
        if !is_lost {
            self.tell(to, input);
        }
    }

    /// A client gives up on a request, which may still arrive.
    fn time_out(&mut self) {
        let waiting = self.requests.iter_mut().filter(|it| !it.is_orphan);
        let mut waiting: Vec<_> = waiting.collect();
        if waiting.is_empty() {
            return;
        }
        let index = self.random.usize(0..waiting.len());
        let request = &mut waiting[index];
        let input = match &request.command {
            Command::Read => Input::Unread,
            Command::Swap(_) => Input::NotSwapped,
            Command::Write(write) => Input::Wrote(write.term, write.id, false),
            Command::WritePool(write) => Input::WrotePool(write.term, write.name.clone(), false),
            // The lists are retried until they arrive.
            Command::Watch(_) | Command::Forget | Command::Tell(_) => return,
        };
        request.is_orphan = true;
        self.answers.push((request.from, request.process, input));
    }

    fn observe(&mut self) {
        let index = self.random.usize(0..CONTROLLERS);
        if !self.controllers[index].paused {
            self.observe_one(index);
        }
    }

    /// The next event of a controller's watch, if there is one.
    fn observe_one(&mut self, index: usize) -> bool {
        let Some(watch) = &mut self.controllers[index].watch else {
            return false;
        };
        let input = match watch.listed.pop_front() {
            Some(input) => input,
            None => match self.server.after(watch.at) {
                Some(change) => {
                    watch.at += 1;
                    Input::Changed(watch.term, change.clone())
                }
                None => return false,
            },
        };
        self.tell(index, input);
        true
    }

    fn pass(&mut self) {
        let longest = if self.random.u8(0..10) == 0 {
            20_000
        } else {
            1_500
        };
        self.now += Duration::from_millis(self.random.u64(0..longest));
        for index in 0..CONTROLLERS {
            let controller = &self.controllers[index];
            let is_due = controller
                .leader
                .poll_timeout()
                .is_some_and(|it| it <= self.now);
            if !controller.paused && is_due {
                self.tell(index, Input::Tick);
            }
        }
    }

    fn tell(&mut self, index: usize, input: Input) {
        let controller = &mut self.controllers[index];
        controller.leader.handle(input, self.now);
        while let Some(command) = controller.leader.next_command() {
            match command {
                Command::Tell(_) => (),
                Command::Forget => {
                    controller.wanted = None;
                    controller.watch = None;
                }
                command => {
                    if let Command::Watch(term) = command {
                        controller.wanted = Some(term);
                    }
                    let is_slow = matches!(command, Command::Write(_)) && self.random.bool();
                    let slow = if is_slow { 200 } else { 1 };
                    self.requests.push(Request {
                        from: index,
                        process: controller.process,
                        command,
                        is_orphan: false,
                        slow_until: self.steps + self.random.u32(0..slow),
                    });
                }
            }
        }
    }

    /// A user creates, deletes or edits a Service.
    fn edit_service(&mut self) {
        let of = format!("service-{}", self.random.usize(0..SERVICES));
        let asking = format!("10.0.0.{}", self.random.u8(0..6));
        let version = self.server.tick();
        let Some(old) = self.server.services.get(&name(&of)) else {
            let mut new = service(&of).created(self.random.i64(0..1_000));
            if self.random.u8(0..3) == 0 {
                new = new.sharing("key", &format!("TCP/{}", self.random.u8(1..3)));
            }
            if self.random.u8(0..3) == 0 {
                new = new.asking(&asking);
            }
            new.uid = format!("uid-{version}");
            new.version = version;
            self.server.apply(new);
            return;
        };
        let edited = format!("edited={version}");
        let mut new = old.clone();
        new.version = version;
        match self.random.u8(0..6) {
            0..=2 => return self.server.delete(&name(&of)),
            3 => new.requested = Ok(Vec::new()),
            4 => new = new.asking(&asking),
            _ => new = new.labelled(&edited),
        }
        self.server.apply(new);
    }

    /// An administrator moves the pool.
    fn edit_pool(&mut self) {
        let first = self.random.u8(0..3);
        let last = first + self.random.u8(2..4);
        let pool = pool("lan", &format!("10.0.0.{first}-10.0.0.{last}"));
        self.server.apply_pool(pool);
    }
}

#[test]
fn the_invariant_check_can_fail() {
    let mut server = Server::new(Sabotage::None);
    for of in ["a", "b"] {
        server.apply(service(of).showing("10.0.0.1"));
    }
    assert_eq!(
        server.check(),
        Err("default/a and default/b have both 10.0.0.1".to_owned())
    );
}
