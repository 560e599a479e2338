"""The answers as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.faults.score import Answer, median, share
from benchmarks.faults.split import PARTS, half

TOOLS = ("AUTOTRAINER", "SageMaker")


def report(answers: Sequence[Answer]) -> str:
    """Everything, as it stands in RESULTS.md."""
    parts = [_headline(answers), _families(answers), _healthy(answers), _classic(answers), _times(answers)]
    return "\n\n".join(part for part in parts if part)


def misses(answers: Iterable[Answer]) -> list[str]:
    """Cases with something wrong, one line each."""
    return [
        _line(answer)
        for answer in answers
        if (answer.found if not answer.case.faulty else not answer.right_among(1))
        or answer.place_right is False
        or answer.record["fault"]
    ]


def details(answers: Iterable[Answer]) -> str:
    """One row a case."""
    head = "| case | family | wanted | said | place | delay | live delay |\n|" + " --- |" * 7
    return "\n".join([head, *map(_row, answers)])


def _cells(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _halves(answers: Sequence[Answer]) -> list[tuple[str, list[Answer]]]:
    parts: dict[str, list[Answer]] = {name: [] for name in PARTS}
    for one in answers:
        parts[half(one.case.family)].append(one)
    return [*((name, part) for name, part in parts.items() if part), ("all", list(answers))]


def _headline(answers: Sequence[Answer]) -> str:
    lines = [
        _cells(
            *("families", "faults found", "right cause first", "among three", "place right", "precision"),
            *("findings that fit", "healthy runs with a warning"),
        ),
        "| --- |" + " ---: |" * 7,
    ]
    for name, part in _halves(answers):
        faults = [one for one in part if one.case.faulty]
        controls = [one for one in part if not one.case.faulty]
        flagged = [one.case.faulty for one in part if one.found]
        fit = [said["kind"] in one.case.causes for one in faults for said in one.ranked]
        lines.append(
            f"| {name} | {share([one.found for one in faults])} | {share([one.right_among(1) for one in faults])} "
            f"| {share([one.right_among(3) for one in faults])} | {share(_places(faults))} | {share(flagged)} "
            f"| {share(fit)} | {sum(one.found for one in controls)} of {len(controls)} |"
        )
    return "\n".join(lines)


def _places(faults: Sequence[Answer]) -> list[bool]:
    return [one.place_right for one in faults if one.place_right is not None]


def _families(answers: Sequence[Answer]) -> str:
    lines = [
        "| family | | cases | found | first | among three | place | delay, steps (live) | seconds |",
        "| --- | --- |" + " ---: |" * 7,
    ]
    for family in dict.fromkeys(one.case.family for one in answers if one.case.faulty):
        part = [one for one in answers if one.case.family == family]
        delays = [one.delay for one in part if one.delay is not None]
        live = [one.live_delay for one in part if one.live_delay is not None]
        places = _places(part)
        lines.append(
            f"| {family} | {half(family)} | {len(part)} "
            f"| {sum(one.found for one in part)} | {sum(one.right_among(1) for one in part)} "
            f"| {sum(one.right_among(3) for one in part)} | {f'{sum(places)} of {len(places)}' if places else '-'} "
            f"| {median(delays):.0f} ({median(live):.0f}) "
            f"| {median([one.record['check_s'] + one.record['told_s'] for one in part]):.2f} |"
        )
    return "\n".join(lines) if len(lines) > 2 else ""


def _healthy(answers: Sequence[Answer]) -> str:
    lines = ["| healthy | | runs | with a warning |", "| --- | --- | ---: | ---: |"]
    for family in dict.fromkeys(one.case.family for one in answers if not one.case.faulty):
        part = [one for one in answers if one.case.family == family]
        lines.append(
            f"| {family.removeprefix('healthy ')} | {half(family)} | {len(part)} | {sum(one.found for one in part)} |"
        )
    return "\n".join(lines) if len(lines) > 2 else ""


def _classic(answers: Sequence[Answer]) -> str:
    lines = [
        "| all families | faults found | right cause first | healthy runs with an alarm |",
        "| --- |" + " ---: |" * 3,
    ]
    faults = [one for one in answers if one.case.faulty]
    controls = [one for one in answers if not one.case.faulty]
    lines += [
        _cells(
            f"{tool}'s rules",
            share([one.classic_found(tool) for one in faults]),
            share([one.classic_right(tool) for one in faults]),
            share([one.classic_found(tool) for one in controls]),
        )
        for tool in TOOLS
    ]
    lines.append(
        f"| steadygrad | {share([one.found for one in faults])} | {share([one.right_among(1) for one in faults])} "
        f"| {share([one.found for one in controls])} |"
    )
    return "\n".join(lines)


def _times(answers: Sequence[Answer]) -> str:
    lines = []
    for name, part in _halves(answers)[:-1]:
        broken = [one for one in part if one.case.nonfinite and one.case.at is not None]
        sudden = [one for one in part if one.case.sudden]
        lines.append(
            f"* {name}: NaN or Inf told at the very step or before it: "
            f"{share([one.delay == 0 for one in broken])}, by the watch alone: "
            f"{share([one.live_delay == 0 for one in broken])}; finite explosions within five steps: "
            f"{share([_soon(one.delay) for one in sudden])}, by the watch alone: "
            f"{share([_soon(one.live_delay) for one in sudden])}."
        )
    lines.append(
        f"* Diagnosis within ten steps and a second: {share([one.seconds_within for one in answers])}; the look before "
        f"training takes {median([one.record['check_s'] for one in answers]):.2f} s in the median, "
        f"{max((one.record['check_s'] for one in answers), default=0.0):.1f} s at most."
    )
    return "\n".join(lines)


def _soon(delay: int | None) -> bool:
    return delay is not None and delay <= 5


def _line(answer: Answer) -> str:
    said = (
        ", ".join(f"{one['kind']}@{one['raised']}({one['severity'][0]})" for one in answer.ranked)
        or "nothing"
    )
    wanted = ", ".join(sorted(answer.case.causes)) or ("any" if answer.case.faulty else "nothing")
    place = "" if answer.place_right is not False else f" [place: not {answer.case.place}]"
    fault = f" FAULT {answer.record['fault']}" if answer.record["fault"] else ""
    return f"{answer.case.family}: {answer.case.name}: said {said}; wanted {wanted}{place}{fault}"


def _row(answer: Answer) -> str:
    said = "; ".join(
        f"{one['kind']} ({one['severity']}, {one['raised']}, {' '.join(one['where'][:2])})"
        for one in answer.ranked
    )
    wanted = " ".join(sorted(answer.case.causes))
    place = {True: "right", False: "wrong", None: ""}[answer.place_right]
    delays = " | ".join("" if d is None else str(d) for d in (answer.delay, answer.live_delay))
    return f"| {answer.case.name} | {answer.case.family} | {wanted} | {said} | {place} | {delays} |"
