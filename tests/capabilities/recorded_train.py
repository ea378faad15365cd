"""`paligax train` that writes down which rows it was given and what it read for them.

    python -m tests.capabilities.recorded_train FILE train --gin_file=…

FILE gets a line for every batch: {"rows": {global row: sha256 of everything in it}, "read": records so far}.
"""

import hashlib
import json
import sys

import numpy as np


def main(path: str, words: list[str]) -> int:
    from paligax import cli
    from paligax.data import shards
    from paligax.training import partitioning

    to_global, read = partitioning.to_global, shards.Readers.read
    records = [0]

    def counting(self, split, numbers):
        records[0] += len(numbers)
        return read(self, split, numbers)

    def recording(batch, sharding, batch_size):
        rows = partitioning.process_rows(sharding.mesh, batch_size)
        leaves = [np.asarray(leaf) for leaf in vars(batch).values()]
        hashes = [hashlib.sha256(b"".join(leaf[i].tobytes() for leaf in leaves)).hexdigest() for i in range(len(rows))]
        line = {"rows": dict(zip(rows.tolist(), hashes, strict=True)), "read": records[0]}
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")
        return to_global(batch, sharding, batch_size)

    shards.Readers.read = counting
    partitioning.to_global = recording
    return cli.main(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
