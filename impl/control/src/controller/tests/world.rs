//! A cluster that is simulated: instances with roles and volume epochs, storage that fences, and what breaks.

use super::super::{Action, Controller, Event, Input, Kept, Limits, Look, Member, Millis, RoleSeen, Said};
use super::Defect;

/// How often each instance is looked at.
const LOOK_EVERY: u64 = 100;
/// How long a look may take.
const PATIENCE: u64 = 500;
/// The step of the simulated clock.
pub const STEP: u64 = 20;
/// How long an instance takes to become the writer.
const TAKEOVER: u64 = 400;
/// How long a promotion tries without storage.
const WITHOUT_STORAGE: u64 = 2_000;

pub struct Instance {
    pub name: String,
    pub az: String,
    pub tier: u8,
    pub size: u64,
    pub is_up: bool,
    pub is_frozen: bool,
    pub is_cut_from_control: bool,
    pub is_cut_from_storage: bool,
    /// Its region is not the primary of its global database, as it says.
    pub is_of_secondary: bool,
    /// Its PostgreSQL lets clients in, where the process runs.
    pub serves: bool,
    pub role: RoleSeen,
    pub epoch: u64,
    heard: Option<u64>,
    stalled_since: Option<u64>,
    next_look: u64,
    look: Option<(u64, u64)>,
}

impl Instance {
    /// Whether a question reaches it, and its answer comes back.
    fn answers(&self) -> bool {
        self.is_up && !self.is_frozen && !self.is_cut_from_control
    }

    fn runs(&self) -> bool {
        self.is_up && !self.is_frozen
    }
}

/// A promotion or demotion under way.
struct Work {
    name: String,
    attempt: u64,
    is_promotion: bool,
    until: u64,
}

pub struct World {
    pub now: u64,
    pub instances: Vec<Instance>,
    pub controller: Controller,
    pub events: Vec<Event>,
    /// Everyone who was asked to become the writer, and when.
    pub promotions: Vec<(u64, String)>,
    pub limits: Limits,
    /// What went wrong.
    pub violations: Vec<String>,
    storage_up: bool,
    work: Vec<Work>,
    epoch: u64,
    /// Since when the newest writer has served, and could be seen to.
    seen_to_serve: Option<u64>,
    /// Since when a reader that control reaches could hear the newest writer.
    heard_by_reader: Option<u64>,
    /// The promotion that has not ended, of one that has answered ever since, and when it was asked for.
    pending: Option<(u64, u64, String)>,
    asked_for: bool,
    kept: Kept,
}

impl World {
    /// The instances, each with AZ and tier. Nobody writes yet.
    pub fn new(instances: &[(&str, &str, u8)]) -> World {
        let instances: Vec<Instance> = instances
            .iter()
            .enumerate()
            .map(|(number, (name, az, tier))| Instance {
                name: (*name).to_owned(),
                az: (*az).to_owned(),
                tier: *tier,
                size: 0,
                is_up: true,
                is_frozen: false,
                is_cut_from_control: false,
                is_cut_from_storage: false,
                is_of_secondary: false,
                serves: true,
                role: RoleSeen::Reader,
                epoch: 0,
                heard: None,
                stalled_since: None,
                next_look: number as u64 * 7,
                look: None,
            })
            .collect();
        let limits = Limits { promotion_ms: 10_000, demotion_ms: 3_000, ..Limits::default() };
        let members = members(&instances);
        World {
            now: 0,
            instances,
            controller: Controller::new(members, limits, Kept::default()),
            events: Vec::new(),
            promotions: Vec::new(),
            limits,
            violations: Vec::new(),
            storage_up: true,
            work: Vec::new(),
            epoch: 0,
            seen_to_serve: None,
            heard_by_reader: None,
            pending: None,
            asked_for: false,
            kept: Kept::default(),
        }
    }

    /// The same, with the first one writing.
    pub fn serving(instances: &[(&str, &str, u8)]) -> World {
        let mut world = World::new(instances);
        world.become_writer(0);
        world.run(1_000);
        assert!(world.promotions.is_empty(), "{:?}", world.promotions);
        world
    }

    pub fn with_defect(mut self, defect: Defect) -> World {
        self.controller.defect = Some(defect);
        if defect == Defect::Impatient {
            self.controller.limits.silent_ms = 0;
            self.controller.limits.refused_ms = 0;
        }
        self
    }

    pub fn at(&mut self, name: &str) -> &mut Instance {
        self.instances.iter_mut().find(|instance| instance.name == name).expect("an instance")
    }

    /// SIGKILL.
    pub fn kill(&mut self, name: &str) {
        self.at(name).is_up = false;
        self.work.retain(|work| work.name != name || !work.is_promotion);
    }

