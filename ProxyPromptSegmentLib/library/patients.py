"""Which cases of a library are of one patient, without a word about who that is.

A case holds a token of its patient: a hash of what identifies the patient and of a secret of the library. The secret
never leaves the library's folder, so that a token in an exported case says no more than that another case has the same.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path

from ProxyPromptSegmentLib.imaging.output_files import safe_output

SECRET_FILE = ".patients"
TOKEN = re.compile(r"[0-9a-f]{24}")


def make_secret(folder: Path) -> None:
    """Write the secret of a library, unless it has one.

    Raises:
        OutputError: If it cannot be written.
    """
    path = folder / SECRET_FILE
    if not path.is_file():
        with safe_output(path) as partial:
            partial.write_text(secrets.token_hex(32), encoding="ascii")
            partial.chmod(0o600)


def token_of(folder: Path, identity: str) -> str:
    """Return the token of a patient in a library; "" if it has no secret, and so no token of anybody.

    Args:
        folder: Folder of the library.
        identity: What identifies the patient, such as number, name and date of birth; "" if nothing is known.
    """
    try:
        secret = (folder / SECRET_FILE).read_text(encoding="ascii") if identity else ""
    except (OSError, ValueError):
        return ""
    return hashlib.sha256(f"{secret}\n{identity}".encode()).hexdigest()[:24] if secret else ""
