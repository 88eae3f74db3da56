"""The promises of every worker and every pool, as tests that you run over your own.

A subclass says how its workers are made, and pytest runs the contract over it:

    from pytoweb.testing import contract

    class TestAudited(contract.WorkerContract):
        def make_worker(self, name, **options):
            return AuditedWorker(name, **options)

It is for classes that derive from ``PythonWorker`` or ``WorkerPool``, for hooks and middleware that each of
your workers has, and for backends: with ``backend = "process"`` as a class attribute, the tests run in child
processes. The docstring of each test is one sentence of the contract. The classes that ``WorkerContract`` is
made of may be run one by one.

The tests are functions with bare asserts, and need no plug-in; this module itself imports no pytest. So that
pytest shows the values in a failed assert, name the modules in your ``conftest.py``:

    pytest.register_assert_rewrite("pytoweb.testing.contract")
"""

from __future__ import annotations

from ._balance import PoolBalanceContract
from ._batches import BatchContract
from ._concurrency import ConcurrencyContract
from ._control import ControlContract, PoolControlContract
from ._ends import CancelContract, DeadlineContract, StopContract
from ._events import EventContract, PoolEventContract
from ._exits import ExitContract, PoolExitContract
from ._explain import ExplainContract, PoolExplainContract
from ._health import HealthContract, PoolHealthContract
from ._mailbox import MailboxContract
from ._messages import MessageContract, ReplyContract
from ._numbers import NumbersContract, PoolNumbersContract
from ._pools import PoolContract
from ._progress import ProgressContract
from ._repeats import PoolRepeatContract, RepeatContract
from ._streams import StreamContract
from ._subject import Subject
from ._surroundings import ContextContract, CoroutineContract
from ._topics import TopicContract

__all__ = [
    "BatchContract",
    "CancelContract",
    "ConcurrencyContract",
    "ContextContract",
    "ControlContract",
    "CoroutineContract",
    "DeadlineContract",
    "EventContract",
    "ExitContract",
    "ExplainContract",
    "HealthContract",
    "MailboxContract",
    "MessageContract",
    "NumbersContract",
    "PoolBalanceContract",
    "PoolContract",
    "PoolControlContract",
    "PoolEventContract",
    "PoolExitContract",
    "PoolExplainContract",
    "PoolHealthContract",
    "PoolNumbersContract",
    "PoolRepeatContract",
    "ProgressContract",
    "RepeatContract",
    "ReplyContract",
    "StopContract",
    "StreamContract",
    "Subject",
    "TopicContract",
    "WorkerContract",
]


class WorkerContract(
    MessageContract,
    ReplyContract,
    MailboxContract,
    DeadlineContract,
    CancelContract,
    StopContract,
    ContextContract,
    ControlContract,
    ConcurrencyContract,
    BatchContract,
    RepeatContract,
    StreamContract,
    NumbersContract,
    EventContract,
    ProgressContract,
    ExitContract,
    HealthContract,
    ExplainContract,
):
    """Everything that one worker promises; ``make_worker`` is the place where yours is made."""
