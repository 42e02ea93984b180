------------------------------- MODULE Rejoin -------------------------------
(***************************************************************************)
(* One question in isolation: when may a segment that lost its journal     *)
(* count again?  (R-REJOIN-1 to 4, ../decisions/0017.)                     *)
(*                                                                         *)
(* One group, one record, an old writer that wants it acknowledged, and a  *)
(* candidate that recovers.  Disks are synchronous; a loss takes all.      *)
(* What a segment says is never taken back: acks and reports are sets of   *)
(* messages, and their receiver may have got any subset of them.           *)
(*                                                                         *)
(* Every message carries its sender's incarnation (how often it lost its   *)
(* journal) and, for each peer, the highest incarnation of that peer that  *)
(* the sender has answered: the mark that R-REJOIN-3 asks for.             *)
(***************************************************************************)
EXTENDS Integers, FiniteSets, Sequences, TLC

CONSTANTS Members, W, R, MaxLosses, Defect

VARIABLES seg, acks, reports, committed, recovered, losses
vars == <<seg, acks, reports, committed, recovered, losses>>

Init ==
  /\ seg = [s \in Members |-> [mode |-> "in", sealed |-> FALSE, has |-> FALSE, incarnation |-> 0,
                               marks |-> [m \in Members |-> 0], heard |-> {}, target |-> FALSE]]
  /\ acks = {} /\ reports = {}
  /\ committed = FALSE
  /\ recovered = "no"
  /\ losses = 0

Says(s) == [from |-> s, incarnation |-> seg[s].incarnation, has |-> seg[s].has, marks |-> seg[s].marks]

\* The old writer's record arrives; or a peer's, by gossip, at one that catches up.
Write(s) ==
  /\ ~seg[s].has /\ ~seg[s].sealed
  /\ \/ seg[s].mode = "in"
     \/ seg[s].mode = "catching up" /\ \E p \in Members : seg[p].mode = "in" /\ seg[p].has
  /\ seg' = [seg EXCEPT ![s].has = TRUE]
  /\ UNCHANGED <<acks, reports, committed, recovered, losses>>

Acknowledge(s) ==
  /\ seg[s].mode = "in" /\ seg[s].has /\ ~seg[s].sealed
  /\ acks' = acks \cup {Says(s)}
  /\ UNCHANGED <<seg, reports, committed, recovered, losses>>

Seal(s) ==
  /\ seg[s].mode = "in"
  /\ recovered = "no"
  /\ seg' = [seg EXCEPT ![s].sealed = TRUE]
  /\ reports' = reports \cup {Says(s)}
  /\ UNCHANGED <<acks, committed, recovered, losses>>

Lose(s) ==
  /\ losses < MaxLosses
  /\ seg' = [seg EXCEPT ![s] =
       [mode |-> IF Defect = "amnesia-counts" THEN "in" ELSE "out", sealed |-> FALSE, has |-> FALSE,
        incarnation |-> @.incarnation + 1, marks |-> [m \in Members |-> 0], heard |-> {}, target |-> FALSE]]
  /\ losses' = losses + 1
  /\ UNCHANGED <<acks, reports, committed, recovered>>

\* R-REJOIN-1: s asks p, which marks the loss durably before it answers.
Ask(s, p) ==
  /\ s # p /\ seg[s].mode = "out" /\ seg[p].mode = "in"
  /\ \A h \in seg[s].heard : h.from # p
  /\ seg' = [seg EXCEPT ![s].heard = @ \cup {[from |-> p, sealed |-> seg[p].sealed, has |-> seg[p].has,
                                              marks |-> [seg[p].marks EXCEPT ![p] = seg[p].incarnation]]},
                        ![p].marks[s] = seg[s].incarnation]
  /\ UNCHANGED <<acks, reports, committed, recovered, losses>>

Enough == IF Defect = "loss-asks-too-few" THEN R - 1 ELSE Cardinality(Members) - R + 1

\* R-REJOIN-4: the highest incarnation of m that s has answered, or that those it heard know of.
Marks(s, m) ==
  LET told == {h.marks[m] : h \in seg[s].heard} \cup {seg[s].marks[m]}
  IN  IF Defect = "losses-forgotten" \/ m = s THEN seg[s].marks[m]
      ELSE CHOOSE i \in told : \A j \in told : j <= i

TakeOver(s) ==
  LET heard == seg[s].heard
  IN  /\ seg[s].mode = "out" /\ Cardinality(heard) >= Enough
      /\ seg' = [seg EXCEPT ![s].mode = "catching up",
                            ![s].sealed = \E h \in heard : h.sealed,
                            ![s].target = \E h \in heard : h.has,
                            ![s].marks = [m \in Members |-> Marks(s, m)],
                            ![s].heard = {}]
      /\ UNCHANGED <<acks, reports, committed, recovered, losses>>

\* R-REJOIN-2
Rejoin(s) ==
  /\ seg[s].mode = "catching up"
  /\ seg[s].target => seg[s].has \/ Defect = "rejoin-before-caught-up"
  /\ seg' = [seg EXCEPT ![s].mode = "in", ![s].target = FALSE]
  /\ UNCHANGED <<acks, reports, committed, recovered, losses>>

\* R-REJOIN-3: whose word counts, among the messages received?
Counted(received) ==
  {m.from : m \in {m \in received :
     Defect = "loss-unmarked" \/ \A o \in received :
       o.marks[m.from] <= m.incarnation /\ (o.from = m.from => o.incarnation <= m.incarnation)}}

Commit ==
  /\ ~committed
  /\ \E received \in SUBSET acks : Cardinality(Counted(received)) >= W
  /\ committed' = TRUE
  /\ UNCHANGED <<seg, acks, reports, recovered, losses>>

Recover ==
  /\ recovered = "no"
  /\ \E received \in SUBSET reports :
       /\ Cardinality(Counted(received)) >= R
       /\ recovered' = IF \E m \in received : m.from \in Counted(received) /\ m.has THEN "with" ELSE "without"
  /\ UNCHANGED <<seg, acks, reports, committed, losses>>

Next ==
  \/ \E s \in Members : Write(s) \/ Acknowledge(s) \/ Seal(s) \/ Lose(s) \/ TakeOver(s) \/ Rejoin(s)
  \/ \E s, p \in Members : Ask(s, p)
  \/ Commit \/ Recover

Spec == Init /\ [][Next]_vars

\* I-AMNESIA, by its consequence: what was, or will be, acknowledged is found.
NothingLost == ~(committed /\ recovered = "without")

Once(i, name, found) ==
  IF found /\ TLCGet(i) = FALSE THEN PrintT("reached: " \o name) /\ TLCSet(i, TRUE) ELSE TRUE
ASSUME \A i \in 1..3 : TLCSet(i, FALSE)
Sometimes ==
  /\ Once(1, "a segment that lost its journal counts again", \E s \in Members : seg[s].incarnation > 0 /\ seg[s].mode = "in")
  /\ Once(2, "it takes a promise over", \E s \in Members : seg[s].incarnation > 0 /\ seg[s].mode = "catching up" /\ seg[s].sealed)
  /\ Once(3, "an acknowledgement from after a loss makes the quorum",
          committed /\ Cardinality({m.from : m \in {m \in acks : m.incarnation = 0}}) < W)

Symmetry == Permutations(Members)
=============================================================================
