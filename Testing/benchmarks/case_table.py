"""What the program does with a folder of troublesome inputs: one line a command, its exit status and its last words.

    python Testing/benchmarks/case_table.py CASES_FOLDER DEMO_FOLDER [NAME ...]

``CASES_FOLDER`` has a folder for each case, with ``make.py`` (writes the input, from the images of ``proxyprompt demo``
in ``DEMO_FOLDER``), ``command.txt`` (what to run) and ``expected.txt``. Everything happens in a copy. A crash, a
traceback and a command without end are marked. Where a case has a clean file beside its troublesome one, the command
runs with that, too, and the masks of both are compared voxel by voxel, and their grids. Whether the other results are
right, is for the reader, and for the tests.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
LIMIT_S, LIMIT_KIB = 240, 8 << 20
CLEAN = {
    "dicom_multiframe_positions": [("interleaved/a.dcm", "in_order/a.dcm"), ("two_files/a.dcm", "in_order/a.dcm")],
    "dicom_without_pixel_spacing": [("stills/still0.dcm", "alone.dcm")],
    "file_name_not_utf8": [("\"$(printf 't\\xfc.png')\"", "t.png")],
    "fuzz_cli_odd_names": [("'a\nb.nrrd'", "../base/t_gz.nrrd")],
    "fuzz_non_utf8_name": [(r"$'M\xfcller.nrrd'", "../base/t_gz.nrrd")],
    "jpeg_exif_orientation": [("image_turned.jpg", "image.png"), ("target_turned.jpg", "target.png")],
    "nifti_sform_differs_from_qform": [("mask_value3.nii.gz", "mask.nrrd")],
    "padding_outside_the_field": [("padded.nrrd", "clean.nrrd")],
    "peer_dicom_seg_without_suffix": [("apart/IM0001", "apart_dcm/IM0001.dcm")],
    "png_palette_and_colours": [("mask_palette.png --object 1", "mask_red_only.png")],
    "stdout_or_stderr_closed": [(" 2>&-", ""), (" >&-", "")],
}
"""What is replaced in a command for the clean file beside the troublesome one; JPEG and padding change values."""


def environment(demo: Path, commands: Path) -> dict[str, str]:
    """Returns the surroundings of a command: this checkout's program under the name that users call."""
    commands.mkdir(exist_ok=True)
    for name, rest in (("proxyprompt", "-m ProxyPromptSegmentLib "), ("python", "")):
        script = commands / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {rest}"$@"\n')
        script.chmod(0o755)
    path = f"{commands}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "DEMO": str(demo), "OMP_NUM_THREADS": "1"}


