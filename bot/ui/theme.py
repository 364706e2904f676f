"""How the page looks: its own colours in light and dark (colours.css), the system's fonts, and the reading direction.

The page calls nowhere: no font and no script comes from another host.
"""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr

from bot.ui.language import ENGLISH, LANGUAGES, RIGHT_TO_LEFT

HERE = Path(__file__).parent
CSS = [HERE / name for name in ("page.css", "releases.css", "compare.css")]
COLOURS = HERE / "colours.css"
ICON = HERE / "icon.svg"
SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "Menlo", "Consolas", "monospace")

# Which of Gradio's own variables stand for which of our colours. Ours are one name for light and dark.
_PAINTED = {
    "paper": "body_background_fill background_fill_primary",
    "card": "block_background_fill panel_background_fill input_background_fill input_background_fill_focus "
    "input_background_fill_hover checkbox_background_color checkbox_label_background_fill",
    "sunk": "background_fill_secondary button_secondary_background_fill checkbox_label_background_fill_hover "
    "checkbox_label_background_fill_selected",
    "line": "border_color_primary block_border_color input_border_color panel_border_color "
    "button_secondary_border_color checkbox_label_border_color",
    "edge": "checkbox_border_color button_secondary_border_color_hover input_border_color_hover",
    "ink": "body_text_color block_title_text_color button_secondary_text_color button_secondary_text_color_hover "
    "checkbox_label_text_color checkbox_label_text_color_selected accordion_text_color table_text_color",
    "quiet": "body_text_color_subdued block_info_text_color block_label_text_color input_placeholder_color",
    "accent": "color_accent border_color_accent button_primary_background_fill button_primary_border_color "
    "checkbox_background_color_selected checkbox_border_color_selected slider_color loader_color link_text_color "
    "link_text_color_active link_text_color_visited input_border_color_focus checkbox_border_color_focus",
    "accent-strong": "button_primary_background_fill_hover link_text_color_hover button_primary_border_color_hover",
    "on-accent": "button_primary_text_color button_primary_text_color_hover",
    "hover": "button_secondary_background_fill_hover color_accent_soft",
    "bad-ink": "error_text_color error_icon_color error_border_color",
    "bad-fill": "error_background_fill",
}


def theme() -> gr.themes.Base:
    """Gradio's plainest theme in our colours and the system's fonts."""
    made = gr.themes.Base(font=SANS, font_mono=MONO, radius_size=gr.themes.sizes.radius_md)
    painted = {name: f"var(--{colour})" for colour, names in _PAINTED.items() for name in names.split()}
    known = vars(made)
    dark = {f"{name}_dark": value for name, value in painted.items() if f"{name}_dark" in known}
    return made.set(
        **painted,
        **dark,
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_border_width="1px",
        block_title_text_weight="600",
        button_primary_shadow="none",
        input_border_width="1px",
        input_border_width_dark="1px",
        input_shadow_focus="none",
        input_shadow_focus_dark="none",
    )


def head() -> str:
    """What stands in the page's head: the colours before anything is drawn, and the direction of its language."""
    script = _READING % (json.dumps(LANGUAGES), json.dumps(ENGLISH), json.dumps(sorted(RIGHT_TO_LEFT)))
    return f"<style>{COLOURS.read_text('utf-8')}</style><script>{script}</script>"


# `lang` and `dir` follow the browser, as Gradio's labels do. Going back opens what the address says then.
_READING = """
(() => {
  const known = %s, asked = navigator.languages.map(tag => tag.split('-')[0].toLowerCase());
  const spoken = asked.find(code => known.includes(code)) || %s;
  document.documentElement.lang = spoken;
  document.documentElement.dir = %s.includes(spoken) ? 'rtl' : 'ltr';
  addEventListener('popstate', () => location.reload());
})();
"""
