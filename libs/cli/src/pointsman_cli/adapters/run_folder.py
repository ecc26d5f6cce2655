"""The folder of one stack: its record, lock, logs, configuration and sockets.

<run folder>/stack.json  lock  logs/<part>.log  config/  manifests/  envoy/  sockets/
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Generator, Mapping
from pathlib import Path

from pointsman_cli.core.stack_plan import sockets_fit
from pointsman_cli.core.stack_record import StackRecord, decode_record, encode_record

_SHORT_FOLDERS = "/tmp/pointsman-"  # noqa: S108  (mkdtemp makes them, for their owner alone)


class StackRunningError(Exception):
    """Another stack runs in this folder."""


class RunFolder:
    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self._record = self.path / "stack.json"

    @contextlib.contextmanager
    def held(self) -> Generator[None, None, None]:
        """Keep other stacks out for as long as this process lives in the block.

        Raises:
            StackRunningError: somebody else holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StackRunningError(
                    f"a stack already runs in {self.path}; see `pointsman status`, "
                    "stop it with `pointsman down`, or choose another --run-dir"
                ) from error
            yield

    def read_record(self) -> StackRecord | None:
        try:
            return decode_record(self._record.read_bytes())
        except OSError:
            return None

    def write_record(self, record: StackRecord) -> None:
        """Readers see the old one or the new one, never a part."""
        beside = self._record.with_suffix(".new")
        beside.write_bytes(encode_record(record))
        beside.replace(self._record)

    def remove_record(self) -> None:
        self._record.unlink(missing_ok=True)

    def make_sockets_folder(self) -> Path:
        """An empty folder whose paths the kernel takes: in the run folder, or else in /tmp."""
        folder = self.path / "sockets"
        if not sockets_fit(str(folder)):
            parent, _, prefix = _SHORT_FOLDERS.rpartition("/")
            return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))  # mode 0700
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        return folder

    def remove_sockets_folder(self, folder: str) -> None:
        """Remove what `make_sockets_folder` has made, and nothing else: a record may be edited."""
        path = Path(folder)
        if path == self.path / "sockets" or str(path).startswith(_SHORT_FOLDERS):
            shutil.rmtree(path, ignore_errors=True)

    def log_path(self, part: str) -> Path:
        return self.logs / f"{part}.log"

    def clear_logs(self) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        for log in self.logs.glob("*.log"):
            if log.stem != "supervisor":
                log.unlink()


def write_files(files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def last_lines(path: Path, count: int, *, most_bytes: int = 64_000) -> list[str]:
    """The end of a log; empty when there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - most_bytes))
            text = log.read().decode(errors="replace")
    except OSError:
        return []
    return list(deque(text.splitlines(), maxlen=count))
