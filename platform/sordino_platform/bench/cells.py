"""One row per cell: masking, quantising and unmasking at each model size and cohort, beside Flower's functions on the
same vectors and the machine's limits, all interleaved.

A slow step that consists of equal parts is measured on some of them: a row says how many masks were measured
(`masks_measured`) and how many there are (`masks`). Everything else is measured whole.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial

import numpy as np

from sordino_platform.bench.timing import Labels, Row, interleaved, row
from sordino_platform.bench.world import key, quantiser, update
from sordino_platform.flower.secaggplus import SecAggPlusSettings, add_mask
from sordino_privacy.secagg import MaskedStatistics, shamir
from sordino_privacy.secagg.graph import quorum
from sordino_privacy.secagg.masks import CHUNK_BYTES, ZEROS, Mask, MaskStream, RingVector, apply
from sordino_privacy.secagg.membership import Floors
from sordino_privacy.secagg.rounding import FloatVector

SIZES = {"2.3m": 2_300_000, "22m": 22_000_000, "124m": 124_000_000}
COHORTS = (5, 20, 100)
THREADS = (1, 2)
KEYSTREAM_BYTES = {
    "mask": 9_000_000_000,
    "unmask": 3_000_000_000,
}  # bytes per cell and repeat: about a second of AES
FEWEST_MASKS = 20


def masks(count: int) -> list[Mask]:
    return [Mask(key=key(), add=number % 2 == 0) for number in range(count)]


def affordable(what: str, count: int, vector_bytes: int) -> int:
    """How many of `count` masks are measured."""
    return min(count, max(FEWEST_MASKS, KEYSTREAM_BYTES[what] // vector_bytes))


def stream(size: int) -> Callable[[], None]:
    """AES-256-CTR through `cryptography` alone: as many bytes as FEWEST_MASKS masks of `size` bytes have, a chunk at a
    time into a buffer that stays in cache."""
    source, out = MaskStream(key()), np.empty(CHUNK_BYTES, np.uint8).data

    def run() -> None:
        for _ in range(FEWEST_MASKS * size // CHUNK_BYTES):
            source.fill_bytes(ZEROS, out)

    return run


def addition(vector: RingVector) -> Callable[[], None]:
    """One pass of addition through memory: the least work that any member or coordinator must do."""
    other = np.ones_like(vector)

    def run() -> None:
        np.add(vector, other, out=vector)

    return run


def masking(size: str, repeats: int) -> list[Row]:
    """At one model size: client masking per neighbour and per round, Flower's masking, the bare cipher, and memory."""
    parameters, cells = SIZES[size], dict[str, Callable[[], object]]()
    vectors: dict[int, RingVector] = {
        16: np.zeros(parameters, np.uint16),
        32: np.zeros(parameters, np.uint32),
    }
    for bits, vector in vectors.items():
        cells[f"stream {bits}"] = stream(vector.nbytes)
        cells[f"add {bits}"] = addition(vector)
    plan: list[tuple[int, int, int, int]] = []
    for members in COHORTS:
        bits = quantiser(parameters, members).ring_bits
        count = affordable("mask", members, vectors[bits].nbytes)
        for threads in THREADS:
            chosen = masks(count)
            cells[f"mask {members} {threads}"] = partial(apply, vectors[bits], chosen, threads=threads)
            plan.append((members, threads, bits, count))
    settings, plain = SecAggPlusSettings(members=5, threshold=4), [np.zeros(parameters, np.int64)]
    cells["flower"] = lambda: add_mask(plain, secrets.token_bytes(32), settings.mod_range)
    seconds = interleaved(cells, repeats=repeats)
    rows = [
        row("flower", "mask per neighbour", seconds["flower"], size=size, ring_bits=64, threads=1),
    ]
    for bits, vector in vectors.items():
        limit: Labels = {"size": size, "ring_bits": bits, "threads": 1, "bytes": vector.nbytes}
        rows.append(row("limit", "AES-256-CTR stream", seconds[f"stream {bits}"], per=FEWEST_MASKS, **limit))
        rows.append(row("limit", "memory add", seconds[f"add {bits}"], **limit))
    for members, threads, bits, count in plan:
        took = seconds[f"mask {members} {threads}"]
        labels: Labels = {"size": size, "members": members, "ring_bits": bits, "threads": threads}
        measured = {"masks": members, "masks_measured": count}
        rows.append(row("sordino", "mask per neighbour", took, per=count, **labels, **measured))
        rows.append(row("sordino", "mask per round", took, per=count / members, **labels, **measured))
    return rows


def quantising(size: str, repeats: int) -> list[Row]:
    """Quantises an update to ring integers, in both rings."""
    values, cells = update(SIZES[size]), dict[str, Callable[[], object]]()
    for members in (5, 100):
        cells[str(members)] = quantise(values, members)
    seconds = interleaved(cells, repeats=repeats)
    return [
        row(
            "sordino",
            "quantise",
            seconds[str(members)],
            size=size,
            ring_bits=quantiser(len(values), members).ring_bits,
            threads=1,
        )
        for members in (5, 100)
    ]


def quantise(values: FloatVector, members: int) -> Callable[[], object]:
    ring = quantiser(len(values), members)
    return lambda: ring.quantise(values, 1.0, MaskedStatistics(), secrets.token_bytes)


def unmasking(size: str, repeats: int) -> list[Row]:
    """Server: removes every mask that is left in the sum, without dropouts and when a third drops out after the
    exchange."""
    parameters, cells, plan = SIZES[size], dict[str, Callable[[], object]](), []
    for members in COHORTS:
        ring = quantiser(parameters, members)
        vector: RingVector = np.zeros(parameters, ring.dtype)
        for dropped in (0, members // 3):
            survivors = members - dropped
            count = survivors + dropped * survivors
            measured = affordable("unmask", count, vector.nbytes)
            for threads in THREADS:
                name, chosen = f"{members} {dropped} {threads}", masks(measured)
                cells[name] = partial(apply, vector, chosen, threads=threads)
                plan.append((name, members, dropped, threads, ring.ring_bits, count, measured))
    seconds = interleaved(cells, repeats=repeats)
    return [
        row(
            "sordino",
            "server unmask",
            seconds[name],
            per=measured / count,
            size=size,
            members=members,
            dropped=dropped,
            ring_bits=bits,
            threads=threads,
            masks=count,
            masks_measured=measured,
        )
        for name, members, dropped, threads, bits, count, measured in plan
    ]


def sharing(repeats: int) -> list[Row]:
    """Shamir: one secret split among a cohort and recovered from a threshold of shares."""
    rows = []
    for members in COHORTS:
        floors = Floors()
        threshold = quorum(members, corrupt=floors.corrupt(members), honest=floors.honest)
        secret = shamir.field_element(secrets.token_bytes)
        indices = list(range(1, members + 1))
        shares = shamir.split(secret, threshold, indices, secrets.token_bytes)
        known = dict(zip(indices[:threshold], shares[:threshold], strict=True))
        cells: dict[str, Callable[[], object]] = {
            "split": partial(shamir.split, secret, threshold, indices, secrets.token_bytes),
            "recover": partial(shamir.recover, known, threshold),
        }
        seconds = interleaved(cells, repeats=repeats)
        rows += [
            row("sordino", f"shamir {what}", took, members=members, threshold=threshold)
            for what, took in seconds.items()
        ]
    return rows
