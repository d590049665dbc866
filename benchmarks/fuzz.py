"""Damage real samples and miniature products and open them: nothing but a typed error may come of it.

    python benchmarks/fuzz.py [--count 200000] [--seed 0] [--workers 2] [--only enmap,envi] [--case N] [--keep DIR]

Every case copies one product, damages one of its files (bits, blocks, numbers and words of text, lengths) and does with
it what a user does: open, describe, list and read layers, read a window. A finding is an error that is not one of ours,
a crash, a case that takes more than 5 seconds of processor time, or a process that grows beyond 1 GB. Cases depend on
`--seed` and their number alone; `--case N` repeats one. Exit code 1 where there were findings; damaged files of findings
are kept in `--keep`. The limits of one read and one block are set to 256 MB, as one does on a small machine.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing as mp
import os
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from random import Random
from typing import Any

from fuzz_corpus import Product, build

SECONDS, GROWTH = 5.0, 1 << 30
NUMBERS = ("0", "-1", "1", "2147483648", "4294967295", "18446744073709551616", "99999999999999999999", "1e308", "-1e308",
           "nan", "inf", "0.5", "", "1e-320", "65536", "-9999")  # fmt: skip
WORDS = tuple(
    w.encode() for w in ("", "/etc/passwd", "../../x", "file:///etc/passwd", "\0", "{", "}", "é", "A" * 5000, "%s%n")
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="names of corpus products, by their beginning, with commas")
    parser.add_argument("--case", type=int, default=None, help="run one case here and show its traceback")
    parser.add_argument("--keep", type=Path, default=None, help="folder for the damaged files of findings")
    args = parser.parse_args()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        corpus = [
            p for p in build(Path(name) / "corpus") if not args.only or p.name.startswith(tuple(args.only.split(",")))
        ]
        if args.case is not None:
            return repeat(corpus, args, Path(name))
        return hunt(corpus, args, Path(name))


def hunt(corpus: list[Product], args: argparse.Namespace, folder: Path) -> int:
    """Run all cases in worker processes; restart those that crash or hang."""
    context = mp.get_context("spawn")
    results: mp.queues.Queue[Any] = context.Queue()
    state = [context.Array("d", [0.0, 0.0, 0.0]) for _ in range(args.workers)]  # case, its start, begun
    tally = Tally(corpus)
    workers: list[Any] = []
    begun = time.monotonic()

    def start(number: int, first: int) -> Any:
        work = folder / f"work-{number}"
        process = context.Process(
            target=run_cases, args=(corpus, args, number, first, work, results, state[number]), daemon=True
        )
        process.start()
        return process

    workers = [start(n, n) for n in range(args.workers)]
    done = 0
    told = 0.0
    while done < args.workers:
        try:
            kind, *rest = results.get(timeout=0.5)
            if kind == "end":
                done += 1
            else:
                tally.add(kind, *rest)
        except mp.queues.Empty:
            pass
        for n, process in enumerate(workers):
            case, since, live = state[n][:]
            if live and not process.is_alive() and results.empty():
                tally.finding(int(case), f"crash, exit code {process.exitcode}", "")
                workers[n] = start(n, int(case) + args.workers)
                state[n][2] = 0
            elif live and time.monotonic() - since > SECONDS and _busy(process.pid, n, case) > SECONDS:
                process.kill()
                process.join()
                tally.finding(int(case), f"hangs for more than {SECONDS:g} s", "")
                workers[n] = start(n, int(case) + args.workers)
                state[n][2] = 0
        if time.monotonic() - told > 20:
            told = time.monotonic()
            print(
                f"{tally.cases} cases, {told - begun:.0f} s, {len(tally.findings)} findings",
                file=sys.stderr,
                flush=True,
            )
    return tally.report(time.monotonic() - begun, args, corpus, folder)


_marks: dict[int, tuple[Any, float]] = {}


def _busy(pid: int | None, worker: int, case: float) -> float:
    """Processor seconds since the watch over a case began (a busy machine is no hang)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    mark = _marks.get(worker)
    if mark is None or mark[0] != (pid, case):
        _marks[worker] = ((pid, case), used)
        return 0.0
    return used - mark[1]


