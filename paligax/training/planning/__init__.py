"""What a run needs and how fast it would be, on devices that need not be there: ``paligax plan``."""

from paligax.training.planning.planner import Plan, plan
from paligax.training.planning.report import table

__all__ = ["Plan", "plan", "table"]
