"""Code in a repo: Python that wants to be imported, and chat templates that want more than to write text."""

from __future__ import annotations

import json
from pathlib import Path

from hostile_repos import CONVERTIBLE, UNSUPPORTED, Made, case, good, trained, with_json


def program(canary: Path) -> bytes:
    """A module that leaves a file as soon as it is imported."""
    return f"open({str(canary)!r}, 'w').close()\nclass Phi3ForCausalLM: ...\n".encode()


PROGRAMS = ("modeling_phi3.py", "configuration_phi3.py", "tokenization_phi3.py", "sitecustomize.py", "conftest.py",
            "torch.py", "transformers/__init__.py", "setup.py")  # fmt: skip


def _programs(canary: Path) -> Made:
    return dict.fromkeys(PROGRAMS, program(canary))


@case("code", UNSUPPORTED, "never executed")
def a_class_that_needs_the_repo_s_own_code(canary: Path) -> Made:
    remote = {"AutoModelForCausalLM": "modeling_phi3.Phi4FlashForCausalLM", "AutoConfig": "configuration_phi3.Config"}
    files = good("phi4_flash")
    return {**with_json(files, "config.json", auto_map=remote), **_programs(canary)}


@case("code", UNSUPPORTED, "never executed")
def a_small_phi_with_code_of_its_own(canary: Path) -> Made:
    return {**good("phi3_small"), **_programs(canary)}


@case("code", "refused", "names no class")
def a_class_named_with_a_path(canary: Path) -> Made:
    return {**with_json(good(), "config.json", architectures=["../../modeling_phi3.Phi3ForCausalLM"])}


@case("code", "refused", "not a Phi")
def a_class_of_another_repo(canary: Path) -> Made:
    return {**with_json(good(), "config.json", architectures=["EvilForCausalLM"]), **_programs(canary)}


@case("code", CONVERTIBLE)
def code_beside_a_model_that_needs_none(canary: Path) -> Made:
    """`auto_map` for every auto class, a `model_file` for MLX, and modules whose names something may import."""
    remote = {
        "AutoConfig": "configuration_phi3.Config",
        "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM",
        "AutoTokenizer": ["tokenization_phi3.Tokenizer", None],
    }
    files = with_json(trained(), "config.json", auto_map=remote, model_file="modeling_phi3.py", trust_remote_code=True)
    files = with_json(files, "tokenizer_config.json", auto_map=remote, trust_remote_code=True)
    return {**files, **_programs(canary)}


# --- chat templates -----------------------------------------------------------------------------------------


def _opening(canary: Path) -> str:
    return f"'open({str(canary)!r}, \"w\").close()'"


def escapes(canary: Path) -> dict[str, str]:
    """Known ways out of Jinja, by name. Each would leave the canary."""
    path, globals_ = str(canary), ".__init__.__globals__"
    return {
        "class": "{{ ''.__class__.__mro__[1].__subclasses__() | map(attribute='__init__') | list }}",
        "cycler": f"{{{{ cycler{globals_}.os.system('touch {path}') }}}}",
        "joiner": f"{{{{ joiner{globals_}.os.popen('touch {path}').read() }}}}",
        "lipsum": f"{{{{ lipsum.__globals__['os'].system('touch {path}') }}}}",
        "attr": f"{{{{ (messages|attr('__class__')|attr('__base__')|attr('__subclasses__'))() }}}}{path}",
        "format": "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
        "format_map": "{{ ('{a.__class__.__mro__}' | attr('format_map'))({'a': messages}) }}",
        "import": f"{{% set x = __import__('os').system('touch {path}') %}}",
        "include": "{% include '/etc/passwd' %}",
        "self": f"{{{{ self.__init__.__globals__.__builtins__.exec({_opening(canary)}) }}}}",
        "raise_exception": f"{{{{ raise_exception.__globals__['json'].codecs.open('{path}', 'w') }}}}",
        "append": "{{ messages.append(messages) }}",
        "error": "{{ raise_exception('no') }}",
        "syntax": "{% for %}" + "{{" * 1000,
        "deep": "{{ " + "(" * 3000 + ")" * 3000 + " }}",
    }


def bombs() -> dict[str, str]:
    """Templates that never end, or write without end."""
    return {
        "range": "{% for i in range(10 ** 12) %}x{% endfor %}",
        "loop": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "power": "{{ 9 ** 9 ** 9 }}",
        "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "multiply": "{{ ('x' * 10000000000) | length }}",
    }


@case("templates", UNSUPPORTED, "reaches into Python ('__globals__')")
def a_template_file_that_reaches_for_the_interpreter(canary: Path) -> Made:
    return {**trained(), "chat_template.jinja": escapes(canary)["lipsum"].encode()}


@case("templates", UNSUPPORTED, "reaches into Python ('__globals__')")
def a_template_that_waits_until_nobody_looks(canary: Path) -> Made:
    """It writes plain conversations, and would be passed on to those whose conversations have tools."""
    later = "{% if tools %}" + escapes(canary)["lipsum"] + "{% endif %}{{ messages[0]['content'] }}"
    return {**trained(), "chat_template.jinja": later.encode()}


@case("templates", CONVERTIBLE, seconds=300, build="converter_failed")
def a_template_that_never_ends(canary: Path) -> Made:
    return {**trained(), "chat_template.jinja": bombs()["loop"].encode()}


@case("templates", UNSUPPORTED, "reaches into Python")
def templates_in_a_list(canary: Path) -> Made:
    listed = [{"name": name, "template": text} for name, text in (escapes(canary) | bombs()).items()]
    return with_json(
        good(), "tokenizer_config.json", chat_template=[{"name": "default", "template": "{{ x }}"}, *listed]
    )


@case("templates", "source_corrupt", "larger than")
def a_template_of_many_megabytes(canary: Path) -> Made:
    return with_json(good(), "tokenizer_config.json", chat_template="{{ x }}" * 700_000)


@case("templates", UNSUPPORTED, "longer than")
def a_template_of_a_megabyte(canary: Path) -> Made:
    return with_json(good(), "tokenizer_config.json", chat_template="{{ x }}" * 140_000)


@case("templates", UNSUPPORTED, "larger than")
def a_template_file_of_a_megabyte(canary: Path) -> Made:
    return {**good(), "chat_template.jinja": b"{{ x }}" * 140_000}


@case("templates", UNSUPPORTED, "is not a text")
def templates_that_are_no_text(canary: Path) -> Made:
    return {
        **with_json(good(), "tokenizer_config.json", chat_template={"a": [1, 2, {"b": "{{ x }}"}]}),
        "chat_template.json": json.dumps({"chat_template": escapes(canary)["cycler"]}).encode(),
    }


# Refused one by one; two more are Jinja's to refuse, when they are rendered.
for _name in set(escapes(Path("x"))) - {"append", "error"} | {"power", "range"}:

    def _make(canary: Path, name: str = _name) -> Made:
        return with_json(good(), "tokenizer_config.json", chat_template=(escapes(canary) | bombs())[name])

    _make.__name__ = f"a_template_with_{_name}"
    case("templates", UNSUPPORTED, "Its chat template")(_make)
