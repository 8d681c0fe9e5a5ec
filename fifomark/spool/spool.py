"""A spool folder: making one, looking at its intake, and moving a submission to where its state says."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Collection, Iterable
from functools import cached_property

from msgspec.structs import replace

from fifomark.core.errors import InternalError, SpoolError
from fifomark.core.keeping import Pruned
from fifomark.core.states import State
from fifomark.core.submission import Key, Listing, Look, Submission
from fifomark.settings import FILE_NAME, Settings, load_settings
from fifomark.spool import kept
from fifomark.spool.intake import Intake
from fifomark.spool.layout import FOLDERS, PRIVATE, Layout
from fifomark.spool.mounts import over_network
from fifomark.spool.moves import advance, is_there, opened_folder, opened_subfolder, publish_all, publishing, rename, sync_folder, write_all
from fifomark.spool.secret import pseudonym_key

NAME_TAKEN = "another file waits in incoming/ under its name; withdraw that one first, or let it be marked"


class Spool:
    """An existing spool; SpoolError where `root` is none, ConfigError where its settings are wrong."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.layout = Layout(root)
        if not self.layout.settings.exists():
            raise SpoolError(f"{self.layout.root}: no spool here ({FILE_NAME} is missing); make one with: fifomark init {root}")
        self.settings: Settings = load_settings(self.layout.root)
        try:
            make_folders(self.layout)
        except FileExistsError as e:
            raise SpoolError(f"{e.filename}: must be a folder, and something else is there; move it away") from e
        self._unsynced: set[str] = set()

    def rubrics(self) -> tuple[str, ...]:
        """The names of the rubrics that the spool has."""
        return self.layout.rubrics()

    @cached_property
    def _intake(self) -> Intake:
        incoming = self.layout.folder("incoming")
        return Intake(incoming, self.settings.settle_seconds, self.layout.has_rubric, leases=not over_network(incoming))

    def look(self, now: float, look: Look, loaded: Collection[str], waiting: Iterable[Key]) -> Listing:
        """What is new in incoming/ at `now`, and in the subfolders named as one of the `loaded` rubrics.

        A subfolder of a rubric that is not loaded yet stays untouched. `waiting` is read where a look at everything comes to its end.
        """
        return self._intake.look(now, look, loaded, waiting)

    def look_again(self, now: float, key: Key, loaded: Collection[str]) -> Listing:
        """How it stands with one that waits."""
        return self._intake.look_again(now, key, loaded)

    @property
    def unsettled(self) -> Collection[Key]:
        """What was not settled when it was last looked at."""
        return self._intake.unsettled

    @property
    def sweeping(self) -> bool:
        """Whether a look at everything was begun and is not at its end."""
        return self._intake.sweeping

    def publish(self, reports: Iterable[tuple[Submission, bytes]]) -> None:
        """Write reports, fsynced, before `place` takes their files to a final folder."""
        files = [(self.layout.report(submission), body) for submission, body in reports]
        publish_all(files)
        self._unsynced |= {os.path.dirname(path) for path, _ in files}

    def place(self, submission: Submission) -> bool:
        """Make the folders agree with `submission.state`, whatever was done of it before; False where its file has vanished.

        Only the renames happen here; `sync` makes them last.
        """
        if submission.pruned:
            self._unsynced |= kept.remove(self.layout, submission)
            return True
        match submission.state:
            case State.QUEUED:
                return self._bring_back(submission)
            case State.SANITIZING:
                return self._claim(submission)
            case State.SANITIZED:
                clean = self._advance(self.layout.unpublished(submission), self.layout.clean(submission))
                return self._advance(self.layout.claimed(submission), self.layout.original(submission)) and clean
            case State.DONE:
                return self._advance(self.layout.clean(submission), self.layout.done(submission))
            case State.REJECTED:
                return self._quarantine(submission)
            case State.FAILED:
                _remove(self.layout.unpublished(submission))  # of a sanitizing that came to no end
                return self._advance(self.layout.clean(submission), self.layout.failed(submission)) or self._advance(
                    self.layout.claimed(submission), self.layout.failed_original(submission)
                )
            case _:
                return True

    def bytes_of(self, submission: Submission, stage: Pruned) -> int:
        """What taking away everything up to `stage` would free."""
        return kept.size(kept.files(self.layout, submission, stage))

    def kept_bytes(self) -> int:
        """What lies in the folders of submissions that have ended."""
        return kept.total(self.layout)

    def keep_log(self, submission: Submission, said: str) -> None:
        """Add to what was said on stdout and stderr while it was worked on."""
        kept.append_log(self.layout.log(submission), said)

    def keep_clean(self) -> None:
        """Make the names last that the sanitizer has given to clean files: before the ledger relies on them."""
        sync_folder(self.layout.folder("evaluating"))

    def forget_clean(self, submission: Submission) -> None:
        """Remove what an interrupted sanitizing may have left: it is written again."""
        for path in (self.layout.unpublished(submission), self.layout.clean(submission)):
            if _remove(path):
                self._unsynced.add(os.path.dirname(path))

    def remove_temporaries(self) -> None:
        """Remove what writers that were killed left half written; for the start of a daemon, when none is at work."""
        for folder in ("evaluating", "done", "rejected", "failed", "control"):
            for name in os.listdir(self.layout.folder(folder)):
                if name.startswith(".") and name.endswith(".tmp"):
                    os.unlink(os.path.join(self.layout.folder(folder), name))

    def sync(self) -> None:
        """fsync every folder that a move has touched since the last call."""
        for folder in sorted(self._unsynced):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # a subfolder of incoming/ is its owners' to remove
                sync_folder(folder)
        self._unsynced.clear()

    def sync_all(self) -> None:
        """fsync every folder: an earlier daemon may have moved files and not come to it, and what follows is to build on that."""
        self._unsynced |= {self.layout.folder(folder) for folder in FOLDERS}
        self._unsynced |= {os.path.join(self.layout.folder("incoming"), rubric) for rubric in self.rubrics()}
        self.sync()

    def _claim(self, submission: Submission) -> bool:
        folder, name = os.path.split(self.layout.incoming(submission))
        target = self.layout.claimed(submission)
        if os.path.lexists(target):
            return True  # moved before an interruption; what lies in incoming/ under that name now is another submission
        self._unsynced |= {folder, os.path.dirname(target)}
        try:
            # By descriptor: others may write to incoming/, and must not lead us elsewhere through a link in place of a subfolder.
            with opened_folder(folder) as source_folder:
                return advance(name, target, source_folder)
        except FileNotFoundError:
            return False

    def clean_bytes(self, submission: Submission) -> int:
        """The size of its clean file while it waits for a slot; 0 where that is not there."""
        with contextlib.suppress(FileNotFoundError):
            return os.stat(self.layout.clean(submission)).st_size
        return 0

    def _bring_back(self, submission: Submission) -> bool:
        """For another attempt: what was submitted lies in incoming/ again, and of the last attempt only the report is kept.

        FileExistsError where another file lies there under its name.
        """
        incoming, name = self.layout.folder("incoming"), submission.name
        source = next((path for path in self.layout.submitted(submission) if os.path.lexists(path)), None)
        if source is not None:
            self._unsynced |= {os.path.dirname(source), os.path.join(incoming, submission.folder)}
            with opened_subfolder(incoming, submission.folder) as folder:  # never through a link that someone put in its place
                rename(source, name, target_folder=folder)
        for state in (State.REJECTED, State.FAILED):
            report = self.layout.report(replace(submission, state=state))
            self._advance(report, self.layout.earlier_report(submission, submission.attempt - 1))
        _remove(self.layout.failed(submission))
        try:
            with opened_folder(os.path.join(incoming, submission.folder)) as folder:
                return is_there(name, folder)
        except OSError:  # moved before an interruption, and its owner has taken the folder away since
            return False

    def is_back(self, submission: Submission) -> bool:
        """Whether `_bring_back` has moved what was submitted: what is left to do of it is to be finished then."""
        return not any(map(os.path.lexists, self.layout.submitted(submission)))

    def withdraw(self, submission: Submission) -> None:
        """Delete what waits in incoming/; OSError where that cannot be done."""
        path = os.path.dirname(self.layout.incoming(submission))
        self._unsynced.add(path)  # were it to come back after a power cut, it would be submitted again
        with opened_folder(path) as folder, contextlib.suppress(FileNotFoundError):
            os.unlink(submission.name, dir_fd=folder)
        self._intake.forget((submission.folder, submission.name))

    def can_come_back(self, submission: Submission) -> str | None:
        """Why a retry of it is not possible; None where it is."""
        if not any(map(os.path.lexists, self.layout.submitted(submission))):
            return "what was submitted is no longer kept; it has to be submitted again"
        if os.path.lexists(self.layout.incoming(submission)):
            return NAME_TAKEN
        return None

    def _quarantine(self, submission: Submission) -> bool:
        """What was submitted goes to rejected/, from wherever it lies; a clean file made from it is ours and goes away."""
        target = self.layout.quarantined(submission)
        self.forget_clean(submission)
        return self._advance(self.layout.claimed(submission), target) or self._advance(self.layout.original(submission), target)

    def _advance(self, source: str, target: str) -> bool:
        self._unsynced |= {os.path.dirname(source), os.path.dirname(target)}
        try:
            return advance(source, target)
        except FileExistsError as e:
            raise InternalError(f"{target} is in the way of {source}; move it aside and start again") from e


