//! The controller in a simulated cluster: scenarios one by one, and random histories.

mod random;
mod scenarios;
mod world;

/// Ways in which the controller may be wrong, so that the checks can be seen to notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Defect {
    /// It does not ask the readers whether they hear the writer.
    IgnoreReaders,
    /// It forgets at once that a promotion is under way.
    ForgetPromotions,
    /// It tries each instance only once, ever.
    TryOnce,
    /// It takes one look without an answer for the end.
    Impatient,
}
