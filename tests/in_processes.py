"""The program that each of several processes runs: ``fit`` of the tests of one process."""

import sys
import time

import conftest  # noqa: F401
import jax
import numpy as np

from seqkd_jax import processes, program
from seqkd_jax.parallel import own_rows


def rows_of(batch, rows):
    """Some rows of a batch, as ``data.batches`` gives them."""
    real = np.array(rows) < len(batch.weight)
    batch = jax.tree.map(lambda x: x.take(np.array(rows), 0, mode="clip"), batch)
    return batch.replace(weight=np.where(real, batch.weight, 0).astype(np.float32))


def train():
    folders, devices, epochs, seconds, *hosts = sys.argv[1:]
    jax.config.update("jax_num_cpu_devices", int(devices))
    if hosts == ["found"]:
        processes.start()
    elif hosts:
        processes.start(hosts[0], *map(int, hosts[1:]))
    folder = folders.split(":")[jax.process_index() if ":" in folders else 0]
    import test_fit  # which computes

    def batches(epoch, first):
        for batch in test_fit.batches(epoch, first):
            print("step", flush=True)
            time.sleep(float(seconds))
            yield rows_of(batch, own_rows(len(batch.weight)))

    def validate(params):
        print("validating", flush=True)
        time.sleep(10 * float(seconds))
        return test_fit.improving(params)

    fitted = test_fit.run(folder, batches=batches, validate=validate, epochs=int(epochs))
    print(jax.device_count(), fitted.progress.best_step, test_fit.params_digest(fitted.params))


if __name__ == "__main__":
    program.end(lambda: program.run(train))
