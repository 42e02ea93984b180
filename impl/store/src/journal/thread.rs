//! The journal's writer thread.

use super::files::Files;
use super::format::Chunk;
use super::spares::Purpose;
use super::{Queue, Shared, lock};
use crate::error::Failure;
use crate::store::StoreEvents;
use std::sync::PoisonError;
use std::time::Duration;

/// How long to wait before trying again when there is no room for another journal file.
const ROOM_RETRY: Duration = Duration::from_millis(100);

/// Writes batches until told to stop. Reports the first failure, and ends.
pub(super) fn run(shared: &Shared, mut files: Files, events: &dyn StoreEvents) {
    let mut tidying = Chunk::default();
    loop {
        let chunk = match next(shared, &mut files) {
            Next::Stop => return,
            Next::Write(chunk) => Some(chunk),
            Next::Tidy => None,
        };
        let done = chunk.map_or(Ok(()), |chunk| write(shared, &mut files, chunk, &mut tidying, events));
        let done = done.and_then(|()| tidy(&mut files, &mut tidying));
        if let Err(failure) = done {
            return events.failed(&failure);
        }
        lock(&shared.queue).files = files.used.len() + files.retired.len();
    }
}

enum Next {
    Write(Chunk),
    Tidy,
    Stop,
}

/// Waits for something to do.
fn next(shared: &Shared, files: &mut Files) -> Next {
    let idle = |queue: &mut Queue| queue.chunks.is_empty() && queue.floors.is_empty() && !queue.stop;
    let mut queue = lock(&shared.queue);
    if !files.is_untidy() || queue.stop {
        queue = shared.changed.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner);
    }
    queue.floors.drain(..).for_each(|(segment, floor)| files.live.set_floor(segment, floor));
    match queue.chunks.pop_front() {
        Some(chunk) => Next::Write(chunk),
        None if queue.stop => Next::Stop,
        None => Next::Tidy,
    }
}

fn write(
    shared: &Shared,
    files: &mut Files,
    mut chunk: Chunk,
    tidying: &mut Chunk,
    events: &dyn StoreEvents,
) -> Result<(), Failure> {
    let mut waiting = false;
    let written = loop {
        match files.write(&mut chunk, Purpose::Appends) {
            Err(failure) if failure.is_no_space() && lock(&shared.queue).stop => break false,
            // The bytes are not acknowledged, so the writer counts on other segments until there is room again.
            Err(failure) if failure.is_no_space() => {
                if !std::mem::replace(&mut waiting, true) {
                    tracing::debug!(%failure, "the journal waits for room");
                    shared.space.wait(true);
                }
                take_floors(shared, files);
                make_room(files, tidying)?;
                std::thread::sleep(ROOM_RETRY);
            }
            done => {
                done?;
                break true;
            }
        }
    };
    if waiting {
        shared.space.wait(false);
    }
    if !written {
        return Ok(());
    }
    for (segment, append) in &chunk.appends {
        events.durable(*segment, *append);
    }
    let mut queue = lock(&shared.queue);
    for (segment, bytes) in &chunk.weights {
        let queued = queue.queued.entry(*segment).or_default();
        *queued = queued.saturating_sub(*bytes);
    }
    chunk.clear();
    queue.emptied.push(chunk);
    queue.emptied.truncate(2);
    Ok(())
}

fn take_floors(shared: &Shared, files: &mut Files) {
    let mut queue = lock(&shared.queue);
    queue.floors.drain(..).for_each(|(segment, floor)| files.live.set_floor(segment, floor));
}

fn tidy(files: &mut Files, chunk: &mut Chunk) -> Result<(), Failure> {
    later_without_room(files.tidy(chunk))
}

fn make_room(files: &mut Files, chunk: &mut Chunk) -> Result<(), Failure> {
    later_without_room(files.make_room(chunk))
}

/// Nothing is lost by moving entries later.
fn later_without_room(moved: Result<(), Failure>) -> Result<(), Failure> {
    match moved {
        Err(Failure::Io(failure)) if failure.is_no_space() => {
            std::thread::sleep(ROOM_RETRY);
            Ok(())
        }
        done => done,
    }
}
