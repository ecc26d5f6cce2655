"""YAML for configuration: plain data only, and no key twice.

YAML itself lets the last of two equal keys win in silence; in a configuration that is a mistake.
"""

from typing import Any

import yaml


class _StrictLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> Any:
    """Read one document.

    Raises:
        yaml.YAMLError: not YAML, or a key that stands twice in a mapping.
    """
    return yaml.load(text, _StrictLoader)  # noqa: S506  (a SafeLoader)
