------------------------------- MODULE Global -------------------------------
(***************************************************************************)
(* Who is primary: switchover, its undoing, failover and rejoining of      *)
(* regions (R-GLOBAL-2 to 9, ../decisions/0030).                           *)
(*                                                                         *)
(* A region is one durable log with its lineage; what is in it is durable  *)
(* in the region and acknowledged (the fence and the grant are in the same *)
(* log).  Any region can take the stream of any primary, one record at a   *)
(* time, or not.  Controllers may run at once, stop anywhere, and go on    *)
(* with what they wrote down.  Nobody has a clock.                         *)
(*                                                                         *)
(* A record is its LSN and the global epoch in which it was written, so    *)
(* two logs hold the same record at an LSN when they hold the same epoch.  *)
(***************************************************************************)
EXTENDS Integers, FiniteSets, Sequences, TLC

CONSTANTS Regions, Home, Controllers, MaxNumber, MaxLsn, Defect

VARIABLES
  log,       \* by region: global epochs, by LSN
  lineage,   \* by region: the branches that lead to the end of its log, oldest first
  grant,     \* by region: the global epoch in which it takes commits, or NoGrant
  fence,     \* by region: the end of its last grant, or Open
  promise,   \* by region: it accepts no promotion in this epoch or below
  kept,      \* by region: records of its named snapshots
  errand,    \* by controller: what it wrote down that it would do, or Idle
  number,    \* by controller: the last number it wrote down
  branches,  \* history: every branch that began, and how
  taken      \* history: every record that a primary took
vars == <<log, lineage, grant, fence, promise, kept, errand, number, branches, taken>>

NoGrant == -1
Open == [by |-> NoGrant, final |-> 0]
Idle == [op |-> "idle"]
Max(S) == CHOOSE n \in S : \A m \in S : m <= n
Min(S) == CHOOSE n \in S : \A m \in S : n <= m

\* A global epoch is a number and the controller that chose it: here one integer, in the same order.
Epoch(n, c) == Cardinality(Controllers) * (n - 1) + c

Last(s) == s[Len(s)]
Branch(r) == Last(lineage[r])
Records(r) == {[lsn |-> n, epoch |-> log[r][n]] : n \in 1..Len(log[r])}

Init ==
  LET created == [epoch |-> 0, primary |-> Home, after |-> 0]
  IN  /\ log = [r \in Regions |-> <<>>]
      /\ lineage = [r \in Regions |-> <<created>>]
      /\ grant = [r \in Regions |-> IF r = Home THEN 0 ELSE NoGrant]
      /\ fence = [r \in Regions |-> Open]
      /\ promise = [r \in Regions |-> 0]
      /\ kept = [r \in Regions |-> {}]
      /\ errand = [c \in Controllers |-> Idle]
      /\ number = [c \in Controllers |-> 0]
      /\ branches = {[branch |-> created, parent |-> NoGrant, planned |-> FALSE]}
      /\ taken = {}

-----------------------------------------------------------------------------
\* R-GLOBAL-2
Takes(r) ==
  /\ grant[r] # NoGrant /\ grant[r] = Branch(r).epoch
  /\ fence[r] = Open
  /\ promise[r] <= grant[r]

Commit(r) ==
  /\ Takes(r) /\ Len(log[r]) < MaxLsn
  /\ log' = [log EXCEPT ![r] = Append(@, grant[r])]
  /\ taken' = taken \cup {[lsn |-> Len(log[r]) + 1, epoch |-> grant[r]]}
  /\ UNCHANGED <<lineage, grant, fence, promise, kept, errand, number, branches>>

-----------------------------------------------------------------------------
\* How far two logs can agree, by comparing their lineages (R-GLOBAL-4).
SharedEnd(a, b) ==
  LET same == Max({0} \cup {n \in 1..Min({Len(a), Len(b)}) : \A m \in 1..n : a[m] = b[m]})
      ends == {l[same + 1].after : l \in {l \in {a, b} : Len(l) > same}}
  IN  IF ends = {} THEN MaxLsn ELSE Min(ends)

\* R-GLOBAL-9: the stream of s's own branch, or of a newer one, from that branch's primary.
Streams(p, s) ==
  /\ p # s /\ Branch(p).primary = p
  /\ Branch(p).epoch >= Branch(s).epoch \/ Defect = "stale-stream-accepted"

\* R-GLOBAL-5: one log entry: the new lineage, the truncation, and the snapshot of what it cuts off.
TakeOver(p, s) ==
  LET end == IF Defect = "parted-by-last-branch" THEN Branch(p).after ELSE SharedEnd(lineage[p], lineage[s])
      stays == IF Defect = "rejoin-without-truncation" THEN Len(log[s]) ELSE Min({Len(log[s]), end})
  IN  /\ Streams(p, s) /\ lineage[s] # lineage[p]
      /\ kept' = [kept EXCEPT ![s] = IF Defect = "lost-suffix-not-counted" THEN @
                                     ELSE @ \cup {d \in Records(s) : d.lsn > stays}]
      /\ log' = [log EXCEPT ![s] = SubSeq(@, 1, stays)]
      /\ lineage' = [lineage EXCEPT ![s] = lineage[p]]
      /\ grant' = [grant EXCEPT ![s] = NoGrant]
      /\ fence' = [fence EXCEPT ![s] = Open]
      /\ UNCHANGED <<promise, errand, number, branches, taken>>

