------------------------------- MODULE Auriga -------------------------------
(***************************************************************************)
(* Log and recovery of one Auriga volume: writing at a write quorum,       *)
(* sealing, collecting, installing, bringing the tail to a write quorum,   *)
(* opening, truncating, gossip; with disks that lose what was pending, a   *)
(* network that loses, repeats, delays and reorders, and writers that do   *)
(* not know that they are history.                                         *)
(*                                                                         *)
(* Written from ../rules.md, not from the code: a second opinion.  Rule    *)
(* numbers stand beside what they demand.                                  *)
(*                                                                         *)
(* THE DISK.  A segment is the sequence of states that its journal went    *)
(* through: the first is durable, the last is what it has in memory, and   *)
(* each step between them is a pending entry (R-WRITE-5).  Sync makes one  *)
(* more entry durable, and only then do answers leave; Crash keeps the     *)
(* first state only.  (Keeping more is Sync, then Crash.)                  *)
(*                                                                         *)
(* THE NETWORK.  A request stays deliverable for ever, at any time, any    *)
(* number of times: a writer's records, seals and installs are read from   *)
(* the writer's state.  An answer is kept where its receiver looks, and it *)
(* need not look: acknowledgements are maxima, and Advance may choose less *)
(* than they allow; Collect may choose any read quorum of the reports.     *)
(*                                                                         *)
(* NOT HERE: reads, collection, membership, bounded queues; the pull of a  *)
(* tail (a report carries the chain, which can't move between Sealed and   *)
(* Install); retries with a higher volume epoch (another writer does it);  *)
(* a gossip message that overtakes later events (only records that every   *)
(* writer since has kept can travel this way and no other).                *)
(*                                                                         *)
(* Some ideas how to break it are planted: see Defect.                     *)
(***************************************************************************)
EXTENDS Integers, FiniteSets, Sequences

CONSTANTS
  Groups,       \* protection groups
  Members,      \* members of each group
  W, R,         \* how many make a write quorum and a read quorum
  Writers,      \* all candidates there will be
  First,        \* the writer that is open in the beginning
  EpochOf,      \* number of each writer's volume epoch. A volume epoch is a ballot (../decisions/0020): of two with one
                \* number the higher is a higher epoch, as in four-three-epochs. Where two have one number here, whichever
                \* comes second at a segment is refused, which ballots allow for the lower one only: more is refused.
  LAL,          \* LSN allocation limit
  MaxRecords,   \* records allocated in all
  Placements,   \* the MTRs that may be written: for each record its group
  MaxPending,   \* entries of one journal that are not durable
  MaxCrashes,   \* crashes in all
  Defect        \* "none", or which rule to break

VARIABLES
  journal,      \* journal[s]: states of segment s, durable first
  writer,       \* writer[w]: what writer w knows
  report,       \* report[w][s]: what s answered to w's Seal
  ack,          \* ack[w][s]: highest SCL acknowledged to w; -1: has not installed
  committed,    \* history: every record that was ever at or below a VDL
  crashes

vars == <<journal, writer, report, ack, committed, crashes>>

Segments == Groups \X Members
GroupOf(s) == s[1]
InGroup == [g \in Groups |-> {g} \X Members]
None == [none |-> TRUE]

Max(S) == CHOOSE x \in S : \A y \in S : y <= x
Min(S) == CHOOSE x \in S : \A y \in S : x <= y
Lsns(recs) == {r.lsn : r \in recs}
Durable(s) == journal[s][1]
Memory(s) == journal[s][Len(journal[s])]
Below(w, v) == EpochOf[w] < EpochOf[v]

-----------------------------------------------------------------------------
(* Chains and truncation.                                                  *)

\* R-WRITE-3: the end of the chain that begins at `at`.
RECURSIVE ChainEnd(_, _)
ChainEnd(recs, at) ==
  LET above == {r \in recs : r.lsn > at}
  IN  IF above = {} THEN at
      ELSE LET next == CHOOSE r \in above : \A o \in above : r.lsn <= o.lsn
           IN  IF next.ps = at THEN ChainEnd(recs, next.lsn) ELSE at

Scl(state) ==
  IF Defect = "ack-over-hole" THEN Max({0} \cup Lsns(state.recs)) ELSE ChainEnd(state.recs, 0)

\* A range annuls (above, through]; `by` is the writer whose recovery made it.
Annuls(list, lsn) == \E range \in list : range.above < lsn /\ lsn <= range.through
Through(list) == Max({0} \cup {range.through : range \in list})

\* R-TRUNCATE-4
Truncated(list, w, vdl) ==
  LET kept == {range \in list : range.through <= vdl}
      base == Max({vdl, Through(list \ kept)})
  IN  kept \cup {[by |-> w, above |-> vdl, through |-> base + LAL]}

\* The truncation list that a segment reports (R-TRUNCATE-2).
ListOf(state) == IF state.forgot THEN {} ELSE writer[state.install].list

-----------------------------------------------------------------------------
Init ==
  /\ journal = [s \in Segments |->
       <<[promise |-> First, install |-> First, recs |-> {}, vdl |-> 0, forgot |-> FALSE]>>]
  /\ writer = [w \in Writers |->
       [phase |-> IF w = First THEN "open" ELSE "sealing", list |-> {}, recovered |-> 0,
        vdl |-> 0, next |-> 1, last |-> 0, lastOf |-> [g \in Groups |-> 0], log |-> {}]]
  /\ report = [w \in Writers |-> [s \in Segments |-> None]]
  /\ ack = [w \in Writers |-> [s \in Segments |-> IF w = First THEN 0 ELSE -1]]
  /\ committed = {}
  /\ crashes = 0

-----------------------------------------------------------------------------
(* What a segment does.                                                    *)

\* What leaves when the entry that leads from `old` to `new` is durable.  Overtaken
\* acknowledgements stay unsaid (R-WRITE-2).
Answer(s, old, new, memory) ==
  LET sealed == new.promise # old.promise /\ new.promise # new.install
      told == {new.install} \cup
              IF Defect = "epoch-granted-twice"
              THEN {w \in Writers : EpochOf[w] = EpochOf[new.install] /\ writer[w].phase # "sealing"}
              ELSE {}
  IN  /\ report' = IF sealed /\ writer[new.promise].phase = "sealing"
                   THEN [report EXCEPT ![new.promise][s] = new] ELSE report
      /\ ack' = IF memory.install = new.install
                THEN [w \in Writers |-> IF w \in told
                        THEN [ack[w] EXCEPT ![s] = Max({@, Scl(new)})] ELSE ack[w]]
                ELSE ack

\* Appends the entry that leads to `new`.  With MaxPending = 0 the disk is synchronous:
\* as good as an asynchronous one where nothing crashes, since answers may be late anyway.
Persist(s, new, answersAtOnce) ==
  /\ Len(journal[s]) <= MaxPending \/ MaxPending = 0
  /\ journal' = [journal EXCEPT ![s] = IF MaxPending = 0 THEN <<new>> ELSE Append(@, new)]
  /\ IF MaxPending = 0 \/ answersAtOnce
       THEN Answer(s, Memory(s), new, new) ELSE UNCHANGED <<report, ack>>
  /\ UNCHANGED <<writer, committed, crashes>>

\* One more entry is durable.
Sync(s) ==
  /\ Len(journal[s]) > 1
  /\ journal' = [journal EXCEPT ![s] = Tail(@)]
  /\ Answer(s, Durable(s), journal[s][2], Memory(s))
  /\ UNCHANGED <<writer, committed, crashes>>

\* R-FENCE-1, R-FENCE-3: may w become, or still be, the writer here?
Admits(state, w) ==
  \/ Below(state.promise, w)
  \/ state.promise = w
  \/ Defect = "epoch-granted-twice" /\ EpochOf[state.promise] = EpochOf[w]

Seal(s, w) ==
  LET now == Memory(s)
  IN  /\ writer[w].phase = "sealing"
      /\ now.promise # w /\ Admits(now, w)
      /\ Persist(s, [now EXCEPT !.promise = w], Defect = "seal-before-durable")  \* R-FENCE-2

\* R-RECOVER-3, R-TRUNCATE-1.  A relayed install is the same step (R-GOSSIP-3).
Install(s, w) ==
  LET now == Memory(s)
  IN  /\ writer[w].phase \in {"installing", "open"}
      /\ now.install # w /\ ~Below(w, now.install) /\ Admits(now, w)
      /\ Persist(s,
           [promise |-> w,
            install |-> w,
            recs    |-> IF Defect = "truncation-not-applied" THEN now.recs
                        ELSE {r \in now.recs : ~Annuls(writer[w].list, r.lsn)},
            vdl     |-> IF Defect = "install-vdl-believed"                       \* R-RECOVER-5
                        THEN Max({now.vdl, writer[w].recovered}) ELSE now.vdl,
            forgot  |-> FALSE],
           Defect = "install-before-durable")

\* R-WRITE-1, R-WRITE-4.  The message carries the writer's VDL.
Write(s, w, r) ==
  LET now == Memory(s)
  IN  /\ \/ now.install = w
         \/ Defect = "epoch-granted-twice" /\ EpochOf[now.install] = EpochOf[w]
      /\ ~Below(w, now.promise) \/ Defect = "no-fence"
      /\ r \notin now.recs
      /\ ~Annuls(ListOf(now), r.lsn)
      /\ Persist(s, [now EXCEPT !.recs = @ \cup {r}, !.vdl = Max({@, writer[w].vdl})],
                 Defect = "ack-before-durable")                                  \* R-WRITE-2

\* R-GOSSIP-1, R-GOSSIP-2, R-TRUNCATE-3: s takes from peer p the record after its chain.
Gossip(s, p) ==
  LET now == Memory(s)
      chain == {r \in Memory(p).recs : r.lsn <= Scl(Memory(p)) /\ r.lsn > Scl(now)}
      resurrects == Defect = "gossip-resurrects"
  IN  /\ GroupOf(s) = GroupOf(p) /\ s # p
      /\ Memory(p).install = now.install \/ resurrects
      /\ now.promise = now.install \/ Defect = "gossip-after-seal"
      /\ \E r \in chain :
           /\ \A o \in chain : r.lsn <= o.lsn
           /\ r \notin now.recs
           /\ ~Annuls(ListOf(now), r.lsn) \/ resurrects
           /\ Persist(s, [now EXCEPT !.recs = @ \cup {r}], FALSE)

Crash(s) ==
  LET kept == Durable(s)
      forgets == Defect = "truncation-forgotten" /\ kept.install # First
  IN  /\ crashes < MaxCrashes
      /\ Len(journal[s]) > 1 \/ (forgets /\ ~kept.forgot)
      /\ journal' = [journal EXCEPT ![s] = <<[kept EXCEPT !.forgot = forgets]>>]
      /\ crashes' = crashes + 1
      /\ UNCHANGED <<writer, report, ack, committed>>

-----------------------------------------------------------------------------
(* What a writer does.                                                     *)

WriteQuorum == IF Defect = "write-quorum-three" THEN W - 1 ELSE W
ReadQuorum == IF Defect = "read-quorum-two" THEN R - 1 ELSE R
InstallQuorum == IF Defect = "install-on-three" THEN W - 1 ELSE W

Allocated == UNION {writer[w].log : w \in Writers}

\* An open writer allocates one MTR; `groups` says where its records go.
Allocate(w, groups) ==
  LET me == writer[w]
      n == Len(groups)
      prevIn(i) == LET same == {j \in 1..(i - 1) : groups[j] = groups[i]}
                   IN IF same = {} THEN me.lastOf[groups[i]] ELSE me.next + Max(same) - 1
      record(i) == [lsn |-> me.next + i - 1,
                    pv  |-> IF i = 1 THEN me.last ELSE me.next + i - 2,
                    ps  |-> prevIn(i),
                    cpl |-> i = n,
                    pg  |-> groups[i],
                    by  |-> w]
      limit == Max({me.vdl, Through(me.list)}) + LAL
      end == me.next + n - 1
      lastOf(g) == LET here == {i \in 1..n : groups[i] = g}
                   IN IF here = {} THEN me.lastOf[g] ELSE me.next + Max(here) - 1
  IN  /\ me.phase = "open"
      /\ Cardinality(Allocated) + n <= MaxRecords
      /\ end <= limit \/ Defect = "no-allocation-limit"                          \* R-ALLOC-1
      /\ writer' = [writer EXCEPT ![w].log = @ \cup {record(i) : i \in 1..n},
                                  ![w].next = end + 1,
                                  ![w].last = end,
                                  ![w].lastOf = [g \in Groups |-> lastOf(g)]]
      /\ UNCHANGED <<journal, report, ack, committed, crashes>>

\* R-VDL-1: is everything in w's queue at or below `lsn` on a write quorum?
Reached(w, g, lsn) == Cardinality({s \in InGroup[g] : ack[w][s] >= lsn}) >= WriteQuorum
Complete(w, lsn) ==
  CASE Defect = "vcl-is-max-pgcl" -> \E g \in Groups : Reached(w, g, lsn)
    [] OTHER -> \A r \in writer[w].log : r.lsn <= lsn => Reached(w, r.pg, r.lsn)

\* R-VDL-2.  VDL may move less than acknowledgements allow: some were lost.
Advance(w) ==
  LET me == writer[w]
  IN  /\ me.phase \in {"installing", "open"}
      /\ \E r \in me.log :
           /\ r.lsn > me.vdl
           /\ r.cpl \/ Defect = "vdl-not-at-cpl"
           /\ Complete(w, r.lsn)
           /\ writer' = [writer EXCEPT ![w].vdl = r.lsn]
           /\ committed' = committed \cup {o \in me.log : o.lsn <= r.lsn}
      /\ UNCHANGED <<journal, report, ack, crashes>>

\* R-RECOVER-1: where the chain of a report ends to be valid, if list T of install N is in force.
Cut(rep, N, T) ==
  LET newer == {range \in T : Below(rep.install, range.by)
                              \/ (EpochOf[rep.install] = EpochOf[range.by] /\ rep.install # range.by)}
  IN  IF rep.install = N \/ newer = {} \/ Defect = "tail-by-length" THEN Scl(rep)
      ELSE Min({Scl(rep)} \cup {range.above : range \in newer})
Valid(rep, N, T) == {r \in rep.recs : r.lsn <= Cut(rep, N, T)}

\* R-RECOVER-2: follows prev_volume.
RECURSIVE Walk(_, _)
Walk(recs, at) ==
  IF \E r \in recs : r.pv = at /\ r.lsn > at
  THEN Walk(recs, (CHOOSE r \in recs : r.pv = at /\ r.lsn > at).lsn) ELSE at

\* A candidate decides, from the reports of Q.
Collect(w) ==
  \E Q \in SUBSET {s \in Segments : report[w][s] # None} :
    /\ writer[w].phase = "sealing"
    /\ \A g \in Groups : Cardinality(Q \cap InGroup[g]) >= ReadQuorum            \* R-QUORUM-2
    /\ \E n \in Q :
         /\ \A s \in Q : ~Below(report[w][n].install, report[w][s].install)
         /\ LET N == report[w][n].install
                T == ListOf(report[w][n])
                valid(s) == Valid(report[w][s], N, T)
                end(s) == Max({0} \cup Lsns(valid(s)))
                best == [g \in Groups |-> CHOOSE s \in Q \cap InGroup[g] :
                                            \A o \in Q \cap InGroup[g] : end(o) <= end(s)]
                B == Max({report[w][s].vdl : s \in Q})
                union == UNION {{r \in valid(best[g]) : r.lsn > B} : g \in Groups}
                vcl == Walk(union, B)
                vdl == IF Defect = "vdl-not-at-cpl" THEN vcl
                       ELSE Max({B} \cup {r.lsn : r \in {o \in union : o.lsn <= vcl /\ o.cpl}})
                list == Truncated(T, w, vdl)
            IN writer' = [writer EXCEPT ![w] =
                 [phase     |-> "installing",
                  list      |-> list,
                  recovered |-> vdl,
                  vdl       |-> B,
                  next      |-> IF Defect = "lsn-reused" THEN vdl + 1 ELSE Through(list) + 1,   \* R-ALLOC-2
                  last      |-> vdl,
                  lastOf    |-> [g \in Groups |->
                                   Max({0} \cup {l \in Lsns(valid(best[g])) : l <= vdl})],
                  log       |-> {r \in union : r.lsn <= vdl}]]
    /\ report' = [report EXCEPT ![w] = [s \in Segments |-> None]]
    /\ UNCHANGED <<journal, ack, committed, crashes>>

\* R-RECOVER-3, R-RECOVER-4
Open(w) ==
  LET me == writer[w]
      early == Defect = "tail-not-brought-to-four"
  IN  /\ me.phase = "installing"
      /\ \A g \in Groups : Cardinality({s \in InGroup[g] : ack[w][s] >= 0}) >= InstallQuorum
      /\ me.vdl = me.recovered \/ early
      /\ writer' = [writer EXCEPT ![w].phase = "open", ![w].vdl = me.recovered]
      /\ committed' = committed \cup {r \in me.log : r.lsn <= me.recovered}
      /\ UNCHANGED <<journal, report, ack, crashes>>

-----------------------------------------------------------------------------
Next ==
  \/ \E s \in Segments : Sync(s) \/ Crash(s)
  \/ \E s \in Segments, w \in Writers :
       \/ Seal(s, w) \/ Install(s, w)
       \/ \E r \in writer[w].log : r.pg = GroupOf(s) /\ Write(s, w, r)
  \/ \E s, p \in Segments : Gossip(s, p)
  \/ \E w \in Writers :
       \/ Collect(w) \/ Open(w) \/ Advance(w)
       \/ \E groups \in Placements : Allocate(w, groups)

Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
(* Invariants: ../invariants.md, same names.                               *)

Opened == {w \in Writers : writer[w].phase = "open"}
Decided == {w \in Writers : writer[w].phase # "sealing"}

\* I-COPIES
Copies ==
  /\ \A r \in committed : Cardinality({s \in InGroup[r.pg] : r \in Durable(s).recs}) >= W
  /\ \A w \in Decided : writer[w].vdl \in {0} \cup Lsns(committed)

\* I-KEPT.  (Not of a recovery that never completes: a later one may keep what it annulled.)
Kept == \A w \in Opened : \A r \in committed : ~Annuls(writer[w].list, r.lsn)

\* I-LINEAGE
Lineage ==
  \A r \in committed :
    /\ \A o \in committed : o.lsn = r.lsn => o = r
    /\ r.pv = Max({0} \cup {l \in Lsns(committed) : l < r.lsn})

\* I-BACK.  Already of a candidate, and what a lower volume epoch acknowledges *later* counts too.
NoWayBack ==
  \A v, w \in Decided :
    Below(v, w) => writer[v].vdl <= writer[w].recovered

\* I-ONE-WRITER
OneWriter == \A v, w \in Opened : EpochOf[v] = EpochOf[w] => v = w

\* I-LSN
LsnOnce == \A r, o \in Allocated : r.lsn = o.lsn => r = o

\* I-LAL
Limited ==
  \A w \in Opened : writer[w].next - 1 <= Max({writer[w].vdl, Through(writer[w].list)}) + LAL

\* I-ANNULLED
AnnulledStaysAway ==
  \A s \in Segments : \A w \in Opened :
    LET now == Memory(s)
    IN  now.install = w \/ Below(w, now.install) =>
          \A r \in now.recs : ~Annuls(writer[w].list, r.lsn)

\* I-CHAIN
ChainsAgree ==
  \A s, p \in Segments :
    LET a == Memory(s)  b == Memory(p)  end == Min({Scl(a), Scl(b)})
    IN  GroupOf(s) = GroupOf(p) /\ a.install = b.install =>
          {r \in a.recs : r.lsn <= end} = {r \in b.recs : r.lsn <= end}

\* I-CPL
WholeMtrs ==
  \A w \in Decided : writer[w].vdl = 0 \/ \E r \in Allocated : r.lsn = writer[w].vdl /\ r.cpl

\* I-PROMISE, the part that is about one moment
PromiseAboveInstall ==
  \A s \in Segments : \A i \in DOMAIN journal[s] : ~Below(journal[s][i].promise, journal[s][i].install)

=============================================================================
