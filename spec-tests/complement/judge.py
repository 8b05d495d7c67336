"""Holds what the suite printed against the list of what is known to fail.

    judge.py FAILS.TSV FOLDER REGEX

Only the innermost failing tests count. A failure that is not on the list is an error, and so is one on the list that passes: the list
only shrinks. A test that begins and does not end is an error too, and so is one on the list that is not run. A reason that begins with "At times: " is of one that also passes.
"""
import csv
import pathlib
import re
import sys

EXTENSIONS = [2836, 3391, 3757, 3874, 3890, 3902, 3930, 3967, 4140, 4155, 4222, 4306]
PACKAGES = ["tests", "tests/csapi", *(f"tests/msc{number}" for number in EXTENSIONS)]


def outcomes(log):
    """The outcome of each test; one that failed in any try has failed."""
    found = {}
    for line in log.read_text(errors="replace").splitlines():
        match = re.match(r"\s*--- (PASS|FAIL|SKIP): (\S+)", line)
        if match and found.get(match[2]) != "FAIL":
            found[match[2]] = match[1]
    return found


def unfinished(log, found):
    """What began and has no outcome: the suite broke off there, or was stopped."""
    return set(re.findall(r"(?m)^=== RUN +(\S+)", log.read_text(errors="replace"))) - set(found)


def innermost(tests):
    return {test for test in tests if not any(other.startswith(test + "/") for other in tests)}


def main(fails, folder, only="."):
    with open(fails, encoding="utf-8") as file:
        known = {(row["package"], row["test"]): row["reason"] for row in csv.DictReader(file, delimiter="\t")}
    bad = 0
    for package in PACKAGES:
        log = pathlib.Path(folder, package.replace("/", "_") + ".log")
        if only != "." and not log.exists():
            continue
        found = outcomes(log) if log.exists() else {}
        failed = innermost({test for test, outcome in found.items() if outcome == "FAIL"})
        passed = sum(outcome == "PASS" for outcome in found.values())
        skipped = sum(outcome == "SKIP" for outcome in found.values())
        print(f"{package}: {passed} passed, {len(failed)} failed (innermost), {skipped} skipped")
        if not found:
            print(f"  nothing ran: see {log}")
            bad += 1
        for test in sorted(unfinished(log, found) if log.exists() else ()):
            print(f"  began and never ended: {test}")
            bad += 1
        for test in sorted(failed):
            if (package, test) not in known:
                print(f"  fails and is not on the list: {test}")
                bad += 1
        for (listed, test), reason in sorted(known.items()):
            if only == "." and listed == package and test not in found:
                print(f"  is on the list and was not run: {test}")
                bad += 1
            if listed == package and found.get(test) == "PASS" and not reason.startswith("At times: "):
                print(f"  is on the list and passes: {test}")
                bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
