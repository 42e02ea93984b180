//! The driver's four promises, with a machine that only counts.

use super::*;
use auriga_protocol::{Lsn, Party, VolumeEpoch, VolumeId, WriterId};
use std::convert::Infallible;
use std::sync::{Arc, OnceLock, Weak};

/// Appends a numbered entry for each timer input, answers each request with how many there were.
struct Counter(u64);

impl Machine for Counter {
    type Id = &'static str;
    type Config = ();
    type Survived = ();
    type Party = Party;
    type Message = Infallible;
    type Entry = u64;
    type Task = Infallible;
    type Outcome = Infallible;
    type Timer = u8;
    type Request = ();
    type Answer = u64;

    fn boot(_: &(), _: &'static str, (): (), _: Micros, effects: &mut Effects<Self>) -> Self {
        effects.set_timer(0, Micros(1));
        Counter(0)
    }

    fn step(&mut self, _: Micros, input: Input<Self>, effects: &mut Effects<Self>) {
        match input {
            Input::Timer(timer) => {
                assert_ne!(timer, 13, "planted");
                self.0 += 1;
                effects.append(AppendId(self.0), self.0);
                effects.note(Note::Durable {
                    volume: VolumeId(1),
                    volume_epoch: VolumeEpoch::new(1, WriterId(1)),
                    vdl: Lsn(self.0),
                });
            }
            Input::Request { token, .. } => effects.answer(token, self.0),
            _ => {}
        }
    }
}

#[derive(Default)]
struct Recorder {
    appended: Mutex<Vec<u64>>,
    timers: Mutex<Vec<u8>>,
    settled: Mutex<u64>,
    /// Steps whose notes were told, and then said to be complete.
    told: Mutex<u64>,
    noted: Mutex<u64>,
    answers: Mutex<Vec<u64>>,
    driver: OnceLock<Weak<Driver<Counter, Recorder>>>,
}

impl Ports<Counter> for Recorder {
    fn send(&self, _: Party, message: Infallible) {
        match message {}
    }
    fn multicast(&self, _: Vec<Party>, message: Infallible) {
        match message {}
    }
    fn append(&self, id: AppendId, entry: u64) {
        assert_eq!(id.0, entry);
        assert_eq!(*lock(&self.noted), entry, "its notes come first");
        lock(&self.appended).push(entry);
    }
    fn start(&self, task: Infallible) {
        match task {}
    }
    fn set_timer(&self, timer: u8, _: Micros) {
        lock(&self.timers).push(timer);
    }
    fn observe(&self, _: Micros, _: &Note) {
        *lock(&self.told) += 1;
    }
    fn flush_observations(&self) {
        *lock(&self.noted) = *lock(&self.told);
    }
    fn flush_outboxes(&self) {
        *lock(&self.settled) += 1;
    }
    fn answer(&self, token: Token, answer: u64) {
        lock(&self.answers).push(answer);
        // An answer may ask again: with a lock held this would never return.
        let driver = self.driver.get().and_then(Weak::upgrade).expect("the test holds it");
        if token.0 > 0 {
            driver.input(Input::Request { token: Token(token.0 - 1), request: () });
        }
    }
}

fn counter() -> Arc<Driver<Counter, Recorder>> {
    let driver = Arc::new(Driver::boot(&(), "counter", (), Recorder::default()));
    driver.ports().driver.set(Arc::downgrade(&driver)).expect("set once");
    driver
}

#[test]
fn boot_effects_wait_for_the_first_step() {
    let driver = counter();
    assert!(lock(&driver.ports().timers).is_empty());
    driver.release_boot_effects();
    assert_eq!(*lock(&driver.ports().timers), [0]);
}

#[test]
fn effects_keep_the_order_of_their_steps_over_threads() {
    let driver = counter();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| driver.input(Input::Timer(0))));
        }
    });
    assert_eq!(*lock(&driver.ports().appended), (1..=2000).collect::<Vec<_>>());
    assert_eq!(*lock(&driver.ports().settled), 2000);
}

#[test]
fn who_is_answered_may_ask_again() {
    let driver = counter();
    driver.input(Input::Request { token: Token(3), request: () });
    assert_eq!(lock(&driver.ports().answers).len(), 4);
}

/// Runs itself in a child process, because the panic must end the process even where tokio would swallow it.
#[test]
fn a_broken_invariant_ends_the_process_with_a_clear_line() {
    const CHILD: &str = "AURIGA_TEST_BROKEN_INVARIANT";
    if std::env::var_os(CHILD).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().build().expect("a runtime");
        let swallowed = runtime.block_on(runtime.spawn(async { counter().input(Input::Timer(13)) }));
        println!("tokio swallowed it: {}", swallowed.is_err());
        return;
    }
    let (_, module) = module_path!().split_once("::").expect("below the crate");
    let name = format!("{module}::a_broken_invariant_ends_the_process_with_a_clear_line");
    let mut child = std::process::Command::new(std::env::current_exe().expect("this test"));
    let output = child.args([&name, "--exact", "--nocapture"]).env(CHILD, "1").output().expect("it runs");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("broken invariant in \"counter\""), "{said}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("swallowed"));
}
