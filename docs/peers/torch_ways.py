"""Ways to run a step of PyTorch, and the fastest of them; for torch_ref.py and torch_kd.py.

  eager           as it is written
  script, freeze  torch.jit
  compile         torch.compile
  graphs          the whole step as one CUDA graph (GPUs only)
  compile-graphs  torch.compile, and the whole step as one CUDA graph (GPUs only)
  best            all of these are tried, and the fastest one is measured
"""
import contextlib
import signal
import time

import torch

WAYS = ["eager", "script", "freeze", "compile", "graphs", "compile-graphs"]


def add_arguments(parser):
    parser.add_argument("--impl", choices=WAYS + ["best"], default="eager", help="; ".join(
        line.strip() for line in __doc__.split("\n\n")[1].splitlines()))
    parser.add_argument("--patience", type=float, default=120,
                        help="seconds that best gives to the preparation of each way")


def waiting(device):
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def captured(run, example):
    """A CUDA graph of `run`: called with tensors of the shapes of `example`, which are copied into
    the graph's own.  What it returns is overwritten by the next call."""
    static = [x.clone() for x in example]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):                         # lazy set-up must not be captured
        for _ in range(3):
            run(*static)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run(*static)

    def replay(*given):
        for own, x in zip(static, given):
            own.copy_(x)
        graph.replay()
        return out

    return replay


@contextlib.contextmanager
def limited(seconds):
    def late(*_):
        raise TimeoutError("not ready after %g s" % seconds)

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def steps_per_second(step, wait, seconds=0.5):
    for _ in range(3):
        step()
    wait()
    n, t0 = 0, time.perf_counter()
    while n < 3 or time.perf_counter() - t0 < seconds:
        step()
        n += 1
    wait()
    return n / (time.perf_counter() - t0)


def chosen(args, build, ways):
    """`build(way)` makes a step and facts about it; -> those of the way that was asked for.

    For `best` the facts say what each way achieved in a short trial, or why it failed."""
    if args.impl != "best":
        step, facts = build(args.impl)
        return step, dict(facts, impl=args.impl)
    wait, tried, best = waiting(args.device), {}, None
    for way in ways:
        if way.endswith("graphs") and args.device != "cuda":
            tried[way] = "needs a GPU"
            continue
        if way == "compile-graphs" and isinstance(tried["compile"], str):
            tried[way] = "could not be compiled"
            continue
        try:
            with limited(args.patience):
                step, facts = build(way)
                tried[way] = rate = steps_per_second(step, wait)
        except Exception as error:                        # this way is out; the others go on
            tried[way] = ("%s: %s" % (type(error).__name__, error)).split("\n")[0][:200]
            continue
        if best is None or rate > best[0]:
            best = rate, step, dict(facts, impl=way)
    if best is None:
        raise SystemExit("no way works: %s" % tried)
    return best[1], dict(best[2], tried=tried)
