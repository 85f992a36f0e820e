"""The arguments of the page's calls: what a request may give, checked before Gradio sees it and where the call is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

_KINDS: dict[Any, str] = {str: "a text", list[str]: "a list of texts", bool: "true or false"}


class ArgumentError(Exception):
    """A request whose arguments are refused, in one line. What was sent is not in it."""


class Call:
    """One endpoint. Calling it checks the arguments first, whoever calls.

    Args:
        name: Of the endpoint.
        function: What it runs. Its parameters are texts, lists of texts, and flags.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name, self.function = name, function
        self.signature = inspect.signature(function, eval_str=True)

    def __call__(self, *given: Any) -> Any:
        """Run it.

        Raises:
            ArgumentError: The arguments are others than those that it names.
        """
        return self.function(*self.checked(list(given)))

    def checked(self, given: Any) -> list[Any]:
        """Return the arguments of a call, those that may be left out too.

        Args:
            given: What a request has as `data`.

        Raises:
            ArgumentError: The arguments are others. An object, for example, could name a file, here or elsewhere, for Gradio to
                fetch.
        """
        parameters = self.signature.parameters.values()
        words = ", ".join(f"{one.name} ({_KINDS[one.annotation]})" for one in parameters)
        expected, remedy = f"{self.name}: expected the arguments {words}", "docs/app.md describes them"
        if not isinstance(given, list):
            raise ArgumentError(f"{expected}, got no list of them in data; {remedy}")
        try:
            bound = self.signature.bind(*given)
        except TypeError:
            raise ArgumentError(f"{expected}, got {len(given)}; {remedy}") from None
        bound.apply_defaults()
        for one in parameters:
            if not _is_of(bound.arguments[one.name], one.annotation):
                raise ArgumentError(f"{expected}, got another value for {one.name}; {remedy}")
        return list(bound.arguments.values())


def _is_of(value: Any, kind: Any) -> bool:
    if kind == list[str]:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    return isinstance(value, kind)
