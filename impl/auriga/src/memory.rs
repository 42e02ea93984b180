//! How the C library hands out memory.

/// Has all threads take memory from one heap. By default each of several threads gets one of its own, and keeps what is
/// freed there for itself: a page cache whose pages are read by some threads and written by others then takes its limit
/// several times. To be called before a second thread exists.
pub fn use_one_heap() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: mallopt(3) changes a parameter of the allocator, which no other thread uses yet.
        let taken = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
        if taken == 0 {
            tracing::warn!("the C library takes no limit on its heaps: the process may take more memory than it says");
        }
    }
}
