//! Planted defects: one or more for each rule, to prove that the checks can fail.
//!
//! Without the feature `defects` the set is always empty and the compiler removes every branch. No shipped
//! binary enables the feature. `specs/invariants.md` says which property catches which defect, at which scope.

use serde::{Deserialize, Serialize};

macro_rules! defects {
    ($($(#[$doc:meta])* $name:ident = $slug:literal, $rule:literal;)*) => {
        /// A way to get the protocol wrong.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        pub enum Defect {
            $($(#[$doc])* $name,)*
        }

        impl Defect {
            /// Every defect.
            pub const ALL: &'static [Defect] = &[$(Defect::$name),*];

            /// Its name on the command line and in the tables.
            pub fn slug(self) -> &'static str {
                match self { $(Defect::$name => $slug,)* }
            }

            /// The rule that it breaks.
            pub fn rule(self) -> &'static str {
                match self { $(Defect::$name => $rule,)* }
            }
        }
    };
}

defects! {
    /// A segment acknowledges when it starts the append, not when it is durable.
    AckBeforeDurable = "ack-before-durable", "R-WRITE-2";
    /// A segment acknowledges its last record even when its chain has a hole.
    AckOverHole = "ack-over-hole", "R-WRITE-3";
    /// The writer takes three acknowledgements for a quorum.
    WriteQuorumThree = "write-quorum-three", "R-QUORUM-1";
    /// Recovery seals two segments only.
    ReadQuorumTwo = "read-quorum-two", "R-QUORUM-2";
    /// A sealed segment still takes writes of older volume epochs.
    NoFence = "no-fence", "R-FENCE-1";
    /// A segment answers `Seal` before its promise is durable.
    SealBeforeDurable = "seal-before-durable", "R-FENCE-2";
    /// A segment promises the same volume epoch to two candidates.
    EpochGrantedTwice = "epoch-granted-twice", "R-FENCE-3";
    /// A segment answers `Install` before it is durable.
    InstallBeforeDurable = "install-before-durable", "R-RECOVER-3";
    /// Recovery takes the longest tail, whichever volume epoch wrote it.
    TailByLength = "tail-by-length", "R-RECOVER-1";
    /// Recovery serves before its tail is on a write quorum.
    TailNotBroughtToFour = "tail-not-brought-to-four", "R-RECOVER-4";
    /// Recovery decides as soon as a read quorum has promised.
    RecoveryDoesNotWait = "recovery-does-not-wait", "R-RECOVER-6";
    /// Recovery installs on a read quorum only.
    InstallOnThree = "install-on-three", "R-RECOVER-3";
    /// A segment forgets its truncation ranges in a restart.
    TruncationForgotten = "truncation-forgotten", "R-TRUNCATE-2";
    /// A recovery forgets truncation ranges below VDL, whatever records segments still hold there.
    ForgetsAboveFloors = "forgets-above-floors", "R-TRUNCATE-6";
    /// A segment keeps annulled records when it installs.
    TruncationNotApplied = "truncation-not-applied", "R-TRUNCATE-1";
    /// A segment accepts annulled records by gossip.
    GossipResurrects = "gossip-resurrects", "R-TRUNCATE-3";
    /// The new writer allocates directly above the VDL, inside the truncation range.
    LsnReused = "lsn-reused", "R-ALLOC-2";
    /// VDL is taken to be VCL, CPL or not.
    VdlNotAtCpl = "vdl-not-at-cpl", "R-VDL-2";
    /// VCL is taken to be the highest PGCL.
    VclIsMaxPgcl = "vcl-is-max-pgcl", "R-VDL-1";
    /// VCL is taken to be the lowest PGCL.
    VclIsMinPgcl = "vcl-is-min-pgcl", "R-VDL-1";
    /// The writer allocates without a limit.
    NoAllocationLimit = "no-allocation-limit", "R-ALLOC-1";
    /// A segment serves a read point above its SCL.
    ReadAboveScl = "read-above-scl", "R-READ-1";
    /// The read point is compared with SCL without translating it to the group.
    ReadNotTranslated = "read-not-translated", "R-READ-2";
    /// A segment applies records above the read point.
    ReadIgnoresReadPoint = "read-ignores-read-point", "R-READ-3";
    /// The writer reads at VCL.
    ReadPointAboveVdl = "read-point-above-vdl", "R-READ-4";
    /// A segment coalesces everything that it has.
    CollectAbovePgmrpl = "collect-above-pgmrpl", "R-COLLECT-1";
    /// The writer's PGMRPL ignores reads that are still under way.
    PgmrplIgnoresReads = "pgmrpl-ignores-reads", "R-COLLECT-2";
    /// A hydrating segment adopts the floor at which the last chunk was read, not the first.
    HydrationAdoptsLast = "hydration-adopts-last", "R-HYDRATE-1";
    /// A hydrating segment counts what only its log has among its pages.
    HydrationSkipsLog = "hydration-skips-log", "R-HYDRATE-1";
    /// A hydrating segment keeps pages that its peer has forgotten.
    HydrationKeepsForgotten = "hydration-keeps-forgotten", "R-HYDRATE-1";
    /// A hydrating segment takes chunks of a sender that is behind an earlier one.
    HydrationGoesBack = "hydration-goes-back", "R-HYDRATE-1";
    /// A segment serves read points below its ceiling.
    HydrationServesMixed = "hydration-serves-mixed", "R-HYDRATE-2";
    /// A segment that lost its log boots as if it were new.
    AmnesiaCounts = "amnesia-counts", "R-REJOIN-1";
    /// A segment that lost its log counts again before its chain has caught up.
    RejoinBeforeCaughtUp = "rejoin-before-caught-up", "R-REJOIN-2";
    /// A segment that lost its log forgets which peers had lost theirs.
    LossesForgotten = "losses-forgotten", "R-REJOIN-4";
    /// A segment that lost its log takes an answer to an earlier question for one to this.
    StaleAnswerCounts = "stale-answer-counts", "R-REJOIN-5";
    /// A segment without a journal counts at once.
    BlankCounts = "blank-counts", "R-REJOIN-6";
    /// A segment founds its group when all others but one are heard.
    FoundsOnFive = "founds-on-five", "R-REJOIN-7";
    /// A loss is accepted without a promise of the survivors.
    LossAcceptedWithoutFence = "loss-accepted-without-fence", "R-REJOIN-8";
    /// A segment counts before its peers remember the life that it begins.
    LifeNotRegistered = "life-not-registered", "R-LIFE-1";
    /// A life that was not registered is over at the next boot.
    UnregisteredLifeNotContinued = "unregistered-life-not-continued", "R-LIFE-1";
    /// A peer compares the numbers of lives only.
    LifeWithoutNonce = "life-without-nonce", "R-LIFE-2";
    /// A segment counts when one peer remembers its life.
    LifeRegisteredWithTooFew = "life-registered-with-too-few", "R-LIFE-3";
    /// A segment that lost its log does not relearn the lives of its peers.
    LivesNotMerged = "lives-not-merged", "R-LIFE-5";
    /// A reader takes any answer to `Follow`, and shows an older read point than before.
    ReaderGoesBack = "reader-goes-back", "R-READER-2";
    /// A reader shows what it was sent, whatever VDL it was told.
    ReaderAboveVdl = "reader-above-vdl", "R-READ-4";
    /// A reader shows half a mini-transaction.
    HalfMtrApplied = "half-mtr-applied", "R-READER-2";
    /// A reader that follows another writer keeps what the one before had sent it.
    ReaderKeepsUndurable = "reader-keeps-undurable", "R-READER-1";
    /// The writer's PGMRPL ignores readers on other instances.
    CollectionIgnoresReaders = "collection-ignores-readers", "R-COLLECT-2";
    /// A writer takes a reader that it had dropped back as if nothing had been collected.
    DroppedReaderServed = "dropped-reader-served", "R-READER-3";
    /// A primary region ships what is not durable yet.
    ShipBeforeDurable = "ship-before-durable", "R-GLOBAL-1";
    /// A region takes the stream of an old primary.
    StaleStreamAccepted = "stale-stream-accepted", "R-GLOBAL-9";
    /// A region promotes itself without a new global epoch.
    FailoverWithoutFencingEpoch = "failover-without-fencing-epoch", "R-GLOBAL-2";
    /// A repeated command to promote begins the branch again, later in the log.
    PromoteTwice = "promote-twice", "R-GLOBAL-2";
    /// A controller uses a global epoch before it has made its intent durable.
    EpochBeforeIntent = "epoch-before-intent", "R-GLOBAL-7";
    /// A region reports its fence before it is durable.
    SwitchoverFenceNotDurable = "switchover-fence-not-durable", "R-GLOBAL-3";
    /// The target of a switchover is promoted at what has arrived.
    SwitchoverBeforeDrain = "switchover-before-drain", "R-GLOBAL-3";
    /// A fenced region hands its authority on a second time.
    HandedOnTwice = "handed-on-twice", "R-GLOBAL-3";
    /// A switchover is undone without the target's promise not to complete it.
    UndoWithoutRenounce = "undo-without-renounce", "R-GLOBAL-8";
    /// A returning region drops its suffix without naming it.
    LostSuffixNotCounted = "lost-suffix-not-counted", "R-GLOBAL-4";
    /// A returning region keeps its suffix in its log.
    RejoinWithoutTruncation = "rejoin-without-truncation", "R-GLOBAL-5";
    /// A returning region looks at the new primary's last branch only to see where the logs part.
    PartedByLastBranch = "parted-by-last-branch", "R-GLOBAL-5";
    /// A replacement writes by the new members only.
    MembershipWithoutOverlap = "membership-without-overlap", "R-MEMBER-2";
    /// A step counts once the new write quorum has it, whatever the old one has.
    MembershipOnNewQuorumOnly = "membership-on-new-quorum-only", "R-MEMBER-1";
    /// A member takes writes of an old membership epoch.
    MembershipStaleAccepted = "membership-stale-accepted", "R-MEMBER-1";
    /// A writer counts by the next quorum set alone before it is in force.
    StepCountedBeforeInForce = "step-counted-before-in-force", "R-MEMBER-5";
    /// A replacement is completed without waiting for the new member.
    MemberCountedBeforeHydration = "member-counted-before-hydration", "R-MEMBER-3";
    /// A segment orders steps by their membership epochs alone.
    StepIgnoresVolumeEpoch = "step-ignores-volume-epoch", "R-MEMBER-7";
    /// A new member's number is one that was given before.
    MemberIdUsedAgain = "member-id-used-again", "R-MEMBER-8";
    /// A new member's segment is made when one other has installed the step.
    SegmentMadeBeforeInForce = "segment-made-before-in-force", "R-MEMBER-9";
    /// A member that has left goes on answering.
    RetiredMemberAnswers = "retired-member-answers", "R-MEMBER-10";
    /// The new member is read while the replacement is under way.
    NewMemberReadDuringChange = "new-member-read-during-change", "R-MEMBER-3";
}

/// The defects planted in a configuration. Always empty without the feature `defects`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Defects {
    #[cfg(feature = "defects")]
    planted: Option<Defect>,
}

impl Defects {
    /// None: the protocol as it is meant.
    pub const NONE: Defects = Defects {
        #[cfg(feature = "defects")]
        planted: None,
    };

    /// Plants one.
    #[cfg(feature = "defects")]
    pub const fn plant(defect: Defect) -> Defects {
        Defects { planted: Some(defect) }
    }

    /// Whether any is planted: then an invariant that breaks is the check's to find, not an assertion's.
    #[inline]
    pub fn any(self) -> bool {
        #[cfg(feature = "defects")]
        return self.planted.is_some();
        #[cfg(not(feature = "defects"))]
        false
    }

    /// Whether `defect` is planted.
    #[inline]
    pub fn has(self, defect: Defect) -> bool {
        #[cfg(feature = "defects")]
        return self.planted == Some(defect);
        #[cfg(not(feature = "defects"))]
        {
            let _ = defect;
            false
        }
    }
}
