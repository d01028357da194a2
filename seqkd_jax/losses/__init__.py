"""Losses of one token, and combinators of losses. Floor 2.

A ``TokenLoss`` is a pure function of one token's logits [V], its target id, and the teacher's
output at the same position: logits [V], a ``TopK``, or None without a teacher. It returns nats.
Padding, sentences, batches and devices are handled in one place, ``train.stream``.

    mix(nll, word_kd, alpha=0.5)                                     the paper's loss
    mix(smoothed_nll(0.1), with_temperature(word_kd, 2.0), 0.7)
    weighted((1.0, nll), (optax.linear_schedule(0, 1, 1000), word_kd), (0.1, l2_logits))

Losses in ``likelihood`` compare the model with the data, losses in ``teacher`` with a teacher's
distribution.
"""

from .combine import Loss as Loss
from .combine import Scheduled as Scheduled
from .combine import Weight as Weight
from .combine import at as at
from .combine import mix as mix
from .combine import weighted as weighted
from .combine import with_temperature as with_temperature
from .likelihood import nll as nll
from .likelihood import smoothed_nll as smoothed_nll
from .teacher import jensen_shannon as jensen_shannon
from .teacher import l2_logits as l2_logits
from .teacher import reverse_kl as reverse_kl
from .teacher import skew_kl as skew_kl
from .teacher import skew_reverse_kl as skew_reverse_kl
from .teacher import total_variation as total_variation
from .teacher import word_kd as word_kd
from .teacher import word_kl as word_kl
