//! What may come from outside: how large a number, how long a list, how far a jump. Each with its unit and its reason.
//!
//! Two kinds. A number or list beyond an absolute limit is malformed: it is not even decoded (R-LIMIT-1), so the
//! machines' arithmetic can't overflow, wherever it came from. A jump beyond what a segment knows is implausible: such
//! a message is dropped and noted (R-LIMIT-2), see [`crate::segment`].

/// Greatest LSN. A writer that allocated a thousand million records a second would take 36 years to get there; and the
/// sums of a few such numbers still fit 64 bits.
pub const LSN_MAX: u64 = 1 << 60;

/// Farthest that a `Write` may move the VDL that a segment knows, in LSNs. A segment that was away for eight years of a
/// million records a second is still told the truth; a liar has a long way to [`LSN_MAX`].
pub const LSN_STEP_MAX: u64 = 1 << 48;

/// Greatest number of a volume epoch or membership epoch.
pub const EPOCH_NUMBER_MAX: u64 = 1 << 60;

/// Farthest that a message may raise the number of the volume epoch that a segment knows.
///
/// Each recovery raises it by one or two, so that a segment that was away for a century of a recovery a second still
/// believes its writer. An attacker who wants to use the numbers up, so that no writer can come again, must have 2^28
/// promises made durable, one after the other.
pub const EPOCH_STEP_MAX: u64 = 1 << 32;

/// Farthest that a candidate raises its own volume epoch's number at one time: half of [`EPOCH_STEP_MAX`]. So where one
/// segment has been driven as far as it may be, those that have not still find the next candidate plausible.
pub const EPOCH_STRIDE_MAX: u64 = EPOCH_STEP_MAX / 2;

/// Greatest incarnation.
pub const INCARNATION_MAX: u32 = 1 << 30;

/// Farthest that a message may raise the incarnation that is known of a segment. Each loss of a journal raises it by
/// one.
pub const INCARNATION_STEP_MAX: u32 = 1 << 12;

/// Greatest number of a life in an incarnation: one each two seconds would take 10^10 years to get there.
pub const LIFE_NUMBER_MAX: u64 = 1 << 60;

/// Farthest that a message may raise the number of a peer's life that a segment knows: a segment that was away for a
/// century still believes its peers.
pub const LIFE_STEP_MAX: u64 = 1 << 32;

/// Greatest member: sets of members have 64 bits. No number is given twice, so that a group of six can have 58 of its
/// members replaced in its life; the next replacement is refused.
pub const MEMBER_MAX: u8 = 63;

/// Most members that a quorum set may name: six, and as many that join. Its subsets are enumerated.
pub const MEMBERS_AT_ONCE_MAX: u32 = 10;

/// Most homes that a membership may list: of every member that ever joined and is still there.
pub const HOMES_MAX: usize = 16;

/// Most readers that a writer may be configured for: the 15 of a cluster, and as many that are about to be dropped.
pub const READERS_MAX: u8 = 32;

/// Most thresholds of a quorum set's two formulas. A steady group has one in each, two replacements under way four.
pub const THRESHOLDS_MAX: usize = 4;

/// Most truncation ranges that a list may hold; a recovery that would need more is refused with a clear message.
pub const TRUNCATION_RANGES_MAX: usize = 4096;

/// Most answers of one segment that may wait for its disk. Beyond it the asker gets no answer, and asks again.
pub const WAITING_MAX: usize = 1 << 16;
