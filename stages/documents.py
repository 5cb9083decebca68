"""YAML and JSON that others wrote, as plain values: no tags, no anchors, no endless nesting, finite numbers."""

from __future__ import annotations

import json
import math
from typing import Any

import yaml

LARGEST = 4 << 20
"""Characters of a YAML document."""
DEEPEST = 60
"""Collections within each other."""


class DocumentError(ValueError):
    """A document that is not read. The message is one line."""


class _Plain(yaml.SafeLoader):
    """What PyYAML's safe loader lets through and a person does not write: anchors, which can stand for more than any
    memory holds; a key that occurs twice; numbers without end."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()
            raise yaml.composer.ComposerError(None, None, "anchors are not read; write the value out", event.start_mark)
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.composer.ComposerError(
                None, None, f"more than {DEEPEST} levels of nesting", self.peek_event().start_mark
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_float(self, node: Any) -> float:
        value = super().construct_yaml_float(node)
        if not math.isfinite(value):
            raise yaml.constructor.ConstructorError(None, None, f"{node.value} is no finite number", node.start_mark)
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
