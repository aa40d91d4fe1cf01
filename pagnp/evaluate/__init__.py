"""Scores against ground truth, as `pagnp eval` prints them: metrics, readers of layouts, and the run over a set.

    truth = open_truth("bsds500", split="test")
    evaluation = evaluate(pagnp.load("model.h5"), truth, flip=True)
    evaluation.heads["boundary"]["ods"]

Nothing here is under the numerical contract: scores are ordinary float64 arithmetic on counts and sums. The digest of
an evaluation is: it is made of the runs' own.
"""