Receive(p, s) ==
  /\ Streams(p, s) /\ lineage[s] = lineage[p]
  /\ Len(log[s]) < Len(log[p])
  /\ log' = [log EXCEPT ![s] = Append(@, log[p][Len(@) + 1])]
  /\ UNCHANGED <<lineage, grant, fence, promise, kept, errand, number, branches, taken>>

-----------------------------------------------------------------------------
\* R-GLOBAL-7: the intent is durable before the epoch is said.  A number that it did not use.
Intend(c, above, what) ==
  \E n \in {n \in (number[c] + 1)..MaxNumber : Epoch(n, c) > above} :
    /\ number' = [number EXCEPT ![c] = n]
    /\ errand' = [errand EXCEPT ![c] = [epoch |-> Epoch(n, c)] @@ what]
    /\ UNCHANGED <<log, lineage, grant, fence, promise, kept, branches, taken>>

MayBegin(c) == errand[c] = Idle \/ errand[c].op \in {"done", "gave up"}

IntendSwitchover(c, old, target) ==
  /\ MayBegin(c) /\ old # target
  /\ Intend(c, 0, [op |-> "switchover", old |-> old, target |-> target, final |-> NoGrant, parent |-> NoGrant])

IntendFailover(c, target) ==
  /\ MayBegin(c)
  /\ Intend(c, 0, [op |-> "failover", target |-> target])

\* R-GLOBAL-3: the fence names its successor; a fenced region hands on once.
Fence(c) ==
  LET e == errand[c] r == e.old
  IN  /\ e.op = "switchover" /\ e.final = NoGrant
      /\ grant[r] # NoGrant /\ grant[r] = Branch(r).epoch
      /\ e.epoch > grant[r] /\ e.epoch > promise[r]
      /\ fence[r] = Open \/ Defect = "handed-on-twice"
      /\ fence' = [fence EXCEPT ![r] = [by |-> e.epoch, final |-> Len(log[r])]]
      /\ errand' = [errand EXCEPT ![c] = [e EXCEPT !.final = Len(log[r]), !.parent = grant[r]]]
      /\ UNCHANGED <<log, lineage, grant, promise, kept, number, branches, taken>>

\* The branches that lead to LSN at, and the new one: a branch of which nothing has arrived here is not claimed.
With(l, branch) == Append(SelectSeq(l, LAMBDA b : b.after < branch.after \/ b = l[1]), branch)

Begin(r, epoch, planned, parent) ==
  LET branch == [epoch |-> epoch, primary |-> r, after |-> Len(log[r])]
  IN  /\ lineage' = [lineage EXCEPT ![r] = With(@, branch)]
      /\ grant' = [grant EXCEPT ![r] = epoch]
      /\ fence' = [fence EXCEPT ![r] = Open]
      /\ promise' = [promise EXCEPT ![r] = epoch]
      /\ branches' = branches \cup {[branch |-> branch, parent |-> parent, planned |-> planned]}

\* R-GLOBAL-2: once in an epoch, above every epoch that it knows or has promised.
MayBePromoted(r, epoch) ==
  \/ epoch > promise[r] /\ epoch > Branch(r).epoch
  \/ Defect = "failover-without-fencing-epoch" /\ epoch >= Branch(r).epoch

Done(c, op) == errand' = [errand EXCEPT ![c] = [op |-> op]]

Promote(c) ==
  LET e == errand[c] r == e.target
  IN  /\ e.op = "switchover" /\ e.final # NoGrant
      /\ MayBePromoted(r, e.epoch)
      /\ \/ Len(log[r]) = e.final /\ Branch(r).epoch = e.parent
         \/ Defect = "switchover-before-drain"
      /\ Begin(r, e.epoch, TRUE, e.parent)
      /\ Done(c, "done")
      /\ UNCHANGED <<log, kept, number, taken>>

\* R-GLOBAL-4
FailOver(c) ==
  LET e == errand[c] r == e.target
  IN  /\ e.op = "failover"
      /\ grant[r] # Branch(r).epoch
      /\ MayBePromoted(r, e.epoch)
      /\ Begin(r, e.epoch, FALSE, Branch(r).epoch)
      /\ Done(c, "done")
      /\ UNCHANGED <<log, kept, number, taken>>

\* R-GLOBAL-8: any controller that finds the fence, in an epoch above the fence's: first the target renounces, then the old primary goes on.
IntendUndo(c, old, other) ==
  LET e == errand[other]
  IN  /\ MayBegin(c) \/ c = other
      /\ e.op = "switchover" /\ e.final # NoGrant /\ e.old = old
      /\ fence[old].by = e.epoch
      /\ Intend(c, e.epoch, [op |-> "undo", old |-> old, target |-> e.target, final |-> e.final, parent |-> e.parent,
                             undoes |-> e.epoch, renounced |-> Defect = "undo-without-renounce"])

