"""The embedded data set: WebLI-like scenes of pictograms and words, made without a network, and the tasks over it."""
