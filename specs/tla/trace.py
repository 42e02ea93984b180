#!/usr/bin/env python3
"""Makes TraceData.tla, for Trace.tla, of the trace files of a run (JSON Lines, one file per process).

    trace.py [--complete] [--quorum W] [--volume N] FILE... > TraceData.tla

--complete says that no process was killed before it had written its last lines.
"""
import argparse
import json


def ballots(value):
    """Every volume epoch in a note, as (number, writer)."""
    if isinstance(value, dict):
        if value.keys() == {"number", "writer"}:
            yield value["number"], value["writer"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from ballots(item)


def ranked(value, ranks):
    """The same note with each volume epoch's rank in its place: Trace.tla compares them, and no more."""
    if isinstance(value, dict):
        if value.keys() == {"number", "writer"}:
            return ranks[value["number"], value["writer"]]
        return {key: ranked(item, ranks) for key, item in value.items()}
    return [ranked(item, ranks) for item in value] if isinstance(value, list) else value


def segment(value):
    return f"{value['pg']}/{'ABCDEFGHIJKLMNOP'[value['member']]}"


def event(note):
    """The event of one note, as the fields of a TLA+ record; None for what Trace.tla doesn't judge."""
    (name, told), = note.items()
    if name == "Sealed":
        return {"kind": "sealed", "segment": segment(told["segment"]), "epoch": told["volume_epoch"], "scl": told["scl"]}
    if name == "Installed":
        ranges = [{"epoch": r["volume_epoch"], "above": r["above"], "through": r["through"]} for r in told["truncations"]]
        return {"kind": "installed", "segment": segment(told["segment"]), "epoch": told["volume_epoch"], "list": ranges}
    if name == "Acknowledged":
        return {"kind": "acknowledged", "segment": segment(told["segment"]), "epoch": told["volume_epoch"], "scl": told["scl"]}
    if name == "Allocated":
        return {"kind": "allocated", "epoch": told["volume_epoch"], "lsn": told["lsn"], "pg": told["pg"], "cpl": told["is_cpl"]}
    if name == "Durable":
        return {"kind": "durable", "epoch": told["volume_epoch"], "vdl": told["vdl"]}
    if name == "Opened":
        return {"kind": "opened", "epoch": told["volume_epoch"], "writer": str(told["writer"]), "vdl": told["vdl"]}
    if name == "Learnt":
        return {"kind": "rejoined", "segment": segment(told["segment"]), "promised": told["promised"]}
    return None


def tla(value):
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return "{" + ", ".join(map(tla, value)) + "}"
    if isinstance(value, dict):
        return "[" + ", ".join(f"{key} |-> {tla(item)}" for key, item in value.items()) + "]"
    return str(value)


def volume_of(note):
    (told,) = note.values()
    return told["volume"] if "volume" in told else told["segment"]["volume"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--complete", action="store_true")
    parser.add_argument("--quorum", type=int, default=4)
    parser.add_argument("--volume", type=int)
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    lines = []
    for path in options.files:
        with open(path, encoding="utf-8") as file:
            # A killed process may leave half a line at the end.
            lines += [json.loads(line) for line in file if line.endswith("\n")]
    lines.sort(key=lambda line: (line["at"], line["node"], line["sequence"]))
    wanted = [line["note"] for line in lines if options.volume in (None, volume_of(line["note"]))]
    volumes = {volume_of(note) for note in wanted}
    if len(volumes) != 1:
        parser.error(f"the trace has volumes {sorted(volumes)}: choose one with --volume")
    ranks = {ballot: rank for rank, ballot in enumerate(sorted({(0, 0), *ballots(wanted)}))}
    events = [made for made in map(event, ranked(wanted, ranks)) if made]
    segments = sorted({made["segment"] for made in events if "segment" in made})
    print("---- MODULE TraceData ----")
    print("EXTENDS Integers")
    print(f"W == {options.quorum}")
    print(f"COMPLETE == {tla(options.complete)}")
    groups = ", ".join(f'"{name}"' for name in segments)
    cases = " [] ".join(f's = "{name}" -> {name.split("/")[0]}' for name in segments)
    print(f"GroupOf == [s \\in {{{groups}}} |-> CASE {cases}]")
    print("Events == <<")
    print(",\n".join("  " + tla(made) for made in events))
    print(">>\n====")


if __name__ == "__main__":
    main()