Renounce(c) ==
  LET e == errand[c] r == e.target
  IN  /\ e.op = "undo" /\ ~e.renounced
      /\ promise[r] < e.epoch /\ Branch(r).epoch < e.undoes
      /\ promise' = [promise EXCEPT ![r] = e.epoch]
      /\ errand' = [errand EXCEPT ![c] = [e EXCEPT !.renounced = TRUE]]
      /\ UNCHANGED <<log, lineage, grant, fence, kept, number, branches, taken>>

Undo(c) ==
  LET e == errand[c] r == e.old
  IN  /\ e.op = "undo" /\ e.renounced
      /\ fence[r].by = e.undoes /\ fence[r].final = e.final
      /\ MayBePromoted(r, e.epoch)
      /\ Begin(r, e.epoch, TRUE, e.parent)
      /\ Done(c, "done")
      /\ UNCHANGED <<log, kept, number, taken>>

GiveUp(c) ==
  /\ ~MayBegin(c)
  /\ Done(c, "gave up")
  /\ UNCHANGED <<log, lineage, grant, fence, promise, kept, number, branches, taken>>

\* What a crash takes away, in a build that says things before they are durable.
ForgetFence(r) ==
  /\ Defect = "switchover-fence-not-durable" /\ fence[r] # Open
  /\ fence' = [fence EXCEPT ![r] = Open]
  /\ UNCHANGED <<log, lineage, grant, promise, kept, errand, number, branches, taken>>

ForgetErrand(c) ==
  /\ Defect = "epoch-before-intent" /\ errand[c] # Idle
  /\ number' = [number EXCEPT ![c] = @ - 1]
  /\ errand' = [errand EXCEPT ![c] = Idle]
  /\ UNCHANGED <<log, lineage, grant, fence, promise, kept, branches, taken>>

Next ==
  \/ \E r \in Regions : Commit(r) \/ ForgetFence(r)
  \/ \E p, s \in Regions : TakeOver(p, s) \/ Receive(p, s)
  \/ \E c \in Controllers : Fence(c) \/ Promote(c) \/ FailOver(c) \/ Renounce(c) \/ Undo(c) \/ GiveUp(c) \/ ForgetErrand(c)
  \/ \E c \in Controllers, r, t \in Regions : IntendSwitchover(c, r, t)
  \/ \E c \in Controllers, t \in Regions : IntendFailover(c, t)
  \/ \E c, o \in Controllers, r \in Regions : IntendUndo(c, r, o)

Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
\* I-ERRAND, I-PRIMARY: an epoch has one primary and one branch point, for good.
OneBranchPerEpoch == \A a, b \in branches : a.branch.epoch = b.branch.epoch => a.branch = b.branch

\* A record is where its branch is, and was written by that branch's primary.
Covers(l, n) == Last(SelectSeq(l, LAMBDA b : b.after < n)).epoch
LogsFollowTheirLineage == \A r \in Regions : \A n \in 1..Len(log[r]) : log[r][n] = Covers(lineage[r], n)

\* I-SECONDARY
LogsAgree ==
  \A r, q \in Regions : \A n \in 1..Min({Len(log[r]), Len(log[q]), SharedEnd(lineage[r], lineage[q])}) :
    log[r][n] = log[q][n]

\* I-RPO-0: what the old primary took in its branch is at or below the point where its successor goes on.
SwitchoverLosesNothing ==
  \A b \in branches : b.planned => \A d \in taken : d.epoch = b.parent => d.lsn <= b.branch.after
HandedOnOnce == \A a, b \in branches : a.planned /\ b.planned /\ a.parent = b.parent => a = b

\* I-SUFFIX: what a region took is in its log or in a named snapshot of it.
AcknowledgedIsKept ==
  \A d \in taken, b \in branches :
    b.branch.epoch = d.epoch => d \in Records(b.branch.primary) \cup kept[b.branch.primary]
NothingLostWithoutFailover == (\A b \in branches : b.branch.epoch = 0 \/ b.planned) => \A r \in Regions : kept[r] = {}

Once(i, name, found) ==
  IF found /\ TLCGet(i) = FALSE THEN PrintT("reached: " \o name) /\ TLCSet(i, TRUE) ELSE TRUE
ASSUME \A i \in 1..6 : TLCSet(i, FALSE)
Sometimes ==
  /\ Once(1, "a switchover that carried a commit", \E b \in branches : b.planned /\ b.branch.primary # Home /\ b.branch.after > 0)
  /\ Once(2, "a switchover undone", \E b \in branches : b.planned /\ b.branch.primary = Home)
  /\ Once(3, "a lost suffix is named", \E r \in Regions : kept[r] # {})
  /\ Once(4, "two lineages take commits at one time", \E r, q \in Regions : r # q /\ Takes(r) /\ Takes(q))
  /\ Once(5, "a commit in the third branch of a lineage", \E r \in Regions : Len(lineage[r]) > 2 /\ Len(log[r]) > Branch(r).after)
  /\ Once(6, "an old primary follows the new one", grant[Home] = NoGrant /\ Len(log[Home]) > Branch(Home).after)

Symmetry == Permutations(Regions \ {Home})
=============================================================================
