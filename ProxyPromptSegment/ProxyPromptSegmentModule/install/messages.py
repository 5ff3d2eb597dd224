"""Texts of the installer: the consent dialog, and advice after a failure."""

from __future__ import annotations

from collections.abc import Sequence

from ProxyPromptSegmentModule.install.packages import REQUIREMENTS, normal, requirement_of
from ProxyPromptSegmentModule.translation import _

# Megabytes to download on Linux with Python 3.12, including dependencies, as pip reports them; 1 if not listed.
MEGABYTES = {
    "networkx": 2, "pillow": 7, "sympy": 7,
    "einops": 1, "filelock": 1, "hydra-core": 1, "iopath": 1, "numpy": 17, "peft": 27, "platformdirs": 1, "pynrrd": 1,
    "safetensors": 1, "sam2": 1, "transformers": 12, "scipy": 36, "segment-anything": 1, "simpleitk": 53, "slicerio": 1,
}  # fmt: skip
# Fragments of error messages of pip and Python; the first match decides.
_DISK = ("no space left", "errno 28", "not enough space", "disk quota")
_FOLDER = ("permission denied", "errno 13", "errno 30", "read-only file system", "winerror 5", "access is denied")
_NETWORK = (
    "name resolution", "name or service not known", "getaddrinfo", "proxyerror", "proxy", "connection", "timed out",
    "timeout", "max retries", "certificate", "network is unreachable", "temporary failure",
)  # fmt: skip
_NOT_FOUND = (
    "no matching distribution",
    "could not find a version",
    "resolutionimpossible",
    "conflicting dependencies",
)


def purposes() -> dict[str, str]:
    """Return the purpose of each package."""
    return {
        "einops": _("used by the networks"),
        "filelock": _("lets two programs share downloaded models"),
        "hydra-core": _("used by SAM 2"),
        "iopath": _("used by SAM 2"),
        "numpy": _("computes with arrays"),
        "peft": _("adapts SAM to medical images"),
        "platformdirs": _("finds the folder of downloaded models"),
        "pynrrd": _("reads and writes segmentations"),
        "safetensors": _("reads models"),
        "sam2": _("the networks of SAM 2, optional"),
        "scipy": _("cleans up masks"),
        "segment-anything": _("the networks of SAM"),
        "simpleitk": _("reads and writes images"),
        "slicerio": _("reads and writes segmentations"),
        "transformers": _("used by peft"),
    }


def _items(lines: Sequence[str]) -> tuple[list[str], int]:
    """Return a line of text for each package that is used here, one for all others, and their megabytes."""
    texts, others, total, why = [], [], 0, purposes()
    for line in lines:
        name = normal(requirement_of(line).name)
        if name in ("torch", "torchvision"):
            continue
        total += MEGABYTES.get(name, 1)
        if name in why:
            texts.append(f"• {line}: {why[name]}")
        else:
            others.append(name)
    if others:
        texts.append(_("• {names}: needed by the others").format(names=", ".join(others)))
    return texts, total


def consent(missing: Sequence[str], extra: Sequence[str], has_extension: bool) -> str:
    """Return the text of the consent dialog.

    Args:
        missing: Requirements that are always needed.
        extra: Requirements of SAM 2.
        has_extension: Whether the extension PyTorch is installed.
    """
    texts, total = _items([*missing, *extra])
    parts = [_("Proxy Prompt Segment needs Python packages that this Slicer does not have:")]
    torch = any(normal(requirement_of(line).name) in ("torch", "torchvision") for line in missing)
    if torch and has_extension:
        texts.insert(
            0,
            _(
                "• PyTorch (torch, torchvision): runs the networks; about 200 MB, with an NVIDIA card up to 4 GB, "
                "from PyTorch's server, chosen by the extension PyTorch for this computer"
            ),
        )
    elif torch:
        texts.insert(
            0,
            _("• PyTorch (torch): runs the networks, without a graphics card; about 200 MB, from PyTorch's server"),
        )
    parts.append("\n".join(texts))
    if total:
        parts.append(
            _("The packages other than PyTorch are about {total} MB from the Python Package Index.").format(total=total)
        )
    parts.append(
        _(
            "They are installed into this Slicer's Python, where other modules can use them too. The module's two "
            "small models are included. None of your data is sent anywhere."
        )
    )
    parts.append(_("Install them now?"))
    return "\n\n".join(parts)


def extension_help() -> str:
    """Return how to get the extension PyTorch."""
    return _(
        "Install the extension PyTorch in the Extensions Manager (menu View) and restart Slicer: it chooses the right "
        "PyTorch for your graphics card."
    )


def no_extension() -> str:
    """Return the advice for a Slicer without the extension PyTorch."""
    return _(
        "The extension PyTorch is not installed, so PyTorch would run on the processor only. It is better to "
        "cancel. {help}"
    ).format(help=extension_help())


def last_line(error: BaseException, lines: Sequence[str]) -> str:
    """Return the line that most likely names the cause: pip's last error line, else the last line of the exception."""
    said = [line for line in lines if line.lower().startswith(("error", "fatal"))]
    if said:
        return said[-1].partition(":")[2].strip() or said[-1]
    text = str(error).strip().splitlines()
    return text[-1] if text else type(error).__name__


def failure(error: BaseException, lines: Sequence[str]) -> str:
    """Return a sentence about a failed step, with the underlying error and what to do.

    Args:
        error: The exception.
        lines: The output that was printed before.
    """
    said, low = last_line(error, lines), "\n".join([*lines[-40:], str(error)]).lower()
    if any(word in low for word in _DISK):
        advice = _("Free some disk space and press Install again.")
    elif any(word in low for word in _FOLDER):
        advice = _(
            "Slicer's folder is not writable: restart Slicer if its files are in use, install Slicer in a folder of "
            "your own, or ask the administrator of this computer."
        )
    elif any(word in low for word in _NETWORK):
        advice = _(
            "The server cannot be reached. Behind a proxy, set HTTPS_PROXY (and PIP_CERT, if the proxy has a "
            "certificate of its own) before starting Slicer. {offline}"
        ).format(offline=offline_help())
    elif any(word in low for word in _NOT_FOUND):
        advice = _(
            "No version is compatible with the packages that are already installed, perhaps by another extension, or "
            "the package index cannot be reached. Try a fresh installation of Slicer. {offline}"
        ).format(offline=offline_help())
    else:
        advice = _("Restart Slicer and press Install again; if that does not help, send the application's log.")
    start = _("The packages could not be installed: {said}.").format(said=said.rstrip("."))
    return f"{start} {advice}"


def offline_help() -> str:
    """Return how to install without a network."""
    return _(
        "Without a network: on a computer that has one, with the same system and the same Slicer, run "
        "`PythonSlicer -m pip download -d wheels torch -r {requirements}`, copy the folder "
        "wheels here, and type in the Python console: `from ProxyPromptSegmentModule.install.installer import "
        "Requirements; print(Requirements().install_from('wheels').text)`."
    ).format(requirements=f'"{REQUIREMENTS}"')


def sam2_failed(reason: str) -> str:
    """Return what it means that SAM 2 could not be installed."""
    text = _("Everything except SAM 2 is installed: its models are not available, all others can be used.")
    return f"{text} {reason}".strip()
