-------------------------------- MODULE Lives --------------------------------
(***************************************************************************)
(* One question in isolation: is a store that went back in time (an old    *)
(* copy of its directory was put back) found out before it counts?         *)
(* (R-LIFE-1 to 5 of ../rules.md; ../decisions/0026.)                    *)
(*                                                                         *)
(* A segment's life is (incarnation, number, nonce).  It begins one at     *)
(* each boot, and again while it runs; it makes it durable, then tells     *)
(* its peers, who make it durable before they answer.  A peer that knows a *)
(* later life, or another nonce of the same number, says so.               *)
(*                                                                         *)
(* What a segment says while it counts is not modelled, only whether it    *)
(* said anything in a later life than that of its copy: `beyond`.  A store *)
(* that goes back forgets that, and must not count: NobodyForgets.         *)
(* Disks are synchronous.  Questions and answers are sets of messages: any *)
(* may come late, or again, or never.                                      *)
(***************************************************************************)
EXTENDS Integers, FiniteSets, Sequences, TLC

CONSTANTS
  Members,
  Actors,        \* those that crash, renew their lives and are copied; the others only answer (and lose journals)
  R,             \* a read quorum
  Midway,        \* begin where copies were taken and lives registered
  MaxBoots,      \* crashes and boots, restored ones included
  MaxRenewals,
  MaxCopies,     \* copies taken
  MaxRestores,
  MaxStale,      \* restored stores that don't count again yet
  MaxLosses,     \* journals lost
  Defect

VARIABLES
  disk,     \* per member: incarnation, number, nonce, registered, lost, known (of each member)
  mode,     \* per member: "asking", "in" (it counts), "out" (it knows that it forgot)
  asked,    \* questions ever sent
  answers,  \* answers ever given
  copy,     \* per member: an old disk, or none
  beyond,   \* per member: it said something in a later life than that of the copy
  bad,      \* per member: it forgot such a thing
  nonces, boots, renewals, copies, restores, losses
vars == <<disk, mode, asked, answers, copy, beyond, bad, nonces, boots, renewals, copies, restores, losses>>

None == [inc |-> 0, n |-> 0, x |-> 0]
NoCopy == [none |-> TRUE]
Blank(lost) == [life |-> None, reg |-> TRUE, lost |-> lost, known |-> [m \in Members |-> None]]
Others(s) == Members \ {s}
N == Cardinality(Members)

Above(one, other) == one.inc > other.inc \/ (one.inc = other.inc /\ one.n > other.n)
\* What a peer that knows `known` holds against one that says that it lives `life`.
Later(known, life) ==
  \/ Above(known, life)
  \/ known.inc = life.inc /\ known.n = life.n /\ known.x # life.x /\ Defect # "life-without-nonce"
\* Two lives of one number: neither is the last, so both are held against whoever claims one of them.
Merged(one, other) ==
  IF Above(one, other) \/ one = other THEN one
  ELSE IF Above(other, one) THEN other
  ELSE [inc |-> one.inc, n |-> one.n + 1, x |-> 0]

More(set) == LET few == IF Defect = "life-registered-with-too-few" THEN 1 ELSE 0
             IN  2 * (Cardinality(set) + few) > N - 1

\* Midway: each actor was copied in its first life, and has said something in its second, which any set of others that
\* is just enough remembers. Else the beginning is the first life.
Second == [inc |-> 0, n |-> 1, x |-> 0]
Init ==
  /\ \E remembers \in [Actors -> {set \in SUBSET Members : 2 * Cardinality(set) = N /\ Midway}] \cup {<<>>} :
       /\ (remembers = <<>>) = ~Midway
       /\ \A s \in DOMAIN remembers : s \notin remembers[s]
       /\ disk = [p \in Members |-> [Blank(FALSE) EXCEPT
            !.life = IF Midway /\ p \in Actors THEN Second ELSE None,
            !.known = [m \in Members |->
              IF m \in DOMAIN remembers /\ p \in remembers[m] THEN Second ELSE None]]]
  /\ mode = [s \in Members |-> "in"]
  /\ asked = {} /\ answers = {}
  /\ copy = [s \in Members |-> IF Midway /\ s \in Actors THEN Blank(FALSE) ELSE NoCopy]
  /\ beyond = [s \in Members |-> Midway /\ s \in Actors]
  /\ bad = [s \in Members |-> FALSE]
  /\ nonces = [s \in Members |-> 0]
  /\ boots = 0 /\ renewals = 0 /\ copies = 0 /\ restores = 0 /\ losses = 0

\* R-LIFE-1: a life that was registered is over; one that was not goes on, or a copy that crashes again and again
\* would count itself past what its peers remember.
Begun(s, from) ==
  IF from.reg \/ Defect = "unregistered-life-not-continued"
  THEN [from EXCEPT !.life = [inc |-> @.inc, n |-> @.n + 1, x |-> nonces[s] + 1], !.reg = FALSE]
  ELSE from

BootFrom(s, from) ==
  LET begun == Begun(s, from)
  IN  /\ boots < MaxBoots
      /\ boots' = boots + 1
      \* Only to keep the states few: nobody looks at an answer to an earlier boot.
      /\ answers' = IF Defect = "answers-of-an-earlier-boot" THEN answers ELSE {a \in answers : a.to # s}
      /\ nonces' = [nonces EXCEPT ![s] = @ + 1]
      /\ IF from.lost
         THEN /\ mode' = [mode EXCEPT ![s] = "out"]
              /\ disk' = [disk EXCEPT ![s] = from]
              /\ UNCHANGED asked
         ELSE /\ mode' = [mode EXCEPT ![s] = IF Defect = "life-not-registered" THEN "in" ELSE "asking"]
              /\ disk' = [disk EXCEPT ![s] = begun]
              /\ asked' = asked \cup {[from |-> s, life |-> begun.life, boot |-> nonces[s] + 1]}

Boot(s) ==
  /\ BootFrom(s, disk[s])
  /\ UNCHANGED <<copy, beyond, bad, renewals, copies, restores, losses>>

TakeCopy(s) ==
  /\ copies < MaxCopies
  /\ copies' = copies + 1
  /\ copy' = [copy EXCEPT ![s] = disk[s]]
  /\ beyond' = [beyond EXCEPT ![s] = FALSE]
  /\ UNCHANGED <<disk, mode, asked, answers, bad, nonces, boots, renewals, restores, losses>>

\* Stores that went back, and do not count (again) yet.
Stale == {m \in Members : bad[m]}

Restore(s) ==
  /\ copy[s] # NoCopy /\ restores < MaxRestores
  /\ beyond[s]               \* otherwise nothing is claimed
  /\ Cardinality(Stale \ {s}) < MaxStale
  /\ restores' = restores + 1
  /\ bad' = [bad EXCEPT ![s] = TRUE]
  /\ BootFrom(s, copy[s])
  /\ UNCHANGED <<copy, beyond, renewals, copies, losses>>

\* The life in which s counts: while a new one is being registered, the one before.
Counted(s) == IF disk[s].reg THEN disk[s].life ELSE [disk[s].life EXCEPT !.n = @ - 1]

Say(s) ==
  /\ mode[s] = "in" /\ copy[s] # NoCopy /\ ~beyond[s]
  /\ Above(Counted(s), copy[s].life)
  /\ beyond' = [beyond EXCEPT ![s] = TRUE]
  /\ UNCHANGED <<disk, mode, asked, answers, copy, bad, nonces, boots, renewals, copies, restores, losses>>

\* R-LIFE-4
Renew(s) ==
  /\ renewals < MaxRenewals /\ mode[s] = "in" /\ disk[s].reg
  /\ renewals' = renewals + 1
  /\ LET life == [disk[s].life EXCEPT !.n = @ + 1, !.x = nonces[s]]
     IN  /\ disk' = [disk EXCEPT ![s].life = life, ![s].reg = FALSE]
         /\ asked' = asked \cup {[from |-> s, life |-> life, boot |-> nonces[s]]}
  /\ UNCHANGED <<mode, answers, copy, beyond, bad, nonces, boots, copies, restores, losses>>

\* R-LIFE-2: p makes the life durable, or knows better. It need not count itself, but must not have forgotten.
Answer(p, question) ==
  LET s == question.from
      later == Later(disk[p].known[s], question.life)
  IN  /\ p # s
      /\ mode[p] # "out" \/ Defect = "forgetful-answers-about-lives"
      /\ disk' = IF later THEN disk
                 ELSE [disk EXCEPT ![p].known[s] = question.life]
      /\ answers' = IF question.boot # nonces[s] /\ Defect # "answers-of-an-earlier-boot" THEN answers
                    ELSE answers \cup {
                      [from |-> p, to |-> s, life |-> question.life, boot |-> question.boot, later |-> later,
                       sure |-> mode[p] = "in", inc |-> disk[p].life.inc,
                       marks |-> [m \in Members |-> disk[p].known[m].inc]]}
      /\ UNCHANGED <<mode, asked, copy, beyond, bad, nonces, boots, renewals, copies, restores, losses>>

\* The answers to the question of this very boot: the same life may have been asked about before the copy was put back.
To(s, later) ==
  {a \in answers : /\ a.to = s /\ a.later = later /\ a.life = disk[s].life
                   /\ a.boot = nonces[s] \/ Defect = "answers-of-an-earlier-boot"}

\* R-LIFE-3: more than half of the others; and where two stores may have gone back at once, more than half that
\* count, or more than half and one.
Enough(set) ==
  LET all == {a.from : a \in set}
      sure == {a.from : a \in {a \in set : a.sure}}
  IN  IF MaxStale = 1 \/ Defect = "two-stale-met-like-one" THEN More(all)
      ELSE More(sure) \/ (all # {} /\ \A one \in all : More(all \ {one}))

\* R-REJOIN-3 holds for these answers too: what a peer said before it lost its journal is not counted by one that
\* hears of the loss, from the peer or from another that answers.
Standing(s, received) ==
  {a \in received :
     Defect = "life-counted-over-a-loss" \/
     /\ disk[s].known[a.from].inc <= a.inc
     /\ \A o \in received : o.marks[a.from] <= a.inc /\ (o.from = a.from => o.inc <= a.inc)}

Register(s) ==
  /\ mode[s] # "out" /\ ~disk[s].reg
  /\ \E received \in SUBSET To(s, FALSE) : Enough(Standing(s, received))
  /\ disk' = [disk EXCEPT ![s].reg = TRUE]
  /\ mode' = [mode EXCEPT ![s] = "in"]
  /\ UNCHANGED <<asked, answers, copy, beyond, bad, nonces, boots, renewals, copies, restores, losses>>

FindOut(s) ==
  /\ mode[s] # "out" /\ ~disk[s].reg /\ To(s, TRUE) # {}
  /\ disk' = [disk EXCEPT ![s].lost = TRUE]
  /\ mode' = [mode EXCEPT ![s] = "out"]
  /\ UNCHANGED <<asked, answers, copy, beyond, bad, nonces, boots, renewals, copies, restores, losses>>

Lose(s) ==
  /\ losses < MaxLosses
  /\ losses' = losses + 1
  /\ disk' = [disk EXCEPT ![s] = Blank(TRUE)]
  /\ mode' = [mode EXCEPT ![s] = "out"]
  /\ bad' = [bad EXCEPT ![s] = FALSE]
  /\ UNCHANGED <<asked, answers, copy, beyond, nonces, boots, renewals, copies, restores>>

\* R-REJOIN, in one step (Rejoin.tla has its steps): a new incarnation, above every one that is known, which ends
\* every life of an earlier one. What peers know of others' lives is merged (R-LIFE-5).
Rejoin(s) ==
  /\ mode[s] = "out"
  /\ \E P \in SUBSET Others(s) :
       /\ Cardinality(P) = N - R + 1
       /\ \A p \in P : mode[p] = "in"
       /\ LET inc == 1 + CHOOSE top \in 0..(MaxBoots + MaxLosses + 1) :
                           /\ \A p \in P : disk[p].known[s].inc <= top
                           /\ disk[s].life.inc <= top
                           /\ \/ \E p \in P : disk[p].known[s].inc = top
                              \/ disk[s].life.inc = top
              life == [inc |-> inc, n |-> 0, x |-> 0]
              merge[set \in SUBSET P] ==
                IF set = {} THEN disk[s].known
                ELSE LET p == CHOOSE p \in set : TRUE
                     IN  [m \in Members |-> Merged(disk[p].known[m], merge[set \ {p}][m])]
              known == IF Defect = "lives-not-merged" THEN disk[s].known ELSE merge[P]
          IN  disk' = [m \in Members |->
                IF m = s THEN [life |-> life, reg |-> TRUE, lost |-> FALSE, known |-> known]
                ELSE IF m \in P THEN [disk[m] EXCEPT !.known[s] = life]
                ELSE disk[m]]
  /\ mode' = [mode EXCEPT ![s] = "in"]
  /\ bad' = [bad EXCEPT ![s] = FALSE]
  /\ UNCHANGED <<asked, answers, copy, beyond, nonces, boots, renewals, copies, restores, losses>>

Next ==
  \/ \E s \in Actors :
       Boot(s) \/ TakeCopy(s) \/ Restore(s) \/ Say(s) \/ Renew(s) \/ Register(s) \/ FindOut(s)
  \/ \E s \in Members : Lose(s) \/ Rejoin(s)
  \/ \E p \in Members, question \in asked : Answer(p, question)

Spec == Init /\ [][Next]_vars

\* I-LIFE: a store that forgot what it said in a later life does not count.
NobodyForgets == \A s \in Members : mode[s] = "in" => ~bad[s]

Once(i, name, found) ==
  IF found /\ TLCGet(i) = FALSE THEN PrintT("reached: " \o name) /\ TLCSet(i, TRUE) ELSE TRUE
ASSUME \A i \in 1..4 : TLCSet(i, FALSE)
Sometimes ==
  /\ Once(1, "a store that went back is found out", \E s \in Members : bad[s] /\ mode[s] = "out")
  /\ Once(2, "it rejoins", restores > 0 /\ \E s \in Members : disk[s].life.inc > 0 /\ mode[s] = "in")
  /\ Once(3, "a renewed life finds it", \E s \in Members : bad[s] /\ mode[s] = "out" /\ renewals > 0 /\ nonces[s] = 1)
  /\ Once(4, "two lives of one number", \E s \in Actors, p, q \in Members :
            /\ disk[p].known[s].inc = disk[q].known[s].inc
            /\ disk[p].known[s].n = disk[q].known[s].n
            /\ disk[p].known[s].x # disk[q].known[s].x)

Symmetry == Permutations(Members \ Actors)
=============================================================================
