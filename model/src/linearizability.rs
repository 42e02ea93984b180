//! What users did, for stateright's linearizability tester.
//!
//! Each page is a register that holds the mark of its last record. A mini-transaction writes its pages at once; it
//! returns when its LSN is durable. A read returns the last mark of the page. Every operation has a thread of its own,
//! so that nothing but real time orders them.

use crate::payload::Mark;
use auriga_protocol::{Lsn, PageId};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use std::collections::BTreeMap;

/// The pages, as one object.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct Registers(BTreeMap<PageId, Mark>);

/// What a user does.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// One mini-transaction.
    Commit(Vec<(PageId, Mark)>),
    /// One page.
    Read(PageId),
}

/// What the user is told.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Return {
    /// Durable.
    Committed,
    /// The last mark, if the page was ever written.
    Page(Option<Mark>),
}

impl SequentialSpec for Registers {
    type Op = Operation;
    type Ret = Return;

    fn invoke(&mut self, operation: &Operation) -> Return {
        match operation {
            Operation::Commit(marks) => {
                self.0.extend(marks.iter().copied());
                Return::Committed
            }
            Operation::Read(page) => Return::Page(self.0.get(page).copied()),
        }
    }
}

/// The operations of a run.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Operations {
    tester: LinearizabilityTester<u8, Registers>,
    waiting: Vec<(Lsn, u8)>,
}

impl Default for Operations {
    fn default() -> Self {
        Operations { tester: LinearizabilityTester::new(Registers::default()), waiting: Vec::new() }
    }
}

impl Operations {
    /// A mini-transaction was submitted as request number `request`; it is durable once `lsn` is.
    pub fn submitted(&mut self, request: u8, lsn: Lsn, marks: Vec<(PageId, Mark)>) {
        self.waiting.push((lsn, request));
        self.invoked(request, Operation::Commit(marks));
    }

    /// A read was asked.
    pub fn asked(&mut self, request: u8, page: PageId) {
        self.invoked(request, Operation::Read(page));
    }

    /// A read was answered.
    pub fn answered(&mut self, request: u8, marks: &[Mark]) {
        self.returned(request, Return::Page(marks.last().copied()));
    }

    /// Everything through `vdl` was acknowledged.
    pub fn durable_through(&mut self, vdl: Lsn) {
        let (done, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|(lsn, _)| *lsn <= vdl);
        self.waiting = waiting;
        let done: Vec<(Lsn, u8)> = done;
        done.into_iter().for_each(|(_, request)| self.returned(request, Return::Committed));
    }

    /// Whether some order of the operations, true to real time, explains what the users saw.
    pub fn linearizable(&self) -> bool {
        self.tester.is_consistent()
    }

    fn invoked(&mut self, request: u8, operation: Operation) {
        self.tester.on_invoke(request, operation).expect("each request has a thread of its own");
    }

    fn returned(&mut self, request: u8, value: Return) {
        self.tester.on_return(request, value).expect("a request is answered once");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: PageId = PageId { inode: 0, block: 0 };

    #[test]
    fn a_read_that_misses_a_commit_returned_before_it_is_not_linearizable() {
        let mut operations = Operations::default();
        operations.submitted(1, Lsn(1), vec![(PAGE, Mark(1))]);
        operations.asked(2, PAGE);
        operations.answered(2, &[]);
        assert!(operations.linearizable(), "the commit had not returned");
        operations.durable_through(Lsn(1));
        operations.asked(3, PAGE);
        operations.answered(3, &[]);
        assert!(!operations.linearizable(), "the commit had returned");
    }
}