    /// It comes back as a reader.
    pub fn start(&mut self, name: &str) {
        let instance = self.at(name);
        (instance.is_up, instance.is_frozen, instance.role) = (true, false, RoleSeen::Reader);
        (instance.heard, instance.stalled_since) = (None, None);
    }

    /// Whether storage answers anyone.
    pub fn set_storage(&mut self, up: bool) {
        self.storage_up = up;
    }

    /// Another process of this kind takes over from this one, with what was kept.
    pub fn restart_control(&mut self) {
        let members = members(&self.instances);
        let defect = self.controller.defect;
        let limits = self.controller.limits;
        self.controller = Controller::new(members, limits, self.kept.clone());
        self.controller.defect = defect;
        self.instances.iter_mut().for_each(|instance| instance.look = None);
        (self.pending, self.asked_for) = (None, false);
    }

    /// What a person asks for.
    pub fn request(&mut self, to: Option<&str>) -> Result<String, String> {
        let (to, actions) = self.controller.request(Millis(self.now), to).map_err(|refusal| refusal.to_string())?;
        self.asked_for = true;
        self.carry_out(actions);
        Ok(to)
    }

    pub fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.now += STEP;
            self.live();
            self.note_what_can_be_seen();
            let instances = &self.instances;
            self.pending.take_if(|(_, _, name)| !instances.iter().any(|other| other.name == *name && other.answers()));
            self.do_work();
            for index in 0..self.instances.len() {
                self.look_at(index);
            }
            if self.controller.wants_storage() {
                let answered = if self.storage_up { 6 } else { 3 };
                self.feed(Input::StorageReached { answered, needed: 4 });
            }
            self.feed(Input::Tick);
        }
    }

    /// Runs until there is a writer that serves, at most so long. Returns how long it took.
    pub fn until_served(&mut self, limit: u64) -> Option<u64> {
        let begun = self.now;
        while self.serving_now().is_none() {
            if self.now - begun >= limit {
                return None;
            }
            self.run(STEP);
        }
        Some(self.now - begun)
    }

    /// The newest writer, where it can serve.
    pub fn serving_now(&self) -> Option<&Instance> {
        let storage_up = self.storage_up;
        self.instances.iter().find(|instance| {
            instance.role == RoleSeen::Writer
                && instance.epoch == self.epoch
                && instance.runs()
                && instance.serves
                && !instance.is_cut_from_storage
                && storage_up
        })
    }

    pub fn ids(&self) -> Vec<&'static str> {
        self.events.iter().map(|event| &event.id()[10..]).collect()
    }

    pub fn promoted(&self) -> Vec<&str> {
        self.promotions.iter().map(|(_, name)| name.as_str()).collect()
    }

    fn become_writer(&mut self, index: usize) {
        self.epoch += 1;
        let instance = &mut self.instances[index];
        (instance.role, instance.epoch) = (RoleSeen::Writer, self.epoch);
    }

    /// Writers publish, and find out that they are fenced.
    fn live(&mut self) {
        let (now, epoch, storage_up) = (self.now, self.epoch, self.storage_up);
        let publishes = self
            .instances
            .iter()
            .any(|instance| instance.role == RoleSeen::Writer && instance.epoch == epoch && instance.runs());
        for instance in self.instances.iter_mut().filter(|instance| instance.runs()) {
            match instance.role {
                RoleSeen::Writer if instance.epoch < epoch && !instance.is_cut_from_storage && storage_up => {
                    (instance.role, instance.heard) = (RoleSeen::Reader, None);
                }
                RoleSeen::Writer if instance.is_cut_from_storage || !storage_up => {
                    instance.stalled_since.get_or_insert(now);
                }
                RoleSeen::Writer => instance.stalled_since = None,
                RoleSeen::Reader if publishes => {
                    (instance.heard, instance.epoch, instance.stalled_since) = (Some(now), epoch, None);
                }
                RoleSeen::Reader | RoleSeen::Changing => instance.stalled_since = None,
            }
        }
    }

    fn note_what_can_be_seen(&mut self) {
        let now = self.now;
        let serving = self.serving_now();
        let answers = serving.is_some_and(|instance| instance.answers());
        let reader = |instance: &Instance| instance.role == RoleSeen::Reader && instance.answers();
        let heard = serving.is_some() && self.instances.iter().any(reader);
        self.seen_to_serve = answers.then(|| self.seen_to_serve.unwrap_or(now));
        self.heard_by_reader = heard.then(|| self.heard_by_reader.unwrap_or(now));
    }

    fn do_work(&mut self) {
        let now = self.now;
        let (done, left) = std::mem::take(&mut self.work).into_iter().partition(|work: &Work| work.until <= now);
        self.work = left;
        for work in done {
            let outcome = self.finish(&work);
            // The answer is lost with the connection.
            let outcome = if self.at(&work.name).is_cut_from_control { Err("cut off".to_owned()) } else { outcome };
            if self.pending.as_ref().is_some_and(|(attempt, ..)| *attempt == work.attempt) && outcome.is_err() {
                self.pending = None;
            }
            self.feed(Input::Ended { attempt: work.attempt, outcome });
        }
    }

    fn finish(&mut self, work: &Work) -> Result<(), String> {
        let index = self.instances.iter().position(|instance| instance.name == work.name).expect("an instance");
        let (storage_up, instance) = (self.storage_up, &mut self.instances[index]);
        if !instance.runs() {
            instance.role = RoleSeen::Reader;
            return Err("no answer".to_owned());
        }
        if !work.is_promotion {
            instance.role = RoleSeen::Reader;
            return Ok(());
        }
        if instance.is_cut_from_storage || !storage_up {
            instance.role = RoleSeen::Reader;
            return Err("no quorum of storage".to_owned());
        }
        self.become_writer(index);
        self.pending = None;
        Ok(())
    }

    /// A look begins or ends.
    fn look_at(&mut self, index: usize) {
        let now = self.now;
        let instance = &mut self.instances[index];
        let (asked, ends) = match instance.look {
            Some(look) => look,
            None if now >= instance.next_look => {
                let look = (now, if instance.answers() || !instance.is_up { now } else { now + PATIENCE });
                *instance.look.insert(look)
            }
            None => return,
        };
        if now < ends {
            return;
        }
        instance.look = None;
        instance.next_look = now + LOOK_EVERY;
        let look = match (instance.is_up && !instance.is_frozen, instance.is_cut_from_control) {
            (_, true) => Look::Silent,
            (true, false) => Look::Said(said(instance, now)),
            (false, false) if instance.is_frozen => Look::Silent,
            (false, false) => Look::Refused,
        };
        let name = instance.name.clone();
        self.feed(Input::Looked { name, asked: Millis(asked), look });
    }

    fn feed(&mut self, input: Input) {
        if self.controller.defect == Some(Defect::ForgetPromotions) {
            self.controller.transition = None;
        }
        let actions = self.controller.step(Millis(self.now), input);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Log(event) => self.events.push(event),
                Action::Persist(kept) => self.kept = kept,
                Action::Demote { name, attempt } => {
                    self.work.push(Work { name, attempt, is_promotion: false, until: self.now + 200 });
                }
                Action::Promote { name, attempt } => self.promote(name, attempt),
            }
        }
        self.asked_for &= self.controller.under_way().is_some();
    }

    fn promote(&mut self, name: String, attempt: u64) {
        self.check_promotion(&name);
        self.promotions.push((self.now, name.clone()));
        self.pending = Some((attempt, self.now, name.clone()));
        let storage_up = self.storage_up;
        let instance = self.at(&name);
        let takes = match (instance.answers(), instance.is_cut_from_storage || !storage_up) {
            (false, _) => PATIENCE,
            (true, true) => WITHOUT_STORAGE,
            (true, false) => TAKEOVER,
        };
        if instance.answers() {
            instance.role = RoleSeen::Changing;
        }
        let until = self.now + takes;
        self.work.push(Work { name, attempt, is_promotion: true, until });
    }

    /// The rules of the module `controller` that a promotion may break.
    fn check_promotion(&mut self, name: &str) {
        let now = self.now;
        let events = format!("{:?}", self.events.iter().rev().take(3).collect::<Vec<_>>());
        let mut wrong = |what: &str| self.violations.push(format!("at {now}, {name} was promoted: {what}; {events}"));
        if let Some((_, asked, _)) = self.pending
            && now - asked < self.limits.promotion_ms
        {
            wrong("another promotion was under way");
        }
        if self.asked_for {
            return;
        }
        let longer_than = |since: Option<u64>, ms: u64| since.is_some_and(|since| now - since > ms);
        if longer_than(self.seen_to_serve, 1_500) {
            wrong("the writer answered and served");
        }
        if longer_than(self.heard_by_reader, 1_500) {
            wrong("a reader that answered heard the writer");
        }
    }
}

fn members(instances: &[Instance]) -> Vec<Member> {
    instances.iter().map(|instance| Member { name: instance.name.clone(), size: instance.size }).collect()
}

fn said(instance: &Instance, now: u64) -> Said {
    Said {
        role: instance.role,
        is_ready: instance.serves,
        az: instance.az.clone(),
        tier: instance.tier,
        volume_epoch: (instance.epoch, 0),
        read_point: instance.heard.unwrap_or(0),
        writer_heard_ms: instance.heard.map(|heard| now - heard),
        stalled_ms: instance.stalled_since.map_or(0, |since| now - since),
        is_of_secondary: instance.is_of_secondary,
    }
}
