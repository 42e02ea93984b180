//! How much room is left on a volatile disk: none is missing until it is filled on purpose.

use std::collections::BTreeMap;
use std::io;

/// Bytes by which files may still grow together, for each name of the root that has a limit. Counted by the sizes of
/// files, as if none had holes; what a power cut does to sizes is not counted.
#[derive(Default)]
pub struct Room(BTreeMap<String, u64>);

impl Room {
    /// From now on, files below `name` may grow by `left` bytes.
    pub fn limit(&mut self, name: &str, left: u64) {
        self.0.insert(name.to_owned(), left);
    }

    /// There is no limit any more.
    pub fn lift(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// What is left below `top`; `None` where there is no limit.
    pub fn left(&self, top: Option<&str>) -> Option<u64> {
        self.0.get(top?).copied()
    }

    /// A file below `top` changes its size.
    ///
    /// # Errors
    /// `ENOSPC`: the limit would be exceeded; nothing was taken.
    pub fn resize(&mut self, top: Option<&str>, from: u64, to: u64) -> io::Result<()> {
        if let Some(left) = top.and_then(|top| self.0.get_mut(top)) {
            let after = left.saturating_add(from).checked_sub(to);
            *left = after.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOSPC))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_grow_up_to_the_limit_and_no_byte_more_until_one_shrinks() {
        let mut room = Room::default();
        room.limit("a1", 100);
        assert!(room.resize(Some("a1"), 50, 150).is_ok());
        let refused = room.resize(Some("a1"), 7, 8).map_err(|error| error.raw_os_error());
        assert_eq!(refused, Err(Some(libc::ENOSPC)));
        assert!(room.resize(Some("a1"), 8, 8).is_ok() && room.resize(Some("a2"), 0, 1 << 40).is_ok());
        assert!(room.resize(Some("a1"), 30, 20).is_ok());
        assert_eq!((room.left(Some("a1")), room.left(Some("a2")), room.left(None)), (Some(10), None, None));
        room.lift("a1");
        assert!(room.resize(Some("a1"), 0, 1000).is_ok());
    }
}
