"""Settings that the operator makes for tenants, as YAML in our form.

    - tenant: acme
      only: [novita, deepinfra]     # provider slugs or endpoint tags; without it: all
      ignore: [fireworks]
      zdr: true                     # only endpoints known to retain no data
      deny_data_collection: true
      affiliated_provider: novita   # the tenant belongs to this provider and cannot vote on it

Only `tenant` is required. The file replaces all settings of the tenants it names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import yaml

from assay.engine.errors import BadData
from assay.engine.world.world import TenantSettings
from assay.importers import cells
from assay.importers.cells import InvalidItemError
from assay.importers.documents import Rejections, TenantDocument
from assay.importers.packing import digest, unpacked

_FLAGS = ("zdr", "deny_data_collection")
_KEYS = ("tenant", "only", "ignore", *_FLAGS, "affiliated_provider")
_FILE_LIMIT = 1024 * 1024
_DEEPEST = 8
_STRING = "tag:yaml.org,2002:str"
_BOOL = "tag:yaml.org,2002:bool"

T = TypeVar("T")


class _Loader(yaml.SafeLoader):
    """A safe loader that keeps lines and rejects deep nesting and aliases, which expand hugely."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one node and count its depth."""
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs do not type it
        line = event.start_mark.line + 1
        if self.check_event(yaml.AliasEvent):
            raise BadData(f"line {line}: aliases are not allowed here")
        if self.depth >= _DEEPEST:
            raise BadData(f"line {line}: nested deeper than {_DEEPEST}")
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def read_tenants(data: bytes) -> TenantDocument:
    """Read tenant settings; each tenant is accepted or rejected as a whole."""
    content = unpacked(data, _FILE_LIMIT)
    root = _root(content)
    accepted: dict[str, TenantSettings] = {}
    affiliated: dict[str, str] = {}
    rejected = Rejections()
    for node in root.value:
        with rejected.at(f"line {node.start_mark.line + 1}"):
            fields = _fields(node)
            tenant = cells.TENANT("tenant", _text("tenant", fields["tenant"]))
            settings = TenantSettings(
                tenant=tenant,
                only=_optional(fields, "only", _only, ()),
                ignore=_optional(fields, "ignore", _targets, ()),
                **{name: _optional(fields, name, _flag, default=False) for name in _FLAGS},
            )
            provider = _optional(fields, "affiliated_provider", _provider, "")
            if tenant in accepted:
                raise InvalidItemError("tenant", tenant, "new: it is listed above")
            accepted[tenant] = settings
            if provider:
                affiliated[tenant] = provider
    return TenantDocument(digest(content), tuple(accepted.values()), tuple(rejected), affiliated)


def _root(content: bytes) -> yaml.SequenceNode:
    try:
        text = content.decode("utf-8-sig")
        loader = _Loader(text)
        root = loader.get_single_node()
    except UnicodeDecodeError as error:
        raise BadData("the file is not UTF-8") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BadData(f"line {line}: not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadData(f"not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(root, yaml.SequenceNode):
        raise BadData("line 1: expected a list of tenants")
    return root


def _fields(node: yaml.Node) -> dict[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        raise InvalidItemError("item", _shown(node), "a mapping with the key tenant")
    fields: dict[str, yaml.Node] = {}
    for key, value in node.value:
        if key.value not in _KEYS:
            raise InvalidItemError("key", _shown(key), f"one of {', '.join(_KEYS)}")
        if key.value in fields:
            raise InvalidItemError("key", _shown(key), "given once")
        fields[key.value] = value
    if "tenant" not in fields:
        raise InvalidItemError("tenant", "", cells.TENANT.expected)
    return fields


def _optional(
    fields: Mapping[str, yaml.Node], key: str, reader: Callable[[str, yaml.Node], T], default: T
) -> T:
    return reader(key, fields[key]) if key in fields else default


def _shown(node: yaml.Node) -> str:
    """Return what is there instead, without the parser's own words."""
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def _only(key: str, node: yaml.Node) -> tuple[str, ...]:
    """Read an allow-list; an empty one would allow all, though its author may have meant none."""
    targets = _targets(key, node)
    if not targets:
        raise InvalidItemError(key, "[]", "a list with entries; leave the key out to allow all")
    return targets


def _targets(key: str, node: yaml.Node) -> tuple[str, ...]:
    if not isinstance(node, yaml.SequenceNode):
        raise InvalidItemError(key, _shown(node), "a list")
    return tuple(dict.fromkeys(cells.TAG(key, _text(key, item)) for item in node.value))


def _provider(key: str, node: yaml.Node) -> str:
    return cells.PROVIDER(key, _text(key, node))


def _text(key: str, node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag != _STRING:
        raise InvalidItemError(
            key, _shown(node), "text (quote it if it looks like a number or a boolean)"
        )
    return str(node.value)


def _flag(key: str, node: yaml.Node) -> bool:
    if not isinstance(node, yaml.ScalarNode) or node.tag != _BOOL:
        raise InvalidItemError(key, _shown(node), "true or false")
    return node.value.lower() in ("true", "yes", "on")
