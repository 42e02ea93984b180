//! What a session has set: kept as the statements that did it, so that the other server can be told the same.

use super::words;
use bytes::Bytes;
use std::collections::VecDeque;

/// Most statements that are kept.
const ITEMS_MAX: usize = 512;
/// Most bytes of them.
const BYTES_MAX: usize = 256 << 10;

/// Statements that set something for the session, in their order. Each has a number; a server has done those up to one.
#[derive(Debug, Default)]
pub struct Journal {
    items: VecDeque<(u64, Bytes)>,
    bytes: usize,
    last: u64,
    /// Some were thrown away.
    is_cut: bool,
}

impl Journal {
    /// Adds a statement. What the same text did before is done again by it; `DISCARD ALL` takes everything back.
    pub fn add(&mut self, text: Bytes) {
        let all = text.to_ascii_uppercase();
        if all.trim_ascii().strip_suffix(b";").unwrap_or(&all).trim_ascii() == b"DISCARD ALL" {
            (self.bytes, self.is_cut) = (0, false);
            self.items.clear();
        }
        // One that prepares can't be done again.
        self.items.retain(|(_, other)| *other != text);
        self.last += 1;
        self.items.push_back((self.last, text));
        self.bytes = self.items.iter().map(|(_, text)| text.len()).sum();
        while self.items.len() > ITEMS_MAX || self.bytes > BYTES_MAX {
            self.is_cut = true;
            self.bytes -= self.items.pop_front().map_or(0, |(_, text)| text.len());
        }
    }

    /// The number of the last one.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// What a server that has done those up to `done` has still to do; `None`: it can't be told any more.
    pub fn after(&self, done: u64) -> Option<Vec<(u64, Bytes)>> {
        if done == self.last {
            return Some(Vec::new());
        }
        if self.is_cut {
            return None;
        }
        Some(self.items.iter().filter(|(number, _)| *number > done).cloned().collect())
    }
}

/// A statement that was done, by what the server called it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    /// The tag of its `CommandComplete`.
    pub tag: String,
    /// Its text: of a string of several, the whole string.
    pub text: Bytes,
}

impl Done {
    /// Whether the other server must be told, to be in the same state.
    fn sets(&self) -> bool {
        let words = ["BEGIN", "START TRANSACTION", "SAVEPOINT", "RELEASE", "ROLLBACK"];
        words.contains(&self.tag.as_str()) || self.sets_for_session()
    }

    fn sets_for_session(&self) -> bool {
        let words = ["SET", "RESET", "DISCARD", "PREPARE", "DEALLOCATE"];
        let first = self.tag.split(' ').next().unwrap_or("");
        words.contains(&first) || (first == "SELECT" && words::calls_set_config(&self.text))
    }

    fn reads(&self) -> bool {
        let first = self.tag.split(' ').next().unwrap_or("");
        matches!(first, "SELECT" | "FETCH" | "COPY" | "EXPLAIN" | "DECLARE" | "TABLE" | "CALL" | "DO")
            && (!words::calls_set_config(&self.text) || words::has_word(&self.text, b"from"))
    }
}

/// The open transaction.
#[derive(Debug, Default)]
pub struct Transaction {
    /// What began it, and has set something in it since.
    items: Vec<Bytes>,
    /// Rows were read in it.
    pub has_read: bool,
    /// A cursor is open in it.
    pub has_cursor: bool,
    /// It can't be begun again elsewhere.
    pub is_stuck: bool,
    prepared: Vec<Bytes>,
    sets: bool,
}

impl Transaction {
    /// Takes what a unit has done, after which the server was in `status`. Adds what is for the session to `journal` when the
    /// transaction is over.
    pub fn done(&mut self, done: &[Done], (before, after): (u8, u8), journal: &mut Journal) {
        let mut texts: Vec<&Done> = done.iter().filter(|done| done.sets()).collect();
        texts.dedup_by(|a, b| a.text == b.text);
        let ends = |done: &&Done| matches!(done.tag.as_str(), "COMMIT" | "ROLLBACK");
        match (before, after) {
            (b'I', b'I') => {
                texts.iter().filter(|done| done.sets_for_session()).for_each(|done| journal.add(done.text.clone()));
            }
            (_, b'I') => {
                let is_committed = done.iter().rfind(ends).is_some_and(|done| done.tag == "COMMIT");
                self.end(is_committed, journal);
            }
            _ => {
                if before == b'I' {
                    *self = Transaction { is_stuck: done.iter().any(|done| ends(&done)), ..Transaction::default() };
                }
                for one in done {
                    self.has_read |= one.reads();
                    self.has_cursor |= one.tag == "DECLARE CURSOR";
                    self.sets |= one.sets_for_session();
                    if one.tag.starts_with("PREPARE") || one.tag.starts_with("DEALLOCATE") {
                        self.prepared.push(one.text.clone());
                    }
                }
                self.items.extend(texts.iter().map(|done| done.text.clone()));
                self.is_stuck |= self.items.len() > ITEMS_MAX || self.bytes() > BYTES_MAX;
                self.items.truncate(ITEMS_MAX);
                self.prepared.truncate(ITEMS_MAX);
            }
        }
    }

