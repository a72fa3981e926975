"""What of a fetch is taken: only what starts where it should."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from libs.kafka.runs import Run
from services.writer import metrics
from services.writer.intake.positions import Positions, Verdict
from services.writer.messages import RawChunk

log = structlog.get_logger()


def taken(
    delivered: Mapping[TopicPartition, Sequence[Run]], positions: Positions, kafka: AIOKafkaConsumer
) -> Iterator[RawChunk]:
    """Yield what starts where it should; have the rest sought again."""
    for tp, runs in delivered.items():
        partition = (tp.topic, tp.partition)
        expected, generation = positions.expected(partition), positions.generation(partition)
        first, following = runs[0].start, runs[-1].following
        verdict = positions.judge(partition, first=first, following=following)
        if verdict is Verdict.TAKE and expected is not None and generation is not None:
            yield RawChunk(
                partition,
                generation,
                expected,
                following,
                np.concatenate([run.offsets for run in runs]),
                pa.concat_arrays([run.values for run in runs]),
                tuple(run.keys for run in runs),
                runs[0].appended_ms,
                sum(run.stored_bytes for run in runs),
            )
            continue
        tell_refused(tp, verdict, first, expected)
        if verdict is Verdict.SEEK:
            kafka.seek(tp, expected)


def tell_refused(tp: TopicPartition, verdict: Verdict, first: int, expected: int | None) -> None:
    metrics.REFUSED_BATCHES.labels(verdict.value).inc()
    log.info(
        "batch_refused",
        topic=tp.topic,
        partition=tp.partition,
        first_offset=first,
        expected_offset=expected,
    )
