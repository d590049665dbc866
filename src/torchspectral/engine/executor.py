"""Running a stage over blocks: in this process with a reading and a writing thread, in processes, or on a Dask cluster.

A stage is a picklable object with three steps for an item: ``read`` (input and output only), ``compute`` and
``write``; what `write` returns comes back, in the order of the items, whoever did the work. How many items are in
flight is bounded by a constant, so that memory does not grow with the scene.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from torchspectral.engine.memory import release
from torchspectral.errors import BadSettings, MissingDependency, TooLarge

IN_FLIGHT = 2
"""Items that each worker has waiting, and blocks that wait for the disk."""


class Stage(Protocol):
    """Work on the items of a pass."""

    def read(self, item: Any) -> Any:
        """Fetch what the item needs."""
        ...

    def compute(self, loaded: Any) -> Any:
        """Work on it."""
        ...

    def write(self, done: Any) -> Any:
        """Store the result; returns a small record."""
        ...


class Workers:
    """Where stages run.

    Parameters
    ----------
    workers : int
        1 runs in this process.
    cluster : str or Client, optional
        Address of a Dask scheduler, "local" for a new one on this machine, or a `distributed.Client`.

    Raises
    ------
    BadSettings
        Fewer than one worker, or the scheduler does not answer.
    MissingDependency
        `distributed` is not installed.
    """

    def __init__(self, workers: int = 1, cluster: Any = None) -> None:
        if not isinstance(workers, int) or workers < 1:
            raise BadSettings(f"got workers={workers!r}, expected a whole number from 1")
        self.count = workers
        self._closers = contextlib.ExitStack()
        self._executor: Executor | None = None
        self._cluster = cluster
        self._stages = 0

    @property
    def remote(self) -> bool:
        """Whether other processes do the work."""
        return self.count > 1 or self._cluster is not None

    def run(self, stage: Stage, items: Iterable[Any]) -> Iterator[Any]:
        """Records of all items, in order."""
        if not self.remote:
            return _run_here(stage, items)
        return self._run_there(stage, items)

    def _run_there(self, stage: Stage, items: Iterable[Any]) -> Iterator[Any]:
        import cloudpickle  # type: ignore[import-untyped]

        executor = self._start()
        blob = cloudpickle.dumps(stage)
        name = hashlib.blake2b(blob, digest_size=16).hexdigest()
        todo = iter(items)
        flying: deque[tuple[Any, Future[Any]]] = deque()
        sent = 0
        try:
            while True:
                for item in todo:
                    flying.append((item, executor.submit(_work, name, blob if sent < self.count else None, item)))
                    sent += 1
                    if len(flying) >= IN_FLIGHT * self.count:
                        break
                if not flying:
                    return
                item, future = flying.popleft()
                record = future.result()
                if isinstance(record, _Unknown):
                    record = executor.submit(_work, name, blob, item).result()
                yield record
        except BrokenProcessPool:
            raise TooLarge(
                "a worker process was killed, most likely because memory ran out: use fewer workers or smaller tiles "
                "(tile=)"
            ) from None
        finally:
            for _, future in flying:
                future.cancel()

    def _start(self) -> Executor:
        if self._executor is None:
            if self._cluster is not None:
                self._executor = self._cluster_executor()
            else:
                pool = ProcessPoolExecutor(
                    self.count, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
                )
                with _hidden_main():
                    for future in [pool.submit(os.getpid) for _ in range(self.count)]:
                        future.result()
                self._closers.callback(pool.shutdown, wait=True, cancel_futures=True)
                self._executor = pool
        return self._executor

    def _cluster_executor(self) -> Executor:
        try:
            import distributed
        except ImportError as error:
            raise MissingDependency(
                "cluster= needs distributed, which is not installed: pip install 'torchspectral[cluster]'"
            ) from error
        client = self._cluster
        if not isinstance(client, distributed.Client):
            try:
                if client == "local":
                    with _hidden_main():
                        local = distributed.LocalCluster(
                            n_workers=self.count, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
                        )
                    self._closers.callback(local.close)
                    client = distributed.Client(local, set_as_default=False)
                else:
                    client = distributed.Client(str(client), timeout=10, set_as_default=False)
            except (OSError, ValueError, TimeoutError) as error:
                raise BadSettings(
                    f"cannot reach a Dask scheduler at {self._cluster!r} ({error}): expected an address such as "
                    "tcp://127.0.0.1:8786, or 'local'"
                ) from None
            self._closers.callback(client.close)
        self.count = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
        executor: Executor = client.get_executor()
        return executor

    def close(self) -> None:
        """Stop the processes that were started."""
        self._closers.close()
        self._executor = None


class _Unknown:
    """What a worker answers when it has not seen a stage."""


_SEEN: dict[str, Stage] = {}
_SEEN_LOCK = threading.Lock()


def _work(name: str, blob: bytes | None, item: Any) -> Any:
    """Do one item in a worker process; the stage travels only where it is not known yet."""
    with _SEEN_LOCK:
        stage = _SEEN.get(name)
        if stage is None:
            if blob is None:
                return _Unknown()
            import cloudpickle

            stage = cloudpickle.loads(blob)
            _SEEN.clear()
            _SEEN[name] = stage
    record = stage.write(stage.compute(stage.read(item)))
    release()
    return record


def _run_here(stage: Stage, items: Iterable[Any]) -> Iterator[Any]:
    """Read ahead in one thread, write behind in another, compute in this one."""
    todo = iter(items)
    reading: deque[Future[Any]] = deque()
    writing: deque[Future[Any]] = deque()
    reader = ThreadPoolExecutor(1, thread_name_prefix="torchspectral-read")
    writer = ThreadPoolExecutor(1, thread_name_prefix="torchspectral-write")

    def read_ahead() -> None:
        while len(reading) < IN_FLIGHT:
            try:
                item = next(todo)
            except StopIteration:
                return
            reading.append(reader.submit(stage.read, item))

    try:
        read_ahead()
        while reading:
            loaded = reading.popleft().result()
            read_ahead()
            done = stage.compute(loaded)
            del loaded
            writing.append(writer.submit(stage.write, done))
            del done
            while writing and (len(writing) >= IN_FLIGHT or writing[0].done()):
                record = writing.popleft().result()
                release()
                yield record
        while writing:
            yield writing.popleft().result()
    finally:
        reader.shutdown(wait=True, cancel_futures=True)
        writer.shutdown(wait=True, cancel_futures=True)


def read_ahead(read: Any, items: Iterable[Any]) -> Iterator[Any]:
    """Results of `read` in order, fetched ahead in a thread."""
    todo = iter(items)
    waiting: deque[Future[Any]] = deque()
    reader = ThreadPoolExecutor(1, thread_name_prefix="torchspectral-read")
    try:
        for item in todo:
            waiting.append(reader.submit(read, item))
            if len(waiting) >= IN_FLIGHT:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        reader.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Settle a fresh worker process: no reaction to Ctrl-C (the parent decides), and it dies with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="torchspectral-parent", daemon=True).start()


@contextlib.contextmanager
def _hidden_main() -> Iterator[None]:
    """Start processes without running the user's script again in each: a script needs no ``__main__`` guard."""
    main = sys.modules["__main__"]
    missing = object()
    kept = {name: getattr(main, name, missing) for name in ("__file__", "__spec__")}
    try:
        main.__spec__ = None
        if kept["__file__"] is not missing:
            del main.__file__
        yield
    finally:
        for name, value in kept.items():
            if value is not missing:
                setattr(main, name, value)
