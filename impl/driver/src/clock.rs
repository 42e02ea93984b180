//! The monotonic clock that machines are told.

use auriga_protocol::Micros;

/// Microseconds since an arbitrary moment that is the same for all processes of one host (`CLOCK_MONOTONIC`), so that
/// the traces of several processes can be merged.
pub fn now() -> Micros {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live, writable timespec.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    assert_eq!(result, 0, "Linux always has CLOCK_MONOTONIC");
    Micros(time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000)
}
