"""Weights that are programs: every form in which PyTorch reads a pickle, with a canary that loading would leave."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

from hostile_repos import CONVERTIBLE, UNSUPPORTED, Made, case, good, trained, without


class _Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return exec, (f"open({str(self.canary)!r}, 'w').close()",)


def bomb(canary: Path) -> bytes:
    """A bare pickle, as torch.load read it up to version 1.5 and still does."""
    return pickle.dumps(_Bomb(canary), protocol=2)


def zipped(canary: Path) -> bytes:
    """The zip archive that torch.save has written since."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", bomb(canary))
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def _only(name: str, data: bytes) -> Made:
    return {**without(good(), "model.safetensors"), name: data}


@case("pickles", UNSUPPORTED, "never loaded")
def a_pickle_as_pytorch_model_bin(canary: Path) -> Made:
    return _only("pytorch_model.bin", bomb(canary))


@case("pickles", UNSUPPORTED, "never loaded")
def a_zipped_pickle_as_pytorch_model_bin(canary: Path) -> Made:
    return _only("pytorch_model.bin", zipped(canary))


@case("pickles", UNSUPPORTED, "never loaded")
def a_pickle_as_pt(canary: Path) -> Made:
    return _only("model.pt", zipped(canary))


@case("pickles", UNSUPPORTED, "never loaded")
def a_pickle_as_ckpt(canary: Path) -> Made:
    return _only("model.ckpt", bomb(canary))


@case("pickles", UNSUPPORTED, "never loaded")
def a_pickle_as_pth(canary: Path) -> Made:
    return _only("consolidated.00.pth", zipped(canary))


@case("pickles", UNSUPPORTED, "no safetensors")
def a_pickle_under_a_name_of_its_own(canary: Path) -> Made:
    return _only("weights.dat", bomb(canary))


@case("pickles", "source_corrupt", "header claims")
def a_pickle_called_safetensors(canary: Path) -> Made:
    return {**good(), "model.safetensors": bomb(canary)}


@case("pickles", "source_corrupt", "header claims")
def a_zip_called_safetensors(canary: Path) -> Made:
    return {**good(), "model.safetensors": zipped(canary)}


@case("pickles", "source_corrupt", "header claims")
def a_pickle_called_safetensors_beside_good_ones(canary: Path) -> Made:
    return {**good(), "optimizer.safetensors": bomb(canary)}


@case("pickles", UNSUPPORTED, "The weights lack")
def good_safetensors_in_a_folder_and_a_pickle_at_the_top(canary: Path) -> Made:
    files = good()
    return {**_only("pytorch_model.bin", bomb(canary)), "original/model.safetensors": files["model.safetensors"]}


@case("pickles", UNSUPPORTED, "never loaded")
def an_index_of_pickles(canary: Path) -> Made:
    index = b'{"metadata": {}, "weight_map": {"model.norm.weight": "pytorch_model-00001-of-00001.bin"}}'
    files = _only("pytorch_model-00001-of-00001.bin", bomb(canary))
    return {**files, "pytorch_model.bin.index.json": index}


@case("pickles", CONVERTIBLE)
def pickles_of_every_kind_beside_good_safetensors(canary: Path) -> Made:
    more = {"pytorch_model.bin": bomb(canary), "model.pt": zipped(canary), "optimizer.pth": zipped(canary),
            "training_args.bin": bomb(canary), "tf_model.h5": bomb(canary), "rng_state.pkl": bomb(canary),
            "scheduler.ckpt": bomb(canary), "original/consolidated.00.pth": zipped(canary)}  # fmt: skip
    return {**trained(), **more}
