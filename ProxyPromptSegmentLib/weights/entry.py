"""One entry of the registry of weights: valid once it is constructed, so that nothing hostile can be named by it."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.typed_json import JsonError, read_object

# backbone: official image backbone weights; generator: prompt generator and adapters for one of them; model: both in
# one file, as the compact ones are.
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
    """One file of weights.

    Attributes:
        name: What ``--model`` and ``models download`` take; lower case.
        file: File name; a plain name, never a path.
        sha256: The file's hash in hexadecimal; None where nobody trustworthy has told it: then it can only be imported.
        bytes: Its size.
        licence: Licence of the weights.
        description: One sentence: what it is.
        citation: What to cite.
        kind: A `ModelKind`.
        urls: Where it can be had, tried in this order.
        fits: The backbone name whose modules it fills.
        package: What has to be installed to use it.
        base: Name of the backbone entry that a generator was trained on.
        trained_on: The data.
        hash_source: Who says that the hash is right.
        md5_prefix: Beginning of the MD5 that the publisher put into the file's name; "" where there is none.
        embedded: Whether it comes with the program.
        origin: ``shipped``, or the registry file that a user added it in.
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
    origin: str = "shipped"

    def __post_init__(self) -> None:
        """Refuses what is malformed or could reach outside of a model's folder.

        Raises:
            CheckpointError: With the field, its value and what is allowed.
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
            raise self._wrong("bytes", self.bytes, "a whole number above 0")
        if self.kind != ModelKind.MODEL and not self.fits:
            raise self._wrong("fits", self.fits, f"the name of the backbone, which a {self.kind} needs")
        if self.md5_prefix and not _MD5_PREFIX.fullmatch(self.md5_prefix):
            raise self._wrong("md5_prefix", self.md5_prefix, "4 to 32 hexadecimal digits")
        for url in self.urls:
            check_url(url, self.name)

    @classmethod
    def from_dict(cls, values: Any, origin: str = "shipped") -> ModelEntry:
        """Reads an entry of a registry file; ``needs`` holds ``package`` and ``base`` there.

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
        """The entry as a registry file has it; empty fields are left out."""
        values = dataclasses.asdict(self)
        needs = {key: values.pop(key) for key in ("package", "base")}
        values["urls"] = list(self.urls)
        values["needs"] = {key: value for key, value in needs.items() if value}
        del values["origin"]
        return {key: value for key, value in values.items() if value not in (None, "", [], {}, False)}

    def _wrong(self, field: str, value: object, allowed: str) -> CheckpointError:
        return CheckpointError(f"the entry '{self.name}' has the {field} {value!r}; allowed is {allowed}")


def check_name(name: str) -> None:
    """Refuses what is no plain lower-case name: it becomes the name of a folder.

    Raises:
        CheckpointError: If it is anything else.
    """
    if not _NAME.fullmatch(name) or ".." in name or name.endswith(".") or _RESERVED.fullmatch(name):
        raise CheckpointError(
            f"{name!r} cannot be a model's name, because it becomes the name of a folder; allowed are small letters, "
            "digits, and . _ + - between them, and no name that Windows keeps for itself"
        )


def check_file_name(file: str, name: str) -> None:
    """Refuses a file name that is a path, or that a system would understand as something else.

    Raises:
        CheckpointError: If it is no plain file name with a suffix of weights.
    """
    plain = _FILE.fullmatch(file) and ".." not in file and not file.endswith(".") and not _RESERVED.fullmatch(file)
    if not plain:
        raise CheckpointError(
            f"the entry '{name}' has the file {file!r}, which is no plain file name and could lie outside of the "
            "model's folder; allowed are letters, digits, and . _ + - between them"
        )
    if not file.lower().endswith(SUFFIXES):
        raise CheckpointError(f"the entry '{name}' has the file {file!r}; it must end with {', '.join(SUFFIXES)}")


def check_url(url: str, name: str) -> None:
    """Refuses an address that is not complete or of another kind.

    Raises:
        CheckpointError: If its scheme is none of `SCHEMES`, or the host or path is missing.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in SCHEMES and bool(parts.path) and (parts.scheme == "file" or bool(parts.hostname))
    except ValueError:
        good = False
    if not good or any(character.isspace() for character in url):
        raise CheckpointError(
            f"the entry '{name}' has the address {url!r}; allowed are https://HOST/PATH and file:///PATH "
            "(and http://, which is used only with --allow-http)"
        )
