//! Counters of what a run has exercised. A simulation that never met a recovery with a tail proves nothing about tails:
//! [`Coverage::missing`] names what a campaign was supposed to meet at least once and did not.

use auriga_protocol::membership::MembershipNote;
use auriga_protocol::{Lsn, Message, Note, Payload, Refusal};

macro_rules! counted {
    ($($(#[$doc:meta])* $name:ident = $slug:literal, $must:literal;)*) => {
        /// Something that a run can exercise.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Counted {
            $($(#[$doc])* $name,)*
        }

        impl Counted {
            /// All of them, in order of declaration.
            pub const ALL: &'static [Counted] = &[$(Counted::$name),*];

            /// Its name in reports.
            pub fn slug(self) -> &'static str {
                match self { $(Counted::$name => $slug,)* }
            }

            /// Whether a campaign of some thousand seeds must meet it.
            pub fn must_occur(self) -> bool {
                match self { $(Counted::$name => $must,)* }
            }
        }
    };
}

counted! {
    /// A message was delivered.
    Delivered = "message delivered", true;
    /// A message was lost to chance.
    Lost = "message lost", true;
    /// A message came twice.
    Duplicated = "message duplicated", true;
    /// A message could not pass a partition.
    CutOff = "message cut off by a partition", true;
    /// A message reached a node that was down.
    ToNobody = "message to a node that was down", true;
    /// A message overtook an earlier one between the same two.
    Reordered = "message overtook another", true;
    /// A segment booted again.
    SegmentRestarted = "segment restarted", true;
    /// A crash dropped pending appends.
    PendingDropped = "crash dropped pending appends", true;
    /// A crash kept some pending appends and dropped the rest.
    PendingSplit = "crash kept a proper prefix of pending appends", true;
    /// A whole zone went down at once.
    ZoneLost = "Availability Zone lost", true;
    /// A journal lost entries.
    JournalDamaged = "journal lost entries", true;
    /// A segment was made again on an empty disk.
    SegmentRemade = "segment made again", true;
    /// The same, while its group was being founded.
    RemadeInFounding = "segment made again in the founding", true;
    /// An old copy of a store was put back.
    WentBack = "an old copy of a store put back", true;
    /// A segment was told that it went back in time.
    FoundOut = "note WentBack", true;
    /// Base pages were lost.
    PagesLost = "base pages lost", true;
    /// A base page rotted.
    PageRotted = "base page rotted", true;
    /// A base page was healed, or hydrated over.
    PageHealed = "base page healed", true;
    /// A segment took base pages from a peer and adopted their floor.
    Hydrated = "hydrated from a peer", true;
    /// A segment rejoined after amnesia.
    Rejoined = "rejoined after losing journal entries", true;
    /// A segment that forgot has learnt what its peers know.
    Learnt = "note Learnt", true;
    /// A segment promised.
    Sealed = "note Sealed", true;
    /// A segment installed.
    Installed = "note Installed", true;
    /// A segment acknowledged.
    Acknowledged = "note Acknowledged", true;
    /// A segment served a page.
    Served = "note Served", true;
    /// A floor rose.
    Collected = "note Collected", true;
    /// The same, with ranges that were forgotten.
    Forgotten = "note Installed, of a recovery that forgot truncation ranges", true;
    /// A record was allocated.
    Allocated = "note Allocated", true;
    /// A writer opened.
    Opened = "note Opened", true;
    /// VDL moved.
    Durable = "note Durable", true;
    /// A page was read.
    Read = "note Read", true;
    /// A writer was fenced.
    Fenced = "note Fenced", true;
    /// A writer that was open was fenced.
    OpenFenced = "open writer fenced", true;
    /// A recovery kept records that no earlier writer had called durable.
    RecoveredTail = "recovery with a tail above every acknowledged VDL", true;
    /// A recovery annulled records that were allocated.
    AnnulledTail = "recovery annulled allocated records", true;
    /// A writer had to choose a higher volume epoch.
    SealedAgain = "candidate began again with a higher volume epoch", true;
    /// A frozen writer woke up after another had opened.
    WokeFenced = "frozen writer resumed behind a newer one", true;
    /// `SubmitRefused::BackPressure`.
    BackPressure = "submit refused: back-pressure", true;
    /// `SubmitRefused::NotOpen`.
    NotOpen = "submit refused: not open", true;
    /// A read was not answered by the writer.
    NotRead = "read refused by the writer", true;
    /// A read went to a second segment.
    Hedged = "read hedged", true;
    /// A gossip exchange moved records.
    GossipPush = "message GossipPush", true;
    /// A missed install came from a peer.
    GossipInstall = "message GossipInstall", true;
    /// What was missing had been coalesced.
    GossipTooFar = "message GossipTooFar", true;
    /// Tail records travelled.
    Tail = "message Tail with records", true;
    /// A chunk of base pages travelled.
    HydratePush = "message HydratePush", true;
    /// A sound page travelled.
    HealPush = "message HealPush", true;
    /// What was promised was told.
    RejoinPush = "message RejoinPush", true;
    /// `Refusal::StaleVolumeEpoch`.
    StaleVolumeEpoch = "refusal StaleVolumeEpoch", true;
    /// `Refusal::NotInstalled`.
    NotInstalled = "refusal NotInstalled", true;
    /// `Refusal::StaleMembership`.
    StaleMembership = "refusal StaleMembership", true;
    /// A step came into force.
    Changed = "note Changed", true;
    /// A new member's segment was made.
    Made = "note Made", true;
    /// A member has left.
    Left = "note Left", true;
    /// A member's process and disk were lost for good.
    LostForGood = "member lost for good", true;
    /// A replacement was taken back.
    Undone = "replacement undone", true;
    /// `Refusal::AboveScl`: a writer asks current segments only, so this takes a segment that fell behind.
    AboveScl = "refusal AboveScl", false;
    /// `Refusal::BelowFloor`.
    BelowFloor = "refusal BelowFloor", false;
    /// `Refusal::Busy`.
    Busy = "refusal Busy", true;
    /// `Refusal::DiskFull`.
    DiskFull = "refusal DiskFull", true;
    /// `Refusal::PageDamaged`.
    PageDamaged = "refusal PageDamaged", true;
    /// `Refusal::Rejoining`.
    Rejoining = "refusal Rejoining", true;
    /// `Refusal::OtherShape`: in the simulation, all writers are configured alike.
    OtherShape = "refusal OtherShape", false;
    /// A fault was skipped, because Auriga doesn't promise to survive it together with an earlier one.
    FaultSkipped = "fault skipped", true;
    /// The finale read every page back.
    ReadBack = "page read back at the end", true;
}

/// How often each was met.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Coverage([u64; Counted::ALL.len()]);

impl Default for Coverage {
    fn default() -> Self {
        Coverage([0; Counted::ALL.len()])
    }
}

impl Coverage {
    /// Counts one.
    pub fn count(&mut self, what: Counted) {
        self.0[what as usize] += 1;
    }

    /// How often.
    pub fn of(&self, what: Counted) -> u64 {
        self.0[what as usize]
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Coverage) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }

    /// What must occur and did not.
    pub fn missing(&self) -> Vec<Counted> {
        Counted::ALL.iter().copied().filter(|what| what.must_occur() && self.of(*what) == 0).collect()
    }

    /// Counts a message by its kind.
    pub fn message<P: Payload>(&mut self, message: &Message<P>) {
        self.count(Counted::Delivered);
        let kind = match message {
            Message::GossipPush { .. } => Counted::GossipPush,
            Message::GossipInstall { .. } => Counted::GossipInstall,
            Message::GossipTooFar { .. } => Counted::GossipTooFar,
            Message::Tail { records, .. } if !records.is_empty() => Counted::Tail,
            Message::HydratePush { .. } => Counted::HydratePush,
            Message::HealPush { .. } => Counted::HealPush,
            Message::RejoinPush { .. } => Counted::RejoinPush,
            Message::Refused(refusal) | Message::ReadRefused { refusal, .. } => of_refusal(refusal),
            _ => return,
        };
        self.count(kind);
    }

    /// Counts a note by its kind.
    pub fn note(&mut self, note: &Note) {
        if let Note::Installed { truncations, .. } = note
            && truncations.forgotten() > Lsn::ZERO
        {
            self.count(Counted::Forgotten);
        }
        self.count(match note {
            Note::Sealed { .. } => Counted::Sealed,
            Note::Installed { .. } => Counted::Installed,
            Note::Acknowledged { .. } => Counted::Acknowledged,
            Note::Served { .. } => Counted::Served,
            Note::Collected { .. } => Counted::Collected,
            Note::Learnt { .. } => Counted::Learnt,
            Note::Rejoined { .. } => Counted::Rejoined,
            Note::WentBack { .. } => Counted::FoundOut,
            Note::Allocated { .. } => Counted::Allocated,
            Note::Opened { .. } => Counted::Opened,
            Note::Durable { .. } => Counted::Durable,
            Note::Read { .. } => Counted::Read,
            Note::Fenced { .. } => Counted::Fenced,
            // The simulation has no readers on other instances.
            Note::ReadPoint { .. } => return,
            Note::Membership(MembershipNote::Changed { .. }) => Counted::Changed,
            Note::Membership(MembershipNote::Made { .. }) => Counted::Made,
            Note::Membership(MembershipNote::Left { .. }) => Counted::Left,
            // The simulation has one region, and writers change its groups' members.
            Note::Global(_) | Note::Membership(_) => return,
            // No operator is here.
            Note::LossAccepted { .. } => return,
            // No party lies here: the observer calls it a violation.
            Note::Implausible { .. } | Note::Contradicted { .. } => return,
        });
    }
}

fn of_refusal(refusal: &Refusal) -> Counted {
    match refusal {
        Refusal::StaleVolumeEpoch { .. } => Counted::StaleVolumeEpoch,
        Refusal::NotInstalled { .. } => Counted::NotInstalled,
        Refusal::StaleMembership { .. } => Counted::StaleMembership,
        Refusal::AboveScl { .. } => Counted::AboveScl,
        Refusal::BelowFloor { .. } => Counted::BelowFloor,
        Refusal::Busy => Counted::Busy,
        Refusal::DiskFull => Counted::DiskFull,
        Refusal::PageDamaged => Counted::PageDamaged,
        Refusal::Rejoining => Counted::Rejoining,
        Refusal::OtherShape { .. } => Counted::OtherShape,
    }
}
