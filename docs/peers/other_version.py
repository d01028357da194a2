"""Another checkout of this library as a peer: is this version as fast as that one?

    seqkd bench --against "python docs/peers/other_version.py --checkout ../old --model teacher"

Each line on standard input asks for a turn, whose JSON line is printed, as from the other peers.
docs/versions.py compares two checkouts with it.
"""

import argparse
import json
import sys
from pathlib import Path


def main() -> None:
    """Takes turns until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", type=Path, default=Path(__file__).parents[2])
    parser.add_argument("--mode", choices=["train", "kd", "decode"], default="train")
    parser.add_argument("--model", default="student", help="student, teacher or big")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.2, help="of a turn, about")
    given = parser.parse_args()
    checkout = given.checkout.resolve()
    sys.path.insert(0, str(checkout))
    from seqkd_jax import bench
    from seqkd_jax.commands.process import prepare

    prepare()
    beam = given.beam if given.mode == "decode" else 0
    row = given.mode, given.model, given.batch, beam
    if hasattr(bench, "fixed_row"):
        from seqkd_jax.settings import Timing

        measured = bench.Measured(bench.fixed_row(*row), Timing(seconds=given.seconds))
    else:  # the bench of versions up to 70b3527, which was one file
        from seqkd_jax.plan import Timing

        measured = bench._Measured(bench.Row(*row), Timing(seconds=given.seconds))
    measured.on_cpu = False  # products by themselves are not compared
    for _ in sys.stdin:
        measured.turn()
        line = {"mode": given.mode, "model": given.model, "batch": given.batch}
        line |= {"beam": given.beam if beam else None, "value": measured.values[-1]}
        print(json.dumps(line | {"system": f"seqkd_jax of {checkout.name}"}), flush=True)


if __name__ == "__main__":
    main()
