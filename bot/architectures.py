"""The Phi family by the class that `config.json` names. Adding a Phi is adding a row.

A repo is never recognised by its name: `microsoft/Phi-Ground` and `microsoft/Fara-7B` look like family and
are other architectures, and the next one may be called anything.
"""

from __future__ import annotations

from bot.models import Frozen


class Architecture(Frozen):
    """What follows from the class alone.

    `native`: transformers has the class itself, so an `auto_map` in config.json is a courtesy to old
    versions and no code of the repo is needed. `rotary` is the fraction of each head that is rotated when
    config.json does not say.
    """

    native: bool = False
    rotary: float = 1.0
    vision: bool = False
    audio: bool = False
    block_sparse: bool = False


ARCHITECTURES: dict[str, Architecture] = {
    "PhiForCausalLM": Architecture(native=True, rotary=0.5),
    "Phi3ForCausalLM": Architecture(native=True),
    "PhiMoEForCausalLM": Architecture(native=True),
    # The same class, as transformers 5 writes its name.
    "PhimoeForCausalLM": Architecture(native=True),
    "Phi3SmallForCausalLM": Architecture(block_sparse=True),
    "Phi3VForCausalLM": Architecture(vision=True),
    "Phi4MMForCausalLM": Architecture(vision=True, audio=True),
    "Phi4MultimodalForCausalLM": Architecture(native=True, vision=True, audio=True),
    "Phi4FlashForCausalLM": Architecture(),
    "Phi4ForCausalLMV": Architecture(vision=True),
}
