"""When a part of the page asks for what it shows: while somebody sees it.

A tab that is not open and a page in the background ask for nothing, which is most of what an open page would ask.
"""

from __future__ import annotations

# `tabIsOpen` is set when the tab is open that the address names (`address.py`).
_SCRIPT = """
{
  const every = %d;
  let next = 0;
  const clock = setInterval(() => {
    if (!element.isConnected) return clearInterval(clock);
    if (!window.tabIsOpen || document.hidden || !element.checkVisibility()) return next = 0;
    if (performance.now() < next) return;
    next = performance.now() + every;
    trigger('shown', {});
    if (!every) clearInterval(clock);
  }, 100);
}
"""


def when_shown(every: float = 0) -> str:
    """A script for a `gr.HTML`: its event `shown` comes when it is first seen; with `every`, a time in seconds, also
    whenever it is seen again, and as often for as long as it is.
    """
    return _SCRIPT % round(1000 * every)