def _remove(path: str) -> bool:
    """Whether it was there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def make_folders(layout: Layout) -> None:
    for folder in FOLDERS:
        os.makedirs(layout.folder(folder), mode=0o700 if folder in PRIVATE else 0o777, exist_ok=True)


def create(root: str | os.PathLike[str], settings: str) -> Layout:
    """Make the folders of a spool, its settings file and its key for pseudonyms; what is there already stays as it is."""
    layout = Layout(root)
    make_folders(layout)
    if not layout.settings.exists():
        with publishing(os.fspath(layout.settings)) as fd:
            write_all(fd, settings.encode())
    pseudonym_key(layout.pseudonyms)
    return layout


def drop(layout: Layout, source: str, folder: str) -> str:
    """Copy the file `source` into incoming/ (or incoming/<folder>) so that it appears there whole; returns its path.

    FileExistsError where that name is waiting already.
    """
    incoming, name = layout.folder("incoming"), os.path.basename(source)
    target, temporary = os.path.join(incoming, folder, name), f".{secrets.token_hex(8)}.part"
    with opened_subfolder(incoming, folder) as fd:
        try:
            made = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=fd)
            with open(source, "rb") as reading, open(made, "wb") as writing:
                _copy(reading.fileno(), writing.fileno())
                os.fsync(writing.fileno())
            rename(temporary, name, fd, fd)
            os.fsync(fd)
        except BaseException as e:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=fd)
            if isinstance(e, OSError) and e.filename in (None, temporary):  # a full disk, for one
                raise OSError(e.errno, e.strerror, source, None, target) from e
            raise
    return target


def _copy(source: int, target: int) -> None:
    while os.sendfile(target, source, None, 1 << 24):
        pass