    fn bytes(&self) -> usize {
        self.items.iter().map(Bytes::len).sum()
    }

    fn end(&mut self, is_committed: bool, journal: &mut Journal) {
        let ended = std::mem::take(self);
        match is_committed {
            true if ended.sets => {
                let mut text = ended.items.iter().map(|text| text.as_ref()).collect::<Vec<_>>().join(&b"\n;\n"[..]);
                text.extend(b"\n;\nCOMMIT");
                journal.add(text.into());
            }
            true => {}
            // To prepare is not undone with the transaction.
            false => ended.prepared.into_iter().for_each(|text| journal.add(text)),
        }
    }

    /// What brings another server to the same state.
    pub fn items(&self) -> &[Bytes] {
        &self.items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(tag: &str, text: &'static str) -> Done {
        Done { tag: tag.to_owned(), text: Bytes::from_static(text.as_bytes()) }
    }

    fn texts(journal: &Journal, after: u64) -> Vec<String> {
        let texts = journal.after(after).expect("whole").into_iter();
        texts.map(|(_, text)| String::from_utf8_lossy(&text).into_owned()).collect()
    }

    #[test]
    fn settings_are_told_again_in_their_order() {
        let (mut journal, mut open) = (Journal::default(), Transaction::default());
        open.done(&[done("SET", "set a.b = 1")], (b'I', b'I'), &mut journal);
        open.done(&[done("SELECT 1", "select 1")], (b'I', b'I'), &mut journal);
        open.done(&[done("SET", "set c.d = 1"), done("SET", "set a.b = 1")], (b'I', b'I'), &mut journal);
        assert_eq!(texts(&journal, 0), ["set c.d = 1", "set a.b = 1"]);
        assert_eq!(texts(&journal, 2), ["set a.b = 1"]);
        journal.add(Bytes::from_static(b" discard all; "));
        assert_eq!(texts(&journal, 0), [" discard all; "]);
        assert_eq!(texts(&journal, journal.last()), Vec::<String>::new());
    }

    #[test]
    fn what_a_transaction_sets_is_kept_when_it_commits() {
        let (mut journal, mut open) = (Journal::default(), Transaction::default());
        open.done(&[done("BEGIN", "begin")], (b'I', b'T'), &mut journal);
        open.done(&[done("SET", "set local a.b = 1")], (b'T', b'T'), &mut journal);
        open.done(&[done("SELECT 1", "select 1 from t")], (b'T', b'T'), &mut journal);
        open.done(&[done("ROLLBACK", "rollback to s")], (b'E', b'T'), &mut journal);
        assert_eq!((open.items().len(), open.has_read, open.has_cursor), (3, true, false));
        open.done(&[done("COMMIT", "commit")], (b'T', b'I'), &mut journal);
        assert_eq!(texts(&journal, 0), ["begin\n;\nset local a.b = 1\n;\nrollback to s\n;\nCOMMIT"]);
        open.done(&[done("BEGIN", "begin")], (b'I', b'T'), &mut journal);
        open.done(&[done("SET", "set x.y = 1"), done("PREPARE", "prepare p as select 1")], (b'T', b'T'), &mut journal);
        open.done(&[done("ROLLBACK", "rollback")], (b'T', b'I'), &mut journal);
        assert_eq!(texts(&journal, 1), ["prepare p as select 1"]);
    }

    #[test]
    fn a_journal_has_a_bound() {
        let mut journal = Journal::default();
        (0..=ITEMS_MAX).for_each(|n| journal.add(format!("set a.b = {n}").into()));
        assert_eq!(journal.after(0), None);
        assert_eq!(journal.after(journal.last()), Some(Vec::new()));
    }
}
