"""How many fields of view a network has been trained on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FovCount:
    """Fields of view seen; each step sees as many as the run, in its present form, has in a batch.

    Attributes:
      step: step at which the run was begun or taken up.
      seen: fields of view by then.
      per_step: fields of view of each step since.
    """

    step: int
    seen: int
    per_step: int

    def at(self, step: int) -> int:
        """Fields of view seen by a step."""
        return self.seen + (step - self.step) * self.per_step
