"""Judge the facts of an installation: each check gives at least one finding. Pure: no clock, no I/O.

Called by the command `fnrun doctor`.
"""

from runtime.doctor.checks.access import check_access
from runtime.doctor.checks.machine import check_machine
from runtime.doctor.checks.roles import check_roles
from runtime.doctor.checks.store import check_store
from runtime.doctor.checks.work import check_functions, check_queues
from runtime.doctor.facts import Facts, Finding


def examine(facts: Facts) -> list[Finding]:
    """All findings, good ones too, in the order in which people should read them."""
    checks = (check_machine, check_store, check_functions, check_roles, check_queues, check_access)
    return [finding for check in checks for finding in check(facts)]
