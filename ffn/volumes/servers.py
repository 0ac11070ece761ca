"""How long TensorStore waits for servers, and which of its errors leave open whether there is something."""

from __future__ import annotations

import re
from typing import Any

from ffn.utils.errors import UnreadableError, reason

# A server that cannot be reached is an error after seconds, not after TensorStore's half an hour.
_RETRIES = 4
# Of what may as well not be there.
_FEW_RETRIES = 1
_RETRY_KINDS = ('http_request_retries', 'gcs_request_retries', 's3_request_retries')
# How TensorStore tells of servers that it has asked as often as it may, of those that fail, and of files that may not be
# read. A server that forbids to read may have nothing: S3 says so of what does not exist.
_NO_ANSWER = re.compile(
    r'ABORTED|UNAVAILABLE|DEADLINE_EXCEEDED|.*\[HTTP code 5|PERMISSION_DENIED: Failed to open'
)
# What it says of an error ends with the page for people.
_PAGE = ' [http_response_body'


def context(is_needed: bool = True) -> Any:
    """Makes a TensorStore context that gives up on servers that do not answer within seconds.

    Args:
      is_needed: whether they must have what they are asked for; they are asked less often if not.
    """
    import tensorstore as ts

    most = _RETRIES if is_needed else _FEW_RETRIES
    return ts.Context({kind: {'max_retries': most} for kind in _RETRY_KINDS})


def check_answered(error: Exception, place: str) -> None:
    """Tells a place that could not be asked from one where there is nothing.

    Args:
      error: what TensorStore has raised.
      place: what was asked for, for messages.

    Raises:
      UnreadableError: there may be something.
    """
    if _NO_ANSWER.match(str(error)):
        said = reason(error).partition(_PAGE)[0]
        raise UnreadableError(f'{place} cannot be read: {said}') from error
