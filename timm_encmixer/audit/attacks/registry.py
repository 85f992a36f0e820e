"""All attacks by name, in the order of the report. Each file of this folder is one attack, and nothing lists them elsewhere."""

from __future__ import annotations

import importlib

from timm_encmixer.audit.attack import Attack
from timm_encmixer.audit.names import ATTACK_NAMES
from timm_encmixer.errors import AuditError


def _attack_in(name: str) -> type[Attack]:
    """Return the attack of a file: its class whose `name` is the file's.

    Raises:
        AuditError: The file has no such class, or several.
    """
    module = importlib.import_module(f"{__package__}.{name}")
    own = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
    found = [one for one in own if issubclass(one, Attack) and getattr(one, "name", None) == name]
    if len(found) != 1:
        remedy = "an attack has its own file, and the file has the attack's name"
        raise AuditError(f"{module.__file__}", f'one subclass of Attack with name = "{name}"', f"{len(found)}", remedy)
    return found[0]


def _in_order(attack: type[Attack]) -> tuple[float, str]:
    return attack.place, attack.name


ATTACKS: dict[str, type[Attack]] = {attack.name: attack for attack in sorted(map(_attack_in, ATTACK_NAMES), key=_in_order)}
