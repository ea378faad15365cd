"""How the tests read a source: every unit, as another process would get it."""

import json
import pickle

from paligax.data.ingest import admission
from paligax.data.ingest.reader import Problem


def read(reader, units=None):
    """→ (records, [(reason, where)]); each record is also one that admission can take."""
    reader = pickle.loads(pickle.dumps(reader))
    units = json.loads(json.dumps(list(reader.units()) if units is None else units))
    found = [one for unit in units for one in reader.read(unit)]
    records = [one for one in found if not isinstance(one, Problem)]
    for one in records:
        admission.admit(one)
    return records, [(one.reason, one.where) for one in found if isinstance(one, Problem)]


def reasons(problems):
    return [reason for reason, _ in problems]
