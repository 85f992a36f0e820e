"""The two things that an entrypoint must know about the `timm.create_model` that called it, and that timm does not tell it.

Both are reflection, and docs/adr/0004 says what was weighed against it. The end of `timm.create_model` is, in short:

    model = entrypoint(pretrained=pretrained, **kwargs)     # we are in here; checkpoint_path is not passed on
    model._model_args = dict(..., **kwargs)                 # key= would go into config.json by this
    if checkpoint_path:
        load_checkpoint(model, checkpoint_path)             # plain or encrypted weights: timm does not look
    return model
"""

from __future__ import annotations

import sys
from typing import Any

import timm
from torch import nn

from timm_encmixer.models.model_args import OUR_ARGUMENTS


def checkpoint_path_of_caller() -> str | None:
    """Return the `checkpoint_path` of the `timm.create_model` that is running; None if there is none, or if none is running.

    The call is found on the stack by its code object, and the argument among its local variables.
    """
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code is timm.models.create_model.__code__:
            path: str | None = frame.f_locals.get("checkpoint_path")
            return path
        frame = frame.f_back
    return None


def without_our_arguments(model: nn.Module) -> nn.Module:
    """Make `timm.create_model` record none of `OUR_ARGUMENTS` when it assigns `model._model_args`.

    Until that assignment the model has a subclass of its class, in which `_model_args` is a property. The setter gives the
    model its own class back and stores the arguments that the stock architecture knows. So the caller of `create_model` gets
    a model of exactly timm's class.

    Args:
        model: What an entrypoint is about to return; its class is changed in place.
    """
    own = type(model)

    def set_arguments(self: Any, arguments: dict[str, Any]) -> None:
        self.__class__ = own
        self._model_args = {name: value for name, value in arguments.items() if name not in OUR_ARGUMENTS}

    def get_arguments(self: Any) -> dict[str, Any]:
        return dict(self.__dict__.get("_model_args", {}))

    def reduce(self: Any, protocol: Any) -> Any:  # a copy or pickle of a model that create_model never got
        self.__class__ = own
        return self.__reduce_ex__(protocol)

    watched = {"_model_args": property(get_arguments, set_arguments), "__reduce_ex__": reduce}
    model.__class__ = type(own.__name__, (own,), watched)
    return model