class Tally:
    """What was seen."""

    def __init__(self, corpus: list[Product]) -> None:
        self.corpus = corpus
        self.cases = 0
        self.outcomes: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self.findings: dict[str, list[int]] = collections.defaultdict(list)
        self.traces: dict[str, str] = {}
        self.slowest, self.peak = 0.0, 0

    def add(self, kind: str, *rest: Any) -> None:
        """One message of a worker."""
        if kind == "many":
            outcomes, slowest, peak = rest
            for (name, outcome), count in outcomes.items():
                self.outcomes[name][outcome] += count
                self.cases += count
            self.slowest, self.peak = max(self.slowest, slowest), max(self.peak, peak)
        else:
            self.finding(*rest)

    def finding(self, case: int, title: str, trace: str) -> None:
        """One case that ended badly, gathered by what and where it was."""
        self.findings[title].append(case)
        self.traces.setdefault(title, trace)
        print(f"case {case} ({self.corpus[case % len(self.corpus)].name}): {title}", file=sys.stderr, flush=True)

    def report(self, seconds: float, args: argparse.Namespace, corpus: list[Product], folder: Path) -> int:
        """Print the table; keep the files of findings."""
        for name, counts in sorted(self.outcomes.items()):
            print(f"{name:28} " + ", ".join(f"{k} {v}" for k, v in counts.most_common()))
        print(
            f"{self.cases} cases of {len(corpus)} products in {seconds:.0f} s ({self.cases / seconds:.0f} a second), slowest "
            f"{self.slowest:.2f} s, largest growth {self.peak / 2**20:.0f} MB, {len(self.findings)} findings"
        )
        for title, cases in self.findings.items():
            print(f"\n{title}: {len(cases)} cases, first {cases[:3]}\n{self.traces[title]}")
            if args.keep is not None:
                target = args.keep / f"case-{cases[0]}"
                shutil.rmtree(target, ignore_errors=True)
                prepare(corpus, cases[0], args.seed, target)
        return 1 if self.findings else 0


def run_cases(corpus: list[Product], args: Any, number: int, first: int, work: Path, results: Any, state: Any) -> None:
    """Worker: every `workers`-th case from `first` on."""
    quiet()
    outcomes: collections.Counter[tuple[str, str]] = collections.Counter()
    slowest, before = 0.0, _resident()
    for case in range(first, args.count, args.workers):
        state[:] = [case, time.monotonic(), 1]
        start = time.process_time()
        outcome, trace = one_case(corpus, case, args.seed, work)
        took, grown = time.process_time() - start, _resident() - before
        slowest = max(slowest, took)
        if trace:
            results.put(("finding", case, outcome, trace))
            outcome = "finding"
        if took > SECONDS:
            results.put(("finding", case, f"takes {took:.1f} s", ""))
        outcomes[corpus[case % len(corpus)].name, outcome] += 1
        if grown > GROWTH:
            results.put(("finding", case, f"grows to {grown / 2**20:.0f} MB", ""))
            before = _resident()
        if len(outcomes) > 50 or case + args.workers >= args.count or sum(outcomes.values()) >= 500:
            results.put(("many", dict(outcomes), slowest, grown))
            outcomes.clear()
    state[2] = 0
    results.put(("end",))


def quiet() -> None:
    """No warnings, no messages of GDAL and HDF5, small limits."""
    import logging

    from torchspectral.io.safety import set_limits

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    os.environ.setdefault("CPL_LOG", os.devnull)
    set_limits(read_bytes=256 << 20, block_bytes=256 << 20)


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def repeat(corpus: list[Product], args: argparse.Namespace, folder: Path) -> int:
    """One case with its traceback."""
    quiet()
    outcome, trace = one_case(corpus, args.case, args.seed, folder / "work")
    print(corpus[args.case % len(corpus)].name, outcome, trace, sep="\n")
    if args.keep is not None:
        prepare(corpus, args.case, args.seed, args.keep)
    return 1 if trace else 0


