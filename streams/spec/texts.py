"""Texts as an input: a fixed number of tokens, each an index for an embedding."""

from __future__ import annotations

import hashlib
import re
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from streams.errors import PipelineError
from streams.spec.declared import check_fields
from streams.spec.fields import require_category
from streams.spec.inputs import Read, Values, check_name
from streams.spec.layout import Tensor

_WORD = re.compile(r"\w+|[^\w\s]")
_REMEMBERED = 200_000
"""Words whose index is kept, so that it is found once."""
_PER_TOKEN = 64
"""Characters of a text that are looked at, for each token that is asked for."""


@dataclass(frozen=True)
class Text:
    """The first tokens of a text: the network gets int64 [n, tokens], with 0 after the last.

    Without a tokenizer tokens are words and signs in lower case, hashed to 1 up to
    `vocabulary` - 1. With one, they are its own ids.
    """

    name: str
    """Of the network's argument."""
    field: str
    """A field of the event's schema: a text."""
    tokens: int = 64
    """How many tokens the network sees."""
    vocabulary: int = 65_536
    """Rows that the network's embedding has to have, at least."""
    tokenizer: Path | None = None
    """A `tokenizer.json` of Hugging Face's tokenizers."""

    def __post_init__(self) -> None:
        if isinstance(self.tokenizer, str):
            object.__setattr__(self, "tokenizer", Path(self.tokenizer))

    @property
    def tensor(self) -> Tensor:
        """Indices."""
        return Tensor(self.name, "<i4", (self.tokens,), "indices", self.vocabulary)

    @cached_property
    def meaning(self) -> list[Any]:
        """Its field, its vocabulary, and its tokenizer's digest."""
        file = self.tokenizer.read_bytes() if self.tokenizer else b""
        digest = hashlib.sha256(file).hexdigest() if self.tokenizer else "words"
        return ["text", self.field, self.vocabulary, digest]

    def validate(self, schema: type[BaseModel]) -> None:
        """Raise a `PipelineError` where the declaration does not fit the event's schema."""
        where = f"inputs.{self.name}"
        check_fields(self, where)
        check_name(self.name, "inputs.name")
        require_category(schema, self.field, f"{where}.field")
        if self.tokens < 1:
            raise PipelineError(f"{where}.tokens", f"{self.tokens} is too few", "use 1 or more")
        if self.vocabulary < 2:
            raise PipelineError(
                f"{where}.vocabulary", f"{self.vocabulary} is too small", "use 2 or more"
            )
        if self.tokenizer is not None and (size := self._loaded.get_vocab_size()) > self.vocabulary:
            raise PipelineError(
                f"{where}.vocabulary", f"is less than the tokenizer's {size:,}", f"use {size}"
            )

    def read(self, values: Values) -> Read:
        """The tokens of each text, [n, tokens]."""
        found = np.zeros((len(values), self.tokens), np.int32)
        most = self.tokens * _PER_TOKEN
        texts = [str(value)[:most] for value in values]
        if self.tokenizer is not None:
            for row, encoded in zip(found, self._loaded.encode_batch(texts), strict=True):
                ids = encoded.ids[: self.tokens]
                row[: len(ids)] = ids
            return found, {}
        known = self._known
        for row, text in zip(found, texts, strict=True):
            words = _WORD.findall(text.lower())[: self.tokens]
            row[: len(words)] = [known.get(word) or self._index(word) for word in words]
        return found, {}

    def sample(self, random: np.random.Generator) -> Any:
        """Some words."""
        return " ".join(random.choice(["please", "buy", "now", "hello", "your", "order"], 8))

    def _index(self, word: str) -> int:
        found = 1 + zlib.crc32(word.encode(errors="replace")) % (self.vocabulary - 1)
        if len(self._known) < _REMEMBERED:
            self._known[word] = found
        return found

    @cached_property
    def _known(self) -> dict[str, int]:
        return {}

    @cached_property
    def _loaded(self) -> Any:
        """The tokenizer. Raises `PipelineError`."""
        where = f"inputs.{self.name}.tokenizer"
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise PipelineError(
                where, "needs tokenizers", "pip install 'driftloop[inputs]'"
            ) from None
        try:
            loaded = Tokenizer.from_file(str(self.tokenizer))
        except Exception as error:  # the library's own have no common root
            raise PipelineError(
                where, f"{self.tokenizer} cannot be read ({error})", "give a tokenizer.json"
            ) from None
        loaded.no_padding()
        loaded.enable_truncation(self.tokens)
        return loaded
