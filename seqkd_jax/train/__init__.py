"""Training: state, optimisers, steps, checkpoints, and the loop. Floor 4."""

from ..base import for_teaching as for_teaching
from .checkpoint import Checkpoints as Checkpoints
from .loop import Fitted as Fitted
from .loop import TrainingDiverged as TrainingDiverged
from .loop import fit as fit
from .on_policy import drawn_at as drawn_at
from .on_policy import greedy as greedy
from .on_policy import sample_targets as sample_targets
from .state import TrainState as TrainState
from .state import clipped_adam as clipped_adam
from .state import decayed_sgd as decayed_sgd
from .state import init_state as init_state
from .state import warm_adam as warm_adam
from .steps import TrainStep as TrainStep
from .steps import make_eval_step as make_eval_step
from .steps import make_train_step as make_train_step
from .stream import batch_loss as batch_loss
