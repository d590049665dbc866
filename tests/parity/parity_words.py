"""What a case says of its constructor, as settings that an adapter must take: none is passed over in silence."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from parity_case import Case

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_VALUE = rf"\[[^\]]*\]|\([^()]*\)|'[^']*'|\"[^\"]*\"|{NUMBER}(?![\w.])|\w+"
_SWITCHES = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False, "none": None}


class Said:
    """Settings of a case: the mapping of its constructor, or every ``name=value`` and known ``name value`` of its words.

    Parameters
    ----------
    case : Case
    aliases : mapping of str to str
        Names that cases use, and ours.
    prose : collection of str
        Names (as cases use them) that are also understood without ``=``, as in "mask_ratio 0.9" or "norm_pix: True".
    """

    def __init__(self, case: Case, aliases: Mapping[str, str] | None = None, prose: Collection[str] = ()) -> None:
        self.case, self.aliases = case, dict(aliases or {})
        made = case.constructor
        self.text = made if isinstance(made, str) else ", ".join(f"{k}={v!r}" for k, v in made.items())
        self.notes = str(case.meta.get("notes", ""))
        found: dict[str, Any] = {}
        if isinstance(made, Mapping):
            found = {str(k): v for k, v in made.items()}
        else:
            for name, value in re.findall(rf"(?<![\w.])(\w+)\s*=(?!=)\s*({_VALUE})", made):
                found.setdefault(name, _value(value))
        for text in (self.text, self.notes):  # the constructor before the notes
            for name in prose:
                loose = name.replace("_", "[_ -]?")
                said = re.search(
                    rf"(?<![\w.])(?<!no )(?<!without ){loose}\b\s*[=:]?\s*({NUMBER}(?![\w.])|\w+)", text, re.I
                )
                if said and (value := _value(said[1])) is not None and not isinstance(value, str):
                    found.setdefault(name, value)
        self.found: dict[str, Any] = {}
        for name, value in found.items():
            self.found.setdefault(self.aliases.get(name, name), value)
        self.taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return self.found.get(name) is not None

    def take(self, name: str, default: Any = None) -> Any:
        """A setting by our name, or the default where the case does not say."""
        self.taken.add(name)
        value = self.found.get(name)
        return default if value is None else value

    def agree(self, name: str, value: Any) -> Any:
        """A setting that the shapes of the state tell: what the case says must be the same.

        Raises
        ------
        ValueError
        """
        said = self.take(name, value)
        same = math.isclose(said, value) if _numbers(said, value) else said == value
        if not same:
            raise ValueError(f"the case says {name}={said!r}, the shapes of its state {value!r}")
        return value

    def match(self, pattern: str) -> re.Match[str] | None:
        """First match in the constructor, else in the notes."""
        return re.search(pattern, self.text, re.I) or re.search(pattern, self.notes, re.I)

    def finish(
        self, without_effect: Collection[str] = (), allowed: Mapping[str, Callable[[Any], bool]] | None = None
    ) -> None:
        """Refuse what nobody took.

        Parameters
        ----------
        without_effect : collection of str
            Names that change no number here (names of losses, of wrapped classes).
        allowed : mapping of str to function
            Names that change nothing for the values that the function accepts.

        Raises
        ------
        ValueError
        """
        left = {k: v for k, v in self.found.items() if k not in self.taken and k not in without_effect}
        for name, accepts in (allowed or {}).items():
            if name in left and accepts(left[name]):
                del left[name]
        if left:
            raise ValueError(f"settings of the case that the adapter does not know: {left}")


def _numbers(*values: Any) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _value(text: str) -> Any:
    if text.lower() in _SWITCHES:
        return _SWITCHES[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def nothing(value: Any) -> bool:
    """Whether a rate or a switch is off."""
    return value in (None, False, 0, 0.0, "", "None")


def layers_called(said: Said, name: str) -> dict[str, Any] | None:
    """Arguments of ``'name' = get_intermediate_layers(x, n=.., reshape=.., norm=..)[i]`` in the words of a case."""
    pattern = rf"['\"]?\b{re.escape(name)}\b['\"]?\s*(?:=|:|is|from)\s*\w*\.?get_intermediate_layers\(([^()]*(?:\([^()]*\))?[^()]*)\)(?:\s*\[(-?\d+)\])?"
    called = said.match(pattern)
    if called is None:
        return None
    given = {k: _value(v) for k, v in re.findall(rf"(\w+)\s*=\s*({_VALUE})", called[1])}
    if "n" not in given and (second := re.match(rf"\s*x\s*,\s*({_VALUE})", called[1])):
        given["n"] = _value(second[1])
    given["index"] = int(called[2]) if called[2] else 0
    return given


def blocks(state: Collection[str], prefix: str = "") -> int:
    """Blocks of a transformer, by the keys ``<prefix>blocks.<i>.``."""
    found = [int(n[1]) for key in state if (n := re.match(rf"{re.escape(prefix)}blocks\.(\d+)\.", key))]
    return 1 + max(found, default=-1)
