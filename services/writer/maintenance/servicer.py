"""RunMaintenance and GetMaintenance of WriterService."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import grpc
from k2.writer.v1 import maintenance_pb2 as pb

from libs.market.errors import InvalidError, UnavailableError
from libs.rpc.times import timestamp_or_unset
from services.writer.maintenance.maintainer import Maintainer
from services.writer.maintenance.steps import Outcome, Step, Task

LONGEST_LOOK_S = 60.0

TASKS: dict[int, Task] = {
    pb.MAINTENANCE_TASK_COMPACT: Task.COMPACT,
    pb.MAINTENANCE_TASK_EXPIRE: Task.EXPIRE,
    pb.MAINTENANCE_TASK_REMOVE_ORPHANS: Task.REMOVE_ORPHANS,
}
TASK_NUMBERS = {task: pb.MaintenanceTask.ValueType(number) for number, task in TASKS.items()}
OUTCOMES = {
    outcome: pb.MaintenanceOutcome.Value(f"MAINTENANCE_OUTCOME_{outcome.name}")
    for outcome in Outcome
}


class MaintenanceCalls:
    """Shows what the maintainer has done, and passes on what is asked of it."""

    def __init__(self, name: str, maintainer: Maintainer) -> None:
        self._writer = name
        self._maintainer = maintainer

    async def RunMaintenance(  # noqa: N802
        self,
        request: pb.RunMaintenanceRequest,
        context: grpc.aio.ServicerContext,  # type: ignore[type-arg]
    ) -> pb.RunMaintenanceResponse:
        tasks = tasks_of(request.tasks)
        if not request.dry_run:
            run = self._maintainer.ask(tasks, every_day=request.every_day)
            return pb.RunMaintenanceResponse(run=run)
        timeout_s = min(context.time_remaining() or LONGEST_LOOK_S, LONGEST_LOOK_S)
        try:
            async with asyncio.timeout(timeout_s):
                steps = await self._maintainer.would_do(tasks, every_day=request.every_day)
        except TimeoutError as error:
            raise UnavailableError(f"the table could not be read in {timeout_s:.0f} s") from error
        return pb.RunMaintenanceResponse(steps=map(step_message, steps))

    async def GetMaintenance(  # noqa: N802
        self,
        request: pb.GetMaintenanceRequest,  # noqa: ARG002
        context: grpc.aio.ServicerContext,  # type: ignore[type-arg]  # noqa: ARG002
    ) -> pb.GetMaintenanceResponse:
        maintainer, journal = self._maintainer, self._maintainer.journal
        running = maintainer.running
        return pb.GetMaintenanceResponse(
            writer=self._writer,
            enabled=maintainer.rhythm.enabled,
            leads=maintainer.leads,
            waits_because=maintainer.waits_because,
            running=[step_message(running)] if running else [],
            ended=map(step_message, journal.ended),
            last_ended_run=journal.last_ended_run,
            compactions=journal.compactions,
            files_compacted=journal.files_compacted,
            snapshots_forgotten=journal.snapshots_forgotten,
            files_deleted=journal.files_deleted,
            failures=journal.failures,
            next_round_time=timestamp_or_unset(maintainer.next_round_us),
        )


def tasks_of(numbers: Iterable[int]) -> list[Task]:
    """Raises: InvalidError: one of them is no task."""
    asked = list(numbers)
    for number in asked:
        if number not in TASKS:
            raise InvalidError(f"{number} is no task of maintenance", field="tasks")
    return [TASKS[number] for number in asked]


def step_message(step: Step) -> pb.MaintenanceStep:
    return pb.MaintenanceStep(
        task=TASK_NUMBERS[step.task],
        what=step.what,
        why=step.why,
        outcome=OUTCOMES[step.outcome],
        reason=step.reason,
        files=step.files,
        rows=step.rows,
        size_bytes=step.size_bytes,
        files_after=step.files_after,
        size_bytes_after=step.size_bytes_after,
        rows_done=step.rows_done,
        snapshots=step.snapshots,
        start_time=timestamp_or_unset(step.start_us),
        end_time=timestamp_or_unset(step.end_us),
    )
