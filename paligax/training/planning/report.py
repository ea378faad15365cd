"""A plan as a table for people."""

from collections import defaultdict

from paligax.training.planning.planner import GIB, Plan


def table(plan: Plan) -> str:
    """Lines of name and value, then what is sent, then notes."""
    memory, seconds = plan.memory, plan.seconds
    mesh = " × ".join(f"{axis} {size}" for axis, size in plan.mesh.items())
    kinds = ", ".join(f"{part} {plan.parameters[part]:,}" for part in ("vision", "language", "trainable"))
    rows = [
        ("devices", f"{plan.devices:,} × {plan.device_kind}, mesh {mesh}"),
        ("parameters", f"{plan.parameters['total']:,} ({kinds})"),
        (
            "memory a device",
            f"{_gib(memory.peak)} of {_gib(memory.capacity)} "
            f"(arguments {_gib(memory.arguments)}, temporaries {_gib(memory.temporaries)}): "
            + ("fits" if plan.fits else "DOES NOT FIT"),
        ),
        ("model FLOPs a step", f"{plan.model_flops / 1e15:,.4g} PFLOP; with recomputation {_recomputed(plan)}"),
        ("sent a device", _gib(plan.collective_gib)),
    ]
    for name, what in (
        ("compiler", "computing and moving in a device's memory"),
        ("collectives", "sending"),
        ("roofline", "no operation above its peak"),
        ("expected", "all sending hidden"),
        ("worst", "none hidden"),
    ):
        mfu = plan.mfu.get(name)
        share = "" if mfu is None else f"   MFU {mfu:.3f}"
        rows.append((f"seconds: {name}", f"{_number(getattr(seconds, name))}{share}   {what}"))
    if seconds.expected:
        rows.append(("examples a second", f"{plan.batch_size / seconds.expected:,.0f} of batch {plan.batch_size:,}"))
    rows.append(("compiled in", f"{plan.compile_seconds:.0f} s"))
    lines = [f"{name:<22}{value}" for name, value in rows]
    return "\n".join([*lines, *_sent(plan), *(f"note: {note}" for note in plan.notes)])


def _sent(plan: Plan, most: int = 6) -> list[str]:
    """The largest senders, by operation of the model."""
    sums: dict[tuple[str, str], float] = defaultdict(float)
    for one in plan.collectives or ():
        sums[one.kind, _operation(one.source)] += (one.link_bytes + one.network_bytes) / GIB
    largest = sorted(sums.items(), key=lambda item: -item[1])[:most]
    return [f"{'  ' + kind:<22}{gib:8.2f} GiB   {source}" for (kind, source), gib in largest if gib >= 0.005]


def _operation(source: str) -> str:
    """The last words of where an operation comes from: jit(step)/…/encoder/mlp/wi_0/dot_general → encoder/mlp/wi_0."""
    words = [
        word for word in source.split("/") if not word.endswith(")") and word not in ("while", "body", "closed_call")
    ]
    return "/".join(words[-4:-1]) or source


def _recomputed(plan: Plan) -> str:
    return f"{plan.hardware_flops / 1e15:,.4g} PFLOP"


def _gib(value: float | None) -> str:
    return "?" if value is None else f"{value:.2f} GiB"


def _number(value: float | None) -> str:
    return f"{'?':>8}" if value is None else f"{value:8.4f}"
