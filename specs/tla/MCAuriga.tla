------------------------------ MODULE MCAuriga ------------------------------
(***************************************************************************)
(* Bounds, symmetry and reachability checks for Auriga.tla.  A scope is a  *)
(* .cfg file beside this module.                                           *)
(***************************************************************************)
EXTENDS Auriga, TLC

Epochs12 == [w \in Writers |-> IF w = "w1" THEN 1 ELSE 2]
Epochs123 == [w \in Writers |-> IF w = "w1" THEN 1 ELSE IF w = "w2" THEN 2 ELSE 3]

Single == {<<"g">>}           \* MTRs of one record
Spanning == {<<"g", "h">>}    \* MTRs of two, the first in g and the second in h

\* Segments of a group are interchangeable: a state is a bag of segments with
\* all that belongs to each.  Every action treats them alike and no CHOOSE
\* between equals reaches the state, so two states of one view have the same
\* futures.  (Cheaper than SYMMETRY: no permutation is tried.)
Local(s) == <<journal[s], [w \in Writers |-> <<ack[w][s], report[w][s]>>]>>
Bag(g) ==
  LET local == TLCEval([s \in InGroup[g] |-> Local(s)])
  IN  [x \in {local[s] : s \in InGroup[g]} |-> Cardinality({s \in InGroup[g] : local[s] = x})]
View == <<writer, committed, crashes, [g \in Groups |-> Bag(g)], vars = vars>>

\* Reachability: each line is printed when its state is found for the first
\* time (once for each worker); check.sh asks for all of them.
Once(i, name, found) ==
  IF found /\ TLCGet(i) = FALSE THEN PrintT("reached: " \o name) /\ TLCSet(i, TRUE) ELSE TRUE

ASSUME \A i \in 1..7 : TLCSet(i, FALSE)

Later == Opened \ {First}
Sometimes ==
  /\ Once(1, "a later writer opens", Later # {})
  /\ Once(2, "a later writer commits", \E r \in committed : r.by \in Later)
  /\ Once(3, "a record that nobody acknowledged is recovered",
          \E w \in Later : \E r \in writer[w].log : r.by # w /\ Below(r.by, w) /\ r.lsn > writer[r.by].vdl)
  /\ Once(4, "a record is annulled",
          \E w \in Later : \E r \in Allocated : Annuls(writer[w].list, r.lsn))
  /\ Once(5, "an old writer commits after a newer one has sealed a segment",
          \E r \in committed : \E s \in Segments : Below(r.by, Durable(s).promise))
  /\ Once(6, "a segment keeps an annulled record that it has not heard of",
          \E w \in Later : \E s \in Segments : \E r \in Memory(s).recs : Annuls(writer[w].list, r.lsn))
  /\ Once(7, "a crash loses an entry", crashes > 0)
=============================================================================
