"""How long TensorStore waits for servers."""

from __future__ import annotations

from typing import Any

# A server that cannot be reached is an error after seconds, not after TensorStore's half an hour.
_RETRIES = 4
# Of what may as well not be there.
FEW_RETRIES = 1
_RETRY_KINDS = ('http_request_retries', 'gcs_request_retries', 's3_request_retries')


def context(retries: int | None = None) -> Any:
    """Makes a TensorStore context that gives up on servers that do not answer within seconds.

    Args:
      retries: how often it asks again; None: as often as for what must be there.
    """
    import tensorstore as ts

    most = _RETRIES if retries is None else retries
    return ts.Context({kind: {'max_retries': most} for kind in _RETRY_KINDS})
