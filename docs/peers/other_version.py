"""Another checkout of this library as a peer: is this version as fast as that one?

    seqkd bench --against "python CHECKOUT/docs/peers/other_version.py --mode train --model teacher"

What is measured is the version that lies beside the script. Each line on standard input asks for a
turn, whose JSON line is printed, as from the other peers.
"""

import argparse
import json
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Takes turns until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=["train", "kd", "decode"], default="train")
    parser.add_argument("--model", default="student", help="student, teacher or big")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--beam", type=int, default=1)
    given = parser.parse_args()
    sys.path.insert(0, str(CHECKOUT))
    from seqkd_jax import bench, commands
    from seqkd_jax.settings import Timing

    commands.prepare()
    beam = given.beam if given.mode == "decode" else 0
    row = bench.fixed_row(given.mode, given.model, given.batch, beam)
    measured = bench.Measured(row, Timing())
    for _ in sys.stdin:
        measured.turn()
        line = {"mode": given.mode, "model": given.model, "batch": given.batch}
        line |= {"beam": given.beam if beam else None, "value": measured.values[-1]}
        print(json.dumps(line | {"system": f"seqkd_jax of {CHECKOUT.name}"}), flush=True)


if __name__ == "__main__":
    main()
