"""How fast foreign data comes in: webdataset tars → checked records → ArrayRecord shards, by one process.

    pip install -e .[ingest]
    python benchmarks/ingest.py --json=ingest.json

Tars as img2dataset writes them (.jpg, .txt, .json; pictures of 512×384 pixels) are built into a data set by Beam's own
runner in this process, nothing annotated. Keys:

    records_per_second_per_core     records by seconds, Beam's own work included; one process does it all
    read_records_per_second         reading the tars alone
    verified_records_per_second     the same build with every image decoded
    records, jpeg_bytes, cores
"""

import argparse
import io
import json
import os
import pathlib
import statistics
import sys
import tarfile
import tempfile
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from input import WORDS, jpeg, picture  # noqa: E402  (the same pictures)

HERE = ["--runner=FnApiRunner"]


def write_tars(directory: str, tars: int, samples: int) -> list[int]:
    """Returns the sizes of the JPEGs."""
    rng = np.random.default_rng(0)
    pictures = [jpeg(picture(rng, 384, 512)) for _ in range(64)]
    for number in range(tars):
        with tarfile.open(os.path.join(directory, f"{number:05}.tar"), "w") as tar:
            for i in range(samples):
                key = f"{number:05}{i:04}"
                caption = " ".join(rng.choice(WORDS, 10))
                notes = {"caption": caption, "key": key, "status": "success", "width": 512, "height": 384}
                members = [("jpg", pictures[i % 64]), ("txt", caption.encode()), ("json", json.dumps(notes).encode())]
                for suffix, data in members:
                    info = tarfile.TarInfo(f"{key}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return [len(data) for data in pictures]


def measure(tars: int, samples: int, rounds: int) -> dict[str, float]:
    from paligax.data import ingest
    from paligax.data.ingest import pipeline

    rates: dict[str, list[float]] = {"read": [], "build": [], "verified": []}
    with tempfile.TemporaryDirectory() as directory:
        sizes = write_tars(directory, tars, samples)
        reader = ingest.make_reader("webdataset", path=directory)
        for round_number in range(rounds + 1):  # the first warms up
            for name in rates:
                start = time.perf_counter()
                if name == "read":
                    count = sum(1 for unit in reader.units() for _ in reader.read(unit))
                else:
                    to = os.path.join(directory, f"{name}-{round_number}")
                    count = pipeline.build(reader, to, "train", (), HERE, verify=name == "verified")["records"]
                if count != tars * samples:
                    raise SystemExit(f"{name}: {count} records came in, {tars * samples} were written.")
                if round_number:
                    rates[name].append(count / (time.perf_counter() - start))
    return {
        "records_per_second_per_core": round(statistics.median(rates["build"]), 1),
        "read_records_per_second": round(statistics.median(rates["read"]), 1),
        "verified_records_per_second": round(statistics.median(rates["verified"]), 1),
        "records": tars * samples,
        "jpeg_bytes": round(statistics.mean(sizes)),
        "cores": os.cpu_count() or 1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--tars", type=int, default=4)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    figures = measure(arguments.tars, arguments.samples, arguments.rounds)
    for key, value in figures.items():
        print(f"{key:32} {value:,}")
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
