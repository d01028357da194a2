"""What a command says about the devices that it computes on, before it begins."""

import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import pytest

from seqkd_jax.__main__ import main
from seqkd_jax.commands.process import missed_accelerator
from seqkd_jax.parallel import describe_devices

CUDA = ["xla_cuda12"]


def devices(platform, kind, count, processes=1, limit=None):
    stats = None if limit is None else {"bytes_limit": limit}
    return [
        SimpleNamespace(
            platform=platform,
            device_kind=kind,
            process_index=i * processes // count,
            memory_stats=lambda: stats,
        )
        for i in range(count)
    ]


def test_devices_are_described_with_their_number_and_memory():
    one = devices("gpu", "NVIDIA H100 80GB HBM3", 1, limit=60 * 2**30)
    assert describe_devices(one, one) == "gpu: 1 x NVIDIA H100 80GB HBM3, 60.0 GiB each"
    pod = devices("tpu", "TPU v5 lite", 8, processes=2, limit=int(15.75 * 2**30))
    assert describe_devices(pod, pod[4:]) == "tpu: 8 x TPU v5 lite, 2 processes, 15.8 GiB each"
    unknown = devices("tpu", "TPU v9", 2)
    assert describe_devices(unknown, unknown) == "tpu: 2 x TPU v9"


def test_devices_of_the_cpu_share_the_memory_of_the_machine():
    here = jax.devices("cpu")
    text = describe_devices(here, here)
    assert text.startswith(f"cpu: {len(here)} x cpu, {os.cpu_count()} cores")
    if hasattr(os, "sysconf"):
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        assert text.endswith(f"{pages / 2**30:.1f} GiB in all")


@pytest.mark.parametrize(
    ("backend", "named", "plugins", "because"),
    [
        ("cpu", "", CUDA, "although xla_cuda12 is installed. Out of luck. docs/accelerators.md"),
        ("cpu", "", ["libtpu", "xla_cuda12"], "although libtpu, xla_cuda12 is installed"),
        ("cpu", "cuda,cpu", [], "although JAX_PLATFORMS=cuda,cpu was set"),
        ("cpu", "", [], ""),  # a machine without an accelerator
        ("cpu", "cpu", CUDA, ""),  # the user wants the CPU
        ("cpu", "cpu,cuda", CUDA, ""),
        ("gpu", "", CUDA, ""),
        ("tpu", "tpu,cpu", ["libtpu"], ""),
    ],
)
def test_an_accelerator_that_is_not_used_is_missed(backend, named, plugins, because):
    said = missed_accelerator(backend, named, plugins, "Out of luck.")
    assert said.startswith("WARNING: JAX computes on the CPU") if because else said == ""
    assert because in said


def test_a_command_says_what_it_computes_on(capsys):
    assert main(["translate", "no-such-model"]) == 2
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert lines[0].startswith(f"seqkd: {jax.default_backend()}: {jax.device_count()} x ")
    assert "no-such-model" in lines[-1] and shown.out == ""


REFUSED_THEN_WARNED = """
import jax
from seqkd_jax.__main__ import main
for platforms in "no-such-platform", "cuda,cpu":
    jax.config.update("jax_platforms", platforms)
    print(main(["translate", "no-such-model"]))
"""


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="there is an accelerator to be found")
def test_a_platform_that_is_not_there_is_refused_and_the_cpu_in_its_place_warned_of():
    run = [sys.executable, "-c", REFUSED_THEN_WARNED]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    refused, _, warning, _ = done.stderr.splitlines()
    assert done.stdout.split() == ["2", "2"] and "JAX_PLATFORMS='no-such-platform'" in refused
    assert warning.startswith("seqkd: WARNING: JAX computes on the CPU, although JAX_PLATFORMS=")
