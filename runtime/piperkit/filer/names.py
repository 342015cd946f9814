"""The filer's events and counters, by the names that they have in the contract; what is ours beyond it is marked so."""

from __future__ import annotations

START = "start"
STOP = "stop"
QUEUE_CHECK = "queue_check"
QUEUE_RECOVER = "queue_recover"  # ours
QUEUE_EXPIRE = "queue_expire"  # ours
LOG_STATISTICS = "log_statistics"
MESSAGE_ENQUEUE = "message_enqueue"
MESSAGE_NEXT = "message_next"
MESSAGE_NO_MORE = "message_no_more"  # ours
MESSAGE_PROCESS = "message_process"
MESSAGE_UPDATE = "message_update"
MESSAGE_COMMIT = "message_commit"
MESSAGE_BANISH = "message_banish"
MESSAGE_CANCEL = "message_cancel"
MESSAGE_RETRY = "message_retry"  # ours
MESSAGE_POSTPONE = "message_postpone"  # ours
MESSAGE_DISPATCH = "message_dispatch"
MESSAGE_DUPLICATE = "message_duplicate"

ENQUEUED = "cnt_enqueued"
FETCHED = "cnt_fetched"
UPDATED = "cnt_updated"
COMMITTED = "cnt_committed"
BANISHED = "cnt_banished"
CANCELED = "cnt_canceled"
DISPATCHED = "cnt_dispatched"
DUPLICATED = "cnt_duplicated"
ERRORS = "cnt_errors"
RETRIED = "cnt_retried"  # ours, and those below
POSTPONED = "cnt_postponed"
RETURNED = "cnt_returned"
RECOVERED = "cnt_recovered"
ATTEMPTS = "cnt_attempts"

COUNTERS = (
    ENQUEUED,
    FETCHED,
    UPDATED,
    COMMITTED,
    BANISHED,
    CANCELED,
    DISPATCHED,
    DUPLICATED,
    ERRORS,
    RETRIED,
    POSTPONED,
    RETURNED,
    RECOVERED,
    ATTEMPTS,
)
