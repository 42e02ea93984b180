use super::*;
use std::sync::mpsc::{Receiver, channel};

fn page(block: u64) -> PageId {
    PageId { inode: 9, block }
}

fn image(fill: u8) -> PageImage {
    PageImage::copy_from(&[fill; PAGE_SIZE])
}

/// Room for this many pages in one shard.
fn cache_of(pages: usize) -> Cache {
    Cache::new(pages * (PAGE_SIZE + ENTRY_COST), Defects::default())
}

fn waiter() -> (Fetched, Receiver<Result<PageImage, VolumeError>>) {
    let (sender, receiver) = channel();
    (Box::new(move |result| sender.send(result).expect("the test listens")), receiver)
}

fn begin(cache: &Cache, block: u64) -> Receiver<Result<PageImage, VolumeError>> {
    let (fetched, receiver) = waiter();
    assert!(matches!(cache.fetch(page(block), fetched), Fetch::Begin));
    receiver
}

fn answer(fill: u8) -> Result<PageRead, VolumeError> {
    Ok(PageRead { read_point: Lsn(1), version: Lsn(1), page: image(fill) })
}

#[test]
fn the_limit_holds_and_the_least_recently_used_go_first() {
    let cache = cache_of(4);
    for block in 0..100 {
        cache.put(page(block), image(1), Lsn(block + 1), Lsn(block + 1));
        assert!(cache.figures().bytes <= 4 * (PAGE_SIZE + ENTRY_COST));
        assert!(cache.get(page(0)).is_some(), "used all the time");
    }
    assert!(cache.get(page(99)).is_some() && cache.get(page(50)).is_none());
    assert_eq!((cache.figures().evictions, cache.figures().pinned_bytes), (96, 0));
}

#[test]
fn what_is_not_durable_stays_and_counts() {
    let cache = cache_of(4);
    (0..4).for_each(|block| cache.put(page(block), image(1), Lsn(block + 1), Lsn(0)));
    assert!(!cache.has_room_for(PAGE_SIZE, || Lsn(0)));
    cache.put(page(4), image(1), Lsn(5), Lsn(0));
    assert_eq!(cache.figures().pinned_bytes, 5 * (PAGE_SIZE + ENTRY_COST), "none may go, though it is one too many");
    cache.put(page(0), image(2), Lsn(6), Lsn(0));
    assert!(cache.has_room_for(PAGE_SIZE, || Lsn(3)));
    assert_eq!(cache.figures().pinned_bytes, 3 * (PAGE_SIZE + ENTRY_COST), "1 and 2 are free; 0 was changed again");
    assert!(cache.has_room_for(3 * PAGE_SIZE, || Lsn(6)));
    assert_eq!((cache.figures().pinned_bytes, cache.figures().evictions), (0, 1));
    assert_eq!(cache.get(page(0)), Some(image(2)));
}

#[test]
fn a_page_is_fetched_once_for_all_who_wait() {
    let cache = cache_of(4);
    let first = begin(&cache, 1);
    let (second, second_answer) = waiter();
    assert!(matches!(cache.fetch(page(1), second), Fetch::Joined));
    assert_eq!(cache.fetched(page(1), answer(7)), FetchEnd::Answered);
    assert_eq!((first.recv(), second_answer.recv()), (Ok(Ok(image(7))), Ok(Ok(image(7)))));
    assert!(matches!(cache.fetch(page(1), waiter().0), Fetch::Hit(..)));

    let failed = begin(&cache, 2);
    assert_eq!(cache.fetched(page(2), Err(VolumeError::TimedOut)), FetchEnd::Answered);
    assert_eq!(failed.recv(), Ok(Err(VolumeError::TimedOut)));
    assert!(matches!(cache.fetch(page(2), waiter().0), Fetch::Begin), "and it can be tried again");
}

#[test]
fn what_was_changed_or_discarded_meanwhile_is_not_replaced_by_the_old() {
    let cache = cache_of(4);
    let changed = begin(&cache, 1);
    cache.put(page(1), image(8), Lsn(5), Lsn(0));
    assert_eq!(cache.fetched(page(1), answer(7)), FetchEnd::Answered);
    assert_eq!((changed.recv(), cache.get(page(1))), (Ok(Ok(image(8))), Some(image(8))));

    let discarded = begin(&cache, 2);
    cache.discard(page(2));
    assert_eq!(cache.fetched(page(2), answer(7)), FetchEnd::ReadAgain);
    assert_eq!(cache.fetched(page(2), answer(0)), FetchEnd::Answered);
    assert_eq!(discarded.recv(), Ok(Ok(image(0))));
}

#[test]
fn what_was_changed_made_durable_and_evicted_meanwhile_is_read_again_for_all_who_wait() {
    let cache = cache_of(4);
    let before = begin(&cache, 3);
    let change_and_evict = |fill, lsn| {
        cache.put(page(3), image(fill), Lsn(lsn), Lsn(lsn));
        (10..20).for_each(|block| cache.put(page(block), image(1), Lsn(lsn), Lsn(lsn)));
        assert_eq!(cache.get(page(3)), None, "evicted");
    };
    change_and_evict(9, 6);
    let (after, after_answer) = waiter();
    assert!(matches!(cache.fetch(page(3), after), Fetch::Joined));
    assert_eq!(cache.fetched(page(3), answer(7)), FetchEnd::ReadAgain, "storage answered as of before the change");
    assert!(before.try_recv().is_err() && after_answer.try_recv().is_err(), "no reader was answered");
    change_and_evict(10, 8);
    assert_eq!(cache.fetched(page(3), answer(9)), FetchEnd::ReadAgain, "and it was changed once more");
    assert_eq!(cache.fetched(page(3), answer(10)), FetchEnd::Answered);
    assert_eq!((before.recv(), after_answer.recv()), (Ok(Ok(image(10))), Ok(Ok(image(10)))));
    assert_eq!(cache.get(page(3)), Some(image(10)));

    let failed = begin(&cache, 4);
    cache.discard(page(4));
    assert_eq!(cache.fetched(page(4), Err(VolumeError::TimedOut)), FetchEnd::Answered);
    assert_eq!(failed.recv(), Ok(Err(VolumeError::TimedOut)));
}
