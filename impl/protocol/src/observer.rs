//! Judges the notes of a run by the invariants.
