-------------------------------- MODULE Reads --------------------------------
(***************************************************************************)
(* Reading and collecting: what a segment may serve, and what it may       *)
(* forget (R-READ-1 to 5, R-COLLECT-1 to 3).                               *)
(*                                                                         *)
(* One volume epoch: no recovery, no truncation, synchronous disks         *)
(* (Auriga.tla has those).  Each page belongs to a group; a record's LSN   *)
(* is its position in log.  The writer keeps its pages in a cache that it  *)
(* may evict from, and reads at VDL; a reader is told VDL late, and says   *)
(* late which read points it uses.  Each has at most one read under way.   *)
(* A segment always knows the PGMRPL of now: read points never go back, so *)
(* a PGMRPL that it learns late allows no floor that it did not allow when *)
(* it was new.                                                             *)
(***************************************************************************)
EXTENDS Integers, FiniteSets, Sequences, TLC

CONSTANTS Members, W, Pages, Writer, Reader, MaxLsn, Defect

Instances == {Writer, Reader}
\* Each page is alone in its group: what matters is that a group can be idle while the volume goes on.
Groups == Pages

VARIABLES
  log,       \* the pages changed, by LSN
  scl,       \* by group and member: its chain, as an LSN of the group
  floor,     \* by group and member: reads below are refused
  cached,    \* pages in the writer's cache
  seen,      \* the VDL that the reader was told: its read point
  read,      \* by instance: its read under way, or None
  reported,  \* the lowest read point that the reader said it uses
  right      \* whether every page served was as of its read point
vars == <<log, scl, floor, cached, seen, read, reported, right>>

None == [page |-> "none"]
Max(S) == CHOOSE n \in S : \A m \in S : m <= n
Min(S) == CHOOSE n \in S : \A m \in S : n <= m

\* The last record of page (and group) p at or below lsn; zero when there is none.
LastOf(p, lsn) == Max({0} \cup {n \in 1..Len(log) : n <= lsn /\ log[n] = p})
OnQuorum(n) == Cardinality({m \in Members : scl[log[n]][m] >= n}) >= W
VDL == Max({n \in 0..Len(log) : \A k \in 1..n : OnQuorum(k)})

Init ==
  /\ log = <<>>
  /\ scl = [g \in Groups |-> [m \in Members |-> 0]]
  /\ floor = scl
  /\ cached = Pages
  /\ seen = 0 /\ reported = 0
  /\ read = [i \in Instances |-> None]
  /\ right = TRUE

\* A page is changed in the cache only.
Write(p) ==
  /\ Len(log) < MaxLsn /\ p \in cached
  /\ log' = Append(log, p)
  /\ UNCHANGED <<scl, floor, cached, seen, read, reported, right>>

Store(g, m) ==
  LET next == {n \in 1..Len(log) : log[n] = g /\ n > scl[g][m]}
  IN  /\ next # {}
      /\ scl' = [scl EXCEPT ![g][m] = Min(next)]
      /\ UNCHANGED <<log, floor, cached, seen, read, reported, right>>

\* R-READ-5: a page leaves the cache only when storage can give its last version back.
Evict(p) ==
  /\ p \in cached
  /\ LastOf(p, Len(log)) <= VDL \/ Defect = "evict-above-vdl"
  /\ cached' = cached \ {p}
  /\ UNCHANGED <<log, scl, floor, seen, read, reported, right>>

\* R-READ-4: a writer's read point is VDL; a reader's is some VDL that it was told, and never goes back.
Known == IF Defect = "read-point-above-vdl" THEN Len(log) ELSE VDL

Learn ==
  \E lsn \in (seen + 1)..Known :
    /\ seen' = lsn
    /\ UNCHANGED <<log, scl, floor, cached, read, reported, right>>

ReadPoint(i) == IF i = Writer THEN Known ELSE seen

\* R-READ-2: the reader translates its read point to the group.
GroupPoint(g, point) == IF Defect = "read-not-translated" THEN point ELSE LastOf(g, point)

Ask(i, p) ==
  /\ read[i] = None
  /\ i = Writer => p \notin cached
  /\ read' = [read EXCEPT ![i] = [page |-> p, point |-> ReadPoint(i), group |-> GroupPoint(p, ReadPoint(i))]]
  /\ UNCHANGED <<log, scl, floor, cached, seen, reported, right>>

\* R-READ-1
Serves(m, r) ==
  /\ scl[r.page][m] >= r.group \/ Defect = "read-above-scl"
  /\ floor[r.page][m] <= r.point

\* R-READ-3
Version(m, r) ==
  LET has == scl[r.page][m]
  IN  LastOf(r.page, IF Defect = "read-ignores-read-point" THEN has ELSE Min({has, r.point}))

Serve(i, m) ==
  LET r == read[i]
  IN  /\ r # None /\ Serves(m, r)
      /\ right' = (right /\ Version(m, r) = LastOf(r.page, r.point))
      /\ read' = [read EXCEPT ![i] = None]
      /\ cached' = IF i = Writer THEN cached \cup {r.page} ELSE cached
      /\ UNCHANGED <<log, scl, floor, seen, reported>>

\* R-COLLECT-2: reads under way count.
Lowest(i) == IF read[i] = None \/ Defect = "pgmrpl-ignores-reads" THEN ReadPoint(i) ELSE read[i].point

Report ==
  /\ reported # Lowest(Reader)
  /\ reported' = Lowest(Reader)
  /\ UNCHANGED <<log, scl, floor, cached, seen, read, right>>

PGMRPL == Min({Lowest(Writer), reported})

\* R-COLLECT-1
Collect(g, m) ==
  LET limit == IF Defect = "collect-above-pgmrpl" THEN scl[g][m] ELSE Min({PGMRPL, scl[g][m]})
  IN  /\ LastOf(g, limit) > floor[g][m]
      /\ floor' = [floor EXCEPT ![g][m] = LastOf(g, limit)]
      /\ UNCHANGED <<log, scl, cached, seen, read, reported, right>>

Next ==
  \/ \E p \in Pages : Write(p) \/ Evict(p)
  \/ \E g \in Groups, m \in Members : Store(g, m) \/ Collect(g, m)
  \/ Learn \/ Report
  \/ \E i \in Instances, p \in Pages : Ask(i, p)
  \/ \E i \in Instances, m \in Members : Serve(i, m)

Spec == Init /\ [][Next]_vars

\* I-PAGE: a page served is the page as of its read point.
PageAsOf == right

UnderWay == {read[i] : i \in Instances} \ {None}
DurablePoints == \A r \in UnderWay : r.point <= VDL

\* I-FLOOR
NothingNeededIsGone == \A r \in UnderWay, m \in Members : floor[r.page][m] <= r.point
FloorsAreDurable == \A g \in Groups, m \in Members : floor[g][m] <= VDL

\* I-PROGRESS, as far as a state can show it: whoever asks finds a write quorum that serves.
SomeoneServes == \A r \in UnderWay : Cardinality({m \in Members : Serves(m, r)}) >= W

\* What the writer wrote, it reads back.
OwnWrites == read[Writer] # None => LastOf(read[Writer].page, Len(log)) <= read[Writer].point

ReadPointsNeverGoBack == [][seen' >= seen /\ PGMRPL' >= PGMRPL]_vars

Once(i, name, found) ==
  IF found /\ TLCGet(i) = FALSE THEN PrintT("reached: " \o name) /\ TLCSet(i, TRUE) ELSE TRUE
ASSUME \A i \in 1..4 : TLCSet(i, FALSE)
Sometimes ==
  /\ Once(1, "a page is served as of a read point that later records have passed",
          \E r \in UnderWay, m \in Members : Serves(m, r) /\ LastOf(r.page, scl[r.page][m]) > Version(m, r))
  /\ Once(2, "a read under way keeps a floor down",
          \E r \in UnderWay : r.point = PGMRPL /\ PGMRPL < VDL)
  /\ Once(3, "a group is idle while the volume goes on",
          \E r \in UnderWay : r.point > r.group /\ r.group > 0)
  /\ Once(4, "a segment that lags is passed over",
          \E r \in UnderWay, m \in Members : scl[r.page][m] < r.group)

Symmetry == Permutations(Members)
=============================================================================
