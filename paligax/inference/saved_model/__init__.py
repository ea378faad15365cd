"""A TensorFlow SavedModel of a PaLI: image bytes and prompts in, texts out. The one room outside data/ with TensorFlow.

``images`` and ``texts`` say in TensorFlow's operations what ``paligax.image`` and ``paligax.vocabulary`` say in Python,
``writing`` puts the compiled program between them. Imported on use: TensorFlow takes seconds.
"""
