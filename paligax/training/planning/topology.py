"""The devices of a TPU slice that isn't there, by the TPU compiler of the ``plan`` extra (libtpu).

v4:8x8x16      1,024 chips, one device each          v5e:16x16, v6e:16x16    256 chips, one device each
v5p:8x8x8        512 chips, one device each          tpu7x:4x4x4              64 chips, two devices each
"""

import contextlib
import dataclasses
import difflib
import importlib.util
import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

MOST_DEVICES = 65_536


@dataclasses.dataclass(frozen=True)
class Kind:
    """A generation of TPUs.

    Attributes:
      dimensions: of the slices' shapes.
      config: libtpu's chip_config_name: "megacore" joins a chip's two cores to one device.
      devices_per_chip: 2 where a chip's halves are devices of their own.
    """

    dimensions: int
    config: str = "default"
    devices_per_chip: int = 1


KINDS = {
    "v4": Kind(3, "megacore"),
    "v5e": Kind(2),
    "v5p": Kind(3, "megacore"),
    "v6e": Kind(2),
    "tpu7x": Kind(3, devices_per_chip=2),
}
_FORM = re.compile(r"([a-z0-9]+):(\d+(?:x\d+)+)")

# Must be in the environment before libtpu is loaded: it asks nobody what machine this is, several processes may use it
# at once, and it keeps its notices to itself.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice's kind and shape in chips, as read from "v4:8x8x16"."""

    kind: str
    shape: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> "Topology":
        """Raises ValueError with the known kinds where ``text`` is no topology."""
        match = _FORM.fullmatch(text)
        kind = match[1] if match else text.partition(":")[0]
        if kind not in KINDS:
            near = difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.3)
            raise ValueError(
                f"Topology {text!r}: the kind {kind!r} is not known"
                + (f" (near: {near[0]!r})" if near else "")
                + f"; known: {', '.join(KINDS)}. Write it like v4:8x8x16 or v5e:16x16."
            )
        shape = tuple(map(int, match[2].split("x"))) if match else ()
        wanted = KINDS[kind].dimensions
        if len(shape) != wanted or min(shape) < 1:
            example = f"{kind}:{'x'.join(['4'] * wanted)}"
            raise ValueError(f"Topology {text!r}: slices of {kind} have {wanted} sides of at least 1, like {example}.")
        if math.prod(shape) * KINDS[kind].devices_per_chip > MOST_DEVICES:
            raise ValueError(f"Topology {text!r} has {math.prod(shape):,} chips; at most {MOST_DEVICES:,} devices.")
        return cls(kind, shape)

    @property
    def wrap(self) -> tuple[bool, bool, bool]:
        """Which axes of the slice are rings: all of 3-D slices from 4×4×4 on; of 2-D ones those of 16 chips."""
        if KINDS[self.kind].dimensions == 3:
            return (min(self.shape) >= 4,) * 3
        return (*(side == 16 for side in self.shape), False)

    def devices(self, slices: int = 1) -> list[Any]:
        """The devices of so many such slices.

        Raises:
          ValueError: where libtpu is missing, or does not know the shape.
        """
        if importlib.util.find_spec("libtpu") is None:
            raise ValueError(
                "Planning for TPUs needs their compiler, which runs anywhere: pip install 'paligax[plan]' (libtpu). "
                "Without --topology the local devices are planned for."
            )
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from jax.experimental import topologies

        kind = KINDS[self.kind]
        bounds = tuple(math.gcd(side, most) for side, most in zip((*self.shape, 1), (2, 2, 1), strict=False))
        options: dict[str, Any] = {"chips_per_host_bounds": bounds, "wrap": self.wrap}
        if slices > 1:
            options["num_slices"] = slices
        name = f"{self.kind}:{'x'.join(map(str, self.shape))}"
        try:
            with quiet():
                found = topologies.get_topology_desc(
                    platform="tpu", topology_name=name, chip_config_name=kind.config, **options
                )
        except Exception as error:  # whatever the compiler makes of a shape that it does not know
            raise ValueError(f"The TPU compiler refuses the topology {name!r}: {error}") from error
        return list(found.devices)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps what native code writes to standard error off the screen: libtpu warns of host names that mean nothing."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