def one_case(corpus: list[Product], case: int, seed: int, work: Path) -> tuple[str, str]:
    """Outcome of a case, and the traceback where it is a finding."""
    from torchspectral.errors import TorchspectralError

    path = prepare(corpus, case, seed, work)
    try:
        corpus[case % len(corpus)].use(path, Random(f"use-{seed}-{case}"))
    except TorchspectralError as error:
        return type(error).__name__, ""
    except BaseException as error:  # everything else is what is looked for
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "torchspectral" in f.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        return f"{type(error).__name__} at {place}", traceback.format_exc(limit=-8)
    return "opened", ""


def prepare(corpus: list[Product], case: int, seed: int, work: Path) -> Path:
    """The damaged product of a case, in a folder of its own below `work`; returns what is opened.

    The folder stands from case to case: only the file that was damaged last is put right.
    """
    number = case % len(corpus)
    product, folder = corpus[number], work / str(number)
    rng = Random(f"{seed}-{case}")
    victim = rng.choice(product.victims)
    last = work / f"{number}.damaged"
    if not folder.exists():
        for file in product.files:
            _link(file, folder / file.relative_to(product.root))
    elif last.is_symlink():
        name = str(last.readlink())
        _link(product.root / name, folder / name)
        last.unlink()
    name = victim.relative_to(product.root)
    (folder / name).unlink()
    (folder / name).write_bytes(damage(victim.read_bytes(), rng))
    last.symlink_to(name)
    return folder / product.entry


def _link(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(file, target)
    except OSError:
        target.symlink_to(file)


def damage(data: bytes, rng: Random) -> bytes:
    """One to four mutations."""
    text = b"\0" not in data[:4096]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = (_damage_text if text and rng.random() < 0.7 else _damage_bytes)(data, rng)
    return data


def _place(data: bytes, rng: Random) -> int:
    """Somewhere in the file; mostly in its first 4 KB or its last KB, where headers and directories are."""
    draw = rng.random()
    if draw < 0.6:
        return rng.randrange(min(len(data), 4096) or 1)
    if draw < 0.75:
        return max(0, len(data) - 1 - rng.randrange(1024))
    return rng.randrange(len(data) or 1)


def _damage_bytes(data: bytes, rng: Random) -> bytes:
    at, kind = _place(data, rng), rng.randrange(8)
    size = rng.choice((1, 2, 4, 8, 16, 256, 4096))
    out = bytearray(data)
    if kind == 0:
        for _ in range(rng.choice((1, 2, 16))):
            if out:
                out[_place(data, rng)] ^= 1 << rng.randrange(8)
    elif kind == 1:
        out[at : at + size] = bytes([rng.choice((0, 255, rng.randrange(256)))]) * len(out[at : at + size])
    elif kind == 2:
        del out[at:]
    elif kind == 3:
        del out[at : at + size]
    elif kind == 4:
        out[at:at] = out[_place(data, rng) :][:size]
    elif kind == 5:
        out[at:at] = rng.randbytes(size)
    else:
        width = rng.choice((1, 2, 4, 8))
        at -= at % width if rng.random() < 0.7 else 0
        value = rng.choice((0, 1, -1, 1 << (8 * width - 1), (1 << (8 * width - 1)) - 1, rng.getrandbits(8 * width)))
        bits = (value % (1 << (8 * width))).to_bytes(width, rng.choice(("little", "big")))
        out[at : at + width] = bits[: len(out[at : at + width])]
    return bytes(out)


def _damage_text(data: bytes, rng: Random) -> bytes:
    kind = rng.randrange(6)
    if kind < 2:
        found = [m.span() for m in re.finditer(rb"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?", data[: 1 << 16])]
        if found:
            a, b = rng.choice(found)
            return data[:a] + rng.choice(NUMBERS).encode() + data[b:]
    if kind == 2:
        found = [m.span() for m in re.finditer(rb"[A-Za-z_]{2,}", data[: 1 << 16])]
        if found:
            a, b = rng.choice(found)
            c, d = rng.choice(found)
            return data[:a] + rng.choice((data[c:d], *WORDS)) + data[b:]
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    if kind == 3:
        del lines[at]
    elif kind == 4:
        lines.insert(rng.randrange(len(lines) + 1), lines[at])
    else:
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    return b"\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
