"""Using a model: decoding, held-out evaluation, the export directory and how it is opened again.

Its doors are ``evaluation.Evaluator``, ``export.export`` and ``loading.load`` (which is ``paligax.load``), each in a
module of its own, so that opening a model imports nothing that trained it.
"""
