"""What the state machines have in common that drive the ledger beside a model of it."""

from pathlib import Path
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, run_state_machine_as_test
from redis import Redis

from runtime.ledger.calls import Call, do
from tests.ledger.audit import misplaced
from tests.ledger.keys import stray_keys


class Sides(RuleBasedStateMachine):
    """Each rule does one thing to both, and compares the answers."""

    client: ClassVar[Redis]
    namespace: str

    def do(self, call: Call[Any]) -> Any:
        return do(self.client, call)

    def teardown(self) -> None:
        self.client.flushdb()

    @invariant()
    def each_run_is_in_one_place_and_no_key_is_stray(self):
        assert misplaced(self.client, self.namespace) == []
        assert stray_keys(self.client, self.namespace) == []

    @classmethod
    def drive(cls, valkey: Path, **options: Any) -> None:
        with Redis(unix_socket_path=str(valkey)) as cls.client:
            wanted = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None, **options)
            run_state_machine_as_test(cls, settings=wanted)
