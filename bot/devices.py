"""What people run a variant on: kinds of device, read as data from `devices.toml`, and amounts of memory."""

from __future__ import annotations

import re
import tomllib
from functools import lru_cache
from importlib.resources import files

from pydantic import Field, ValidationError

from bot.errors import PhimillError, UsageError
from bot.models import Frozen

# As on the Hub: 1 GB is a billion bytes.
_UNITS = {"m": 1000**2, "mi": 1024**2, "g": 1000**3, "gi": 1024**3, "t": 1000**4, "ti": 1024**4}
_MEMORY = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)\s*([mgt]i?)b?", re.IGNORECASE)


class Device(Frozen):
    """One kind of device: the memory that a usual one has, and the share of it that a model cannot have."""

    id: str
    title: str
    memory_gb: float = Field(gt=0)
    reserved: float = Field(ge=0, lt=1)

    @property
    def memory(self) -> int:
        """Bytes that a usual one has."""
        return int(self.memory_gb * 1e9)

    def usable(self, memory: int) -> int:
        """The bytes that a model may have where the device has `memory`."""
        return int(memory * (1 - self.reserved))

    def holding(self, needed: int) -> int:
        """The memory that a device must have for `needed` bytes of it to be usable."""
        return int(needed / (1 - self.reserved))


@lru_cache(maxsize=1)
def devices() -> dict[str, Device]:
    """Every kind of device by its id, in the order of the file.

    Raises:
        PhimillError: the data file is wrong.
    """
    file = files("bot") / "devices.toml"
    try:
        listed = [Device.model_validate(table) for table in tomllib.loads(file.read_text(encoding="utf-8"))["device"]]
    except (OSError, KeyError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise PhimillError(f"{file} cannot be read: {error}.") from error
    return {device.id: device for device in listed}


def device(name: str) -> Device:
    """The kind of device of this id.

    Raises:
        UsageError: there is none; says which there are.
    """
    known = devices()
    if name not in known:
        raise UsageError(f"There is no device {name!r}.", f"There are {', '.join(known)}.")
    return known[name]


def parse_memory(text: str) -> int:
    """Bytes from `8GB` (a billion each), `8 GiB` or `512MB`.

    Raises:
        UsageError: anything else.
    """
    match = _MEMORY.fullmatch(text.strip())
    size = int(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if not size:
        raise UsageError(f"{text!r} is no amount of memory.", "Write it as 8GB, 8 GiB or 512MB.")
    return size
