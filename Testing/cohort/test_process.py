"""What a process leaves of a study that another one has taken over meanwhile."""

from __future__ import annotations

import pytest

from ProxyPromptSegmentLib.cohort.claims import Worker
from ProxyPromptSegmentLib.cohort.folder import CLAIMS, CohortFolder
from ProxyPromptSegmentLib.cohort.process import Kind, Process
from ProxyPromptSegmentLib.cohort.studies import Study
from ProxyPromptSegmentLib.errors import InputError, OutputError
from ProxyPromptSegmentLib.progress import CancelToken

ABOUT = {"supports": [], "model": {"name": "toy", "sha256": "1"}, "settings": {}}
REPORT = {
    "model": {"sha256": "1"},
    "device": "cpu",
    "seconds": {"total": 1.0},
    "objects": [],
    "review": [],
    "notes": [],
    "nothing_found": False,
}


class Slept(Process):
    """Falls asleep over a study, which another process takes over and does; then something fails."""

    error: Exception = InputError("the network drive is gone.")

    def segment(self, study, files, cancel):
        claims = self._folder.folder(CLAIMS)
        (claims / f"{self.claims.token}.worker").unlink()  # as seen by others after so long without a sign of life
        with Worker(claims) as other:
            key = self._folder.key_of(self._inputs.of(study.path))
            claim = other.claim(key)
            files.result.write_text("what the other one found")
            assert self._folder.publish(key, study, files, REPORT)
            other.release(claim, True)
        raise self.error

    def words(self, error):
        return str(error)


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "study.nrrd"
    path.write_bytes(b"an image")
    return Study(path, "study")


def test_the_result_of_whoever_took_a_study_over_stays(tmp_path, study):
    folder = CohortFolder.begin(tmp_path / "out", ABOUT)
    with Slept(folder) as process:
        outcome = process.do(study, CancelToken())
        assert outcome.kind is Kind.HELD and folder.failure(outcome.key) is None
        assert folder.record(outcome.key) is not None, "its result was removed"
        assert process.do(study, CancelToken()).kind is Kind.BEFORE


def test_what_fails_every_study_is_raised_all_the_same(tmp_path, study):
    folder = CohortFolder.begin(tmp_path / "out", ABOUT)
    with Slept(folder) as process, pytest.raises(OutputError, match="the disk is full"):
        process.error = OutputError("the disk is full.")
        process.do(study, CancelToken())
    assert [path.read_text() for path in (tmp_path / "out" / "results").iterdir()] == ["what the other one found"]
