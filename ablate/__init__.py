"""ablate: what in the training data made a retriever follow instructions?"""
