"""The words of the first run: what somebody agrees to, and what to do when it fails."""

from __future__ import annotations

from collections.abc import Sequence

from ProxyPromptSegmentModule.install.packages import REQUIREMENTS, normal, requirement_of
from ProxyPromptSegmentModule.translation import _

# Megabytes to download on Linux with Python 3.12, with what each brings along, as pip says them; else 1.
MEGABYTES = {
    "networkx": 2, "pillow": 7, "sympy": 7,
    "einops": 1, "filelock": 1, "hydra-core": 1, "iopath": 1, "numpy": 17, "peft": 27, "platformdirs": 1, "pynrrd": 1,
    "safetensors": 1, "sam2": 1, "scipy": 36, "segment-anything": 1, "simpleitk": 53, "slicerio": 1,
}  # fmt: skip
# What pip, or Python, says when something goes wrong; the first that fits decides.
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
    """What each package is for."""
    return {
        "einops": _("used by the networks"),
        "filelock": _("lets two programs share downloaded models"),
        "hydra-core": _("used by SAM 2"),
        "iopath": _("used by SAM 2"),
        "numpy": _("numbers"),
        "peft": _("adapts SAM to medical images"),
        "platformdirs": _("finds the folder of downloaded models"),
        "pynrrd": _("reads and writes segmentations"),
        "safetensors": _("reads models"),
        "sam2": _("the networks of SAM 2, optional"),
        "scipy": _("cleans up masks"),
        "segment-anything": _("the networks of SAM"),
        "simpleitk": _("reads and writes images"),
        "slicerio": _("reads and writes segmentations"),
    }


def _items(lines: Sequence[str]) -> tuple[list[str], int]:
    """A line of text for each package that is used here and one for all others, and their megabytes."""
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
    """What is to be agreed to.

    Args:
        missing: Requirements that nothing works without.
        extra: Those of SAM 2.
        has_extension: Whether PyTorch comes through its extension.
    """
    texts, total = _items([*missing, *extra])
    parts = [_("Proxy Prompt Segment needs Python packages that this Slicer does not have:")]
    torch = any(normal(requirement_of(line).name) in ("torch", "torchvision") for line in missing)
    if torch and has_extension:
        texts.insert(
            0,
            _(
                "• PyTorch (torch, torchvision): computes the networks; about 200 MB, with an NVIDIA card up to 4 GB, "
                "from PyTorch's server, chosen by the extension PyTorch for this computer"
            ),
        )
    elif torch:
        texts.insert(
            0,
            _(
                "• PyTorch (torch, torchvision): computes the networks, without graphics card; about 200 MB, from "
                "PyTorch's server"
            ),
        )
    parts.append("\n".join(texts))
    if total:
        parts.append(_("All but PyTorch are about {total} MB from the Python Package Index.").format(total=total))
    parts.append(
        _(
            "They are installed into this Slicer's Python, where other modules can use them too. The two small models "
            "of the module come with it. Nothing of your data is sent anywhere."
        )
    )
    parts.append(_("Install them now?"))
    return "\n\n".join(parts)


def extension_help() -> str:
    """How to get the extension PyTorch."""
    return _(
        "Install the extension PyTorch in the Extensions Manager (menu View) and restart Slicer: it chooses the right "
        "PyTorch for your graphics card."
    )


def no_extension() -> str:
    """What is offered where the extension PyTorch is missing."""
    return _(
        "The extension PyTorch is not installed, so PyTorch would compute on the processor alone. It is better to "
        "cancel. {help}"
    ).format(help=extension_help())


def last_line(error: BaseException, lines: Sequence[str]) -> str:
    """The line that most likely says what is wrong: pip's last ERROR, else the last one, else the error's."""
    said = [line for line in lines if line.lower().startswith(("error", "fatal"))]
    if said:
        return said[-1].partition(":")[2].strip() or said[-1]
    text = str(error).strip().splitlines()
    return text[-1] if text else type(error).__name__


def failure(error: BaseException, lines: Sequence[str]) -> str:
    """A plain sentence for a failed step, with the underlying error and what to do.

    Args:
        error: What was raised.
        lines: What was printed before.
    """
    said, low = last_line(error, lines), "\n".join([*lines[-40:], str(error)]).lower()
    if any(word in low for word in _DISK):
        advice = _("Free some disk space and press Install again.")
    elif any(word in low for word in _FOLDER):
        advice = _(
            "The folder of Slicer may not be written: restart Slicer if its files are in use, install Slicer in a "
            "folder of your own, or ask whoever administers this computer."
        )
    elif any(word in low for word in _NETWORK):
        advice = _(
            "The server cannot be reached. Behind a proxy, set HTTPS_PROXY (and PIP_CERT, if the proxy has a "
            "certificate of its own) before starting Slicer. {offline}"
        ).format(offline=offline_help())
    elif any(word in low for word in _NOT_FOUND):
        advice = _(
            "There is no version that fits to what is installed already, maybe by another extension, or the package "
            "index cannot be reached. Try a fresh Slicer. {offline}"
        ).format(offline=offline_help())
    else:
        advice = _("Restart Slicer and press Install again; if that does not help, send the application's log.")
    start = _("The packages could not be installed: {said}.").format(said=said.rstrip("."))
    return f"{start} {advice}"


def offline_help() -> str:
    """How to install without a network."""
    return _(
        "Without a network: on a computer that has one, with the same system and the same Slicer, run "
        "`PythonSlicer -m pip download -d wheels torch torchvision -r {requirements}`, copy the folder "
        "wheels here, and type in the Python console: `from ProxyPromptSegmentModule.install.installer import "
        "Requirements; print(Requirements().install_from('wheels').text)`."
    ).format(requirements=f'"{REQUIREMENTS}"')


def sam2_failed(reason: str) -> str:
    """What it means that SAM 2 could not be installed."""
    text = _("Everything is installed but SAM 2: its models are shown as not available, all others can be used.")
    return f"{text} {reason}".strip()
