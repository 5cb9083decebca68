"""YAML and JSON that others wrote, as plain values. YAML without tags, endless anchors or nesting, keys that occur
twice and numbers that are not finite; JSON as Python reads it, so that numbers have to be looked at."""

from __future__ import annotations

import json
import math
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

LARGEST = 4 << 20
"""Characters of a YAML document."""
DEEPEST = 60
"""Collections within each other."""
MOST = 200_000
"""Values, those that anchors stand for counted wherever they do."""


class DocumentError(ValueError):
    """A document that is not read. The message is one line."""


class _Plain(yaml.SafeLoader):
    """PyYAML's safe loader without what it lets through and no person writes: anchors that stand for more than any
    memory holds, or for themselves; a key that occurs twice; numbers without end."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = self._values = 0
        self._values_of: dict[str, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        before = self._values
        self._depth += 1
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self._values_of:
                raise self._refused("an anchor within itself")
            self._values += self._values_of.get(event.anchor, 0)
        else:
            self._values += 1
        if self._values > MOST:
            raise self._refused(f"more than {MOST} values")
        if self._depth > DEEPEST:
            raise self._refused(f"more than {DEEPEST} levels of nesting")
        node = super().compose_node(parent, index)
        if event.anchor and not isinstance(event, yaml.AliasEvent):
            self._values_of[event.anchor] = self._values - before
        self._depth -= 1
        return node

    def _refused(self, why: str) -> yaml.MarkedYAMLError:
        return ComposerError(None, None, why, self.peek_event().start_mark)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise ConstructorError(None, None, f"the key {key.value!r} twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_float(self, node: Any) -> float:
        value = super().construct_yaml_float(node)
        if not math.isfinite(value):
            raise ConstructorError(None, None, f"{node.value} is no finite number", node.start_mark)
        return value


_Plain.add_constructor("tag:yaml.org,2002:float", _Plain.construct_yaml_float)


def read_yaml(text: str | bytes) -> Any:
    """Raises DocumentError."""
    try:
        told = text.decode() if isinstance(text, bytes) else text
        if len(told) > LARGEST:
            raise DocumentError(f"{len(told)} characters, at most {LARGEST} are read")
        return yaml.load(told, _Plain)  # a safe loader
    except DocumentError:
        raise
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # of scalars that are no date, of endless digits
        raise DocumentError(" ".join(str(error).split())[:300]) from None


def read_json(text: str | bytes) -> Any:
    """Raises DocumentError."""
    try:
        return json.loads(text)
    except RecursionError:
        raise DocumentError("nested too deep") from None
    except ValueError as error:
        raise DocumentError(" ".join(str(error).split())[:300]) from None
