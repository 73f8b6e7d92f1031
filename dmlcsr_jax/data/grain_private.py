"""What is used of Grain beyond its stable interface.

`grain.experimental` sets from which size on arrays travel in shared memory; `worker_init_fn` and
`close` are how workers start and end; absl's flags are where Grain reads its settings.
"""

from collections.abc import Callable

import grain
from absl import flags


def iterate_in_processes(
    batches: grain.MapDataset,
    *,
    num_workers: int,
    batches_ahead: int,
    min_shared_bytes: int,
    start_worker: Callable[[], None],
) -> grain.DatasetIterator:
    """Returns an iterator over `batches`, which worker processes make ahead of their use.

    Args:
      batches: what to iterate over, picklable.
      num_workers: number of processes, 1 or more.
      batches_ahead: how many each of them makes ahead.
      min_shared_bytes: arrays of this size and larger come back in shared memory.
      start_worker: called first in each process.
    """
    # A script without absl never parses its flags.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    # Decoding and warping run without Python's lock; a worker is meant for one core.
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=batches_ahead)
    dataset = grain.experimental.WithOptionsIterDataset(
        batches.to_iter_dataset(options),
        grain.experimental.DatasetOptions(min_shm_size=min_shared_bytes),
    ).mp_prefetch(
        grain.MultiprocessingOptions(num_workers=num_workers, per_worker_buffer_size=batches_ahead),
        worker_init_fn=lambda worker_index, worker_count: start_worker(),
    )
    return iter(dataset)
