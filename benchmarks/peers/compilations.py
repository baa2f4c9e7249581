"""What the two JAX contenders share: waiting for an epoch to end, and the check that a timed one compiles nothing."""

from __future__ import annotations

from typing import Any

import jax

COMPILED = "/jax/core/compile/backend_compile_duration"
"""The event that JAX records for every program that it compiles."""


class Compilations:
    """Counts compilations in this process from now on; those after ``warmup`` epochs are an error."""

    def __init__(self, warmup: int) -> None:
        self.warmup = warmup
        self.count = 0
        self.allowed = 0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: Any) -> None:
        self.count += event == COMPILED

    def after(self, epoch: int, results: Any) -> dict[str, Any]:
        """Waits for the results of an epoch (counted from 1) and returns the facts of this run.

        Raises:
            RuntimeError: if a timed epoch compiled anything, since its time would be that of the compiler.
        """
        jax.block_until_ready(results)
        if epoch <= self.warmup:
            self.allowed = self.count
        elif self.count > self.allowed:
            raise RuntimeError(
                f"epoch {epoch} compiled {self.count - self.allowed} programs: no shape or type may change"
            )
        device = jax.devices()[0]
        return {
            "device": f"{device.platform} ({device.device_kind})",
            "precision": f"float32, matmul precision {jax.config.values['jax_default_matmul_precision'] or 'default'}",
            "compiled_while_timed": self.count - self.allowed,
        }
