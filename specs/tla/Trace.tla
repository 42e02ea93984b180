------------------------------- MODULE Trace --------------------------------
(***************************************************************************)
(* Judges the trace of a run.  TraceData.tla, which trace.py makes of the  *)
(* lines that the processes of a cluster wrote, defines Events and the     *)
(* sizes of the quorums.  Each event must be one that the rules allow      *)
(* after those before it; TLC reports a deadlock at the first that is not, *)
(* and its last state shows which (`at` is the number of events accepted). *)
(*                                                                         *)
(* An event is what an outsider may see of a step of Auriga.tla:           *)
(*                                                                         *)
(*   event          Auriga.tla            note (impl/protocol/src/note.rs) *)
(*   "sealed"       Sync, of a promise    Note::Sealed                     *)
(*   "installed"    Sync, of an install   Note::Installed                  *)
(*   "acknowledged" Sync                  Note::Acknowledged               *)
(*   "allocated"    Allocate              Note::Allocated                  *)
(*   "durable"      Advance               Note::Durable                    *)
(*   "opened"       Open                  Note::Opened                     *)
(*   "rejoined"     Rejoin!Rejoin         Note::Learnt                     *)
(*                                                                         *)
(* One volume.  Reads and collection are the observer's business.  Lines   *)
(* that a killed process had not yet written are missing: so absence       *)
(* proves nothing, and what needs a count of copies (R-QUORUM-1,           *)
(* R-RECOVER-3) is asked for only if COMPLETE says that none is missing.   *)
(***************************************************************************)
EXTENDS Integers, FiniteSets, Sequences, TraceData

VARIABLES at, promised, installed, acknowledged, allocated, opened, durable, copies
vars == <<at, promised, installed, acknowledged, allocated, opened, durable, copies>>

Segments == {Events[i].segment : i \in {j \in DOMAIN Events :
               Events[j].kind \in {"sealed", "installed", "acknowledged", "rejoined"}}}
Epochs == {Events[i].epoch : i \in {j \in DOMAIN Events : Events[j].kind # "rejoined"}}
Pgs == {GroupOf[s] : s \in Segments}
Max(S) == CHOOSE x \in S : \A y \in S : y <= x

Init ==
  /\ at = 0
  /\ promised = [s \in Segments |-> 0]
  /\ installed = [s \in Segments |-> 0]
  /\ acknowledged = [s \in Segments |-> 0]              \* highest SCL said, as far as it is in force
  /\ copies = [e \in Epochs |-> [s \in Segments |-> -1]]  \* highest SCL said in each epoch; -1: not installed
  /\ allocated = {}
  /\ opened = {}
  /\ durable = [e \in Epochs |-> 0]

e == Events[at + 1]

Sealed ==
  /\ e.kind = "sealed"
  /\ e.epoch >= promised[e.segment]                                     \* R-FENCE-1
  /\ e.scl >= acknowledged[e.segment]                                   \* R-FENCE-2
  /\ promised' = [promised EXCEPT ![e.segment] = e.epoch]
  /\ UNCHANGED <<installed, acknowledged, allocated, opened, durable, copies>>

\* The first range of the new list that the segment has not seen cuts what it had acknowledged.
Cut(list, seen) == {range.above : range \in {r \in list : r.epoch > seen}}
Installed ==
  LET s == e.segment
      cut == Cut(e.list, installed[s])
      least == IF cut = {} THEN acknowledged[s] ELSE CHOOSE x \in cut : \A y \in cut : x <= y
  IN  /\ e.kind = "installed"
      /\ e.epoch >= promised[s] /\ e.epoch >= installed[s]              \* R-FENCE-1
      /\ promised' = [promised EXCEPT ![s] = e.epoch]
      /\ installed' = [installed EXCEPT ![s] = e.epoch]
      /\ acknowledged' = [acknowledged EXCEPT ![s] = IF least < @ THEN least ELSE @]
      /\ copies' = [copies EXCEPT ![e.epoch][s] = Max({@, 0})]
      /\ UNCHANGED <<allocated, opened, durable>>

Acknowledged ==
  LET s == e.segment
  IN  /\ e.kind = "acknowledged"
      /\ e.epoch = installed[s] \/ ~COMPLETE                            \* R-WRITE-1
      /\ e.scl >= acknowledged[s] \/ e.epoch < installed[s]             \* R-WRITE-2, R-WRITE-3
      /\ acknowledged' = [acknowledged EXCEPT ![s] = Max({@, e.scl})]
      /\ copies' = [copies EXCEPT ![e.epoch][s] = Max({@, e.scl})]
      /\ UNCHANGED <<promised, installed, allocated, opened, durable>>

Allocated ==
  /\ e.kind = "allocated"
  /\ \A r \in allocated : r.lsn # e.lsn                                 \* R-ALLOC-2
  /\ allocated' = allocated \cup {[lsn |-> e.lsn, epoch |-> e.epoch, pg |-> e.pg, cpl |-> e.cpl]}
  /\ UNCHANGED <<promised, installed, acknowledged, opened, durable, copies>>

WriteQuorum(pg, epoch, lsn) ==
  Cardinality({s \in Segments : GroupOf[s] = pg /\ copies[epoch][s] >= lsn}) >= W

\* I-BACK, whichever comes first: a lower epoch's VDL and a higher epoch's opening.
Durable ==
  LET own == {r \in allocated : r.epoch = e.epoch /\ r.lsn <= e.vdl}
  IN  /\ e.kind = "durable"
      /\ e.vdl >= durable[e.epoch]
      /\ \A o \in opened : o.epoch > e.epoch => e.vdl <= o.vdl          \* R-RECOVER-5
      /\ \A r \in allocated : r.lsn = e.vdl => r.cpl                    \* R-VDL-2
      /\ COMPLETE => \A r \in own : r.lsn > durable[e.epoch] => WriteQuorum(r.pg, e.epoch, r.lsn)   \* R-QUORUM-1
      /\ durable' = [durable EXCEPT ![e.epoch] = e.vdl]
      /\ UNCHANGED <<promised, installed, acknowledged, allocated, opened, copies>>

Opened ==
  /\ e.kind = "opened"
  /\ \A o \in opened : o.epoch = e.epoch => o.writer = e.writer         \* R-FENCE-3
  /\ \A o \in opened : o.epoch > e.epoch => e.vdl <= o.vdl
  /\ \A v \in Epochs : v < e.epoch => durable[v] <= e.vdl               \* R-RECOVER-5
  /\ COMPLETE => \A pg \in Pgs : WriteQuorum(pg, e.epoch, 0)            \* R-RECOVER-3
  /\ opened' = opened \cup {[epoch |-> e.epoch, writer |-> e.writer, vdl |-> e.vdl]}
  /\ UNCHANGED <<promised, installed, acknowledged, allocated, durable, copies>>

\* What it had said before its loss is void (R-REJOIN-3); what it takes over holds.
Rejoined ==
  LET s == e.segment
  IN  /\ e.kind = "rejoined"
      /\ promised' = [promised EXCEPT ![s] = e.promised]
      /\ installed' = [installed EXCEPT ![s] = 0]
      /\ acknowledged' = [acknowledged EXCEPT ![s] = 0]
      /\ UNCHANGED <<allocated, opened, durable, copies>>

Next ==
  \/ /\ at < Len(Events)
     /\ at' = at + 1
     /\ Sealed \/ Installed \/ Acknowledged \/ Allocated \/ Durable \/ Opened \/ Rejoined
  \/ at = Len(Events) /\ UNCHANGED vars      \* accepted

Spec == Init /\ [][Next]_vars
=============================================================================
