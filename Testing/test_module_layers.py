"""Which part of the Slicer module may import which, and who touches voxels: read from the source."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from test_layers import imported_names

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "ProxyPromptSegmentModule"
FOLDER = ROOT / "ProxyPromptSegment" / PACKAGE

# From the bottom to the top; a file may import its own layer and those below. A new file is added here.
LAYERS = (
    ("__init__", "texts", "terminology", "lattices", "package_check", "panel_words", "request",
     "pump"),
    ("nodes", "segment_layers", "segment_step", "segment_masking", "segment_making", "segments", "sequence_writing",
     "sequences", "sample_data"),
    ("first_run", "first_run_tools", "first_run_words", "model_rows", "models", "transfers", "thumbnails",
     "support_state", "support_stamps", "support_rows", "support_sources", "supports"),
    ("reading", "steps", "sinks", "result_nodes", "run", "live_run", "sequence_run", "asking"),
    ("logic",),
    ("views", "live_watch", "wording", "thumbnail_images", "tick_list", "parameters", "wanted", "apply_section",
     "first_run_section", "library_section", "model_section", "objects_section", "result_section", "support_section",
     "supports_table", "target_section", "why_section"),
    ("widget",),
)  # fmt: skip
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
PANEL = LAYERS[5] + LAYERS[6]
# Who may know Qt besides the panel: the timer, and the dialogs of the first installation.
QT = {*PANEL, "pump", "first_run_tools"}
# What writes voxels into segments, and who may call it.
WRITES = re.compile(
    r"updateSegmentBinaryLabelmapFromArray|SetBinaryLabelmapToSegment|arrayFromSegmentInternalBinaryLabelmap"
    r"|ModifySegmentByLabelmap|updateVolumeFromArray|AddRepresentation|InvokeEvent|numpy_to_vtk"
)
WRITERS = {"lattices", "segments", "segment_layers", "segment_making", "sequence_writing", "sample_data"}


def violations(folder):
    """One sentence for each import that goes the wrong way."""
    found = []
    for file in sorted(folder.glob("*.py")):
        own = file.stem
        if own not in RANK:
            found.append(f"{file.name} has no layer; give it a place in LAYERS of {Path(__file__).name}")
            continue
        for line, name in imported_names(ast.parse(file.read_text(encoding="utf-8")), f"{PACKAGE}.{own}"):
            parts = name.split(".")
            if parts[0] in ("qt", "ctk") and own not in QT:
                found.append(f"{file.name}:{line} imports {parts[0]}, which only the panel may know")
            if parts[0] == PACKAGE and len(parts) > 1:
                other = parts[1] if parts[1] in RANK else "__init__"
                if RANK[other] > RANK[own]:
                    found.append(f"{file.name}:{line} imports {other}, which is above it")
    return found


def test_every_import_of_the_module_goes_downwards():
    assert not violations(FOLDER), "\n".join(violations(FOLDER))


def test_only_the_files_for_it_write_voxels():
    found = {file.stem for file in FOLDER.glob("*.py") if WRITES.search(file.read_text(encoding="utf-8"))}
    assert "segment_layers" in found, "the pattern finds nothing any more"
    assert found <= WRITERS, f"{found - WRITERS} write voxels; segments.py is the place for it"


@pytest.mark.parametrize(
    ("file", "source", "told"),
    [
        ("nodes", "import qt", "only the panel"),
        ("logic", "def late():\n    from ProxyPromptSegmentModule.widget import ModuleWidget", "above"),
        ("segments", "from ProxyPromptSegmentModule.runs.run import Run", "above"),
        ("run", "from ProxyPromptSegmentModule import nodes", ""),
        ("newcomer", "", "no layer"),
    ],
)
def test_a_planted_import_is_judged_rightly(tmp_path, file, source, told):
    (tmp_path / f"{file}.py").write_text(source)
    found = violations(tmp_path)
    assert (len(found) == 1 and told in found[0]) if told else not found
