"""`assay audit …`: the decision log found, shown, replayed, verified, exported and let go of."""

from __future__ import annotations

import cyclopts

from assay.cli.audit_erase import erase_command, prune_command
from assay.cli.audit_export import export_command
from assay.cli.audit_list import list_command
from assay.cli.audit_replay import replay_command
from assay.cli.audit_revisions import revisions_command
from assay.cli.audit_show import show_command
from assay.cli.audit_verify import verify_command

audit = cyclopts.App(
    name="audit", help="Ask the decision log: what was decided, why, and whether it is whole."
)
audit.command(list_command, name="list")
audit.command(show_command, name="show")
audit.command(replay_command, name="replay")
audit.command(verify_command, name="verify")
audit.command(export_command, name="export")
audit.command(revisions_command, name="revisions")
audit.command(prune_command, name="prune")
audit.command(erase_command, name="erase")