def run(command: str, folder: Path, surroundings: dict[str, str]) -> tuple[int, str]:
    """Runs a command with limits of time and memory; returns its exit status and what it wrote."""
    limited = f"ulimit -v {LIMIT_KIB}; {command}"
    try:
        done = subprocess.run(
            ["bash", "-c", limited], cwd=folder, env=surroundings, capture_output=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return -1, f"no end within {LIMIT_S} s"
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")


def verdict(status: int, said: str) -> str:
    """Returns a word for the exit status."""
    if status == -1:
        return "HANGS"
    if status in (132, 134, 136, 137, 139) or -32 < status < -1 or "terminate called" in said:
        return "ABORTS"
    if "Traceback" in said or "fault of the program" in said:
        return "TRACEBACK"
    return "accepted" if status in (0, 9) else "refused"


def commands_of(text: str) -> list[str]:
    """Returns the commands of a command.txt: one a line, continued where a line starts like no command."""
    found: list[str] = []
    for line in text.splitlines():
        if re.match(r"(proxyprompt|python|for|timeout|env)\b", line):
            found += [line]
        elif found:
            found[-1] += "\n" + line
    return [_in_shell(one) for one in found]


def _in_shell(words: str) -> str:
    """Returns a command as a shell wants it: without remarks, lists in full, names with line breaks quoted."""
    words = re.sub(r"\s{2,}#.*", "", words)
    words = re.sub(r"\s{2,}\([^;\n]*", "", words)  # a remark between two commands
    words = re.sub(r"(\S+)\n(\S+)", lambda found: shlex.quote(found[0]), words)
    if same := re.search(r";\s*(?:the )?same for (.+)$", words):
        first = words[: same.start()]
        rest = [] if same[1] == "each" else re.split(r",\s*|\s+and\s+", same[1])
        named = re.findall(r"\S+", first)[-1]
        words = "; ".join([first, *(first.replace(named, name) for name in rest)])
    if words.startswith("for ") and " do " not in words:
        words = words.replace(": ", "; do ", 1) + "; done"
    return words


def compared(folder: Path, name: str, command: str, surroundings: dict[str, str]) -> str:
    """Returns how the masks of a command are like those with the clean file; "" if there is none."""
    from ProxyPromptSegmentLib.imaging.metrics import dice
    from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation

    output = re.search(r"--output (\S+)", command)
    for given, clean in CLEAN.get(name, ()):
        if output is None or given not in command:
            continue
        if clean == "alone.dcm":
            shutil.copy(folder / given, folder / clean)
        result = Path("clean_" + output[1])
        status, said = run(command.replace(given, clean, 1).replace(output[1], str(result), 1), folder, surroundings)
        if status not in (0, 9):
            return f"the clean file is refused ({status}): {said[-200:]}"
        found, expected = (read_segmentation(folder / path) for path in (output[1], result))
        if not found.geometry.is_close(expected.geometry) or len(found.segments) != len(expected.segments):
            return f"ANOTHER GRID: {found.geometry}, {found.names} instead of {expected.geometry}, {expected.names}"
        each = [
            (int((one.mask != other.mask).sum()), int(other.mask.sum()), dice(one.mask, other.mask))
            for one, other in zip(found.segments, expected.segments, strict=True)
        ]
        return "; ".join(f"{apart} voxels differ, {marked} are marked, Dice {like:.3f}" for apart, marked, like in each)
    return ""


def main() -> None:
    """Prints the table."""
    cases, demo, wanted = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), sys.argv[3:]
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "cases"
        shutil.copytree(cases, copy)
        for script in copy.glob("*.py"):
            script.write_text(
                script.read_text()
                .replace("ProxyPromptSegmentLib.volumes", "ProxyPromptSegmentLib.imaging.volumes")
                .replace("ProxyPromptSegmentLib.library_zip", "ProxyPromptSegmentLib.library.archive")
                .replace("ProxyPromptSegmentLib.library import", "ProxyPromptSegmentLib.library.store import")
            )
        surroundings = environment(demo, Path(scratch) / "bin")
        for folder in sorted(path.parent for path in copy.glob("*/make.py")):
            if wanted and not any(word in folder.name for word in wanted):
                continue
            for file in (folder / "make.py", folder / "command.txt"):
                file.write_text(
                    file.read_text()
                    .replace("'PROJECT/", f"'{ROOT}/")
                    .replace("ProxyPromptSegmentLib.volumes", "ProxyPromptSegmentLib.imaging.volumes")
                    .replace("ProxyPromptSegmentLib.segmentations", "ProxyPromptSegmentLib.imaging.segmentations")
                    .replace("ProxyPromptSegmentLib.library import", "ProxyPromptSegmentLib.library.store import")
                )
            (folder / "scratch").mkdir(exist_ok=True)
            status, said = run("python make.py", folder, surroundings)
            if status and "command.txt" not in said:
                print(f"{folder.name}: make.py failed: {said[-200:]}")
            for name, given in (("image.nrrd", "support.nrrd"), ("mask.nrrd", "support.seg.nrrd")):
                if not (folder / name).exists():  # "any support"
                    shutil.copy(demo / given, folder / name)
            for command in commands_of((folder / "command.txt").read_text()):
                own = {"PROXYPROMPT_REGISTRY": "registry.json", "PROXYPROMPT_CACHE": "cache"}
                status, said = run(
                    command, folder, surroundings | (own if (folder / "registry.json").is_file() else {})
                )
                words = [line for line in said.splitlines() if line.strip()]
                print(f"{folder.name} | {command[:150]!r}\n    {verdict(status, said)} ({status})", flush=True)
                for line in words[-12:]:
                    print(f"      {line[:260]}", flush=True)
                if verdict(status, said) == "accepted" and (
                    same := compared(folder, folder.name, command, surroundings)
                ):
                    print(f"      against the clean file: {same}", flush=True)


if __name__ == "__main__":
    main()
