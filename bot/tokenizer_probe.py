"""Run by `bot.pretokenizer` in a sandboxed child: tokenize one text with an untrusted tokenizer.json.

stdin: {"tokenizer": path, "text": text}. stdout: one line {"ids": [...], "highest": id}.
"""

from __future__ import annotations

import json
import sys

from tokenizers import Tokenizer


def main() -> None:
    """Answer the one question on stdin."""
    asked = json.load(sys.stdin)
    tokenizer = Tokenizer.from_file(asked["tokenizer"])
    ids = tokenizer.encode(asked["text"]).ids
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    print(json.dumps({"ids": ids, "highest": highest}), flush=True)


if __name__ == "__main__":
    main()
