"""Models whose parameters are computed from other parameters, such as codebooks or factors."""

from collections.abc import Callable
from typing import Any

from ..base import Array, Params, Seq2Seq


def reparametrised(
    model: Seq2Seq, to_params: Callable[[Params], Params], init: Callable[[Array], Params]
) -> Seq2Seq:
    """Returns ``model`` as a function of other parameters, which are trained instead of its own.

    To decode, call ``model`` itself with ``to_params(params)``, which is then computed only once.

    Args:
      model: any model.
      to_params: (trained parameters) -> parameters of ``model``; differentiable.
      init: (key) -> initial trained parameters.
    """

    def over(function: Callable) -> Callable:
        def run(params: Params, *rest: Any, **named: Any) -> Any:
            return function(to_params(params), *rest, **named)

        return run

    return Seq2Seq(
        init, over(model.encode), over(model.step), over(model.hidden), over(model.project)
    )
