"""The program's own files are found beside the package, and their absence is said plainly."""

from __future__ import annotations

import pytest

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.remedies import RemedyKind
from ProxyPromptSegmentLib.resources import resource_path


def test_the_registry_of_models_is_found_in_this_checkout():
    assert resource_path("models/registry.json").is_file() and resource_path("splits").is_dir()


def test_a_copy_inside_the_package_wins_over_the_one_beside_it(tmp_path):
    package = tmp_path / "Lib"
    for folder in (tmp_path / "Resources", package / "Resources"):
        folder.mkdir(parents=True)
        (folder / "a.json").write_text("{}")
    assert resource_path("a.json", package) == package / "Resources" / "a.json"
    (package / "Resources" / "a.json").unlink()
    assert resource_path("a.json", package) == tmp_path / "Resources" / "a.json"


@pytest.mark.parametrize("name", ["../secret", "/etc/hosts", "models/../../x"])
def test_a_name_that_leaves_the_folder_is_refused(name):
    with pytest.raises(InputError, match="leaves the folder"):
        resource_path(name)


def test_a_missing_file_is_named_with_what_to_do(tmp_path):
    with pytest.raises(InputError, match=r"Resources/gone.json is missing") as caught:
        resource_path("gone.json", tmp_path)
    assert caught.value.remedy.kind is RemedyKind.REINSTALL_PROGRAM
