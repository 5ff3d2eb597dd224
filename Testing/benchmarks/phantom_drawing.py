"""Seconds of processor time that a drawn pelvis of the demonstration's size takes.

python Testing/benchmarks/phantom_drawing.py
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom

SIZE, REPEATS = (24, 160, 160), 5


def main() -> None:
    """Prints the best and the worst of a few."""
    pelvis_phantom(0, SIZE)
    taken = []
    for seed in range(REPEATS):
        start = time.process_time()
        pelvis_phantom(seed, SIZE)
        taken.append(time.process_time() - start)
    print(f"{SIZE}: {min(taken):.2f} to {max(taken):.2f} s")


if __name__ == "__main__":
    main()
