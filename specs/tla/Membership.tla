----------------------------- MODULE Membership -----------------------------
(***************************************************************************)
(* Replacing one member of a protection group by quorum sets (R-MEMBER-1   *)
(* to 4): old -> both -> new, or back to old from the middle.              *)
(*                                                                         *)
(* The writer makes the change.  A membership epoch comes into force when  *)
(* segments that know it meet the write formula before it and its own;     *)
(* until then, what is acknowledged meets both formulas too.               *)
(*                                                                         *)
(* Recovery is not a step here: the invariant asks, in every state, what   *)
(* every set of segments that a candidate may take for a read quorum would *)
(* find.  (Fencing is Auriga.tla's.)                                       *)
(***************************************************************************)
EXTENDS Integers, FiniteSets, Sequences, TLC

CONSTANTS Stay, Leaves, Joins,     \* the members that stay, and the two that change places
          W, R, Records, Defect

All == Stay \cup {Leaves, Joins}
Old == Stay \cup {Leaves}
New == Stay \cup {Joins}

VARIABLES
  kinds,      \* kinds[e]: the quorum set of membership epoch e: "old", "both", "new"
  inForce,    \* the membership epoch in force
  knows,      \* knows[s]: the membership epoch that s has made durable
  holds,      \* holds[s]: the records that s has
  committed
vars == <<kinds, inForce, knows, holds, committed>>

AtLeast(n, S, members) == Cardinality(S \cap members) >= n
WriteMet(kind, S) ==
  CASE kind = "old"  -> AtLeast(W, S, Old)
    [] kind = "both" -> AtLeast(W, S, Old) /\ AtLeast(W, S, New)
    [] kind = "new"  -> AtLeast(W, S, New)
ReadMet(kind, S) ==
  CASE kind = "old"  -> AtLeast(R, S, Old)
    [] kind = "both" -> AtLeast(R, S, Old)                                       \* R-MEMBER-3
                        \/ (Defect = "member-before-hydration" /\ AtLeast(R, S, New))
    [] kind = "new"  -> AtLeast(R, S, New)

\* R-MEMBER-4, for each formula.
ASSUME \A kind \in {"old", "both", "new"} : \A S, T \in SUBSET All :
         WriteMet(kind, S) /\ (ReadMet(kind, T) \/ WriteMet(kind, T)) => S \cap T # {} \/ Defect # "none"

Newest == Len(kinds)
Meets(S) == WriteMet(kinds[inForce], S) /\ WriteMet(kinds[Newest], S)

Init ==
  /\ kinds = <<"old">> /\ inForce = 1
  /\ knows = [s \in All |-> IF s \in Old THEN 1 ELSE 0]
  /\ holds = [s \in All |-> {}]
  /\ committed = {}

Hydrated == committed \subseteq holds[Joins] \/ Defect = "change-before-hydration"

Propose ==
  /\ inForce = Newest /\ Newest < 3
  /\ \E kind \in {"old", "both", "new"} :
       /\ CASE kinds[Newest] = "old"  -> kind = "both" \/ (kind = "new" /\ Defect = "membership-without-overlap")
            [] kinds[Newest] = "both" -> kind = "old" \/ (kind = "new" /\ Hydrated)
            [] OTHER -> FALSE
       /\ kinds' = Append(kinds, kind)
  /\ UNCHANGED <<inForce, knows, holds, committed>>

Learn(s) ==
  /\ knows[s] < Newest
  /\ knows' = [knows EXCEPT ![s] = Newest]
  /\ UNCHANGED <<kinds, inForce, holds, committed>>

ComesIntoForce ==
  LET know == {s \in All : knows[s] = Newest}
  IN  /\ inForce < Newest
      /\ WriteMet(kinds[Newest], know)
      /\ WriteMet(kinds[inForce], know) \/ Defect = "membership-without-overlap"
      /\ inForce' = Newest
      /\ UNCHANGED <<kinds, knows, holds, committed>>

Write(s, r) ==
  /\ r \notin holds[s]
  /\ holds' = [holds EXCEPT ![s] = @ \cup {r}]
  /\ UNCHANGED <<kinds, inForce, knows, committed>>

Hydrate(p) ==
  /\ ~(holds[p] \subseteq holds[Joins])
  /\ holds' = [holds EXCEPT ![Joins] = @ \cup holds[p]]
  /\ UNCHANGED <<kinds, inForce, knows, committed>>

Commit(r) ==
  /\ r \notin committed
  /\ Meets({s \in All : r \in holds[s]})
  /\ committed' = committed \cup {r}
  /\ UNCHANGED <<kinds, inForce, knows, holds>>

Next ==
  \/ Propose \/ ComesIntoForce
  \/ \E s \in All : Learn(s) \/ Hydrate(s) \/ \E r \in Records : Write(s, r)
  \/ \E r \in Records : Commit(r)

Spec == Init /\ [][Next]_vars

Max(S) == CHOOSE x \in S : \A y \in S : y <= x

\* I-OVERLAP, I-MEMBER.  A candidate that heard of membership epoch `told` asks Q, takes the newest epoch
\* that it hears of, and has a read quorum by that: then Q holds all that was acknowledged.
EveryReadQuorumFindsAll ==
  \A Q \in SUBSET All : \A told \in 1..inForce :
    LET newest == Max({told} \cup {knows[s] : s \in Q})
    IN  ReadMet(kinds[newest], Q) => committed \subseteq UNION {holds[s] : s \in Q}

Once(i, name, found) ==
  IF found /\ TLCGet(i) = FALSE THEN PrintT("reached: " \o name) /\ TLCSet(i, TRUE) ELSE TRUE
ASSUME \A i \in 1..3 : TLCSet(i, FALSE)
Sometimes ==
  /\ Once(1, "the new set is in force, with a record written before the change",
          kinds[inForce] = "new" /\ \E r \in committed : r \in holds[Leaves])
  /\ Once(2, "a change is undone", inForce = 3 /\ kinds[3] = "old")
  /\ Once(3, "a record is acknowledged in the middle", kinds[inForce] = "both" /\ committed # {})

Symmetry == Permutations(Stay)
=============================================================================
