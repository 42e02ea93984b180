//! A few threads for what may wait: changes that need pages from storage, or room in the cache or the log.
//!
//! Requests that find everything in memory are answered by the thread that brought them and never come here. The queue
//! is as long as the kernel has requests outstanding (plus one line for each inode being trimmed), so it needs no
//! limit of its own.

use crate::inode::lock;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

type Job = Box<dyn FnOnce() + Send>;

/// The threads' queue. Dropping it lets the threads end when they have finished what they are doing.
pub(crate) struct Workers {
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Workers {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// When the operating system has no more threads.
    pub fn start(threads: usize) -> std::io::Result<Workers> {
        let workers = Workers { queue: Arc::default() };
        for index in 0..threads {
            let queue = workers.queue.clone();
            std::thread::Builder::new().name(format!("pagefs-{index}")).spawn(move || queue.work())?;
        }
        Ok(workers)
    }

    /// Has `job` done by one of the threads. A job that comes after the end is dropped, and with it its reply.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = lock(&self.queue.state);
        if !state.closed {
            state.jobs.push_back(Box::new(job));
            drop(state);
            self.queue.changed.notify_one();
        }
    }

    /// Ends the threads and forgets what they have not begun.
    pub fn close(&self) {
        let mut state = lock(&self.queue.state);
        state.closed = true;
        let forgotten = std::mem::take(&mut state.jobs);
        drop(state);
        self.queue.changed.notify_all();
        drop(forgotten);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.close();
    }
}

impl Queue {
    fn work(&self) {
        while let Some(job) = self.next() {
            job();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = lock(&self.state);
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
