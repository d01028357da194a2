"""A model whose parameters are made of others: of codebooks, of factors."""

from collections.abc import Callable
from typing import Any

from ..base import Array, Params, Seq2Seq


def reparametrised(
    model: Seq2Seq, to_params: Callable[[Params], Params], init: Callable[[Array], Params]
) -> Seq2Seq:
    """Returns ``model`` as a function of other parameters, so that training learns those.

    To decode, hand ``to_params(others)`` to ``model`` itself: they are then made only once.

    Args:
      model: whose parameters are made.
      to_params: other parameters -> the model's; differentiable.
      init: (key) -> other parameters to start from.
    """

    def over(function: Callable) -> Callable:
        def run(params: Params, *rest: Any, **named: Any) -> Any:
            return function(to_params(params), *rest, **named)

        return run

    return Seq2Seq(
        init, over(model.encode), over(model.step), over(model.hidden), over(model.project)
    )
