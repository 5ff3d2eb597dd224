"""Entries of the weights registry, validated on construction, so that no entry can name a harmful file."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.typed_json import JsonError, read_object

# backbone: official image backbone weights; generator: prompt generator and adapters for one of them; model: both in
# one file, as the compact ones are, or completed by another model's file.
OWN_SUFFIX = ".safetensors"
SUFFIXES = (OWN_SUFFIX, ".pth", ".pt")
SCHEMES = ("https", "http", "file")

_NAME = re.compile(r"[a-z0-9][a-z0-9._+-]{0,63}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|conin|conout|clock)(\..*)?", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_MD5_PREFIX = re.compile(r"[0-9a-f]{4,32}")


class ModelKind(str, Enum):
    """What a file of weights is; the values are the words of registry files.

    Attributes:
        BACKBONE: An image backbone, which cannot segment alone.
        GENERATOR: A prompt generator, which needs the backbone that it was trained on.
        MODEL: Both.
    """

    BACKBONE = "backbone"
    GENERATOR = "generator"
    MODEL = "model"

    __str__ = str.__str__  # the same word in every Python, also inside an f-string


@dataclass(frozen=True)
class _Needs:
    """What a registry file says under ``needs``."""

    package: str = ""
    base: str = ""


@dataclass(frozen=True)
class ModelEntry:
    """The registry entry of one weights file.

    Attributes:
        name: Name for ``--model`` and ``models download``; lower case.
        file: File name; a plain name, never a path.
        sha256: The file's hash in hexadecimal; None if no trustworthy source states it: it can then only be imported.
        bytes: Size of the file in bytes.
        licence: Licence of the weights.
        description: A sentence describing the model.
        citation: The publication to cite.
        kind: A `ModelKind`.
        urls: Download addresses, tried in this order.
        fits: Name of the backbone that the weights are for.
        package: Python package required to use it.
        base: Name of the backbone entry that a prompt generator was trained on, or of the model that completes this.
        trained_on: Training data.
        hash_source: Source of the hash.
        md5_prefix: Beginning of the MD5 that the publisher put into the file name; "" if there is none.
        embedded: Whether it comes with the program.
        replaced_by: Name of the embedded model whose weights these were in an earlier version; "" for others. They are
            imported from the project's history, to repeat what was made with them.
        calibration: Coefficients of presence and confidence fitted for these very weights; empty if there are none.
        origin: ``shipped``, or the user's registry file that adds it.
    """

    name: str
    file: str
    sha256: str | None = None
    bytes: int | None = None
    licence: str = ""
    description: str = ""
    citation: str = ""
    kind: str = ModelKind.MODEL.value
    urls: tuple[str, ...] = ()
    fits: str = ""
    package: str = ""
    base: str = ""
    trained_on: str = ""
    hash_source: str = ""
    md5_prefix: str = ""
    embedded: bool = False
    replaced_by: str = ""
    calibration: dict[str, Any] = field(default_factory=dict, hash=False)
    origin: str = "shipped"

    def __post_init__(self) -> None:
        """Reject entries that are malformed or could refer to paths outside the model's folder.

        Raises:
            CheckpointError: Naming the field, its value and what is allowed.
        """
        check_name(self.name)
        check_file_name(self.file, self.name)
        if self.kind not in tuple(ModelKind):
            raise self._wrong("kind", self.kind, f"one of {', '.join(ModelKind)}")
        if self.kind != ModelKind.BACKBONE and not self.file.lower().endswith(OWN_SUFFIX):
            raise self._wrong("file", self.file, f"a {OWN_SUFFIX} file, which cannot run code, for a {self.kind}")
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise self._wrong("sha256", self.sha256, "64 hexadecimal digits")
        if self.bytes is not None and self.bytes < 1:
            raise self._wrong("bytes", self.bytes, "an integer above 0")
        if self.kind != ModelKind.MODEL and not self.fits:
            raise self._wrong("fits", self.fits, f"the name of the backbone, which a {self.kind} needs")
        if self.md5_prefix and not _MD5_PREFIX.fullmatch(self.md5_prefix):
            raise self._wrong("md5_prefix", self.md5_prefix, "4 to 32 hexadecimal digits")
        for url in self.urls:
            check_url(url, self.name)

    @classmethod
    def from_dict(cls, values: Any, origin: str = "shipped") -> ModelEntry:
        """Build an entry from its JSON object, in which ``needs`` contains ``package`` and ``base``.

        Raises:
            CheckpointError: If a field is missing, unknown or not allowed.
        """
        if not isinstance(values, dict):
            raise CheckpointError(f"an entry of the registry is {values!r}; an object with name and file is needed")
        own = {key: value for key, value in values.items() if key != "needs"}
        known = {field.name for field in dataclasses.fields(cls)} - {"origin", "package", "base"}
        try:
            needs = read_object(_Needs, values.get("needs") or {}, "needs")
            entry = read_object(cls, own, known=known)
        except JsonError as error:
            raise CheckpointError(f"the entry '{values.get('name')}' does not fit: {error}") from error
        return dataclasses.replace(entry, package=needs.package, base=needs.base, origin=origin)

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as in a registry file, without empty fields."""
        values = dataclasses.asdict(self)
        needs = {key: values.pop(key) for key in ("package", "base")}
        values["urls"] = list(self.urls)
        values["needs"] = {key: value for key, value in needs.items() if value}
        del values["origin"]
        return {key: value for key, value in values.items() if value not in (None, "", [], {}, False)}

    def _wrong(self, field: str, value: object, allowed: str) -> CheckpointError:
        return CheckpointError(f"the entry '{self.name}' has the {field} {value!r}; allowed is {allowed}")


def check_name(name: str) -> None:
    """Reject names that are not plain and lower case, because the name becomes that of a folder.

    Raises:
        CheckpointError: If the name is not allowed.
    """
    if not _NAME.fullmatch(name) or ".." in name or name.endswith(".") or _RESERVED.fullmatch(name):
        raise CheckpointError(
            f"{name!r} cannot be a model's name, because it becomes the name of a folder; allowed are lower-case "
            "letters, digits, and . _ + - between them, and no name that Windows reserves"
        )


def check_file_name(file: str, name: str) -> None:
    """Reject file names that are paths or have a special meaning on some system.

    Raises:
        CheckpointError: If it is not a plain file name with a weights suffix.
    """
    plain = _FILE.fullmatch(file) and ".." not in file and not file.endswith(".") and not _RESERVED.fullmatch(file)
    if not plain:
        raise CheckpointError(
            f"the entry '{name}' has the file {file!r}, which is not a plain file name and could lie outside the "
            "model's folder; allowed are letters, digits, and . _ + - between them"
        )
    if not file.lower().endswith(SUFFIXES):
        raise CheckpointError(f"the entry '{name}' has the file {file!r}; it must end with {', '.join(SUFFIXES)}")


def check_url(url: str, name: str) -> None:
    """Reject addresses that are incomplete or of another kind.

    Raises:
        CheckpointError: If its scheme is not in `SCHEMES`, or the host or path is missing.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in SCHEMES and bool(parts.path) and (parts.scheme == "file" or bool(parts.hostname))
    except ValueError:
        good = False
    if not good or any(character.isspace() for character in url):
        raise CheckpointError(
            f"the entry '{name}' has the address {url!r}; allowed are https://HOST/PATH and file:///PATH "
            "(and http://, which is used only if the user allows it)"
        )
