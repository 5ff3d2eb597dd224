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


class Waited(Process):
    """Segments whatever it is given; before it may, something happens to the study."""

    def segment(self, study, files, cancel):
        self.segmented = study.path.read_bytes()
        files.result.write_text("a result")
        return REPORT

    def words(self, error):
        return str(error)


@pytest.mark.parametrize("replaced", [True, False])
def test_a_study_that_changed_between_its_hash_and_its_turn_gets_no_record_of_what_it_was(tmp_path, study, replaced):
    """Its result would otherwise be shown for every copy of the image that was there before, another patient's."""
    folder = CohortFolder.begin(tmp_path / "out", ABOUT)
    with Waited(folder) as process:
        claim = process.claims.claim

        def late(key):
            study.path.write_bytes(b"another patient's image") if replaced else study.path.unlink()
            return claim(key)

        process.claims.claim = late
        assert process.do(study, CancelToken()).kind is Kind.CHANGED
        process.claims.claim = claim
        if replaced:
            assert process.do(study, CancelToken()).kind is Kind.DONE and process.segmented.startswith(b"another")
        study.path.write_bytes(b"an image")
        assert process.do(study, CancelToken()).kind is Kind.DONE and process.segmented == b"an image"


def test_what_fails_every_study_is_raised_all_the_same(tmp_path, study):
    folder = CohortFolder.begin(tmp_path / "out", ABOUT)
    with Slept(folder) as process, pytest.raises(OutputError, match="the disk is full"):
        process.error = OutputError("the disk is full.")
        process.do(study, CancelToken())
    assert [path.read_text() for path in (tmp_path / "out" / "results").iterdir()] == ["what the other one found"]
