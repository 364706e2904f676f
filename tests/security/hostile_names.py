"""Names that climb, that name devices, that are one file on some disks, or that read as another name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hostile_repos import CONVERTIBLE, Made, case, good, trained

# Names that match what is downloaded (`*.safetensors` and others at the top), so that they have to be refused.
REFUSED = {
    "a_drive_letter": "C:model.safetensors",
    "an_absolute_windows_path": "C:\\model.safetensors",
    "a_unc_path": "\\\\server\\share\\model.safetensors",
    "a_path_that_climbs_with_backslashes": "..\\..\\model.safetensors",
    "a_name_with_a_nul": "model\x00.safetensors",
    "a_name_with_a_line_break": "model\n.safetensors",
    "a_name_with_an_escape_sequence": "\x1b[2J\x1b[31mmodel.safetensors",
    "a_name_that_reads_backwards": "model\u202ejson.safetensors",
    "a_name_with_an_invisible_character": "model\u200b.safetensors",
    "a_name_in_look_alike_letters": "m\u043edel.safetensors",
    "a_name_that_is_not_normalised": "mode\u0301l.safetensors",
    "a_device": "con.safetensors",
    "another_device": "LPT1.safetensors",
    "a_stream_of_a_file": "config.json:evil.safetensors",
    "a_name_that_is_too_long": "m" * 300 + ".safetensors",
    "a_template_named_as_an_option": "~$(touch x).jinja",
}


def _extra(name: str) -> Callable[[Path], Made]:
    def make(canary: Path) -> Made:
        return {**good(), name: good()["model.safetensors"]}

    return make


for _case, _name in REFUSED.items():
    _make = _extra(_name)
    _make.__name__ = _case
    case("names", "source_corrupt", "file named")(_make)


@case("names", "source_corrupt", "holds both")
def two_names_that_differ_in_case(canary: Path) -> Made:
    return {**good(), "Model.safetensors": good()["model.safetensors"]}


@case("names", CONVERTIBLE)
def names_that_leave_the_repo_beside_a_good_model(canary: Path) -> Made:
    """None of them is a name that is downloaded; the listing holds them all the same."""
    names = ["../evil.safetensors", "/etc/evil.safetensors", "a/../../evil.safetensors", "./config.json",
             "a//evil.json", "..", "~/.ssh/authorized_keys", "%2e%2e/evil.safetensors", "..%2fevil.json",
             "\u202egnp.exe", "<img src=x onerror=alert(1)>.png", "-rf", "nul", "a\\b/c.json",
             ".git/hooks/post-checkout", "sub/config.json", "x\x1b]0;title\x07.txt"]  # fmt: skip
    return {**trained(), **dict.fromkeys(names, b"evil"), str(canary): b"evil", f"../..{canary}": b"evil"}
